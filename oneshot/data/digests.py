"""What an image is known by: 64 bits of its content, wherever its file lies and whatever it is called."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from oneshot.progress import progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from oneshot.data.images import ImageSource

_CHUNK = 64  # images per task
_LOGGER = logging.getLogger(__name__)


def of_bytes(content: bytes) -> int:
    """The digest of a file's bytes: of two million different images, some two are alike once in ten million sets."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)


def of_pixels(pixels: NDArray[np.generic]) -> int:
    """The digest of an array of pixels, grey ``(height, width)`` or RGB ``(height, width, 3)``."""
    kind = "" if pixels.dtype == np.uint8 else pixels.dtype.name
    return of_bytes(f"{pixels.shape}{kind}".encode() + pixels.tobytes())


def of_image(image: Image) -> int:
    """The digest of a decoded image: that of its array of pixels."""
    as_it_is = image.mode in ("L", "RGB", "F") or image.mode.startswith("I")
    return of_pixels(np.asarray(image if as_it_is else image.convert("RGBA")))


def digests_of(source: ImageSource, description: str) -> Tensor:
    """The digest of every image, int64 of shape ``(num_images,)``, read by several threads where the source allows it.

    What cannot be read is known by its key.
    """
    from oneshot.data.decoding import num_available_cores

    def read(start: int) -> Sequence[int]:
        return [_digest(source, index) for index in range(start, min(start + _CHUNK, len(source)))]

    found: list[int] = []
    with (
        ThreadPoolExecutor(num_available_cores() if source.concurrent else 1) as pool,
        progress(_LOGGER, f"reading {description}", "image", total=len(source), leave=False) as bar,
    ):
        for part in pool.map(read, range(0, len(source), _CHUNK)):
            found += part
            bar.update(len(part))
    return torch.tensor(found, dtype=torch.int64)


def _digest(source: ImageSource, index: int) -> int:
    try:
        return source.digest(index)
    except MemoryError:
        raise
    except Exception:  # an image that cannot be read is counted as corrupt where it is decoded
        return of_bytes(source.keys[index].encode(errors="surrogateescape"))
