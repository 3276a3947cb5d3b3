"""A recorded split is found again in the images that are there now, and what has changed is said."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch
from recorded_folders import (
    FRUIT,
    SETS,
    Maker,
    add,
    again,
    anew,
    assert_no_leak,
    assert_same_sets,
    load,
    pixels,
    record_of,
)

from oneshot.data import Recorded, digits

# The same images -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_train_images": 9, "split_seed": 3}, {"held_out": 6, "test": 0.3}])
def test_unchanged_images_give_the_very_same_sets(
    root: Path, caplog: pytest.LogCaptureFixture, options: dict[str, object]
) -> None:
    first = load(root, **options)
    second = load(root, again(first, new_images="error"))
    for name in SETS:
        assert getattr(second, name).keys == getattr(first, name).keys
    assert (second.mean, second.std, second.classes) == (first.mean, first.std, first.classes)
    assert record_of(second).fingerprint == record_of(first).fingerprint
    assert caplog.messages == []


def test_of_arrays_too() -> None:
    first = digits(image_size=8, split_seed=5, max_train_images=100)
    second = digits(image_size=16, recorded=again(first, new_images="error"))
    assert all(getattr(second, name).keys == getattr(first, name).keys for name in SETS)
    assert second.mean == first.mean


def test_names_of_files_and_folders_do_not_matter(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = load(root)
    expected = {name: pixels(first, name) for name in SETS}
    for index, path in enumerate(sorted(root.glob("*/*"))):
        place = path.parent / f"{path.parent.name} {index % 3}"
        place.mkdir(exist_ok=True)
        path.rename(place / f"{97 * index % 60:02}.png")
    root.rename(tmp_path / "elsewhere")
    second = load(tmp_path / "elsewhere", again(first, new_images="error"))
    assert all(torch.equal(pixels(second, name), expected[name]) for name in SETS)
    assert caplog.messages == []


def test_moved_between_the_folders_of_sets(others: Path, make_folder: Maker) -> None:
    root = make_folder({f"{split}/{name}": 6 for split in ("train", "val", "test") for name in ("a", "b")})
    first = load(root)
    expected = {name: pixels(first, name) for name in SETS}
    (root / "test" / "a" / "1.png").rename(root / "train" / "a" / "00.png")
    (root / "train" / "b" / "2.png").rename(root / "test" / "b" / "00.png")
    (root / "val" / "b" / "2.png").rename(root / "test" / "b" / "000.png")
    second = load(root, again(first, new_images="error"))
    assert all(torch.equal(pixels(second, name), expected[name]) for name in SETS)
    assert_no_leak(load(root, anew(first)), second)


# Other images --------------------------------------------------------------------------------------------------------


def test_new_images_are_left_out_unless_told(root: Path, others: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = load(root)
    expected = {name: pixels(first, name) for name in SETS}
    add(root / "apple", 3, others / "more")
    second = load(root, again(first))
    assert all(torch.equal(pixels(second, name), expected[name]) for name in SETS)
    pattern = r"3 images are new since the training, such as .*apple/00 new 0.png: left out \(new_images=train would"
    (line,) = caplog.messages
    assert re.match(pattern, line)
    caplog.clear()
    third = load(root, again(first, new_images="train"))
    assert torch.equal(pixels(third, "train")[:36], expected["train"])
    assert len(third.train) == 39
    assert third.train.labels[36:].tolist() == [0, 0, 0]
    assert (third.mean, third.std) == (first.mean, first.std)  # the networks know no others
    assert all(torch.equal(pixels(third, name), expected[name]) for name in SETS[1:])
    assert caplog.messages[0].endswith("3 are training images now")
    with pytest.raises(ValueError, match=r"3 images are new since the training, .* new_images=ignore leaves them out"):
        load(root, again(first, new_images="error"))
    with pytest.raises(ValueError, match="new_images is ignore, train or error, not 'use'"):
        again(first, new_images="use")


def test_new_images_in_test_folders_are_never_trained_on(others: Path, make_folder: Maker) -> None:
    root = make_folder({f"{split}/{name}": 6 for split in ("train", "test") for name in ("a", "b")})
    first = load(root)
    add(root / "test" / "a", 2, others / "more")
    add(root / "train" / "a", 1, others / "xpear")
    second = load(root, again(first, new_images="train"))
    assert len(second.train) == len(first.train) + 1
    assert_same_sets(second, first, "held_out", "test")


def test_missing_images_are_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = load(root)
    lost = [Path(key) for key in (first.test.keys[0], first.train.keys[0], first.train.keys[-1])]
    for path in lost:
        path.unlink()
    second = load(root, again(first))
    assert second.test.keys == first.test.keys[1:]
    assert second.train.keys == first.train.keys[1:-1]
    (line,) = caplog.messages
    expected = "3 of the 60 images of the training are missing or have other content (training: 1 apple, 1 plum; test: 1 apple)"
    assert line == expected
    with pytest.raises(ValueError, match=r"3 of the 60 images .* at most 2 may be \(data.max_corrupt=2\); data.root"):
        load(root, again(first), max_corrupt=2)


def test_a_class_without_test_images_is_refused(root: Path) -> None:
    first = load(root)
    for path, label in zip(first.test.keys, first.test.labels, strict=True):
        if label == 1:
            Path(path).unlink()
    with pytest.raises(ValueError, match="class 'pear' has none of the 4 test images left that the training had"):
        load(root, again(first))


def test_other_images_altogether(root: Path, others: Path) -> None:
    first = load(root)
    for name in FRUIT:
        for index in range(20):
            os.replace(others / f"x{name}" / f"{20 + index}.png", root / name / f"{index}.png")
    with pytest.raises(ValueError, match="60 of the 60 images of the training are missing"):
        load(root, again(first), max_corrupt=100)


def test_a_corrupt_image_is_neither_missing_nor_new(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "apple" / "3.png").write_bytes(b"broken")
    first = load(root)
    caplog.clear()
    second = load(root, again(first, new_images="error"))
    assert_same_sets(second, first)
    assert all("cannot be decoded" in line for line in caplog.messages)


# Other classes -------------------------------------------------------------------------------------------------------


def test_a_renamed_class_keeps_its_number(root: Path, others: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = load(root)
    expected = {name: (pixels(first, name), getattr(first, name).labels) for name in SETS}
    (root / "apple").rename(root / "red_apple")
    add(root / "red_apple", 3, others / "more")
    for recorded in (again(first), anew(first)):
        caplog.clear()
        second = load(root, recorded)
        assert second.classes == ("red_apple", "pear", "plum")
        assert "classes renamed since the training: apple to red_apple" in caplog.messages
        if not recorded.anew:
            for name, (images, labels) in expected.items():
                assert torch.equal(pixels(second, name), images)
                assert torch.equal(getattr(second, name).labels, labels)
        assert {Path(key).parent.name for key in second.train.keys} == set(second.classes)
        named = [
            Path(key).parent.name == second.classes[label]
            for key, label in zip(second.train.keys, second.train.labels, strict=True)
        ]
        assert all(named)


def test_two_classes_that_exchange_their_names(root: Path) -> None:
    first = load(root)
    (root / "apple").rename(root / "aside")
    (root / "plum").rename(root / "apple")
    (root / "aside").rename(root / "plum")
    second = load(root, again(first))
    assert second.classes == ("plum", "pear", "apple")
    assert second.held_out.labels.tolist() == first.held_out.labels.tolist()


def test_an_image_in_another_class_counts_as_that(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = load(root)
    path = Path(first.held_out.keys[0])
    path.rename(root / "pear" / "was apple.png")
    second = load(root, again(first))
    assert second.held_out.labels.tolist() == [1, *first.held_out.labels.tolist()[1:]]
    (line,) = caplog.messages
    assert line == (
        f"1 image is in another class than in the training, such as {root}/pear/was apple.png, which was apple and "
        "counts as pear now"
    )


@pytest.mark.parametrize("again_or_anew", [again, anew])
def test_classes_that_were_added_or_removed(root: Path, others: Path, again_or_anew: Callable[..., Recorded]) -> None:
    first = load(root)
    copytree(others / "more", root / "kiwi")
    with pytest.raises(ValueError, match=r"not those of the training, apple, pear, plum: 'kiwi' is new; .*new_class"):
        load(root, again_or_anew(first))
    (root / "kiwi").rename(root.parent / "kiwi")
    for path in (root / "plum").iterdir():
        path.rename(root / "pear" / f"plum{path.name}")
    (root / "plum").rmdir()
    with pytest.raises(ValueError, match=r"'plum' is gone \(20 of its images are in 'pear'\)"):
        load(root, again_or_anew(first))
