"""Exhaustive search: all of a small space, nothing of a large one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from search_toys import Layers, Mirrored, Stages, Sums, Toy, posed, run

from oneshot.arch import Arch
from oneshot.search import Exhaustive, Problem
from oneshot.spaces.base import SearchSpace

SPACES = {
    "layers": Layers(4, 3),
    "mirrored": Mirrored(3, 4),
    "single": Layers(1, 1),
    "stages": Stages(1).restrict({"resolution": (16, 32)}),
}


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return SPACES[request.param]


def test_all_architectures_are_scored_at_once(space: SearchSpace) -> None:
    problem = Toy(space)
    done = run(Exhaustive(), problem)
    everything = list(space.enumerate())
    assert list(done.evaluated) == everything
    assert problem.batches == [everything]
    assert problem.accuracy(done.best) == max(map(problem.accuracy, everything))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_every_feasible_architecture_and_no_other_is_scored(space: SearchSpace, part: float) -> None:
    values = sorted(map(Toy(space).macs, space.enumerate()))
    problem = Toy(space, limits={"macs": values[int(part * len(values))]})
    possible = [arch for arch in space.enumerate() if problem.macs(arch) <= problem.limits["macs"]]
    done = run(Exhaustive(), problem)
    assert list(done.evaluated) == possible
    assert problem.accuracy(done.best) == max(map(problem.accuracy, possible))
    assert len(possible) < len(values) or space.size == 1


@pytest.mark.parametrize("make", [lambda: Layers(4, 3), lambda: Mirrored(3, 4)], ids=["layers", "mirrored"])
def test_the_space_is_listed_once(make: Callable[[], SearchSpace], monkeypatch: pytest.MonkeyPatch) -> None:
    space, listed = make(), 0
    whole = SearchSpace.enumerate

    def counted(self: SearchSpace) -> Iterator[Arch]:
        nonlocal listed
        listed += 1
        return whole(self)

    monkeypatch.setattr(SearchSpace, "enumerate", counted)
    run(Exhaustive(), Toy(space))
    assert listed == 1


def test_ties_are_broken_by_later_entries_and_then_by_the_cost() -> None:
    space = Layers(3, 3)
    params = Sums(space, 1)

    def score(archs: list[Arch]) -> list[tuple[float, float]]:
        return [(0.5, float(arch["layer0"] == 1)) for arch in archs]

    best = run(Exhaustive(), posed(space, score, {"params": params}, cost="params")).best
    assert best["layer0"] == 1
    assert params(best) == min(params(arch) for arch in space.enumerate() if arch["layer0"] == 1)


def test_failed_scores_lose() -> None:
    def score(archs: list[Arch]) -> list[tuple[float, float]]:
        return [(float("nan") if arch["layer0"] else float(arch.integer("layer1")), 0.0) for arch in archs]

    problem = posed(Layers(2, 3), score, {"macs": lambda arch: 1.0})
    assert run(Exhaustive(), problem).best == Arch({"layer0": 0, "layer1": 2})


def test_nothing_is_random_and_a_stopped_search_goes_on_where_it_was() -> None:
    space = Layers(4, 3)
    remembered: dict[Arch, tuple[float, ...]] = {}
    plain = run(Exhaustive(), Toy(space))

    def resumable(stop: int) -> Problem:
        def score(archs: list[Arch]) -> list[tuple[float, ...]]:
            for arch in archs:
                if arch not in remembered:
                    if len(remembered) == stop:
                        raise KeyboardInterrupt
                    remembered[arch] = plain.evaluated[arch]
            return [remembered[arch] for arch in archs]

        return posed(space, score, {"macs": Toy(space).macs})

    with pytest.raises(KeyboardInterrupt):
        run(Exhaustive(), resumable(30), 1)
    again = run(Exhaustive(), resumable(1000), 2)
    assert again.best == plain.best
    assert list(again.evaluated.items()) == list(plain.evaluated.items())


def test_a_space_that_is_too_large_is_refused_at_once_with_its_size() -> None:
    class Endless(Layers):
        def enumerate(self):  # type: ignore[no-untyped-def]
            yield from itertools.repeat(self.smallest)

    with pytest.raises(
        ValueError, match=r"these are 1,048,576, more than max_size=100,000; .* larger search\.max_size$"
    ):
        run(Exhaustive(), Toy(Endless(10, 4)))
    with pytest.raises(ValueError, match=r"these are 1\.15e\+18, more than"):
        run(Exhaustive(), Toy(Endless(30, 4)))
    with pytest.raises(
        ValueError, match=r"goes through all networks of the space, but these are 9, more than max_size=8"
    ):
        run(Exhaustive(max_size=8), Toy(Layers(2, 3)))
    with pytest.raises(ValueError, match=r"these are 6, more than max_size=5"):
        run(Exhaustive(max_size=5), Toy(Mirrored(2, 3)))
    for space, size in ((Layers(2, 3), 9), (Mirrored(2, 3), 6)):
        assert len(run(Exhaustive(max_size=size), Toy(space)).evaluated) == size


def test_limits_that_cannot_be_met_are_refused() -> None:
    problem = posed(Layers(4, 3), lambda archs: [], {"macs": lambda arch: 10.0 + arch.integer("layer0")}, {"macs": 5.0})
    with pytest.raises(ValueError, match=r"^max_macs=5 cannot be met: networks of this space have 10 to 12 MACs$"):
        run(Exhaustive(), problem)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^search\.max_size must be a whole number of at least 1, got 0$"):
        Exhaustive(max_size=0)
