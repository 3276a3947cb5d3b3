"""Expected costs of mixes, against the costs of the architectures that they are mixtures of."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from oneshot.costs import CostTable, ExpectedCost, LatencyTable, LayerTime
from oneshot.costs.layers import LayerWalk
from oneshot.mix import Mix
from oneshot.spaces import ENASMicro, NASBenchMacro, OFAProxyless, SearchSpace

OFA = OFAProxyless(num_classes=4, resolutions=(32,)).restrict({"stage[2-6].block*": [3], "stage[2-6].depth": [2]})


def test_the_expectation_is_that_over_all_architectures_and_so_is_its_gradient() -> None:
    space = NASBenchMacro(num_classes=4).restrict({f"layer{layer}": ["identity"] for layer in range(4, 9)})
    expected, table = ExpectedCost.macs(space), CostTable(space)
    choices = [choice for choice in space.choices if len(choice.options) > 1]
    generator = torch.Generator().manual_seed(0)
    weights = {
        choice.name: torch.randn(3, generator=generator, dtype=torch.float64).softmax(0).requires_grad_()
        for choice in choices
    }
    total = torch.zeros((), dtype=torch.float64)
    for positions in itertools.product(range(3), repeat=3):
        pairs = list(zip(choices, positions, strict=True))
        likely = torch.stack([weights[choice.name][position] for choice, position in pairs]).prod()
        arch = space.decide(lambda choice, taken=dict(pairs): choice.options[taken.get(choice, 0)])  # type: ignore[misc]
        total = total + likely * table.cost(arch).macs
    found = expected(weights)
    torch.testing.assert_close(found, total)
    # As functions of weights that need not add up to 1 they differ: the slopes along what softmax can do are equal.
    for one, other in zip(
        torch.autograd.grad(found, list(weights.values())),
        torch.autograd.grad(total, list(weights.values())),
        strict=True,
    ):
        torch.testing.assert_close(one - one.mean(), other - other.mean())
    with pytest.raises(ValueError, match="choice 'layer2' needs 3 weights"):
        expected({"layer1": weights["layer1"]})


@pytest.mark.parametrize(
    "space", [OFA, ENASMicro(num_classes=4, channels=4, num_layers=1, num_nodes=2)], ids=lambda s: type(s).__name__
)
def test_a_path_costs_what_its_architecture_does(space: SearchSpace) -> None:
    """Conditions, depths as prefixes, and loose ends included."""
    expected, table = ExpectedCost.macs(space), CostTable(space)
    for seed in range(3):
        arch = space.sample(random.Random(seed))
        assert float(expected(Mix.one_hot(space.choices, dict(arch)))) == sum(b.macs for b in table.blocks(arch))


@pytest.mark.parametrize("seed", range(3))
def test_the_cheapest_network_is_found(seed: int) -> None:
    """Among all, by costs without an order."""
    space = NASBenchMacro(num_classes=4).restrict({f"layer{layer}": ["identity"] for layer in range(4, 9)})
    generator = random.Random(seed)
    expected = ExpectedCost(space, lambda call, arch: generator.random())
    choices = [choice for choice in space.choices if len(choice.options) > 1]
    eye = torch.eye(3, dtype=torch.float64)
    mixes = ({c.name: eye[i] for c, i in zip(choices, p, strict=True)} for p in itertools.product(range(3), repeat=3))
    assert expected.least() == pytest.approx(min(float(expected(mix)) for mix in mixes))
    assert ExpectedCost.macs(OFA).least() == sum(block.macs for block in CostTable(OFA).blocks(OFA.smallest))


def test_latency_is_looked_up_layer_by_layer() -> None:
    walk = LayerWalk(OFA)
    archs = [OFA.largest, OFA.smallest, *OFA.pairwise()]
    names = sorted({name for arch in archs for name, _ in walk(arch)})
    table = LatencyTable({32: {name: LayerTime(1 + index / 7) for index, name in enumerate(names)}}, OFA)
    expected = ExpectedCost.latency(OFA, table)
    for arch in archs[:4]:
        assert float(expected(Mix.one_hot(OFA.choices, dict(arch), torch.float64))) == pytest.approx(
            table.latency(arch)
        )
    assert math.isfinite(
        float(expected({c.name: torch.ones(len(c.options)) for c in OFA.choices if len(c.options) > 1}))
    )
    short = LatencyTable({32: {name: LayerTime(1.0) for name in names[1:]}}, OFA)
    with pytest.raises(ValueError, match="has no layer"):
        ExpectedCost.latency(OFA, short)
