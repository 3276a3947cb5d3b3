"""What every search strategy promises, over all of them."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from search_toys import Layers, Mirrored, Stages, Sums, Toy, share, stage_macs

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
    Score,
    Strategy,
)
from oneshot.spaces.base import SearchSpace

STRATEGIES: list[Strategy] = [
    RandomSearch(num_samples=60, batch_size=25),
    Evolution(population=20, num_parents=5, num_mutations=8, num_crossovers=8, generations=3),
    NSGA2(population=20, generations=3),
    LocalSearch(num_samples=60, num_starts=5, batch_size=4),
    ControllerSearch(num_samples=60, batch_size=15, policy=PolicySettings(hidden_size=8, num_layers=1)),
]
PROBLEMS: dict[str, Callable[[], Problem]] = {
    "free": lambda: Toy(Layers(12, 4)),
    "half": lambda: _limited(Layers(12, 4), 0.5),
    "one in a hundred": lambda: _limited(Layers(12, 4), 0.25, 0.45),
    "tight": lambda: _limited(Layers(16, 4), 0.12, 0.35),
    "conditional": lambda: Problem(
        Stages(3),
        lambda archs: [(float(len(arch)),) for arch in archs],
        lambda arch: {"macs": stage_macs(arch)},
        {"macs": 2e4},
    ),
}


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


def test_it_uses_its_whole_budget_on_feasible_architectures(
    strategy: Strategy, make_problem: Callable[[], Problem]
) -> None:
    problem = make_problem()
    strategy.search(problem, random.Random(0))
    assert strategy.budget == 60
    assert len(problem.evaluated) == strategy.budget
    for arch in problem.evaluated:
        problem.space.validate(arch)
        assert all(problem._cost(arch, name) <= limit for name, limit in problem.limits.items())


def test_it_evaluates_whole_generations_and_nothing_twice(strategy: Strategy) -> None:
    problem = Toy(Layers(12, 4))
    strategy.search(problem, random.Random(0))
    if not isinstance(strategy, (ControllerSearch, LocalSearch)):
        expected = [25, 25, 10] if isinstance(strategy, RandomSearch) else [20, 20, 20]
        assert [len(batch) for batch in problem.batches] == expected
    scored = [arch for batch in problem.batches for arch in batch]
    assert len(set(scored)) == len(scored)


def test_the_seed_alone_decides(strategy: Strategy, make_problem: Callable[[], Problem]) -> None:
    runs = []
    for seed in (3, 3, 4):
        problem = make_problem()
        best = strategy.search(problem, random.Random(seed))
        runs.append((best, list(problem.evaluated)))
    assert runs[0] == runs[1]
    assert runs[0][1] != runs[2][1]


def test_an_earlier_search_changes_nothing(strategy: Strategy) -> None:
    fresh, used = PROBLEMS["one in a hundred"](), PROBLEMS["one in a hundred"]()
    strategy.search(used, random.Random(1))
    before = len(used.evaluated)
    assert strategy.search(used, random.Random(2)) == strategy.search(fresh, random.Random(2))
    assert len(used.evaluated) > before
    assert set(fresh.evaluated) <= set(used.evaluated)


def test_it_returns_the_best_it_evaluated(strategy: Strategy, make_problem: Callable[[], Problem]) -> None:
    problem = make_problem()
    best = strategy.search(problem, random.Random(0))
    best_score = max(problem.evaluated.values())
    assert problem.evaluated[best] == best_score
    tied = [arch for arch, score in problem.evaluated.items() if score == best_score]
    assert problem.cost_of(best) == min(problem.cost_of(arch) for arch in tied)


def test_later_entries_of_a_score_and_then_the_cost_break_ties(strategy: Strategy) -> None:
    space = Layers(6, 3)
    params = Sums(space, 1)

    def score(archs: Sequence[Arch]) -> list[Score]:
        return [(0.5, float(arch["layer0"] == 1), 0.0) for arch in archs]

    problem = Problem(space, score, lambda arch: {"macs": 1.0, "params": params(arch)}, cost="params")
    best = strategy.search(problem, random.Random(0))
    assert best["layer0"] == 1
    assert params(best) == min(params(arch) for arch in problem.evaluated if arch["layer0"] == 1)


@pytest.mark.parametrize(
    "space", [Layers(2, 4), Mirrored(2, 5), Layers(1, 1), Stages(1)], ids=["layers", "mirrored", "single", "stages"]
)
def test_a_space_smaller_than_the_budget_is_searched_to_its_end(strategy: Strategy, space: SearchSpace) -> None:
    space = space.restrict({"resolution": (16,)}) if isinstance(space, Stages) else space
    problem = Toy(space)
    best = strategy.search(problem, random.Random(0))
    assert set(problem.evaluated) == set(space.enumerate())
    assert problem.accuracy(best) == max(map(problem.accuracy, space.enumerate()))


def test_few_feasible_architectures_in_a_large_space_are_all_found(strategy: Strategy) -> None:
    space = Layers(20, 4)
    limits = {"macs": 2.0}
    problem = Problem(space, lambda archs: [(1.0,)] * len(archs), lambda arch: {"macs": _sum(arch)}, limits)
    strategy.search(problem, random.Random(0))
    # All layers 0 but for one that is 2, or at most two that are 1.
    feasible = 1 + 20 + 20 + 190
    assert feasible / space.size < 1e-6
    assert len(problem.evaluated) == strategy.budget
    assert len({_sum(arch) for arch in problem.evaluated}) > 1


def test_impossible_limits_are_refused(strategy: Strategy) -> None:
    problem = Problem(Layers(4, 3), lambda archs: [], lambda arch: {"macs": 10.0 + _sum(arch)}, {"macs": 5.0})
    with pytest.raises(ValueError, match=r"^max_macs=5 cannot be met: networks of this space have 10 to 18 MACs$"):
        strategy.search(problem, random.Random(0))


@pytest.mark.parametrize("crash_at", [7, 45])
def test_a_search_that_crashed_is_resumed_with_the_scores_it_had(
    strategy: Strategy, make_problem: Callable[[], Problem], crash_at: int
) -> None:
    whole = make_problem()
    best = strategy.search(whole, random.Random(5))

    remembered: dict[Arch, Score] = {}

    def resumable(stop: int) -> Problem:
        problem = make_problem()
        inner = problem._score

        def score(archs: Sequence[Arch]) -> list[Score]:
            for arch in archs:
                if arch not in remembered:
                    if len(remembered) == stop:
                        raise KeyboardInterrupt
                    remembered[arch] = inner([arch])[0]
            return [remembered[arch] for arch in archs]

        problem._score = score
        return problem

    stopped = resumable(crash_at)
    with pytest.raises(KeyboardInterrupt):
        strategy.search(stopped, random.Random(5))
    assert len(remembered) == crash_at
    resumed = resumable(1000)
    assert strategy.search(resumed, random.Random(5)) == best
    assert list(resumed.evaluated.items()) == list(whole.evaluated.items())
    assert len(remembered) == len(whole.evaluated)


def test_failed_scores_lose(strategy: Strategy) -> None:
    def score(archs: Sequence[Arch]) -> list[Score]:
        return [(float("nan"), 0.0) if arch["layer0"] else (float(_sum(arch)), 0.0) for arch in archs]

    problem = Problem(Layers(8, 3), score, lambda arch: {"macs": _sum(arch)})
    assert strategy.search(problem, random.Random(0))["layer0"] == 0
    assert all(entry == entry for score in problem.evaluated.values() for entry in score)


def test_only_failed_scores_are_no_error(strategy: Strategy) -> None:
    problem = Problem(Layers(8, 3), lambda archs: [(float("-inf"),)] * len(archs), lambda arch: {"macs": _sum(arch)})
    best = strategy.search(problem, random.Random(0))
    assert _sum(best) == min(map(_sum, problem.evaluated))


def test_the_order_of_hashes_changes_nothing() -> None:
    """Hashes of strings differ from one process to the next, so a search must not depend on the order of a set."""
    program = (
        "import random, test_search_strategies as t\n"
        "for name in ('one in a hundred', 'conditional'):\n"
        "    for strategy in t.STRATEGIES:\n"
        "        problem = t.PROBLEMS[name]()\n"
        "        strategy.search(problem, random.Random(0))\n"
        "        print([arch.to_json() for arch in problem.evaluated])\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ
            | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == 2 * len(STRATEGIES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomSearch(num_samples=0), "num_samples must be a whole number of at least 1, got 0"),
        (lambda: RandomSearch(batch_size=2.5), "batch_size must be a whole number of at least 1, got 2.5"),  # type: ignore[arg-type]
        (lambda: Evolution(population=True), "population must be a whole number of at least 1, got True"),
        (lambda: Evolution(num_parents=0), "num_parents must be a whole number of at least 1, got 0"),
        (lambda: Evolution(num_mutations=-1), "num_mutations must be a whole number of at least 0, got -1"),
        (lambda: Evolution(mutation_probability=1.5), "mutation_probability must be a number from 0 to 1, got 1.5"),
        (
            lambda: Evolution(population=40),
            r"num_mutations \+ num_crossovers must be at most the population of 40, got 25 \+ 25",
        ),
        (lambda: NSGA2(generations=0), "generations must be a whole number of at least 1, got 0"),
        (
            lambda: NSGA2(crossover_probability=float("nan")),
            "crossover_probability must be a number from 0 to 1, got nan",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(make: Callable[[], Strategy], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


def _sum(arch: Arch) -> float:
    return float(sum(arch.integer(name) for name in arch))


# Those that go from one architecture, or one policy, to the next ---------------------------------------------------


def test_local_search_climbs_to_the_top_of_a_sum() -> None:
    """Every option of every choice counts on its own, so the only peak is the best of all 4^12 architectures."""
    problem = Toy(Layers(12, 4))
    best = LocalSearch(num_samples=400, num_starts=5, batch_size=100).search(problem, random.Random(0))
    assert problem.accuracy(best) == problem.accuracy.range(problem.space)[1]
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

    problem = Problem(
        Line(1, 24), lambda archs: [(heights[arch.integer("layer0")],) for arch in archs], lambda arch: {"macs": 1.0}
    )
    assert space.size == 24
    best = LocalSearch(num_samples=24, num_starts=1).search(problem, random.Random(1))
    assert best["layer0"] == 23


def test_a_controller_learns_to_draw_the_best() -> None:
    """Of 4^8 architectures it draws far better ones in the second half of its budget than at first, and beats random search."""
    problem, random_problem = Toy(Layers(8, 4)), Toy(Layers(8, 4))
    strategy = ControllerSearch(num_samples=600, batch_size=10, learning=ReinforceSettings(lr=0.02))
    scale = problem.accuracy.range(problem.space)[1] / 1e6
    problem._score = lambda archs: [(problem.accuracy(arch) / 1e6 / scale,) for arch in archs]
    best = strategy.search(problem, random.Random(0))
    scores = [score[0] for score in problem.evaluated.values()]
    assert sum(scores[300:]) / 300 > sum(scores[:100]) / 100 + 0.1
    found = RandomSearch(num_samples=600).search(random_problem, random.Random(0))
    assert problem.accuracy(best) > problem.accuracy(found)


def test_a_controller_learns_to_keep_limits() -> None:
    space = Layers(10, 4)
    problem = Problem(
        space, lambda archs: [(_sum(arch) / 30,) for arch in archs], lambda arch: {"macs": _sum(arch)}, {"macs": 12.0}
    )
    policies = []
    learn = Reinforce.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reinforce, "step", lambda self, *given: (policies.append(self.policy), learn(self, *given)))
        ControllerSearch(num_samples=400, learning=ReinforceSettings(lr=0.02)).search(problem, random.Random(0))
    fresh = LSTMPolicy(space, PolicySettings(), 0)
    drawn = [
        sum(problem.feasible(arch) for arch in policy.archs(policy.draw(200, torch.Generator().manual_seed(1)).codes))
        for policy in (fresh, policies[-1])
    ]
    assert drawn[1] > drawn[0] + 60


def test_derivation_takes_the_best_that_the_sampler_draws() -> None:
    space = Layers(3, 4)
    sampler = UniformSampler(space, seed=0, num_paths=2)
    problem = Toy(space, limits={"macs": share(Sums(space, 2), space, 0.6)})
    best = Derivation(num_samples=7, draw=sampler.sample).search(problem, random.Random(0))
    assert len(problem.evaluated) == 7
    assert problem.accuracy(best) == max(map(problem.accuracy, problem.evaluated))
    assert all(problem.feasible(arch) for arch in problem.evaluated)
    none = Problem(space, lambda archs: [], lambda arch: {"macs": 10.0}, {"macs": 5.0})
    with pytest.raises(ValueError, match="none of 500 architectures that the sampler drew meets the limits"):
        Derivation(draw=sampler.sample).search(none, random.Random(0))


def test_derivation_from_a_settled_policy_takes_what_there_is() -> None:
    space = Layers(3, 4)
    problem = Toy(space)
    assert Derivation(draw=lambda step: [space.largest]).search(problem, random.Random(0)) == space.largest
    assert len(problem.evaluated) == 1
