"""Once-for-All's ResNet-50D space means what the published one means: its checkpoints, its depths and widths, and its costs."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import pytest
import timm
import torch
from published_weights import reproducible_weights
from torch.utils.flop_counter import FlopCounterMode

from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.spaces import OFAResNet50
from oneshot.supernet import Supernet

SMALLEST_DEPTHS = (2, 2, 4, 2)
FIRST_BLOCKS = (0, 4, 8, 14)
SMALLER = {"expand_ratios": (0.2, 0.3, 0.4), "width_multipliers": (0.4, 0.5, 0.65)}
HIDDEN_WIDTHS = (16, 16, 24)

# Logits of two images, four classes, that the published implementation (PyPI's `ofa` 0.1.0.post202307202001, in float64) gives
# for these expansions and widths and the weights of `reproducible_weights`; d and w begin with the stem's, e holds as many slots
# for a stage as it can be deep.
GOLDEN: list[tuple[dict[str, list[float]], list[list[float]]]] = [
    (
        {"d": [2] * 5, "e": [0.4] * 18, "w": [2] * 6},
        [[13192.8588, 33604.9328, 32804.179, 16501.8395], [12746.6858, 33732.357, 32932.5633, 16198.5469]],
    ),
    (
        {"d": [0] * 5, "e": [0.2] * 18, "w": [0] * 6},
        [[0.621279178, 1.1254879, 0.570817539, 1.93871306], [0.533496622, 1.08002443, 0.590133649, 1.88780062]],
    ),
    (
        {
            "d": [2, 1, 0, 1, 2],
            "e": [0.3, 0.3, 0.3, 0.3, 0.3, 0.4, 0.2, 0.4, 0.2, 0.3, 0.2, 0.2, 0.4, 0.3, 0.4, 0.4, 0.4, 0.2],
            "w": [1, 0, 2, 0, 2, 1],
        },
        [[-11.7469062, 33.6367831, 24.810244, 37.0080644], [-10.1550674, 34.3556163, 27.2925548, 37.3457458]],
    ),
    (
        {
            "d": [2, 2, 0, 0, 2],
            "e": [0.4, 0.3, 0.4, 0.3, 0.3, 0.3, 0.4, 0.4, 0.4, 0.3, 0.2, 0.3, 0.4, 0.2, 0.3, 0.4, 0.4, 0.3],
            "w": [0, 0, 0, 2, 1, 0],
        },
        [[0.629952356, 19.0060042, -4.41784886, 18.4592708], [0.786888503, 18.6340888, -4.76268108, 18.2821838]],
    ),
]


def published_name(key: str) -> str:
    """The name in a published checkpoint of a tensor of the supernet."""
    module, _, tensor = key.removeprefix("bank.").rpartition(".")
    if module == "classifier":
        return f"classifier.linear.linear.{tensor}"
    in_stem = re.fullmatch(r"stem\.conv(\d)\.(conv|bn)", module)
    if in_stem is not None:
        residual = "conv." if in_stem[1] == "2" else ""
        return f"input_stem.{int(in_stem[1]) - 1}.{residual}{in_stem[2]}.{in_stem[2]}.{tensor}"
    in_stage = re.fullmatch(r"stage(\d)\.block(\d)\.(conv|bn|downsample\.)(\d)", module)
    assert in_stage is not None
    block = f"blocks.{FIRST_BLOCKS[int(in_stage[1]) - 1] + int(in_stage[2]) - 1}"
    if in_stage[3] == "downsample.":
        layer = {"1": "conv", "2": "bn"}[in_stage[4]]
        return f"{block}.downsample.{layer}.{layer}.{tensor}"
    return f"{block}.conv{in_stage[4]}.{in_stage[3]}.{in_stage[3]}.{tensor}"


def published_arch(space: OFAResNet50, net: Mapping[str, Sequence[float]], resolution: int) -> Arch:
    """The architecture of a published encoding: depths beyond the smallest, expansions, and indices of widths."""
    options = {choice.name: choice.options for choice in space.choices}
    depths, indices = [int(depth) for depth in net["d"]], [int(index) for index in net["w"]]
    values: dict[str, Any] = {
        "resolution": resolution,
        "stem.depth": 3 if depths[0] == 2 else 2,
        "stem.hidden_width": HIDDEN_WIDTHS[indices[0]],
        "stem.width": options["stem.width"][indices[1]],
    }
    for stage, (smallest, first) in enumerate(zip(SMALLEST_DEPTHS, FIRST_BLOCKS, strict=True), start=1):
        values[f"stage{stage}.depth"] = smallest + depths[stage]
        values[f"stage{stage}.width"] = options[f"stage{stage}.width"][indices[stage + 1]]
        for block in range(1, smallest + 3):
            values[f"stage{stage}.block{block}.expand"] = net["e"][first + block - 1]
    return space.arch(values)


def resnet50d(space: OFAResNet50) -> Arch:
    """The network after which the space is named."""
    values: dict[str, Any] = {name: value for name, value in space.largest.items() if not name.endswith(".expand")}
    values |= {f"stage{stage}.depth": depth for stage, depth in enumerate((3, 4, 6, 3), start=1)}
    return space.arch(values | {choice.name: 0.25 for choice in space.choices if choice.name.endswith(".expand")})


def test_the_published_implementation_gives_the_same_logits() -> None:
    supernet = Supernet(OFAResNet50(num_classes=4, resolutions=(72,), **SMALLER)).double().eval()
    state = supernet.state_dict()
    names = {key: published_name(key) for key in state}
    assert len(set(names.values())) == 368
    for key, tensor in state.items():
        tensor.copy_(reproducible_weights(names[key], tensor.shape))
    x = torch.from_numpy(numpy.random.RandomState(0).standard_normal((2, 3, 72, 72)))
    for encoding, logits in GOLDEN:
        with torch.no_grad():
            received = supernet(x, published_arch(supernet.space, encoding, 72))
        torch.testing.assert_close(received, torch.tensor(logits, dtype=torch.float64), rtol=1e-7, atol=1e-9)


def test_resnet50d_costs_as_much_as_timms() -> None:
    """timm's stem has no shortcut, which costs nothing."""
    space = OFAResNet50(resolutions=(224,))
    blocks = CostTable(space).blocks(resnet50d(space))
    with torch.device("meta"):
        network = timm.create_model("resnet50d").eval()
        image = torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    assert sum(block.macs for block in blocks) == counter.get_total_flops() // 2 == 4_328_824_832
    assert sum(block.params for block in blocks) == sum(p.numel() for p in network.parameters()) == 25_576_264


def test_widths_and_sizes() -> None:
    space = OFAResNet50()
    options = {choice.name: choice.options for choice in space.choices}
    assert options["stem.hidden_width"] == (24, 32)
    assert options["stem.width"] == (40, 48, 64)
    assert [options[f"stage{stage}.width"] for stage in (1, 2, 3, 4)] == [
        (168, 208, 256),
        (336, 408, 512),
        (664, 816, 1024),
        (1328, 1640, 2048),
    ]
    size = len(options["resolution"]) * 2 * 2 * 3
    for smallest in SMALLEST_DEPTHS:
        size *= 3 * sum(3 ** (smallest + depth) for depth in (0, 1, 2))
    assert space.size == size


def test_the_stem_and_the_blocks() -> None:
    space = OFAResNet50(num_classes=3, resolutions=(32,))
    shallow, deep = space.network(space.smallest), space.network(space.largest)
    assert [*dict(shallow.stem.named_children())] == ["conv1", "conv3", "pool"]
    assert [*dict(deep.stem.named_children())] == ["conv1", "conv2", "conv3", "pool"]
    assert [len(getattr(shallow, f"stage{stage}")) for stage in (1, 2, 3, 4)] == [2, 2, 4, 2]
    assert [len(getattr(deep, f"stage{stage}")) for stage in (1, 2, 3, 4)] == [4, 4, 6, 4]
    assert deep.stage1.block1.conv2.weight.shape == (88, 88, 3, 3)
    assert [len([*block.downsample.children()]) for block in deep.stage2] == [3, 0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depths": (-1, 0)}, r"at least 0, not \[-1, 0\]"),
        ({"depths": ()}, r"at least 0, not \[\]"),
        ({"width_multipliers": ()}, "has no options"),
        ({"width_multipliers": (0.25,)}, r"stage1 of width 64 the hidden widths \[16, 16, 24\]"),
        ({"expand_ratios": (0.25, 0.25)}, "two of which are the same"),
    ],
)
def test_arguments_that_make_no_space_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OFAResNet50(**arguments)


def test_arguments_change_what_they_say() -> None:
    space = OFAResNet50(
        num_classes=3,
        resolutions=(40, 32),
        depths=(1, 0),
        expand_ratios=(0.5, 0.25),
        width_multipliers=(0.5, 0.25),
        stem_stride=1,
        dropout=0.4,
    )
    arch = space.largest
    assert (arch["resolution"], arch["stage3.depth"], arch["stage4.width"]) == (40, 5, 1024)
    network = space.network(arch)
    assert network(torch.randn(2, *space.input_shape(arch))).shape == (2, 3)
    assert network.dropout.p == 0.4
    assert network.stem.conv1(torch.randn(1, 3, 40, 40)).shape[-2:] == (40, 40)
    assert network.stage4.block1.conv1.weight.shape == (512, 512, 1, 1)
