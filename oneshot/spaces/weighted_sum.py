"""Sums of the outputs of options by their weights, with the gradients of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def weighted_sum(
    weights: Tensor,
    numbers: Sequence[float],
    positions: Sequence[int],
    outputs: Sequence[Tensor],
    weighed: frozenset[int] = frozenset(),
) -> Tensor:
    """``sum(weights[p] * output)`` over the outputs and their positions; ``numbers`` are the weights as plain numbers. The
    gradient of a weight is the inner product of the output with the gradient of the sum, that of one without output zero.

    Args:
        weighed: positions of the outputs that have their weight in them.
    """
    factors = [1.0 if position in weighed else numbers[position] for position in positions]
    learned = [index for index, p in enumerate(positions) if p not in weighed] if weights.requires_grad else []
    if factors == [1.0] and not learned:
        return outputs[0]
    picked = weights
    if learned and len(learned) < len(weights):
        picked = weights[[positions[index] for index in learned]]
    total: Tensor = _WeightedSum.apply(factors, learned, picked if learned else None, *outputs)
    return total


class _WeightedSum(torch.autograd.Function):
    """One pass over each output, of which those are kept that have a weight to learn."""

    @staticmethod
    def forward(
        ctx: Any, factors: Sequence[float], learned: Sequence[int], weights: Tensor | None, *outputs: Tensor
    ) -> Tensor:
        dtype = outputs[0].dtype
        for output in outputs[1:]:
            dtype = torch.promote_types(dtype, output.dtype)
        total, rest = outputs[0].to(dtype), list(zip(factors, outputs, strict=True))[1:]
        if factors[0] != 1.0:
            total = total * factors[0]
        elif rest:
            factor, output = rest.pop(0)
            total = torch.add(total, output, alpha=factor)
        else:
            total = total.view_as(total)
        for factor, output in rest:
            total.add_(output, alpha=factor)
        ctx.factors, ctx.learned = factors, learned
        ctx.dtypes = [output.dtype for output in outputs]
        ctx.save_for_backward(weights, *(outputs[index] for index in learned))
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        weights, *outputs = ctx.saved_tensors
        found = None
        if outputs:
            found = torch.stack([_dot(grad, output).to(weights.dtype) for output in outputs])
        # By the weights themselves where this is differentiated again; without dimensions they may lie on another device.
        by = dict(zip(ctx.learned, weights, strict=True)) if outputs and torch.is_grad_enabled() else {}
        parts = [
            (grad if factor == 1.0 and index not in by else grad * by.get(index, factor)).to(dtype) if needed else None
            for index, (factor, dtype, needed) in enumerate(
                zip(ctx.factors, ctx.dtypes, ctx.needs_input_grad[3:], strict=True)
            )
        ]
        return None, None, found, *parts


def _dot(one: Tensor, two: Tensor) -> Tensor:
    if one.dtype in (torch.float16, torch.bfloat16) or two.dtype != one.dtype:
        return (one * two).sum(dtype=torch.promote_types(one.dtype, torch.float32))
    if one.dim() == 4 and two.is_contiguous(memory_format=torch.channels_last):
        one, two = (
            one.permute(0, 2, 3, 1),
            two.permute(0, 2, 3, 1),
        )  # in the order of the memory, so that nothing is copied
    return torch.dot(one.reshape(-1), two.reshape(-1))
