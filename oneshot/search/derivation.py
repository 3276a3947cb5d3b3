"""Derivation (Pham et al., ENAS, ICML 2018, section 2.2): the best of a few architectures that the trained policy draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from oneshot.arch import Arch
from oneshot.checking import check_count
from oneshot.search.history import MAX_REPEATS, Evaluated, History
from oneshot.search.problem import Problem


def _no_sampler(step: int) -> list[Arch]:
    raise ValueError("a derivation draws from the sampler that trained a supernet: give it one")


@dataclass(frozen=True)
class Derivation:
    """Scores ``num_samples`` different architectures from ``draw``; those outside the limits are drawn again.

    Args:
        num_samples: published "several"; the published code draws 10.
        draw: the architectures of one step of the sampler that trained the supernet.

    Raises:
        ValueError: a number below 1; in ``search`` also where nothing that is drawn meets the limits.
    """

    num_samples: int = 10
    draw: Callable[[int], list[Arch]] = _no_sampler

    def __post_init__(self) -> None:
        check_count(1, "search.", num_samples=self.num_samples)

    @property
    def budget(self) -> int:
        """``num_samples``."""
        return self.num_samples

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        """What was drawn, as ``Strategy.search``."""
        history = History(problem, self.num_samples, rng)
        step, repeats = int(rng.integers(2**31)), 0
        while history.left > 0 and repeats < MAX_REPEATS:
            drawn = self.draw(step)
            step += 1
            repeats = 0 if history.propose(problem.coding.encode(drawn)) else repeats + max(1, len(drawn))
        found = history.evaluate()
        if not len(found):
            raise ValueError(
                f"none of {MAX_REPEATS} architectures that the sampler drew meets {problem.limits_in_words}"
            )
        return found
