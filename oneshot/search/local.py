"""Local search (White et al., Exploring the Loss Landscape in Neural Architecture Search, UAI 2021, Algorithm 1)."""

from __future__ import annotations

import random
from dataclasses import dataclass

from oneshot.arch import Arch
from oneshot.search.history import History
from oneshot.search.problem import Problem
from oneshot.search.validation import check_count


@dataclass(frozen=True)
class LocalSearch:
    """Hill climbing over changes of a single choice. From the best of ``num_starts`` random architectures it evaluates
    neighbours, in a random order and ``batch_size`` at a time, and goes to the best of the first batch that has a better one;
    where none is left, the climb begins again with other random architectures. With a batch as large as the neighbourhood it is
    steepest ascent, as published.

    Args:
        num_samples: architectures that are scored.
        num_starts: random architectures from the best of which a climb starts.
        batch_size: neighbours evaluated before the next move.

    Raises:
        ValueError: a number below 1.
    """

    num_samples: int = 1000
    num_starts: int = 10
    batch_size: int = 10

    def __post_init__(self) -> None:
        check_count("num_samples", self.num_samples)
        check_count("num_starts", self.num_starts)
        check_count("batch_size", self.batch_size)

    @property
    def budget(self) -> int:
        """``num_samples``."""
        return self.num_samples

    def search(self, problem: Problem, rng: random.Random) -> Arch:
        """The best architecture of all climbs, as ``Strategy.search``."""
        history = History(problem)
        while self._left(history) > 0:
            batch: list[Arch] = []
            history.fill(batch, min(self.num_starts, self._left(history)), rng)
            if not batch:
                break
            history.evaluate(batch)
            self._climb(max(batch, key=lambda arch: self._height(history, arch)), history, rng)
        return history.best()

    def _climb(self, arch: Arch, history: History, rng: random.Random) -> None:
        while True:
            neighbours = [near for near in dict.fromkeys(history.problem.space.neighbours(arch)) if near != arch]
            rng.shuffle(neighbours)
            better = self._first_better(arch, neighbours, history)
            if better is None:
                return
            arch = better

    def _first_better(self, arch: Arch, neighbours: list[Arch], history: History) -> Arch | None:
        """The best neighbour of the first batch with one better than ``arch``; None at a peak, or where the budget ends."""
        height = self._height(history, arch)
        feasible = (near for near in neighbours if history.problem.feasible(near))
        batch: list[Arch] = []
        unseen = 0
        for near in feasible:
            if near not in history.scores and unseen == self._left(history):
                continue
            batch.append(near)
            unseen += near not in history.scores
            if len(batch) == self.batch_size:
                if (better := self._best(batch, height, history)) is not None:
                    return better
                batch, unseen = [], 0
        return self._best(batch, height, history) if batch else None

    def _best(self, batch: list[Arch], height: tuple[float, ...], history: History) -> Arch | None:
        history.evaluate([near for near in batch if near not in history.scores])
        best = max(batch, key=lambda arch: self._height(history, arch))
        return best if self._height(history, best) > height else None

    def _left(self, history: History) -> int:
        return self.num_samples - len(history.scores)

    @staticmethod
    def _height(history: History, arch: Arch) -> tuple[float, ...]:
        """The score; of equal ones the cheaper is higher, so that a climb crosses plateaus and never returns."""
        return (*history.scores[arch], -history.problem.cost_of(arch))
