"""A data set ready for training and search: three disjoint sets of images and how to treat them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oneshot.data.augmentation import Augmentation
from oneshot.data.decoding import CorruptImages, decode_all
from oneshot.data.file_images import FileImages
from oneshot.data.images import Images, ImageSource
from oneshot.data.options import DataOptions, Statistics
from oneshot.data.splitting import stratified_split, stratified_subset
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
            few images to split, or too many images are corrupt.
    """
    given = {"train": train, "held_out": held_out, "test": test}
    sources = {split: source for split, source in given.items() if source is not None}
    _check_sources(name, classes, sources)
    shares = {"held_out": options.held_out, "test": test_share}
    indices = stratified_split(
        train.labels,
        {split: share for split, share in shares.items() if split not in sources},
        classes,
        options.split_seed,
    )
    if options.max_train_images is not None:
        kept = indices["train"]
        subset = stratified_subset(train.labels[kept], options.max_train_images, classes, options.split_seed)
        indices["train"] = kept[subset]
    for split, source in sources.items():
        if split != "train":
            indices[split] = torch.arange(len(source))
    corrupt = CorruptImages(options.max_corrupt)
    images = _store({split: (sources.get(split, train), indices[split]) for split in given}, options, corrupt)
    _check_classes_trained(images["train"], classes)
    mean, std = options.mean, options.std
    if mean is None or std is None:
        measured_mean, measured_std = channel_statistics(images["train"], options.split_seed)
        mean, std = mean or measured_mean, std or measured_std
    return ImageData(
        name=name,
        train=images["train"],
        held_out=images["held_out"],
        test=images["test"],
        classes=tuple(classes),
        image_size=options.image_size,
        mean=mean,
        std=std,
        augmentation=options.augmentation,
        num_skipped=len(corrupt.keys),
    )


def _check_sources(name: str, classes: Sequence[str], sources: Mapping[str, ImageSource]) -> None:
    if len(classes) < 2:
        raise ValueError(f"{name} has {len(classes)} class ({', '.join(classes)}), at least 2 are needed")
    seen: dict[str, str] = {}
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
        for key in source.keys:
            if seen.setdefault(key, split) != split:
                raise ValueError(f"{key} is both a {seen[key]} image and a {split} image of {name}")


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
