"""Codes: the same architectures, features and distributions as the space gives one at a time."""

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from space_examples import CellSpace

from oneshot.arch import Arch, Choice, Option
from oneshot.spaces import Make, OFAMobileNetV3, SearchSpace
from oneshot.spaces.coding import INACTIVE, Codes, Coding


def mutated(space: SearchSpace, arch: Arch, rng: random.Random, probability: float) -> Arch:
    """The operator for one architecture, choice by choice."""
    return space.decide(
        lambda choice: (
            rng.choice(choice.options) if rng.random() < probability or choice.name not in arch else arch[choice.name]
        )
    )


def crossed(space: SearchSpace, first: Arch, second: Arch, rng: random.Random) -> Arch:
    """The operator for one pair, choice by choice."""

    def inherit(choice: Choice) -> Option:
        values = [parent[choice.name] for parent in (first, second) if choice.name in parent]
        return rng.choice(values) if values else rng.choice(choice.options)

    return space.decide(inherit)


class Nested(SearchSpace):
    """Conditions on several choices, and on conditional ones."""

    num_classes = 2

    def __init__(self) -> None:
        self.choices = (
            Choice("a", (0, 1, 2)),
            Choice("b", ("x", "y")),
            Choice("c", (3, 5), {"a": (1, 2)}),
            Choice("d", (False, True), {"a": (2,), "b": ("y",)}),
            Choice("e", (1, 2, 3), {"c": (5,), "a": (1, 2)}),
        )

    def build(self, arch: Arch, make: Make) -> None:  # type: ignore[override]
        raise AssertionError("never built")


def few_cells() -> SearchSpace:
    return CellSpace().restrict({"edge*": ("none", "skip", "conv3"), "edge0?": ("skip", "conv3")})


SMALL: dict[str, Callable[[], SearchSpace]] = {"nested": Nested, "cells": few_cells}


def test_codes_say_the_same_as_architectures(any_space: SearchSpace) -> None:
    coding = Coding(any_space)
    rng = np.random.default_rng(0)
    drawn = coding.sample(40, rng)
    varied = [coding.mutate(drawn, 0.3, rng), coding.crossover(drawn, drawn[::-1], rng)]
    codes = np.concatenate([drawn, *varied])
    archs = coding.decode(codes)
    for arch in archs:
        any_space.validate(arch)
    np.testing.assert_array_equal(coding.encode(archs), codes)
    features = coding.one_hot(codes)
    assert features.dtype == np.float32
    expected = [[arch.get(name) == option and name in arch for name, option in coding.columns] for arch in archs]
    np.testing.assert_array_equal(features, expected)
    assert len({code.tobytes() for code in codes}) == len(set(archs))


def test_extremes_and_inactive_choices() -> None:
    space = OFAMobileNetV3()
    coding = Coding(space)
    codes = coding.encode([space.smallest, space.largest])
    assert set(codes[0]) == {0, INACTIVE}
    np.testing.assert_array_equal(codes[1], coding.num_options - 1)
    assert coding.decode(codes) == [space.smallest, space.largest]
    assert coding.encode([]).shape == (0, len(space.choices))
    assert coding.sample(0, np.random.default_rng(0)).shape == (0, len(space.choices))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("operator", ["sample", "mutate", "crossover"])
def test_operators_draw_from_the_distributions_of_the_space(name: str, operator: str) -> None:
    space = SMALL[name]()
    coding = Coding(space)
    number, rng, vectorised = 3000, random.Random(1), np.random.default_rng(1)
    first, second = space.sample(rng), space.sample(rng)
    rows = [np.repeat(coding.encode([parent]), number, axis=0) for parent in (first, second)]
    draw: dict[str, tuple[Callable[[], Arch], Callable[[], Codes]]] = {
        "sample": (lambda: space.sample(rng), lambda: coding.sample(number, vectorised)),
        "mutate": (lambda: mutated(space, first, rng, 0.4), lambda: coding.mutate(rows[0], 0.4, vectorised)),
        "crossover": (
            lambda: crossed(space, first, second, rng),
            lambda: coding.crossover(rows[0], rows[1], vectorised),
        ),
    }
    one_by_one, together = draw[operator]
    expected, found = Counter(one_by_one() for _ in range(number)), Counter(coding.decode(together()))
    for arch in expected | found:
        # Five standard errors of the difference of two counts.
        error = (expected[arch] + found[arch] + 1) ** 0.5
        assert abs(expected[arch] - found[arch]) < 5 * error, arch
    assert len(found) > 1


def test_mix_takes_what_it_is_told_to_and_fills_what_neither_has() -> None:
    space = Nested()
    coding = Coding(space)
    first = coding.encode([space.arch({"a": 2, "b": "x", "c": 3})])
    second = coding.encode([space.arch({"a": 0, "b": "y"})])
    from_second = np.array([[False, True, True, False, False]])
    found = {
        coding.decode(coding.mix(first, second, from_second, np.random.default_rng(seed)))[0] for seed in range(20)
    }
    assert found == {space.arch({"a": 2, "b": "y", "c": 3, "d": value}) for value in (False, True)}


def test_the_seed_alone_decides(any_space: SearchSpace) -> None:
    coding = Coding(any_space)
    runs = [coding.mutate(coding.sample(10, rng), 0.5, rng) for rng in map(np.random.default_rng, (3, 3, 4))]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_what_is_no_architecture_is_refused() -> None:
    space = Nested()
    coding = Coding(space)
    with pytest.raises(ValueError, match="'a' cannot be 7; its options are"):
        coding.encode([space.smallest, Arch({"a": 7, "b": "x"})])
    with pytest.raises(ValueError, match="'z' is not a choice"):
        coding.encode([Arch({"a": 0, "b": "x", "z": 1})])
    with pytest.raises(ValueError, match="not in canonical form"):
        coding.encode([Arch({"a": 0, "b": "x", "c": 3})])
    for code, name in (([3, 0, 0, -1, -1], "a"), ([0, 0, 1, -1, -1], "c"), ([1, 0, -1, -1, -1], "c")):
        with pytest.raises(ValueError, match=f"row 1 is no architecture of this space: option -?. of choice '{name}'"):
            coding.decode(np.array([[0, 0, -1, -1, -1], code], dtype=np.int16))
