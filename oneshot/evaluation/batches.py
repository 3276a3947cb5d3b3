"""The images that candidates are scored and calibrated on, in prepared batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

from oneshot.data import ImageData, Images, TensorImages, prepare
from oneshot.progress import progress

_PREPARED_BYTES = 2**30
_DECODED_BYTES = 2**32


class Batches:
    """Prepared batches of an image set at any resolution; kept in memory where they fit into 1 GiB. Of others that are decoded
    from files the pixels are kept, a quarter as large, where they fit into 4 GiB.

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
        self._decoded: list[tuple[Tensor, Tensor]] | None = None

    def shown(self, resolution: int, log: logging.Logger, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of ``at``, while ``log`` says how far they have come if they take long."""
        with progress(log, name, "image", total=len(self.images), leave=False) as bar:
            for images, labels in self.at(resolution):
                yield images, labels
                bar.update(len(labels))

    def at(self, resolution: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images ``(batch, 3, resolution, resolution)`` and labels ``(batch,)``."""
        if resolution in self._kept:
            yield from self._kept[resolution]
            return
        keep = (len(self._kept) + 1) * len(self.images) * 12 * resolution**2 <= _PREPARED_BYTES
        kept = []
        for images, labels in self._pixels(keep):
            with torch.inference_mode(False):  # what is kept is for everyone
                prepared = prepare(
                    images.to(self.device), resolution, self.data.mean, self.data.std, memory_format=self.memory_format
                )
                batch = (prepared, labels.to(self.device))
            if keep:
                kept.append(batch)
            yield batch
        if keep:
            self._kept[resolution] = kept

    def _pixels(self, are_prepared_kept: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of uint8 images and labels."""
        if self._decoded is not None:
            yield from self._decoded
            return
        num_bytes = len(self.images) * 3 * self.images.image_size**2
        keep = not (isinstance(self.images, TensorImages) or are_prepared_kept or num_bytes > _DECODED_BYTES)
        decoded = []
        for batch in self.images.batches(torch.arange(len(self.images)).split(self.batch_size)):
            if keep:
                decoded.append(batch)
            yield batch
        if keep:
            self._decoded = decoded


def random_indices(total: int, stop: int, seed: int, start: int = 0) -> Tensor:
    """The indices of the images ``start`` to ``stop`` of a random order, ascending."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[start:stop].sort().values
