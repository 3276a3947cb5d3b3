"""SWAP and its regularised form (Peng et al., ICLR 2024, https://arxiv.org/abs/2403.04161, section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oneshot.training_free.activations import units_of, watch_activations
from oneshot.training_free.trial import Trial

_WORD = 62  # images whose signs fit into one int64


@dataclass(frozen=True)
class SWAP:
    """The number of different patterns that single units make over the images of a batch, the mean over draws of standard normal
    weights.

    As in the published code (``correlation.py``), units of vectors, behind the pooling, do not count.
    """

    num_images: int = 16
    repeats: int = 32

    @property
    def name(self) -> str:
        return "swap"

    def __call__(self, trial: Trial) -> float:
        def mean() -> float:
            images = trial.images(self.num_images)[0]
            found = [num_patterns(network, images) for network in trial.redrawn("gaussian", self.repeats)]
            return sum(found) / self.repeats

        return trial.once(("swap", self.num_images, self.repeats), mean)


@dataclass(frozen=True)
class RegularisedSWAP:
    """SWAP times ``exp(-(params - mu)^2 / sigma)``, which holds back networks larger or smaller than is usual.

    The paper sets ``mu`` and ``sigma`` for each space by hand. Here no table is asked: they are the mean and twice the variance
    of the number of parameters over random networks of the space, so that the factor is the bell curve of their sizes.
    """

    num_images: int = 16
    repeats: int = 32

    @property
    def name(self) -> str:
        return "regularised_swap"

    def __call__(self, trial: Trial) -> float:
        mean, variance = trial.bench.typical_params
        return SWAP(self.num_images, self.repeats)(trial) * regularisation(trial.cost.params, mean, 2 * variance)


def num_patterns(network: nn.Module, images: Tensor) -> int:
    """How many different ones there are among the patterns of all units, a pattern being the images on which a unit is active.

    Raises:
        NotApplicable: the network has no rectifiers.
    """
    kept: list[Tensor] = []

    def add(values: Tensor) -> None:
        if values.dim() > 2:
            kept.append(_different(_codes(units_of(values) > 0)))

    watch_activations(network, images, add)
    return len(_different(torch.cat(kept))) if kept else 0


def regularisation(params: float, mu: float, sigma: float) -> float:
    """``exp(-(params - mu)^2 / sigma)``; 1 where all networks have the same size."""
    return math.exp(-((params - mu) ** 2) / sigma) if sigma > 0 else 1.0


def _codes(active: Tensor) -> Tensor:
    """``(num_units, num_words)`` int64: the bits of ``(num_images, num_units)`` truth values."""
    words = []
    for part in active.split(_WORD):
        bits = torch.ones(len(part), dtype=torch.int64, device=part.device) << torch.arange(
            len(part), device=part.device
        )
        words.append(torch.einsum("iu,i->u", part.long(), bits))
    return torch.stack(words, 1)


def _different(codes: Tensor) -> Tensor:
    if codes.shape[1] == 1:
        found: Tensor = torch.unique(codes)[:, None]  # sorts numbers, which is much faster than sorting rows
    else:
        found = torch.unique(codes, dim=0)
    return found
