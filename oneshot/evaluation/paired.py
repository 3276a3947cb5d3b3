"""Whether candidates can be told apart on the held-out images: a comparison image by image."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oneshot.evaluation.correlation import Estimate

Values = NDArray[np.float64]
_AT_ONCE = 2**22  # random numbers


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
    bootstrap over images (Efron, 1979): all are compared on the same resampled images. Where an interval does not lie above 0,
    the two cannot be told apart on so few images.

    Args:
        scores: ``(num_candidates, num_images)``, higher is better.

    Raises:
        ValueError: no candidates or no images.
    """
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores are of at least one candidate on at least one image, not of shape {scores.shape}")
    leads = (scores[0] - scores).T
    count = len(leads)
    rng = np.random.default_rng(seed)
    means = np.empty((num_resamples, leads.shape[1]))
    at_once = max(1, _AT_ONCE // count)
    for start in range(0, num_resamples, at_once):
        drawn = rng.integers(count, size=(min(at_once, num_resamples - start), count))
        times = np.stack([np.bincount(row, minlength=count) for row in drawn])
        means[start : start + len(drawn)] = times @ leads / count
    low, high = np.quantile(means, (0.025, 0.975), axis=0)
    return [Estimate(float(mean), float(a), float(b)) for mean, a, b in zip(leads.mean(0), low, high, strict=True)]
