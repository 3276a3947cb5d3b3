"""Random search, the baseline of every other (Li and Talwalkar, UAI 2019)."""

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


@dataclass(frozen=True)
class RandomSearch:
    """Evaluates ``num_samples`` different random architectures in batches of ``batch_size``.

    Raises:
        ValueError: a number below 1.
    """

    num_samples: int = 1000
    batch_size: int = 50

    def __post_init__(self) -> None:
        check_count("num_samples", self.num_samples)
        check_count("batch_size", self.batch_size)

    @property
    def budget(self) -> int:
        """``num_samples``."""
        return self.num_samples

    def search(self, problem: Problem, rng: random.Random) -> Arch:
        """The best of random architectures, as ``Strategy.search``."""
        history = History(problem)
        while (left := self.num_samples - len(history.scores)) > 0:
            batch: list[Arch] = []
            history.fill(batch, min(self.batch_size, left), rng)
            if not batch:
                break
            history.evaluate(batch)
        return history.best()

    def search_coded(self, problem: CodedProblem, rng: np.random.Generator) -> CodedResult:
        """The same search over codes, as ``CodedStrategy.search_coded``."""
        history = CodedHistory(problem)
        left = self.num_samples
        while left > 0:
            batch = Batch()
            history.fill(batch, min(self.batch_size, left), rng)
            if not len(batch):
                break
            left -= len(history.evaluate(batch).scores)
        return history.result()
