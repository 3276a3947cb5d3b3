"""Gradients of the loss of a network on one batch, which several scores read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, hardsigmoid, hardtanh

from oneshot.convolutions import convolving
from oneshot.standing_in import StandIn
from oneshot.training_free.activations import hooked
from oneshot.training_free.score import weighted_layers
from oneshot.training_free.trial import Trial


@dataclass(frozen=True)
class LayerGradients:
    """What one convolution or linear layer has to do with the loss.

    Attributes:
        weight: of the layer.
        gradient: the derivative of the loss by it, zero where no path leads from it to the loss.
        outputs: of each of its calls, and
        output_gradients: the derivatives by them.
    """

    layer: nn.Module
    weight: Tensor
    gradient: Tensor
    outputs: list[Tensor] = field(default_factory=list)
    output_gradients: list[Tensor] = field(default_factory=list)


def loss_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[LayerGradients]:
    """The gradients of the mean cross-entropy on ``(batch, channels, height, width)`` images for every layer with weights.

    Raises:
        NotApplicable: there is no such layer.
    """
    layers = weighted_layers(network)
    outputs: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[module].append(output)

    with (
        hooked(network, outputs.__contains__, lambda module: module.register_forward_hook(keep)),
        differentiable(images),
    ):
        loss = cross_entropy(network(images), labels)
    weights = [weight_of(layer) for layer in layers]
    flat = [output for layer in layers for output in outputs[layer]]
    found = _gradients(loss, [*weights, *flat])
    by_output = iter(found[len(weights) :])
    return [
        LayerGradients(layer, weight.detach(), gradient, outputs[layer], [next(by_output) for _ in outputs[layer]])
        for layer, weight, gradient in zip(layers, weights, found[: len(weights)], strict=True)
    ]


def gradients_of(trial: Trial, num_images: int) -> list[LayerGradients]:
    """Those of the network with weights of its own on a batch of its training images; computed once."""
    return trial.once(("gradients", num_images), lambda: loss_gradients(trial.network(), *trial.images(num_images)))


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a convolution or linear layer."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


@contextmanager
def differentiable(images: Tensor) -> Iterator[None]:
    """A context for forward passes whose gradients, also those of gradients, are wanted: attention is computed step by step,
    because its fused kernels have no second derivative, and convolutions so that none crashes.
    """
    with torch.enable_grad(), convolving(True, images), sdpa_kernel(SDPBackend.MATH), _SmoothGates():
        yield


class _SmoothGates(StandIn):
    """A context in which the hard sigmoid, whose derivative torch cannot differentiate, is computed as what it is."""

    def __init__(self) -> None:
        super().__init__(hardsigmoid, _hardsigmoid)


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return hardtanh(input + 3, 0, 6) / 6


def _gradients(loss: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, tensors, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]
