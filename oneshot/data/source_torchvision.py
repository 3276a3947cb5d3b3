"""Data sets that torchvision knows how to fetch: CIFAR-10, CIFAR-100 and Fashion-MNIST."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from oneshot.arch import suggest
from oneshot.data.arrays import ArraySource
from oneshot.data.augmentation import Augmentation
from oneshot.data.image_data import ImageData, to_image_data
from oneshot.data.options import CommonOptions, check_path, make_options

_AUGMENTATIONS = {
    "CIFAR10": Augmentation(crop_padding=4, horizontal_flip=True),
    "CIFAR100": Augmentation(crop_padding=4, horizontal_flip=True),
    "FashionMNIST": Augmentation(crop_padding=2, horizontal_flip=True),
}


def torchvision_dataset(
    name: str,
    root: str | os.PathLike[str],
    *,
    download: bool = False,
    image_size: int = 32,
    augmentation: Augmentation | None = None,
    **common: Unpack[CommonOptions],
) -> ImageData:
    """Loads one of torchvision's small data sets; its own test set is the test set.

    Args:
        name: CIFAR10, CIFAR100 or FashionMNIST.
        root: folder that holds the files, in torchvision's layout.
        download: fetch the files if they are missing.
        image_size: height and width in pixels, 32 by default (Fashion-MNIST is enlarged from 28).
        augmentation: by default random crops with 4 pixels of padding (2 for Fashion-MNIST) and mirroring.
        common: see ``DataOptions``.

    Raises:
        FileNotFoundError: the files are missing or incomplete, or cannot be fetched.
        ValueError: an option is unknown, of the wrong type or out of range.
    """
    if name not in _AUGMENTATIONS:
        raise ValueError(
            f"name must be one of {', '.join(_AUGMENTATIONS)}, got {name!r}{suggest(name, _AUGMENTATIONS)}"
        )
    check_path("root", root)
    options = make_options(
        {"crop_pct": 1.0, **common}, image_size=image_size, augmentation=augmentation, default=_AUGMENTATIONS[name]
    )
    folder = Path(root).expanduser()
    sources = {}
    for split in ("train", "test"):
        dataset = _open(name, folder, split == "train", download)
        labels = torch.as_tensor(dataset.targets)
        sources[split] = ArraySource(np.asarray(dataset.data), labels, f"{name}/{split}")
    return to_image_data(name, dataset.classes, options, sources["train"], test=sources["test"])


def _open(name: str, folder: Path, train: bool, download: bool) -> Any:
    from torchvision import datasets

    dataset_class = {
        "CIFAR10": datasets.CIFAR10,
        "CIFAR100": datasets.CIFAR100,
        "FashionMNIST": datasets.FashionMNIST,
    }[name]
    try:
        with warnings.catch_warnings():
            # The pickles of CIFAR were written by a numpy whose dtypes newer ones deprecate.
            warnings.filterwarnings("ignore", message=r".*align should be passed as Python or NumPy boolean")
            return dataset_class(folder, train=train, download=download)
    except (RuntimeError, OSError) as error:  # torchvision's answer to missing files, and the network's
        if not download:
            raise FileNotFoundError(
                f"{name} is missing or incomplete in {folder}; fetch it with data.download=true, or set data.root"
            ) from None
        reason = " ".join(str(error).split())
        raise FileNotFoundError(f"{name} could not be fetched into {folder}: {reason}") from None
