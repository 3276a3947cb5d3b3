"""The architectures of one search: none comes twice, and the best is found again."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from oneshot.arch import Arch
from oneshot.search.problem import Problem, Score

MAX_REPEATS = 500  # random architectures seen before that are drawn until the space counts as exhausted
TRIES = 10  # for each child wanted


class History:
    """What one search has evaluated.

    It is apart from ``Problem.evaluated``, so that a search is the same whether or not another one went before.

    Attributes:
        scores: of the architectures evaluated, in that order.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.scores: dict[Arch, Score] = {}
        self._exhausted = False

    def evaluate(self, archs: list[Arch]) -> None:
        """Evaluates one batch."""
        self.scores.update(zip(archs, self.problem.evaluate(archs), strict=True))

    def best(self) -> Arch:
        """The architecture with the highest score; of equal ones that with the lowest cost, then the first."""
        return max(self.scores, key=lambda arch: (self.scores[arch], -self.problem.cost_of(arch)))

    def top(self, number: int) -> list[Arch]:
        """The architectures with the highest scores, best first; of equal ones the first evaluated."""
        return heapq.nlargest(number, self.scores, key=self.scores.__getitem__)

    def vary(self, draw: Callable[[], Arch | None], number: int, batch: list[Arch]) -> None:
        """Appends up to ``number`` feasible architectures to ``batch`` that are neither in it nor evaluated: those that
        ``draw`` gives in ten times as many tries.
        """
        taken = set(batch)
        end = len(batch) + number
        for _ in range(TRIES * number):
            if len(batch) == end:
                return
            arch = draw()
            if arch is not None and arch not in self.scores and arch not in taken and self.problem.feasible(arch):
                taken.add(arch)
                batch.append(arch)

    def fill(self, batch: list[Arch], size: int, rng: random.Random) -> None:
        """Fills ``batch`` up to ``size`` with random feasible architectures; fewer where the space is exhausted."""
        taken = set(batch)
        repeats = 0
        while len(batch) < size and not self._exhausted:
            arch = self.problem.sample(rng)
            if arch in self.scores or arch in taken:
                repeats += 1
                self._exhausted = repeats == MAX_REPEATS
            else:
                repeats = 0
                taken.add(arch)
                batch.append(arch)
