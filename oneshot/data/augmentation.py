"""Random augmentation of whole uint8 batches, each image drawn for itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import torch
import torch.nn.functional as functional
from torch import Tensor

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop and timm's RandomErasing
_ERASED_AREA = (0.02, 1 / 3)
_ERASED_RATIO = (0.3, 1 / 0.3)


@dataclass(frozen=True)
class Augmentation:
    """What `augment` does to each image; the default does nothing.

    Attributes:
        crop_padding: zero pixels added on every side before a crop of the original size is taken at random.
        crop_scale: least and greatest area of a random crop that is resized to the full image, as a part of the
            area of the image with its padding (Szegedy et al., 2015, section 6).
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
        """Turn lists into tuples.

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


def _interval(name: str, value: Sequence[float], *, greatest: float) -> tuple[float, float]:
    allowed = f"two numbers [least, greatest] above 0{'' if math.isinf(greatest) else f' and up to {greatest:g}'}"
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    least, most = value
    if any(isinstance(x, bool) or not isinstance(x, Real) for x in value) or not 0 < least <= most <= greatest:
        raise ValueError(f"{name} must be {allowed}, got {list(value)}")
    return float(least), float(most)


def augment(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop, mirror and erase each image at random.

    Padded crops and mirroring copy pixels exactly; only crops that are resized interpolate (bilinear).

    Args:
        images: uint8 `(batch, 3, height, width)`, height equal to width, on any device.
        settings: what to do.
        generator: the only source of randomness; draws are made on its device and moved to the images'.

    Returns:
        uint8, same shape and device; the images themselves if there is nothing to do.

    Raises:
        ValueError: `images` are not uint8, square and batched.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(
            f"images must be uint8 of shape (batch, channels, size, size), got {images.dtype} {tuple(images.shape)}"
        )
    batch, size = images.shape[0], images.shape[2]
    mirrored = torch.zeros(batch, dtype=torch.bool, device=generator.device)
    if settings.horizontal_flip:
        mirrored = _uniform((batch,), generator) < 0.5
    if settings.crop_padding:
        images = functional.pad(images, [settings.crop_padding] * 4)
    if settings.crop_scale != (1.0, 1.0) or settings.crop_ratio != (1.0, 1.0):
        boxes = _draw_boxes(batch, images.shape[2], settings.crop_scale, settings.crop_ratio, generator)
        images = _resized_crops(images, boxes.to(images.device), mirrored.to(images.device), size)
    else:
        if settings.crop_padding:
            offsets = _integers((2, batch), 2 * settings.crop_padding + 1, generator)
            images = _crops(images, offsets.to(images.device), size)
        if settings.horizontal_flip:
            images = _mirror(images, mirrored.nonzero().flatten().to(images.device))
    if settings.erase_probability:
        images = _erase(images, settings.erase_probability, generator)
    return images


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _integers(shape: tuple[int, ...], end: int, generator: torch.Generator) -> Tensor:
    return torch.randint(end, shape, generator=generator, device=generator.device)


def _crops(images: Tensor, offsets: Tensor, size: int) -> Tensor:
    """Cut `size` pixels square out of each image, `offsets` being rows and columns `(2, batch)`."""
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # a view: (batch, 3, rows, columns, size, size)
    return windows[torch.arange(len(images), device=images.device), :, offsets[0], offsets[1]]


def _mirror(images: Tensor, indices: Tensor) -> Tensor:
    mirrored = images.clone()
    mirrored[indices] = images[indices].flip(3)
    return mirrored


def _draw_boxes(
    batch: int, size: int, area: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw boxes inside a square image of `size` pixels.

    Area is uniform, the ratio of width to height log-uniform; of ten draws the first that fits is taken, and the
    largest central box within the ratios if none fits, as in torchvision's `RandomResizedCrop`.

    Returns:
        int64 top, left, height, width in pixels, shape `(4, batch)`.
    """
    least, greatest = math.log(ratio[0]), math.log(ratio[1])
    areas = (area[0] + (area[1] - area[0]) * _uniform((batch, _ATTEMPTS), generator)) * size * size
    ratios = torch.exp(least + (greatest - least) * _uniform((batch, _ATTEMPTS), generator))
    heights, widths = (areas / ratios).sqrt().round().long(), (areas * ratios).sqrt().round().long()
    fits = (heights >= 1) & (heights <= size) & (widths >= 1) & (widths <= size)
    first = fits.int().argmax(1, keepdim=True)  # 0 if none fits
    fits_any = fits.any(1)
    height = torch.where(fits_any, heights.gather(1, first).squeeze(1), round(size / max(1.0, ratio[0])))
    width = torch.where(fits_any, widths.gather(1, first).squeeze(1), round(size * min(1.0, ratio[1])))
    position = _uniform((2, batch), generator)
    free = torch.stack((size - height, size - width))
    offset = torch.where(fits_any, (position * (free + 1)).long().minimum(free), free // 2)
    return torch.stack((offset[0], offset[1], height, width))


def _resized_crops(images: Tensor, boxes: Tensor, mirrored: Tensor, size: int) -> Tensor:
    """Cut out the boxes, resize them to `size` pixels square by bilinear interpolation, and mirror some."""
    full = images.shape[2]
    top, left, height, width = boxes.float() / full  # in parts of the image
    theta = torch.zeros(len(images), 2, 3, device=images.device)  # grid_sample counts from -1 to 1
    theta[:, 0, 0] = torch.where(mirrored, -width, width)
    theta[:, 0, 2] = 2 * left + width - 1
    theta[:, 1, 1] = height
    theta[:, 1, 2] = 2 * top + height - 1
    grid = functional.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    crops = functional.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return crops.round_().to(torch.uint8)


def _erase(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Fill one random rectangle with uniform noise in a part of the images."""
    batch, size = images.shape[0], images.shape[2]
    chosen = _uniform((batch, 1, 1), generator) < probability
    top, left, height, width = _draw_boxes(batch, size, _ERASED_AREA, _ERASED_RATIO, generator).unsqueeze(2)
    line = torch.arange(size, device=generator.device)
    rows, columns = (line >= top) & (line < top + height), (line >= left) & (line < left + width)
    inside = chosen & rows.unsqueeze(2) & columns.unsqueeze(1)
    # Eight pixels from each draw, as drawing takes most of the time.
    words = torch.randint(-(2**63), 2**63 - 1, (images.numel() // 8 + 1,), generator=generator, device=generator.device)
    noise = words.view(torch.uint8)[: images.numel()].view(images.shape)
    return torch.where(inside.unsqueeze(1).to(images.device), noise.to(images.device), images)
