"""Images are known by their content: copies never lie in two sets, whatever they are called."""

import shutil
from collections.abc import Callable
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
import torch

from oneshot.data import ArraySource, DataOptions, FileSource, ImageData, image_folder, timm_dataset, to_image_data
from oneshot.data.augmentation import Augmentation
from oneshot.data.digests import of_pixels
from oneshot.data.pool import digests_of

Maker = Callable[[dict[str, int]], Path]
SETS = ("train", "held_out", "test")
OWN = {f"{split}/{name}": 8 for split in ("train", "val", "test") for name in ("cat", "dog")}


def load(root: Path, **options: object) -> ImageData:
    return image_folder(root, image_size=8, num_workers=0, **options)  # type: ignore[arg-type]


def contents(data: ImageData) -> dict[str, set[bytes]]:
    return {name: {Path(key).read_bytes() for key in getattr(data, name).keys} for name in SETS}


def assert_no_content_in_two_sets(data: ImageData) -> None:
    train, held_out, test = contents(data).values()
    assert not train & held_out
    assert not train & test
    assert not held_out & test


def test_copies_stay_together_in_random_splits(make_folder: Maker) -> None:
    root = make_folder({"cat": 15, "dog": 15})
    for index in range(8):
        copy(root / "cat" / f"{index}.png", root / "cat" / f"copy of {index}.png")
    torn = 0
    for seed in range(4):
        data = load(root, split_seed=seed)
        assert_no_content_in_two_sets(data)
        assert sum(len(getattr(data, name)) for name in SETS) == 38
        # Shares are of different images: 30 of them, each class alike.
        assert [len(content) for content in contents(data).values()] == [18, 6, 6]
        torn += sum("copy" in key for key in data.test.keys)
    assert torn


def test_copies_of_the_last_image_do_not_fill_a_class(make_folder: Maker) -> None:
    root = make_folder({"cat": 9, "dog": 1})
    for index in range(1, 9):
        copy(root / "dog" / "0.png", root / "dog" / f"{index}.png")
    with pytest.raises(ValueError, match=r"class 'dog' has 1 different image, at least 3 are needed to split them"):
        load(root)


@pytest.mark.parametrize(
    ("source", "target", "words", "counts"),
    [
        ("test", "train", "2 training images are left out for being copied among the test images", [16, 16, 16]),
        ("val", "train", "2 training images are left out for being copied among the held-out images", [16, 16, 16]),
        ("test", "val", "2 held-out images are left out for being copied among the test images", [16, 16, 16]),
    ],
)
def test_copies_in_folders_of_other_sets_are_left_out(
    make_folder: Maker, caplog: pytest.LogCaptureFixture, source: str, target: str, words: str, counts: list[int]
) -> None:
    root = make_folder(OWN)
    for index in (1, 2):
        copy(root / source / "cat" / f"{index}.png", root / target / "cat" / f"other name {index}.png")
    data = load(root)
    assert_no_content_in_two_sets(data)
    assert [len(getattr(data, name)) for name in SETS] == counts
    (line,) = caplog.messages
    assert line.startswith(words)
    assert f"such as {root / target}/cat/other name 1.png and {root / source}/cat/1.png" in line


@pytest.mark.parametrize("copied", ["test/cat", "val/cat"])
def test_a_set_that_is_a_copy_of_another_is_refused(make_folder: Maker, copied: str) -> None:
    root = make_folder({name: count for name, count in OWN.items() if name != copied})
    shutil.copytree(root / "train" / "cat", root / copied)
    words = {"test/cat": "test", "val/cat": "held-out"}[copied]
    pattern = (
        rf"8 of the 8 training images of class 'cat', and 8 of all 16, are also {words} images, such as .*train/cat/0"
    )
    with pytest.raises(ValueError, match=pattern) as caught:
        load(root)
    assert "\n" not in str(caught.value)


def test_a_set_that_is_a_link_to_another_is_refused(make_folder: Maker) -> None:
    root = make_folder({name: count for name, count in OWN.items() if name != "test/cat"})
    (root / "test/cat").symlink_to(root / "train" / "cat")
    with pytest.raises(ValueError, match=r"test/cat and .*train/cat are the same folder; remove one of the links"):
        load(root)


def test_one_image_in_two_classes_is_said(make_folder: Maker, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder({"cat": 10, "dog": 10})
    copy(root / "cat" / "3.png", root / "dog" / "30.png")
    data = load(root)
    (line,) = caplog.messages
    expected = f"1 image is a copy of one in another class, such as {root}/cat/3.png (cat) and {root}/dog/30.png (dog)"
    assert line == expected
    assert_no_content_in_two_sets(data)


def test_empty_files_are_no_copies_of_each_other(make_folder: Maker, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder(OWN)
    for split in ("train", "val", "test"):
        (root / split / "cat" / "empty.png").write_bytes(b"")
    data = load(root)
    assert data.num_skipped == 3
    assert all("cannot be decoded" in line for line in caplog.messages)


def test_the_digest_is_that_of_the_content(make_folder: Maker) -> None:
    root = make_folder({"cat": 3})
    copy(root / "cat" / "0.png", root / "elsewhere")
    names = ["cat/0.png", "cat/1.png", "elsewhere", "gone.png", "gone too.png"]
    digests = digests_of(FileSource([(str(root / name), 0) for name in names]), "images").tolist()
    assert digests[0] == digests[2]
    assert len(set(digests)) == 4
    grey = np.arange(16, dtype=np.uint8)
    assert of_pixels(grey.reshape(2, 8)) != of_pixels(grey.reshape(4, 4))


def test_arrays_are_known_by_their_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    pixels[20:25] = pixels[0]
    source = ArraySource(pixels, torch.arange(30) % 2, "a")
    digests = digests_of(source, "images")
    assert len(digests.unique()) == 25
    assert digests_of(ArraySource(pixels[::-1], torch.arange(30) % 2, "b"), "images").tolist() == digests.tolist()[::-1]
    options = DataOptions(image_size=8, augmentation=Augmentation())
    data = to_image_data("toys", ["a", "b"], options, source)
    held = [{int(key.split("/")[1]) in (0, *range(20, 25)) for key in getattr(data, name).keys} for name in SETS]
    assert sum(True in found for found in held) == 1


def test_readers_of_timm_know_images_by_their_content(make_folder: Maker) -> None:
    layout = {name: count for name, count in OWN.items() if not name.startswith("test")}
    root = make_folder(layout | {"train/cat": 10})
    copy(root / "val" / "cat" / "0.png", root / "train" / "cat" / "copy.png")
    arguments = {"image_size": 8, "num_workers": 0, "test_split": "val"}
    data = timm_dataset("", root, **arguments)  # type: ignore[arg-type]
    assert_no_content_in_two_sets(data)
    assert sum(len(getattr(data, name)) for name in SETS) == 34
    decoded = timm_dataset("torch/image_folder", root, **arguments)  # type: ignore[arg-type]
    assert sum(len(getattr(decoded, name)) for name in SETS) == 34
