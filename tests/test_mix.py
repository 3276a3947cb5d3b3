"""Mixes: one of weight 1 is the discrete network, and gradients of weights are those of the sum."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Mapping

import pytest
import torch
from mixed_spaces import MIXED, Zeros, grads, made, random_mix, same
from space_examples import SPACES, images
from torch import Tensor, nn

from oneshot.arch import Arch, Choice
from oneshot.mix import Mix
from oneshot.spaces import Make, OFAMobileNetV3, SearchSpace
from oneshot.spaces.cell_layers import EdgeGraph
from oneshot.spaces.mixed import Mixed
from oneshot.spaces.relaxed import RelaxedSkeleton
from oneshot.spaces.skeleton import Skeletons
from oneshot.spaces.weighted_sum import weighted_sum
from oneshot.supernet import Supernet

every_mixed = pytest.mark.parametrize("name", MIXED)


@every_mixed
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_one_hot_mix_is_the_discrete_network_bit_for_bit(name: str, training: bool) -> None:
    """Outputs, gradients, and the statistics that training leaves."""
    arch = MIXED[name]().sample(random.Random(int(training)))
    found = []
    for is_mixed in (False, True):
        space, supernet = made(name, training)
        mix, x = Mix.one_hot(space.choices, arch), images(space, arch, 2)
        torch.manual_seed(0)
        output = supernet(x, mix if is_mixed else arch)
        output.sum().backward()
        found.append((output.detach(), grads(supernet), copy.deepcopy(supernet.state_dict())))
    (one, one_grads, one_state), (two, two_grads, two_state) = found
    assert torch.equal(one, two)
    assert same(one_grads, two_grads)
    assert same(one_state, two_state)
    if not training:
        assert torch.equal(supernet.extract(mix)(x), two)


@every_mixed
def test_the_gradients_of_weights_agree_with_finite_differences(name: str) -> None:
    space, supernet = made(name)
    double = supernet.double()
    weights = random_mix(space)
    # Maxima and rectifiers have corners; along a small step the network is smooth almost everywhere.
    x = images(space, space.largest, 1).double()
    reading = torch.randn(space.num_classes, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def loss(weights: Mapping[str, Tensor]) -> Tensor:
        return (double(x, Mix(weights)) * reading).sum()

    loss(weights).backward()
    rng = random.Random(0)
    scale = max(float(w.grad.abs().max()) for w in weights.values() if w.grad is not None)
    for choice in rng.sample(sorted(weights), min(3, len(weights))):
        direction = torch.randn(len(weights[choice]), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                sides.append(loss({**weights, choice: weights[choice] + sign * 1e-7 * direction}))
        grad = weights[choice].grad
        exact = 0.0 if grad is None else float(grad @ direction)
        assert float(sides[0] - sides[1]) / 2e-7 == pytest.approx(exact, rel=1e-2, abs=1e-3 * scale)


def test_a_sum_has_the_gradients_of_its_terms_to_the_second_order() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(3, generator=generator, dtype=torch.float64, requires_grad=True)
    outputs = [torch.randn(1, 2, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def run(weights: Tensor, *outputs: Tensor) -> Tensor:
        return weighted_sum(weights, weights.tolist(), (0, 2), list(outputs))

    assert torch.autograd.gradcheck(run, (weights, *outputs))
    assert torch.autograd.gradgradcheck(run, (weights, *outputs))
    run(weights, *outputs).sum().backward()
    assert weights.grad is not None
    assert weights.grad[1] == 0


@pytest.mark.parametrize("name", sorted(set(SPACES) - set(MIXED)))
def test_a_space_that_does_not_say_where_options_meet_names_the_choice(name: str) -> None:
    space = SPACES[name]()
    with pytest.raises(ValueError, match=r"choice '[\w.]+' has \d+ options, .* write make\.choose\('[\w.]+', lambda"):
        RelaxedSkeleton(space, Skeletons(space))


def test_an_open_resolution_is_named() -> None:
    _, supernet = made("ofa")
    supernet.space = space = SPACES["ofa"]()
    with pytest.raises(ValueError, match=r"choice 'resolution' has 2 options.*\+options\.resolution=\[48\]"):
        supernet.input_shape(Mix(random_mix(space)))


# Zeros, dropped paths, restricted spaces -----------------------------------------------------------------------------


def test_zero_has_the_shape_of_the_other_options_and_a_defined_gradient() -> None:
    space = Zeros()
    supernet = Supernet(space).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    weights = {"op": torch.tensor([1.0, 0, 0], dtype=torch.float64), "dropped": torch.tensor([1.0, 0.0]).double()}
    arch = space.arch({"op": "none", "dropped": False})
    assert torch.equal(supernet(x, Mix(weights)), supernet(x, arch))
    soft = random_mix(space)
    supernet.eval()(x, Mix(soft)).sum().backward()
    assert soft["op"].grad is not None
    assert soft["op"].grad[0] == 0
    assert (soft["op"].grad[1:] != 0).all()


def test_paths_are_dropped_in_training_alone() -> None:
    space = Zeros()
    supernet = Supernet(space)
    x = torch.randn(16, 3, 8, 8)
    mix = Mix.one_hot(space.choices, {"op": "conv", "dropped": True})
    kept = Mix.one_hot(space.choices, {"op": "conv", "dropped": False})
    assert torch.equal(supernet.eval()(x, mix), supernet(x, kept))
    assert not torch.equal(supernet.train()(x, mix), supernet(x, kept))
    assert torch.equal(supernet(x, mix, dropout=False), supernet(x, kept))


def test_a_restricted_space_mixes_what_is_left() -> None:
    space, supernet = made("nasbench201")
    part = space.restrict({"node1.from0": ["skip_connect", "nor_conv_3x3"], "node2.from0": ["nor_conv_1x1"]})
    twin = supernet
    x = images(space, space.largest, 2)
    weights = random_mix(part, dtype=torch.float32)
    twin.space = part
    mixed = twin(x, Mix(weights))
    whole = {choice.name: torch.zeros(len(choice.options)) for choice in space.choices}
    for choice in space.choices:
        kept = next(other.options for other in part.choices if other.name == choice.name)
        for option, weight in zip(kept, weights[choice.name], strict=True):
            whole[choice.name][choice.options.index(option)] = weight.detach() if len(kept) > 1 else 1.0
    twin.space = space
    torch.testing.assert_close(twin(x, Mix(whole)), mixed)
    with pytest.raises(ValueError, match=r"choice 'node1.from0' has 5 options, and 2 weights in the mix"):
        twin(x, Mix(weights))
    with pytest.raises(ValueError, match=r"the mix has no weights for choice 'node3.from2'"):
        twin(x, Mix({name: value for name, value in whole.items() if name != "node3.from2"}))


def test_a_depth_is_a_mixture_of_prefixes_each_block_of_which_runs_once() -> None:
    space = OFAMobileNetV3(num_classes=5, resolutions=(32,), depths=(2, 3, 4), width_multiplier=0.5)
    twin = Supernet(space).eval()
    x = images(space, space.largest, 1)
    arch = space.largest
    calls: list[str] = []

    def counted(depths: dict[str, Tensor]) -> Tensor:
        calls.clear()
        one = Mix.one_hot(space.choices, arch)
        return twin(x, Mix({name: depths.get(name, one[name]) for name in one}))  # type: ignore[no-any-return]

    twin(x, Mix.one_hot(space.choices, arch))
    block = twin._relaxed()[0].network.get_submodule("stage1")
    for module in block.modules():
        if type(module).__name__ == "InvertedResidual":
            module.register_forward_hook(lambda *args: calls.append("block"))
    outputs = []
    for depth in (2, 3, 4):
        outputs.append(counted({"stage1.depth": torch.tensor([float(depth == value) for value in (2, 3, 4)])}))
        assert len(calls) == depth
    counted({"stage1.depth": torch.tensor([0.2, 0.3, 0.5])})
    assert len(calls) == 4
    assert len({tuple(output.flatten().tolist()) for output in outputs}) == 3


class Prefixes(SearchSpace):
    """Depths whose blocks end with normalisation, and two choices that begin with the same pooling."""

    num_classes, resolution = 3, 6

    def __init__(self) -> None:
        self.choices = (Choice("depth", (1, 2, 3)), *(Choice(f"edge{edge}", ("pool", "conv")) for edge in (1, 2)))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        def block(name: str) -> nn.Module:
            return nn.Sequential(make(f"{name}.conv", nn.Conv2d, 3, 3, 1), make(f"{name}.norm", nn.BatchNorm2d, 3))

        def option(edge: str, name: str) -> nn.Module:
            pool = nn.AvgPool2d(3, 1, 1)
            return pool if name == "pool" else nn.Sequential(pool, block(edge))

        blocks = [block(f"block{index}") for index in range(3)]
        edges = {(0, 1): make.choose("depth", lambda depth: nn.Sequential(*blocks[:depth]))}
        for target in (2, 3):
            edge = f"edge{target - 1}"
            edges[1, target] = make.choose(edge, functools.partial(option, edge))
        graph = EdgeGraph(edges, num_inputs=1, num_nodes=3, num_outputs=2)
        return nn.Sequential(graph, nn.Flatten(), make("head", nn.Linear, 216, 3))


def test_a_mixture_is_the_sum_of_its_options_also_where_they_share_layers() -> None:
    space = Prefixes()
    supernet = Supernet(space)
    weights = random_mix(space, dtype=torch.float32)
    outputs: dict[str, Tensor] = {}
    pools: list[Tensor] = []
    for module in supernet._relaxed()[0].network.modules():
        if isinstance(module, Mixed):
            module.register_forward_hook(lambda mixed, _, output: outputs.update({mixed.choice: output}))
        if type(module) is nn.AvgPool2d:
            module.register_forward_hook(lambda module, _, output: pools.append(output))
    x = torch.randn(4, 3, 6, 6)

    def run(**changed: Tensor) -> dict[str, Tensor]:
        pools.clear()
        supernet(x, Mix({**weights, **changed}))
        return dict(outputs)

    found = run()
    assert len(pools) == 1
    for choice in space.choices:
        one_hot = torch.eye(len(choice.options))
        alone = [run(**{choice.name: row})[choice.name] for row in one_hot]
        expected = sum(weight * output for weight, output in zip(weights[choice.name], alone, strict=True))
        torch.testing.assert_close(found[choice.name], expected)
        reading = torch.randn(x.shape)
        (grad,) = torch.autograd.grad((run()[choice.name] * reading).sum(), weights[choice.name])
        torch.testing.assert_close(
            grad, torch.stack([(output * reading).sum() for output in alone]), atol=1e-4, rtol=1e-4
        )
