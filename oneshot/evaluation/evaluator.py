"""Scores of candidates with inherited weights."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Generator, Iterator, Sequence

import torch
from torch import nn

from oneshot.arch import Arch
from oneshot.data import ImageData
from oneshot.evaluation.batches import Batches, random_indices
from oneshot.evaluation.block_errors import block_errors
from oneshot.evaluation.exchange import Portions, exchanged
from oneshot.evaluation.family import SupernetFamily, by_member
from oneshot.evaluation.recalibration import recalibrate
from oneshot.evaluation.repair import RepairSettings
from oneshot.evaluation.repaired import WORKING_BYTES, Original, RepairedEvaluation
from oneshot.evaluation.score import Score, evaluate
from oneshot.evaluation.settings import ScoreSettings
from oneshot.evaluation.shared import SharedEvaluation
from oneshot.evaluation.unrepaired import RepairTally
from oneshot.processes import count, gathered
from oneshot.supernet import Supernet


class Evaluator:
    """Scores subnets of ``supernet`` with inherited weights on the held-out images, after recalibrating the BatchNorm
    statistics of an extracted copy on training images, or after repairing its weights. The supernet is never changed.

    Repair (``repair.py``) fits weights to the statistics of the largest network, cut as weights are, and keeps these: it takes
    the place of recalibration, which would undo a part of it.

    Args:
        device: where the supernet is.
        seed: draws the images where not all are used.
        repair: repair weights rather than recalibrate statistics; the supernet must not change then.
        stored_statistics: score with the statistics that the weights were trained with, instead of recalibrating them.
    """

    def __init__(
        self,
        supernet: Supernet | SupernetFamily,
        data: ImageData,
        settings: ScoreSettings | None = None,
        *,
        device: torch.device,
        seed: int = 0,
        repair: RepairSettings | None = None,
        stored_statistics: bool = False,
    ) -> None:
        settings = settings or ScoreSettings()
        memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.supernet = supernet
        self.repair, self.stored_statistics = repair, stored_statistics
        self._originals: dict[tuple[int, int], Original] = {}
        self._tally = RepairTally()
        self.device = device
        self.memory_limit = round(settings.memory_limit_gb * 2**30)
        chosen = data.train.subset(random_indices(len(data.train), settings.calibration_images, seed))
        # At random, because data sets often come sorted by class.
        held_out = data.held_out
        if settings.max_images is not None:
            held_out = held_out.subset(random_indices(len(held_out), settings.max_images, seed))
        self._seed = seed
        self.calibration = Batches(chosen, data, settings.batch_size, device, memory_format)
        self.held_out = Batches(held_out, data, settings.batch_size, device, memory_format)
        if repair is not None:
            self._has_more_images = repair.images < len(data.train)
            fitted_on = data.train.subset(random_indices(len(data.train), repair.images, seed))
            self.fitted_on = Batches(fitted_on, data, settings.batch_size, device, memory_format)

    def subnet(self, arch: Arch) -> nn.Module:
        """The extracted subnet with recalibrated statistics or repaired weights, in eval mode."""
        if self.repair is not None:
            ((supernet, _),) = by_member(self.supernet, [arch])
            return self._repaired(supernet, self.supernet.space.input_shape(arch)[-1]).subnet(arch)
        module = self.supernet.extract(arch)
        if self.stored_statistics:
            return module.eval()
        resolution = self.supernet.space.input_shape(arch)[-1]
        return recalibrate(module, (images for images, _ in self.calibration.at(resolution))).eval()

    def __call__(self, arch: Arch) -> Score:
        """The score of ``arch``.

        Raises:
            ValueError: ``arch`` is not an architecture of the supernet's space.
        """
        return evaluate(self.subnet(arch), self.held_out.at(self.supernet.space.input_shape(arch)[-1]))

    def scores(self, archs: Sequence[Arch]) -> Generator[tuple[Arch, Score], None, None]:
        """Each different architecture with its score, equal to that of a call bit for bit, as soon as it is known; what several
        have in common is computed once. The order is one in which that is easy. The supernet must not change meanwhile; closing
        the generator frees what is kept. Several processes of a run, all of which ask for the same, share them out.

        Raises:
            ValueError: one of ``archs`` is not an architecture of the supernet's space; before any is scored.
        """
        for arch in archs:
            self.supernet.space.validate(arch)
        return self._scores(archs)

    def _scores(self, archs: Sequence[Arch]) -> Generator[tuple[Arch, Score], None, None]:
        distinct = list(dict.fromkeys(archs))
        yield from exchanged(distinct, self._own_scores(distinct, Portions()))

    def _own_scores(self, archs: Sequence[Arch], portions: Portions) -> Iterator[tuple[Arch, Score]]:
        if self.memory_limit == 0:
            for part in portions(len(archs)):
                yield from ((arch, self(arch)) for arch in archs[part.start : part.stop])
            return
        for supernet, group in by_member(self.supernet, archs):
            if self.repair is not None:
                for size, chosen in _by_size(supernet, group).items():
                    yield from self._repaired(supernet, size).scores(chosen, portions)
                continue
            calibration = None if self.stored_statistics else self.calibration
            evaluation = SharedEvaluation(supernet, calibration, self.held_out, self, self.memory_limit)
            yield from evaluation.scores(group, portions)

    def block_errors(self, archs: Sequence[Arch]) -> Generator[tuple[Arch, float], None, None]:
        """The errors of architectures in which a single block differs from the largest network of their input size, or in which
        some are left out, see ``block_errors``. Memory is freed before the next input size. Several processes of a run, all of
        which ask for the same, share out the sizes.

        Raises:
            ValueError: weights are not repaired.
        """
        if self.repair is None:
            raise ValueError("errors of blocks are those of repaired weights: set evaluation.repair=true")
        distinct = list(dict.fromkeys(archs))
        own = self._own_block_errors(distinct, self.repair, Portions())
        if count() == 1:
            yield from own
            return
        places = {arch: place for place, arch in enumerate(distinct)}
        found = gathered([(places[arch], error) for arch, error in own])
        yield from ((distinct[place], error) for place, error in sorted(itertools.chain.from_iterable(found)))

    def _own_block_errors(
        self, archs: Sequence[Arch], repair: RepairSettings, portions: Portions
    ) -> Iterator[tuple[Arch, float]]:
        parts = [
            (size, supernet, chosen)
            for supernet, group in by_member(self.supernet, archs)
            for size, chosen in _by_size(supernet, group).items()
        ]
        parts.sort(key=lambda part: -part[0])  # the most work first
        for place in portions.one_by_one(len(parts)):
            size, supernet, chosen = parts[place]
            original = Original(supernet, self.fitted_on, size, repair, True, self._tally)
            yield from block_errors(original, chosen)

    def too_few_places(self, arch: Arch) -> tuple[int, int]:
        """How many layers of a subnet could not be repaired for lack of images, and how many were to be."""
        ((supernet, _),) = by_member(self.supernet, [arch])
        return self._repaired(supernet, self.supernet.space.input_shape(arch)[-1]).too_few_places(arch)

    def repair_notes(self) -> list[str]:
        """A sentence for each reason for which layers were left as they are in the networks that were repaired; every process
        has to ask.
        """
        return [] if self.repair is None else self._tally.of_all_processes().notes(self._has_more_images)

    def _repaired(self, supernet: Supernet, resolution: int) -> RepairedEvaluation:
        assert self.repair is not None
        key = (id(supernet), resolution)
        others = [original.reference for known, original in self._originals.items() if known != key]
        if sum(reference.num_bytes for reference in others) > WORKING_BYTES // 2:
            for reference in others:
                reference.forget()
        if key not in self._originals:
            self._originals[key] = Original(supernet, self.fitted_on, resolution, self.repair, tally=self._tally)
        return RepairedEvaluation(self._originals[key], self.held_out, self, self.memory_limit)

    def part(self, start: int, stop: int) -> Evaluator:
        """An evaluator on the held-out images ``start`` to ``stop`` of a random order that ``seed`` gives."""
        images, part = self.held_out.images, copy.copy(self)
        chosen = random_indices(len(images), stop, self._seed, start)
        part.held_out = Batches(
            images.subset(chosen),
            self.held_out.data,
            self.held_out.batch_size,
            self.device,
            self.held_out.memory_format,
        )
        return part

    def score_all(self, archs: Sequence[Arch]) -> list[Score]:
        """The scores of ``archs`` in their order, see ``scores``."""
        known = dict(self.scores(archs))
        return [known[arch] for arch in archs]


def _by_size(supernet: Supernet, archs: Sequence[Arch]) -> dict[int, list[Arch]]:
    """Architectures by the size of their input."""
    sizes: dict[int, list[Arch]] = {}
    for arch in archs:
        sizes.setdefault(supernet.space.input_shape(arch)[-1], []).append(arch)
    return sizes
