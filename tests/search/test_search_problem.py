"""Scores once, costs once, limits met: what a problem gives its strategies."""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_toys import Layers, Mirrored, Stages, Toy, share, stage_macs

from oneshot.arch import Arch
from oneshot.search import Problem, Score
from oneshot.spaces.base import SearchSpace


def test_only_unseen_architectures_are_scored_and_in_one_call() -> None:
    problem = Toy(Layers(4, 3))
    first, second, third = itertools.islice(problem.space.enumerate(), 3)
    problem.evaluate([first, second, first])
    scores = problem.evaluate([third, second, first, third])
    assert problem.batches == [[first, second], [third]]
    assert scores == [problem.evaluated[arch] for arch in (third, second, first, third)]
    assert list(problem.evaluated) == [first, second, third]
    problem.evaluate([second])
    assert len(problem.batches) == 2


def test_equal_architectures_share_their_score() -> None:
    problem = Toy(Mirrored(2, 3))
    problem.evaluate([problem.space.arch({"layer0": 0, "layer1": 2}), problem.space.arch({"layer0": 2, "layer1": 0})])
    assert [len(batch) for batch in problem.batches] == [1]


def test_nothing_is_kept_of_a_batch_that_failed() -> None:
    def score(archs: Sequence[Arch]) -> list[Score]:
        raise RuntimeError("out of memory")

    problem = Problem(Layers(4, 3), score, lambda arch: {"macs": 1.0})
    with pytest.raises(RuntimeError):
        problem.evaluate([problem.space.smallest])
    assert problem.evaluated == {}


def test_infeasible_architectures_are_never_evaluated() -> None:
    space = Layers(4, 3)
    problem = Problem(space, lambda archs: [(1.0,)] * len(archs), lambda arch: {"macs": _sum(arch)}, {"macs": 3.0})
    with pytest.raises(AssertionError):
        problem.evaluate([space.smallest, space.largest])


def test_costs_are_asked_once_for_each_architecture() -> None:
    asked: list[Arch] = []

    def costs(arch: Arch) -> dict[str, float]:
        asked.append(arch)
        return {"macs": _sum(arch), "latency_ms": 1.0}

    problem = Problem(
        Layers(4, 3), lambda archs: [(1.0,)] * len(archs), costs, {"macs": 3.0, "latency_ms": 2.0}, "latency_ms"
    )
    for _ in range(2):
        problem.check()
        problem.reach()
        for arch in problem.space.enumerate():
            problem.violation(arch)
            problem.cost_of(arch)
            if problem.feasible(arch):
                problem.evaluate([arch])
    assert len(asked) == len(set(asked)) == problem.space.size


def test_costs_that_are_computed_on_demand_are_read_only_where_needed() -> None:
    read: list[str] = []

    class Costs(Mapping[str, float]):
        def __getitem__(self, name: str) -> float:
            read.append(name)
            return {"macs": 10.0, "params": 1.0, "latency_ms": 5.0}[name]

        def __iter__(self) -> Iterator[str]:
            return iter(("macs", "params", "latency_ms"))

        def __len__(self) -> int:
            return 3

        def __contains__(self, name: object) -> bool:
            return name in tuple(self)

    space = Layers(4, 3)
    Problem(space, lambda archs: [], lambda arch: Costs(), {"macs": 9.0, "latency_ms": 9.0}).feasible(space.smallest)
    assert read == ["macs"]
    Problem(space, lambda archs: [], lambda arch: Costs(), {"macs": 11.0}, "params").cost_of(space.smallest)
    assert read == ["macs", "params"]


def test_the_violation_adds_up_over_the_limits() -> None:
    problem = Problem(
        Layers(1, 1),
        lambda archs: [],
        lambda arch: {"macs": 15.0, "params": 8.0, "latency_ms": 6.0},
        {"macs": 10.0, "params": 8.0, "latency_ms": 4.0},
    )
    assert problem.violation(problem.space.smallest) == 0.5 + 0.5


@pytest.mark.parametrize("cost", [math.nextafter(0.1, 1), math.nan, math.inf])
def test_the_violation_is_positive_exactly_where_a_limit_is_exceeded(cost: float) -> None:
    problem = Problem(Layers(1, 1), lambda archs: [], lambda arch: {"macs": cost}, {"macs": 0.1})
    assert not problem.feasible(problem.space.smallest)
    assert problem.violation(problem.space.smallest) > 0


def test_a_loose_limit_leaves_samples_uniform() -> None:
    space = Layers(3, 3)
    problem = Problem(space, lambda archs: [], lambda arch: {"macs": _sum(arch)}, {"macs": 2.0})
    feasible = [arch for arch in space.enumerate() if _sum(arch) <= 2]
    rng = random.Random(0)
    drawn = [problem.sample(rng) for _ in range(100 * len(feasible))]
    counts = [drawn.count(arch) for arch in feasible]
    assert sum(counts) == len(drawn)
    # Counts are binomial around 100 with deviation 10.
    assert min(counts) > 60
    assert max(counts) < 140


@pytest.mark.parametrize(("part", "second"), [(0.1, None), (0.15, 0.35)])
def test_limits_that_one_in_a_million_meets_are_met_in_many_ways(part: float, second: float | None) -> None:
    space = Layers(24, 4)
    toy = Toy(space)
    limits = {"macs": share(toy.macs, space, part)}
    if second is not None:
        limits["params"] = share(toy.params, space, second)
    problem = Toy(space, limits=limits)
    rng = random.Random(0)
    assert not any(problem.feasible(space.sample(rng)) for _ in range(10_000))
    samples = [problem.sample(rng) for _ in range(30)]
    assert all(map(problem.feasible, samples))
    assert len(set(samples)) > 25
    # Not the smallest networks only: most of the budget is used.
    low, _ = problem.macs.range(space)
    used = [(problem.macs(arch) - low) / (limits["macs"] - low) for arch in samples]
    assert sum(used) / len(used) > 0.6


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), part=st.floats(0.0, 1.0), stages=st.booleans())
def test_whatever_can_be_met_is_repaired(seed: int, part: float, stages: bool) -> None:
    space: SearchSpace = Stages(2) if stages else Layers(8, 3)
    rng = random.Random(seed)
    macs = stage_macs if stages else Toy(space, seed).macs
    low, high = (16**2 * 16, 32**2 * 46) if stages else Toy(space, seed).macs.range(space)
    problem = Problem(space, lambda archs: [], lambda arch: {"macs": macs(arch)}, {"macs": low + part * (high - low)})
    for arch in (space.largest, space.sample(rng)):
        repaired = problem.repair(arch, rng)
        assert repaired is not None
        space.validate(repaired)
        assert macs(repaired) <= problem.limits["macs"]
        assert repaired == arch or macs(arch) > problem.limits["macs"]


def test_repair_gives_up_on_the_impossible() -> None:
    problem = Problem(Layers(4, 3), lambda archs: [], lambda arch: {"macs": 10.0 + _sum(arch)}, {"macs": 9.0})
    assert problem.repair(problem.space.largest, random.Random(0)) is None


def test_samples_need_no_repair_to_be_feasible_and_different() -> None:
    class Unrepairable(Problem):
        def repair(self, arch: Arch, rng: random.Random) -> Arch | None:
            return None

    space = Layers(20, 4)
    problem = Unrepairable(space, lambda archs: [], lambda arch: {"macs": _sum(arch)}, {"macs": 4.0})
    rng = random.Random(0)
    samples = [problem.sample(rng) for _ in range(30)]
    assert all(map(problem.feasible, samples))
    assert len(set(samples)) > 25


def test_repair_leaves_local_minima() -> None:
    """No single change helps where one cost rises as the other falls, until two of three special layers are in place."""
    space = Layers(8, 4)
    special = ("layer0", "layer3", "layer5")

    def costs(arch: Arch) -> dict[str, float]:
        bonus = 24.0 if all(arch[name] == 3 for name in special) else 0.0
        return {"macs": 20.0 + _sum(arch) - bonus, "params": 44.0 - _sum(arch) - bonus}

    problem = Problem(space, lambda archs: [], costs, {"macs": 20.0, "params": 20.0})
    rng = random.Random(0)
    repaired = [problem.repair(space.sample(rng), rng) for _ in range(30)]
    found = [arch for arch in repaired if arch is not None]
    assert len(found) > 22
    assert all(problem.feasible(arch) and all(arch[name] == 3 for name in special) for arch in found)
    problem.check()
    assert problem.feasible(problem.sample(rng))


@settings(deadline=None, max_examples=25)
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
    problem = Problem(space, lambda archs: [], lambda arch: {"macs": stage_macs(arch)}, {"macs": 1.0})
    macs = [stage_macs(arch) for arch in space.enumerate()]
    assert problem.reach() == {"macs": (min(macs), max(macs))}


def test_reach_looks_from_both_ends() -> None:
    space = Layers(4, 3)
    problem = Problem(
        space,
        lambda archs: [],
        lambda arch: {"macs": 100 + _sum(arch) - (50 if arch == space.largest else 0)},
        {"macs": 1},
    )
    assert problem.reach() == {"macs": (58, 107)}


def test_reach_follows_choices_that_go_together() -> None:
    """Each pair's smallest cost is reached in several rounds: from (0, 0) by (0, 1), (1, 1), (1, 2) and (2, 2)."""
    space = Layers(6, 5)

    def macs(arch: Arch) -> float:
        values = [arch.integer(name) for name in arch]
        pairs = zip(values[::2], values[1::2], strict=True)
        return 1.0 + sum(10 * (second - 2) ** 2 + 5 * (first - second) ** 2 for first, second in pairs)

    problem = Problem(space, lambda archs: [], lambda arch: {"macs": macs(arch)}, {"macs": 1.0})
    assert problem.reach()["macs"][0] == 1.0


def test_reach_of_a_space_with_canonical_forms() -> None:
    problem = Toy(Mirrored(5, 3), limits={"macs": 1.0})
    macs = [problem.macs(arch) for arch in problem.space.enumerate()]
    assert problem.reach() == {"macs": (min(macs), max(macs))}


@pytest.mark.parametrize("limits", [None, {"macs": 3.0}, {"macs": 3.0, "params": 6.0}])
def test_limits_that_can_be_met_pass(limits: dict[str, float] | None) -> None:
    Problem(Layers(4, 3), lambda archs: [], _opposed, limits).check()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"macs": 1e5}, "max_macs=1e5 cannot be met: networks of this space have 3.12M to 22.3M MACs"),
        (
            {"macs": 3114999, "params": 4e6, "latency_ms": 2.5},
            "max_macs=3.114999e6 and max_latency_ms=2.5 cannot be met: networks of this space have 3.12M to 22.3M MACs "
            "and 3 to 11 ms",
        ),
        (
            {"macs": 4e6, "latency_ms": 4},
            "max_macs=4e6 and max_latency_ms=4 cannot be met together: networks of this space have 3.12M to 22.3M MACs "
            "and 3 to 11 ms",
        ),
        ({"params": 100}, "max_params=100 cannot be met: networks of this space have 1.5k parameters"),
        ({"energy": 0.5}, "max_energy=0.5 cannot be met: networks of this space have 1 energy"),
    ],
)
def test_limits_that_cannot_be_met_are_named_with_what_the_space_reaches(
    limits: dict[str, float], message: str
) -> None:
    def costs(arch: Arch) -> dict[str, float]:
        total = _sum(arch)
        return {"macs": 3_115_000 + 2.4e6 * total, "params": 1500, "latency_ms": 11 - total, "energy": 1}

    problem = Problem(Layers(4, 3), lambda archs: [], costs, limits)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared as a whole
        problem.check()
    assert str(error.value) == message


@pytest.mark.parametrize(("limits", "cost"), [({"mac": 1.0}, "macs"), ({"macs": 1.0}, "mac")], ids=["limit", "cost"])
def test_a_mistyped_cost_is_answered_with_the_nearest(limits: dict[str, float], cost: str) -> None:
    problem = Problem(Layers(4, 3), lambda archs: [], _opposed, limits, cost)
    with pytest.raises(
        ValueError, match=r"^'mac' is not a known cost \(allowed: macs, params\); did you mean 'macs'\?$"
    ):
        problem.check()


@pytest.mark.parametrize("limit", [0, -1.0, math.nan, "6e6", None, True])
def test_limits_are_positive_numbers(limit: float) -> None:
    with pytest.raises(ValueError, match=r"^max_macs must be a positive number, got "):
        Problem(Layers(4, 3), lambda archs: [], _opposed, {"macs": limit})


def _sum(arch: Arch) -> float:
    return float(sum(arch.integer(name) for name in arch))


def _opposed(arch: Arch) -> dict[str, float]:
    return {"macs": _sum(arch), "params": 8 - _sum(arch)}


def test_a_cost_with_a_guide_is_read_only_where_walks_arrive() -> None:
    space = Layers(12, 3)
    read: list[Arch] = []

    class Costs(dict[str, float]):
        def __init__(self, arch: Arch) -> None:
            super().__init__(macs=float(sum(int(value) for value in arch.values())), latency_ms=0.0)
            self.arch = arch

        def __getitem__(self, name: str) -> float:
            if name == "latency_ms":
                read.append(self.arch)
                return 1.0 + super().__getitem__("macs")
            return super().__getitem__(name)

    problem = Problem(
        space, lambda archs: [(0.0,)] * len(archs), Costs, {"latency_ms": 3.0}, guides={"latency_ms": "macs"}
    )
    problem.check()
    drawn = [problem.sample(random.Random(seed)) for seed in range(5)]
    assert all(sum(int(value) for value in arch.values()) <= 2 for arch in drawn)
    assert len(set(drawn)) > 1
    guided = len(set(read))
    unguided = Problem(space, lambda archs: [(0.0,)] * len(archs), Costs, {"latency_ms": 3.0})
    read.clear()
    for seed in range(5):
        unguided.sample(random.Random(seed))
    assert guided < len(set(read)) / 2
    with pytest.raises(ValueError, match="cannot be met"):
        Problem(space, lambda archs: [], Costs, {"latency_ms": 0.5}, guides={"latency_ms": "macs"}).check()
