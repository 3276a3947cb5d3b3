"""Walks through a space by changing one choice at a time: to the smallest value of a function, or randomly downhill."""

from __future__ import annotations

import random
from collections.abc import Callable

from oneshot.arch import Arch, Choice, Option
from oneshot.spaces.base import SearchSpace

Fill = Callable[[Choice], Option]


def change(space: SearchSpace, arch: Arch, name: str, option: Option, fill: Fill) -> Arch:
    """``arch`` with the active choice ``name`` set to ``option``; ``fill`` answers choices that become active."""

    def decision(choice: Choice) -> Option:
        if choice.name == name:
            return option
        return arch[choice.name] if choice.name in arch else fill(choice)

    return space.decide(decision)


def minimise(space: SearchSpace, start: Arch, value: Callable[[Arch], float], fill: Fill) -> Arch:
    """Coordinate descent: sets each choice in turn to its best option until none improves.

    The result is the smallest of the whole space where ``value`` is a sum over unconditional choices, and a local
    minimum elsewhere.
    """
    best, least = start, value(start)
    improved = True
    while improved:
        improved = False
        for choice in space.choices:
            for option in choice.options:
                if choice.name not in best or best[choice.name] == option:
                    continue
                candidate = change(space, best, choice.name, option, fill)
                if (reached := value(candidate)) < least:
                    best, least, improved = candidate, reached, True
    return best


def go_down(space: SearchSpace, start: Arch, value: Callable[[Arch], float], rng: random.Random) -> Arch:
    """Takes the first improving change of one choice in a random order, until ``value`` is 0 or nothing improves it."""
    best, least = start, value(start)
    improved = True
    while improved and least > 0:
        improved = False
        changes = _changes(space, best)
        rng.shuffle(changes)
        for name, option in changes:
            candidate = change(space, best, name, option, _random_option(rng))
            if (reached := value(candidate)) < least:
                best, least, improved = candidate, reached, True
                break
    return best


def step_down(
    space: SearchSpace, start: Arch, value: Callable[[Arch], tuple[float, ...]], rng: random.Random
) -> Arch | None:
    """``start`` after the first change of one choice, in a random order, that lowers ``value``; None where none does."""
    changes = _changes(space, start)
    rng.shuffle(changes)
    least = value(start)
    candidates = (change(space, start, name, option, _random_option(rng)) for name, option in changes)
    return next((candidate for candidate in candidates if value(candidate) < least), None)


def random_change(space: SearchSpace, arch: Arch, rng: random.Random) -> Arch:
    """``arch`` with one random active choice set to one of its other options; ``arch`` itself where there is none."""
    changes = _changes(space, arch)
    return change(space, arch, *rng.choice(changes), _random_option(rng)) if changes else arch


def _changes(space: SearchSpace, arch: Arch) -> list[tuple[str, Option]]:
    return [
        (choice.name, option)
        for choice in space.choices
        if choice.name in arch
        for option in choice.options
        if arch[choice.name] != option
    ]


def _random_option(rng: random.Random) -> Fill:
    return lambda choice: rng.choice(choice.options)
