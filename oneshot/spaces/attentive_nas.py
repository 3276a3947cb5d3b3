"""AttentiveNAS's space (Wang et al., CVPR 2021; https://github.com/facebookresearch/AttentiveNAS), which AlphaNet uses too."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.checking import check_count, check_probability
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.input_sizes import resolution_choice
from oneshot.spaces.layers import HalvingPool, Residual, initialize_fan_out
from oneshot.spaces.orders import inverted_residual


class Stage(NamedTuple):
    """One stage: options of its choices, stride of its first block, and whether its blocks have squeeze-and-excitation."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    expands: tuple[int, ...]
    stride: int
    has_squeeze: bool


class AttentiveNAS(SearchSpace):
    """Seven stages of inverted residual blocks with elastic width, depth, kernel size, expansion and resolution; all blocks of a
    stage have the same. Each block has a shortcut, through average pooling and a 1x1 convolution where it changes the shape.

    Choices: ``resolution``, ``stem.width``; for each stage i of 1 to 7 ``stage{i}.width``, ``stage{i}.depth``,
    ``stage{i}.kernel`` and, for i of 2 to 5, ``stage{i}.expand``; ``last.width``. The expansion of stage 1 is 1, that of
    stages 6 and 7 is 6. Smaller kernels are centre crops.

    Attributes:
        stem_widths, stages, last_widths: the published ones; a subclass may set others. A stage of one expansion has no choice
            of it.

    Args:
        num_classes: size of the logits.
        resolutions: input sizes in pixels.
        dropout: before the classifier; published 0.2.
        drop_path: rate in the last two stages, times the number of blocks that come before in the deepest network over their
            37; published 0.2. Networks with a teacher in their step train without, as in the published code.
        stem_stride: 2 as published; 1 keeps more detail of images of 32 pixels and below.
    """

    stem_widths: tuple[int, ...] = (16, 24)
    stages: tuple[Stage, ...] = (
        Stage((16, 24), (1, 2), (1,), 1, False),
        Stage((24, 32), (3, 4, 5), (4, 5, 6), 2, False),
        Stage((32, 40), (3, 4, 5, 6), (4, 5, 6), 2, True),
        Stage((64, 72), (3, 4, 5, 6), (4, 5, 6), 2, False),
        Stage((112, 120, 128), (3, 4, 5, 6, 7, 8), (4, 5, 6), 1, True),
        Stage((192, 200, 208, 216), (3, 4, 5, 6, 7, 8), (6,), 2, True),
        Stage((216, 224), (1, 2), (6,), 1, True),
    )
    last_widths: tuple[int, ...] = (1792, 1984)

    def __init__(
        self,
        num_classes: int = 1000,
        resolutions: Sequence[int] = (192, 224, 256, 288),
        dropout: float = 0.2,
        drop_path: float = 0.2,
        stem_stride: int = 2,
    ) -> None:
        check_count(1, num_classes=num_classes, stem_stride=stem_stride)
        check_probability(dropout=dropout, drop_path=drop_path)
        self.num_classes = num_classes
        self.dropout = dropout
        self.drop_path = drop_path
        self.stem_stride = stem_stride
        self.channel_orders = inverted_residual("stage*.block*")
        choices = [resolution_choice(resolutions), Choice("stem.width", self.stem_widths)]
        for number, stage in enumerate(self.stages, start=1):
            choices.append(Choice(f"stage{number}.width", stage.widths))
            choices.append(Choice(f"stage{number}.depth", stage.depths))
            choices.append(Choice(f"stage{number}.kernel", (3, 5)))
            if len(stage.expands) > 1:
                choices.append(Choice(f"stage{number}.expand", stage.expands))
        self.choices = (*choices, Choice("last.width", self.last_widths))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        from timm.layers import ConvNormAct

        channels = arch.integer("stem.width")
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["stem"] = make("stem", ConvNormAct, 3, channels, 3, stride=self.stem_stride, act_layer=nn.SiLU)
        for number in range(1, len(self.stages) + 1):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for block in range(1, arch.integer(f"stage{number}.depth") + 1):
                blocks[f"block{block}"] = self._block(arch, make, number, block, channels)
                channels = arch.integer(f"stage{number}.width")
            parts[f"stage{number}"] = nn.Sequential(blocks)
        expanded, last = 6 * channels, arch.integer("last.width")
        parts["expand"] = make("expand", ConvNormAct, channels, expanded, 1, act_layer=nn.SiLU)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["mix"] = make("mix", nn.Conv2d, expanded, last, 1, bias=False)
        parts["act"] = nn.SiLU()
        parts["flatten"] = nn.Flatten(1)
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["classifier"] = make("classifier", nn.Linear, last, self.num_classes)
        return nn.Sequential(parts)

    def _block(self, arch: Arch, make: Make, number: int, block: int, in_channels: int) -> nn.Module:
        from timm.layers import make_divisible
        from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual, SqueezeExcite

        stage = self.stages[number - 1]
        name = f"stage{number}.block{block}"
        out_channels = arch.integer(f"stage{number}.width")
        stride = stage.stride if block == 1 else 1
        squeeze = functools.partial(
            SqueezeExcite, rd_ratio=0.25, rd_round_fn=make_divisible, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU
        )
        expand = arch.get(f"stage{number}.expand", stage.expands[0])
        main = make(
            name,
            DepthwiseSeparableConv if expand == 1 else functools.partial(InvertedResidual, exp_ratio=expand),
            in_channels,
            out_channels,
            dw_kernel_size=arch[f"stage{number}.kernel"],
            stride=stride,
            noskip=True,
            act_layer=nn.SiLU,
            se_layer=squeeze if stage.has_squeeze else None,
        )
        shortcut: nn.Module = nn.Identity() if stride == 1 else HalvingPool()
        if in_channels != out_channels:
            conv = make(f"{name}.shortcut", nn.Conv2d, in_channels, out_channels, 1, bias=False)
            shortcut = nn.Sequential(shortcut, conv)
        is_plain = stride == 1 and in_channels == out_channels
        return Residual(main, shortcut, self._drop_path_rate(number, block) if is_plain else 0.0)

    def _drop_path_rate(self, number: int, block: int) -> float:
        if number <= len(self.stages) - 2:
            return 0.0
        depths = [stage.depths[-1] for stage in self.stages]
        return self.drop_path * (sum(depths[: number - 1]) + block - 1) / sum(depths)

    def initialize(self, name: str, block: nn.Module) -> None:
        """As Once-for-All's blocks, but each starts as its shortcut: the last BatchNorm of its main branch starts at zero."""
        initialize_fan_out(block)
        norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
        if name.startswith("stage") and norms:
            nn.init.zeros_(norms[-1].weight)
