"""Images that are decoded anew whenever a batch asks for them, for sets too large for memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oneshot.data.decoding import CorruptImages, num_available_cores, try_decode
from oneshot.data.images import Images, ImageSource


class FileImages(Images):
    """Images of a source, decoded by worker processes.

    A corrupt image is dropped from its batch, which is then smaller; a batch left without any image is not yielded.

    Attributes:
        corrupt: the corrupt images found so far, shared by all subsets.
    """

    def __init__(
        self,
        source: ImageSource,
        image_size: int,
        *,
        indices: Tensor | None = None,
        num_workers: int | None = None,
        corrupt: CorruptImages | None = None,
    ) -> None:
        """Describe the set; nothing is decoded yet.

        Args:
            source: where the images come from.
            image_size: height and width in pixels.
            indices: which images of the source, int64 of shape `(num_images,)`; all of them by default.
            num_workers: processes that decode; 0 decodes in this one, None starts one per available core, at most 8.
                A source that is not `concurrent` is always decoded in this one.
            corrupt: counts the corrupt images and sets their limit, 10 by default.
        """
        self.source = source
        self.image_size = image_size
        self.indices = torch.arange(len(source)) if indices is None else indices
        self.num_workers = num_available_cores() if num_workers is None else num_workers
        self.corrupt = CorruptImages(10) if corrupt is None else corrupt
        self.labels = source.labels[self.indices].to(torch.int64)
        self.keys = tuple(source.keys[i] for i in self.indices.tolist())

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images and labels at each tensor of indices, see `Images.batches`.

        Raises:
            ValueError: more images are corrupt than `corrupt` tolerates.
        """
        loader = DataLoader(
            _Decoder(self.source, self.image_size),
            sampler=[self.indices[batch] for batch in index_batches],
            batch_size=None,
            num_workers=min(self.num_workers, len(index_batches)) if self.source.concurrent else 0,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # the loader would otherwise draw from the global one
        )
        for images, indices, failures in loader:
            for index, reason in failures:
                self.corrupt.add(self.source.keys[index], reason)
            if len(indices):
                yield images, self.source.labels[indices].to(torch.int64)

    def subset(self, indices: Tensor) -> FileImages:
        """Return the set of the images at `indices`, see `Images.subset`."""
        return FileImages(
            self.source,
            self.image_size,
            indices=self.indices[indices],
            num_workers=self.num_workers,
            corrupt=self.corrupt,
        )


_DecodedBatch = tuple[Tensor, Tensor, list[tuple[int, str]]]


class _Decoder(Dataset[_DecodedBatch]):
    """Maps a tensor of indices to the images that could be decoded, their indices, and the failures."""

    def __init__(self, source: ImageSource, image_size: int) -> None:
        self.source = source
        self.image_size = image_size

    def __getitem__(self, indices: Tensor) -> _DecodedBatch:
        images = torch.empty((len(indices), 3, self.image_size, self.image_size), dtype=torch.uint8)
        array = images.numpy()
        kept: list[int] = []
        failures: list[tuple[int, str]] = []
        for index in indices.tolist():
            decoded = try_decode(self.source, index, self.image_size)
            if isinstance(decoded, str):
                failures.append((index, decoded))
            else:
                array[len(kept)] = decoded
                kept.append(index)
        return images[: len(kept)], torch.tensor(kept, dtype=torch.int64), failures


def _unchanged(batch: Any) -> Any:
    return batch
