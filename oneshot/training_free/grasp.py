"""GraSP (Wang et al., ICLR 2020, https://arxiv.org/abs/2002.07376), summed over a network (Abdelfattah et al., ICLR 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oneshot.training_free.gradients import differentiable, weight_of
from oneshot.training_free.score import weighted_layers
from oneshot.training_free.trial import Trial


@dataclass(frozen=True)
class GraSP:
    """How much the norm of the gradient would change if weights were taken away one at a time, to first order: ``-sum_i w_i
    (H g)_i`` with the gradient ``g`` and the Hessian ``H`` of the loss. The sign is that of the code of Abdelfattah et al.
    """

    num_images: int = 64

    @property
    def name(self) -> str:
        return "grasp"

    def __call__(self, trial: Trial) -> float:
        return grasp(trial.network(), *trial.images(self.num_images))


def grasp(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The score of a network on ``(batch, channels, height, width)`` images; derivatives are taken by the weights of convolutions
    and linear layers alone.

    Raises:
        NotApplicable: there is no such layer.
    """
    weights = [weight_of(layer) for layer in weighted_layers(network)]
    with differentiable(images):
        loss = cross_entropy(network(images), labels)
        gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
        product = sum((g.detach() * g).sum() for g in gradients if g is not None)
    if not isinstance(product, Tensor):
        return 0.0
    products = torch.autograd.grad(product, weights, allow_unused=True)
    return -sum((w.detach() * p).sum().item() for w, p in zip(weights, products, strict=True) if p is not None)
