"""Images that a library hands over as arrays of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oneshot.data import digests
from oneshot.data.images import ImageSource

if TYPE_CHECKING:
    from PIL.Image import Image


class ArraySource(ImageSource):
    """Images in memory, each called by the name of the array and its index."""

    def __init__(
        self,
        pixels: Sequence[NDArray[np.generic]] | NDArray[np.uint8],
        labels: Tensor,
        name: str,
        enlarge_to: int | None = None,
        known_by: Sequence[int] | None = None,
    ) -> None:
        """Holds an array, or a list of arrays.

        Args:
            pixels: of each image, grey ``(height, width)`` of any depth, or RGB ``(height, width, 3)`` of uint8.
            labels: class indices, shape ``(num_images,)``.
            name: of the array, different for each array of a data set.
            enlarge_to: height and width in pixels to which images are resized by bilinear interpolation, which,
                unlike the bicubic one used otherwise, does not overshoot when few pixels are enlarged a lot.
            known_by: the digest of each image where ``pixels`` are not the original ones.
        """
        self.pixels = pixels
        self.labels = labels.to(torch.int64)
        self.keys = tuple(f"{name}/{index}" for index in range(len(pixels)))
        self.enlarge_to = enlarge_to
        self.known_by = known_by

    def load(self, index: int) -> Image:
        """One image, of mode L or RGB."""
        from PIL import Image as pil

        image = pil.fromarray(self.pixels[index])
        if self.enlarge_to is None:
            return image
        return image.resize((self.enlarge_to, self.enlarge_to), pil.Resampling.BILINEAR)

    def digest(self, index: int) -> int:
        """What identifies one image, see ``ImageSource.digest``."""
        return digests.of_pixels(self.pixels[index]) if self.known_by is None else self.known_by[index]
