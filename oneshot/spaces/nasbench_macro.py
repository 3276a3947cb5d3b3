"""NAS-Bench-Macro's space (Su et al., CVPR 2021; https://github.com/xiusu/NAS-Bench-Macro, ``train/model.py``)."""

from __future__ import annotations

import functools
from collections import OrderedDict

from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.checking import check_count
from oneshot.spaces.base import Make, SearchSpace

_STAGES = (2, 3, 3)
_MBCONV = {"mbconv_k3_e3": (3, 3), "mbconv_k5_e6": (5, 6)}
_OPTIONS = ("identity", *_MBCONV)


class NASBenchMacro(SearchSpace):
    """Eight layers in stages of 2, 3 and 3; each stage doubles the channels and halves the size in its first layer. All 3^8 =
    6,561 networks have published accuracies on CIFAR-10.

    Choices: ``layer1`` to ``layer8``: ``"identity"``, ``"mbconv_k3_e3"`` or ``"mbconv_k5_e6"``. An identity that changes the
    shape is a strided 1x1 convolution with BatchNorm. As in the published table, two architectures that differ only in which
    of two neighbouring layers of a stage is the identity count as two: they compute alike but inherit different weights.

    Args:
        num_classes: size of the logits.
        resolution: input size in pixels.
        channels: of the stem; published 32.
        head_channels: of the last 1x1 convolution; published 1280.
    """

    def __init__(
        self, num_classes: int = 10, resolution: int = 32, channels: int = 32, head_channels: int = 1280
    ) -> None:
        check_count(1, num_classes=num_classes, resolution=resolution, channels=channels, head_channels=head_channels)
        self.num_classes = num_classes
        self.resolution = resolution
        self.channels = channels
        self.head_channels = head_channels
        self.choices = tuple(Choice(f"layer{layer}", _OPTIONS) for layer in range(1, sum(_STAGES) + 1))

    def from_code(self, code: str) -> Arch:
        """The architecture of a key of the published table: one digit 0, 1 or 2 for each layer, such as ``"02012100"``."""
        if len(code) != len(self.choices) or set(code) - set("012"):
            raise ValueError(f"a NAS-Bench-Macro code has {len(self.choices)} digits of 0, 1 and 2, not {code!r}")
        return self.arch({choice.name: _OPTIONS[int(digit)] for choice, digit in zip(self.choices, code, strict=True)})

    def parse(self, text: str) -> Arch:
        return super().parse(text) if text.lstrip().startswith("{") else self.from_code(text)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        from timm.layers import ConvNormAct
        from timm.models._efficientnet_blocks import InvertedResidual

        def block(layer: str, channels: int, width: int, stride: int, option: str) -> nn.Module:
            name = f"{layer}.{option}"
            if option != "identity":
                kernel, expand = _MBCONV[option]
                return make(
                    name, InvertedResidual, channels, width, dw_kernel_size=kernel, stride=stride, exp_ratio=expand
                )
            if stride == 2:
                return make(name, ConvNormAct, channels, width, 1, stride=2, apply_act=False)
            return make(name, nn.Identity)

        channels = self.channels
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["stem"] = make("stem", ConvNormAct, 3, channels, 3)
        layer = 0
        for depth in _STAGES:
            for index in range(depth):
                layer += 1
                width, stride = (2 * channels, 2) if index == 0 else (channels, 1)
                option = functools.partial(block, f"layer{layer}", channels, width, stride)
                parts[f"layer{layer}"] = make.choose(f"layer{layer}", option)
                channels = width
        parts["head"] = make("head", ConvNormAct, channels, self.head_channels, 1)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten(1)
        parts["classifier"] = make("classifier", nn.Linear, self.head_channels, self.num_classes)
        return nn.Sequential(parts)
