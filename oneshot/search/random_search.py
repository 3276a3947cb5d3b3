"""Random search, the baseline of every other (Li and Talwalkar, UAI 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oneshot.checking import check_count
from oneshot.search.history import Evaluated, History
from oneshot.search.problem import Problem


@dataclass(frozen=True)
class RandomSearch:
    """Evaluates ``num_samples`` different random architectures in batches of ``batch_size``.

    Raises:
        ValueError: a number below 1.
    """

    num_samples: int = 1000
    batch_size: int = 50

    def __post_init__(self) -> None:
        check_count(1, "search.", num_samples=self.num_samples, batch_size=self.batch_size)

    @property
    def budget(self) -> int:
        """``num_samples``."""
        return self.num_samples

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        """Random architectures, as ``Strategy.search``."""
        history = History(problem, self.num_samples, rng)
        while len(history.evaluate(self.batch_size)):
            pass
        return history.evaluated
