"""Once-for-All's MobileNetV3 space (Cai et al., ICLR 2020; https://github.com/mit-han-lab/once-for-all, OFAMobileNetV3)."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.checking import check_count, check_positive, check_probability
from oneshot.sharing import KernelTransform, SharingRule
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.input_sizes import resolution_choice
from oneshot.spaces.layers import initialize_fan_out
from oneshot.spaces.orders import inverted_residual

# (output channels, stride of the first block, squeeze-and-excitation, hard swish) of the five elastic stages.
_STAGES = (
    (24, 2, False, False),
    (40, 2, True, False),
    (80, 2, False, True),
    (112, 1, True, True),
    (160, 2, True, True),
)


class OFAMobileNetV3(SearchSpace):
    """MobileNetV3-Large with elastic depth, kernel size, expansion and resolution: five stages of 2 to 4 blocks behind a fixed
    stem and first block.

    Choices: ``resolution``; for each stage i of 1 to 5 ``stage{i}.depth``; for each block j ``stage{i}.block{j}.kernel`` and
    ``stage{i}.block{j}.expand``. Widths are ``make_divisible(base * width_multiplier, 8)``.

    Args:
        num_classes: size of the logits.
        resolutions: input sizes in pixels.
        depths, kernel_sizes, expand_ratios: the options of every stage and block.
        width_multiplier: the published supernets use 1.0 and 1.2.
        kernel_transform: learned matrices between kernel sizes, as published; otherwise smaller kernels are plain centre crops.
        dropout: before the classifier; published 0.1.
        stem_stride: 2 as published; 1 keeps more detail of images of 32 pixels and below.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        resolutions: Sequence[int] = (128, 160, 192, 224),
        depths: Sequence[int] = (2, 3, 4),
        kernel_sizes: Sequence[int] = (3, 5, 7),
        expand_ratios: Sequence[float] = (3, 4, 6),
        width_multiplier: float = 1.0,
        kernel_transform: bool = True,
        dropout: float = 0.1,
        stem_stride: int = 2,
    ) -> None:
        check_count(1, num_classes=num_classes, stem_stride=stem_stride)
        check_probability(dropout=dropout)
        check_positive(expand_ratios=expand_ratios, width_multiplier=width_multiplier)
        self.num_classes = num_classes
        self.width_multiplier = width_multiplier
        self.dropout = dropout
        self.stem_stride = stem_stride
        self.sharing: Mapping[str, Callable[[], SharingRule]] = (
            {"stage*.conv_dw.weight": functools.partial(KernelTransform, tuple(kernel_sizes))}
            if kernel_transform
            else {}
        )
        self.channel_orders = inverted_residual("stage*.block*")
        choices = [resolution_choice(resolutions)]
        for stage in range(1, len(_STAGES) + 1):
            choices += elastic_stage(f"stage{stage}", depths, kernel_sizes, expand_ratios)
        self.choices = tuple(choices)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        from timm.layers import ConvNormAct, make_divisible
        from timm.models._efficientnet_blocks import DepthwiseSeparableConv, SqueezeExcite

        def width(base: int) -> int:
            return int(make_divisible(base * self.width_multiplier, 8))

        squeeze = functools.partial(
            SqueezeExcite, rd_ratio=0.25, rd_round_fn=make_divisible, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU
        )
        channels = width(16)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["stem"] = make("stem", ConvNormAct, 3, channels, 3, stride=self.stem_stride, act_layer=nn.Hardswish)
        parts["first"] = make("first", DepthwiseSeparableConv, channels, channels, act_layer=nn.ReLU)
        for stage, (base, first_stride, has_squeeze, has_swish) in enumerate(_STAGES, start=1):
            layers = {
                "act_layer": nn.Hardswish if has_swish else nn.ReLU,
                "se_layer": squeeze if has_squeeze else None,
            }
            chain = functools.partial(elastic_chain, make, f"stage{stage}", channels, width(base), first_stride, layers)
            parts[f"stage{stage}"] = make.choose(f"stage{stage}.depth", chain)
            channels = width(base)
        parts["expand"] = make("expand", ConvNormAct, channels, width(960), 1, act_layer=nn.Hardswish)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["mix"] = make("mix", nn.Conv2d, width(960), width(1280), 1, bias=False)
        parts["act"] = nn.Hardswish()
        parts["flatten"] = nn.Flatten(1)
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["classifier"] = make("classifier", nn.Linear, width(1280), self.num_classes)
        return nn.Sequential(parts)

    def initialize(self, name: str, block: nn.Module) -> None:
        initialize_fan_out(block)


def elastic_stage(
    stage: str, depths: Sequence[int], kernel_sizes: Sequence[int], expand_ratios: Sequence[float]
) -> list[Choice]:
    """Once-for-All's choices of one stage: ``{stage}.depth``, and ``{stage}.block{j}.kernel`` and ``{stage}.block{j}.expand`` for
    each block j, where it is there.

    Raises:
        ValueError: there is no depth, or one below 1; there is no kernel size, or an even one.
    """
    depths, kernels, expands = sorted(depths), tuple(sorted(kernel_sizes)), tuple(sorted(expand_ratios))
    if not depths or depths[0] < 1:
        raise ValueError(f"depths are at least 1, not {depths}")
    if not kernels or any(kernel % 2 == 0 or kernel < 1 for kernel in kernels):
        raise ValueError(f"kernel_sizes are odd, not {list(kernels)}")
    choices = [Choice(f"{stage}.depth", tuple(depths))]
    for block in range(1, depths[-1] + 1):
        when = None if block <= depths[0] else {f"{stage}.depth": tuple(depth for depth in depths if depth >= block)}
        choices.append(Choice(f"{stage}.block{block}.kernel", kernels, when))
        choices.append(Choice(f"{stage}.block{block}.expand", expands, when))
    return choices


def elastic_chain(
    make: Make, stage: str, in_channels: int, channels: int, stride: int, layers: Mapping[str, Any], depth: int
) -> nn.Sequential:
    """The first ``depth`` blocks of a stage, each of the kernel size and expansion that are chosen for it.

    Args:
        in_channels, channels: of what comes into the stage, and of what its blocks make.
        stride: of the first block.
        layers: further arguments of timm's ``InvertedResidual``.
    """
    from timm.models._efficientnet_blocks import InvertedResidual

    def block(name: str, in_channels: int, stride: int) -> nn.Module:
        def of_kernel(kernel: int) -> nn.Module:
            return make.choose(f"{name}.expand", functools.partial(of_both, kernel))

        def of_both(kernel: int, expand: float) -> nn.Module:
            sizes = {"dw_kernel_size": kernel, "stride": stride, "exp_ratio": expand}
            return make(name, InvertedResidual, in_channels, channels, **sizes, **layers)

        return make.choose(f"{name}.kernel", of_kernel)

    first = block(f"{stage}.block1", in_channels, stride)
    others = {f"block{index}": block(f"{stage}.block{index}", channels, 1) for index in range(2, depth + 1)}
    return nn.Sequential(OrderedDict(block1=first, **others))
