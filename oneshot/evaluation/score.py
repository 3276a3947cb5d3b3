"""What a network scores on held-out images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Score:
    """Accuracy (a fraction) and mean cross-entropy (nats) over ``num_images`` images; both are NaN where logits are."""

    accuracy: float
    loss: float
    num_images: int

    def __add__(self, other: Score) -> Score:
        """The score over the images of both."""
        number = self.num_images + other.num_images

        def mean(mine: float, others: float) -> float:
            return (mine * self.num_images + others * other.num_images) / number

        return Score(mean(self.accuracy, other.accuracy), mean(self.loss, other.loss), number)


@torch.inference_mode()
def evaluate(module: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> Score:
    """Accuracy and loss of ``module`` in eval mode; its mode is restored."""
    training = module.training
    module.eval()
    try:
        return score_of((module(images), labels) for images, labels in batches)
    finally:
        module.train(training)


def score_of(predictions: Iterable[tuple[Tensor, Tensor]]) -> Score:
    """The score of logits ``(batch, classes)`` against labels ``(batch,)``."""
    losses, hits, count = list[Tensor](), list[Tensor](), 0
    for logits, labels in predictions:
        logits = logits.float()
        losses.append(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        hits.append((logits.argmax(1) == labels).sum())
        count += len(labels)
    # A look at a number waits for all that a CUDA device has to do, so at all of them at once.
    loss = math.fsum(torch.stack(losses).tolist()) if losses else 0.0
    correct = sum(torch.stack(hits).tolist()) if hits else 0
    accuracy = math.nan if math.isnan(loss) else correct / max(count, 1)
    return Score(accuracy, loss / max(count, 1), count)
