"""Mixes: what they cost, what they leave alone, and those of a part of the channels."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping

import pytest
import torch
from mixed_spaces import Zeros, grads, made, random_mix, same
from space_examples import SPACES, images
from torch import Tensor, nn

from oneshot.arch import Arch, Option
from oneshot.mix import Mix
from oneshot.spaces import Make, NASBench201
from oneshot.spaces.relaxed import RelaxedSkeleton
from oneshot.spaces.skeleton import Skeletons
from oneshot.supernet import Supernet

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
