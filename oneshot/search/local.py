"""Local search (White et al., Exploring the Loss Landscape in Neural Architecture Search, UAI 2021, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oneshot.checking import check_count
from oneshot.search.history import Evaluated, History
from oneshot.search.problem import Problem


@dataclass(frozen=True)
class LocalSearch:
    """Hill climbing over changes of a single choice. From the best of ``num_starts`` random architectures it evaluates
    neighbours, in a random order and ``batch_size`` at a time, and goes to the best of the first batch that has a better one;
    where none is left, the climb begins again with other random architectures. Of equal scores the cheaper is better, so that a
    climb crosses plateaus and never returns. With a batch as large as the neighbourhood it is steepest ascent, as published.

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
        check_count(1, "search.", num_samples=self.num_samples, num_starts=self.num_starts, batch_size=self.batch_size)

    @property
    def budget(self) -> int:
        """``num_samples``."""
        return self.num_samples

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        """All climbs, as ``Strategy.search``."""
        history = History(problem, self.num_samples, rng)
        while len(start := history.evaluate(self.num_starts)):
            here: Evaluated | None = start[[start.best]]
            while here is not None:
                here = self._first_better(here, history, rng)
        return history.evaluated

    def _first_better(self, here: Evaluated, history: History, rng: np.random.Generator) -> Evaluated | None:
        """The best neighbour of the first batch with one better than ``here``; None at a peak, or where the budget ends."""
        problem = history.problem
        (arch,) = problem.decode(here.codes)
        neighbours = [near for near in dict.fromkeys(problem.coding.space.neighbours(arch)) if near != arch]
        codes = rng.permutation(problem.coding.encode(neighbours))
        if not problem.is_slow:
            codes = codes[problem.feasible(codes)]
        for start in range(0, len(codes), self.batch_size):
            batch = codes[start : start + self.batch_size]
            history.propose(batch)
            history.evaluate()
            rows = history.find(batch)
            near = Evaluated.join([here, history.evaluated[rows[rows >= 0]]])
            if near.best:
                return near[[near.best]]
        return None
