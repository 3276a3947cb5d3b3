"""A search space of one's own in one file: three stages of elastic depth, width and kind of block; see docs/spaces.md."""

from timm.layers import ConvNormAct
from timm.models._efficientnet_blocks import EdgeResidual, InvertedResidual
from torch import nn

from oneshot import Arch, Choice, Make, SearchSpace

BLOCKS = {"separable": InvertedResidual, "dense": EdgeResidual}


class MySpace(SearchSpace):
    def __init__(self, num_classes: int = 10, resolution: int = 32, width: int = 16) -> None:
        self.num_classes, self.resolution, self.width = num_classes, resolution, width
        choices = []
        for stage in (1, 2, 3):
            choices.append(Choice(f"stage{stage}.width", (width * stage, width * stage * 3 // 2)))
            choices.append(Choice(f"stage{stage}.depth", (1, 2, 3)))
            for block in (1, 2, 3):
                when = {f"stage{stage}.depth": tuple(depth for depth in (1, 2, 3) if depth >= block)}
                choices.append(Choice(f"stage{stage}.block{block}", tuple(BLOCKS), when))
        self.choices = tuple(choices)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        channels = self.width
        layers = [make("stem", ConvNormAct, 3, channels, kernel_size=3)]
        for stage in (1, 2, 3):
            for block in range(1, arch.integer(f"stage{stage}.depth") + 1):
                kind, width = str(arch[f"stage{stage}.block{block}"]), arch.integer(f"stage{stage}.width")
                name, stride = f"stage{stage}.block{block}.{kind}", 2 if block == 1 else 1
                layers.append(make(name, BLOCKS[kind], channels, width, stride=stride, exp_ratio=3))
                channels = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), make("classifier", nn.Linear, channels, self.num_classes)]
        return nn.Sequential(*layers)
