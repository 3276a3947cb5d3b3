"""Random crops that are resized (Szegedy et al., 2015, section 6): their boxes and their pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop and timm's RandomErasing
Interval = tuple[float, float]


class BoxDraws(NamedTuple):
    """Uniform numbers in [0, 1) from which the boxes of a batch follow, whatever the sizes of its images.

    Attributes:
        areas: shape ``(batch, attempts)``.
        ratios: shape ``(batch, attempts)``.
        positions: shape ``(2, batch)``.
    """

    areas: Tensor
    ratios: Tensor
    positions: Tensor

    def of(self, rows: slice | Tensor) -> BoxDraws:
        """Those of some images of the batch."""
        return BoxDraws(self.areas[rows], self.ratios[rows], self.positions[:, rows])


def draw_boxes(batch: int, generator: torch.Generator) -> BoxDraws:
    """Draws the numbers for the boxes of a batch, on the generator's device."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    return BoxDraws(uniform(batch, _ATTEMPTS), uniform(batch, _ATTEMPTS), uniform(2, batch))


def boxes_of(draws: BoxDraws, heights: Tensor, widths: Tensor, area: Interval, ratio: Interval) -> Tensor:
    """Turns drawn numbers into boxes inside images.

    The area is uniform, the ratio of width to height log-uniform; of ten draws the first that fits is taken, and the
    largest central box within the ratios if none fits, as in torchvision's ``RandomResizedCrop`` and timm's
    ``RandomResizedCropAndInterpolation``.

    Args:
        draws: of a batch.
        heights: of its images in pixels, int64 of shape ``(batch,)``.
        widths: likewise.
        area: least and greatest area, as parts of the image.
        ratio: least and greatest width / height.

    Returns:
        int64 top, left, height, width in pixels, shape ``(4, batch)``.
    """
    least, greatest = math.log(ratio[0]), math.log(ratio[1])
    areas = (area[0] + (area[1] - area[0]) * draws.areas) * heights.unsqueeze(1) * widths.unsqueeze(1)
    ratios = torch.exp(least + (greatest - least) * draws.ratios)
    tall, wide = (areas / ratios).sqrt().round().long(), (areas * ratios).sqrt().round().long()
    fits = (tall >= 1) & (tall <= heights.unsqueeze(1)) & (wide >= 1) & (wide <= widths.unsqueeze(1))
    first = fits.int().argmax(1, keepdim=True)  # 0 if none fits
    fits_any = fits.any(1)
    largest_height = torch.minimum(heights, (widths / ratio[0]).round().long().clamp(min=1))
    largest_width = torch.minimum(widths, (heights * ratio[1]).round().long().clamp(min=1))
    height = torch.where(fits_any, tall.gather(1, first).squeeze(1), largest_height)
    width = torch.where(fits_any, wide.gather(1, first).squeeze(1), largest_width)
    free = torch.stack((heights - height, widths - width))
    offset = torch.where(fits_any, (draws.positions * (free + 1)).long().minimum(free), free // 2)
    return torch.stack((offset[0], offset[1], height, width))


def resized_crops(images: Sequence[Tensor], boxes: Tensor, size: int, interpolation: str) -> Tensor:
    """Cuts the boxes out of images and resizes them, antialiased, as torchvision's ``resized_crop`` does.

    Args:
        images: uint8 ``(3, height, width)`` each, on the CPU.
        boxes: top, left, height, width, shape ``(4, batch)``.
        size: height and width of the result in pixels.
        interpolation: bicubic or bilinear.

    Returns:
        uint8 ``(batch, 3, size, size)``.
    """
    crops = torch.empty((len(images), 3, size, size), dtype=torch.uint8)
    for crop, image, (top, left, height, width) in zip(crops, images, boxes.T.tolist(), strict=True):
        cut = image[:, top : top + height, left : left + width]
        if (height, width) != (size, size):
            cut = functional.interpolate(cut.unsqueeze(0), (size, size), mode=interpolation, antialias=True).squeeze(0)
        crop.copy_(cut)
    return crops


def random_crops(
    images: Sequence[Tensor], draws: BoxDraws, area: Interval, ratio: Interval, size: int, interpolation: str
) -> Tensor:
    """Cuts the boxes that were drawn out of images of any sizes, see ``boxes_of`` and ``resized_crops``."""
    heights, widths = (torch.tensor([image.shape[side] for image in images]) for side in (1, 2))
    return resized_crops(images, boxes_of(draws, heights, widths, area, ratio), size, interpolation)
