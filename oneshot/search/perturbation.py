"""Choosing by perturbation (Wang et al., ICLR 2021): an option is as strong as the relaxed network is worse without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from oneshot.arch import Arch
from oneshot.checking import check_count, check_least
from oneshot.search.history import Evaluated, History
from oneshot.search.problem import Problem


def _no_supernet() -> Arch:
    raise ValueError(
        "search=perturbation takes the options out of a relaxed network: give it a supernet trained by gradient"
    )


@dataclass(frozen=True)
class Perturbation:
    """Scores the one architecture that is left when the choices of a relaxed network are decided one by one.

    Args:
        tune_epochs: of the relaxed network after each decision; published 5 (10 is the default of the code for DARTS's space).
            0 is none.
        lr: of the weights in these epochs; None is a tenth of that of the training, as published.
        choose: makes the decisions.

    Raises:
        ValueError: a setting is out of range; in ``search`` also where the architecture exceeds the limits.
    """

    tune_epochs: int = 5
    lr: float | None = None
    choose: Callable[[], Arch] = _no_supernet

    def __post_init__(self) -> None:
        check_count(0, "search.", tune_epochs=self.tune_epochs)
        check_least(0, "search.", lr=self.lr)

    @property
    def budget(self) -> int:
        """1."""
        return 1

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        """What was chosen, as ``Strategy.search``."""
        history = History(problem, self.budget, rng)
        history.propose(problem.coding.encode([self.choose()]))
        found = history.evaluate()
        if not len(found):
            raise ValueError(
                f"what was chosen by perturbation exceeds {problem.limits_in_words}, of which it knows nothing: expected costs "
                "in the loss of the training do (+regulariser=expected_macs)"
            )
        return found
