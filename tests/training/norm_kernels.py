"""What torch computes on CUDA devices for synchronised batch normalisation, on the CPU, by the definitions."""

from __future__ import annotations

import torch
from torch import Tensor


def register() -> torch.library.Library:
    """Until what is returned is gone, torch has these operators on the CPU."""
    library = torch.library.Library("aten", "IMPL")
    for name, kernel in {
        "batch_norm_stats": _stats,
        "batch_norm_gather_stats_with_counts": _gather,
        "batch_norm_elemt": _normalise,
        "batch_norm_backward_reduce": _reduce,
        "batch_norm_backward_elemt": _backward,
    }.items():
        library.impl(name, kernel, "CPU")
    return library


def _flat(images: Tensor) -> Tensor:
    """``(channels, values)``."""
    return images.transpose(0, 1).reshape(images.shape[1], -1)


def _like(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(1, -1, *[1] * (images.ndim - 2))


def _stats(input: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(_flat(input), 1, correction=0)
    return mean, (var + eps).rsqrt()


def _gather(
    input: Tensor,
    means: Tensor,
    invstds: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    total, parts = counts.sum(), counts[:, None]
    mean = (means * parts).sum(0) / total
    var = ((invstds**-2 - eps + (means - mean) ** 2) * parts).sum(0) / total
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * total / (total - 1), momentum)
    return mean, (var + eps).rsqrt()


def _normalise(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, invstd: Tensor, eps: float
) -> Tensor:
    normalised = (input - _like(mean, input)) * _like(invstd, input)
    scaled = normalised if weight is None else normalised * _like(weight, input)
    return scaled if bias is None else scaled + _like(bias, input)


def _reduce(
    grad_out: Tensor,
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    input_g: bool,
    weight_g: bool,
    bias_g: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gradients = _flat(grad_out)
    with_centred = (gradients * _flat(input - _like(mean, input))).sum(1)
    return gradients.sum(1), with_centred, with_centred * invstd, gradients.sum(1)


def _backward(
    grad_out: Tensor,
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor | None,
    sum_dy: Tensor,
    sum_dy_xmu: Tensor,
    count: Tensor,
) -> Tensor:
    total = count.sum()
    scale = invstd if weight is None else invstd * weight
    centred = (input - _like(mean, input)) * _like(invstd**2 * sum_dy_xmu / total, input)
    return (grad_out - _like(sum_dy / total, input) - centred) * _like(scale, input)
