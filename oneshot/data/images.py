"""Labelled sets of images: what a source provides, and the sets that batches are drawn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oneshot.data import digests
from oneshot.data.augmentation import Augmentation
from oneshot.data.cropping import draw_boxes, random_crops
from oneshot.processes import Share

if TYPE_CHECKING:
    from PIL.Image import Image


class ImageSource(ABC):
    """Images of any size that are decoded on request, with labels that are known beforehand.

    Attributes:
        labels: int64 class indices, shape ``(num_images,)``.
        keys: what identifies each image within its data set: its path, or its index within the source.
        concurrent: whether ``load`` may be called from several threads or processes at once.
    """

    labels: Tensor
    keys: tuple[str, ...]
    concurrent: bool = True

    def __len__(self) -> int:
        """The number of images."""
        return len(self.keys)

    @abstractmethod
    def load(self, index: int) -> Image:
        """One image, of any mode and size; any exception from here or from decoding means it is corrupt."""

    def digest(self, index: int) -> int:
        """64 bits, as a signed number, that tell the content of one image from that of any other one."""
        return digests.of_image(self.load(index))


class Images(ABC):
    """A labelled set of images: the centres, squares of one size, and the whole images that training cuts crops from.

    Attributes:
        labels: int64 class indices, shape ``(num_images,)``.
        image_size: height and width in pixels.
        keys: what identifies each image within its data set: its path, or its index within the source.
    """

    labels: Tensor
    image_size: int
    keys: tuple[str, ...]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    @abstractmethod
    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the centres of the images at each tensor of indices, to evaluate on, one batch for each, in that order.

        An image that turns out to be corrupt is left out of its batch, but never so that fewer than two images are left
        where two or more were asked for, or none where one was: then others of the set take the places.

        Args:
            index_batches: int64 indices into this set, each of shape ``(batch,)``.

        Yields:
            uint8 images ``(batch, 3, image_size, image_size)`` and their int64 labels ``(batch,)``.

        Raises:
            ValueError: no image of the set can be decoded.
        """

    @abstractmethod
    def training_batches(
        self,
        index_batches: Sequence[Tensor],
        augmentation: Augmentation,
        generators: Iterable[torch.Generator],
        share: Share | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields what ``augment`` takes: resized random crops of the whole images if ``augmentation`` has such, else centres.

        Every batch has as many images as were asked for: one that turns out to be corrupt is replaced by the next of the
        set that is not, which depends on the files alone.

        Args:
            index_batches: as ``batches`` takes them.
            augmentation: says which crops.
            generators: one for each batch, from which its crops alone depend; asked for ahead of time, and not at all
                if no crops are resized.
            share: the rows of each batch that are wanted, which are those that they would be without it.

        Yields:
            uint8 images ``(batch, 3, image_size, image_size)`` and their int64 labels ``(batch,)``.

        Raises:
            ValueError: no image of the set can be decoded.
        """

    @abstractmethod
    def subset(self, indices: Tensor) -> Images:
        """The set of the images at ``indices``, int64 of shape ``(num_images,)``, in that order."""


class TensorImages(Images):
    """Images that are all held in memory.

    Attributes:
        images: the centres, uint8 of shape ``(num_images, 3, height, width)``.
        whole: the whole images, uint8 of shape ``(3, height, width)`` each; None if the centres are all there is.
        interpolation: of resized crops, bicubic or bilinear.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        keys: Sequence[str] | None = None,
        *,
        whole: Sequence[Tensor] | None = None,
        interpolation: str = "bicubic",
    ) -> None:
        """Holds ``images`` as they are; without ``keys``, the images are identified by their positions.

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
        self.whole = whole
        self.interpolation = interpolation
        self.labels = labels.to(torch.int64)
        self.keys = tuple(map(str, range(len(images)))) if keys is None else tuple(keys)
        self.image_size = images.shape[2]
        if not len(images) == len(self.labels) == len(self.keys) == len(images if whole is None else whole):
            raise ValueError(
                f"got {len(images)} images, {len(self.labels)} labels and {len(self.keys)} keys"
                f"{'' if whole is None else f', and {len(whole)} whole images'}"
            )

    @property
    def num_bytes(self) -> int:
        """What the pixels take in memory."""
        beside = [] if self.whole is None else [image for image in self.whole if not _is_part_of(image, self.images)]
        return self.images.numel() + sum(image.numel() for image in beside)

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the centres and labels at each tensor of indices, see ``Images.batches``."""
        for indices in index_batches:
            yield self.images[indices], self.labels[indices]

    def training_batches(
        self,
        index_batches: Sequence[Tensor],
        augmentation: Augmentation,
        generators: Iterable[torch.Generator],
        share: Share | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields crops or centres, see ``Images.training_batches``."""
        rows = slice(None) if share is None else share.rows
        if not augmentation.cuts_from_whole:
            yield from self.batches([indices[rows] for indices in index_batches])
            return
        for asked, generator in zip(index_batches, generators, strict=False):
            draws, indices = draw_boxes(len(asked), generator).of(rows), asked[rows]
            whole = [self.images[i] if self.whole is None else self.whole[i] for i in indices.tolist()]
            area, ratio = augmentation.crop_scale, augmentation.crop_ratio
            crops = random_crops(whole, draws, area, ratio, self.image_size, self.interpolation)
            yield crops, self.labels[indices]

    def subset(self, indices: Tensor) -> TensorImages:
        """A copy of the images at ``indices``, see ``Images.subset``."""
        images, positions = self.images[indices], indices.tolist()
        whole = None
        if self.whole is not None:  # a view of the old centres would keep all of them in memory
            chosen = (self.whole[i] for i in positions)
            whole = [
                own if _is_part_of(image, self.images) else image for image, own in zip(chosen, images, strict=True)
            ]
        keys = [self.keys[i] for i in positions]
        return TensorImages(images, self.labels[indices], keys, whole=whole, interpolation=self.interpolation)


def _is_part_of(image: Tensor, images: Tensor) -> bool:
    return image.untyped_storage().data_ptr() == images.untyped_storage().data_ptr()
