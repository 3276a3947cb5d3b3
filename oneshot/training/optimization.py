"""The optimizer of a training, by timm's names, and how its gradients are clipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.training.settings import TrainSettings

_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


def make_optimizer(
    module: nn.Module, settings: TrainSettings, lr: float, device: torch.device
) -> torch.optim.Optimizer:
    """timm's optimizer of this name. Where it is one of torch's that computes a step in one operation, it does: the same but for
    rounding, in a fraction of the time.
    """
    from timm.optim import create_optimizer_v2, get_optimizer_info

    arguments: dict[str, Any] = {}
    # timm's SGD is Nesterov's, which torch refuses without momentum.
    if settings.momentum == 0 and settings.optimizer.lower().endswith(("sgd", "sgdw", "nesterov")):
        arguments["nesterov"] = False
    if get_optimizer_info(settings.optimizer.lower()).opt_class in _FUSED and device.type in ("cpu", "cuda"):
        arguments["fused"] = True
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        module,
        opt=settings.optimizer,
        lr=lr,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        **arguments,
    )
    if "fused" in arguments:
        optimizer.register_step_pre_hook(_prepare_fused)
        optimizer.register_load_state_dict_post_hook(_lay_out_state)
    return optimizer


def clip_gradients(parameters: Sequence[nn.Parameter], settings: TrainSettings) -> None:
    """Clips the gradients that there are, as the settings say."""
    from timm.utils import dispatch_clip_grad

    largest = settings.clip_grad
    if largest is None:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if settings.clip_mode == "norm" and gradients and gradients[0].device.type == "cpu":
        norm = torch.nn.utils.get_total_norm(gradients)
        if not norm + 1e-6 <= largest:  # what it would multiply by 1 it need not write
            torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    else:
        dispatch_clip_grad(parameters, largest, mode=settings.clip_mode)


def _prepare_fused(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """What torch's fused steps take for granted: momentum of all weights or of none, and one layout of a weight and its gradient.
    They would mix the values up silently.
    """
    for group in optimizer.param_groups:
        if not group["fused"]:  # continued from a checkpoint of one that was not
            continue
        for weight in group["params"]:
            gradient = weight.grad
            if gradient is None:
                continue
            if group.get("momentum") and optimizer.state[weight].get("momentum_buffer") is None:
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            if not _lie_alike(gradient, weight):
                weight.grad = torch.empty_like(weight).copy_(gradient)


def _lay_out_state(optimizer: torch.optim.Optimizer) -> None:
    """The same of a state that was loaded: the layout of the weights that it is of."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and not _lie_alike(value, weight):
                state[name] = torch.empty_like(weight).copy_(value)


def _lie_alike(one: Tensor, two: Tensor) -> bool:
    """Whether the values of both, of one shape, lie in memory in the same order."""
    strides, others = one.stride(), two.stride()
    return strides == others or all(
        size == 1 or stride == other for size, stride, other in zip(one.shape, strides, others, strict=True)
    )
