"""Decoding: the images of a source to uint8 pixels, many at once, corrupt ones counted and left out."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oneshot.data.colour import to_rgb
from oneshot.data.images import ImageSource, TensorImages
from oneshot.data.preprocessing import Preprocessing
from oneshot.processes import count_here
from oneshot.progress import progress

if TYPE_CHECKING:
    from PIL.Image import Image

_LOGGER = logging.getLogger(__name__)
_CHUNK = 64  # images per task: small enough for an even progress bar, large enough to hide the cost of a task


class CorruptImages:
    """The images of one data set that could not be decoded, over all its splits.

    Attributes:
        keys: those found so far, in order, as ``ImageSource.keys`` names them.
        limit: how many are tolerated.
    """

    def __init__(self, limit: int) -> None:
        """Begins with none found."""
        self.limit = limit
        self.keys: dict[str, None] = {}

    def add(self, key: str, reason: str) -> None:
        """Records one corrupt image and warns of it; one that is known already is not counted again.

        Raises:
            ValueError: there are now more than ``limit``.
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
    """The number of CPU cores for this process, of which those of one run on a machine have equal parts; at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // count_here(), 8))


def read_image(source: ImageSource, index: int, preprocessing: Preprocessing) -> Image | str:
    """One image of a source in RGB, or why that is impossible.

    An image of so many pixels that Pillow takes it for an attack is one that cannot be read.
    """
    try:
        return to_rgb(source.load(index), preprocessing.pixel_range)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken files
        return " ".join(f"{type(error).__name__}: {error}".split())


@contextlib.contextmanager
def bombs_refused() -> Iterator[None]:
    """Makes Pillow raise, rather than warn, for images of more pixels than it takes for harmless.

    Not for several threads of a process at once; threads started within are covered.
    """
    from PIL.Image import DecompressionBombWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", DecompressionBombWarning)
        yield


class TooLargeError(Exception):
    """The decoded images take more memory than they may."""


def decode_all(
    source: ImageSource,
    indices: Tensor,
    preprocessing: Preprocessing,
    corrupt: CorruptImages,
    description: str = "images",
    *,
    keep_whole: bool = False,
    max_bytes: float = math.inf,
) -> TensorImages:
    """Decodes the images of a source at ``indices``, int64 of shape ``(num_images,)``, without those that are corrupt.

    What takes long says how far it has come, under the name of ``description``.

    Args:
        source: where the images come from.
        indices: which.
        preprocessing: how they are decoded.
        corrupt: counts those that cannot be.
        description: of the images.
        keep_whole: keep the whole images beside their centres, for random crops.
        max_bytes: what the decoded images may take.

    Raises:
        ValueError: more images are corrupt than ``corrupt`` tolerates.
        TooLargeError: they take more than ``max_bytes``.
    """
    positions, size = indices.tolist(), preprocessing.image_size
    num_bytes = len(positions) * 3 * size**2
    if num_bytes > max_bytes:
        raise TooLargeError
    pixels = torch.empty((len(positions), 3, size, size), dtype=torch.uint8)
    array = pixels.numpy()
    whole: list[Tensor] = list(pixels)  # views, until an image turns out to be more than its centre
    failed: list[int] = []

    def decode_chunk(start: int) -> tuple[list[tuple[int, str]], int]:
        failures, num_whole_bytes = [], 0
        for slot in range(start, min(start + _CHUNK, len(positions))):
            image = read_image(source, positions[slot], preprocessing)
            if isinstance(image, str):
                failures.append((slot, image))
                continue
            array[slot] = preprocessing.centre(image)
            if keep_whole and not preprocessing.is_all_centre(image):
                whole[slot] = preprocessing.whole(image)
                num_whole_bytes += whole[slot].numel()
        return failures, num_whole_bytes

    starts = range(0, len(positions), _CHUNK)
    pool = ThreadPoolExecutor(num_available_cores() if source.concurrent else 1)
    try:
        with (
            bombs_refused(),
            progress(_LOGGER, f"decoding {description}", "image", total=len(positions), leave=False) as bar,
        ):
            for start, (failures, num_whole_bytes) in zip(starts, pool.map(decode_chunk, starts), strict=True):
                for slot, reason in failures:
                    corrupt.add(source.keys[positions[slot]], reason)
                    failed.append(slot)
                num_bytes += num_whole_bytes
                if num_bytes > max_bytes:
                    raise TooLargeError
                bar.update(min(_CHUNK, len(positions) - start))
    finally:
        pool.shutdown(cancel_futures=True)  # do not decode the rest after an error

    decoded = TensorImages(
        pixels,
        source.labels[indices],
        [source.keys[i] for i in positions],
        whole=None if num_bytes == pixels.numel() else whole,
        interpolation=preprocessing.interpolation,
    )
    if not failed:
        return decoded
    kept = torch.ones(len(positions), dtype=torch.bool)
    kept[failed] = False
    return decoded.subset(kept.nonzero().flatten())
