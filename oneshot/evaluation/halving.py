"""Successive halving: candidates that fall behind on a few held-out images are not scored on the rest."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from oneshot.arch import Arch
from oneshot.evaluation.evaluator import Evaluator
from oneshot.evaluation.score import Score


class RungScores(Protocol):
    """Remembers what candidates scored on the first held-out images."""

    def get(self, arch: Arch, num_images: int) -> Score | None:
        """The score of ``arch`` on the first ``num_images``, if that is known."""

    def add(self, arch: Arch, score: Score) -> None:
        """Remembers a score on the first ``score.num_images``."""


class SuccessiveHalving:
    """Scores all candidates on a few held-out images, the better half of them on twice as many, and so on up to all images:
    each rung costs as much as the one before (Jamieson and Talwalkar, AISTATS 2016, with eta 2).

    Statistics of BatchNorm are measured anew on each rung.

    Args:
        first: held-out images of the first rung.
        key: what candidates are compared by, higher is better; of equal ones the first is ahead.
        known: scores of rungs that need not be computed again.

    Attributes:
        rungs: the number of images that candidates of each rung have been scored on.

    Raises:
        ValueError: ``first`` is below 1.
    """

    def __init__(
        self, evaluator: Evaluator, first: int, key: Callable[[Score], tuple[float, ...]], known: RungScores
    ) -> None:
        if first < 1:
            raise ValueError(f"the first rung has at least 1 image, not {first}")
        total = len(evaluator.held_out.images)
        self.rungs = [min(first, total)]
        while self.rungs[-1] < total:
            self.rungs.append(min(2 * self.rungs[-1], total))
        self._parts = [
            evaluator.part(start, stop) for start, stop in zip([0, *self.rungs[:-1]], self.rungs, strict=True)
        ]
        self._key, self._known = key, known

    def scores(self, archs: Sequence[Arch]) -> Generator[tuple[Arch, Score], None, None]:
        """Each different architecture with its score on as many images as it came to, as soon as that is decided."""
        left = list(dict.fromkeys(archs))
        for rung, number in enumerate(self.rungs):
            self._climb(rung, left)
            scores = {arch: self._score(arch, number) for arch in left}
            ranked = sorted(left, key=lambda arch: self._key(scores[arch]), reverse=True)
            left = [] if number == self.rungs[-1] else ranked[: (len(ranked) + 1) // 2]
            for arch in ranked[len(left) :]:
                yield arch, scores[arch]

    def _climb(self, rung: int, archs: Sequence[Arch]) -> None:
        number = self.rungs[rung]
        for arch, found in self._parts[rung].scores([arch for arch in archs if self._known.get(arch, number) is None]):
            self._known.add(arch, found if rung == 0 else self._score(arch, self.rungs[rung - 1]) + found)

    def _score(self, arch: Arch, num_images: int) -> Score:
        score = self._known.get(arch, num_images)
        assert score is not None
        return score
