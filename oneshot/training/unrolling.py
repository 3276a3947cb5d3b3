"""The gradient of architecture parameters after one more step of the weights (Liu et al., DARTS, ICLR 2019, equation 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from oneshot.processes import add_up


def unrolled_gradients(
    optimizer: torch.optim.Optimizer,
    architecture: Sequence[Tensor],
    train_loss: Callable[[], Tensor],
    other_loss: Callable[[], Tensor],
    epsilon: float = 1e-2,
) -> Sequence[Tensor | None]:
    """``d other_loss(w') / d architecture``, where ``w'`` are the weights after the optimizer's next step on ``train_loss``,
    which depends on the architecture too. The part that goes through ``w'`` is the product of a vector ``v`` and a matrix,
    measured by moving the weights, not ``w'``, to ``w + e v`` and ``w - e v`` with ``e = epsilon / |v|`` (equation 8). The
    weights are afterwards as they were, bit for bit.

    Where several processes share out the images, each gives its parts of the losses and gets the gradient of the whole.

    Args:
        optimizer: SGD, with the weights and what momentum and decay will do to them.
        train_loss: of the weights as they are, computed anew at each call, of the same images and draws.
        other_loss: of other images, likewise.

    Raises:
        ValueError: the optimizer is not SGD.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        raise ValueError(
            "order=second unrolls a step of plain SGD: set trainer.optimizer to sgd or momentum, not to an optimizer that is "
            f"{type(optimizer).__name__}"
        )
    groups = [(weight, group) for group in optimizer.param_groups for weight in group["params"] if weight.requires_grad]
    weights = [weight for weight, _ in groups]
    kept = [weight.detach().clone() for weight in weights]
    try:
        gradients = added_gradients(train_loss(), weights)
        factors = [_step(optimizer, *pair, gradient) for pair, gradient in zip(groups, gradients, strict=True)]
        loss = other_loss()
        found = added_gradients(loss, [*architecture, *weights])
        direct, vector = list(found[: len(architecture)]), found[len(architecture) :]
        moves = [
            None if part is None or not factor else part * factor for part, factor in zip(vector, factors, strict=True)
        ]
        norm = (
            torch.stack([move.norm() for move in moves if move is not None]).norm() if any(factors) else torch.zeros(())
        )
        if not norm > 0:
            return direct
        size = epsilon / float(norm)
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                for weight, before, move in zip(weights, kept, moves, strict=True):
                    weight.copy_(before if move is None else before + sign * size * move)
            sides.append(added_gradients(train_loss(), architecture))
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)
    return [
        straight if above is None or below is None else _minus(straight, (above - below) / (2 * size))
        for straight, above, below in zip(direct, *sides, strict=True)
    ]


def added_gradients(loss: Tensor, inputs: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """The gradients of a loss, added up over all processes of the run; None where the loss does not depend on an input."""
    found = torch.autograd.grad(loss, inputs, allow_unused=True)
    gradients = [None if gradient is None else gradient.contiguous() for gradient in found]  # some are expanded
    add_up([gradient for gradient in gradients if gradient is not None])
    return gradients


def _step(optimizer: torch.optim.SGD, weight: Tensor, group: dict[str, object], gradient: Tensor | None) -> float:
    """Takes SGD's next step of one weight; returns how far it goes for a gradient of 1."""
    if gradient is None:
        return 0.0
    lr, momentum, decay = (float(group[name]) for name in ("lr", "momentum", "weight_decay"))  # type: ignore[arg-type]
    moved = gradient + decay * weight.detach()
    velocity = moved
    if momentum:
        before = optimizer.state[weight].get("momentum_buffer") if weight in optimizer.state else None
        velocity = moved if before is None else momentum * before + moved
    nesterov = bool(group["nesterov"])
    with torch.no_grad():
        weight.sub_(lr * (moved + momentum * velocity if nesterov else velocity))
    return lr * (1 + momentum if nesterov else 1)


def _minus(one: Tensor | None, two: Tensor) -> Tensor:
    return -two if one is None else one - two
