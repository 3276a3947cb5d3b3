"""NASWOT (Mellor et al., ICML 2021, https://arxiv.org/abs/2006.04647, equations 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oneshot.training_free.activations import units_of, watch_activations
from oneshot.training_free.trial import Trial


@dataclass(frozen=True)
class NASWOT:
    """The log-determinant of the kernel that counts, for every two images, the units that are active on both or on neither: large
    where a network tells images apart before it has learned anything.

    The batch and the initial weights, those of the network itself, are those of the published code (``score_networks.py``).
    """

    num_images: int = 128

    @property
    def name(self) -> str:
        return "naswot"

    def __call__(self, trial: Trial) -> float:
        return log_determinant(agreement(trial.network(), trial.images(self.num_images)[0]))


def agreement(network: nn.Module, images: Tensor) -> NDArray[np.float64]:
    """``(batch, batch)``: the number of units in which the activation patterns of two images agree.

    Raises:
        NotApplicable: the network has no rectifiers.
    """
    total = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)

    def add(values: Tensor) -> None:
        active = (units_of(values) > 0).float()
        both, number = active @ active.T, active.sum(1)  # exact in float32 below 2^24 units
        total.add_(active.shape[1] + 2 * both - number - number[:, None])

    watch_activations(network, images, add)
    found: NDArray[Any] = total.cpu().numpy()
    return found


def log_determinant(kernel: NDArray[np.float64]) -> float:
    """The natural logarithm of the absolute determinant; minus infinity where two images cannot be told apart."""
    return float(np.linalg.slogdet(kernel)[1])
