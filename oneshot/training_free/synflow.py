"""SynFlow (Tanaka et al., NeurIPS 2020, https://arxiv.org/abs/2006.05467), summed as by Abdelfattah et al., ICLR 2021."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from oneshot.training_free.activations import is_rectifier
from oneshot.training_free.gradients import differentiable, weight_of
from oneshot.training_free.score import is_norm, weighted_layers
from oneshot.training_free.trial import Trial


@dataclass(frozen=True)
class SynFlow:
    """The flow through a network that has the absolute values of its weights: ``sum_i |w_i dR/dw_i|``, where ``R`` is the sum of
    its outputs for an image of ones. No data are read.

    Norms are left out, as in the published code; so are rectifiers, which let positive values pass: those of a network with ReLU
    change nothing, and those with a limit or a bend would only blunt the measure.
    """

    @property
    def name(self) -> str:
        return "synflow"

    def __call__(self, trial: Trial) -> float:
        return synflow(trial.network(), trial.input_shape, trial.bench.device)


def synflow(network: nn.Module, input_shape: tuple[int, int, int], device: torch.device | None = None) -> float:
    """The score of a network that takes images of ``input_shape``, ``(channels, height, width)``; computed in float64, because it
    grows as the product of the weights of all layers.

    Raises:
        NotApplicable: there is no convolution or linear layer.
    """
    flow = copy.deepcopy(network).double().eval()
    _pass_on(flow)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.abs_()
    weights = [weight_of(layer) for layer in weighted_layers(flow)]
    ones = torch.ones(1, *input_shape, dtype=torch.float64, device=device)
    with differentiable(ones):
        total = flow(ones).sum()
    gradients = torch.autograd.grad(total, weights, allow_unused=True)
    return sum((w * g).abs().sum().item() for w, g in zip(weights, gradients, strict=True) if g is not None)


def _pass_on(module: nn.Module) -> None:
    """Puts modules that give back what they take into the places of the norms and rectifiers inside ``module``."""
    for name, child in module._modules.items():
        if child is None:
            continue
        if is_rectifier(child) or is_norm(child):
            module._modules[name] = nn.Identity()
        else:
            _pass_on(child)
