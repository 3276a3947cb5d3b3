"""Fisher (Turner et al., "BlockSwap", ICLR 2020, https://arxiv.org/abs/1906.04113), summed as by Abdelfattah et al., 2021."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from oneshot.training_free.gradients import LayerGradients, gradients_of
from oneshot.training_free.trial import Trial


@dataclass(frozen=True)
class Fisher:
    """How much the loss would change without each channel, by Fisher information: ``1/2 mean_n (sum_hw a dL/da)^2`` for a
    channel with activations ``a``, times the number of weights that make the channel, over all layers.

    The weighting by weights is not in the paper: the published code (SamsungLabs/zero-cost-nas) repeats the value of a channel
    for each of its weights and sums those.
    """

    num_images: int = 64

    @property
    def name(self) -> str:
        return "fisher"

    def __call__(self, trial: Trial) -> float:
        return fisher(gradients_of(trial, self.num_images))


def fisher(layers: Sequence[LayerGradients]) -> float:
    """The score of a network with these gradients."""
    total = 0.0
    for layer in layers:
        for output, gradient in zip(layer.outputs, layer.output_gradients, strict=True):
            information = _of_channels(layer.layer, output.detach() * gradient).square().mean(0) / 2
            total += information.sum().item() * layer.weight[0].numel()
    return total


def _of_channels(layer: nn.Module, values: Tensor) -> Tensor:
    """``(batch, channels)``: the sums over positions, wherever a layer has its channels."""
    if values.dim() == 2:
        return values
    return values.flatten(1, -2).sum(1) if isinstance(layer, nn.Linear) else values.flatten(2).sum(2)
