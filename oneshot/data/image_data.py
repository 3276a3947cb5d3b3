"""A data set ready for training and search: three disjoint sets of images and how to treat them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oneshot.data.assigning import assign
from oneshot.data.augmentation import Augmentation
from oneshot.data.decoding import CorruptImages, decode_all
from oneshot.data.file_images import FileImages
from oneshot.data.following import follow, follow_classes
from oneshot.data.images import Images, ImageSource
from oneshot.data.options import DataOptions, Statistics
from oneshot.data.pool import Pool
from oneshot.data.record import SETS, Recorded, SplitRecord
from oneshot.data.statistics import channel_statistics


@dataclass(frozen=True)
class ImageData:
    """A labelled image data set.

    Attributes:
        name: of the data set.
        train: to train on.
        held_out: never trained on, to rank architectures on.
        test: to report accuracies on, once.
        classes: their names, in the order of the labels.
        image_size: height and width of the stored images in pixels.
        mean: of each channel of the training images, of pixel values in [0, 1].
        std: likewise.
        augmentation: what training does to each image.
        num_skipped: corrupt images left out so far; sets decoded batch by batch may meet more later.
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
    record: SplitRecord | None = None

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)


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
    """Split, decode and measure a data set.

    Args:
        name: of the data set.
        classes: their names, in the order of the labels.
        options: see `DataOptions`.
        train: the training images.
        held_out: images held out from training; split off `train` by `options.held_out` if there are none.
        test: test images; split off `train` by `test_share` if there are none.
        test_share: part or number of the images of `train` to test on.

    Raises:
        ValueError: there are fewer than two classes, labels are out of range, two sets share images, a class has too
            few images to split, too many images are corrupt, or the images are not those of `options.recorded`.
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
    corrupt = CorruptImages(options.max_corrupt)
    images = _store({split: (pool.source, indices[split]) for split in SETS}, options, corrupt)
    _check_classes_trained(images["train"], pool.classes)
    mean, std = options.mean, options.std
    if recorded is not None and not recorded.anew:
        mean, std = mean or recorded.record.mean, std or recorded.record.std
    if mean is None or std is None:
        measured_mean, measured_std = channel_statistics(images["train"], options.split_seed)
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
        record=_record(name, pool, indices, mean, std, recorded),
    )


def _record(
    name: str,
    pool: Pool,
    indices: Mapping[str, Tensor],
    mean: Statistics,
    std: Statistics,
    recorded: Recorded | None,
) -> SplitRecord:
    """What later steps have to know; corrupt images are among them, which a later step finds again.

    Raises:
        ValueError: the weights to start from were trained on held-out or test images.
    """
    images = {split: pool.digests[own] for split, own in indices.items()}
    labels = {split: pool.labels[own] for split, own in indices.items()}
    record = SplitRecord(name, pool.classes, images, labels, images["train"][:0], mean, std)
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
    splits: Mapping[str, tuple[ImageSource, Tensor]], options: DataOptions, corrupt: CorruptImages
) -> dict[str, Images]:
    """Decode everything if it fits into memory, else leave it to the batches."""
    num_images = sum(len(indices) for _, indices in splits.values())
    if num_images <= options.max_in_memory:
        return {
            split: decode_all(source, indices, options.image_size, corrupt, f"{split} images")
            for split, (source, indices) in splits.items()
        }
    return {
        split: FileImages(source, options.image_size, indices=indices, num_workers=options.num_workers, corrupt=corrupt)
        for split, (source, indices) in splits.items()
    }
