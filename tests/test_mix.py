"""Mixes: one of weight 1 is the discrete network, and gradients of weights are those of the sum."""

from __future__ import annotations

import copy
import functools
import importlib.util
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from space_examples import SPACES, images
from timm.layers import DropPath
from torch import Tensor, nn

from oneshot.arch import Arch, Choice, Option
from oneshot.mix import Mix
from oneshot.spaces import Make, NASBench201, OFAMobileNetV3, SearchSpace
from oneshot.spaces.cell_layers import EdgeGraph
from oneshot.spaces.mixed import Mixed
from oneshot.spaces.relaxed import RelaxedSkeleton
from oneshot.spaces.skeleton import Skeletons
from oneshot.spaces.weighted_sum import weighted_sum
from oneshot.supernet import Supernet

ROOT = Path(__file__).parent.parent


def my_cell() -> SearchSpace:
    spec = importlib.util.spec_from_file_location("my_cell_under_test", ROOT / "examples" / "my_cell.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    space: SearchSpace = module.MyCell(num_classes=4, resolution=12, channels=4, num_cells=2)
    return space


class Zeros(SearchSpace):
    """A choice between nothing and a convolution that changes size and channels, and one of dropped paths."""

    num_classes, resolution = 5, 8

    def __init__(self) -> None:
        self.choices = (Choice("op", ("none", "conv", "pool")), Choice("dropped", (False, True)))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        def option(name: str) -> nn.Module | None:
            if name == "none":
                return None
            conv = make(
                f"op.{name}", nn.Conv2d, 3, 4, 3 if name == "conv" else 1, stride=2, padding=int(name == "conv")
            )
            return nn.Sequential(nn.ReLU(), conv)

        op = make.choose("op", option)
        dropped = make.choose("dropped", lambda dropped: DropPath(0.5) if dropped else nn.Identity())
        stem = op if op is not None else nn.Sequential(nn.AvgPool2d(2), _Widened())
        return nn.Sequential(stem, dropped, nn.Flatten(), make("head", nn.Linear, 64, self.num_classes))


class _Widened(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), 4, *x.shape[2:])


SMALL: dict[str, list[Option]] = {
    "resolution": [32],
    "stage[345].depth": [2],
    "stage[345].*.kernel": [3],
    "stage[345].*.expand": [3],
}
# The part of each space whose choices can be mixed; all others say which choice cannot.
MIXED: dict[str, Callable[[], SearchSpace]] = {
    **{name: SPACES[name] for name in ("nasbench201", "darts", "nasbench_macro", "enas_macro", "enas_micro")},
    "spos": lambda: SPACES["spos"]().restrict({"stage[34].*": ["shuffle3"]}),
    "ofa": lambda: SPACES["ofa"]().restrict(SMALL),
    "ofa_proxyless": lambda: SPACES["ofa_proxyless"]().restrict({**SMALL, "stage[345].depth": [1]}),
    "my_cell": my_cell,
}
every_mixed = pytest.mark.parametrize("name", MIXED)


@functools.cache
def _made(name: str) -> tuple[SearchSpace, Supernet, dict[str, Tensor]]:
    space = MIXED[name]()
    torch.manual_seed(0)
    supernet = Supernet(space.whole())
    for tensor in supernet.parameters():  # so that no space's outputs are as small as its initial weights make them
        tensor.data.add_(0.05 * torch.randn_like(tensor))
    return space, supernet, copy.deepcopy(supernet.state_dict())


def made(name: str, training: bool = False) -> tuple[SearchSpace, Supernet]:
    """A space and a supernet with always the same weights; skeletons are made once."""
    space, supernet, state = _made(name)
    supernet.float().load_state_dict(state)
    supernet.zero_grad()
    supernet.space = space
    return space, supernet.train(training)


def grads(supernet: Supernet) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in supernet.named_parameters()}


def same(left: Mapping[str, Tensor | None], right: Mapping[str, Tensor | None]) -> bool:
    return all(
        (left[name] is None) == (right[name] is None) and (left[name] is None or torch.equal(left[name], right[name]))  # type: ignore[arg-type]
        for name in left
    )


def random_mix(space: SearchSpace, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        choice.name: torch.randn(len(choice.options), generator=generator, dtype=dtype).softmax(0).requires_grad_()
        for choice in space.choices
    }


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


# What it costs, and what it leaves alone -----------------------------------------------------------------------------


def kept_bytes(run: Callable[[], Tensor]) -> int:
    """Memory that the backward pass needs, each tensor once."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    assert output.requires_grad
    return sum(seen.values())


def test_a_path_takes_the_memory_of_one_path_and_a_mix_that_of_its_options() -> None:
    space, twin = made("nasbench_macro", training=True)
    arch = space.sample(random.Random(3))
    x = images(space, arch, 4)
    alone = kept_bytes(lambda: twin(x, arch))
    assert kept_bytes(lambda: twin(x, Mix.one_hot(space.choices, arch))) <= alone
    learned = {name: value.requires_grad_() for name, value in Mix.one_hot(space.choices, arch).items()}
    assert kept_bytes(lambda: twin(x, Mix(learned))) <= 1.3 * alone  # and the output of each layer
    each = [kept_bytes(lambda: twin(x, space.decide(lambda c: o))) for o in space.choices[0].options]  # noqa: B023
    assert kept_bytes(lambda: twin(x, Mix(random_mix(space, dtype=torch.float32)))) <= 1.1 * sum(each)


def test_options_of_weight_zero_are_not_run_and_get_no_gradient() -> None:
    space, twin = made("nasbench201", training=True)
    weights = {choice.name: torch.zeros(len(choice.options)) for choice in space.choices}
    for values in weights.values():
        values[1] = values[4] = 0.5
    twin(images(space, space.largest, 2), Mix(weights)).sum().backward()
    touched = {name for name, grad in grads(twin).items() if grad is not None}
    assert any("nor_conv_3x3" in name for name in touched)
    assert not any("nor_conv_1x1" in name for name in touched)


def test_probed_options_give_a_gradient_to_their_weight_and_to_nothing_else() -> None:
    space, twin = made("my_cell")
    x = images(space, space.largest, 2)
    hard = {name: value.requires_grad_() for name, value in Mix.one_hot(space.choices, space.smallest).items()}
    twin(x, Mix(hard)).sum().backward()
    assert hard["node3.from2"].grad is not None
    assert hard["node3.from2"].grad[4] == 0
    twin.zero_grad()
    probed = {name: value.detach().clone().requires_grad_() for name, value in hard.items()}
    twin(x, Mix(probed, {"node3.from2": [4]})).sum().backward()
    assert probed["node3.from2"].grad is not None
    assert probed["node3.from2"].grad[4] != 0
    assert not any("conv" in name for name, grad in grads(twin).items() if grad is not None and "cell" in name)


def test_statistics_move_where_they_are_told_to() -> None:
    space, twin = made("nasbench201", training=True)
    mix, x = Mix(random_mix(space, dtype=torch.float32)), images(space, space.largest, 2)
    before = copy.deepcopy(twin.state_dict())
    without = twin(x, mix, statistics="batch")
    assert same(twin.state_dict(), before)
    assert torch.equal(twin(x, mix), without)
    moved = [name for name, tensor in twin.state_dict().items() if not torch.equal(tensor, before[name])]
    assert any("nor_conv_1x1" in name for name in moved)
    assert all("running" in name or "tracked" in name for name in moved)


def test_a_mix_refuses_what_is_none() -> None:
    choices = NASBench201().choices
    with pytest.raises(ValueError, match=r"'node1.from0' cannot be 'conv'"):
        Mix.one_hot(choices, {"node1.from0": "conv"})
    with pytest.raises(ValueError, match=r"'node1.fro' is not a choice of this space; did you mean 'node1.from0'"):
        Mix.one_hot(choices, {"node1.fro": "none"})
    for wrong in (torch.ones(2, 2), torch.ones(2, dtype=torch.int64), torch.tensor([0.0, float("nan")])):
        with pytest.raises(ValueError, match=r"the weights of 'a' are"):
            Mix({"a": wrong})
    with pytest.raises(ValueError, match="could be probed"):
        Mix({"a": torch.ones(2)}, {"a": [2]})


def test_a_space_that_names_no_choice_is_told_so() -> None:
    class Mistyped(Zeros):
        def build(self, arch: Arch, make: Make) -> nn.Module:
            def option(value: Option) -> nn.Module:
                return nn.Identity()

            return nn.Sequential(make.choose("ops", option))

    with pytest.raises(ValueError, match=r"make\.choose\('ops'\), which is no choice; did you mean 'op'"):
        RelaxedSkeleton(Mistyped(), Skeletons(Mistyped()))


def test_values_that_skip_connections_pass_are_dropped_in_training_alone() -> None:
    space, twin = made("nasbench201")
    x, skips = (
        images(space, space.largest, 2),
        Mix.one_hot(space.choices, {c.name: "skip_connect" for c in space.choices}),
    )
    pools = Mix.one_hot(space.choices, {c.name: "avg_pool_3x3" for c in space.choices})
    expected = twin(x, skips)
    assert torch.equal(twin(x, skips.dropping(0.5)), expected)
    assert torch.equal(twin.extract(skips.dropping(0.5))(x), expected)
    twin.train()
    assert torch.equal(twin(x, pools.dropping(0.5), statistics="batch"), twin(x, pools, statistics="batch"))
    assert not torch.equal(twin(x, skips.dropping(0.5), statistics="batch"), twin(x, skips, statistics="batch"))
    inputs: list[Tensor] = []
    cell = twin._relaxed()[0].network.get_submodule("stage1_cell1")
    hook = cell.register_forward_hook(lambda module, given, output: inputs.extend([given[0], output]))
    edge = {c.name: ("skip_connect" if c.name == "node3.from0" else "none") for c in space.choices}
    twin(x, Mix.one_hot(space.choices, edge).dropping(0.5))
    hook.remove()
    passed = inputs[1] != 0
    assert torch.equal(inputs[1][passed], 2 * inputs[0][passed])
    assert 0.3 < float(passed.float().mean()) < 0.7


# A part of the channels ------------------------------------------------------------------------------------------------


def by_hand(space: NASBench201, supernet: Supernet, weights: Mapping[str, Tensor], x: Tensor, parts: int) -> Tensor:
    """The first cell of a network, as PC-DARTS computes it."""
    bank, first = supernet.bank.stage1.cell1, space.channels // parts  # type: ignore[union-attr]
    nodes = [x]
    for target in (1, 2, 3):
        total: Tensor | float = 0.0
        for source in range(target):
            name = f"node{target}.from{source}"
            quarter, rest = nodes[source][:, :first], nodes[source][:, first:]
            made = weights[name][1] * quarter + weights[name][2] * nn.functional.avg_pool2d(
                quarter, 3, 1, 1, count_include_pad=False
            )
            for position, kernel in ((3, 1), (4, 3)):
                block = bank.get_submodule(f"{name}.nor_conv_{kernel}x{kernel}")
                conv = nn.functional.conv2d(
                    quarter.relu(), block.get_submodule("1").weight[:first, :first], padding=kernel // 2
                )
                norm = nn.functional.batch_norm(conv, None, None, training=True)
                affine = block.get_submodule("2")
                made = made + weights[name][position] * (
                    norm * affine.weight[:first, None, None] + affine.bias[:first, None, None]
                )
            joined = torch.cat((made, rest), 1)
            batch, channels, height, width = joined.shape
            shuffled = joined.view(batch, parts, channels // parts, height, width).transpose(1, 2).reshape(joined.shape)
            total = total + shuffled
        assert isinstance(total, Tensor)
        nodes.append(total)
    return nodes[-1]


def test_a_quarter_of_the_channels_is_mixed_and_the_rest_is_shuffled_in() -> None:
    space = NASBench201(num_classes=3, resolution=8, channels=8, num_cells=1)
    supernet = Supernet(space).double()
    weights = random_mix(space)
    mix = Mix(weights).on_part(4)
    inputs: list[Tensor] = []
    cell = supernet._relaxed(4)[0].network.get_submodule("stage1_cell1")
    hook = cell.register_forward_hook(lambda module, given, output: inputs.extend([given[0], output]))
    supernet(torch.randn(2, 3, 8, 8, dtype=torch.float64), mix).sum().backward()
    hook.remove()
    torch.testing.assert_close(by_hand(space, supernet, weights, inputs[0], 4), inputs[1])
    conv = supernet.bank.stage1.cell1.node1.from0.nor_conv_3x3.get_submodule("1").weight.grad  # type: ignore[union-attr]
    assert (conv[:2, :2] != 0).any()
    assert not conv[2:].any()
    assert not conv[:, 2:].any()


def test_parts_of_the_channels_are_halved_dropped_and_copied_as_all_are() -> None:
    space = SPACES["darts"]()
    supernet = Supernet(space)
    x = images(space, space.largest, 2)
    weights = {choice.name: torch.zeros(len(choice.options)) for choice in space.choices}
    for values in weights.values():
        values[torch.randint(len(values), ())] = 1.0  # "none" leaves the other channels
    mix = Mix(weights).on_part(2)
    expected = supernet.eval()(x, mix)
    assert torch.equal(supernet.extract(mix)(x), expected)
    assert not torch.equal(supernet(x, Mix(weights)), expected)
    with pytest.raises(ValueError, match=r"partial_channels=3 does not divide the \d+ channels of choice 'normal"):
        supernet(x, Mix(weights).on_part(3))
    macro, twin = made("nasbench_macro")
    with pytest.raises(ValueError, match=r"partial_channels=2: NASBenchMacro does not say on how many channels"):
        twin(images(macro, macro.largest, 2), Mix(random_mix(macro)).on_part(2))
