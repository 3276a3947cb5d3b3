"""The scores of AZ-NAS that look at features (Lee and Ham, CVPR 2024, https://arxiv.org/abs/2403.19232, section 3.2); its
complexity is ``macs``, and ``log_rank_sum`` puts the four together.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from oneshot.training_free.blocks import block_features, by_position
from oneshot.training_free.score import NotApplicable
from oneshot.training_free.trial import Trial

_NUM_DENSE = 64


@dataclass(frozen=True)
class Expressivity:
    """How evenly the features of each block fill their space: the entropy of the eigenvalues of their covariance, over the sum of
    these, added up over blocks. The batch is noise and the weights are drawn by fan-in, as in the published code.
    """

    num_images: int = 64

    @property
    def name(self) -> str:
        return "az_expressivity"

    def __call__(self, trial: Trial) -> float:
        return _worst_if_none(sum(_examined(trial, self.num_images).entropies))


@dataclass(frozen=True)
class Progressivity:
    """The smallest step that this entropy takes from one block to the next."""

    num_images: int = 64

    @property
    def name(self) -> str:
        return "az_progressivity"

    def __call__(self, trial: Trial) -> float:
        entropies = _examined(trial, self.num_images).entropies
        steps = [_worst_if_none(after - before) for before, after in itertools.pairwise(entropies)]
        return min(steps)


@dataclass(frozen=True)
class Trainability:
    """How near the gradients of each block are to keeping their length, ``2 - s - 1 / s`` with the largest singular value ``s``
    of the block's Jacobian, estimated with random signs; the mean over blocks.
    """

    num_images: int = 64

    @property
    def name(self) -> str:
        return "az_trainability"

    def __call__(self, trial: Trial) -> float:
        found = _examined(trial, self.num_images).trainabilities
        if not found:
            raise NotApplicable("compares blocks that have the same positions, and the network has no two in a row")
        return sum(found) / len(found)


@dataclass(frozen=True)
class Examined:
    """What the blocks of a network do, one after the other: the entropy of the features of each, and the trainability of each
    that follows one of the same kind.
    """

    entropies: list[float]
    trainabilities: list[float]


def examine(network: nn.Module, images: Tensor, generator: torch.Generator) -> Examined:
    """The blocks of a network in training mode on ``(batch, channels, height, width)`` images.

    Raises:
        NotApplicable: there are fewer than two.
    """
    features = block_features(network, images, gradients=True)
    if len(features) < 2:
        raise NotApplicable("compares the blocks of a network, and this one has only one that makes feature maps")
    entropies = [entropy(by_position(one.detach())) for one in features]
    trainabilities = []
    for before, after in itertools.pairwise(features):
        if before.dim() != after.dim() or (before.dim() == 3 and before.shape[1] != after.shape[1]):
            continue  # from a feature map to tokens, or to fewer of them: there is no position that both have
        signs = torch.randint(2, after.shape, generator=generator).to(after) * 2 - 1
        gradient = None
        if after.requires_grad and before.requires_grad:
            (gradient,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
        trainabilities.append(trainability(signs, torch.zeros_like(before) if gradient is None else gradient))
    return Examined(entropies, trainabilities)


def entropy(features: Tensor) -> float:
    """The entropy (nats) of the shares that the principal components of ``(num_positions, channels)`` features have in their
    variance; NaN where they do not vary.
    """
    centred = features.double() - features.double().mean(0)
    # Either product has the same eigenvalues but for zeros, which add nothing.
    smaller = centred.T @ centred if centred.shape[1] <= len(centred) else centred @ centred.T
    values = torch.linalg.eigvalsh(smaller)
    shares = values / values.sum()
    return -float((shares * (shares + 1e-8).log()).sum())


def trainability(signs: Tensor, gradient: Tensor) -> float:
    """``2 - s - 1 / s`` for a block whose output was given the gradient ``signs`` and whose input got ``gradient``; minus
    infinity for a block that is none, because it hands on what it gets.
    """
    if signs.shape == gradient.shape and bool((signs == gradient).all()):
        return -math.inf
    out, into = by_position(signs), by_position(_at_positions_of(signs, gradient))
    estimate = into.double().T @ out.double() / len(out)
    largest = _largest_singular_value(estimate.cpu().numpy())
    return 2 - largest - 1 / (largest + 1e-6)


def _largest_singular_value(matrix: NDArray[np.float64]) -> float:
    if min(matrix.shape) < _NUM_DENSE:
        return float(np.linalg.norm(matrix, 2))
    # Hundreds of channels: the others would take seconds.
    return float(svds(matrix, 1, v0=np.ones(min(matrix.shape)), return_singular_vectors=False)[0])


def _at_positions_of(signs: Tensor, gradient: Tensor) -> Tensor:
    """The gradient by a larger input with the pixels of each position as its channels."""
    if signs.dim() == 3 or signs.shape[2:] == gradient.shape[2:]:
        return gradient
    rows, columns = (math.ceil(a / b) for a, b in zip(gradient.shape[2:], signs.shape[2:], strict=True))
    stride = max(rows, columns)
    height, width = (stride * size for size in signs.shape[2:])
    padding = (0, width - gradient.shape[3], 0, height - gradient.shape[2])
    return nn.functional.pixel_unshuffle(nn.functional.pad(gradient, padding), stride)


def _worst_if_none(value: float) -> float:
    """As in the published code, a network with features that do not vary is the worst."""
    return -math.inf if math.isnan(value) else value


def _examined(trial: Trial, num_images: int) -> Examined:
    def compute() -> Examined:
        (network,) = trial.redrawn("kaiming", 1)
        images = trial.noise(num_images, "az_nas")
        return examine(network, images, torch.Generator().manual_seed(trial.bench.seed))

    return trial.once(("az_nas", num_images), compute)
