"""Exhaustive search: all of a small space, nothing of a large one."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from search_toys import Layers, Mirrored, Stages, Sums, Toy, share

from oneshot.arch import Arch
from oneshot.search import CodedProblem, Exhaustive, Problem, Score
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Codes, Coding

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
    best = Exhaustive().search(problem, random.Random(0))
    everything = list(space.enumerate())
    assert list(problem.evaluated) == everything
    assert list(map(list, problem.batches)) == [everything]
    assert problem.accuracy(best) == max(map(problem.accuracy, everything))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_every_feasible_architecture_and_no_other_is_scored(part: float) -> None:
    space = Layers(5, 3)
    problem = Toy(space, limits={"macs": share(Sums(space, 2), space, part)})
    strategy = Exhaustive()
    strategy.search(problem, random.Random(0))
    feasible = {arch for arch in space.enumerate() if problem.macs(arch) <= problem.limits["macs"]}
    assert 0 < len(feasible) < space.size
    assert set(problem.evaluated) == set(strategy.candidates(problem)) == feasible


def test_ties_are_broken_by_later_entries_and_then_by_the_cost() -> None:
    space = Layers(3, 3)
    params = Sums(space, 1)

    def score(archs: Sequence[Arch]) -> list[Score]:
        return [(0.5, float(arch["layer0"] == 1)) for arch in archs]

    problem = Problem(space, score, lambda arch: {"macs": 1.0, "params": params(arch)}, cost="params")
    best = Exhaustive().search(problem, random.Random(0))
    assert best["layer0"] == 1
    assert params(best) == min(params(arch) for arch in space.enumerate() if arch["layer0"] == 1)


def test_failed_scores_lose() -> None:
    def score(archs: Sequence[Arch]) -> list[Score]:
        return [(float("nan") if arch["layer0"] else float(arch.integer("layer1")), 0.0) for arch in archs]

    problem = Problem(Layers(2, 3), score, lambda arch: {"macs": 1.0})
    assert Exhaustive().search(problem, random.Random(0)) == Arch({"layer0": 0, "layer1": 2})


def test_nothing_is_random_and_a_stopped_search_goes_on_where_it_was() -> None:
    space = Layers(4, 3)
    remembered: dict[Arch, Score] = {}
    plain = Toy(space)
    best = Exhaustive().search(plain, random.Random(0))

    def resumable(stop: int) -> Problem:
        def score(archs: Sequence[Arch]) -> list[Score]:
            for arch in archs:
                if arch not in remembered:
                    if len(remembered) == stop:
                        raise KeyboardInterrupt
                    remembered[arch] = plain.evaluated[arch]
            return [remembered[arch] for arch in archs]

        return Problem(space, score, plain.costs)

    with pytest.raises(KeyboardInterrupt):
        Exhaustive().search(resumable(30), random.Random(1))
    again = resumable(1000)
    assert Exhaustive().search(again, random.Random(2)) == best
    assert list(again.evaluated.items()) == list(plain.evaluated.items())


def test_a_space_that_is_too_large_is_refused_at_once_with_its_size() -> None:
    class Endless(Layers):
        def enumerate(self):  # type: ignore[no-untyped-def]
            yield from itertools.repeat(self.smallest)

    with pytest.raises(
        ValueError, match=r"these are 1,048,576, more than max_size=100,000; .* larger search\.max_size$"
    ):
        Exhaustive().search(Toy(Endless(10, 4)), random.Random(0))
    with pytest.raises(ValueError, match=r"these are 1\.15e\+18, more than"):
        Exhaustive().search(Toy(Endless(30, 4)), random.Random(0))
    with pytest.raises(ValueError, match=r"these are 9, more than max_size=8"):
        Exhaustive(max_size=8).search(Toy(Layers(2, 3)), random.Random(0))
    Exhaustive(max_size=9).search(Toy(Layers(2, 3)), random.Random(0))


def test_limits_that_cannot_be_met_are_refused() -> None:
    problem = Problem(
        Layers(4, 3), lambda archs: [], lambda arch: {"macs": 10.0 + arch.integer("layer0")}, {"macs": 5.0}
    )
    with pytest.raises(ValueError, match=r"^max_macs=5 cannot be met: networks of this space have 10 to 12 MACs$"):
        Exhaustive().search(problem, random.Random(0))


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^max_size must be a whole number of at least 1, got 0$"):
        Exhaustive(max_size=0)


def test_over_codes_every_feasible_architecture_is_scored_once(space: SearchSpace) -> None:
    coding, macs, value = Coding(space), Sums(space, 2), Sums(space, 5)
    limit = share(macs, space, 0.5)

    def of_all(function: Sums) -> Callable[[Codes], np.ndarray]:
        return lambda codes: np.array([function(arch) for arch in coding.decode(codes)])

    problem = CodedProblem(coding, of_all(value), lambda codes: {"macs": of_all(macs)(codes)}, {"macs": limit})
    result = Exhaustive().search_coded(problem, np.random.default_rng(0))
    found = coding.decode(result.codes)
    feasible = [arch for arch in space.enumerate() if macs(arch) <= limit]
    assert found == feasible
    assert result.scores[result.best] == max(map(value, feasible))
    with pytest.raises(ValueError, match=r"goes through all networks of the space, but these are"):
        Exhaustive(max_size=1).search_coded(
            CodedProblem(Coding(Layers(2, 3)), of_all(value), lambda codes: {}), np.random.default_rng(0)
        )
