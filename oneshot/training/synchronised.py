"""Batch normalisation with the statistics of a whole batch whose shares lie in several processes."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor
from torch.nn import functional
from torch.nn.modules._functions import SyncBatchNorm  # what nn.SyncBatchNorm calls

from oneshot.processes import count, losing
from oneshot.standing_in import StandIn


def check_synchronised(wanted: bool, device: torch.device) -> None:
    """Raises ValueError where ``trainer.sync_batch_norm`` is set and the device cannot do it."""
    if wanted and device.type != "cuda":
        raise ValueError(
            f"trainer.sync_batch_norm=true is for CUDA devices, on which torch has it; on {device} it is false: each process "
            "normalises its own share of a batch"
        )


def synchronising(wanted: bool) -> AbstractContextManager[object]:
    """The context of a step's forward passes: with ``trainer.sync_batch_norm`` and several processes ``SynchronisedNorms``."""
    return SynchronisedNorms() if wanted and count() > 1 else contextlib.nullcontext()


class SynchronisedNorms(StandIn):
    """A context in which batch normalisation in training mode is ``torch.nn.SyncBatchNorm``'s: over the images of all processes,
    in the backward pass, too. All of them must normalise the same layers in the same order.

    What is called is looked at, not which modules there are: a supernet's modules keep their classes, with which they are
    extracted, and normalise with slices of the bank's tensors as they do alone.
    """

    def __init__(self) -> None:
        super().__init__(functional.batch_norm, _batch_norm)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    group = distributed.group.WORLD
    arguments = (input, weight, bias, running_mean, running_var, eps, momentum, group, count())
    normalised: Tensor = _Synchronised.apply(*arguments)
    return normalised


class _Synchronised(SyncBatchNorm):
    """Raises LostProcess where another process has ended."""

    @staticmethod
    def forward(context: Any, *args: Any) -> Any:
        with losing():
            return SyncBatchNorm.forward(context, *args)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        with losing():
            return SyncBatchNorm.backward(context, *gradients)
