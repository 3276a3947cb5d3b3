"""Randomness as a function of seed, purpose and step."""

import random

import numpy as np
import pytest
import torch

from oneshot.training.randomness import derive_seed, make_generator, seeded


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_seeds_differ_and_never_change() -> None:
    seeds = [derive_seed("order", seed, step) for seed in range(20) for step in range(20)]
    seeds += [derive_seed("step", seed, step) for seed in range(20) for step in range(20)]
    assert len(set(seeds)) == 800
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed("order", 0, 7) == 4934036032708461229
    assert derive_seed("a", 11) != derive_seed("a1", 1) != derive_seed("a", "11")


def test_generators() -> None:
    first, second, other = (torch.rand(5, generator=make_generator("x", step)) for step in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_global_generators_start_from_the_parts_and_are_restored() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = draw(), draw()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = draw()
    with seeded("step", 3):
        inside = draw()
    assert (before, draw()) == expected
    with seeded("step", 3):
        assert draw() == inside
    with seeded("step", 4):
        other = draw()
    assert all(left != right for left, right in zip(inside, other, strict=True))


def test_they_are_restored_after_an_error_and_may_be_nested() -> None:
    torch.manual_seed(2)
    expected = draw()[2]
    torch.manual_seed(2)
    random.seed(2)
    state = random.getstate()
    drawn = []

    def fail() -> None:
        with seeded("a"):
            drawn.append(draw())
            with seeded("b"):
                draw()
            drawn.append(draw())
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert random.getstate() == state
    assert draw()[2] == expected
    with seeded("a"):
        assert [draw(), draw()] == drawn
