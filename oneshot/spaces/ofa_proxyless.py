"""Once-for-All's ProxylessNAS space (Cai et al., ICLR 2020; https://github.com/mit-han-lab/once-for-all, OFAProxylessNASNets)."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from torch import nn

from oneshot.arch import Arch
from oneshot.checking import check_count, check_positive, check_probability
from oneshot.sharing import KernelTransform, SharingRule
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.input_sizes import resolution_choice
from oneshot.spaces.layers import initialize_fan_out
from oneshot.spaces.ofa import elastic_chain, elastic_stage
from oneshot.spaces.orders import inverted_residual

# (output channels, stride of the first block) of the six elastic stages.
_STAGES = ((24, 2), (40, 2), (80, 2), (96, 1), (192, 2), (320, 1))


class OFAProxyless(SearchSpace):
    """ProxylessNAS with elastic depth, kernel size, expansion and resolution: five stages of 2 to 4 blocks and a sixth of one
    behind a fixed stem and first block.

    Choices: ``resolution``; for each stage i of 1 to 5 ``stage{i}.depth``; for each block j ``stage{i}.block{j}.kernel`` and
    ``stage{i}.block{j}.expand``, those of ``stage6.block1`` last. Widths are ``make_divisible(base * width_multiplier, 8)``.

    Args:
        num_classes: size of the logits.
        resolutions: input sizes in pixels.
        depths, kernel_sizes, expand_ratios: the options of every stage and block; stage 6 has one block at every depth.
        width_multiplier: the published supernet uses 1.3.
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
        width_multiplier: float = 1.3,
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
        for stage in range(1, len(_STAGES)):
            choices += elastic_stage(f"stage{stage}", depths, kernel_sizes, expand_ratios)
        _, *last_block = elastic_stage(f"stage{len(_STAGES)}", (1,), kernel_sizes, expand_ratios)
        self.choices = (*choices, *last_block)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        from timm.layers import ConvNormAct, make_divisible
        from timm.models._efficientnet_blocks import DepthwiseSeparableConv

        def width(base: int) -> int:
            return int(make_divisible(base * self.width_multiplier, 8))

        norm = functools.partial(nn.BatchNorm2d, eps=1e-3)
        layers = {"act_layer": nn.ReLU6, "norm_layer": norm}
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["stem"] = make("stem", ConvNormAct, 3, width(32), 3, stride=self.stem_stride, **layers)
        # The published first block has no shortcut, even where a small multiplier makes both widths equal.
        parts["first"] = make("first", DepthwiseSeparableConv, width(32), width(16), noskip=True, **layers)
        channels = width(16)
        for stage, (base, first_stride) in enumerate(_STAGES, start=1):
            chain = functools.partial(elastic_chain, make, f"stage{stage}", channels, width(base), first_stride, layers)
            parts[f"stage{stage}"] = make.choose(f"stage{stage}.depth", chain) if stage < len(_STAGES) else chain(1)
            channels = width(base)
        parts["mix"] = make("mix", ConvNormAct, channels, width(1280), 1, **layers)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten(1)
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["classifier"] = make("classifier", nn.Linear, width(1280), self.num_classes)
        return nn.Sequential(parts)

    def initialize(self, name: str, block: nn.Module) -> None:
        """timm's initialisation of EfficientNet-like blocks, and the published one of the classifier."""
        initialize_fan_out(block)

    def final_size(self, arch: Arch) -> int:
        """The height and width, in pixels, of what is pooled in the network of ``arch``."""
        size = self.input_shape(arch)[-1]
        for stride in (self.stem_stride, *(stride for _, stride in _STAGES)):
            size = (size - 1) // stride + 1
        return size
