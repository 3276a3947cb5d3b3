"""The errors of the blocks of a network that was there before, measured once for a search and remembered."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence

from oneshot.arch import Arch
from oneshot.evaluation import largest_at
from oneshot.pipeline.candidate_scores import CandidateScores
from oneshot.pipeline.folders import Trained
from oneshot.progress import progress
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

    Each option of each choice is measured alone; options of one block add up, as blocks do.
    """

    def __init__(self, scores: CandidateScores) -> None:
        self._scores, supernet = scores, scores.evaluator.supernet
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
        missing = [arch for arch in dict.fromkeys(options) if store.value(arch, NAME) is None]
        if not missing:
            return
        log.info("measuring what blocks lose by being smaller, at %d input sizes", len(self._whole))
        with progress(log, "errors of blocks", "option", total=len(missing)) as bar:
            for arch, error in self._scores.evaluator.block_errors(missing):
                store.add_value(arch, NAME, error)
                bar.update()
