"""What every search strategy offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from oneshot.search.history import Evaluated
from oneshot.search.problem import Problem


class Strategy(Protocol):
    """Chooses architectures to evaluate, whole populations at a time; ``History`` keeps the books.

    A search depends on nothing but the generator's seed and the scores: one that was stopped is resumed by running it
    again with the scores that are remembered.
    """

    @property
    def budget(self) -> int:
        """The number of architectures that a search evaluates at the most; fewer where no unseen one is found."""
        ...

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        """All that it evaluated; ``best`` of these is what it found.

        Raises:
            ValueError: no architecture meets the limits of ``problem``.
        """
        ...
