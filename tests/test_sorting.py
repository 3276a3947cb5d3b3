"""Sorting channels by importance: order, the trained networks' function, and what else it must leave alone."""

from __future__ import annotations

import random

import pytest
import torch
from space_examples import images

from oneshot.sorting import sort_channels
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3, SearchSpace
from oneshot.supernet import Supernet

SPACE = OFAMobileNetV3(num_classes=5, resolutions=(24, 32), width_multiplier=0.35)


def make_supernet() -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(SPACE).double().eval()
    for name, buffer in supernet.bank.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    for name, parameter in supernet.bank.named_parameters():
        if name.endswith(("bn1.weight", "bn2.weight", "bn1.bias", "bn2.bias")):
            parameter.data.uniform_(0.1, 1)
        if "to" in name.rpartition(".")[2]:  # kernel transforms other than the identity
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return supernet


@pytest.mark.parametrize("trained", [(6,), (4, 6), (3, 4, 6)])
def test_networks_trained_so_far_compute_what_they_did(trained: tuple[int, ...]) -> None:
    supernet, rng = make_supernet(), random.Random(0)
    part = SPACE.restrict({"*.expand": trained})
    archs = [part.largest, part.smallest, *(part.sample(rng) for _ in range(4))]
    images = {size: torch.randn(2, 3, size, size, dtype=torch.float64) for size in (24, 32)}
    with torch.no_grad():
        before = [supernet(images[SPACE.input_shape(arch)[-1]], arch) for arch in archs]
        narrow = supernet(images[24], SPACE.smallest)
        assert sort_channels(supernet, part) == 20 + 12  # blocks, and those with squeeze-and-excitation
        after = [supernet(images[SPACE.input_shape(arch)[-1]], arch) for arch in archs]
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        changed = not torch.allclose(supernet(images[24], SPACE.smallest), narrow, rtol=1e-3)
    assert changed == (trained != (3, 4, 6))


def importance(supernet: Supernet, block: str) -> torch.Tensor:
    weight: torch.Tensor = supernet.bank.get_parameter(f"{block}.conv_pwl.weight")
    return weight.detach().abs().sum((0, 2, 3))


def test_the_most_important_channels_come_first() -> None:
    supernet = make_supernet()
    sort_channels(supernet, SPACE.restrict({"*.expand": (6,)}))
    falling = importance(supernet, "stage3.block2")
    assert torch.equal(falling, falling.sort(descending=True).values)
    narrow = SPACE.arch({**SPACE.largest, "stage3.block2.expand": 3})
    kept = supernet.extract(narrow).stage3.block2.conv_pwl.weight.detach().abs().sum((0, 2, 3))  # type: ignore[union-attr]
    assert kept.min() >= falling[len(kept) :].max()


def test_channels_stay_on_their_side_of_a_trained_width() -> None:
    supernet = make_supernet()
    before = importance(supernet, "stage3.block2")
    part = SPACE.restrict({"*.expand": (4, 6)})
    sort_channels(supernet, part)
    after = importance(supernet, "stage3.block2")
    width = supernet.extract(
        SPACE.arch({**SPACE.largest, "stage3.block2.expand": 4})
    ).stage3.block2.conv_pwl.in_channels  # type: ignore[union-attr]
    for one, two in ((before[:width], after[:width]), (before[width:], after[width:])):
        assert torch.equal(one.sort(descending=True).values, two)
    assert not torch.equal(after, after.sort(descending=True).values)


def test_what_is_sorted_stays() -> None:
    supernet = make_supernet()
    part = SPACE.restrict({"*.expand": (6,)})
    sort_channels(supernet, part)
    state = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    sort_channels(supernet, part)
    assert all(torch.equal(tensor, state[name]) for name, tensor in supernet.state_dict().items())


def test_in_every_space_networks_trained_so_far_compute_what_they_did(any_space: SearchSpace) -> None:
    torch.manual_seed(0)
    supernet = Supernet(any_space).double().eval()
    for tensor in (*supernet.bank.parameters(), *supernet.bank.buffers()):
        if tensor.is_floating_point():
            tensor.data.add_(0.1 * torch.rand_like(tensor))
    part = any_space.restrict({choice.name: choice.options[-1:] for choice in any_space.choices})
    x = images(any_space, part.largest).double()
    with torch.no_grad():
        before = supernet(x, part.largest)
        state = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
        count = sort_channels(supernet, part)
        assert (count > 0) == bool(any_space.channel_orders)
        changed = [name for name, tensor in supernet.state_dict().items() if not torch.equal(tensor, state[name])]
        assert bool(changed) == bool(any_space.channel_orders)
        torch.testing.assert_close(supernet(x, part.largest), before, rtol=1e-9, atol=1e-12)


def test_a_space_without_channel_orders_is_left_alone() -> None:
    space = NASBenchMacro(channels=4, head_channels=8)
    supernet = Supernet(space)
    state = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    assert sort_channels(supernet, space) == 0
    assert all(torch.equal(tensor, state[name]) for name, tensor in supernet.state_dict().items())
