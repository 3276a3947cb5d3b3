"""From an image of any mode and bit depth to eight bits each of red, green and blue."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIENTATION = 0x0112  # EXIF's tag
PixelRange = tuple[float, float]


def is_deep(image: Image) -> bool:
    """Whether an image, not loaded yet, has more than eight bits a channel."""
    return image.mode.startswith("I") or image.mode == "F" or ";16" in _raw_mode(image)


def deep_values(image: Image) -> NDArray[np.generic]:
    """The values of an image with more than eight bits a channel, as they are in the file.

    Returns:
        Grey ``(height, width)``, or ``(height, width, channels)`` with two (grey, alpha), three or four (alpha) channels.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(image)
    # Of colours of 16 bits Pillow keeps the high byte. Read in the other byte order, the high byte is the low one; grey
    # with alpha can be read as four channels of one byte.
    raw_mode = _raw_mode(image)
    if raw_mode == "LA;16B":
        pairs = np.asarray(_in_raw_mode(_content(image), "RGBA")).astype(np.int32)
        return 256 * pairs[..., 0::2] + pairs[..., 1::2]
    low_bytes = _in_raw_mode(_content(image), raw_mode[:-1] + ("L" if raw_mode.endswith("B") else "B"))
    values: NDArray[np.generic] = np.asarray(image).astype(np.int32) * 256 + np.asarray(low_bytes)
    return values


def _raw_mode(image: Image) -> str:
    """How the file stores a pixel, such as ``RGB;16B``; empty for an image that is loaded or was made in memory."""
    from PIL.ImageFile import ImageFile

    if not isinstance(image, ImageFile) or not image.tile:
        return ""
    arguments = image.tile[0].args
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return str(first)


def _in_raw_mode(content: bytes, raw_mode: str) -> Image:
    from PIL import Image as pil

    image = pil.open(BytesIO(content))
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]
    return image


def _content(image: Image) -> bytes:
    from PIL.ImageFile import ImageFile

    assert isinstance(image, ImageFile)  # only such have a raw mode
    assert image.fp is not None
    image.fp.seek(0)
    content: bytes = image.fp.read()
    return content


def to_rgb(image: Image, pixel_range: PixelRange | None) -> Image:
    """Converts an image to mode RGB, upright by its EXIF orientation and with transparent parts on white.

    Args:
        image: of any mode; of several frames, the first is taken.
        pixel_range: the values that become black and white in images of more than eight bits a channel.

    Raises:
        ValueError: the image has more than eight bits a channel, and ``pixel_range`` is None.
    """
    from PIL import ImageOps

    if is_deep(image):
        if pixel_range is None:
            raise ValueError(
                f"it has more than 8 bits a channel (mode {image.mode}), unlike the training images that were looked "
                f"at; set data.pixel_range, such as [0, 65535]"
            )
        converted = _scaled(deep_values(image), pixel_range)
    else:
        converted = _converted(image)
    image.load()  # which turns TIFF files upright, and finds the EXIF data that follow the pixels
    orientation = _orientation(image)
    if orientation in range(2, 9):
        converted.getexif()[_ORIENTATION] = orientation
        converted = ImageOps.exif_transpose(converted)
    return converted


def _orientation(image: Image) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # whatever broken EXIF data lead to; the pixels may be well
        return None


def _scaled(values: NDArray[np.generic], pixel_range: PixelRange) -> Image:
    from PIL import Image as pil

    low, high = pixel_range
    planes = values.astype(np.float64)
    if planes.ndim == 2:
        planes = planes[..., None]
    alpha = planes[..., -1:] / 65535 if planes.shape[2] in (2, 4) else np.ones_like(planes[..., :1])
    colours = planes[..., :3] if planes.shape[2] >= 3 else planes[..., :1]
    colours = np.nan_to_num((colours - low) / (high - low), nan=0.0).clip(0, 1)
    levels = np.rint(255 * (colours * alpha + 1 - alpha)).astype(np.uint8)
    return pil.fromarray(np.ascontiguousarray(np.broadcast_to(levels, (*levels.shape[:2], 3))))


def _converted(image: Image) -> Image:
    from PIL import Image as pil
    from PIL import ImageCms

    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        opaque = image.convert("LA") if image.mode == "La" else image
        opaque = opaque.convert("RGBA")
        return pil.alpha_composite(pil.new("RGBA", image.size, "white"), opaque).convert("RGB")
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        converted: Image | None = ImageCms.applyTransform(image, to_srgb)
        assert converted is not None  # as it is not in place
        return converted
    return image.convert("RGB")  # a copy even of RGB, so that the file is read now
