"""One network under examination, with all that training-free scores look at."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.costs import Cost, CostTable
from oneshot.data import ImageData, prepare
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Coding
from oneshot.training_free.weights import Untrained, Weights, derive_seed

T = TypeVar("T")
_NUM_TYPICAL = 256  # random networks that tell how large those of a space are


class Bench:
    """What all networks of a space are examined with: images, noise, and how large a network of the space usually is.

    Args:
        data: images come from its training set.
        seed: of the images that are drawn, of noise and of weights.
    """

    def __init__(self, space: SearchSpace, data: ImageData, seed: int, device: torch.device) -> None:
        self.space, self.data, self.seed, self.device = space, data, seed, device
        self.costs = CostTable(space)
        order = torch.Generator().manual_seed(derive_seed(seed, "images"))
        self._order = torch.randperm(len(data.train), generator=order)
        self._prepared: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def images(self, number: int, resolution: int) -> tuple[Tensor, Tensor]:
        """The first ``number`` of the training images in a random order, all where there are fewer, prepared as for training but
        without augmentation: ``(number, channels, resolution, resolution)``, and their labels ``(number,)``.
        """
        if (number, resolution) not in self._prepared:
            ((images, labels),) = self.data.train.batches([self._order[:number]])
            images = prepare(images.to(self.device), resolution, self.data.mean, self.data.std)
            self._prepared[number, resolution] = (images, labels.to(self.device))
        return self._prepared[number, resolution]

    def noise(self, shape: tuple[int, ...], *purpose: object) -> Tensor:
        """Standard normal values, the same for the same ``purpose``."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "noise", *purpose))
        return torch.randn(shape, generator=generator).to(self.device, memory_format=torch.channels_last)

    @cached_property
    def typical_params(self) -> tuple[float, float]:
        """Mean and variance of the number of parameters over random networks of the space."""
        codes = Coding(self.space).sample(_NUM_TYPICAL, np.random.default_rng(derive_seed(self.seed, "params")))
        params = self.costs.costs_of(codes)[:, 1].astype(np.float64)
        return float(params.mean()), float(params.var())


class Trial:
    """One architecture on the bench. What is asked for is computed once, however many scores ask for it."""

    def __init__(self, bench: Bench, arch: Arch) -> None:
        self.bench, self.arch = bench, arch
        self._known: dict[Hashable, Any] = {}

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of the images that the network takes."""
        return self.bench.space.input_shape(self.arch)

    @property
    def cost(self) -> Cost:
        """MACs and parameters."""
        return self.bench.costs.cost(self.arch)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What ``compute`` returned when it was first called under ``key``."""
        if key not in self._known:
            self._known[key] = compute()
        found: T = self._known[key]
        return found

    def network(self) -> nn.Module:
        """The network with weights of its own. Whoever uses it leaves its parameters as they were.

        Its running statistics are nobody's: every forward pass in training mode changes them.
        """
        return self.once("own", self._untrained).network

    def redrawn(self, weights: Weights, repeats: int) -> Iterator[nn.Module]:
        """The network with weights drawn anew for each of ``repeats``, always the same ones; one is done with before the next."""
        untrained = self._untrained()
        for repeat in range(repeats):
            yield untrained.draw(weights, repeat)

    def images(self, number: int) -> tuple[Tensor, Tensor]:
        """Training images of the size that the network takes, and labels: see ``Bench.images``."""
        return self.bench.images(number, self.input_shape[-1])

    def noise(self, number: int, *purpose: object) -> Tensor:
        """``(number, channels, height, width)`` of standard normal values in place of images."""
        return self.bench.noise((number, *self.input_shape), *purpose)

    def _untrained(self) -> Untrained:
        return Untrained(self.bench.space, self.arch, self.bench.seed, self.bench.device)
