"""Decoding: any image to a square of uint8 pixels, many at once, corrupt ones counted and left out."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oneshot.data.images import ImageSource, TensorImages
from oneshot.progress import progress

if TYPE_CHECKING:
    from PIL.Image import Image

_LOGGER = logging.getLogger(__name__)
_CHUNK = 64  # images per task: small enough for an even progress bar, large enough to hide the cost of a task


class CorruptImages:
    """The images of one data set that could not be decoded, over all its splits.

    Attributes:
        keys: those found so far, in order, as `ImageSource.keys` names them.
        limit: how many are tolerated.
    """

    def __init__(self, limit: int) -> None:
        """Begin with none found."""
        self.limit = limit
        self.keys: dict[str, None] = {}

    def add(self, key: str, reason: str) -> None:
        """Record one corrupt image and warn of it; one that is known already is not counted again.

        Raises:
            ValueError: there are now more than `limit`.
        """
        if key in self.keys:
            return
        self.keys[key] = None
        if len(self.keys) > self.limit:
            raise ValueError(
                f"{len(self.keys)} images cannot be decoded, the last one is {key} ({reason}); "
                f"at most {self.limit} are skipped (data.max_corrupt={self.limit})"
            )
        _LOGGER.warning("skipping %s, which cannot be decoded: %s", key, reason)


def num_available_cores() -> int:
    """Return the number of CPU cores this process may use, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def to_square(image: Image, size: int) -> NDArray[np.uint8]:
    """Resize the shorter side to `size` pixels (bicubic, antialiased) and cut out the centre square.

    JPEG files many times larger than `size` are decoded at a reduced scale, at least twice `size`, which is several
    times faster; all else is what torchvision's `Resize` and `CenterCrop` do.

    Returns:
        RGB pixels, shape `(3, size, size)`.
    """
    from PIL import Image as pil

    image.draft("RGB", (2 * size, 2 * size))
    image = _to_rgb(image)
    width, height = image.size
    if min(width, height) != size:
        resized = (size, int(size * height / width)) if width < height else (int(size * width / height), size)
        image = image.resize(resized, pil.Resampling.BICUBIC)
        width, height = image.size
    if (width, height) != (size, size):
        left, top = round((width - size) / 2), round((height - size) / 2)
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image).transpose(2, 0, 1)


def _to_rgb(image: Image) -> Image:
    from PIL import Image as pil

    if image.mode.startswith("I"):  # 16 bits of grey, which a plain conversion would clip to white
        image = pil.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:  # pillow warns of a direct conversion
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def try_decode(source: ImageSource, index: int, size: int) -> NDArray[np.uint8] | str:
    """Decode one image of a source to `(3, size, size)`, or return why that is impossible."""
    try:
        return to_square(source.load(index), size)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken files
        return " ".join(f"{type(error).__name__}: {error}".split())


def decode_all(
    source: ImageSource, indices: Tensor, image_size: int, corrupt: CorruptImages, description: str = "images"
) -> TensorImages:
    """Decode the images of a source at `indices`, int64 of shape `(num_images,)`, without those that are corrupt.

    What takes long says how far it has come, under the name of `description`.

    Raises:
        ValueError: more images are corrupt than `corrupt` tolerates.
    """
    positions = indices.tolist()
    pixels = torch.empty((len(positions), 3, image_size, image_size), dtype=torch.uint8)
    array = pixels.numpy()
    failed: list[int] = []

    def decode_chunk(start: int) -> list[tuple[int, str]]:
        failures = []
        for slot in range(start, min(start + _CHUNK, len(positions))):
            decoded = try_decode(source, positions[slot], image_size)
            if isinstance(decoded, str):
                failures.append((slot, decoded))
            else:
                array[slot] = decoded
        return failures

    starts = range(0, len(positions), _CHUNK)
    pool = ThreadPoolExecutor(num_available_cores() if source.concurrent else 1)
    try:
        with progress(_LOGGER, f"decoding {description}", "image", total=len(positions), leave=False) as bar:
            for start, failures in zip(starts, pool.map(decode_chunk, starts), strict=True):
                for slot, reason in failures:
                    corrupt.add(source.keys[positions[slot]], reason)
                    failed.append(slot)
                bar.update(min(_CHUNK, len(positions) - start))
    finally:
        pool.shutdown(cancel_futures=True)  # do not decode the rest after an error

    labels, keys = source.labels[indices], [source.keys[i] for i in positions]
    decoded_images = TensorImages(pixels, labels, keys)
    if not failed:
        return decoded_images
    kept = torch.ones(len(positions), dtype=torch.bool)
    kept[failed] = False
    return decoded_images.subset(kept.nonzero().flatten())
