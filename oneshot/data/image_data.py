"""A data set ready for training and search: three disjoint sets of images and how to treat them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oneshot.data.assigning import assign
from oneshot.data.augmentation import Augmentation
from oneshot.data.colour import PixelRange
from oneshot.data.decoding import CorruptImages, TooLargeError, decode_all
from oneshot.data.file_images import FileImages
from oneshot.data.following import follow, follow_classes
from oneshot.data.images import Images, ImageSource
from oneshot.data.options import DataOptions
from oneshot.data.pool import WORDS, Pool
from oneshot.data.preprocessing import Preprocessing, Statistics
from oneshot.data.record import SETS, Recorded, SplitRecord
from oneshot.data.statistics import SMALLEST_STD, channel_statistics
from oneshot.data.surveying import look_at, settle

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageData:
    """A labelled image data set.

    Attributes:
        name: of the data set.
        train: to train on.
        held_out: never trained on, to rank architectures on.
        test: to report accuracies on, once.
        classes: their names, in the order of the labels.
        image_size: height and width in pixels of what a network sees.
        mean: of each channel of the training images, of pixel values in [0, 1].
        std: likewise.
        augmentation: what training does to each image.
        num_skipped: corrupt images left out so far; sets decoded batch by batch may meet more later.
        crop_pct: part of the shorter side that the centre crop covers.
        interpolation: of all resizing.
        pixel_range: values that become black and white in images of more than eight bits a channel; None if the training
            images have none.
        record: which images each set holds; None for sets that were put together by hand.
    """

    name: str
    train: Images
    held_out: Images
    test: Images
    classes: tuple[str, ...]
    image_size: int
    mean: Statistics
    std: Statistics
    augmentation: Augmentation
    num_skipped: int = 0
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    pixel_range: PixelRange | None = None
    record: SplitRecord | None = None

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def card(self) -> dict[str, Any]:
        """What the file of a network trained on these data says of its classes and of how an image becomes its input."""
        return {
            "classes": list(self.classes),
            "mean": list(self.mean),
            "std": list(self.std),
            "image_size": self.image_size,
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
            "pixel_range": None if self.pixel_range is None else list(self.pixel_range),
        }


def to_image_data(
    name: str,
    classes: Sequence[str],
    options: DataOptions,
    train: ImageSource,
    *,
    held_out: ImageSource | None = None,
    test: ImageSource | None = None,
    test_share: float | int = 0.2,
) -> ImageData:
    """Splits, decodes and measures a data set.

    Args:
        name: of the data set.
        classes: their names, in the order of the labels.
        options: see ``DataOptions``.
        train: the training images.
        held_out: images held out from training; split off ``train`` by ``options.held_out`` if there are none.
        test: test images; split off ``train`` by ``test_share`` if there are none.
        test_share: part or number of the images of ``train`` to test on.

    Raises:
        ValueError: there are fewer than two classes, labels are out of range, two sets share images, a class has too
            few images to split, too many images are corrupt, or the images are not those of ``options.recorded``.
    """
    given = {"train": train, "held_out": held_out, "test": test}
    sources = {split: source for split, source in given.items() if source is not None}
    _check_sources(name, classes, sources)
    pool = Pool.of(sources, classes)
    recorded = options.recorded
    if recorded is None or recorded.anew:
        if recorded is not None and recorded.same_classes:
            pool = follow_classes(pool, recorded)
        shares = {"held_out": options.held_out, "test": test_share}
        missing = {split: share for split, share in shares.items() if split not in sources}
        indices = assign(pool, missing, options.split_seed, options.max_train_images, recorded)
    else:
        pool, indices = follow(pool, recorded, options.max_corrupt)
        options = options.as_recorded(recorded.record)
    survey = look_at(pool.source, indices["train"], options.split_seed)
    preprocessing = settle(pool.source, indices["train"], survey, options, name)
    corrupt = CorruptImages(options.max_corrupt)
    parts = {split: (pool.source, indices[split]) for split in SETS}
    images = _store(parts, options, preprocessing, survey.mean_bytes(preprocessing), corrupt)
    for split in SETS[1:]:
        if not len(images[split]):
            told = f"none of the {len(indices[split])} {WORDS[split]} images of {name} can be decoded"
            raise ValueError(f"{told}, the first is {pool.name(indices[split][0])}")
    _check_classes_trained(images["train"], pool.classes)
    mean, std = options.mean, options.std
    if mean is None or std is None:
        measured_mean, measured_std = channel_statistics(images["train"], options.split_seed)
        if max(measured_std) <= SMALLEST_STD:
            _LOGGER.warning(
                "the training images of %s are all alike: every pixel has the colour %s (of 255)",
                name,
                ", ".join(f"{255 * value:.0f}" for value in measured_mean),
            )
        mean, std = mean or measured_mean, std or measured_std
    return ImageData(
        name=name,
        train=images["train"],
        held_out=images["held_out"],
        test=images["test"],
        classes=pool.classes,
        image_size=options.image_size,
        mean=mean,
        std=std,
        augmentation=options.augmentation,
        num_skipped=len(corrupt.keys),
        crop_pct=preprocessing.crop_pct,
        interpolation=preprocessing.interpolation,
        pixel_range=preprocessing.pixel_range,
        record=_record(name, pool, indices, (mean, std), preprocessing, recorded),
    )


def _record(
    name: str,
    pool: Pool,
    indices: Mapping[str, Tensor],
    statistics: tuple[Statistics, Statistics],
    preprocessing: Preprocessing,
    recorded: Recorded | None,
) -> SplitRecord:
    """What later steps have to know; corrupt images are among them, which a later step finds again.

    Raises:
        ValueError: the weights to start from were trained on held-out or test images.
    """
    images = {split: pool.digests[own] for split, own in indices.items()}
    labels = {split: pool.labels[own] for split, own in indices.items()}
    seen = (*statistics, preprocessing.crop_pct, preprocessing.pixel_range)
    record = SplitRecord(name, pool.classes, images, labels, images["train"][:0], *seen)
    if recorded is None:
        return record
    record.check_clean(recorded.record, recorded.origin)
    return record.after(recorded.record)


def _check_sources(name: str, classes: Sequence[str], sources: Mapping[str, ImageSource]) -> None:
    if len(classes) < 2:
        raise ValueError(f"{name} has {len(classes)} class ({', '.join(classes)}), at least 2 are needed")
    for split, source in sources.items():
        if len(source) == 0:
            raise ValueError(f"{name} has no {split} images")
        wrong = (source.labels < 0) | (source.labels >= len(classes))
        if wrong.any():
            index = int(wrong.nonzero()[0])
            raise ValueError(
                f"{split} image {source.keys[index]} has label {int(source.labels[index])}, but {name} has "
                f"{len(classes)} classes, 0 to {len(classes) - 1}"
            )


def _check_classes_trained(train: Images, classes: Sequence[str]) -> None:
    counts = torch.bincount(train.labels, minlength=len(classes)).tolist()
    for name, count in zip(classes, counts, strict=True):
        if not count:
            raise ValueError(f"class {name!r} has no training image that can be decoded")


def _store(
    splits: Mapping[str, tuple[ImageSource, Tensor]],
    options: DataOptions,
    preprocessing: Preprocessing,
    whole_bytes: float,
    corrupt: CorruptImages,
) -> dict[str, Images]:
    """Decodes everything if it fits into memory, else leave it to the batches.

    Args:
        splits: the source of each and the indices of its images there.
        options: see ``DataOptions``.
        preprocessing: how images are decoded.
        whole_bytes: what a training image kept whole takes beside its centre, on average.
        corrupt: counts the corrupt ones.
    """
    keep_whole = options.augmentation.cuts_from_whole
    num_images = sum(len(indices) for _, indices in splits.values())
    expected = num_images * 3 * options.image_size**2 + keep_whole * whole_bytes * len(splits["train"][1])
    stored: dict[str, Images] = {}
    if expected <= options.max_bytes:
        left = options.max_bytes
        try:
            for split, (source, indices) in splits.items():
                whole = keep_whole and split == "train"
                stored[split] = decoded = decode_all(
                    source, indices, preprocessing, corrupt, f"{split} images", keep_whole=whole, max_bytes=left
                )
                left -= decoded.num_bytes
        except TooLargeError:
            stored.clear()
    if not stored:
        return {
            split: FileImages(source, preprocessing, indices=indices, num_workers=options.num_workers, corrupt=corrupt)
            for split, (source, indices) in splits.items()
        }
    return stored
