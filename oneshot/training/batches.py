"""The batches of a training: which images, in which order, as a function of the seed and the step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from oneshot.data import ImageData
from oneshot.processes import Share
from oneshot.training.randomness import make_generator
from oneshot.training.settings import TrainSettings

T = TypeVar("T")


def batches_of(data: ImageData, settings: TrainSettings) -> tuple[int, int]:
    """Images a batch and batches an epoch."""
    batch_size = min(settings.batch_size, len(data.train))
    return batch_size, len(data.train) // batch_size


def training_batches(
    data: ImageData, settings: TrainSettings, share: Share, steps: range, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """A share of one batch for each of ``steps``, on ``device``: each epoch has its own order, and leaves out its last incomplete
    batch. Those for CUDA come through pinned memory, each while the step before is at work.

    Yields:
        uint8 images ``(batch, 3, size, size)``, cropped but not augmented further, and their labels ``(batch,)``.

    Raises:
        ValueError: the images are fewer batches than were asked for.
    """
    batches = _batches(data, settings, share, steps)
    if device.type != "cuda":
        yield from ((images.to(device), labels.to(device)) for images, labels in batches)
        return
    for images, labels in ahead((images.pin_memory(), labels.pin_memory()) for images, labels in batches):
        yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _batches(data: ImageData, settings: TrainSettings, share: Share, steps: range) -> Iterator[tuple[Tensor, Tensor]]:
    batch_size, steps_per_epoch = batches_of(data, settings)
    first_epoch, position = divmod(steps.start, steps_per_epoch)
    for epoch in range(first_epoch, steps.stop // steps_per_epoch):
        order = torch.randperm(len(data.train), generator=make_generator("order", settings.seed, epoch))
        asked = order[: steps_per_epoch * batch_size].split(batch_size)[position:]
        first = epoch * steps_per_epoch + position
        crops = (make_generator("crops", settings.seed, step) for step in itertools.count(first))
        given = 0
        for batch in data.train.training_batches(asked, data.augmentation, crops, share):
            yield batch
            given += 1
        if given < len(asked):
            raise ValueError(f"the training images gave {given} batches of an epoch where {len(asked)} were asked for")
        position = 0


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made by a thread while the caller is busy with the one before."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
