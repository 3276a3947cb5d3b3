"""Rewards of paths in training: accuracy on minibatches of held-out images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from oneshot.arch import Arch
from oneshot.data import ImageData
from oneshot.supernet import Supernet
from oneshot.training.engine import Engine
from oneshot.training.randomness import make_generator


class HeldOutReward:
    """Accuracy of a path on a random minibatch of held-out images of its own. As in ENAS's published code (``build_valid_rl``)
    normalisation uses the minibatch's statistics, so that no path needs recalibration, and the supernet's are not touched.
    """

    def __init__(self, data: ImageData, batch_size: int, seed: int) -> None:
        self.data, self.seed = data, seed
        self.batch_size = min(batch_size, len(data.held_out))

    @torch.no_grad()
    def __call__(self, supernet: Supernet, archs: Sequence[Arch], engine: Engine, *key: object) -> list[float]:
        """A fraction for each architecture; the minibatches are functions of the seed and ``key``."""
        generator = make_generator("reward", self.seed, *key)
        draws = [torch.randperm(len(self.data.held_out), generator=generator)[: self.batch_size] for _ in archs]
        rewards = []
        device = next(supernet.parameters()).device
        for arch, (images, labels) in zip(archs, self.data.held_out.batches(draws), strict=True):
            inputs = engine.prepare(images.to(device), supernet.space.input_shape(arch)[-1])
            module = with_batch_statistics(supernet.extract(arch))
            with engine.precision():
                hits = module(inputs).argmax(1) == labels.to(device)
            rewards.append(hits.float().mean().item())
        return rewards


def with_batch_statistics(module: nn.Module) -> nn.Module:
    """``module``, its batch normalisation in training mode and everything else, such as dropout, in eval mode."""
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.training = True  # not `train()`: timm's norms have a dropout of their own
    return module
