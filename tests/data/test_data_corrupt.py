"""Corrupt images: skipped, counted and named up to the limit, refused beyond it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from oneshot.data import image_folder

Maker = Callable[[dict[str, int]], Path]


def corrupt(root: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = root / name
        content = [b"", b"not an image", path.read_bytes()[:60]][number % 3]
        path.write_bytes(content)


@pytest.fixture
def root(make_folder: Maker) -> Path:
    root = make_folder({"train/cat": 8, "train/dog": 8, "test/cat": 3, "test/dog": 3})
    corrupt(root, ["train/cat/1.png", "test/dog/0.png", "train/dog/7.png"])
    return root


def test_in_memory(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = image_folder(root, image_size=8, max_corrupt=3)
    assert data.num_skipped == 3
    kept = {key for images in (data.train, data.held_out, data.test) for key in images.keys}
    assert len(kept) == 19
    for name in ("train/cat/1.png", "test/dog/0.png", "train/dog/7.png"):
        assert str(root / name) not in kept
        assert f"skipping {root / name}, which cannot be decoded: " in caplog.text
    assert len(data.test) == len(data.test.keys) == len(next(data.test.batches([torch.arange(5)]))[0]) == 5
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1]


def test_in_memory_beyond_the_limit(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"3 images cannot be decoded, the last one is .*test/dog/0.png \(.*max_corrupt=2"
    ):
        image_folder(root, image_size=8, max_corrupt=2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batch_by_batch(root: Path, num_workers: int, caplog: pytest.LogCaptureFixture) -> None:
    statistics = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    data = image_folder(root, image_size=8, memory_limit_gb=0, num_workers=num_workers, max_corrupt=3, **statistics)
    assert data.num_skipped == 0
    for _ in range(2):  # what is known to be corrupt is not counted again
        batches = list(data.test.batches([torch.tensor([3]), torch.tensor([0, 3, 4]), torch.tensor([5])]))
        assert [labels.tolist() for _, labels in batches] == [[0, 1], [1]]
        assert [len(images) for images, _ in batches] == [2, 1]
    assert caplog.text.count(f"skipping {root / 'test/dog/0.png'}, which cannot be decoded: ") == 1


def test_batch_by_batch_beyond_the_limit(root: Path) -> None:
    data = image_folder(root, image_size=8, memory_limit_gb=0, num_workers=0, max_corrupt=2)
    assert data.num_skipped <= 2  # met while measuring the mean

    def read_everything() -> None:
        for images in (data.train, data.held_out, data.test):
            list(images.batches([torch.arange(len(images))]))

    with pytest.raises(ValueError, match=r"3 images cannot be decoded, the last one is .*\.png \(.*max_corrupt=2"):
        read_everything()


def test_a_class_of_corrupt_images_is_named(make_folder: Maker) -> None:
    root = make_folder({"cat": 5, "dog": 3})
    corrupt(root, [f"dog/{index}.png" for index in range(3)])
    with pytest.raises(ValueError, match="class 'dog' has no training image that can be decoded"):
        image_folder(root, image_size=8)
