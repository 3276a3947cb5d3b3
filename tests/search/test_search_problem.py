"""Scores once, costs once, limits met: what a problem gives its strategies."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_toys import Layers, Mirrored, Stages, Toy, feasible, posed, sample, share, stage_macs, total

from oneshot.arch import Arch
from oneshot.search import History, Problem
from oneshot.search.limits import explain_limits, format_range
from oneshot.spaces.base import SearchSpace

OPPOSED = {"macs": total, "params": lambda arch: 8 - total(arch)}


def test_only_unseen_architectures_are_scored_and_in_one_call() -> None:
    problem = Toy(Layers(4, 3))
    first, second, third = itertools.islice(problem.space.enumerate(), 3)
    history = begin(problem)
    assert propose(history, [first, second, first]) == 2
    assert problem.decode(history.waiting) == problem.decode(history.evaluate().codes) == [first, second]
    assert propose(history, [third, second, first, third]) == 1
    assert history.find(problem.coding.encode([third, second, first])).tolist() == [-1, 1, 0]
    history.evaluate()
    assert problem.batches == [[first, second], [third]]
    assert problem.decode(history.evaluated.codes) == [first, second, third]
    assert history.find(problem.coding.encode([third, second, first])).tolist() == [2, 1, 0]
    propose(history, [second])
    assert len(history.evaluate()) == 0
    assert len(problem.batches) == 2


def test_equal_architectures_share_their_score() -> None:
    """Also where codes are made by hand: several that build one network, or with options of choices that are not there."""
    problem = Toy(Mirrored(2, 3))
    history = begin(problem)
    assert history.propose(np.array([[0, 2], [2, 0]])) == 1
    history.evaluate()
    assert [len(batch) for batch in problem.batches] == [1]
    stages = begin(Toy(Stages(1)))
    assert stages.propose(np.array([[0, 0, 1, 0, 2], [0, 0, 1, 2, 1], [0, 0, 1, -1, -1]])) == 1
    assert stages.waiting.tolist() == [[0, 0, 1, -1, -1]]
    for wrong in ([0, 0, 3, 0, 0], [0, 2, 1, 0, -1]):
        with pytest.raises(ValueError, match="row 0 is no architecture of this space: option"):
            stages.propose(np.array([wrong]))


def test_nothing_is_kept_of_a_batch_that_failed() -> None:
    def score(archs: list[Arch]) -> list[float]:
        raise RuntimeError("out of memory")

    history = begin(posed(Layers(4, 3), score, {"macs": lambda arch: 1.0}))
    with pytest.raises(RuntimeError):
        history.evaluate(fill_to=1)
    assert len(history.evaluated) == 0


def test_infeasible_architectures_are_never_evaluated() -> None:
    space = Layers(4, 3)
    problem = posed(space, lambda archs: [1.0] * len(archs), {"macs": total}, {"macs": 3.0})
    history = begin(problem)
    assert propose(history, [space.largest, space.smallest, space.largest]) == 1
    assert problem.decode(history.evaluate().codes) == [space.smallest]


def test_the_budget_is_never_exceeded() -> None:
    problem = Toy(Layers(4, 3))
    history = begin(problem, budget=5)
    assert propose(history, itertools.islice(problem.space.enumerate(), 3)) == 3
    history.fill(4)
    assert (len(history.waiting), history.left) == (4, 1)
    assert propose(history, problem.space.enumerate()) == 1
    history.vary(lambda count: problem.sample(count, np.random.default_rng(0)), 3)
    assert len(history.evaluate(fill_to=9)) == 5
    assert len(history.evaluate(fill_to=9)) == 0


def test_slow_costs_are_asked_once_for_each_architecture() -> None:
    asked: list[Arch] = []

    def latency(arch: Arch) -> float:
        asked.append(arch)
        return 1.0

    space = Layers(4, 3)
    limits, guides = {"macs": 3.0, "latency_ms": 2.0}, {"latency_ms": "macs"}
    costs = {"macs": total, "latency_ms": latency}
    problem = posed(space, lambda archs: [1.0] * len(archs), costs, limits, "latency_ms", guides)
    for number in range(2):
        problem.check()
        problem.reach()
        everything = problem.coding.encode(space.enumerate())
        problem.violation(everything)
        met, _ = problem.examine(everything)
        history = History(problem, int(met.sum()), np.random.default_rng(number))
        history.propose(everything)
        assert len(history.evaluate()) == met.sum()
    within = [arch for arch in space.enumerate() if total(arch) <= 3]
    assert len(asked) == len(set(asked))
    assert set(asked) == {*within, space.largest}  # for the range


def test_slow_costs_are_read_only_where_the_others_are_met() -> None:
    read: list[str] = []

    def cost(name: str, value: float) -> Callable[[Arch], float]:
        return lambda arch: (read.append(name), value)[1]

    space = Layers(4, 3)
    costs = {"latency_ms": cost("latency_ms", 5.0), "macs": cost("macs", 10.0), "params": cost("params", 1.0)}
    guides = {"latency_ms": "macs"}
    over = posed(space, lambda archs: [], costs, {"latency_ms": 9.0, "macs": 9.0}, guides=guides)
    assert not feasible(over, space.smallest)
    assert np.isnan(over.examine(over.coding.encode([space.smallest]))[1]["latency_ms"]).all()
    assert over.violation(over.coding.encode([space.smallest])).tolist() == [pytest.approx(1 / 9)]
    assert set(read) == {"macs"}
    read.clear()
    within = posed(space, lambda archs: [], costs, {"macs": 11.0}, "params")
    assert within.examine(within.coding.encode([space.smallest]))[1].keys() == {"macs", "params"}
    assert read == ["macs", "params"]


def test_the_violation_adds_up_over_the_limits() -> None:
    costs = {"macs": lambda arch: 15.0, "params": lambda arch: 8.0, "latency_ms": lambda arch: 6.0}
    problem = posed(Layers(1, 1), lambda archs: [], costs, {"macs": 10.0, "params": 8.0, "latency_ms": 4.0})
    assert problem.violation(np.zeros((1, 1), dtype=np.int16)).tolist() == [0.5 + 0.5]


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("cost", [math.nextafter(0.1, 1), math.nan, math.inf])
def test_the_violation_is_positive_exactly_where_a_limit_is_exceeded(cost: float, guided: bool) -> None:
    costs = {"macs": lambda arch: 1.0, "latency_ms": lambda arch: cost}
    guides = {"latency_ms": "macs"} if guided else {}
    problem = posed(Layers(1, 1), lambda archs: [], costs, {"latency_ms": 0.1}, guides=guides)
    assert not feasible(problem, problem.coding.space.smallest)
    assert (problem.violation(np.zeros((1, 1), dtype=np.int16)) > 0).all()


def test_a_loose_limit_leaves_samples_uniform() -> None:
    space = Layers(3, 3)
    problem = posed(space, lambda archs: [], {"macs": total}, {"macs": 2.0})
    possible = [arch for arch in space.enumerate() if total(arch) <= 2]
    drawn = Counter(sample(problem, 200 * len(possible)))
    assert drawn.keys() == set(possible)
    # Counts are binomial around 200 with deviation 14.
    assert min(drawn.values()) > 140
    assert max(drawn.values()) < 260


def test_a_network_that_several_codes_build_comes_as_often_as_they_do() -> None:
    drawn = Counter(sample(Toy(Mirrored(2, 2)), 4000))
    counts = {tuple(arch.values()): count for arch, count in drawn.items()}
    assert counts.keys() == {(0, 0), (0, 1), (1, 1)}
    # A half of all, and quarters: within five deviations of 32 and 27.
    assert abs(counts[0, 1] - 2000) < 160
    assert abs(counts[0, 0] - 1000) < 137


@pytest.mark.parametrize(("part", "second"), [(0.1, None), (0.15, 0.35)])
def test_limits_that_one_in_a_million_meets_are_met_in_many_ways(part: float, second: float | None) -> None:
    space = Layers(24, 4)
    toy = Toy(space)
    limits = {"macs": share(toy.macs, space, part)}
    if second is not None:
        limits["params"] = share(toy.params, space, second)
    problem = Toy(space, limits=limits)
    assert not problem.feasible(problem.coding.sample(10_000, np.random.default_rng(0))).any()
    samples = sample(problem, 30)
    assert all(feasible(problem, arch) for arch in samples)
    assert len(set(samples)) > 25
    # Not the smallest networks only: most of the budget is used.
    low, _ = problem.macs.range(space)
    used = [(problem.macs(arch) - low) / (limits["macs"] - low) for arch in samples]
    assert sum(used) / len(used) > 0.6


def test_samples_of_a_tight_limit_differ() -> None:
    problem = posed(Layers(20, 4), lambda archs: [], {"macs": total}, {"macs": 2.0})  # one in a billion
    drawn = sample(problem, 400)
    assert max(map(total, drawn)) <= 2
    assert len(set(drawn)) > 120  # of 231


def test_samples_of_limits_that_pull_against_each_other_differ() -> None:
    """Mixing with one feasible architecture leaves hardly anything else here: 232 of 4^16 meet both limits."""
    space = Layers(16, 4)
    toy = Toy(space)
    limits = {"macs": share(toy.macs, space, 0.12), "params": share(toy.params, space, 0.35)}
    assert len(set(sample(Toy(space, limits=limits), 200))) > 60


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), part=st.floats(0.0, 1.0), stages=st.booleans())
def test_whatever_can_be_met_is_repaired(seed: int, part: float, stages: bool) -> None:
    space: SearchSpace = Stages(2) if stages else Layers(8, 3)
    rng = random.Random(seed)
    macs = stage_macs if stages else Toy(space, seed).macs
    low, high = (16**2 * 16, 32**2 * 46) if stages else Toy(space, seed).macs.range(space)
    problem = posed(space, lambda archs: [], {"macs": macs}, {"macs": low + part * (high - low)})
    for arch in (space.largest, space.sample(rng)):
        (repaired,) = repair(problem, [arch], seed)
        space.validate(repaired)
        assert macs(repaired) <= problem.limits["macs"]
        assert repaired == arch or macs(arch) > problem.limits["macs"]


def test_repair_gives_up_on_the_impossible() -> None:
    problem = posed(Layers(4, 3), lambda archs: [], {"macs": lambda arch: 10.0 + total(arch)}, {"macs": 9.0})
    with pytest.raises(ValueError, match="max_macs=9 cannot be met"):
        repair(problem, [problem.coding.space.largest])


def test_repair_keeps_what_it_can() -> None:
    problem = posed(Layers(10, 4), lambda archs: [], {"macs": total}, {"macs": 12.0})
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


def test_repair_leaves_local_minima() -> None:
    """No single change helps where one cost rises as the other falls, until two of three special layers are in place."""
    space = Layers(8, 4)
    special = ("layer0", "layer3", "layer5")

    def bonus(arch: Arch) -> float:
        return 24.0 if all(arch[name] == 3 for name in special) else 0.0

    costs = {
        "macs": lambda arch: 20.0 + total(arch) - bonus(arch),
        "params": lambda arch: 44 - total(arch) - bonus(arch),
    }
    problem = posed(space, lambda archs: [], costs, {"macs": 20.0, "params": 20.0})
    problem.check()
    rng = random.Random(0)
    found = [*repair(problem, [space.sample(rng) for _ in range(30)]), *sample(problem, 3)]
    assert all(feasible(problem, arch) and all(arch[name] == 3 for name in special) for arch in found)
    assert len(set(found)) > 20


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), num_layers=st.integers(1, 6), num_options=st.integers(1, 3))
def test_reach_is_exact_where_costs_add_up(seed: int, num_layers: int, num_options: int) -> None:
    problem = Toy(Layers(num_layers, num_options), seed, limits={"macs": 1.0, "params": 1.0})
    archs = list(problem.space.enumerate())
    assert problem.reach() == {
        "macs": (min(map(problem.macs, archs)), max(map(problem.macs, archs))),
        "params": (min(map(problem.params, archs)), max(map(problem.params, archs))),
    }


def test_reach_of_a_space_with_inactive_choices() -> None:
    space = Stages(2)
    problem = posed(space, lambda archs: [], {"macs": stage_macs}, {"macs": 1.0})
    macs = [stage_macs(arch) for arch in space.enumerate()]
    assert problem.reach() == {"macs": (min(macs), max(macs))}


def test_reach_looks_from_both_ends() -> None:
    space = Layers(4, 3)
    macs = {"macs": lambda arch: 100 + total(arch) - (50 if arch == space.largest else 0)}
    assert posed(space, lambda archs: [], macs, {"macs": 1}).reach() == {"macs": (58, 107)}


def test_reach_follows_choices_that_go_together() -> None:
    """Each pair's smallest cost is reached in several rounds: from (0, 0) by (0, 1), (1, 1), (1, 2) and (2, 2)."""
    space = Layers(6, 5)

    def macs(arch: Arch) -> float:
        values = [arch.integer(name) for name in arch]
        pairs = zip(values[::2], values[1::2], strict=True)
        return 1.0 + sum(10 * (second - 2) ** 2 + 5 * (first - second) ** 2 for first, second in pairs)

    assert posed(space, lambda archs: [], {"macs": macs}, {"macs": 1.0}).reach()["macs"][0] == 1.0


def test_reach_of_a_space_with_canonical_forms() -> None:
    problem = Toy(Mirrored(5, 3), limits={"macs": 1.0})
    macs = [problem.macs(arch) for arch in problem.space.enumerate()]
    assert problem.reach() == {"macs": (min(macs), max(macs))}


@pytest.mark.parametrize("limits", [None, {"macs": 3.0}, {"macs": 3.0, "params": 6.0}])
def test_limits_that_can_be_met_pass(limits: dict[str, float] | None) -> None:
    posed(Layers(4, 3), lambda archs: [], OPPOSED, limits).check()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"macs": 1e5}, "max_macs=1e5 cannot be met: networks of this space have 3.115M to 22.32M MACs"),
        (
            {"macs": 3114999, "params": 4e6, "latency_ms": 2.5},
            "max_macs=3.114999e6 and max_latency_ms=2.5 cannot be met: networks of this space have 3.115M to 22.32M MACs "
            "and 3 to 11 ms",
        ),
        (
            {"macs": 4e6, "latency_ms": 4},
            "max_macs=4e6 and max_latency_ms=4 cannot be met together: networks of this space have 3.115M to 22.32M MACs "
            "and 3 to 11 ms",
        ),
        ({"params": 100}, "max_params=100 cannot be met: networks of this space have 1.5k parameters"),
        ({"energy": 0.5}, "max_energy=0.5 cannot be met: networks of this space have 1 energy"),
    ],
)
def test_limits_that_cannot_be_met_are_named_with_what_the_space_reaches(
    limits: dict[str, float], message: str
) -> None:
    costs = {
        "macs": lambda arch: 3_115_000 + 2.4e6 * total(arch),
        "params": lambda arch: 1500,
        "latency_ms": lambda arch: 11 - total(arch),
        "energy": lambda arch: 1,
    }
    problem = posed(Layers(4, 3), lambda archs: [], costs, limits)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared as a whole
        problem.check()
    assert str(error.value) == message


def test_limits_and_ranges_are_given_as_the_log_gives_them() -> None:
    assert explain_limits({"params": 111_816.42}, {"params": (1_380_104, 11_181_642)}, {"params": "1%"}) == (
        "max_params=1% (111.8k) cannot be met: networks of this space have 1.381M to 11.18M parameters"
    )
    assert format_range("macs", 999_960.0, 99_999_900.0) == "1M to 100M MACs"


@pytest.mark.parametrize(("limits", "cost"), [({"mac": 1.0}, "macs"), ({"macs": 1.0}, "mac")], ids=["limit", "cost"])
def test_a_mistyped_cost_is_answered_with_the_nearest(limits: dict[str, float], cost: str) -> None:
    with pytest.raises(
        ValueError, match=r"^'mac' is not a known cost \(allowed: macs, params\); did you mean 'macs'\?$"
    ):
        posed(Layers(4, 3), lambda archs: [], OPPOSED, limits, cost)


@pytest.mark.parametrize("limit", [0, -1.0, math.nan, "6e6", None, True])
def test_limits_are_positive_numbers(limit: float) -> None:
    with pytest.raises(ValueError, match=r"^max_macs must be a positive number, got "):
        posed(Layers(4, 3), lambda archs: [], OPPOSED, {"macs": limit})


def test_a_cost_with_a_guide_is_read_only_where_walks_arrive() -> None:
    read: list[Arch] = []

    def latency(arch: Arch) -> float:
        read.append(arch)
        return 1.0 + total(arch)

    def problem(limit: float, **guides: str) -> Problem:
        costs = {"macs": total, "latency_ms": latency}
        return posed(Layers(12, 3), lambda archs: [], costs, {"latency_ms": limit}, guides=guides)

    guided = problem(3.0, latency_ms="macs")
    guided.check()
    drawn = [arch for seed in range(5) for arch in sample(guided, 1, seed)]
    assert all(total(arch) <= 2 for arch in drawn)
    assert len(set(drawn)) > 1
    num_guided = len(set(read))
    assert num_guided == len(read)
    unguided = problem(3.0)
    read.clear()
    for seed in range(5):
        sample(unguided, 1, seed)
    assert num_guided < len(set(read)) / 2
    with pytest.raises(ValueError, match="cannot be met"):
        problem(0.5, latency_ms="macs").check()


def begin(problem: Problem, budget: int = 100) -> History:
    return History(problem, budget, np.random.default_rng(0))


def propose(history: History, archs: Iterable[Arch]) -> int:
    return history.propose(history.problem.coding.encode(archs))


def repair(problem: Problem, archs: list[Arch], seed: int = 0) -> list[Arch]:
    return problem.decode(problem.repair(problem.coding.encode(archs), np.random.default_rng(seed)))
