"""The options that all sources share, and what may be put into them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import TypedDict

from oneshot.arch import suggest
from oneshot.checking import check_count
from oneshot.data.augmentation import Augmentation
from oneshot.data.colour import PixelRange
from oneshot.data.preprocessing import INTERPOLATIONS, Statistics
from oneshot.data.record import Recorded, SplitRecord


class CommonOptions(TypedDict, total=False):
    """The keyword arguments that every source takes besides its own, see ``DataOptions``."""

    held_out: float | int
    split_seed: int
    max_train_images: int | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    crop_pct: float | None
    usual_crop_pct: float | None
    interpolation: str | None
    stored_size: int | None
    pixel_range: Sequence[float] | None
    memory_limit_gb: float
    max_corrupt: int
    num_workers: int | None
    recorded: Recorded | None


@dataclass(frozen=True)
class DataOptions:
    """How a data set is split, stored and normalised, whatever its source.

    Attributes:
        image_size: height and width in pixels of what a network sees.
        augmentation: what training does to each image.
        held_out: part (above 0, below 1) or number (at least one for each class) of the training images that is held
            out from training, to rank architectures on.
        split_seed: of all random splits, and of nothing else.
        max_train_images: use at most so many training images, drawn from all classes alike; None uses all.
        mean: of each channel, of pixel values in [0, 1]; None measures it on the training images.
        std: likewise.
        crop_pct: part of the shorter side that the centre crop covers, timm's setting of this name; None is ``usual_crop_pct``,
            or 1 where at least half of the training images are no larger than ``image_size``.
        usual_crop_pct: such as what trained weights expect; None is 0.875.
        interpolation: of all resizing, bicubic or bilinear; a source takes None for bicubic.
        stored_size: shorter side in pixels to which larger images are reduced before random crops are cut from them;
            None is twice ``image_size``.
        pixel_range: values that become black and white in images of more than eight bits a channel; None measures them on
            the training images.
        memory_limit_gb: sets above this many gigabytes (10^9 bytes, decoded) are decoded batch by batch.
        max_corrupt: so many images that cannot be decoded are skipped with a warning; one more is an error.
        num_workers: processes that decode batch by batch; None starts one per available core, at most 8.
        recorded: the split of an earlier step or run to take over, no setting of a config.
    """

    image_size: int
    augmentation: Augmentation
    held_out: float | int = 0.2
    split_seed: int = 0
    max_train_images: int | None = None
    mean: Statistics | None = None
    std: Statistics | None = None
    crop_pct: float | None = None
    usual_crop_pct: float | None = None
    interpolation: str = "bicubic"
    stored_size: int | None = None
    pixel_range: PixelRange | None = None
    memory_limit_gb: float = 4
    max_corrupt: int = 10
    num_workers: int | None = None
    recorded: Recorded | None = None

    def __post_init__(self) -> None:
        """Turns lists into tuples.

        Raises:
            ValueError: an option is of the wrong type or out of range.
        """
        check_count(1, image_size=self.image_size)
        check_count(0, split_seed=self.split_seed, max_corrupt=self.max_corrupt)
        limits = {"max_train_images": 1, "stored_size": self.image_size, "num_workers": 0}
        for name, least in limits.items():
            if getattr(self, name) is not None:
                check_count(least, **{name: getattr(self, name)})
        if not isinstance(self.augmentation, Augmentation):
            raise ValueError(f"augmentation must be a oneshot.data.Augmentation, got {self.augmentation!r}")
        check_share("held_out", self.held_out)
        object.__setattr__(self, "mean", _statistics("mean", self.mean, zero=True))
        object.__setattr__(self, "std", _statistics("std", self.std, zero=False))
        for name in ("crop_pct", "usual_crop_pct"):
            crop = getattr(self, name)
            if crop is not None:
                if isinstance(crop, bool) or not isinstance(crop, Real) or not 0 < float(crop) <= 1:
                    raise ValueError(f"{name} must be a part above 0 and up to 1, or null, got {crop!r}")
                object.__setattr__(self, name, float(crop))
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be {' or '.join(INTERPOLATIONS)}, got {self.interpolation!r}"
                f"{suggest(self.interpolation, INTERPOLATIONS)}"
            )
        object.__setattr__(self, "pixel_range", _pixel_range(self.pixel_range))
        limit = self.memory_limit_gb
        if isinstance(limit, bool) or not isinstance(limit, Real) or not float(limit) >= 0:
            raise ValueError(f"memory_limit_gb must be a number of gigabytes, 0 or more, got {limit!r}")
        if self.recorded is not None and not isinstance(self.recorded, Recorded):
            raise ValueError(f"recorded is what an earlier run recorded, not {self.recorded!r}")

    @property
    def max_bytes(self) -> float:
        """The bytes of decoded images that are kept in memory."""
        return round(self.memory_limit_gb * 1e9, 3)

    def as_recorded(self, record: SplitRecord) -> DataOptions:
        """These options with what they leave to the images as it was when the images were recorded."""
        return replace(
            self,
            mean=self.mean or record.mean,
            std=self.std or record.std,
            crop_pct=record.crop_pct if self.crop_pct is None else self.crop_pct,
            pixel_range=self.pixel_range or record.pixel_range,
        )


def make_options(
    common: Mapping[str, object], *, image_size: int, augmentation: Augmentation | None, default: Augmentation
) -> DataOptions:
    """Checks the keyword arguments of a source; ``augmentation=None`` means its ``default``.

    Raises:
        ValueError: an option is unknown, of the wrong type, or out of range.
    """
    known = [field.name for field in fields(DataOptions) if field.name != "recorded"]  # which no config can give
    for name in common:
        if name not in (*known, "recorded"):
            raise ValueError(f"unknown data option {name!r} (common options: {', '.join(known)}){suggest(name, known)}")
    common = {name: value for name, value in common.items() if name != "interpolation" or value is not None}
    chosen = default if augmentation is None else augmentation
    return DataOptions(image_size=image_size, augmentation=chosen, **common)  # type: ignore[arg-type]  # checked there


def check_share(name: str, value: object) -> None:
    """Raises a ValueError unless ``value`` is a part between 0 and 1 or a positive number of images."""
    if not isinstance(value, bool):
        if isinstance(value, int) and value >= 1:
            return
        if isinstance(value, float) and 0 < value < 1:
            return
    raise ValueError(f"{name} must be a fraction above 0 and below 1, or a number of images, got {value!r}")


def check_path(name: str, value: object) -> None:
    """Raises a ValueError unless ``value`` is a path that is not empty."""
    if not hasattr(value, "__fspath__") and not (isinstance(value, str) and value):
        raise ValueError(f"{name} must be a path, got {value!r}")


def _pixel_range(value: Sequence[float] | None) -> PixelRange | None:
    if value is None:
        return None
    allowed = "two numbers [black, white], the first below the second"
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"pixel_range must be {allowed}, got {value!r}")
    if any(isinstance(x, bool) or not isinstance(x, Real) or not math.isfinite(float(x)) for x in value):
        raise ValueError(f"pixel_range must be {allowed}, got {list(value)}")
    low, high = (float(number) for number in value)
    if low >= high:
        raise ValueError(f"pixel_range must be {allowed}, got {list(value)}")
    return low, high


def _statistics(name: str, value: Sequence[float] | None, *, zero: bool) -> Statistics | None:
    if value is None:
        return None
    allowed = f"three numbers {'from' if zero else 'above'} 0 to 1, of pixel values in [0, 1]"
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 3:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    for number in value:
        if isinstance(number, bool) or not isinstance(number, Real) or not math.isfinite(float(number)):
            raise ValueError(f"{name} must be {allowed}, got {list(value)}")
        if not 0 <= float(number) <= 1 or (float(number) == 0 and not zero):
            raise ValueError(f"{name} must be {allowed}, got {list(value)}")
    red, green, blue = (float(number) for number in value)
    return red, green, blue
