"""Convolutions on the CPU whose gradients would crash the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_LANES = 16  # float32 values in a register with AVX-512, 8 with AVX2


class SafeConvolutions(TorchFunctionMode):
    """A context in which strided 1x1 convolutions of fewer than 16 channels are computed as what they are: convolutions without
    a stride, of the pixels that they read. The results are the same but for rounding.

    On the CPU, oneDNN writes beyond its memory in the weight gradient of such a convolution where its images or its weights lie
    in memory as ``channels_last`` (uxlfoundation/oneDNN #6035), and the process dies with a segmentation fault. What is
    called is looked at, not which modules there are, so that no network gets there.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return (_conv2d if func is torch.conv2d else func)(*args, **(kwargs or {}))


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
