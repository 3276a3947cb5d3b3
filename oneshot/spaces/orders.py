"""The channels inside common blocks that may change places without changing what the block computes."""

from __future__ import annotations

from oneshot.sharing import ChannelOrder


def _norm(name: str) -> dict[str, int]:
    return {f"{name}.{tensor}": 0 for tensor in ("weight", "bias", "running_mean", "running_var")}


def inverted_residual(blocks: str) -> tuple[ChannelOrder, ...]:
    """timm's ``InvertedResidual``: the channels between its convolutions, and those inside squeeze-and-excitation."""
    between = {"conv_pw.weight": 0, **_norm("bn1"), "conv_dw.weight": 0, **_norm("bn2"), "conv_pwl.weight": 1}
    between |= {"se.conv_reduce.weight": 1, "se.conv_expand.weight": 0, "se.conv_expand.bias": 0}
    squeezed = {"se.conv_reduce.weight": 0, "se.conv_reduce.bias": 0, "se.conv_expand.weight": 1}
    return (
        ChannelOrder(blocks, score="conv_pwl.weight", dim=1, members=between),
        ChannelOrder(blocks, score="se.conv_expand.weight", dim=1, members=squeezed),
    )


def bottleneck(blocks: str) -> tuple[ChannelOrder, ...]:
    """A ResNet's bottleneck block: the channels before and after its 3x3 convolution."""
    before = {"conv1.weight": 0, **_norm("bn1"), "conv2.weight": 1}
    after = {"conv2.weight": 0, **_norm("bn2"), "conv3.weight": 1}
    return (
        ChannelOrder(blocks, score="conv3.weight", dim=1, members=after),
        ChannelOrder(blocks, score="conv2.weight", dim=1, members=before),
    )
