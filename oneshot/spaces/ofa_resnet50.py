"""Once-for-All's ResNet-50D space (Cai et al., ICLR 2020; https://github.com/mit-han-lab/once-for-all, OFAResNets)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.checking import check_count, check_positive, check_probability
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.input_sizes import resolution_choice
from oneshot.spaces.layers import Bottleneck, Residual, initialize_fan_out
from oneshot.spaces.orders import bottleneck

# (output channels, smallest depth, stride of the first block) of the four stages.
_STAGES = ((256, 2, 1), (512, 2, 2), (1024, 4, 2), (2048, 2, 2))


class OFAResNet50(SearchSpace):
    """ResNet-50D with elastic depth, width, bottleneck width and resolution.

    Choices: ``resolution``; ``stem.depth``, 2 or 3 convolutions, of which the second has a shortcut and may be missing;
    ``stem.hidden_width`` and ``stem.width``, channels inside and after the stem; for each stage i of 1 to 4 ``stage{i}.depth``,
    the number of its blocks, and ``stage{i}.width``, their output channels; for each block j ``stage{i}.block{j}.expand``, its
    hidden channels as a part of the output's. Widths are rounded to multiples of 8, and multipliers that give the same width are
    one option: the published three give two hidden widths of the stem.

    Args:
        num_classes: size of the logits.
        resolutions: input sizes in pixels.
        depths: blocks of a stage beyond 2, 2, 4 and 2.
        expand_ratios: the options of every block.
        width_multipliers: of the stem and of every stage.
        dropout: before the classifier; published 0.
        stem_stride: 2 as published; 1 keeps more detail of images of 32 pixels and below.

    Raises:
        ValueError: two expansion ratios give a block the same hidden width.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        resolutions: Sequence[int] = (128, 160, 192, 224),
        depths: Sequence[int] = (0, 1, 2),
        expand_ratios: Sequence[float] = (0.2, 0.25, 0.35),
        width_multipliers: Sequence[float] = (0.65, 0.8, 1.0),
        dropout: float = 0.0,
        stem_stride: int = 2,
    ) -> None:
        check_count(1, num_classes=num_classes, stem_stride=stem_stride)
        check_probability(dropout=dropout)
        check_positive(expand_ratios=expand_ratios, width_multipliers=width_multipliers)
        depths, expands = sorted(depths), tuple(sorted(expand_ratios))
        if not depths or depths[0] < 0:
            raise ValueError(f"depths are blocks beyond the smallest number, at least 0, not {depths}")
        self.num_classes = num_classes
        self.dropout = dropout
        self.stem_stride = stem_stride
        self.channel_orders = bottleneck("stage*.block*")

        def widths(base: int) -> tuple[int, ...]:
            return tuple(sorted({_width(base * multiplier) for multiplier in width_multipliers}))

        choices = [
            resolution_choice(resolutions),
            Choice("stem.depth", (2, 3)),
            Choice("stem.hidden_width", tuple(sorted({_width(width // 2) for width in widths(64)}))),
            Choice("stem.width", widths(64)),
        ]
        for stage, (base, smallest, _) in enumerate(_STAGES, start=1):
            name, options = f"stage{stage}", [smallest + depth for depth in depths]
            choices += [Choice(f"{name}.depth", tuple(options)), Choice(f"{name}.width", widths(base))]
            for width in widths(base):
                hidden = [_hidden(width, expand) for expand in expands]
                if len(set(hidden)) < len(expands):
                    raise ValueError(
                        f"expand_ratios {list(expands)} give {name} of width {width} the hidden widths {hidden}, two of which "
                        "are the same; take ratios further apart or larger width_multipliers"
                    )
            for block in range(1, options[-1] + 1):
                when = {f"{name}.depth": tuple(depth for depth in options if depth >= block)}
                choices.append(Choice(f"{name}.block{block}.expand", expands, when if block > options[0] else None))
        self.choices = tuple(choices)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        from timm.layers import ConvNormAct

        hidden, channels = arch.integer("stem.hidden_width"), arch.integer("stem.width")
        stem: OrderedDict[str, nn.Module] = OrderedDict()
        stem["conv1"] = make("stem.conv1", ConvNormAct, 3, hidden, 3, stride=self.stem_stride)
        if arch["stem.depth"] == 3:
            stem["conv2"] = Residual(make("stem.conv2", ConvNormAct, hidden, hidden, 3), nn.Identity())
        stem["conv3"] = make("stem.conv3", ConvNormAct, hidden, channels, 3)
        stem["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
        parts: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(stem))
        for stage, (_, _, first_stride) in enumerate(_STAGES, start=1):
            width = arch.integer(f"stage{stage}.width")
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for block in range(1, arch.integer(f"stage{stage}.depth") + 1):
                name = f"stage{stage}.block{block}"
                blocks[f"block{block}"] = make(
                    name,
                    Bottleneck,
                    channels,
                    _hidden(width, float(arch[f"{name}.expand"])),
                    width,
                    stride=first_stride if block == 1 else 1,
                    downsample=block == 1,
                )
                channels = width
            parts[f"stage{stage}"] = nn.Sequential(blocks)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten(1)
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["classifier"] = make("classifier", nn.Linear, channels, self.num_classes)
        return nn.Sequential(parts)

    def initialize(self, name: str, block: nn.Module) -> None:
        initialize_fan_out(block)


def _width(channels: float) -> int:
    from timm.layers import make_divisible

    return int(make_divisible(channels, 8))


def _hidden(width: int, expand: float) -> int:
    # Rounded twice, as published.
    return _width(round(width * expand))
