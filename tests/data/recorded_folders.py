"""Image folders of runs that go on."""

import io
from collections.abc import Callable
from pathlib import Path
from shutil import copy

import torch

from oneshot.data import ImageData, Recorded, SplitRecord, image_folder

Maker = Callable[[dict[str, int]], Path]
SETS = ("train", "held_out", "test")
FRUIT = {"apple": 20, "pear": 20, "plum": 20}


def load(root: Path, recorded: Recorded | None = None, **options: object) -> ImageData:
    return image_folder(root, image_size=8, num_workers=0, recorded=recorded, **options)  # type: ignore[arg-type]


def record_of(data: ImageData) -> SplitRecord:
    """As a checkpoint gives it back."""
    assert data.record is not None
    buffer = io.BytesIO()
    torch.save(data.record.state(), buffer)
    buffer.seek(0)
    return SplitRecord.from_state(torch.load(buffer, weights_only=True))


def again(data: ImageData, **options: object) -> Recorded:
    return Recorded(record_of(data), "the training", **options)  # type: ignore[arg-type]


def anew(data: ImageData, **options: object) -> Recorded:
    return again(data, anew=True, **options)


def pixels(data: ImageData, name: str) -> torch.Tensor:
    images = getattr(data, name)
    return next(images.batches([torch.arange(len(images))]))[0]


def assert_same_sets(data: ImageData, expected: ImageData, *names: str) -> None:
    """The same images and labels in the same order."""
    for name in names or SETS:
        assert torch.equal(pixels(data, name), pixels(expected, name)), name
        assert torch.equal(getattr(data, name).labels, getattr(expected, name).labels), name


def num_common(data: ImageData, name: str, other: ImageData, other_name: str) -> int:
    ours, theirs = ({image.numpy().tobytes() for image in pixels(*one)} for one in ((data, name), (other, other_name)))
    return len(ours & theirs)


def assert_no_leak(data: ImageData, trained: ImageData) -> None:
    assert num_common(data, "held_out", trained, "train") == 0
    assert num_common(data, "test", trained, "train") == 0


def add(root: Path, number: int, source: Path) -> None:
    """New images of a class: such of another folder."""
    for index in range(number):
        copy(source / f"{index}.png", root / f"00 new {index}.png")
