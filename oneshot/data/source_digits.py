"""scikit-learn's handwritten digits: a real data set that needs no download."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import torch

from oneshot.data.arrays import ArraySource
from oneshot.data.augmentation import Augmentation
from oneshot.data.image_data import ImageData, to_image_data
from oneshot.data.options import CommonOptions, check_share, make_options


def digits(
    *,
    image_size: int = 32,
    test: float | int = 0.2,
    augmentation: Augmentation | None = None,
    **common: Unpack[CommonOptions],
) -> ImageData:
    """Loads 1,797 handwritten digits of 8x8 grey pixels, enlarged (bilinear) to three equal channels.

    Args:
        image_size: height and width in pixels.
        test: part or number of the images to test on.
        augmentation: random crops with 2 pixels of padding by default.
        common: see ``DataOptions``.

    Raises:
        ValueError: an option is unknown, of the wrong type or out of range.
    """
    from sklearn.datasets import load_digits

    options = make_options(
        {"crop_pct": 1.0, **common},
        image_size=image_size,
        augmentation=augmentation,
        default=Augmentation(crop_padding=2),
    )
    check_share("test", test)
    pixels, labels = load_digits(return_X_y=True)
    grey = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # the levels are 0 to 16
    source = ArraySource(grey, torch.as_tensor(labels), "digits", enlarge_to=image_size)
    return to_image_data("digits", [str(digit) for digit in range(10)], options, source, test_share=test)
