"""Random augmentation: what is done to training images, and the part of it that works on whole uint8 batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import torch
import torch.nn.functional as functional
from torch import Tensor

from oneshot.data.cropping import boxes_of, draw_boxes
from oneshot.devices import sent
from oneshot.processes import Share

_ERASED_AREA = (0.02, 1 / 3)
_ERASED_RATIO = (0.3, 1 / 0.3)


@dataclass(frozen=True)
class Augmentation:
    """What training does to each image; the default does nothing.

    Attributes:
        crop_padding: zero pixels added on every side before a crop of the original size is taken at random.
        crop_scale: least and greatest area of a random crop that is resized to the size of the images, as a part of
            the area of the whole image (Szegedy et al., 2015, section 6). [1, 1] with a ratio of [1, 1] is off: then the
            images' centres are what is augmented.
        crop_ratio: least and greatest width / height of that crop.
        horizontal_flip: mirror every second image, at random.
        erase_probability: part of the images in which one rectangle, 2 % to 33 % of the area, is replaced by noise
            (Zhong et al., 2020, algorithm 1).
    """

    crop_padding: int = 0
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    horizontal_flip: bool = False
    erase_probability: float = 0.0

    def __post_init__(self) -> None:
        """Turns lists into tuples.

        Raises:
            ValueError: a setting is of the wrong type or out of range.
        """
        if isinstance(self.crop_padding, bool) or not isinstance(self.crop_padding, int) or self.crop_padding < 0:
            raise ValueError(f"crop_padding must be a number of pixels, 0 or more, got {self.crop_padding!r}")
        object.__setattr__(self, "crop_scale", _interval("crop_scale", self.crop_scale, greatest=1.0))
        object.__setattr__(self, "crop_ratio", _interval("crop_ratio", self.crop_ratio, greatest=math.inf))
        if not isinstance(self.horizontal_flip, bool):
            raise ValueError(f"horizontal_flip must be true or false, got {self.horizontal_flip!r}")
        probability = self.erase_probability
        if isinstance(probability, bool) or not isinstance(probability, Real) or not 0 <= float(probability) <= 1:
            raise ValueError(f"erase_probability must be between 0 and 1, got {probability!r}")

    @property
    def cuts_from_whole(self) -> bool:
        """Whether crops of any size are cut out of whole images, which ``Images.training_batches`` does."""
        return self.crop_scale != (1.0, 1.0) or self.crop_ratio != (1.0, 1.0)


def _interval(name: str, value: Sequence[float], *, greatest: float) -> tuple[float, float]:
    allowed = f"two numbers [least, greatest] above 0{'' if math.isinf(greatest) else f' and up to {greatest:g}'}"
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    least, most = value
    if any(isinstance(x, bool) or not isinstance(x, Real) for x in value) or not 0 < least <= most <= greatest:
        raise ValueError(f"{name} must be {allowed}, got {list(value)}")
    return float(least), float(most)


def augment(images: Tensor, settings: Augmentation, generator: torch.Generator, share: Share | None = None) -> Tensor:
    """Shifts, mirrors and erases each image of a batch at random; crops that are resized have been cut before.

    Args:
        images: uint8 ``(batch, 3, height, width)``, height equal to width, on any device, as ``Images.training_batches``
            gives them.
        settings: what to do.
        generator: the only source of randomness; draws are made on its device and moved to the images'.
        share: which rows of a batch ``images`` are: what is drawn is drawn for all of it.

    Returns:
        uint8, same shape and device; the images themselves if there is nothing to do.

    Raises:
        ValueError: ``images`` are not uint8, square and batched.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(
            f"images must be uint8 of shape (batch, channels, size, size), got {images.dtype} {tuple(images.shape)}"
        )
    size = images.shape[2]
    batch, rows = (len(images), slice(None)) if share is None else (share.total, share.rows)
    mirrored = torch.zeros(batch, dtype=torch.bool, device=generator.device)
    if settings.horizontal_flip:
        mirrored = _uniform((batch,), generator) < 0.5
    if settings.crop_padding:
        images = functional.pad(images, [settings.crop_padding] * 4)
        offsets = _integers((2, batch), 2 * settings.crop_padding + 1, generator)
        images = _crops(images, sent(offsets[:, rows], images.device), size)
    if settings.horizontal_flip:
        images = _mirror(images, sent(mirrored[rows].nonzero().flatten(), images.device))
    if settings.erase_probability:
        images = _erase(images, settings.erase_probability, generator, batch, rows)
    return images


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _integers(shape: tuple[int, ...], end: int, generator: torch.Generator) -> Tensor:
    return torch.randint(end, shape, generator=generator, device=generator.device)


def _crops(images: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Cuts ``size`` pixels square out of each image, ``offsets`` being rows and columns ``(2, batch)``."""
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # a view: (batch, 3, rows, columns, size, size)
    return windows[torch.arange(len(images), device=images.device), :, offsets[0], offsets[1]]


def _mirror(images: Tensor, indices: Tensor) -> Tensor:
    mirrored = images.clone()
    mirrored[indices] = images[indices].flip(3)
    return mirrored


def _erase(images: Tensor, probability: float, generator: torch.Generator, batch: int, kept: slice) -> Tensor:
    """Fills one random rectangle with uniform noise in a part of the images, which are those rows of a batch."""
    size = images.shape[2]
    chosen = _uniform((batch, 1, 1), generator) < probability
    sides = torch.full((batch,), size, device=generator.device)
    boxes = boxes_of(draw_boxes(batch, generator), sides, sides, _ERASED_AREA, _ERASED_RATIO)
    top, left, height, width = boxes.unsqueeze(2)
    line = torch.arange(size, device=generator.device)
    rows, columns = (line >= top) & (line < top + height), (line >= left) & (line < left + width)
    inside = chosen & rows.unsqueeze(2) & columns.unsqueeze(1)
    # Eight pixels from each draw, as drawing takes most of the time.
    number = batch * math.prod(images.shape[1:])
    words = torch.randint(-(2**63), 2**63 - 1, (number // 8 + 1,), generator=generator, device=generator.device)
    noise = words.view(torch.uint8)[:number].view(batch, *images.shape[1:])[kept]
    return torch.where(sent(inside[kept].unsqueeze(1), images.device), sent(noise, images.device), images)
