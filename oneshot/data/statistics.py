"""Mean and standard deviation of the pixels of a set."""

from __future__ import annotations

import torch

from oneshot.data.images import Images
from oneshot.data.preprocessing import Statistics
from oneshot.processes import add_up, part_of

SMALLEST_STD = 1 / 255  # one grey level, given for constant channels
_MAX_VALUES = 500_000_000  # 160,000 images of 32 pixels, 3,300 of 224: a second or two of counting
_BATCH_VALUES = 20_000_000


def channel_statistics(images: Images, seed: int) -> tuple[Statistics, Statistics]:
    """The mean and standard deviation of each channel, of pixel values in [0, 1].

    They are exact up to 500 million values, and measured on a random part of larger sets, drawn with ``seed``; each process of
    a run reads its part of them. The standard deviation of a constant channel is given as one grey level, so that one can
    divide by it.
    """
    values_per_image = 3 * images.image_size**2
    num_images = min(len(images), max(1, _MAX_VALUES // values_per_image))
    order = torch.arange(len(images))
    if num_images < len(images):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(images), generator=generator)[:num_images].sort().values
    histogram = torch.zeros(3, 256, dtype=torch.float64)
    batch_size = max(1, _BATCH_VALUES // values_per_image)
    own = part_of(num_images)
    starts = range(own.start, own.stop, batch_size)
    for batch, _ in images.batches([order[start : min(start + batch_size, own.stop)] for start in starts]):
        for channel in range(3):
            histogram[channel] += torch.bincount(batch[:, channel].flatten(), minlength=256)
    add_up([histogram])
    share = histogram / histogram.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = (share * levels).sum(1)
    std = (share * (levels - mean.unsqueeze(1)).square()).sum(1).sqrt().clamp(min=SMALLEST_STD)
    return _triple(mean), _triple(std)


def _triple(values: torch.Tensor) -> Statistics:
    red, green, blue = values.tolist()
    return red, green, blue
