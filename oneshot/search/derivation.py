"""Derivation (Pham et al., ENAS, ICML 2018, section 2.2): the best of a few architectures that the trained policy draws."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from oneshot.arch import Arch
from oneshot.search.history import MAX_REPEATS, History
from oneshot.search.problem import Problem
from oneshot.search.validation import check_count


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
        check_count("num_samples", self.num_samples)

    @property
    def budget(self) -> int:
        """``num_samples``."""
        return self.num_samples

    def search(self, problem: Problem, rng: random.Random) -> Arch:
        """The best of what was drawn, as ``Strategy.search``."""
        history = History(problem)
        first = rng.getrandbits(31)
        batch: list[Arch] = []
        repeats = 0
        for step in range(first, first + 100 * (self.num_samples + MAX_REPEATS)):
            for arch in self.draw(step):
                is_new = arch not in batch and problem.feasible(arch)
                repeats = 0 if is_new else repeats + 1
                if is_new and len(batch) < self.num_samples:
                    batch.append(arch)
            if len(batch) == self.num_samples or repeats >= MAX_REPEATS:
                break
        if not batch:
            raise ValueError(
                f"none of {MAX_REPEATS} architectures that the sampler drew meets the limits {problem.limits}"
            )
        history.evaluate(batch)
        return history.best()
