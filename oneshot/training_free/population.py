"""Training-free scores of many networks."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from oneshot.arch import Arch
from oneshot.data import ImageData
from oneshot.spaces.base import SearchSpace
from oneshot.training_free.score import NotApplicable, TrainingFreeScore
from oneshot.training_free.trial import Bench, Trial
from oneshot.training_free.weights import Untrained

log = logging.getLogger(__name__)
Values = NDArray[np.float64]


class TrainingFreeScores:
    """Scores networks of ``space`` that nobody has trained.

    A score is a function of the architecture, the data and the seed: equal architectures have equal scores, in whatever company
    they are scored.

    Args:
        data: of whose training images scores take a batch.
        scores: which, see ``scores_called``.
        seed: of the images, the noise and the weights.
        device: where networks run.
    """

    def __init__(
        self,
        space: SearchSpace,
        data: ImageData,
        scores: Sequence[TrainingFreeScore],
        *,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.space = space
        self._bench = Bench(space, data, seed, torch.device("cpu") if device is None else device)
        self._scores = tuple(scores)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scores, in order."""
        return tuple(score.name for score in self._scores)

    def __call__(self, arch: Arch) -> dict[str, float]:
        """The scores of one architecture by name. A network that lacks what a score looks at, in a space whose largest network
        has it, gets minus infinity; what overflows is NaN or infinite.

        Raises:
            ValueError: ``arch`` is not of the space, or a score says nothing about networks of this space, and why.
        """
        self._bench.space.validate(arch)
        trial = Trial(self._bench, arch)
        return {score.name: self._value(score, trial) for score in self._scores}

    def untrained(self, arch: Arch) -> nn.Module:
        """The network of ``arch`` with the weights of its own that it is scored with, in training mode on the CPU."""
        return Untrained(self.space, arch, self._bench.seed, torch.device("cpu")).network

    def scores(self, archs: Sequence[Arch]) -> Iterator[tuple[Arch, dict[str, float]]]:
        """Each different architecture with its scores by name, in order, as soon as they are known.

        Raises:
            ValueError: as a call.
        """
        for arch in dict.fromkeys(archs):
            yield arch, self(arch)

    def values(self, archs: Sequence[Arch]) -> dict[str, Values]:
        """``(num_archs,)`` for each score: those of ``archs`` in their order.

        Raises:
            ValueError: as a call.
        """
        known = dict(self.scores(archs))
        return {name: np.array([known[arch][name] for arch in archs], dtype=np.float64) for name in self.names}

    def _value(self, score: TrainingFreeScore, trial: Trial) -> float:
        try:
            value = score(trial)
        except NotApplicable as lacks:
            largest = self._bench.space.largest
            if trial.arch != largest:
                self._value(score, Trial(self._bench, largest))
                return -math.inf
            raise ValueError(f"{score.name} {lacks}: choose another score") from None
        if not value < math.inf:  # minus infinity is the worst there is, and no accident
            log.warning("the %s of %s is %s", score.name, trial.arch.to_json(), value)
        return value


def those_that_apply(
    space: SearchSpace, data: ImageData, scores: Sequence[TrainingFreeScore], device: torch.device | None = None
) -> list[TrainingFreeScore]:
    """Those of ``scores`` that say something about networks of ``space``, by its largest one; a line names each of the others."""
    trial = Trial(Bench(space, data, 0, torch.device("cpu") if device is None else device), space.largest)
    found = []
    for score in scores:
        try:
            score(trial)
        except NotApplicable as lacks:
            log.info("%s is no witness here: it %s", score.name, lacks)
        else:
            found.append(score)
    return found
