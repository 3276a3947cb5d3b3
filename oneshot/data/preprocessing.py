"""How an image becomes the pixels that a network sees: its centre to evaluate on, all of it to cut training crops from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oneshot.data.colour import PixelRange

if TYPE_CHECKING:
    from PIL.Image import Image

Statistics = tuple[float, float, float]  # of the channels R, G, B

INTERPOLATIONS = ("bicubic", "bilinear")
_EXTREME = 16  # longer / shorter side above which the parts that are cut off are not computed


@dataclass(frozen=True)
class Preprocessing:
    """Sizes, crop and colour of images.

    Attributes:
        image_size: height and width in pixels of what a network sees.
        crop_pct: part of the shorter side that the centre crop covers, as timm's setting of this name.
        interpolation: bicubic or bilinear; always antialiased.
        stored_size: shorter side in pixels to which larger images are reduced before training crops are cut from them;
            None is twice ``image_size``.
        pixel_range: values that become black and white in images of more than eight bits a channel; None refuses them.
    """

    image_size: int
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    stored_size: int | None = None
    pixel_range: PixelRange | None = None

    @property
    def shorter_side(self) -> int:
        """Pixels of the shorter side before the centre is cut out."""
        return math.floor(self.image_size / self.crop_pct)

    @property
    def largest_stored(self) -> int:
        """Pixels of the shorter side of the largest images that are stored whole."""
        return 2 * self.image_size if self.stored_size is None else self.stored_size

    def centre(self, image: Image) -> NDArray[np.uint8]:
        """Resizes the shorter side and cuts out the centre, as timm's and torchvision's ``Resize`` and ``CenterCrop`` do.

        Where one side is more than 16 times the other, only what is cut out is computed; rounding then differs by a few
        levels.

        Args:
            image: of mode RGB.

        Returns:
            Pixels ``(3, image_size, image_size)``.
        """
        size, kernel = self.image_size, self._kernel()
        width, height = image.size
        short = self.shorter_side
        resized = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
        left, top = round((resized[0] - size) / 2), round((resized[1] - size) / 2)
        if max(width, height) > _EXTREME * min(width, height):
            across, down = width / resized[0], height / resized[1]
            box = (left * across, top * down, (left + size) * across, (top + size) * down)
            image = image.resize((size, size), kernel, box=box)
        else:
            if resized != image.size:
                image = image.resize(resized, kernel)
            if resized != (size, size):
                image = image.crop((left, top, left + size, top + size))
        return np.asarray(image).transpose(2, 0, 1)

    def is_all_centre(self, image: Image) -> bool:
        """Whether the centre of an image is the whole image, pixel for pixel."""
        return image.size == (self.image_size, self.image_size) and self.shorter_side == self.image_size

    def whole(self, image: Image) -> Tensor:
        """All of an image of mode RGB, reduced if its shorter side is above ``largest_stored``.

        Returns:
            uint8 pixels ``(3, height, width)``.
        """
        scale = self.largest_stored / min(image.size)
        if scale < 1:
            image = image.resize((round(scale * image.width), round(scale * image.height)), self._kernel())
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def _kernel(self) -> int:
        from PIL import Image as pil

        return {"bicubic": pil.Resampling.BICUBIC, "bilinear": pil.Resampling.BILINEAR}[self.interpolation]
