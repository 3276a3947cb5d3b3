"""Searches over codes: what they promise, limits tight and loose, and optima and fronts that enumeration gives."""

import random
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from search_toys import Layers, Mirrored, Stages, Sums

from oneshot.arch import Arch
from oneshot.search import (
    NSGA2,
    CodedProblem,
    CodedResult,
    CodedStrategy,
    Evolution,
    Problem,
    RandomSearch,
    pareto_front,
)
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Codes, Coding

STRATEGIES: list[CodedStrategy] = [
    RandomSearch(num_samples=60, batch_size=25),
    Evolution(population=20, num_parents=5, num_mutations=8, num_crossovers=8, generations=3),
    NSGA2(population=20, generations=3),
]


class Tables:
    """Random numbers of every option of every choice, summed over codes."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        coding, sums = Coding(space), Sums(space, seed)
        self.parts = np.array([sums.parts[column] for column in coding.columns], dtype=np.float64)
        self.coding = coding

    def __call__(self, codes: Codes) -> np.ndarray:
        return self.coding.one_hot(codes) @ self.parts


def toy(space: SearchSpace, seed: int = 0, **shares: float) -> CodedProblem:
    """A problem whose limits lie the given shares of the way from the smallest to the largest of 2,000 random costs."""
    accuracy, macs, params = (Tables(space, seed + offset) for offset in (1, 2, 3))
    drawn = Coding(space).sample(2000, np.random.default_rng(0))
    ranges = {"macs": macs(drawn), "params": params(drawn)}
    limits = {name: ranges[name].min() + share * np.ptp(ranges[name]) for name, share in shares.items()}
    return CodedProblem(Coding(space), accuracy, lambda codes: {"macs": macs(codes), "params": params(codes)}, limits)


def few(codes: Codes) -> dict[str, np.ndarray]:
    return {"macs": codes.sum(axis=1).astype(np.float64)}


PROBLEMS: dict[str, Callable[[], CodedProblem]] = {
    "free": lambda: toy(Layers(12, 4)),
    "half": lambda: toy(Layers(12, 4), macs=0.5),
    "tight": lambda: toy(Layers(16, 4), macs=0.0),
    "two tight ones": lambda: toy(Layers(16, 4), macs=0.15, params=0.25),
    "conditional": lambda: toy(Stages(3), macs=0.1),
    "canonical": lambda: toy(Mirrored(6, 3), macs=0.3),
    "one in a billion": lambda: CodedProblem(
        Coding(Layers(20, 4)), lambda codes: codes[:, 0].astype(float), few, {"macs": 2.0}
    ),
}


@pytest.fixture(params=STRATEGIES, ids=lambda strategy: type(strategy).__name__)
def strategy(request: pytest.FixtureRequest) -> CodedStrategy:
    return request.param


@pytest.fixture(params=PROBLEMS)
def make_problem(request: pytest.FixtureRequest) -> Callable[[], CodedProblem]:
    return PROBLEMS[request.param]


def run(strategy: CodedStrategy, problem: CodedProblem, seed: int = 0) -> CodedResult:
    return strategy.search_coded(problem, np.random.default_rng(seed))


def test_it_uses_its_budget_on_different_feasible_architectures(
    strategy: CodedStrategy, make_problem: Callable[[], CodedProblem]
) -> None:
    problem = make_problem()
    result = run(strategy, problem)
    assert len(result.codes) == strategy.budget
    archs = problem.coding.decode(result.codes)
    assert len(set(archs)) == len(archs)
    for arch in archs:
        problem.coding.space.validate(arch)
    costs = problem.costs(result.codes)
    for name, limit in problem.limits.items():
        assert (costs[name] <= limit).all()
        np.testing.assert_array_equal(costs[name], result.costs[name])
    np.testing.assert_allclose(problem.score(result.codes), result.scores)


def test_the_best_is_the_cheapest_of_the_highest_scores(
    strategy: CodedStrategy, make_problem: Callable[[], CodedProblem]
) -> None:
    result = run(strategy, make_problem())
    assert result.scores[result.best] == result.scores.max()
    tied = result.scores == result.scores.max()
    assert result.costs["macs"][result.best] == result.costs["macs"][tied].min()


def test_the_seed_alone_decides(strategy: CodedStrategy, make_problem: Callable[[], CodedProblem]) -> None:
    used = make_problem()
    run(strategy, used, 9)
    first, again, other = run(strategy, used, 3), run(strategy, make_problem(), 3), run(strategy, used, 4)
    np.testing.assert_array_equal(first.codes, again.codes)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert first.codes.tobytes() != other.codes.tobytes()


def test_each_architecture_is_scored_once_in_whole_generations(strategy: CodedStrategy) -> None:
    sizes: list[int] = []

    def score(codes: Codes) -> np.ndarray:
        sizes.append(len(codes))
        return codes.sum(axis=1).astype(float)

    run(strategy, CodedProblem(Coding(Layers(12, 4)), score, few))
    assert sizes == ([25, 25, 10] if isinstance(strategy, RandomSearch) else [20, 20, 20])


@pytest.mark.parametrize("space", [Layers(2, 4), Mirrored(2, 5), Layers(1, 1)], ids=["layers", "mirrored", "single"])
def test_a_space_smaller_than_the_budget_is_searched_to_its_end(strategy: CodedStrategy, space: SearchSpace) -> None:
    problem = toy(space)
    result = run(strategy, problem)
    archs = list(space.enumerate())
    assert sorted(problem.coding.decode(result.codes), key=archs.index) == archs
    assert result.scores.max() == problem.score(problem.coding.encode(archs)).max()


def test_impossible_limits_are_explained(strategy: CodedStrategy) -> None:
    problem = CodedProblem(Coding(Layers(4, 3)), few, lambda codes: {"macs": 10.0 + codes.sum(axis=1)}, {"macs": 5.0})
    message = r"^max_macs=5 cannot be met: networks of this space have 10 to 18 MACs$"
    with pytest.raises(ValueError, match=message):
        run(strategy, problem)
    with pytest.raises(ValueError, match=message):
        problem.check()


def test_failed_scores_lose(strategy: CodedStrategy) -> None:
    def score(codes: Codes) -> np.ndarray:
        return np.where(codes[:, 0] > 0, np.nan, codes.sum(axis=1))

    result = run(strategy, CodedProblem(Coding(Layers(8, 3)), score, few))
    assert result.codes[result.best, 0] == 0
    assert not np.isnan(result.scores).any()
    lost = run(strategy, CodedProblem(Coding(Layers(8, 3)), lambda codes: np.full(len(codes), -np.inf), few))
    assert lost.costs["macs"][lost.best] == lost.costs["macs"].min()


def test_names_that_are_not_known_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'mac' is not a known cost \(allowed: macs\); did you mean 'macs'\?"):
        run(STRATEGIES[0], CodedProblem(Coding(Layers(4, 3)), few, few, cost="mac"))
    with pytest.raises(ValueError, match="max_macs must be a positive number, got 0"):
        CodedProblem(Coding(Layers(4, 3)), few, few, {"macs": 0})


# Results -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_evolution_finds_the_optimum_of_an_enumerable_space(seed: int) -> None:
    problem = toy(Layers(8, 3), seed, macs=0.4)
    archs = problem.coding.encode(problem.coding.space.enumerate())
    feasible = problem.feasible(problem.costs(archs), len(archs))
    result = run(Evolution(generations=20), problem, seed)
    assert result.scores[result.best] == problem.score(archs[feasible]).max()
    assert len(result.codes) < feasible.sum() or feasible.sum() < 1000


def test_the_front_of_nsga2_is_that_of_all_architectures() -> None:
    problem = toy(Layers(8, 3))
    archs = problem.coding.encode(problem.coding.space.enumerate())
    scores, macs = problem.score(archs), problem.costs(archs)["macs"]
    exact = {(scores[index], macs[index]) for index in pareto_front(scores.tolist(), macs.tolist())}
    shares = []
    for strategy in (NSGA2(60, 40), RandomSearch(2400, 60)):
        result = run(strategy, problem)
        shares.append(
            len(exact & {(result.scores[index], result.costs["macs"][index]) for index in result.front()}) / len(exact)
        )
    assert shares[0] > 0.9
    assert shares[0] > shares[1] + 0.2


def test_both_paths_of_a_strategy_find_as_much() -> None:
    for strategy in (Evolution(20, 5, 10, 10, 10), NSGA2(20, 10)):
        found: dict[str, list[float]] = {"list": [], "coded": []}
        for seed in range(8):
            coded = toy(Layers(16, 4), seed, macs=0.3)
            result = run(strategy, coded, seed)
            found["coded"].append(float(result.scores.max()))

            def score(archs: list[Arch], coded: CodedProblem = coded) -> list[tuple[float]]:
                return [(value,) for value in coded.score(coded.coding.encode(archs)).tolist()]

            def costs(arch: Arch, coded: CodedProblem = coded) -> dict[str, float]:
                return {name: float(value[0]) for name, value in coded.costs(coded.coding.encode([arch])).items()}

            listed = Problem(coded.coding.space, score, costs, coded.limits)
            strategy.search(listed, random.Random(seed))
            found["list"].append(max(listed.evaluated.values())[0])
        means = {path: statistics.mean(values) for path, values in found.items()}
        assert abs(means["coded"] - means["list"]) < 0.04 * means["list"], (strategy, means)


def test_random_samples_are_uniform_under_a_loose_limit() -> None:
    space = Layers(3, 3)
    problem = CodedProblem(Coding(space), few, few, {"macs": 2.0})
    drawn = problem.sample(2000, np.random.default_rng(0))
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 10  # sums of three numbers from 0 to 2 that are at most 2
    assert counts.min() > 120  # binomial around 200 with deviation 13


def test_repair_keeps_what_it_can() -> None:
    space = Layers(10, 4)
    problem = CodedProblem(Coding(space), few, few, {"macs": 12.0})
    rng = np.random.default_rng(0)
    codes = problem.coding.sample(200, rng)
    repaired = problem.repair(codes, rng)
    met = codes.sum(axis=1) <= 12
    np.testing.assert_array_equal(repaired[met], codes[met])
    assert (repaired.sum(axis=1) <= 12).all()
    changed = repaired != codes
    assert (repaired[changed] == 0).all()
    # One change fewer would not have been enough.
    assert (repaired[~met].sum(axis=1) + 3 > 12).all()


def test_samples_of_a_tight_limit_differ() -> None:
    problem = PROBLEMS["one in a billion"]()
    drawn = problem.sample(400, np.random.default_rng(0))
    assert (drawn.sum(axis=1) <= 2).all()
    assert len(np.unique(drawn, axis=0)) > 120  # of 231
