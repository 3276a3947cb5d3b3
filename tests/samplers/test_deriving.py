"""What is derived of a relaxed network, and settings that are refused."""

from __future__ import annotations

import math

import pytest
import torch
from relaxed_samplers import SPACE, sampler_of
from sampler_spaces import Decisions

from oneshot.arch import Choice
from oneshot.samplers import (
    ArchitectureLearning,
    BinaryGates,
    Connections,
    DifferentiableSampler,
    EnsembleGumbel,
    Moment,
    Temperature,
    ZeroOne,
)
from oneshot.samplers.differentiable.deriving import count_skips, derive
from oneshot.samplers.differentiable.signs import cut_off
from oneshot.samplers.differentiable.skip_dropout import skip_dropout_at
from oneshot.spaces import DARTS

# Derivation ----------------------------------------------------------------------------------------------------------


def test_none_is_no_edge_of_a_cell_that_keeps_two() -> None:
    space = DARTS(num_classes=4, channels=2, num_cells=4)
    generator = torch.Generator().manual_seed(0)
    strengths = {c.name: torch.rand(len(c.options), generator=generator) for c in space.choices}
    for values in strengths.values():
        values[0] = 2.0  # "none" is the strongest everywhere
    values = derive(space, strengths)
    for join in space.joins:
        taken = [name for name in join.choices if values[name] != "none"]
        best = sorted(join.choices, key=lambda name: -float(strengths[name][1:].max()))
        assert set(taken) == set(best[:2])
        for name in taken:
            options = next(choice.options for choice in space.choices if choice.name == name)
            assert values[name] == options[1 + int(strengths[name][1:].argmax())]
    genotype = space.to_genotype(space.arch(values))
    assert len(genotype.normal) == len(genotype.reduce) == 8
    sampler = DifferentiableSampler(space, 0)
    assert sampler.derive(0) == [space.arch(sampler.derived())]


def test_a_threshold_drops_weak_edges() -> None:
    space = DARTS(num_classes=4, channels=2, num_cells=4)
    strengths = {c.name: torch.full((len(c.options),), 0.2) for c in space.choices}
    strengths["normal.node3.from1"][7] = 0.9
    strengths["normal.node5.from2"][3] = 0.84
    values = derive(space, strengths, threshold=0.85)
    assert [name for name, value in values.items() if value != "none"] == ["normal.node3.from1"]


def test_where_none_is_a_choice_like_others_it_may_win_and_restrictions_hold() -> None:
    strengths = {choice.name: torch.arange(5.0, 0, -1) / 5 for choice in SPACE.choices}
    assert set(derive(SPACE, strengths).values()) == {"none"}
    part = SPACE.restrict({"node1.from0": ["avg_pool_3x3"], "node2.*": ["skip_connect", "nor_conv_3x3"]})
    sampler = DifferentiableSampler(part, 0)
    assert "node1.from0" not in sampler.parameters
    assert len(sampler.parameters["node2.from0"]) == 2
    values = sampler.derived()
    assert values["node1.from0"] == "avg_pool_3x3"
    assert values["node2.from1"] in ("skip_connect", "nor_conv_3x3")
    assert {arch["node1.from0"] for step in range(9) for arch in sampler.sample(step)} == {"avg_pool_3x3"}


def test_conditional_choices_are_derived_and_dropped_where_they_do_not_exist() -> None:
    space = Decisions(2)
    space.choices = (Choice("depth", (1, 2)), Choice("kernel", (3, 5), {"depth": (2,)}))
    sampler = DifferentiableSampler(space, 0)
    sampler.parameters["depth"].data = torch.tensor([1.0, 0.0])
    assert set(sampler.derived()) == {"depth", "kernel"}
    assert dict(sampler.derive(0)[0]) == {"depth": 1}


def test_more_skip_connections_than_allowed_are_replaced_weakest_first() -> None:
    space = DARTS(num_classes=4, channels=2, num_cells=4)
    strengths = {c.name: torch.linspace(0.01, 0.08, len(c.options)) for c in space.choices}
    edges = {"node2.from0": 0.9, "node2.from1": 0.3, "node3.from0": 0.5, "node4.from3": 0.7}
    for cell in ("normal", "reduce"):
        for edge, strength in edges.items():
            strengths[f"{cell}.{edge}"][1] = strength  # a skip connection
    before, values = derive(space, strengths), derive(space, strengths, max_skips={"normal.*": 2})
    assert {name for name in before if before[name] == "skip_connect" and name.startswith("normal")} == {
        f"normal.{edge}" for edge in edges
    }
    assert {name for name in values if values[name] == "skip_connect" and name.startswith("normal")} == {
        "normal.node2.from0",
        "normal.node4.from3",
    }
    assert values["normal.node2.from1"] == "sep_conv_5x5"  # the edge has to stay, with its next operation
    assert [n for n in values if values[n] != "none"] == [n for n in before if before[n] != "none"]
    assert all(values[name] == before[name] for name in values if name.startswith("reduce"))
    only = SPACE.restrict({"*": ["none", "skip_connect"]})
    kept = {c.name: torch.tensor([0.1, 0.9]) for c in only.choices}
    assert set(derive(only, kept, max_skips={"*": 0}).values()) == {"none"}
    alone = SPACE.restrict({"node*": ["skip_connect"]})
    assert count_skips(alone, derive(alone, {}, max_skips={"*": 2})) == (6, 6)  # there is nothing else


def test_dropout_of_skip_connections_falls_as_published() -> None:
    rates = [skip_dropout_at(0.4, Moment(0, epoch, 25), 10) for epoch in (0, 9, 10, 15)]
    assert rates == pytest.approx([0.4 * 24 / 25, 0.4 * 15 / 25, 0.4, 0.4 * math.exp(-1)])
    sampler = sampler_of("softmax", skip_dropout=0.4, learning=ArchitectureLearning(first_epoch=10))
    mix = sampler.mix(Moment(0, 15, 25), for_weights=True)
    assert mix.skip_dropout == pytest.approx(0.4 * math.exp(-1))
    assert sampler.relaxed().skip_dropout == sampler.derived_mix().skip_dropout == 0
    with pytest.raises(ValueError, match=r"skip_dropout is from 0 to below 1, not 1"):
        sampler_of("softmax", skip_dropout=1)
    with pytest.raises(ValueError, match=r"max_skips: 'norma\.\*' matches no choice"):
        sampler_of("softmax", max_skips={"norma.*": 2})


def test_skips_are_counted() -> None:
    names = [choice.name for choice in SPACE.choices]
    values = dict(zip(names, ["skip_connect", "none", "nor_conv_1x1", "skip_connect", "none", "none"], strict=True))
    assert count_skips(SPACE, values) == (2, 3)
    assert count_skips(SPACE, values, names[2:]) == (1, 2)


def test_edges_that_were_narrowed_to_other_options_are_counted_beside_skips() -> None:
    names = [choice.name for choice in SPACE.choices]
    values = dict(zip(names, ["skip_connect", "none", "nor_conv_1x1", "skip_connect", "none", "none"], strict=True))
    assert count_skips(SPACE.restrict({names[2]: ["nor_conv_1x1", "none"]}), values) == (2, 3)


class Nested(Decisions):
    """Choices that exist under some values of others, and one that cannot be a skip connection."""

    def __init__(self) -> None:
        self.choices = (
            Choice("a", ("skip", "conv", "block")),
            Choice("a.inner", ("skip", "conv"), {"a": ("block",)}),
            Choice("a.inner.deep", ("skip", "conv"), {"a.inner": ("conv",)}),
            Choice("kind", ("wide", "narrow")),
        )


def test_skips_that_do_not_exist_are_not_counted() -> None:
    space = Nested()
    assert count_skips(space, {"a": "skip", "a.inner": "skip", "a.inner.deep": "skip", "kind": "wide"}) == (1, 1)
    assert count_skips(space, {"a": "block", "a.inner": "skip", "a.inner.deep": "skip", "kind": "wide"}) == (1, 2)
    strengths = {
        "a": torch.tensor([0.2, 0.5, 0.3]),
        "a.inner": torch.tensor([0.9, 0.1]),
        "a.inner.deep": torch.tensor([0.9, 0.1]),
        "kind": torch.tensor([0.9, 0.1]),
    }
    values = derive(space, strengths, max_skips={"*": 0})
    assert values["a.inner"] == "skip", "it is not there, so it is none too many"


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ArchitectureLearning(order="third"), r"order is one of first, second, joint, not 'third'"),
        (lambda: ArchitectureLearning(images=1.0), r"images is a share between 0 and 1, not 1\.0"),
        (lambda: ArchitectureLearning(order="joint"), r"its images is 0, not 0\.5"),
        (lambda: ArchitectureLearning(lr=0), r"sampler\.learning\.lr is above 0, not 0"),
        (lambda: ArchitectureLearning(betas=(0.5, 1.0)), r"two numbers from 0 to below 1, not \[0\.5, 1\.0\]"),
        (lambda: ArchitectureLearning(every=0), r"every .* 0"),
        (lambda: Temperature(0.0), r"start is above 0, not 0\.0"),
        (lambda: Temperature(1.0, 2.0), r"end is at most start, 1\.0, .* not 2\.0"),
        (lambda: BinaryGates("three"), r"paths is two or all, not 'three'"),
        (lambda: ZeroOne(norm="l3"), r"norm is l1 or l2, not 'l3'"),
        (lambda: ArchitectureLearning(every=1.5), r"every must be a whole number of at least 1, got 1\.5"),
        (lambda: ArchitectureLearning(first_epoch=0.5), r"first_epoch must be a whole number of at least 0, got 0\.5"),
        (lambda: Temperature(first_epoch=0.5), r"first_epoch must be a whole number of at least 0, got 0\.5"),
        (lambda: EnsembleGumbel(num_draws=1.5), r"num_draws must be a whole number of at least 1, got 1\.5"),
        (lambda: Connections(kept=1.5), r"kept must be a whole number of at least 1, got 1\.5"),
        (
            lambda: DifferentiableSampler(SPACE, max_skips={"*": 0.5}),
            r"sampler\.max_skips\['\*'\] must be a whole number of at least 0, got 0\.5",
        ),
        (lambda: DifferentiableSampler(SPACE, threshold=1.0), r"threshold is from 0 to below 1, not 1\.0"),
        (lambda: DifferentiableSampler(SPACE.restrict({"*": ["none"]})), r"nothing to mix"),
    ],
)
def test_settings_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_nodes_that_no_edge_is_strong_enough_for_are_told() -> None:
    space = DARTS(num_classes=4, channels=4, num_cells=4)
    strengths = {choice.name: torch.full((8,), 0.5) for choice in space.choices if len(choice.options) == 8}
    assert cut_off(space, derive(space, strengths, 0.4), 0.4) == []
    (line,) = cut_off(space, derive(space, strengths, 0.85), 0.85)
    assert line.startswith(
        "no edge is left into 8 of the 8 nodes where edges meet, as all of them are weaker than sampler.threshold=0.85"
    )
