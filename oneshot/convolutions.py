"""Convolutions on the CPU whose gradients would crash the process."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.standing_in import StandIn

_LANES = 16  # float32 values in a register with AVX-512, 8 with AVX2
_KNOWN = ("torch.nn.", "timm.", "torchvision.", "oneshot.")  # their modules convolve as their attributes say


def may_crash(network: nn.Module) -> bool:
    """Whether a network may have a strided 1x1 convolution of fewer than 16 channels.

    One has where a module says so by its attributes. A module of anybody else's class may call what it likes, and so may one
    whose ``forward`` was replaced or that has hooks.
    """
    return any(map(module_may_crash, network.modules()))


def module_may_crash(module: nn.Module) -> bool:
    """``may_crash`` of what a module does beside its submodules."""
    return bool(
        not type(module).__module__.startswith(_KNOWN)
        or "forward" in module.__dict__
        or module._forward_hooks
        or module._forward_pre_hooks
        or _is_narrow(module)
    )


def _is_narrow(module: nn.Module) -> bool:
    held = module.__dict__
    if not all(name in held for name in ("kernel_size", "stride", "in_channels", "groups")):
        return False
    return (
        max(_pair(held["kernel_size"])) == 1
        and max(_pair(held["stride"])) > 1
        and held["in_channels"] // held["groups"] < _LANES
    )


def convolving(needs_care: bool, inputs: Tensor) -> AbstractContextManager[object]:
    """The context of the forward pass of a network in training: it costs some percent of a small network's step, so only those
    that ``may_crash`` get it.
    """
    return SafeConvolutions() if needs_care and inputs.device.type == "cpu" else contextlib.nullcontext()


class SafeConvolutions(StandIn):
    """A context in which strided 1x1 convolutions of fewer than 16 channels are computed as what they are: convolutions without
    a stride, of the pixels that they read. The results are the same but for rounding.

    On the CPU, oneDNN writes beyond its memory in the weight gradient of such a convolution where its images or its weights lie
    in memory as ``channels_last`` (uxlfoundation/oneDNN #6035), and the process dies with a segmentation fault. What is
    called is looked at, not which modules there are, so that no network gets there.
    """

    def __init__(self) -> None:
        super().__init__(torch.conv2d, _conv2d)


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    rows, columns = _pair(stride)
    unpadded = padding == "valid" or (not isinstance(padding, str) and max(_pair(padding)) == 0)
    if (
        max(rows, columns) > 1
        and weight.shape[2:] == (1, 1)
        and weight.shape[1] < _LANES
        and unpadded
        and weight.device.type == "cpu"
    ):
        layout = torch.channels_last if input.is_contiguous(memory_format=torch.channels_last) else None
        input = input[..., ::rows, ::columns]
        if layout is not None:  # torch does not tell it from the strides of odd sizes
            input = input.contiguous(memory_format=layout)
        stride = 1
    return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _pair(value: Any) -> tuple[int, int]:
    """A setting of both dimensions, given for each or once."""
    first, *others = value if isinstance(value, (tuple, list)) else (value,)
    return first, (others or [first])[0]
