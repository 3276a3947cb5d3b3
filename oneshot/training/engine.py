"""What the trainer lends to a task."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor


class Engine(Protocol):
    """What the trainer lends to a task for a step.

    Attributes:
        optimizer: of the weights.
    """

    optimizer: torch.optim.Optimizer

    @property
    def loss_scale(self) -> float:
        """By what ``backward`` multiplies the loss."""

    def prepare(self, images: Tensor, resolution: int) -> Tensor:
        """Stored uint8 images as the network's input ``(batch, 3, resolution, resolution)``."""

    def precision(self) -> AbstractContextManager[object]:
        """The context of the forward pass: mixed precision where it is on."""

    def backward(self, loss: Tensor) -> None:
        """The loss's backward pass, scaled where mixed precision needs it."""
