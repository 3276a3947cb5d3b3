"""Scores of candidates with inherited weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.data import ImageData, Images, prepare
from oneshot.evaluation.recalibration import recalibrate
from oneshot.supernet import Supernet

_CACHE_BYTES = 2**30


@dataclass(frozen=True)
class Score:
    """Accuracy (a fraction) and mean cross-entropy (nats) over ``num_images`` images."""

    accuracy: float
    loss: float
    num_images: int


class Batches:
    """Prepared batches of an image set at any resolution; kept in memory where they fit into 1 GiB.

    Args:
        images: the set; batches come in its order, or in that of ``indices``.
        data: whose normalisation to use.
    """

    def __init__(
        self,
        images: Images,
        data: ImageData,
        batch_size: int,
        device: torch.device,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        self.images, self.data, self.batch_size = images, data, batch_size
        self.device, self.memory_format = device, memory_format
        self._kept: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def at(self, resolution: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images ``(batch, 3, resolution, resolution)`` and labels ``(batch,)``."""
        if resolution in self._kept:
            yield from self._kept[resolution]
            return
        keep = (len(self._kept) + 1) * len(self.images) * 12 * resolution**2 <= _CACHE_BYTES
        kept = []
        for images, labels in self.images.batches(torch.arange(len(self.images)).split(self.batch_size)):
            prepared = prepare(
                images.to(self.device), resolution, self.data.mean, self.data.std, memory_format=self.memory_format
            )
            batch = (prepared, labels.to(self.device))
            if keep:
                kept.append(batch)
            yield batch
        if keep:
            self._kept[resolution] = kept


@torch.inference_mode()
def evaluate(module: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> Score:
    """Accuracy and loss of ``module`` in eval mode; its mode is restored."""
    training = module.training
    module.eval()
    loss, correct, count = 0.0, 0, 0
    try:
        for images, labels in batches:
            logits = module(images).float()
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            correct += int((logits.argmax(1) == labels).sum().item())
            count += len(labels)
    finally:
        module.train(training)
    return Score(correct / max(count, 1), loss / max(count, 1), count)


class Evaluator:
    """Scores subnets of ``supernet`` with inherited weights on the held-out images, after recalibrating the BatchNorm
    statistics of an extracted copy on training images. The supernet is never changed.

    Args:
        calibration_images: how many training images, the same for every candidate, drawn by ``seed``.
        max_images: score on so many held-out images only, the same for every candidate, drawn by ``seed``; all of them if
            None.
    """

    def __init__(
        self,
        supernet: Supernet,
        data: ImageData,
        *,
        device: torch.device,
        calibration_images: int = 512,
        batch_size: int = 256,
        max_images: int | None = None,
        channels_last: bool = True,
        seed: int = 0,
    ) -> None:
        if calibration_images < 1:
            raise ValueError(f"calibration_images is at least 1, not {calibration_images}")
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.supernet = supernet
        self.device = device
        chosen = data.train.subset(_draw(len(data.train), calibration_images, seed))
        # At random, because data sets often come sorted by class.
        held_out = data.held_out
        if max_images is not None:
            held_out = held_out.subset(_draw(len(held_out), max_images, seed))
        self.calibration = Batches(chosen, data, batch_size, device, memory_format)
        self.held_out = Batches(held_out, data, batch_size, device, memory_format)

    def subnet(self, arch: Arch) -> nn.Module:
        """The extracted subnet with recalibrated statistics, in eval mode."""
        module = self.supernet.extract(arch)
        resolution = self.supernet.space.input_shape(arch)[-1]
        return recalibrate(module, (images for images, _ in self.calibration.at(resolution))).eval()

    def __call__(self, arch: Arch) -> Score:
        """The score of ``arch``.

        Raises:
            ValueError: ``arch`` is not an architecture of the supernet's space.
        """
        return evaluate(self.subnet(arch), self.held_out.at(self.supernet.space.input_shape(arch)[-1]))


def _draw(total: int, number: int, seed: int) -> Tensor:
    """The indices of ``number`` images at random, in ascending order."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:number].sort().values
