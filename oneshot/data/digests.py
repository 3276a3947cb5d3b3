"""What an image is known by: 64 bits of its content, wherever its file lies and whatever it is called."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


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
