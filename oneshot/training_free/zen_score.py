"""Zen-score (Lin et al., "Zen-NAS", ICCV 2021, https://arxiv.org/abs/2102.01063, algorithm 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oneshot.batch_norm import tracking_norms
from oneshot.training_free.blocks import block_features
from oneshot.training_free.score import NotApplicable, is_norm
from oneshot.training_free.trial import Trial

_STRENGTH = 0.01  # of the second noise that is mixed in


@dataclass(frozen=True)
class ZenScore:
    """The logarithm of how far the last feature maps move when the input does, ``log mean_n |f(x) - f(x + 0.01 e)|_1``, plus what
    batch normalisation has taken away, ``sum_layers log sqrt(mean_channels variance)``; the mean over draws of standard normal
    weights. ``x`` and ``e`` are noise: no data are read.

    The variances are the running ones, as in the published code (idstcv/ZenNAS), which go on from one draw to the next; in the
    paper they are those of the batch.
    """

    num_images: int = 16
    repeats: int = 32

    @property
    def name(self) -> str:
        return "zen_score"

    def __call__(self, trial: Trial) -> float:
        networks = trial.redrawn("gaussian", self.repeats)
        total = 0.0
        for repeat, network in enumerate(networks):
            images, mixed = (trial.noise(self.num_images, "zen", repeat, which) for which in ("x", "e"))
            total += zen_score(network, images, images + _STRENGTH * mixed)
        return total / self.repeats


@torch.no_grad()
def zen_score(network: nn.Module, images: Tensor, moved: Tensor) -> float:
    """The score of a network with the weights that it has, in training mode, by two batches of near images.

    Raises:
        NotApplicable: it has norms that are not batch normalisation with running statistics, or no feature maps.
    """
    norms = tracking_norms(network)
    if len(norms) < sum(map(is_norm, network.modules())):
        raise NotApplicable(
            "adds up what batch normalisation takes away, and the network has other norms, which it cannot undo"
        )
    distance = block_features(network, images)[-1] - block_features(network, moved)[-1]
    score = distance.flatten(1).abs().sum(1).mean().log().item()
    for norm in norms:
        assert norm.running_var is not None
        score += math.log(norm.running_var.mean().item()) / 2
    return score
