"""A user's own folder of images, one folder for each class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import torch

from oneshot.arch import suggest
from oneshot.data import digests
from oneshot.data.augmentation import Augmentation
from oneshot.data.folder_files import FolderReader
from oneshot.data.folder_splits import find_splits
from oneshot.data.image_data import ImageData, to_image_data
from oneshot.data.images import ImageSource
from oneshot.data.options import CommonOptions, check_path, check_share, make_options

if TYPE_CHECKING:
    from PIL.Image import Image


class FileSource(ImageSource):
    """Image files, each known by its path."""

    def __init__(self, samples: Sequence[tuple[str, int]]) -> None:
        """Holds paths and their labels."""
        self.keys = tuple(path for path, _ in samples)
        self.labels = torch.tensor([label for _, label in samples], dtype=torch.int64)

    def load(self, index: int) -> Image:
        """Opens one file."""
        from PIL import Image as pil
        from PIL import UnidentifiedImageError

        content = Path(self.keys[index]).read_bytes()
        try:
            return pil.open(BytesIO(content))
        except UnidentifiedImageError:
            raise UnidentifiedImageError("no image of a format that Pillow knows") from None  # it names the BytesIO

    def digest(self, index: int) -> int:
        """What identifies the content of one file; empty ones have none and are told apart by their paths."""
        path = Path(self.keys[index])
        return digests.of_bytes(path.read_bytes() or os.fsencode(path))


def image_folder(
    root: str | os.PathLike[str],
    *,
    train_folder: str | None = None,
    held_out_folder: str | None = None,
    test_folder: str | None = None,
    image_size: int = 224,
    test: float | int = 0.2,
    augmentation: Augmentation | None = None,
    **common: Unpack[CommonOptions],
) -> ImageData:
    """Loads a folder of images.

    The layout is ``root/train/<class>/*``, with or without ``root/val/<class>/*`` and ``root/test/<class>/*``, or else
    ``root/<class>/*``. Usual names mean the same: ``Training``, ``valid``, ``dev``, ``testing_set``, ``imgs_test``, ... A test
    folder is the test set. A validation folder is the held-out set if there is a test folder, and the test set if there is none.
    Whatever set is missing then is split off the training images, at random and stratified.

    All files below a class folder that Pillow can open belong to the class, whatever their endings. Hidden files and
    folders and those of file managers are passed over; links to folders are followed, but no folder is read twice. A
    warning counts what is passed over.

    Args:
        root: the folder.
        train_folder: where the class folders of the training images are, below the root, ``.`` for the root itself; None goes
            by names.
        held_out_folder: likewise those of the held-out images, which are split off the training images if there is none.
        test_folder: likewise those of the test images.
        image_size: height and width in pixels of what a network sees.
        test: part or number of the images to test on, if no folder says which.
        augmentation: by default crops of 35 % to 100 % of the area with ratios from 3/4 to 4/3, and mirroring.
        common: see ``DataOptions``.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has another layout, classes without images or with too few to split, or classes that
            differ between splits; it is not clear whether its folders are classes; too many files are corrupt;
            an option is unknown, of the wrong type or out of range.
    """
    check_path("root", root)
    default = Augmentation(crop_scale=(0.35, 1.0), crop_ratio=(3 / 4, 4 / 3), horizontal_flip=True)
    options = make_options(common, image_size=image_size, augmentation=augmentation, default=default)
    check_share("test", test)
    folder = Path(root).expanduser()
    if not folder.is_dir():
        siblings = [path.name for path in folder.parent.iterdir() if path != folder] if folder.parent.is_dir() else []
        what = "is not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"image folder {folder} {what}: set data.root{suggest(folder.name, siblings)}")
    given = {"train": train_folder, "held_out": held_out_folder, "test": test_folder}
    for split, name in given.items():
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"{split}_folder must be the path of a folder below the root, or null, got {name!r}")
    reader = FolderReader(folder)
    splits = find_splits(reader, folder, given)
    for path in {folder: None, **dict.fromkeys(splits.values())}:
        reader.claim(path)
    sources, classes = _read_splits(reader, splits)
    if folder not in splits.values():
        reader.pass_over_beside(folder)
    reader.passed_over.report(folder)
    return to_image_data(folder.resolve().name, classes, options, test_share=test, **sources)


def _read_splits(reader: FolderReader, splits: Mapping[str, Path]) -> tuple[dict[str, FileSource], list[str]]:
    """The images of each split and the names of the classes."""
    folders = {
        split: {name: inner for name, inner in reader.subfolders(path).items() if inner not in splits.values()}
        for split, path in splits.items()
    }
    train, classes = splits["train"], sorted(folders["train"])
    if not classes:
        raise ValueError(f"{train} has no class folders; expected one folder for each class")
    if len(classes) == 1 and reader.subfolders(train / classes[0]) and not reader.has_images(train / classes[0]):
        raise ValueError(f"{train} has only one class, {classes[0]!r}; did you mean data.root={train / classes[0]}?")
    for split, own in folders.items():
        _check_classes(splits[split], own, train, classes)
        for path in own.values():
            reader.claim(path)
    sources: dict[str, FileSource] = {}
    for split, own in folders.items():
        samples = []
        for label, name in enumerate(classes):
            images = reader.images(own[name])
            if not images:
                reader.passed_over.report(Path(os.path.commonpath(splits.values())))
                raise ValueError(f"class {name!r} has no images in {own[name]} that Pillow can open")
            samples += [(path, label) for path in images]
        sources[split] = FileSource(samples)
        reader.pass_over_beside(splits[split])
    return sources, classes


def _check_classes(folder: Path, own: Mapping[str, Path], train: Path, classes: Sequence[str]) -> None:
    """Checks that the classes of a split are those of the ``train`` folder."""
    for name in sorted(own.keys() - set(classes)):
        raise ValueError(f"{folder} has a class {name!r} that {train} does not have{suggest(name, classes)}")
    for name in classes:
        if name not in own:
            raise ValueError(f"{folder} has no class {name!r}, which {train} has{suggest(name, own)}")
