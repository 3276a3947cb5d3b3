"""The errors of the blocks of a network that was there before, measured once for all searches of a supernet and remembered."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from oneshot.arch import Arch
from oneshot.data import ImageData
from oneshot.evaluation import largest_at
from oneshot.pipeline.candidate_scores import CandidateScores
from oneshot.pipeline.folders import Trained
from oneshot.processes import from_first
from oneshot.progress import progress
from oneshot.runs import fingerprint, write_json
from oneshot.search import Knapsack
from oneshot.spaces.elastic_network import ElasticNetwork
from oneshot.supernet import Supernet

log = logging.getLogger(__name__)
NAME = "block_errors"  # in the store: the sum over an architecture's blocks


def check_block_errors(trained: Trained, is_repaired: bool, strategy: Knapsack) -> None:
    """Raises ValueError where errors of blocks cannot be measured, or would not be used."""
    space = trained.supernet.space
    if not isinstance(space, ElasticNetwork):
        raise ValueError(
            "search=knapsack measures what blocks lose against the network that a space was made of, and "
            f"{type(space).__name__} was made of none: choose another search"
        )
    if not isinstance(trained.supernet, Supernet):
        raise ValueError(
            "search=knapsack measures the blocks of one supernet, not of several: give one as supernet=FOLDER"
        )
    if not is_repaired:
        raise ValueError("search=knapsack goes by the errors of repaired blocks: set evaluation.repair=true")
    strategy.check_sizes(len(space.input_sizes))


class BlockErrors:
    """What each part of a network loses by being smaller while all else is whole, at every input size of the space.

    Each option of each choice is measured alone; options of one block add up, as blocks do. They depend on no limit, so they are
    kept in the supernet's folder for other searches, where it is known which images they were measured on.
    """

    def __init__(self, scores: CandidateScores, trained: Trained, data: ImageData) -> None:
        self._scores, supernet = scores, scores.evaluator.supernet
        self._trained, self._data = trained, data
        assert isinstance(supernet, Supernet)
        assert isinstance(supernet.space, ElasticNetwork)
        self._supernet, self._space = supernet, supernet.space

    def __call__(self) -> Mapping[Arch, Sequence[Mapping[Arch, float]]]:
        """As ``Knapsack`` takes them."""
        self._measure()
        return {
            whole: [{arch: self.of(arch) for arch in part} for part in self._space.alternatives(whole)]
            for whole in self._whole.values()
        }

    def of(self, arch: Arch) -> float:
        """The sum over the parts in which an architecture differs from the largest of its input size."""
        whole = self._whole[self._space.input_shape(arch)[-1]]
        known = [self._scores.store.value(single, NAME) for single in self._singles(whole, arch)]
        return sum(error for error in known if error is not None)

    def record(self, archs: Iterable[Arch]) -> None:
        """Remembers the sums beside the scores."""
        with self._scores.store.exported():
            for arch in archs:
                self._scores.store.add_value(arch, NAME, self.of(arch))

    @functools.cached_property
    def _whole(self) -> dict[int, Arch]:
        return {size: largest_at(self._supernet, size) for size in self._space.input_sizes}

    def _singles(self, whole: Arch, arch: Arch) -> list[Arch]:
        """The architectures with one of the options in which ``arch`` differs from ``whole``."""
        return [
            self._space.arch({**whole, name: arch[name]})
            for name in whole
            if name in arch and arch[name] != whole[name]
        ]

    def _measure(self) -> None:
        store = self._scores.store
        options = [
            single
            for whole in self._whole.values()
            for part in self._space.alternatives(whole)
            for arch in part
            for single in self._singles(whole, arch)
        ]
        options = list(dict.fromkeys(options))
        known = self._take_known(options)
        missing = [arch for arch in options if store.value(arch, NAME) is None]
        if not missing:
            return
        log.info("measuring what blocks lose by being smaller, at %d input sizes", len(self._whole))
        with progress(log, "errors of blocks", "option", total=len(missing)) as bar:
            for arch, error in self._scores.evaluator.block_errors(missing):
                store.add_value(arch, NAME, error)
                bar.update()
        if self._file is not None:
            try:
                write_json(self._file, {**known, **{arch.to_json(): store.value(arch, NAME) for arch in options}})
            except OSError as error:
                log.warning("further searches of this supernet will measure its blocks again: %s", error)

    def _take_known(self, options: Sequence[Arch]) -> Mapping[str, float]:
        """Puts what an earlier search measured, and this one did not, into the store; returns all that it kept."""
        store = self._scores.store
        missing = [arch for arch in options if store.value(arch, NAME) is None]
        if not missing or self._file is None or not (known := from_first(_read(self._file))):
            return {}
        for arch in missing:
            if (error := known.get(arch.to_json())) is not None:
                store.add_value(arch, NAME, error)
        log.info("what blocks lose by being smaller is known from an earlier search: %s", self._file)
        return known

    @functools.cached_property
    def _file(self) -> Path | None:
        """Where the errors are kept of just this supernet, these images and this repair; None if the images are not known."""
        evaluator, data = self._scores.evaluator, self._data
        if data.record is None or evaluator.repair is None:
            return None
        depends_on = {
            "supernet": self._trained.fingerprint,
            "images": data.record.fingerprint,
            "normalisation": [list(data.mean), list(data.std)],
            "seed": self._scores.seed,
            "repair": asdict(evaluator.repair),
            "device": evaluator.device.type,
        }
        digits = fingerprint([json.dumps(depends_on, sort_keys=True).encode()])[:12]
        return self._trained.folder / f"block_errors-{digits}.json"


def _read(path: Path) -> dict[str, float]:
    """The errors in a file by what their architectures are written as; none where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(arch): float(error) for arch, error in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        log.warning("%s cannot be read (%s): what blocks lose is measured again", path, error)
        return {}
