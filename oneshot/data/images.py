"""Labelled sets of images: what a source provides, and the sets that batches are drawn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oneshot.data import digests

if TYPE_CHECKING:
    from PIL.Image import Image


class ImageSource(ABC):
    """Images of any size that are decoded on request, with labels that are known beforehand.

    Attributes:
        labels: int64 class indices, shape `(num_images,)`.
        keys: what identifies each image within its data set: its path, or its index within the source.
        concurrent: whether `load` may be called from several threads or processes at once.
    """

    labels: Tensor
    keys: tuple[str, ...]
    concurrent: bool = True

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.keys)

    @abstractmethod
    def load(self, index: int) -> Image:
        """Return one image, of any mode and size; any exception from here or from decoding means it is corrupt."""

    def digest(self, index: int) -> int:
        """Return 64 bits, as a signed number, that tell the content of one image from that of any other one."""
        return digests.of_image(self.load(index))


class Images(ABC):
    """A labelled set of square images of one size, stored or decoded as uint8.

    Attributes:
        labels: int64 class indices, shape `(num_images,)`.
        image_size: height and width in pixels.
        keys: what identifies each image within its data set: its path, or its index within the source.
    """

    labels: Tensor
    image_size: int
    keys: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @abstractmethod
    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one batch for each tensor of indices, in that order.

        Args:
            index_batches: int64 indices into this set, each of shape `(batch,)`.

        Yields:
            uint8 images `(batch, 3, height, width)` and their int64 labels `(batch,)`.
        """

    @abstractmethod
    def subset(self, indices: Tensor) -> Images:
        """Return the set of the images at `indices`, int64 of shape `(num_images,)`, in that order."""


class TensorImages(Images):
    """Images that are all held in memory as one tensor.

    Attributes:
        images: uint8, shape `(num_images, 3, height, width)`.
    """

    def __init__(self, images: Tensor, labels: Tensor, keys: Sequence[str] | None = None) -> None:
        """Hold `images` as they are; without `keys`, the images are identified by their positions.

        Raises:
            ValueError: shapes or types are not those described above, or the lengths differ.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(
                f"images must be uint8 of shape (num_images, 3, height, width), got {images.dtype} of shape "
                f"{tuple(images.shape)}"
            )
        if images.shape[2] != images.shape[3]:
            raise ValueError(f"images must be square, got height {images.shape[2]} and width {images.shape[3]}")
        self.images = images
        self.labels = labels.to(torch.int64)
        self.keys = tuple(map(str, range(len(images)))) if keys is None else tuple(keys)
        self.image_size = images.shape[2]
        if not len(images) == len(self.labels) == len(self.keys):
            raise ValueError(f"got {len(images)} images, {len(self.labels)} labels and {len(self.keys)} keys")

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images and labels at each tensor of indices, see `Images.batches`."""
        for indices in index_batches:
            yield self.images[indices], self.labels[indices]

    def subset(self, indices: Tensor) -> TensorImages:
        """Return a copy of the images at `indices`, see `Images.subset`."""
        return TensorImages(self.images[indices], self.labels[indices], [self.keys[i] for i in indices.tolist()])
