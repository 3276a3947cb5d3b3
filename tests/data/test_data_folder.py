"""Image folders: every layout, and every folder that is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from oneshot.data import ImageData, image_folder

Maker = Callable[[dict[str, int]], Path]
SPLITS = ("train", "held_out", "test")


def load(root: Path, **options: object) -> ImageData:
    return image_folder(root, image_size=8, num_workers=0, **options)  # type: ignore[arg-type]


def folders_of(data: ImageData, root: Path) -> dict[str, set[str]]:
    return {s: {Path(key).relative_to(root).parts[0] for key in getattr(data, s).keys} for s in SPLITS}


def assert_disjoint(data: ImageData, total: int) -> None:
    keys = [key for split in SPLITS for key in getattr(data, split).keys]
    assert len(keys) == len(set(keys)) == total


def layout(**counts: int) -> dict[str, int]:
    return {f"{split}/{name}" if split != "root" else name: n for split, n in counts.items() for name in ("cat", "dog")}


@pytest.mark.parametrize("limit", [4, 0])
def test_classes_at_the_root(make_folder: Maker, limit: int) -> None:
    root = make_folder({"cat": 20, "Dog": 10, ".hidden": 3})
    (root / "README.txt").write_text("about these pictures")
    (root / "cat" / "notes.txt").write_text("not a picture")
    (root / "cat" / "._0.png").write_bytes(b"left behind by a Mac")
    data = load(root, memory_limit_gb=limit)
    assert data.name == "pets"
    assert data.classes == ("Dog", "cat")
    assert data.num_classes == 2
    assert data.num_skipped == 0
    assert_disjoint(data, 30)
    assert [torch.bincount(getattr(data, split).labels).tolist() for split in SPLITS] == [[6, 12], [2, 4], [2, 4]]
    for split in SPLITS:
        images = getattr(data, split)
        assert [Path(key).parent.name for key in images.keys] == [data.classes[label] for label in images.labels]


def test_the_split_depends_on_its_seed_alone(make_folder: Maker) -> None:
    root = make_folder({"cat": 20, "dog": 20})
    first, again, other = load(root), load(root, max_train_images=6, memory_limit_gb=0), load(root, split_seed=1)
    assert first.test.keys == again.test.keys
    assert first.held_out.keys == again.held_out.keys
    assert set(again.train.keys) < set(first.train.keys)
    assert torch.bincount(again.train.labels).tolist() == [3, 3]
    assert first.test.keys != other.test.keys
    assert first.held_out.keys != other.held_out.keys


def test_counts_instead_of_fractions(make_folder: Maker) -> None:
    data = load(make_folder({"cat": 20, "dog": 20}), held_out=5, test=7)
    assert (len(data.train), len(data.held_out), len(data.test)) == (28, 5, 7)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_train_validation_and_test(make_folder: Maker, validation: str) -> None:
    root = make_folder(layout(train=5, test=3, **{validation: 2}))
    data = load(root)
    assert folders_of(data, root) == {"train": {"train"}, "held_out": {validation}, "test": {"test"}}
    assert_disjoint(data, 20)


def test_train_and_validation(make_folder: Maker) -> None:
    root = make_folder(layout(train=5, val=2))
    data = load(root)
    assert folders_of(data, root) == {"train": {"train"}, "held_out": {"train"}, "test": {"val"}}
    assert_disjoint(data, 14)


def test_train_and_test(make_folder: Maker) -> None:
    root = make_folder(layout(train=5, test=2))
    data = load(root)
    assert folders_of(data, root) == {"train": {"train"}, "held_out": {"train"}, "test": {"test"}}
    assert_disjoint(data, 14)


def test_train_alone(make_folder: Maker) -> None:
    root = make_folder(layout(train=5))
    data = load(root)
    assert folders_of(data, root) == {"train": {"train"}, "held_out": {"train"}, "test": {"train"}}
    assert_disjoint(data, 10)


def test_a_class_may_be_called_train(make_folder: Maker) -> None:
    assert load(make_folder({"train": 5, "ship": 5})).classes == ("ship", "train")


def test_an_unlabelled_test_folder_is_ignored_with_a_warning(
    make_folder: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder({**layout(train=5), "test": 4})
    assert_disjoint(load(root), 10)
    assert f"ignoring {root / 'test'}, which has no class folders" in caplog.text


def test_images_in_subfolders_of_a_class_are_found(make_folder: Maker) -> None:
    assert_disjoint(load(make_folder({"cat/indoors": 3, "cat/outdoors": 3, "dog": 6})), 12)


TOLD = "data.train_folder=.* and data.test_folder=.* \\(or held_out_folder\\)"


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("training_set", "test_set"),
        ("imgs_train", "imgs_test"),
        ("train2017", "val2017"),
        ("Train", "Valid"),
        ("TRAIN", "EVAL"),
        ("train", "dev"),
        ("trainImages", "testImages"),
    ],
)
def test_usual_names_of_splits(make_folder: Maker, train: str, test: str) -> None:
    root = make_folder(layout(**{train: 5, test: 2}))
    data = load(root)
    assert data.classes == ("cat", "dog")
    assert folders_of(data, root) == {"train": {train}, "held_out": {train}, "test": {test}}


@pytest.mark.parametrize("counts", [layout(first=5, second=2), layout(foto=3, bild=3, pic=3), layout(train=5, new=2)])
def test_sets_of_unknown_names_are_never_classes(make_folder: Maker, counts: dict[str, int]) -> None:
    root = make_folder(counts)
    with pytest.raises(ValueError, match=TOLD) as caught:
        load(root)
    assert "\n" not in str(caught.value)
    train, test = sorted({name.split("/")[0] for name in counts})[-2:]
    data = load(root, train_folder=train, test_folder=test)
    assert data.classes == ("cat", "dog")
    assert folders_of(data, root) == {"train": {train}, "held_out": {train}, "test": {test}}


def test_sets_one_level_deeper(make_folder: Maker) -> None:
    root = make_folder(
        {f"seg_{split}/seg_{split}/{name}": 4 for split in ("train", "test") for name in ("sea", "wood")}
    )
    with pytest.raises(ValueError, match=TOLD):
        load(root)
    folders = {f"{split}_folder": f"seg_{split}/seg_{split}" for split in ("train", "test")}
    assert load(root, **folders).classes == ("sea", "wood")


def test_all_three_folders_can_be_told(make_folder: Maker) -> None:
    root = make_folder({**layout(root=6), **layout(b=2, c=3)})
    data = load(root, train_folder=".", held_out_folder="b", test_folder="c")
    assert data.classes == ("cat", "dog")
    assert [len(getattr(data, split)) for split in SPLITS] == [12, 4, 6]


def test_classes_with_the_same_folders_inside_can_be_told(make_folder: Maker) -> None:
    root = make_folder({f"{name}/{place}": 3 for name in ("cat", "dog") for place in ("in", "out")})
    with pytest.raises(ValueError, match=r"if they are classes, set data.train_folder=\."):
        load(root)
    data = load(root, train_folder=".")
    assert data.classes == ("cat", "dog")
    assert_disjoint(data, 12)


def test_folders_that_are_told_wrongly(make_folder: Maker) -> None:
    root = make_folder(layout(train=5, test=2))
    with pytest.raises(
        FileNotFoundError,
        match=r"tset is not a folder, .* below data.root; did you mean 'test'\?",
    ):
        load(root, train_folder="train", test_folder="tset")
    with pytest.raises(ValueError, match=r"data.test_folder=test is set, so data.train_folder must be set as well"):
        load(root, test_folder="test")
    with pytest.raises(ValueError, match="train_folder must be the path of a folder below the root, or null, got 3"):
        load(root, train_folder=3)


def test_hidden_and_system_folders_are_passed_over(make_folder: Maker, caplog: pytest.LogCaptureFixture) -> None:
    hidden = {f"cat/{name}": 2 for name in (".ipynb_checkpoints", ".thumbnails", "@eaDir", "deep/er/.cache")}
    root = make_folder({"cat": 5, "dog": 5, "__MACOSX/cat": 3, "#recycle": 1, **hidden})
    data = load(root)
    assert data.classes == ("cat", "dog")
    assert_disjoint(data, 10)
    assert f"passed over in {root}: hidden or system folders: 6 (such as {root}" in caplog.text
    assert len(caplog.records) == 1


def test_what_was_passed_over_before_an_error_is_told_of_all_sets(
    make_folder: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder({"train/cat": 5, "train/dog": 5, "test/cat": 2, "test/dog": 0, "train/cat/.cache": 1})
    (root / "test" / "dog").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=r"class 'dog' has no images in .*test.dog that Pillow can open"):
        load(root)
    assert f"passed over in {root}: hidden or system folders: 1 (such as {root / 'train'}" in caplog.text


def test_links_are_followed_but_no_folder_is_read_twice(make_folder: Maker, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder({"cat": 5, "dog": 5, "../elsewhere": 4})
    (root / "cat" / "more").symlink_to(root.parent / "elsewhere")
    (root / "cat" / "up").symlink_to(root)
    (root / "dog" / "further_up").symlink_to(root.parent)
    (root / "dog" / "beside").symlink_to(root / "cat")
    (root / "dog" / "self").symlink_to(root / "dog")
    assert_disjoint(load(root), 14)
    assert "links to folders that are read already: 4 (such as " in caplog.text


def test_one_folder_under_two_names_is_refused(make_folder: Maker) -> None:
    root = make_folder({"train/cat": 5, "train/dog": 5, "test/dog": 2})
    (root / "test" / "cat").symlink_to(root / "train" / "cat")
    with pytest.raises(ValueError, match=r"test/cat and .*train/cat are the same folder; remove one of the links"):
        load(root)


def test_what_pillow_can_open_is_read_whatever_its_ending(make_folder: Maker, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder({"cat": 10, "dog": 10})
    endings = ("gif", "avif", "JPG", "jfif", "tga", "JP2", "webp", "qoi", "ico")
    for number, ending in enumerate(endings):
        path = root / "cat" / f"x{number}.{ending}"
        Image.effect_noise((16, 16), 90).convert("RGB").save(path)
    red, green = (Image.new("RGB", (16, 16), colour) for colour in ("red", "lime"))
    red.save(root / "cat" / "x0.gif", save_all=True, append_images=[green])
    (root / "cat" / "without").write_bytes((root / "cat" / "0.png").read_bytes()[:-1] + b"B")
    others = {
        "a.txt": b"words",
        "b.TXT": b"words",
        "Thumbs.db": b"\xd0\xcf\x11\xe0",
        "labels.json": b"{}",
        "c.heic": b"\0\0\0\x18ftypheic",
        "README": b"words",
        "empty": b"",
        ".DS_Store": b"\0\0\0\1Bud1",
        "e.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    }
    for name, content in others.items():
        (root / "cat" / name).write_bytes(content)
    data = load(root)
    assert_disjoint(data, 20 + len(endings) + 1)
    (warning,) = caplog.messages
    for part in (
        ".txt files that Pillow cannot open: 2",
        ".db files that Pillow cannot open: 1",
        ".json files that Pillow cannot open: 1",
        ".heic files that Pillow cannot open: 1",
        "other files that Pillow cannot open: 2",
        "hidden files: 1",
        ".eps files that Pillow cannot open: 1",
    ):
        assert part in warning
    assert f"(such as {root / 'cat' / 'a.txt'})" in warning
    gif = next(
        images for images in (data.train, data.held_out, data.test) if str(root / "cat" / "x0.gif") in images.keys
    )
    index = gif.keys.index(str(root / "cat" / "x0.gif"))
    pixels = next(gif.batches([torch.tensor([index])]))[0]
    assert pixels[0, :, 0, 0].tolist() == [255, 0, 0]  # the first frame


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, r"pets has no class folders; expected ROOT/<class>/\* or ROOT/train/<class>/\*"),
        ({"cat": 5}, r"pets has 1 class \(cat\), at least 2 are needed"),
        ({"images/cat": 5, "images/dog": 5}, r"has only one class, 'images'; did you mean data.root=.*pets/images\?"),
        ({"cat": 5, "dog": 0}, r"class 'dog' has no images in .*dog that Pillow can open"),
        ({**layout(train=5), "val/cat": 1, "val/dog": 0}, "class 'dog' has no images in .*val/dog"),
        (
            {"cat": 5, "dog": 2},
            "class 'dog' has 2 images, at least 3 are needed to split them into train, held_out, test",
        ),
        (layout(train=1, val=3), "class 'cat' has 1 image, at least 2 are needed to split them into train, held_out"),
        ({**layout(train=5), "val/cat": 1}, "val has no class 'dog', which .*train has"),
        (
            {**layout(train=5), "test/cat": 1, "test/dogs": 1},
            r"test has a class 'dogs' that .*train does not have; did you mean 'dog'\?",
        ),
        (
            layout(train=5, val=2, valid=2),
            "pets has several validation folders: val, valid; say which is which with data",
        ),
        (layout(val=5, test=2), "pets has a folder 'test', but .*pets/train does not exist"),
        ({"train": 5, "val": 2}, "pets has a folder 'train', but .*pets/train has no class folders"),
    ],
)
def test_folders_that_are_refused(make_folder: Maker, counts: dict[str, int], message: str) -> None:
    root = make_folder(counts)
    root.mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=message) as caught:
        load(root)
    assert "\n" not in str(caught.value)


def test_a_mistyped_root_is_answered_with_the_nearest(make_folder: Maker) -> None:
    root = make_folder({"cat": 5, "dog": 5})
    with pytest.raises(FileNotFoundError, match=r"pests does not exist: set data.root; did you mean 'pets'\?"):
        load(root.parent / "pests")
    with pytest.raises(FileNotFoundError, match=r"x/y does not exist: set data.root"):
        load(root.parent / "x" / "y")
    with pytest.raises(FileNotFoundError, match=r"0.png is not a folder"):
        load(root / "cat" / "0.png")
    with pytest.raises(ValueError, match="root must be a path, got None"):
        load(None)  # type: ignore[arg-type]
