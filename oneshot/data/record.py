"""Which images, by content, and which classes each set of a data set held: what a checkpoint keeps for later steps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from oneshot.data.colour import PixelRange
    from oneshot.data.preprocessing import Statistics

SETS = ("train", "held_out", "test")
_ALL_SETS = (*SETS, "unused")
# Settings of the data that may change between the steps of the job, and when one is continued: where the images are and how they
# are read, never which ones are trained, ranked and tested on.
MAY_MOVE = ("root", "download", "num_workers", "memory_limit_gb", "max_corrupt")


@dataclass(frozen=True)
class SplitRecord:
    """The split of a data set.

    Attributes:
        name: of the data set.
        classes: their names, in the order of the labels.
        images: for each set, and ``"unused"`` for those that ``max_train_images`` left out, the digests of its images in their
            order, int64.
        labels: their class indices.
        earlier: digests of further images on which only runs before this one trained, whose weights it started from.
        mean: of each channel, as the networks saw it.
        std: likewise.
        crop_pct: part of the shorter side that the centre crop covers.
        pixel_range: values of images of more than eight bits a channel that become black and white; None if there were none.
    """

    name: str
    classes: tuple[str, ...]
    images: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    earlier: Tensor
    mean: Statistics
    std: Statistics
    crop_pct: float
    pixel_range: PixelRange | None

    @property
    def trained_on(self) -> Tensor:
        """Digests of all images that the weights have ever been trained on."""
        digests: Tensor = torch.cat([self.images["train"], self.earlier]).unique()
        return digests

    @property
    def fingerprint(self) -> str:
        """Eight digits that differ between splits."""
        content = hashlib.sha256()
        for name in SETS:
            content.update(self.images[name].numpy().tobytes() + self.labels[name].to(torch.int64).numpy().tobytes())
        return content.hexdigest()[:8]

    def after(self, *others: SplitRecord) -> SplitRecord:
        """This record with what others trained on before."""
        trained = torch.cat([self.earlier, *(other.trained_on for other in others)]).unique()
        return replace(self, earlier=trained[~torch.isin(trained, self.images["train"])])

    def leaks_from(self, trained: SplitRecord) -> dict[str, int]:
        """Counts the held-out and test images that another run trained on."""
        return {name: int(torch.isin(self.images[name], trained.trained_on).sum()) for name in ("held_out", "test")}

    def check_clean(self, trained: SplitRecord, who: str) -> None:
        """Raises a ValueError if ``who`` trained on held-out or test images; the message counts them."""
        counts = self.leaks_from(trained)
        if any(counts.values()):
            raise ValueError(
                f"{who} was trained on {counts['held_out']} of the {len(self.images['held_out'])} held-out and "
                f"{counts['test']} of the {len(self.images['test'])} test images"
            )

    def state(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint, ten bytes an image."""
        small = torch.int16 if len(self.classes) < 2**15 else torch.int32
        return {
            "name": self.name,
            "classes": list(self.classes),
            "images": dict(self.images),
            "labels": {name: labels.to(small) for name, labels in self.labels.items()},
            "earlier": self.earlier,
            "mean": list(self.mean),
            "std": list(self.std),
            "crop_pct": self.crop_pct,
            "pixel_range": None if self.pixel_range is None else list(self.pixel_range),
        }

    @classmethod
    def from_state(cls, state: object) -> SplitRecord:
        """Reads what ``state`` returned.

        Raises:
            ValueError: it is something else.
        """
        try:
            assert isinstance(state, dict)
            record = cls(
                str(state["name"]),
                tuple(map(str, state["classes"])),
                {name: state["images"][name].to(torch.int64) for name in _ALL_SETS},
                {name: state["labels"][name].to(torch.int64) for name in _ALL_SETS},
                state["earlier"].to(torch.int64),
                _triple(state["mean"]),
                _triple(state["std"]),
                float(state["crop_pct"]),
                None if state["pixel_range"] is None else _pair(state["pixel_range"]),
            )
            assert all(
                len(record.images[name]) == len(record.labels[name])
                and bool(((record.labels[name] >= 0) & (record.labels[name] < len(record.classes))).all())
                for name in _ALL_SETS
            )
        except (AssertionError, KeyError, AttributeError, TypeError, ValueError):
            raise ValueError("the record of the images of training is damaged") from None
        return record


def _triple(values: object) -> Statistics:
    assert isinstance(values, (list, tuple))
    red, green, blue = map(float, values)
    return red, green, blue


def _pair(values: object) -> PixelRange:
    assert isinstance(values, (list, tuple))
    low, high = map(float, values)
    return low, high


@dataclass(frozen=True)
class Recorded:
    """The split that an earlier run recorded, and what loading images again does with it.

    Attributes:
        record: the split.
        origin: what messages call the run.
        anew: False gives back the recorded sets; True makes the split of a new run that starts from the weights of the recorded
            one: images known from there keep their set, all others are split as the options say.
        new_images: with ``anew=False``, what is done with images that the record does not have: "ignore", "train" on those among
            the training images, or "error".
        same_classes: whether the network's classes are the recorded ones, in their order.
    """

    record: SplitRecord
    origin: str
    anew: bool = False
    new_images: str = "ignore"
    same_classes: bool = True

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ValueError: ``new_images`` is something else.
        """
        if self.new_images not in ("ignore", "train", "error"):
            raise ValueError(f"new_images is ignore, train or error, not {self.new_images!r}")
