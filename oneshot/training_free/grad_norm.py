"""GradNorm (Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, https://arxiv.org/abs/2101.08134)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oneshot.training_free.gradients import LayerGradients, gradients_of
from oneshot.training_free.trial import Trial


@dataclass(frozen=True)
class GradNorm:
    """The sum over layers of the Euclidean norm of the gradient of the loss by the layer's weights, ``sum_l |dL/dW_l|_2``."""

    num_images: int = 64

    @property
    def name(self) -> str:
        return "grad_norm"

    def __call__(self, trial: Trial) -> float:
        return grad_norm(gradients_of(trial, self.num_images))


def grad_norm(layers: Sequence[LayerGradients]) -> float:
    """The score of a network with these gradients."""
    return sum(float(layer.gradient.norm()) for layer in layers)
