"""What a search draws at random: its generators, and networks within several sets of limits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from oneshot.arch import Arch
from oneshot.search import Problem

_TRIES = 20  # networks drawn for each that is wanted: tight limits leave few different ones


def generator_for(purpose: str, seed: int) -> np.random.Generator:
    """The randomness of one part of a search, by its seed."""
    return np.random.default_rng(list(f"{purpose} {seed}".encode()))


def draw_random(problems: Sequence[Problem], number: int, rng: np.random.Generator) -> list[list[Arch]]:
    """``number`` different random networks, about as many within the limits of each of ``problems``; fewer where there are not as
    many.

    Raises:
        ValueError: no architecture meets some of the limits.
    """
    drawn: dict[Arch, int] = {}  # and the set of limits for which
    for turn in range(_TRIES * len(problems)):
        index = turn % len(problems)
        wanted = math.ceil((number - len(drawn)) / (len(problems) - index))
        for arch in problems[index].decode(problems[index].sample(wanted, rng)):
            drawn.setdefault(arch, index)
    return [[arch for arch, own in drawn.items() if own == index] for index in range(len(problems))]
