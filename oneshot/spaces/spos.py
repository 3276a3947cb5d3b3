"""Single Path One-Shot's ShuffleNetV2 space (Guo et al., ECCV 2020; https://github.com/megvii-model/SinglePathOneShot)."""

from __future__ import annotations

import functools
from collections import OrderedDict

from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.checking import check_count, check_probability
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.layers import ShuffleBlock

_DEPTHS = (4, 4, 8, 4)
_WIDTHS = (64, 160, 320, 640)
_BLOCKS = {
    "shuffle3": {"kernel_size": 3},
    "shuffle5": {"kernel_size": 5},
    "shuffle7": {"kernel_size": 7},
    "xception": {"kernel_size": 3, "xception": True},
}


class SPOSShuffleNetV2(SearchSpace):
    """ShuffleNetV2 with 20 choice blocks, each with weights of its own for every option.

    Choices: ``stage{i}.block{j}`` for 4, 4, 8 and 4 blocks: ``"shuffle3"``, ``"shuffle5"``, ``"shuffle7"`` or ``"xception"``.

    Args:
        num_classes: size of the logits.
        resolution: input size in pixels.
        dropout: before the classifier; published 0.1.
        stem_stride: 2 as published; 1 keeps more detail of images of 32 pixels and below.
    """

    def __init__(
        self, num_classes: int = 1000, resolution: int = 224, dropout: float = 0.1, stem_stride: int = 2
    ) -> None:
        check_count(1, num_classes=num_classes, resolution=resolution, stem_stride=stem_stride)
        check_probability(dropout=dropout)
        self.num_classes = num_classes
        self.resolution = resolution
        self.dropout = dropout
        self.stem_stride = stem_stride
        self.choices = tuple(
            Choice(f"stage{stage}.block{block}", tuple(_BLOCKS))
            for stage, depth in enumerate(_DEPTHS, start=1)
            for block in range(1, depth + 1)
        )

    def build(self, arch: Arch, make: Make) -> nn.Module:
        from timm.layers import ConvNormAct

        def unit(name: str, channels: int, width: int, stride: int, option: str) -> nn.Module:
            return make(f"{name}.{option}", ShuffleBlock, channels, width, stride=stride, **_BLOCKS[option])

        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["stem"] = make("stem", ConvNormAct, 3, 16, 3, stride=self.stem_stride)
        channels = 16
        for stage, (depth, width) in enumerate(zip(_DEPTHS, _WIDTHS, strict=True), start=1):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for block in range(1, depth + 1):
                stride = 2 if block == 1 else 1
                option = functools.partial(unit, f"stage{stage}.block{block}", channels, width, stride)
                blocks[f"block{block}"] = make.choose(f"stage{stage}.block{block}", option)
                channels = width
            parts[f"stage{stage}"] = nn.Sequential(blocks)
        parts["expand"] = make("expand", ConvNormAct, channels, 1024, 1)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten(1)
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["classifier"] = make("classifier", nn.Linear, 1024, self.num_classes, bias=False)
        return nn.Sequential(parts)

    def initialize(self, name: str, block: nn.Module) -> None:
        """As published: normal convolutions with deviation 0.01 in the stem and 1 / (input channels of a group) elsewhere."""
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.01 if name == "stem" else 1.0 / module.weight.shape[1])
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, 0.0001)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
