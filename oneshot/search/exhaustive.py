"""Exhaustive search: every architecture of a space that is small enough."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from oneshot.arch import Arch
from oneshot.search.coded import CodedProblem, CodedResult
from oneshot.search.coded_history import Batch, CodedHistory
from oneshot.search.history import History
from oneshot.search.problem import Problem
from oneshot.search.validation import check_count
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
        check_count("max_size", self.max_size)

    @property
    def budget(self) -> int:
        """``max_size``; ``candidates`` tells how many there are."""
        return self.max_size

    def candidates(self, problem: Problem) -> list[Arch]:
        """Every feasible architecture.

        Raises:
            ValueError: the space is too large, or none meets the limits.
        """
        self._check_size(problem.space)
        problem.check()
        return [arch for arch in problem.space.enumerate() if problem.feasible(arch)]

    def search(self, problem: Problem, rng: random.Random) -> Arch:
        """The best architecture within the limits, as ``Strategy.search``."""
        history = History(problem)
        history.evaluate(self.candidates(problem))
        return history.best()

    def search_coded(self, problem: CodedProblem, rng: np.random.Generator) -> CodedResult:
        """The same search over codes, as ``CodedStrategy.search_coded``."""
        space = problem.coding.space
        self._check_size(space)
        problem.check()
        history, batch = CodedHistory(problem), Batch()
        history.add(problem.coding.encode(space.enumerate()), batch)
        history.evaluate(batch)
        return history.result()

    def _check_size(self, space: SearchSpace) -> None:
        size = space.size
        if size > self.max_size:
            number = f"{size:,}" if size < 10**9 else f"{size:.3g}"
            raise ValueError(
                f"an exhaustive search goes through all networks of the space, but these are {number}, more than max_size="
                f"{self.max_size:,}; search with another strategy, or with a larger search.max_size"
            )
