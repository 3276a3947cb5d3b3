"""Jacobian covariance (the first version of Mellor et al., "NAS Without Training", 2020, https://arxiv.org/abs/2006.04647v1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from oneshot.training_free.gradients import differentiable
from oneshot.training_free.trial import Trial

_OFFSET = 1e-5


@dataclass(frozen=True)
class JacobianCovariance:
    """How little the gradients of the outputs by different images resemble each other: ``-sum_i (log(v_i + k) + 1 / (v_i + k))``
    with the eigenvalues ``v`` of the correlations of these gradients and ``k = 1e-5``.

    The batch is that of Abdelfattah et al., ICLR 2021.
    """

    num_images: int = 64

    @property
    def name(self) -> str:
        return "jacobian_covariance"

    def __call__(self, trial: Trial) -> float:
        return jacobian_covariance(trial.network(), trial.images(self.num_images)[0])


def jacobian_covariance(network: nn.Module, images: Tensor) -> float:
    """The score of a network on ``(batch, channels, height, width)`` images; minus infinity where one has no effect."""
    inputs = images.detach().clone().requires_grad_()
    with differentiable(inputs):
        total = network(inputs).sum()
    if not total.requires_grad:
        return -math.inf
    (gradient,) = torch.autograd.grad(total, inputs, allow_unused=True)
    if gradient is None:
        return -math.inf
    jacobian = gradient.flatten(1).double().cpu().numpy()
    jacobian = jacobian - jacobian.mean(1, keepdims=True)
    lengths = np.linalg.norm(jacobian, axis=1, keepdims=True)
    if not (lengths > 0).all():  # or they are not finite
        return math.nan if np.isnan(lengths).any() else -math.inf
    jacobian /= lengths
    values = np.linalg.eigvalsh(jacobian @ jacobian.T) + _OFFSET
    return float(-np.sum(np.log(values) + 1 / values))
