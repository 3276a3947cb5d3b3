"""What every sampler promises, and what each one is there for."""

import functools
import io
import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
import torch
from sampler_spaces import Decisions, Mirrored, Staged

from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.policies import PolicySettings, ReinforceSettings
from oneshot.samplers import (
    AttentiveSampler,
    ControllerSampler,
    DifferentiableSampler,
    FairSampler,
    MultinomialSampler,
    Sampler,
    SandwichSampler,
    UniformSampler,
)
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3
from oneshot.spaces.base import SearchSpace

SAMPLERS = {
    "uniform": UniformSampler,
    "fair": FairSampler,
    "sandwich": SandwichSampler,
    "controller": functools.partial(ControllerSampler, num_updates=3, num_rewarded=4, policy=PolicySettings(8)),
    "multinomial": functools.partial(MultinomialSampler, num_rewarded=20, lr=0.05),
    "attentive": functools.partial(AttentiveSampler, num_observations=200),
    "differentiable": DifferentiableSampler,
}
SPACES = [
    Decisions(4, 4, 4, 4),
    Decisions(3, 2, 7),
    Staged(),
    Mirrored(3, 3),
    NASBenchMacro(),
    OFAMobileNetV3(num_classes=10, resolutions=(24, 32)),
]


@pytest.fixture(autouse=True)
def _one_cost_table_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneshot.samplers.attentive.CostTable", cost_table)


@functools.lru_cache
def cost_table(space: SearchSpace) -> CostTable:
    return CostTable(space)


every_sampler = pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
every_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
Make = Callable[..., Sampler]


def test_every_sampler_of_the_package_is_tested() -> None:
    ours = {sampler for sampler in Sampler.__subclasses__() if sampler.__module__.startswith("oneshot.")}
    assert {getattr(sampler, "func", sampler) for sampler in SAMPLERS.values()} == ours


@every_sampler
@every_space
def test_architectures_are_valid(make: Make, space: SearchSpace) -> None:
    sampler = make(space)
    for step in range(30):
        archs = sampler.sample(step)
        assert archs
        for arch in archs:
            space.validate(arch)


@every_sampler
@every_space
def test_a_step_is_a_function_of_seed_and_step(make: Make, space: SearchSpace) -> None:
    forward = {step: make(space, seed=3).sample(step) for step in range(20)}
    sampler = make(space, seed=3)
    random.seed(0)
    torch.manual_seed(0)
    assert {step: sampler.sample(step) for step in reversed(range(20))} == dict(reversed(forward.items()))
    assert sampler.sample(7) == forward[7]


@every_sampler
def test_it_leaves_the_global_generator_alone(make: Make) -> None:
    random.seed(5)
    make(SPACES[0]).sample(0)
    drawn = random.random()
    random.seed(5)
    assert random.random() == drawn


@every_sampler
def test_steps_and_seeds_differ(make: Make) -> None:
    space = Decisions(*[4] * 20)
    steps = [tuple(make(space, seed=0).sample(step)) for step in range(50)]
    seeds = [tuple(make(space, seed=seed).sample(0)) for seed in range(50)]
    assert len(set(steps)) == len(set(seeds)) == 50


@every_sampler
def test_state_round_trip(make: Make) -> None:
    space = SPACES[2]
    sampler = make(space, seed=1)
    for step in range(5):
        sampler.sample(step)
        sampler.learn(step, reward)
    file = io.BytesIO()
    torch.save(sampler.state_dict(), file)
    file.seek(0)
    again = make(space, seed=1)
    again.load_state_dict(torch.load(file, weights_only=True))
    for one in (sampler, again):
        one.learn(5, reward)
    assert [again.sample(step) for step in range(5, 30)] == [sampler.sample(step) for step in range(5, 30)]
    assert str(again.probabilities(6)) == str(sampler.probabilities(6))


def reward(archs: Sequence[Arch]) -> list[float]:
    """Higher where more choices take their last option."""
    return [sum(value in ("b", 3) for value in arch.values()) / 4 for arch in archs]


# Samplers that learn -------------------------------------------------------------------------------------------------


LEARNING = [name for name in SAMPLERS if name in ("controller", "multinomial")]


@pytest.mark.parametrize("name", LEARNING)
@every_space
def test_a_sampler_that_learns_asks_for_rewards_and_says_what_it_learned(name: str, space: SearchSpace) -> None:
    sampler = SAMPLERS[name](space, seed=2)
    asked: list[Arch] = []

    def ask(archs: Sequence[Arch]) -> list[float]:
        asked.extend(archs)
        return [0.25] * len(archs)

    values = sampler.learn(7, ask)
    assert len(asked) == {"controller": 12, "multinomial": 20}[name]
    for arch in asked:
        space.validate(arch)
    assert values["policy_reward/mean"] == pytest.approx(0.25)
    assert values["policy_entropy/nats"] > 0
    probabilities = sampler.probabilities(7)
    assert list(probabilities) == [choice.name for choice in space.choices]
    for choice in space.choices:
        assert list(probabilities[choice.name]) == list(choice.options)
        assert sum(probabilities[choice.name].values()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", LEARNING)
def test_what_is_learned_changes_what_is_drawn(name: str) -> None:
    space = Decisions(*[4] * 6)
    make = {
        "controller": functools.partial(
            ControllerSampler, learning=ReinforceSettings(lr=0.05), policy=PolicySettings(16)
        ),
        "multinomial": functools.partial(MultinomialSampler, lr=0.02),
    }[name]
    sampler = make(space, seed=0)

    def last_option(archs: Sequence[Arch]) -> list[float]:
        return [float(arch["choice0"] == 3) for arch in archs]

    before = sampler.probabilities(0)["choice0"][3]
    for epoch in range(4):
        sampler.learn(epoch, last_option)
    assert sampler.probabilities(4)["choice0"][3] > before + 0.1
    drawn = [sampler.sample(step)[0]["choice0"] for step in range(200)]
    assert drawn.count(3) > 200 * (before + 0.05)


@pytest.mark.parametrize("make", [ControllerSampler, MultinomialSampler])
def test_costs_enter_the_reward_as_in_mnasnet(make: Callable[..., Sampler]) -> None:
    space = NASBenchMacro()
    table = cost_table(space)
    sampler = make(space, num_rewarded=5, cost="macs", cost_target=2e7, cost_weight=-0.5)
    asked: list[Arch] = []
    values = sampler.learn(0, lambda archs: asked.extend(archs) or [0.8] * len(archs))
    expected = [0.8 * (table.cost(arch).macs / 2e7) ** -0.5 for arch in asked]
    assert values["policy_reward/mean"] == pytest.approx(sum(expected) / len(expected))
    with pytest.raises(ValueError, match="cost is macs or params, or null for none, not 'mac'; did you mean 'macs'"):
        make(space, cost="mac", cost_target=1.0)
    with pytest.raises(ValueError, match="cost_target is a number above 0 where cost is 'params', not None"):
        make(space, cost="params")


@pytest.mark.parametrize("name", ["num_paths", "num_updates", "num_rewarded"])
def test_a_controller_needs_positive_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        ControllerSampler(SPACES[0], **{name: 0})


# Uniform -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_paths", [1, 5])
def test_uniform_draws_every_architecture_equally_often(num_paths: int) -> None:
    space, draws = Decisions(3, 4), 6000
    sampler = UniformSampler(space, seed=2, num_paths=num_paths)
    drawn = [arch for step in range(draws // num_paths) for arch in sampler.sample(step)]
    counts = Counter(drawn)
    assert len(drawn) == draws
    assert len(counts) == space.size == 12
    expected = draws / 12
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    assert statistic < 31.3  # 99.9 % of the chi-square distribution with 11 degrees of freedom lie below
    assert statistic > 1.8  # and 0.1 %: a round robin is no random choice


def test_uniform_paths_of_a_step_are_independent() -> None:
    sampler = UniformSampler(Decisions(2), seed=0, num_paths=2)
    pairs = Counter(tuple(arch["choice0"] for arch in sampler.sample(step)) for step in range(2000))
    assert all(abs(count - 500) < 90 for count in pairs.values())  # 4.6 standard deviations
    assert len(pairs) == 4


def test_uniform_is_uniform_over_each_active_choice() -> None:
    drawn = [UniformSampler(Staged(), seed=1).sample(step)[0] for step in range(3000)]
    depths = Counter(arch["depth"] for arch in drawn)
    assert all(abs(count - 1000) < 120 for count in depths.values())
    deep = Counter(arch["block3"] for arch in drawn if arch["depth"] == 3)
    assert abs(deep["a"] - deep["b"]) < 150


def test_uniform_needs_a_path() -> None:
    with pytest.raises(ValueError, match="num_paths must be a whole number of at least 1, got 0"):
        UniformSampler(SPACES[0], num_paths=0)


@pytest.mark.parametrize("same", [True, False])
def test_uniform_paths_of_a_step_can_share_their_resolution(same: bool) -> None:
    space = OFAMobileNetV3(num_classes=10, resolutions=(24, 28, 32))
    sampler = UniformSampler(space, num_paths=4, same_resolution=same)
    steps = [sampler.sample(step) for step in range(30)]
    assert all(len({arch["resolution"] for arch in archs}) == 1 for archs in steps) == same
    assert len({archs[0]["resolution"] for archs in steps}) == 3
    assert all(len(set(archs)) == 4 for archs in steps)
    assert UniformSampler(Staged(), num_paths=2, same_resolution=True).sample(0)  # no resolution to share


# Fair ----------------------------------------------------------------------------------------------------------------


def options_of(archs: list[Arch], name: str) -> list[object]:
    return [arch[name] for arch in archs if name in arch]


@pytest.mark.parametrize("space", [Decisions(4, 4, 4), NASBenchMacro()], ids=["decisions", "nasbench_macro"])
def test_fair_takes_every_option_once_a_round(space: SearchSpace) -> None:
    sampler = FairSampler(space, seed=4)
    for step in range(40):
        archs = sampler.sample(step)
        assert len(archs) == len(space.choices[0].options)
        for choice in space.choices:
            assert sorted(map(str, options_of(archs, choice.name))) == sorted(map(str, choice.options))


def test_fair_counts_differ_by_at_most_one_where_numbers_of_options_differ() -> None:
    space = Decisions(7, 2, 3, 1)
    for step in range(40):
        archs = FairSampler(space).sample(step)
        assert len(archs) == 7
        for choice in space.choices:
            counts = Counter(options_of(archs, choice.name))
            assert sum(counts.values()) == 7
            assert len(counts) == len(choice.options)
            assert max(counts.values()) - min(counts.values()) <= 1


def test_fair_repeats_no_option_more_often_than_another_in_the_long_run() -> None:
    """Of seven rounds over two options one is taken four times: which one is random."""
    extra = Counter(
        Counter(options_of(FairSampler(Decisions(7, 2), seed=1).sample(step), "choice1")).most_common(1)[0][0]
        for step in range(400)
    )
    assert abs(extra[0] - extra[1]) < 90  # 4.5 standard deviations


def test_fair_pairs_the_options_of_two_choices_at_random() -> None:
    sampler = FairSampler(Decisions(3, 3), seed=0)
    pairs = Counter((arch["choice0"], arch["choice1"]) for step in range(900) for arch in sampler.sample(step))
    assert len(pairs) == 9
    assert all(abs(count - 300) < 90 for count in pairs.values())


def test_fair_with_choices_that_are_not_always_active() -> None:
    for step in range(30):
        archs = FairSampler(Staged(), seed=2).sample(step)
        assert sorted(options_of(archs, "depth")) == [1, 2, 3]
        assert set(options_of(archs, "block1")) == {"a", "b"}


# Sandwich ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_random", [0, 1, 3])
def test_sandwich_goes_from_the_largest_to_the_smallest_to_random_ones(num_random: int) -> None:
    space = NASBenchMacro()
    sampler = SandwichSampler(space, num_random=num_random)
    rest = set()
    for step in range(10):
        first, second, *others = sampler.sample(step)
        assert first == space.largest
        assert second == space.smallest
        assert len(others) == num_random
        rest |= set(others)
    assert len(rest) == 10 * num_random


def test_only_a_distilling_sandwich_has_a_teacher() -> None:
    assert SandwichSampler(SPACES[0]).teacher_first
    assert not SandwichSampler(SPACES[0], distill=False).teacher_first
    assert not UniformSampler(SPACES[0]).teacher_first
    assert not FairSampler(SPACES[0]).teacher_first


def test_sandwich_needs_a_number_of_random_networks() -> None:
    with pytest.raises(ValueError, match="num_random must be a whole number of at least 0, got -1"):
        SandwichSampler(SPACES[0], num_random=-1)


# Attentive -----------------------------------------------------------------------------------------------------------


def test_attentive_candidates_cost_the_same_and_bins_come_as_often_as_random_architectures() -> None:
    space = OFAMobileNetV3(num_classes=10, resolutions=(24, 32))
    sampler = AttentiveSampler(space, num_observations=2000, num_candidates=3, num_random=2)
    table = CostTable(space)
    spreads, drawn = [], []
    for step in range(60):
        first, *middle, last = sampler.proposals(step)
        assert (first, last) == ([space.largest], [space.smallest])
        assert [len(candidates) for candidates in middle] == [3, 3]
        for candidates in middle:
            macs = [cost.macs for cost in table.costs(candidates)]
            spreads.append(max(macs) - min(macs) <= sampler.bin_macs)
            drawn += macs
            assert len(set(candidates)) > 1
    assert sum(spreads) >= 0.9 * len(spreads)  # after a hundred tries the last one is taken anyway
    rng = random.Random(0)
    uniform = sorted(cost.macs for cost in table.costs([space.sample(rng) for _ in range(2000)]))
    quartiles = [uniform[500], uniform[1000], uniform[1500]]
    shares = [sum(macs < bound for macs in drawn) / len(drawn) for bound in quartiles]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=0.12)


def test_attentive_bins() -> None:
    space = OFAMobileNetV3(num_classes=10, resolutions=(32,))
    one_bin = AttentiveSampler(space, bin_macs=1e12, num_observations=50)
    assert len({arch for step in range(5) for candidates in one_bin.proposals(step)[1:-1] for arch in candidates}) == 30
    smallest, largest = (cost.macs for cost in CostTable(space).costs([space.smallest, space.largest]))
    assert AttentiveSampler(space, num_observations=10).bin_macs == pytest.approx((largest - smallest) / 50)


def test_attentive_prefers_low_or_high_losses() -> None:
    make = functools.partial(AttentiveSampler, SPACES[0], num_observations=10)
    assert make(attention="best").prefers_low_loss
    assert not make(attention="worst").prefers_low_loss


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": "bets"}, "attention is 'best' or 'worst', not 'bets'; did you mean 'best'"),
        ({"num_candidates": 0}, "num_candidates must be a whole number of at least 1, got 0"),
        ({"num_random": -1}, "num_random must be a whole number of at least 0, got -1"),
        ({"num_observations": 0}, "num_observations must be a whole number of at least 1, got 0"),
        ({"bin_macs": 0}, "bin_macs is above 0"),
    ],
)
def test_attentive_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentiveSampler(SPACES[0], **changes)  # type: ignore[arg-type]
