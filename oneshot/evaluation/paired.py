"""Whether candidates can be told apart on the held-out images: a comparison image by image."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from oneshot.statistics import Estimate, Values, bootstrap_means


@torch.inference_mode()
def image_scores(module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Values, Values]:
    """What ``module``, in eval mode, makes of each image: 1 where its class is right and 0 elsewhere ``(num_images,)``, and its
    cross-entropy in nats ``(num_images,)``.
    """
    correct, losses = [], []
    for images, labels in batches:
        logits = module(images).float()
        correct.append((logits.argmax(1) == labels).cpu().double().numpy())
        losses.append(nn.functional.cross_entropy(logits, labels, reduction="none").cpu().double().numpy())
    return np.concatenate(correct), np.concatenate(losses)


def lead_of_first(scores: Values, *, num_resamples: int = 1000, seed: int = 0) -> list[Estimate]:
    """By how much the mean score of the first candidate exceeds that of each candidate, with the 95 % interval of a paired
    bootstrap over images (Efron, 1979): all are compared on the same resampled images. Where an interval holds 0, the two
    cannot be told apart on so few images.

    Args:
        scores: ``(num_candidates, num_images)``, higher is better.

    Raises:
        ValueError: no candidates or no images.
    """
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores are of at least one candidate on at least one image, not of shape {scores.shape}")
    return bootstrap_means(scores[0] - scores, num_resamples, np.random.default_rng(seed))
