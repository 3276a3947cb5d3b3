"""The record of a run that begins with the weights of another."""

from dataclasses import replace
from pathlib import Path
from shutil import copy

import pytest
import torch
from PIL import Image
from recorded_folders import (
    FRUIT,
    SETS,
    add,
    anew,
    assert_no_leak,
    assert_same_sets,
    load,
    num_common,
    pixels,
    record_of,
)

from oneshot.data import SplitRecord, digits

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
