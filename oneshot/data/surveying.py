"""What the settings leave to the images: the crop percentage, the range of deep images, and whether all fit into memory."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from torch import Tensor

from oneshot.data.colour import PixelRange, deep_values, is_deep
from oneshot.data.decoding import bombs_refused, num_available_cores
from oneshot.data.images import ImageSource
from oneshot.data.options import DataOptions
from oneshot.data.preprocessing import Preprocessing
from oneshot.progress import progress

_LOGGER = logging.getLogger(__name__)
_MAX_HEADERS = 1000  # images whose size and mode are looked at: a fraction of a second
_MAX_DEEP = 10_000  # images of which the range is measured: about a minute
_CROP_PCT = 0.875  # timm's default


@dataclass(frozen=True)
class Survey:
    """The training images by what their headers say.

    Attributes:
        sizes: width and height in pixels of each image looked at.
        any_deep: whether one of them has more than eight bits a channel.
    """

    sizes: tuple[tuple[int, int], ...]
    any_deep: bool

    def mean_bytes(self, preprocessing: Preprocessing) -> float:
        """Bytes that an image takes in memory beside its centre when it is kept whole, on average."""
        if not self.sizes:
            return 0.0
        return sum(_whole_bytes(size, preprocessing) for size in self.sizes) / len(self.sizes)


def _whole_bytes(size: tuple[int, int], preprocessing: Preprocessing) -> float:
    if size == (preprocessing.image_size,) * 2 and preprocessing.shorter_side == preprocessing.image_size:
        return 0.0
    scale = min(1.0, preprocessing.largest_stored / min(size))
    return 3 * scale * size[0] * scale * size[1]


def look_at(source: ImageSource, indices: Tensor, seed: int) -> Survey:
    """Looks at the headers of at most 1,000 images of ``indices``, drawn with ``seed``."""
    sizes: list[tuple[int, int]] = []
    any_deep = False
    with bombs_refused():
        for index in _some(indices, _MAX_HEADERS, seed).tolist():
            try:
                image = source.load(index)
            except Exception:  # corrupt images are counted when they are decoded
                continue
            sizes.append((image.width, image.height))
            any_deep = any_deep or is_deep(image)
    return Survey(tuple(sizes), any_deep)


def settle(source: ImageSource, indices: Tensor, survey: Survey, options: DataOptions, name: str) -> Preprocessing:
    """The preprocessing that the options ask for, and the training images where the options leave it open.

    The crop percentage is the usual one unless given, but 1 where at least half of the images are no larger than ``image_size``.
    Images of more than eight bits a channel are scaled by the range of those in the training set.

    Args:
        source: of the training images.
        indices: which of its images are trained on.
        survey: of these.
        options: see ``DataOptions``.
        name: of the data set.
    """
    crop_pct = options.crop_pct
    if crop_pct is None:
        shorter = median(min(size) for size in survey.sizes) if survey.sizes else 0
        crop_pct = (options.usual_crop_pct or _CROP_PCT) if shorter > options.image_size else 1.0
    chosen = Preprocessing(
        options.image_size, crop_pct, options.interpolation, options.stored_size, options.pixel_range
    )
    if chosen.pixel_range is None and survey.any_deep:
        chosen = replace(chosen, pixel_range=_measure_range(source, indices, options.split_seed))
    if chosen.pixel_range is not None and options.pixel_range is None:
        _LOGGER.info(
            "images of %s with more than 8 bits a channel: %g becomes black and %g white, as measured on the training "
            "images (data.pixel_range)",
            name,
            *chosen.pixel_range,
        )
    return chosen


def _some(indices: Tensor, number: int, seed: int) -> Tensor:
    if len(indices) <= number:
        return indices
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed))
    return indices[order[:number].sort().values]


def _measure_range(source: ImageSource, indices: Tensor, seed: int) -> PixelRange | None:
    positions = _some(indices, _MAX_DEEP, seed).tolist()
    with bombs_refused(), ThreadPoolExecutor(num_available_cores() if source.concurrent else 1) as pool:
        ranges = pool.map(lambda index: _range_of(source, index), positions)
        total = len(positions)
        return _joined(progress(_LOGGER, "measuring range", "image", iterable=ranges, total=total, leave=False))


def _joined(ranges: Iterable[tuple[float, float, bool] | None]) -> PixelRange | None:
    found = [known for known in ranges if known is not None]
    if not found:
        return None
    low, high = min(known[0] for known in found), max(known[1] for known in found)
    whole_numbers = [known[1] for known in found if known[2]]
    if whole_numbers and len(whole_numbers) < len(found):
        fractions = max(known[1] for known in found if not known[2])
        raise ValueError(
            f"some training images have integers of more than 8 bits, up to {max(whole_numbers):g}, and others floating-point "
            f"numbers, up to {fractions:g}: no range is right for both unless you say so by data.pixel_range=[LOW,HIGH]; or "
            "convert those of one kind"
        )
    if whole_numbers and low >= 0:
        return 0.0, float(2 ** max(1, math.ceil(math.log2(high + 1))) - 1)
    return low, high if high > low else low + 1


def _range_of(source: ImageSource, index: int) -> tuple[float, float, bool] | None:
    """Least and greatest value of one deep image and whether all are integers; None for all others."""
    try:
        image = source.load(index)
        values = deep_values(image) if is_deep(image) else None
    except Exception:  # corrupt images are counted when they are decoded
        return None
    if values is None:
        return None
    if values.ndim == 3:
        values = values[..., : 3 if values.shape[2] >= 3 else 1]  # without the alpha channel
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    return float(values.min()), float(values.max()), np.issubdtype(values.dtype, np.integer)
