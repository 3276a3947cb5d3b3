"""Batch normalisation as the other parts need it: which norms keep statistics, and what one of them cannot normalise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def tracking_norms(module: nn.Module) -> list[_BatchNorm]:
    """The batch normalisation layers of ``module`` that normalise with running statistics in eval mode."""
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer.running_var is not None
    ]


def with_batch_statistics(module: nn.Module) -> nn.Module:
    """``module``, its batch normalisation in training mode and everything else, such as dropout, in eval mode."""
    module.eval()
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.training = True  # not `train()`: timm's norms have a dropout of their own
    return module


@contextlib.contextmanager
def several_values(advice: str) -> Iterator[None]:
    """Inside, a norm that is given a single value of a channel, which has no variance, raises a ValueError with ``advice``: which
    setting gives it more.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(f"batch normalisation cannot normalise a single value of a channel: {advice}") from None


Statistics = Literal["tracked", "batch", "stored"]


@contextlib.contextmanager
def normalising(module: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Inside, training normalises as ``statistics`` says: with the batch, which running statistics follow ("tracked") or do not
    ("batch"); or with the running ones, which stay as they are ("stored").
    """
    # Not `train()`: timm's norms have a dropout of their own.
    flag = "training" if statistics == "stored" else "track_running_stats"
    norms = [] if statistics == "tracked" else tracking_norms(module)
    changed = [layer for layer in norms if getattr(layer, flag)]
    for layer in changed:
        setattr(layer, flag, False)
    try:
        yield
    finally:
        for layer in changed:
            setattr(layer, flag, True)
