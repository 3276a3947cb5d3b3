"""SNIP (Lee et al., ICLR 2019, https://arxiv.org/abs/1810.02340), summed over a network (Abdelfattah et al., ICLR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oneshot.training_free.gradients import LayerGradients, gradients_of
from oneshot.training_free.trial import Trial


@dataclass(frozen=True)
class SNIP:
    """How much the loss would change if weights were taken away one at a time, to first order: ``sum_i |w_i dL/dw_i|``."""

    num_images: int = 64

    @property
    def name(self) -> str:
        return "snip"

    def __call__(self, trial: Trial) -> float:
        return snip(gradients_of(trial, self.num_images))


def snip(layers: Sequence[LayerGradients]) -> float:
    """The score of a network with these gradients."""
    return sum((layer.weight * layer.gradient).abs().sum().item() for layer in layers)
