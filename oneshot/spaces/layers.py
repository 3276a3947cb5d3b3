"""Blocks that timm and torchvision lack, and initial weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_channels)]


class ShuffleBlock(nn.Module):
    """ShuffleNetV2's unit as a choice block of Single Path One-Shot (Guo et al., ECCV 2020, figure 6; published code,
    ``blocks.py``): at stride 1 the even channels pass by and the odd ones are transformed, at stride 2 both branches see all.

    Args:
        in_channels, out_channels: of the whole block; equal at stride 1.
        kernel_size: of the depthwise convolutions.
        stride: 1 or 2.
        xception: three depthwise-separable convolutions in the main branch instead of pointwise-depthwise-pointwise.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, xception: bool = False
    ) -> None:
        super().__init__()
        self.stride = stride
        inside = in_channels if stride == 2 else in_channels // 2
        outside = out_channels - inside
        middle = out_channels // 2
        layers: list[nn.Module] = []
        if xception:
            for source, target, step in ((inside, middle, stride), (middle, middle, 1), (middle, outside, 1)):
                layers += _conv_norm(source, source, kernel_size, step, groups=source)
                layers += [*_conv_norm(source, target, 1), nn.ReLU(inplace=True)]
        else:
            layers += [*_conv_norm(inside, middle, 1), nn.ReLU(inplace=True)]
            layers += _conv_norm(middle, middle, kernel_size, stride, groups=middle)
            layers += [*_conv_norm(middle, outside, 1), nn.ReLU(inplace=True)]
        self.main = nn.Sequential(*layers)
        self.side = nn.Identity() if stride == 1 else self._downsample(inside, kernel_size)

    @staticmethod
    def _downsample(channels: int, kernel_size: int) -> nn.Sequential:
        spatial = _conv_norm(channels, channels, kernel_size, stride=2, groups=channels)
        return nn.Sequential(*spatial, *_conv_norm(channels, channels, 1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, in_channels, height, width)`` to ``(batch, out_channels, height / stride, width / stride)``."""
        if self.stride == 1:
            return torch.cat((x[:, 0::2], self.main(x[:, 1::2])), 1)
        return torch.cat((self.side(x), self.main(x)), 1)


def initialize_fan_out(block: nn.Module) -> None:
    """timm's initialisation of EfficientNet-like blocks, normal by fan-out, and Once-for-All's of the classifier, which timm
    starts too large for few classes.
    """
    from timm.models._efficientnet_builder import efficientnet_init_weights

    efficientnet_init_weights(block)
    for module in block.modules():
        if isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound)
