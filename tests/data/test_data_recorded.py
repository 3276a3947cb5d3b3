"""A recorded split is found again in the images that are there now, and what has changed is said."""

import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copy, copytree

import pytest
import torch
from PIL import Image

from oneshot.data import ImageData, Recorded, SplitRecord, digits, image_folder

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


@pytest.fixture
def others(make_folder: Maker, tmp_path: Path) -> Path:
    """Images that are in no other folder."""
    folder = make_folder({"more": 100, **{f"x{name}": 40 for name in FRUIT}})
    folder.rename(tmp_path / "others")
    return tmp_path / "others"


@pytest.fixture
def root(others: Path, make_folder: Maker) -> Path:
    """Images of three classes."""
    folder = make_folder({})
    for name, count in FRUIT.items():
        copytree(others / f"x{name}", folder / name)
        for index in range(count, 40):
            (folder / name / f"{index}.png").unlink()
    return folder


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


# A new run from the weights of another -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"split_seed": 7}, {"split_seed": 7, "held_out": 0.4}, {"test": 3}])
def test_a_run_from_other_weights_takes_over_their_split(root: Path, options: dict[str, object]) -> None:
    first = load(root)
    apart = load(root, **options)
    assert "split_seed" not in options or num_common(apart, "test", first, "train") + num_common(
        apart, "held_out", first, "train"
    )
    assert_same_sets(load(root, anew(first), **options), first)


def test_digits_with_another_seed() -> None:
    first, apart = digits(image_size=8), digits(image_size=8, split_seed=1)
    assert (num_common(apart, "held_out", first, "train"), num_common(apart, "test", first, "train")) == (226, 205)
    second = digits(image_size=8, split_seed=1, recorded=anew(first))
    assert all(getattr(second, name).keys == getattr(first, name).keys for name in SETS)


def test_new_images_of_such_a_run_are_split(root: Path, others: Path) -> None:
    first = load(root)
    for name in FRUIT:
        add(root / name, 10, others / "more" if name == "pear" else others / f"x{name}")
        for index in range(20, 30):
            copy(others / f"x{name}" / f"{index}.png", root / name / f"{index}.png")
    second = load(root, anew(first, same_classes=False))
    assert all(num_common(second, name, first, name) == len(getattr(first, name)) for name in SETS)
    # Of 100 different images, 40 of them pears, a fifth each; the other copies follow.
    for name in ("held_out", "test"):
        different = {
            (image.numpy().tobytes(), int(label))
            for image, label in zip(pixels(second, name), getattr(second, name).labels, strict=True)
        }
        assert torch.bincount(torch.tensor([label for _, label in different])).tolist() == [6, 8, 6]
    assert num_common(second, "held_out", second, "test") == num_common(second, "train", second, "test") == 0


def test_images_that_earlier_runs_trained_on_are_never_tested_on(root: Path, others: Path) -> None:
    """Three runs, each from the weights of the one before; the second has none of the images of the first."""
    first = load(root)
    folder = root.parent / "second"
    for name in FRUIT:
        (folder / name).mkdir(parents=True)
        for index in range(20, 40):
            copy(others / f"x{name}" / f"{index}.png", folder / name / f"{index}.png")
    second = load(folder, anew(first))
    assert num_common(second, "train", first, "train") == 0
    for path in root.glob("*/*"):
        copy(path, folder / path.parent.name / f"old {path.name}")
    third = load(folder, anew(second), split_seed=4, held_out=0.4)
    assert_no_leak(third, first)
    assert_no_leak(third, second)
    assert len(third.held_out) + len(third.train) + len(third.test) == 120
    assert_no_leak(load(folder, anew(third), split_seed=9), first)


def test_a_test_folder_that_was_trained_on_is_refused(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = load(root)
    own = root.parent / "own"
    for name in FRUIT:
        for split, indices in (("train", range(5, 20)), ("test", range(5))):
            (own / split / name).mkdir(parents=True)
            for index in indices:
                copy(root / name / f"{index}.png", own / split / name / f"renamed {index}.png")
    trained = {Path(key).relative_to(root) for key in first.train.keys}
    leaked = [f"{name}/{index}.png" for name in FRUIT for index in range(5) if Path(f"{name}/{index}.png") in trained]
    pattern = rf"of the 5 test images of class '\w+', and {len(leaked)} of all 15, were training images of the training"
    with pytest.raises(ValueError, match=pattern):
        load(own, anew(first))
    for path in leaked[1:]:
        name, file = path.split("/")
        (own / "test" / name / f"renamed {file}").rename(own / "train" / name / f"x {file}")
    for name in FRUIT:  # so that the one that is left is not most of its class
        for path in [Path(key) for key in first.test.keys if Path(key).parent.name == name]:
            if (own / "train" / name / f"renamed {path.name}").exists():
                (own / "train" / name / f"renamed {path.name}").rename(own / "test" / name / path.name)
    caplog.clear()
    data = load(own, anew(first))
    assert_no_leak(data, first)
    assert any(line.startswith("1 of the test images were training images of the training") for line in caplog.messages)


def test_all_images_trained_on_leave_nothing_to_test_on(root: Path) -> None:
    first = load(root)
    for path in [*first.held_out.keys, *first.test.keys]:
        Path(path).unlink()
    with pytest.raises(
        ValueError, match=r"no held-out image of class 'apple' can be split off: the other sets of the tr"
    ):
        load(root, anew(first))


def test_a_folder_whose_images_all_had_other_sets(root: Path, others: Path, tmp_path: Path) -> None:
    """They keep these, and what is left of the folder's own set is nothing."""
    first = load(root)
    moved = tmp_path / "moved"
    for split, keys in (("train", first.train.keys), ("val", first.test.keys)):
        for path in map(Path, keys):
            (moved / split / path.parent.name).mkdir(parents=True, exist_ok=True)
            copy(path, moved / split / path.parent.name)
    for name in FRUIT:
        (moved / "test" / name).mkdir(parents=True)
        for index in range(30, 33):
            copy(others / f"x{name}" / f"{index}.png", moved / "test" / name)
    with pytest.raises(
        ValueError, match="no held-out image is left: all 12 in that folder belong to the other sets of"
    ):
        load(moved, anew(first))


def test_images_in_another_form_are_not_known(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = load(root)
    for path in root.rglob("*.png"):
        (tmp_path / "bmp" / path.parent.name).mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.save(tmp_path / "bmp" / path.parent.name / f"{path.stem}.bmp")
    load(tmp_path / "bmp", anew(first))
    (line,) = caplog.messages
    assert line.startswith("none of the 60 images is known from the training: if they are its images in another form")
    caplog.clear()
    load(tmp_path / "bmp", anew(first, same_classes=False))
    assert caplog.messages == []


# Records -------------------------------------------------------------------------------------------------------------


def test_a_record_counts_what_another_run_trained_on(root: Path) -> None:
    first, apart = record_of(load(root)), record_of(load(root, split_seed=1))
    first.check_clean(first, "itself")
    leaks = first.leaks_from(apart)
    assert leaks["held_out"] == len(set(first.images["held_out"].tolist()) & set(apart.images["train"].tolist())) > 0
    with pytest.raises(
        ValueError, match=rf"it was trained on {leaks['held_out']} of the 12 held-out and {leaks['test']} of the 12"
    ):
        first.check_clean(apart, "it")
    with pytest.raises(ValueError, match="held-out"):
        first.check_clean(replace(apart, earlier=first.images["held_out"], images=first.images), "it")
    assert first.fingerprint != apart.fingerprint


@pytest.mark.parametrize("damage", ["classes", "images", "label", "length"])
def test_damaged_records_are_refused(root: Path, damage: str) -> None:
    state = record_of(load(root)).state()
    if damage == "label":
        state["labels"]["train"][0] = 99
    elif damage == "length":
        state["images"]["test"] = state["images"]["test"][:-1]
    else:
        del state[damage]
    with pytest.raises(ValueError, match="the record of the images of training is damaged"):
        SplitRecord.from_state(state)
