"""What every search strategy offers."""

from __future__ import annotations

import random
from typing import Protocol

from oneshot.arch import Arch
from oneshot.search.problem import Problem


class Strategy(Protocol):
    """Chooses architectures to evaluate, whole batches at a time.

    A search depends on nothing but the generator's seed and the scores: one that was stopped is resumed by running it
    again with the scores that are remembered.
    """

    @property
    def budget(self) -> int:
        """The number of architectures that a search evaluates at the most; fewer where no unseen one is found."""
        ...

    def search(self, problem: Problem, rng: random.Random) -> Arch:
        """The best of the architectures that it evaluates through ``problem``: the highest score, then the lowest cost.

        Raises:
            ValueError: no architecture meets the limits of ``problem``.
        """
        ...
