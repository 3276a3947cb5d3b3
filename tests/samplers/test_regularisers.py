"""What can be had beside any method: each by a straight re-derivation of its rule."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sampler_spaces import Decisions
from torch import Tensor, nn

from oneshot.costs import CostTable, LatencyTable, LayerTime
from oneshot.costs.layers import LayerWalk
from oneshot.mix import Mix
from oneshot.pipeline.narrowing import strongest_options
from oneshot.samplers import (
    ArchitectureLearning,
    AuxiliarySkip,
    BetaDecay,
    BinaryGates,
    Concrete,
    Connections,
    CostTerm,
    Decided,
    DifferentiableSampler,
    EarlyStopping,
    EnsembleGumbel,
    HardGumbel,
    Moment,
    Regulariser,
    Smoothing,
    Softmax,
    Temperature,
)
from oneshot.spaces import NASBench201
from oneshot.spaces.mixed import Mixed

SPACE = NASBench201(num_classes=4, channels=4, num_cells=1)
START = Moment(0, 0, 10)
TABLE = CostTable(SPACE)
NAMES = [choice.name for choice in SPACE.choices]


def sampler_of(seed: int = 3, **arguments: object) -> DifferentiableSampler:
    sampler = DifferentiableSampler(SPACE, seed, **arguments)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    for values in sampler.parameters.values():
        values.data = torch.randn(5, generator=generator)
    return sampler


# Costs ---------------------------------------------------------------------------------------------------------------


@functools.cache
def macs(edge: str = "", option: str = "") -> int:
    """Of pooling on every edge but one."""
    arch = SPACE.arch({name: option if name == edge else "avg_pool_3x3" for name in NAMES})
    return sum(block.macs for block in TABLE.blocks(arch))


def expected_macs(weights: dict[str, Tensor]) -> Tensor:
    """What is always there, and of each edge the sum of p times F, from differences of networks in which every edge is live."""
    base = macs()
    parts = [base * torch.ones(())]
    for name in NAMES:
        for position, option in ((3, "nor_conv_1x1"), (4, "nor_conv_3x3")):
            parts.append(weights[name][position] * (macs(name, option) - base))
    return torch.stack(parts).sum()


@pytest.mark.parametrize(
    ("term", "formula"),
    [
        (CostTerm(reference=1e6), lambda loss, e: loss + 0.2 * (e - 1e6) / 1e6),
        (
            CostTerm(formula="multiply", weight=1.0, reference=2e6),
            lambda loss, e: loss * (e.log() / math.log(2e6)) ** 0.6,
        ),
        (CostTerm(formula="multiply"), lambda loss, e: 0.2 * loss * e.log() ** 0.6),
    ],
    ids=["proxyless, add", "proxyless, multiply", "fbnet"],
)
@pytest.mark.parametrize("over", ["mix", "softmax"])
def test_expected_macs_enter_the_loss_by_the_published_formulas(term: CostTerm, formula: object, over: str) -> None:
    term.over = over
    sampler = sampler_of(relaxation=HardGumbel(), regularisers={"cost": term})
    mix = sampler.mix(START)
    parameters = sampler.parameters
    weights = {name: mix[name] if over == "mix" else parameters[name].softmax(0) for name in NAMES}
    loss = torch.stack([parameters[name][0] for name in NAMES]).sum().exp()
    wanted = formula(loss, expected_macs(weights))  # type: ignore[operator]
    found = sampler.regularised(loss, mix, START)
    torch.testing.assert_close(found, wanted)
    for one, other in zip(
        torch.autograd.grad(found, list(parameters.values()), retain_graph=True),
        torch.autograd.grad(wanted, list(parameters.values())),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    strengths = sampler.strengths()
    assert term.records(strengths, START) == {"expected_macs/expected": pytest.approx(float(expected_macs(strengths)))}


def test_beta_decay_pulls_by_the_softmax_with_a_weight_that_grows() -> None:
    sampler = sampler_of(regularisers={"beta": BetaDecay(50.0)})
    mix = sampler.mix(START)
    assert float(sampler.regularised(torch.tensor(1.5), mix, START).detach()) == 1.5
    late = sampler.regularised(torch.zeros(()), mix, Moment(0, 7, 10))
    for name, pull in zip(NAMES, torch.autograd.grad(late, list(sampler.parameters.values())), strict=True):
        torch.testing.assert_close(pull, 35.0 * sampler.parameters[name].detach().softmax(0) / len(NAMES))


# Smoothing -----------------------------------------------------------------------------------------------------------


def disturbed(smoothing: Smoothing, mix: Mix, slopes: Tensor, moment: Moment = START) -> Mix:
    def loss(mix: Mix) -> Tensor:
        return torch.stack([(mix[name] * slopes).sum() for name in mix]).sum()

    return smoothing.disturbed(mix, loss, moment, torch.Generator().manual_seed(5))


def test_random_smoothing_moves_weights_and_keeps_their_sum() -> None:
    smoothing = Smoothing()
    assert [smoothing.epsilon(Moment(0, epoch, 50)) for epoch in (0, 25)] == pytest.approx([0.03, 0.165])
    before = sampler_of().mix(START, for_weights=True).on_part(2)
    found = disturbed(smoothing, before, torch.zeros(5))
    assert found.partial_channels == 2
    generator = torch.Generator().manual_seed(5)
    for name in NAMES:
        moved = before[name] + 0.03 * (2 * torch.rand(5, generator=generator) - 1)
        moved = moved.clamp(0, 1)
        torch.testing.assert_close(found[name], moved / moved.sum())
    sparse = disturbed(
        smoothing, Mix({"a": torch.tensor([0.0, 0.3, 1.2]), "b": torch.tensor([0.0, 1.0])}), torch.ones(1)
    )
    assert sparse.numbers("a")[0] == 0
    assert sum(sparse.numbers("a")) == pytest.approx(1.5)
    assert sparse.numbers("b") == (0.0, 1.0)


def test_adversarial_smoothing_climbs_the_loss_within_epsilon() -> None:
    """Against the published steps, for one choice, in numpy."""
    smoothing = Smoothing("adversarial", 0.1, 0.1)
    start = np.array([0.2, 0.02, 0.5, 0.28])
    slopes = np.array([1.0, -2.0, 0.5, -0.1])

    def clip(values: np.ndarray) -> np.ndarray:
        values = values.clip(0, 1)
        return values / values.sum()

    noise = torch.rand(4, generator=torch.Generator().manual_seed(5)).double().numpy()
    near = clip(start + 0.1 * (2 * noise - 1))
    for _ in range(7):
        near = clip(start + (near + 0.2 / 7 * np.sign(slopes) - start).clip(-0.1, 0.1))
    mix = Mix({"a": torch.tensor(start)})
    found = disturbed(smoothing, mix, torch.tensor(slopes))
    np.testing.assert_allclose(found["a"].numpy(), near, rtol=1e-6)
    assert (found["a"].numpy() * slopes).sum() > (start * slopes).sum()
    best = smoothing.disturbed(mix, lambda m: -(m["a"] - mix["a"]).square().sum(), START, torch.Generator())
    assert best is mix, "what does not raise the loss is dropped"


def test_a_mix_that_happens_to_be_a_path_is_not_moved() -> None:
    """As all are once every choice is decided, and some of an ensemble of draws."""
    sampler = sampler_of(relaxation=EnsembleGumbel(), regularisers={"smooth": Smoothing()})
    path = sampler_of(relaxation=HardGumbel()).mix(START, for_weights=True)
    assert sampler.disturbed(path, lambda mix: torch.zeros(()), START) is path


def test_smoothing_is_refused_where_it_could_do_nothing() -> None:
    for relaxation in (HardGumbel(), BinaryGates(), EnsembleGumbel(1), Decided(HardGumbel())):
        with pytest.raises(ValueError, match=r"regularisers\.smooth .* this sampler takes one of each choice"):
            sampler_of(relaxation=relaxation, regularisers={"smooth": Smoothing()})
    joint = ArchitectureLearning(order="joint", images=0)
    with pytest.raises(ValueError, match=r"regularisers\.smooth changes what weights alone learn on"):
        sampler_of(learning=joint, regularisers={"smooth": Smoothing()})


# Skips ---------------------------------------------------------------------------------------------------------------


def test_an_auxiliary_skip_stands_beside_the_mixture_and_fades() -> None:
    plain, aided = sampler_of(), sampler_of(relaxation=AuxiliarySkip(Softmax(), beta=0.8))
    x = torch.randn(2, 3, 4, 4)
    options = [None, nn.Identity(), nn.AvgPool2d(3, 1, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)]
    mixed = Mixed(NAMES[0], options)
    for epoch, beta in ((0, 0.8), (2, 0.4), (4, 0.0)):
        moment = Moment(0, epoch, 5)
        outputs = []
        for sampler in (plain, aided):
            mixed.fill(sampler.mix(moment))
            outputs.append(mixed(x))
        torch.testing.assert_close(outputs[1], outputs[0] + beta * x)
    assert repr(aided.mix(Moment(0, 4, 5))) == repr(plain.mix(Moment(0, 4, 5)))
    assert aided.derived() == plain.derived()
    assert all(torch.equal(aided.strengths()[name], plain.strengths()[name]) for name in NAMES)
    with pytest.raises(ValueError, match=r"there is no skip connection .* among the options of Decisions"):
        DifferentiableSampler(Decisions(3, 4), 0, AuxiliarySkip())


def test_connections_are_drawn_by_their_masks_which_learn_whether_they_pass_or_not() -> None:
    """K of N into each node; the gradient of a mask is that of what its connection would pass."""
    sampler = DifferentiableSampler(SPACE, 3, Connections(Softmax(), kept=2))
    edges = {name: values for name, values in sampler.parameters.items() if name.startswith("edges")}
    masks = {"1": torch.tensor([0.7]), "2": torch.tensor([0.4, 0.0]), "3": torch.tensor([0.9, 0.3, 0.6])}
    with torch.no_grad():
        for name, values in edges.items():
            values.copy_(masks[name.split("node")[1][0]])
        for name in NAMES:
            sampler.parameters[name].copy_(torch.arange(5.0))
    drawn = dict.fromkeys(NAMES, 0)
    for step in range(300):
        mix = sampler.mix(Moment(step, 0, 10))
        passing = [name for name in NAMES if sum(mix.numbers(name))]
        assert len(passing) == 1 + 2 + 2
        for name in NAMES:
            assert sum(mix.numbers(name)) == pytest.approx(float(name in passing))
            assert len(mix.probed(name)) == (0 if name in passing else 5)
            drawn[name] += name in passing
    # Two of three, one after the other, in proportion to what is left.
    p, q, r = 0.9 / 1.8, 0.3 / 1.8, 0.6 / 1.8
    assert drawn["node3.from1"] / 300 == pytest.approx(q + p * q / (1 - p) + r * q / (1 - r), abs=0.09)
    slopes = torch.tensor([3.0, -1.0, 2.0, 0.5, 1.0])
    mix = sampler.mix(START)
    loss = torch.stack([(mix[name] * slopes).sum() for name in NAMES]).sum()
    for grads in torch.autograd.grad(loss, list(edges.values())):
        torch.testing.assert_close(grads, torch.full_like(grads, float((torch.arange(5.0).softmax(0) * slopes).sum())))
    assert {name for name, value in sampler.derived().items() if value == "none"} == {"node3.from1"}
    sampler.step({name: torch.tensor([1e3] * len(values)) for name, values in edges.items()})
    assert all(0 <= value <= 1 for values in edges.values() for value in values.tolist())
    weights = sampler.mix(START, for_weights=True)
    assert not any(weights.probed(name) for name in NAMES)


def test_what_changes_by_a_schedule_is_recorded() -> None:
    given = {"smooth": Smoothing(start=0.1, end=0.5), "beta": BetaDecay(10.0)}
    relaxation = AuxiliarySkip(Concrete(Temperature(4.0, 2.0)), beta=3.0)
    sampler = sampler_of(relaxation=relaxation, regularisers=given, skip_dropout=0.5)
    found = [sampler.records(Moment(epoch, epoch, 3)) for epoch in range(3)]
    entropy = sampler.entropy()
    courses = {
        "architecture_entropy/nats": [entropy, entropy, entropy],
        "architecture_temperature/temperature": [4.0, 3.0, 2.0],
        "architecture_auxiliary_skip/beta": [3.0, 1.5, 0.0],
        "architecture_skip_dropout/rate": [0.5, 0.5 * math.exp(-0.2), 0.5 * math.exp(-0.4)],
        "architecture_perturbation/epsilon": [0.1, 0.1 + 0.4 / 3, 0.1 + 0.8 / 3],
        "architecture_beta_decay/weight": [0.0, 10 / 3, 20 / 3],
    }
    assert [values.keys() for values in found] == [courses.keys()] * 3
    for name, wanted in courses.items():
        assert [values[name] for values in found] == pytest.approx(wanted)


# Early stopping ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_it_stops_where_the_published_rule_does(seed: int) -> None:
    """By the means in the order in which the published code appends them: of 3, of 4, then always of the last 5."""
    generator = np.random.default_rng(seed)
    values = np.exp(0.07 * np.arange(24) + 0.2 * generator.standard_normal(24)).tolist()
    stopping = EarlyStopping(every=2, first_epoch=4)
    epochs = list(range(0, 48, 2))
    averages: list[float] = []
    for count in range(1, 25):
        if count >= 3:
            averages.append(float(np.mean(values[max(0, count - 5) : count])))
        centre = epochs[count - 1] - 2 * 2
        back = centre - 2 * 4
        wanted = None
        if len(averages) > 4 and back >= 4 and averages[-1] / averages[-5] > 1 / 0.75:
            wanted = epochs.index(back)
        assert stopping.back_to(epochs[:count], values[:count]) == wanted
    assert EarlyStopping(ratio=None).back_to(epochs, values) is None
    assert [epoch for epoch in range(6) if stopping.measures(epoch, 6)] == [0, 2, 4, 5]


@pytest.mark.parametrize("settings", [{}, {"every": 1, "window": 1, "distance": 2, "first_epoch": 1}, {"every": 3}])
def test_it_knows_how_long_a_training_has_to_be(settings: dict[str, int]) -> None:
    """By eigenvalues that grow as fast as one likes."""
    stopping = EarlyStopping(**settings)  # type: ignore[arg-type]
    for epochs in range(1, 40):
        measured = [epoch for epoch in range(epochs) if stopping.measures(epoch, epochs)]
        values = [10.0**number for number in range(len(measured))]
        stops = [stopping.back_to(measured[:count], values[:count]) for count in range(1, len(measured) + 1)]
        assert stopping.can_stop(epochs) == any(place is not None for place in stops)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CostTerm(), "formula=add needs a reference"),
        (lambda: CostTerm(cost="watts"), r"cost is macs or latency_ms, not 'watts'"),
        (lambda: CostTerm(cost="latency_ms", reference=3.0), r"takes its times from latency_table=FOLDER"),
        (lambda: CostTerm(formula="multiply", reference=0.5), r"reference is a number above 1 .* not 0\.5"),
        (lambda: CostTerm(weight=-1.0, reference=1.0), r"^weight is at least 0, not -1\.0"),
        (lambda: CostTerm(reference="50%"), r"reference is a number of MACs or milliseconds, not '50%'"),  # type: ignore[arg-type]
        (lambda: sampler_of(partial_channels=1.5), r"sampler\.partial_channels must be a whole number .* got 1\.5"),
        (lambda: BetaDecay(math.nan), "at least 0, not nan"),
        (lambda: Smoothing("gentle"), "kind is random or adversarial, not 'gentle'"),
        (lambda: Smoothing(start=0.0), r"^start is above 0, not 0\.0"),
        (lambda: AuxiliarySkip(beta=0.0), r"beta is above 0, not 0\.0"),
        (lambda: Smoothing(steps=1.5), r"steps must be a whole number of at least 1, got 1\.5"),
        (lambda: EarlyStopping(every=0.5), r"stopping\.every must be a whole number of at least 1, got 0\.5"),
        (lambda: EarlyStopping(window=4), "an odd number of eigenvalues, not 4"),
        (lambda: EarlyStopping(ratio=1.5), r"ratio is between 0 and 1, or null to stop never, not 1\.5"),
        (
            lambda: ArchitectureLearning(order="joint", images=0, stopping=EarlyStopping()),
            "with order=joint it has none",
        ),
    ],
)
def test_settings_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_a_product_of_costs_that_can_end_midway_is_refused_at_the_start(tmp_path: Path) -> None:
    """The logarithm of a cost of 1 or less."""
    walk = LayerWalk(SPACE)
    names = {name for arch in SPACE.pairwise() for name, _ in walk(arch)}
    LatencyTable({32: dict.fromkeys(names, LayerTime(0.01))}, SPACE).save(tmp_path)
    least = LatencyTable.load(tmp_path, SPACE).latency(SPACE.arch(dict.fromkeys(NAMES, "none")))
    with pytest.raises(
        ValueError, match=rf"^sampler\.regularisers\.cost: formula=multiply .* has {least:.3g} ms: take"
    ):
        sampler_of(regularisers={"cost": CostTerm("latency_ms", "multiply", latency_table=str(tmp_path))})
    sampler_of(regularisers={"cost": CostTerm("latency_ms", "add", 0.2, least, latency_table=str(tmp_path))})


def test_a_regulariser_of_ones_own_does_nothing_that_it_does_not_say() -> None:
    mix = sampler_of().mix(START)
    assert Regulariser()(torch.ones(()), mix, {}, START) == 1
    assert Regulariser().disturbed(mix, lambda mix: torch.zeros(()), START, torch.Generator()) is mix


def test_expected_macs_are_those_of_shares() -> None:
    """Weights of a sigmoid, or times those of edges, do not add up to 1; a network drawn by them has one option an edge."""
    term = CostTerm(reference=1e6)
    term.prepare(SPACE)
    weights = {name: 0.1 + torch.rand(5, generator=torch.Generator().manual_seed(1)) for name in NAMES}
    shares = {name: values / values.sum() for name, values in weights.items()}
    found = term.records({name: 0.3 * values for name, values in weights.items()}, START)
    assert found == {"expected_macs/expected": pytest.approx(float(expected_macs(shares)))}


def test_closed_connections_cost_nothing_and_keep_what_their_options_learned() -> None:
    """A mask has no gradient from the cost, not an endless one where nothing passes; closed edges have strongest options."""
    sampler = DifferentiableSampler(
        SPACE, 3, Connections(Softmax(), kept=1), regularisers={"cost": CostTerm(reference=1e5)}
    )
    with torch.no_grad():
        for name in NAMES:
            sampler.parameters[name].copy_(torch.tensor([0.0, 1.0, 4.0, 3.0, 2.0]))
    loss = sampler.regularised(torch.zeros(()), sampler.mix(START), START)
    values = {name: values for name, values in sampler.parameters.items() if name.startswith("edges")}
    for grads in torch.autograd.grad(loss, list(values.values()), allow_unused=True):
        assert grads is None or grads.abs().max() < 1e-3
    closed = [name for name, option in sampler.derived().items() if option == "none"]
    assert len(closed) == 3
    learned = {
        name: list(zip(SPACE.choices[0].options, shares.tolist(), strict=True))
        for name, shares in sampler.option_strengths().items()
    }
    for name in closed:
        assert sampler.strengths()[name].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
        kept = strongest_options(SPACE, learned, 3)[name]
        assert [option for option in kept if option != "none"][:2] == [
            SPACE.choices[0].options[2],
            SPACE.choices[0].options[3],
        ]
