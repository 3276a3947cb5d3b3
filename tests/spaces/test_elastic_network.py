"""Elastic spaces of networks that somebody already has: what is found in them, and what their networks compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from space_examples import images
from timm.models._efficientnet_blocks import InvertedResidual, SqueezeExcite
from timm.models.resnet import Bottleneck
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from oneshot.costs import CostTable
from oneshot.sharing import ChannelOrder, Place
from oneshot.sorting import input_energies, sort_channels
from oneshot.spaces import NetworkSpace, TimmSpace
from oneshot.spaces.channel_groups import find_channel_groups, is_group
from oneshot.spaces.elastic_blocks import analyse, smaller_for_large
from oneshot.spaces.groups import Group
from oneshot.spaces.heads import find_head_groups
from oneshot.spaces.orders import bottleneck, inverted_residual
from oneshot.spaces.trials import Inputs, Trial
from oneshot.supernet import Supernet


def inputs_of(block: nn.Module, *shape: int) -> Inputs:
    """The block in float64, every weight at random, with random images or tokens."""
    generator = torch.Generator().manual_seed(0)
    block = block.double().eval()
    for name, tensor in block.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(
                noise.abs() + 0.5 if name.endswith("running_var") else noise / max(1, tensor[0].numel()) ** 0.5
            )
    return Inputs(block, (torch.randn(2, *shape, generator=generator, dtype=torch.float64),), {})


def dims(members: Mapping[str, int | Place]) -> dict[str, int]:
    return {name: place.dim if isinstance(place, Place) else place for name, place in members.items()}


def held(order: ChannelOrder, block: nn.Module) -> dict[str, int]:
    return {name: dim for name, dim in dims(order.members).items() if name in block.state_dict()}


@pytest.mark.parametrize(
    ("block", "orders"),
    [
        (InvertedResidual(16, 24, exp_ratio=4), inverted_residual("*")[:1]),
        (Bottleneck(64, 16), bottleneck("*")),
    ],
    ids=["inverted_residual", "bottleneck"],
)
def test_the_groups_are_those_that_are_written_by_hand(block: nn.Module, orders: tuple[ChannelOrder, ...]) -> None:
    groups, _ = find_channel_groups(inputs_of(block, *((16 if len(orders) == 1 else 64), 6, 6)), set())
    assert sorted(map(str, (dims(group.members) for group in groups))) == sorted(
        str({name: held(order, block)[name] for name in dims(group.members)})
        for order in orders
        for group in groups
        if set(dims(group.members)) == set(held(order, block))
    )
    assert len(groups) == len(orders)
    readers = {(order.score, order.dim) for order in orders}
    assert {(group.reader, group.members[group.reader].dim) for group in groups} == readers


def test_gates_shrink_with_what_they_multiply() -> None:
    block = InvertedResidual(16, 24, exp_ratio=4, se_layer=SqueezeExcite)
    wide = find_channel_groups(inputs_of(block, 16, 6, 6), set())[0][0]
    (order, _) = inverted_residual("*")
    assert dims(wide.members) == held(order, block)


def test_heads_lie_in_three_parts_of_a_fused_layer() -> None:
    inputs = inputs_of(Block(32, num_heads=4, qkv_bias=True), 5, 32)
    ((group,), reasons) = find_head_groups(inputs, set())
    assert not reasons
    assert (group.units, group.size) == (4, 8)
    fused = {"attn.qkv.weight": Place(0, 3), "attn.qkv.bias": Place(0, 3), "attn.proj.weight": Place(1)}
    assert dict(group.members) == fused


def test_what_is_no_group_is_told_by_numbers() -> None:
    inputs = inputs_of(InvertedResidual(16, 24, exp_ratio=4), 16, 6, 6)
    ((group,), _) = find_channel_groups(inputs, set())
    assert is_group(inputs, group)
    for left_out in group.members:
        assert not is_group(inputs, without(group, left_out))


def without(group: Group, name: str) -> Group:
    return replace(group, members={member: place for member, place in group.members.items() if member != name})


class Joined(nn.Module):
    """Three convolutions, each reading the one before, and one that reads all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(12 if i == 0 else 16, 16, 3, padding=1) for i in range(3)])
        self.join = nn.Conv2d(12 + 3 * 16, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for conv in self.convs:
            found.append(conv(found[-1]).relu())
        return self.join(torch.cat(found, 1))


def test_channels_that_are_joined_with_others_keep_their_place() -> None:
    groups, _ = find_channel_groups(inputs_of(Joined(), 12, 6, 6), set())
    assert [group.members["join.weight"] for group in groups] == [
        Place(1, 1, 12 + 16 * i, 28 + 16 * i) for i in range(3)
    ]


class Residuals(nn.Module):
    """Pairs of convolutions, one after another, each added to what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = nn.ModuleList([nn.Sequential(nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        for pair in self.pairs:
            x = x + pair(x)
        return x


def test_layers_that_come_too_late_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    teams: list[dict[str, int]] = []
    run = Trial.run

    def counted(self: Trial, makers: dict[str, int], *rest: Any) -> list[Group] | str:
        teams.append(makers)
        return run(self, makers, *rest)

    monkeypatch.setattr(Trial, "run", counted)
    groups, reasons = find_channel_groups(inputs_of(Residuals(), 16, 4, 4), set())
    assert [group.reader for group in groups] == [f"pairs.{number}.1.weight" for number in range(4)]
    assert reasons.keys() == {f"pairs.{number}.1" for number in range(4)}
    # The second of a pair fails where it is added; the later layers of equal width, alone and all at once, come after that.
    assert [team for team in teams if len(team) > 1] == []


class Repeated(nn.Module):
    """A norm sees the same channels twice."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 32, 3), nn.BatchNorm2d(64)
        self.second, self.last = nn.Conv2d(64, 8, 1), nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(self.second(self.norm(torch.cat([x, 2 * x], 1)).relu()).mean((2, 3)))


def test_statistics_of_repeated_channels_are_shared() -> None:
    space = NetworkSpace("test_elastic_network.py:Repeated", 3, 16, width_ratios=(0.25, 1.0), input_ratios=(1.0,))
    supernet = Supernet(space).train()
    before = supernet.bank.network.norm.running_mean.clone()  # type: ignore[union-attr, operator]
    extracted = supernet.extract(space.smallest)
    x = torch.randn(4, 3, 16, 16)
    assert torch.equal(supernet(x, space.smallest), extracted(x))
    changed = supernet.bank.network.norm.running_mean != before  # type: ignore[union-attr]
    assert changed.tolist() == 2 * ([True] * 8 + [False] * 24)
    again = supernet.extract(space.smallest).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in extracted.state_dict().items())


def test_the_larger_part_of_common_networks_is_elastic() -> None:
    for name, size, least in [("efficientnet_b0", 64, 0.85), ("deit_tiny_patch16_224", 224, 0.95)]:
        analysis, _ = analyse(timm.create_model(name).eval(), torch.zeros(1, 3, size, size))
        assert analysis.elastic_share >= least
        assert sum(share for _, share in analysis.static_shares()) == pytest.approx(1 - analysis.elastic_share)


def test_large_networks_are_examined_with_smaller_images(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    for name, takes_less in (("test_efficientnet", True), ("test_vit", False)):
        network = timm.create_model(name, **({} if takes_less else {"img_size": 96, "dynamic_img_size": False})).eval()
        whole, _ = analyse(network, image)
        assert smaller_for_large(network, image) == (image, None)
        with monkeypatch.context() as patched:
            patched.setattr("oneshot.spaces.elastic_blocks._MOST", sum(whole.macs.values()) / 2)
            examined, macs = smaller_for_large(network, image)
        assert examined.shape[-2:] == ((68, 68) if takes_less else (96, 96))
        found, logits = analyse(network, examined, macs)
        assert found == whole  # multiply-accumulates are those of the whole image, too
        assert torch.equal(logits, network(examined))


# Spaces --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vit() -> TimmSpace:
    return TimmSpace("test_vit", 5, 48, input_ratios=(0.7, 1.0))


def test_the_largest_network_is_the_original(vit: TimmSpace) -> None:
    sized = {"img_size": 48, "dynamic_img_size": True}
    for space, options in ((vit, sized), (TimmSpace("test_efficientnet", 5, 48), {})):
        torch.manual_seed(0)
        supernet = Supernet(space).eval()
        original = timm.create_model(space.definition["model"], num_classes=5, **options).eval()
        state = {
            name.removeprefix("bank.").removesuffix(".value"): tensor for name, tensor in supernet.state_dict().items()
        }
        original.load_state_dict(state)
        x = images(space, space.largest)
        assert torch.equal(supernet(x, space.largest), original(x))
        cost = CostTable(space).original()
        assert cost.params == sum(parameter.numel() for parameter in original.parameters())


def test_heads_are_cut_from_each_third(vit: TimmSpace) -> None:
    supernet = Supernet(vit)
    few = vit.arch({**vit.largest, "blocks.2.heads": 1})
    qkv, stored = (
        supernet.extract(few).blocks[2].attn.qkv.weight,
        supernet.bank.blocks.get_submodule("2.attn.qkv").weight,
    )  # type: ignore[index, union-attr, call-overload]
    heads = int(vit.largest["blocks.2.heads"])
    width = len(stored) // 3 // heads
    assert torch.equal(qkv, torch.cat([third[:width] for third in stored.chunk(3)]))
    assert supernet.extract(few).blocks[2].attn.num_heads == 1  # type: ignore[index, union-attr]


def test_sizes_of_images_are_those_that_the_model_takes(vit: TimmSpace) -> None:
    assert [choice.options for choice in vit.choices if choice.name == "resolution"] == [(32, 48)]
    with pytest.raises(ValueError, match=r"does not take images of 50 pixels: .*divisible by patch size"):
        TimmSpace("test_vit", 5, 50)


def test_blocks_go_in_the_order_that_is_given() -> None:
    order = ["blocks.1", "blocks.4", "blocks.0"]
    space = TimmSpace("test_vit", 5, 32, input_ratios=(1.0,), removal=order)
    for gone, depth in enumerate((6, 5, 4, 3)):
        network = space.network(space.arch({**space.largest, "blocks.depth": depth}))
        skipped = [index for index, block in enumerate(network.blocks) if not list(block.parameters())]  # type: ignore[arg-type, union-attr]
        assert sorted(f"blocks.{index}" for index in skipped) == sorted(order[:gone])
    with pytest.raises(
        ValueError, match=r"removal: 'block.1' is no block that .* can do without; did you mean 'blocks.1'"
    ):
        TimmSpace("test_vit", 5, 32, removal=["block.1"])
    with pytest.raises(ValueError, match=r"removal: 'layer1\.0' is no block that .* can do without"):
        TimmSpace("test_resnet", 5, 32, removal=["layer1.0"])  # the only one of its stage


def test_kernels_are_cropped_to_their_centre() -> None:
    space = TimmSpace("test_convnext", 5, 32)
    supernet = Supernet(space)
    small = supernet.extract(space.arch({**space.largest, "stages.0.blocks.0.kernel": 3})).stages[0].blocks[0].conv_dw  # type: ignore[index, union-attr]
    stored = supernet.bank.stages.get_submodule("0.blocks.0.conv_dw").weight  # type: ignore[union-attr, operator]
    assert torch.equal(small.weight, stored[:, :, 2:5, 2:5])
    assert small.padding == (1, 1)


@pytest.mark.parametrize("model", ["test_vit", "test_byobnet", "ese_vovnet19b_slim_dw"])
def test_sorting_keeps_what_the_original_computes(model: str) -> None:
    torch.manual_seed(0)
    space = TimmSpace(model, 5, 48)
    supernet = Supernet(space).eval().requires_grad_(False)
    whole = space.restrict({choice.name: choice.options[-1:] for choice in space.choices})
    x = images(space, space.largest, 8)
    before, narrow = supernet(x, space.largest), supernet.extract(space.smallest).state_dict()
    energies = input_energies(supernet, space.largest, [x[:4], x[4:]])
    assert sort_channels(supernet, whole, energies) == len(space.channel_orders)
    after = supernet(x, space.largest)
    assert float((after - before).abs().max() / before.abs().max()) < 1e-5
    sorted_narrow = supernet.extract(space.smallest).state_dict()
    assert not all(torch.equal(tensor, sorted_narrow[name]) for name, tensor in narrow.items())


def test_what_matters_most_on_images_comes_first(vit: TimmSpace) -> None:
    torch.manual_seed(0)
    supernet = Supernet(vit).eval()
    x = images(vit, vit.largest, 6)
    sort_channels(supernet, vit.restrict({"*.width": (1.0,)}), input_energies(supernet, vit.largest, [x]))
    seen: list[Tensor] = []
    network = supernet.extract(vit.largest)
    network.blocks[1].mlp.fc2.register_forward_pre_hook(lambda module, args: seen.append(args[0]))  # type: ignore[index, union-attr, arg-type]
    network(x)
    rms = seen[0].square().mean((0, 1)).sqrt()
    importance = network.blocks[1].mlp.fc2.weight.norm(dim=0) * rms  # type: ignore[index, union-attr]
    falling = importance.sort(descending=True).values
    torch.testing.assert_close(importance, falling, rtol=1e-4, atol=0)


def test_initial_weights_are_drawn_anew_and_from_the_seed(vit: TimmSpace) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append([vit.network(vit.smallest).state_dict(), Supernet(vit).state_dict()])
    for one, other, third in zip(*states, strict=True):
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
        assert not all(torch.equal(tensor, third[name]) for name, tensor in one.items())
    torch.manual_seed(0)
    first, second = vit.network(vit.largest), vit.network(vit.largest)
    assert not torch.equal(first.blocks[0].attn.qkv.weight, second.blocks[0].attn.qkv.weight)  # type: ignore[index, union-attr]


def test_a_module_of_blocks_of_one_class_is_a_stage() -> None:
    """RegNet's stages call their children one after the other, and are no ``nn.Sequential``."""
    space = TimmSpace("regnetx_002", 3, 32)
    depths = {choice.name: choice.options for choice in space.choices if choice.name.endswith(".depth")}
    assert {name: max(options) for name, options in depths.items()} == {"s3.depth": 4, "s4.depth": 7}
    arch = space.arch({**space.largest, "s4.depth": min(depths["s4.depth"])})
    network = space.network(arch).eval()
    assert network(torch.randn(1, 3, 32, 32)).shape == (1, 3)
    assert CostTable(space).cost(arch).macs < CostTable(space).cost(space.largest).macs
