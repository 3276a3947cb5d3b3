"""Single Path One-Shot's space: its blocks against an independent description, its published network's costs."""

import math
import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from oneshot.costs import CostTable
from oneshot.spaces import SPOSShuffleNetV2
from oneshot.spaces.layers import ShuffleBlock

# The searched network of the published README: 323M FLOPs, 3.5M parameters.
PUBLISHED = (2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3)

# MACs of a block at 224 pixels, by stage and whether it is the stage's first: shuffle with kernels 3, 5 and 7, xception. From the
# table that published code for this space looks them up in.
BLOCK_MACS = {
    (1, True): (13396992, 15805440, 19418112, 13146112),
    (1, False): (7325696, 8931328, 11339776, 12343296),
    (2, True): (26304768, 28111104, 30820608, 20296192),
    (2, False): (10599680, 11603200, 13108480, 16746240),
    (3, True): (30670080, 31673600, 33178880, 21199360),
    (3, False): (10317440, 10819200, 11571840, 15899520),
    (4, True): (30387840, 30889600, 31642240, 20634880),
    (4, False): (10176320, 10427200, 10803520, 15476160),
}


def channel_shuffle(x: Tensor) -> Tensor:
    """Interleaves the halves of the channels, as ShuffleNet's paper describes it: reshape, transpose, flatten."""
    batch, channels, height, width = x.shape
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)


def layers_of(branch: nn.Module, x: Tensor, stride: int) -> Tensor:
    """A branch from its tensors alone: every convolution with its BatchNorm, a ReLU behind those that mix channels."""
    convolutions = [module for module in branch.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in branch.modules() if isinstance(module, nn.BatchNorm2d)]
    strided = False
    for convolution, norm in zip(convolutions, norms, strict=True):
        weight = convolution.weight
        depthwise = weight.shape[2] > 1
        step = stride if depthwise and not strided else 1
        strided |= depthwise
        x = functional.conv2d(x, weight, None, step, weight.shape[2] // 2, groups=len(weight) if depthwise else 1)
        x = functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        x = x if depthwise else x.relu()
    return x


@pytest.fixture(
    params=[(3, False), (5, False), (7, False), (3, True)], ids=["shuffle3", "shuffle5", "shuffle7", "xception"]
)
def options(request: pytest.FixtureRequest) -> dict[str, int | bool]:
    return {"kernel_size": request.param[0], "xception": request.param[1]}


def made(block: ShuffleBlock) -> ShuffleBlock:
    for tensor in [*block.parameters(), *block.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.1, 0.5).sub_(0.0 if tensor.ndim == 1 else 0.3)
    return block.double().eval()


def test_a_block_of_stride_1(options: dict[str, int | bool]) -> None:
    """The published code lets the even channels pass and transforms the odd ones: the split of a channel shuffle."""
    block = made(ShuffleBlock(12, 12, **options))
    x = torch.randn(2, 12, 9, 9, dtype=torch.float64)
    batch, channels, height, width = x.shape
    passed, transformed = (
        x.view(batch * channels // 2, 2, height * width).permute(1, 0, 2).reshape(2, batch, 6, height, width)
    )
    expected = torch.cat((passed, layers_of(block.main, transformed, 1)), 1)
    torch.testing.assert_close(block(x), expected)


def test_a_block_of_stride_2(options: dict[str, int | bool]) -> None:
    block = made(ShuffleBlock(8, 20, stride=2, **options))
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    expected = torch.cat((layers_of(block.side, x, 2), layers_of(block.main, x, 2)), 1)
    received = block(x)
    assert received.shape == (2, 20, 5, 5)
    torch.testing.assert_close(received, expected)


def test_a_block_is_torchvisions_but_for_where_the_channels_are_shuffled() -> None:
    """torchvision splits, transforms and shuffles; the published code shuffles, splits and transforms."""
    from torchvision.models.shufflenetv2 import InvertedResidual

    ours = [made(ShuffleBlock(8, 16, stride=2)), made(ShuffleBlock(16, 16))]
    theirs = [InvertedResidual(8, 16, 2).double().eval(), InvertedResidual(16, 16, 1).double().eval()]
    for one, two in zip(ours, theirs, strict=True):
        two.branch2.load_state_dict(one.main.state_dict())
    theirs[0].branch1.load_state_dict(ours[0].side.state_dict())
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    half = theirs[0](x)
    torch.testing.assert_close(channel_shuffle(ours[0](x)), half)
    torch.testing.assert_close(channel_shuffle(ours[1](channel_shuffle(half))), theirs[1](half))


def test_the_published_network_has_its_published_costs() -> None:
    space = SPOSShuffleNetV2()
    arch = space.arch({choice.name: choice.options[i] for choice, i in zip(space.choices, PUBLISHED, strict=True)})
    cost = CostTable(space).cost(arch)
    assert round(cost.macs / 1e6) == 323
    assert math.floor(cost.params / 1e5) == 35


def test_every_block_has_its_published_macs() -> None:
    space = SPOSShuffleNetV2()
    table = CostTable(space)
    for column, option in enumerate(("shuffle3", "shuffle5", "shuffle7", "xception")):
        blocks = table.blocks(space.arch({choice.name: option for choice in space.choices}))
        for block in blocks:
            if stage := re.fullmatch(r"stage(\d)\.block(\d)\..*", block.name):
                assert block.macs == BLOCK_MACS[int(stage[1]), stage[2] == "1"][column], block


def test_every_option_has_weights_of_its_own() -> None:
    space = SPOSShuffleNetV2(num_classes=5, resolution=32)
    assert space.choices[0].options == ("shuffle3", "shuffle5", "shuffle7", "xception")
    assert len(space.choices) == 20
    network = space.network(space.smallest)
    widths = [getattr(network, f"stage{stage}")(x).shape[1] for stage, x in _inputs(network)]
    assert widths == [64, 160, 320, 640]
    assert network.classifier.bias is None


def _inputs(network: nn.Module) -> list[tuple[int, Tensor]]:
    x, found = network.stem(torch.randn(2, 3, 64, 64)), []
    for stage in (1, 2, 3, 4):
        found.append((stage, x))
        x = network.get_submodule(f"stage{stage}")(x)
    return found
