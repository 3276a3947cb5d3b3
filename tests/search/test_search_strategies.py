"""What every search strategy promises, over all of them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from search_toys import Layers, Mirrored, Stages, Sums, Toy, feasible, posed, run, share, stage_macs, total

from oneshot.arch import Arch
from oneshot.policies import LSTMPolicy, PolicySettings, Reinforce, ReinforceSettings
from oneshot.samplers import UniformSampler
from oneshot.search import (
    NSGA2,
    ControllerSearch,
    Derivation,
    Evolution,
    LocalSearch,
    Problem,
    RandomSearch,
    Strategy,
)
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Codes

STRATEGIES: list[Strategy] = [
    RandomSearch(num_samples=60, batch_size=25),
    Evolution(population=20, num_parents=5, num_mutations=8, num_crossovers=8, generations=3),
    NSGA2(population=20, generations=3),
    LocalSearch(num_samples=60, num_starts=5, batch_size=4),
    ControllerSearch(num_samples=40, batch_size=15, policy=PolicySettings(hidden_size=8, num_layers=1)),  # slow
]
PROBLEMS: dict[str, Callable[[], Problem]] = {
    "free": lambda: Toy(Layers(12, 4)),
    "half": lambda: _limited(Layers(12, 4), 0.5),
    "one in a hundred": lambda: _limited(Layers(12, 4), 0.25, 0.45),
    "tight": lambda: _limited(Layers(16, 4), 0.12, 0.35),
    "one in a billion": lambda: posed(Layers(20, 4), _constant, {"macs": total}, {"macs": 2.0}),
    "conditional": lambda: posed(
        Stages(3), lambda archs: [(float(len(arch)),) for arch in archs], {"macs": stage_macs}, {"macs": 2e4}
    ),
    "canonical": lambda: _limited(Mirrored(6, 3), 0.5),
    "measured": lambda: posed(
        Layers(12, 4),
        lambda archs: [(total(arch) % 11,) for arch in archs],
        {"macs": total, "latency_ms": lambda arch: total(arch) + 0.1 * arch.integer("layer0")},
        {"macs": 18.0, "latency_ms": 15.0},
        guides={"latency_ms": "macs"},
    ),
}


def _constant(archs: list[Arch]) -> list[float]:
    return [1.0] * len(archs)


def _limited(space: SearchSpace, macs: float, params: float | None = None) -> Toy:
    toy = Toy(space)
    limits = {"macs": share(toy.macs, space, macs)}
    return Toy(space, limits=limits if params is None else limits | {"params": share(toy.params, space, params)})


@pytest.fixture(params=STRATEGIES, ids=lambda strategy: type(strategy).__name__)
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return request.param


@pytest.fixture(params=PROBLEMS)
def make_problem(request: pytest.FixtureRequest) -> Callable[[], Problem]:
    return PROBLEMS[request.param]


def test_it_uses_its_whole_budget_on_different_feasible_architectures(
    strategy: Strategy, make_problem: Callable[[], Problem]
) -> None:
    problem = make_problem()
    done = run(strategy, problem)
    assert strategy.budget == (40 if isinstance(strategy, ControllerSearch) else 60)
    assert len(done.evaluated) == len(done.found) == strategy.budget
    for arch in done.evaluated:
        problem.coding.space.validate(arch)
    met, costs = problem.examine(done.found.codes)
    assert met.all()
    for name, limit in problem.limits.items():
        assert (np.asarray(problem._costs[name](done.found.codes)) <= limit).all()
    for name, values in costs.items():
        np.testing.assert_array_equal(values, done.found.costs[name])
    np.testing.assert_array_equal(problem.score(done.found.codes), done.found.scores)


def test_it_evaluates_whole_generations_and_nothing_twice(strategy: Strategy) -> None:
    problem = Toy(Layers(12, 4))
    done = run(strategy, problem)
    if not isinstance(strategy, (ControllerSearch, LocalSearch)):
        expected = [25, 25, 10] if isinstance(strategy, RandomSearch) else [20, 20, 20]
        assert [len(batch) for batch in problem.batches] == expected
    scored = [arch for batch in problem.batches for arch in batch]
    assert scored == list(done.evaluated)


def test_the_seed_alone_decides(strategy: Strategy, make_problem: Callable[[], Problem]) -> None:
    """And no earlier search of the same problem."""
    used = make_problem()
    other, first, again = run(strategy, used, 4), run(strategy, used, 3), run(strategy, make_problem(), 3)
    assert (first.best, list(first.evaluated.items())) == (again.best, list(again.evaluated.items()))
    assert list(first.evaluated) != list(other.evaluated)


def test_it_returns_the_best_it_evaluated(strategy: Strategy, make_problem: Callable[[], Problem]) -> None:
    problem = make_problem()
    done = run(strategy, problem)
    best_score = max(done.evaluated.values())
    assert done.evaluated[done.best] == best_score
    tied = [row for row, score in enumerate(done.evaluated.values()) if score == best_score]
    costs = done.found.costs[problem.cost]
    assert costs[done.found.best] == min(costs[tied])


def test_later_entries_of_a_score_and_then_the_cost_break_ties(strategy: Strategy) -> None:
    space = Layers(6, 3)
    params = Sums(space, 1)

    def score(archs: list[Arch]) -> list[tuple[float, ...]]:
        return [(0.5, float(arch["layer0"] == 1), 0.0) for arch in archs]

    done = run(strategy, posed(space, score, {"params": params}, cost="params"))
    assert done.best["layer0"] == 1
    assert params(done.best) == min(params(arch) for arch in done.evaluated if arch["layer0"] == 1)


@pytest.mark.parametrize(
    "space", [Layers(2, 4), Mirrored(2, 5), Layers(1, 1), Stages(1)], ids=["layers", "mirrored", "single", "stages"]
)
def test_a_space_smaller_than_the_budget_is_searched_to_its_end(strategy: Strategy, space: SearchSpace) -> None:
    space = space.restrict({"resolution": (16,)}) if isinstance(space, Stages) else space
    problem = Toy(space)
    done = run(strategy, problem)
    assert set(done.evaluated) == set(space.enumerate())
    assert problem.accuracy(done.best) == max(map(problem.accuracy, space.enumerate()))


def test_few_feasible_architectures_in_a_large_space_are_all_found(strategy: Strategy) -> None:
    space = Layers(20, 4)
    done = run(strategy, posed(space, _constant, {"macs": total}, {"macs": 2.0}))
    # All layers 0 but for one that is 2, or at most two that are 1.
    feasible = 1 + 20 + 20 + 190
    assert feasible / space.size < 1e-6
    assert len(done.evaluated) == strategy.budget
    assert len({total(arch) for arch in done.evaluated}) > 1


def test_impossible_limits_are_refused(strategy: Strategy) -> None:
    problem = posed(Layers(4, 3), _constant, {"macs": lambda arch: 10.0 + total(arch)}, {"macs": 5.0})
    message = r"^max_macs=5 cannot be met: networks of this space have 10 to 18 MACs$"
    with pytest.raises(ValueError, match=message):
        run(strategy, problem)
    with pytest.raises(ValueError, match=message):
        problem.check()


def test_a_search_that_crashed_is_resumed_with_the_scores_it_had(
    strategy: Strategy, make_problem: Callable[[], Problem]
) -> None:
    whole = run(strategy, make_problem(), 5)
    remembered: dict[Arch, np.ndarray] = {}

    def resumable(stop: int) -> Problem:
        problem = make_problem()
        inner = problem._score

        def score(codes: Codes) -> np.ndarray:
            for row, arch in enumerate(problem.decode(codes)):
                if arch not in remembered:
                    if len(remembered) == stop:
                        raise KeyboardInterrupt
                    remembered[arch] = np.asarray(inner(codes[[row]]))[0]
            return np.array([remembered[arch] for arch in problem.decode(codes)])

        problem._score = score
        return problem

    for crash_at in (7, strategy.budget * 3 // 4):
        with pytest.raises(KeyboardInterrupt):
            run(strategy, resumable(crash_at), 5)
        assert len(remembered) == crash_at
    resumed = run(strategy, resumable(1000), 5)
    assert resumed.best == whole.best
    assert list(resumed.evaluated.items()) == list(whole.evaluated.items())
    assert len(remembered) == len(whole.evaluated)


def test_failed_scores_lose(strategy: Strategy) -> None:
    def score(archs: list[Arch]) -> list[tuple[float, float]]:
        return [(float("nan"), 0.0) if arch["layer0"] else (total(arch), 0.0) for arch in archs]

    done = run(strategy, posed(Layers(8, 3), score, {"macs": total}))
    assert done.best["layer0"] == 0
    assert not np.isnan(done.found.scores).any()


def test_only_failed_scores_are_no_error(strategy: Strategy) -> None:
    done = run(strategy, posed(Layers(8, 3), lambda archs: [(float("-inf"),)] * len(archs), {"macs": total}))
    assert total(done.best) == min(map(total, done.evaluated))


def test_the_order_of_hashes_changes_nothing() -> None:
    """Hashes of strings differ from one process to the next, so a search must not depend on the order of a set."""
    program = (
        "import test_search_strategies as t\n"
        "for name in ('one in a hundred', 'conditional'):\n"
        "    for strategy in t.STRATEGIES:\n"
        "        print([arch.to_json() for arch in t.run(strategy, t.PROBLEMS[name]()).evaluated])\n"
    )
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True)
    here = [
        [arch.to_json() for arch in run(strategy, PROBLEMS[name]()).evaluated]
        for name in ("one in a hundred", "conditional")
        for strategy in STRATEGIES
    ]
    assert there.stdout.splitlines() == list(map(str, here))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomSearch(num_samples=0), "search.num_samples must be a whole number of at least 1, got 0"),
        (lambda: RandomSearch(batch_size=2.5), "search.batch_size must be a whole number of at least 1, got 2.5"),  # type: ignore[arg-type]
        (lambda: Evolution(population=True), "search.population must be a whole number of at least 1, got True"),
        (lambda: Evolution(num_parents=0), "search.num_parents must be a whole number of at least 1, got 0"),
        (lambda: Evolution(num_mutations=-1), "search.num_mutations must be a whole number of at least 0, got -1"),
        (
            lambda: Evolution(mutation_probability=1.5),
            "search.mutation_probability must be a number from 0 to 1, got 1.5",
        ),
        (
            lambda: Evolution(population=40),
            r"search\.num_mutations \+ search\.num_crossovers must be at most search\.population, which is 40, got 25 \+ 25",
        ),
        (lambda: NSGA2(generations=0), "search.generations must be a whole number of at least 1, got 0"),
        (
            lambda: NSGA2(crossover_probability=float("nan")),
            "search.crossover_probability must be a number from 0 to 1, got nan",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(make: Callable[[], Strategy], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


# Those that go from one architecture, or one policy, to the next ---------------------------------------------------


def test_local_search_climbs_to_the_top_of_a_sum() -> None:
    """Every option of every choice counts on its own, so the only peak is the best of all 4^12 architectures."""
    problem = Toy(Layers(12, 4))
    done = run(LocalSearch(num_samples=400, num_starts=5, batch_size=100), problem)
    assert problem.accuracy(done.best) == problem.accuracy.range(problem.space)[1]
    assert [len(batch) for batch in problem.batches][:2] == [5, 36]


def test_local_search_begins_again_at_a_peak() -> None:
    """Two peaks of which the lower one has the wider foot: eleven of twelve start there."""
    space = Layers(1, 24)
    heights = {place: (place if place < 22 else 100.0 - 60 * (place == 22)) for place in range(24)}

    class Line(Layers):
        def neighbours(self, arch: Arch) -> Iterator[Arch]:
            for place in (arch.integer("layer0") - 1, arch.integer("layer0") + 1):
                if 0 <= place < 24:
                    yield self.arch({"layer0": place})

    problem = posed(
        Line(1, 24), lambda archs: [heights[arch.integer("layer0")] for arch in archs], {"macs": lambda arch: 1.0}
    )
    assert space.size == 24
    assert run(LocalSearch(num_samples=24, num_starts=1), problem, 1).best["layer0"] == 23


def test_a_controller_learns_to_draw_the_best() -> None:
    """Of 4^8 architectures it draws far better ones in the second half of its budget than at first, and beats random search."""
    problem, random_problem = Toy(Layers(8, 4)), Toy(Layers(8, 4))
    strategy = ControllerSearch(num_samples=600, batch_size=10, learning=ReinforceSettings(lr=0.02))
    scale = problem.accuracy.range(problem.space)[1]
    problem._score = lambda codes: [(problem.accuracy(arch) / scale,) for arch in problem.decode(codes)]
    done = run(strategy, problem)
    scores = [score[0] for score in done.evaluated.values()]
    assert sum(scores[300:]) / 300 > sum(scores[:100]) / 100 + 0.1
    found = run(RandomSearch(num_samples=600), random_problem).best
    assert problem.accuracy(done.best) > problem.accuracy(found)


def test_a_controller_learns_to_keep_limits() -> None:
    space = Layers(10, 4)
    problem = posed(space, lambda archs: [(total(arch) / 30,) for arch in archs], {"macs": total}, {"macs": 12.0})
    policies = []
    learn = Reinforce.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reinforce, "step", lambda self, *given: (policies.append(self.policy), learn(self, *given)))
        run(ControllerSearch(num_samples=400, learning=ReinforceSettings(lr=0.02)), problem)
    fresh = LSTMPolicy(space, PolicySettings(), 0)
    drawn = [
        sum(feasible(problem, arch) for arch in policy.archs(policy.draw(200, torch.Generator().manual_seed(1)).codes))
        for policy in (fresh, policies[-1])
    ]
    assert drawn[1] > drawn[0] + 60


def test_derivation_takes_the_best_that_the_sampler_draws() -> None:
    space = Layers(3, 4)
    sampler = UniformSampler(space, seed=0, num_paths=2)
    problem = Toy(space, limits={"macs": share(Sums(space, 2), space, 0.6)})
    done = run(Derivation(num_samples=7, draw=sampler.sample), problem)
    assert len(done.evaluated) == 7
    assert problem.accuracy(done.best) == max(map(problem.accuracy, done.evaluated))
    assert all(feasible(problem, arch) for arch in done.evaluated)
    none = posed(space, _constant, {"macs": lambda arch: 10.0}, {"macs": 5.0})
    with pytest.raises(ValueError, match="none of 500 architectures that the sampler drew meets max_macs=5"):
        run(Derivation(draw=sampler.sample), none)


def test_derivation_from_a_settled_policy_takes_what_there_is() -> None:
    space = Layers(3, 4)
    done = run(Derivation(draw=lambda step: [space.largest]), Toy(space))
    assert list(done.evaluated) == [space.largest]
