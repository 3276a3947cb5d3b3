"""Exhaustive search: every architecture of a space that is small enough."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from oneshot.arch import Arch
from oneshot.checking import check_count
from oneshot.search.history import Evaluated, History
from oneshot.search.problem import Problem
from oneshot.spaces.base import SearchSpace


@dataclass(frozen=True)
class Exhaustive:
    """Evaluates every feasible architecture, all of them at once: what they have in common is computed once. Nothing is random.

    Args:
        max_size: architectures of the largest space that is gone through, those outside the limits included.

    Raises:
        ValueError: a number below 1; in ``search`` also a space that is larger.
    """

    max_size: int = 100_000

    def __post_init__(self) -> None:
        check_count(1, "search.", max_size=self.max_size)

    @property
    def budget(self) -> int:
        """``max_size``."""
        return self.max_size

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        """Every architecture within the limits, in the order of the options, as ``Strategy.search``."""
        archs = self._listed(problem.coding.space)
        problem.check()
        history = History(problem, len(archs), rng)
        history.propose(problem.coding.encode(archs))
        return history.evaluate()

    def _listed(self, space: SearchSpace) -> list[Arch]:
        """All architectures, gone through once."""
        kind = type(space)
        listed_to_be_counted = kind.canonical is not SearchSpace.canonical and kind.size is SearchSpace.size
        if listed_to_be_counted or space.size <= self.max_size:
            archs = list(itertools.islice(space.enumerate(), self.max_size + 1))
            if len(archs) <= self.max_size:
                return archs
        size = space.size
        number = f"{size:,}" if size < 10**9 else f"{size:.3g}"
        raise ValueError(
            f"an exhaustive search goes through all networks of the space, but these are {number}, more than max_size="
            f"{self.max_size:,}; search with another strategy, or with a larger search.max_size"
        )
