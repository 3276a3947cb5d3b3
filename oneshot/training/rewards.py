"""Rewards of paths in training: accuracy on minibatches of held-out images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from oneshot.arch import Arch
from oneshot.batch_norm import several_values, with_batch_statistics
from oneshot.data import ImageData
from oneshot.processes import shared_out
from oneshot.supernet import Supernet
from oneshot.training.engine import Engine
from oneshot.training.randomness import make_generator

_REWARD_IMAGES = (
    "the rewards of paths are measured on {count} held-out images at a time, by trainer.batch_size and data.held_out"
)


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
        device = next(supernet.parameters()).device

        def rewards(asked: Sequence[tuple[Arch, Tensor]]) -> list[float]:
            found = []
            batches = self.data.held_out.batches([draw for _, draw in asked])
            for (arch, _), (images, labels) in zip(asked, batches, strict=True):
                inputs = engine.prepare(images.to(device), supernet.space.input_shape(arch)[-1])
                module = with_batch_statistics(supernet.extract(arch))
                with engine.precision(), several_values(_REWARD_IMAGES.format(count=len(inputs))):
                    hits = module(inputs).argmax(1) == labels.to(device)
                found.append(hits.float().mean())
            return torch.stack(found).tolist() if found else []

        return shared_out(list(zip(archs, draws, strict=True)), rewards)
