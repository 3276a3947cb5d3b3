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


class Bottleneck(nn.Module):
    """ResNet's bottleneck block of any hidden width, as in ResNet-D (He et al., CVPR 2019, figure 2c): where the block changes
    the shape, its shortcut averages before a 1x1 convolution. timm's hidden width is bound to a quarter of the output's.

    Args:
        in_channels, hidden_channels, out_channels: of the block, and between its convolutions.
        stride: of the 3x3 convolution.
        downsample: whether the shortcut has a convolution; otherwise it is the identity.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, stride: int = 1, downsample: bool = False
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv_norm(in_channels, hidden_channels, 1)
        self.conv2, self.bn2 = _conv_norm(hidden_channels, hidden_channels, 3, stride)
        self.conv3, self.bn3 = _conv_norm(hidden_channels, out_channels, 1)
        self.act = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if downsample:
            pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
            self.downsample = nn.Sequential(pool, *_conv_norm(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, in_channels, height, width)`` to ``(batch, out_channels, height / stride, width / stride)``, rounded up."""
        shortcut = self.downsample(x)
        x = self.act(self.bn1(self.conv1(x)))
        x = self.act(self.bn2(self.conv2(x)))
        out: Tensor = self.act(self.bn3(self.conv3(x)) + shortcut)
        return out


class Residual(nn.Module):
    """``main(x) + shortcut(x)``. In training, ``main`` is left out for single images with probability ``drop_path``."""

    def __init__(self, main: nn.Module, shortcut: nn.Module, drop_path: float = 0.0) -> None:
        from timm.layers import DropPath

        super().__init__()
        self.main = main
        self.shortcut = shortcut
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Both branches give the same shape."""
        out: Tensor = self.drop_path(self.main(x)) + self.shortcut(x)
        return out


class HalvingPool(nn.Module):
    """2x2 average pooling; an odd size is padded by zeros, which count in the average, on both sides."""

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, channels, size, size)`` to ``(batch, channels, size / 2, size / 2)``, rounded up."""
        return nn.functional.avg_pool2d(x, 2, padding=x.shape[-1] % 2)


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
