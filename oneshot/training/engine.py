"""What the trainer lends to a task."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from oneshot.processes import Share


class Engine(Protocol):
    """What the trainer lends to a task for a step.

    Attributes:
        optimizer: of the weights.
        share: which rows of the step's batch the images are; all of them unless several processes share it out. Gradients are
            added up over the processes, so ``backward`` multiplies the loss by the share's weight, too.
    """

    optimizer: torch.optim.Optimizer
    share: Share

    @property
    def loss_scale(self) -> float:
        """By what ``backward`` multiplies the loss for the sake of float16."""

    def prepare(self, images: Tensor, resolution: int) -> Tensor:
        """Stored uint8 images as the network's input ``(batch, 3, resolution, resolution)``."""

    def precision(self) -> AbstractContextManager[object]:
        """The context of the forward pass: mixed precision where it is on."""

    def backward(self, loss: Tensor) -> None:
        """The loss's backward pass, scaled where mixed precision needs it."""
