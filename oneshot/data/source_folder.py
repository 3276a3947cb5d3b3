"""A user's own folder of images, one folder for each class."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import torch

from oneshot.data import digests
from oneshot.data.augmentation import Augmentation
from oneshot.data.image_data import ImageData, to_image_data
from oneshot.data.images import ImageSource
from oneshot.data.options import CommonOptions, check_path, check_share, make_options, nearest

if TYPE_CHECKING:
    from PIL.Image import Image

_LOGGER = logging.getLogger(__name__)
_VALIDATION_NAMES = ("val", "valid", "validation")
_SPLIT_NAMES = ("train", *_VALIDATION_NAMES, "test")


class FileSource(ImageSource):
    """Image files, each known by its path."""

    def __init__(self, samples: Sequence[tuple[str, int]]) -> None:
        """Hold paths and their labels."""
        self.keys = tuple(path for path, _ in samples)
        self.labels = torch.tensor([label for _, label in samples], dtype=torch.int64)

    def load(self, index: int) -> Image:
        """Open one file."""
        from PIL import Image as pil

        with open(self.keys[index], "rb") as file:
            return pil.open(BytesIO(file.read()))

    def digest(self, index: int) -> int:
        """Return what identifies the content of one file; empty ones have none and are told apart by their paths."""
        path = Path(self.keys[index])
        return digests.of_bytes(path.read_bytes() or os.fsencode(path))


def image_folder(
    root: str | os.PathLike[str],
    *,
    image_size: int = 224,
    test: float | int = 0.2,
    augmentation: Augmentation | None = None,
    **common: Unpack[CommonOptions],
) -> ImageData:
    """Load a folder of images.

    The layout is `root/train/<class>/*`, with or without `root/val/<class>/*` (or `valid`, `validation`) and
    `root/test/<class>/*`, or else `root/<class>/*`. A test folder is the test set. A validation folder is the
    held-out set if there is a test folder, and the test set if there is none. Whatever set is missing then is split
    off the training images, at random and stratified. Files of other types and hidden ones are ignored.

    Args:
        root: the folder.
        image_size: height and width in pixels; the shorter side is resized to it and the centre cut out.
        test: part or number of the images to test on, if no folder says which.
        augmentation: by default crops of 35 % to 100 % of the area with ratios from 3/4 to 4/3, and mirroring.
        common: see `DataOptions`.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the folder has another layout, classes without images or with too few to split, or classes that
            differ between splits; too many files are corrupt; an option is unknown, of the wrong type or out of range.
    """
    check_path("root", root)
    default = Augmentation(crop_scale=(0.35, 1.0), crop_ratio=(3 / 4, 4 / 3), horizontal_flip=True)
    options = make_options(common, image_size=image_size, augmentation=augmentation, default=default)
    check_share("test", test)
    folder = Path(root).expanduser()
    if not folder.is_dir():
        siblings = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        what = "is not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"image folder {folder} {what}{nearest(folder.name, siblings)}; set data.root")
    splits = _find_splits(folder)
    classes = sorted(_class_folders(splits["train"]))
    if len(classes) == 1 and _class_folders(splits["train"] / classes[0]):
        inner = splits["train"] / classes[0]
        raise ValueError(f"{splits['train']} has only one class, {classes[0]!r}; did you mean data.root={inner}?")
    sources = {split: FileSource(_list_images(path, classes, splits["train"])) for split, path in splits.items()}
    return to_image_data(folder.resolve().name, classes, options, test_share=test, **sources)


def _find_splits(folder: Path) -> dict[str, Path]:
    """Return the folders that hold the classes of `train`, and of `held_out` and `test` where there are such."""
    found = _class_folders(folder)
    if not found:
        raise ValueError(f"{folder} has no class folders; expected ROOT/<class>/* or ROOT/train/<class>/*")
    named = {name.lower(): path for name, path in found.items() if name.lower() in _SPLIT_NAMES}
    # A folder that holds images itself is a class, whatever its name, unless there are only such names.
    splits = {name: path for name, path in named.items() if _class_folders(path)}
    if "train" not in splits:
        if splits or len(named) == len(found):
            reason = "has no class folders" if "train" in named else "does not exist"
            raise ValueError(f"{folder} has a folder {min(splits or named)!r}, but {folder / 'train'} {reason}")
        return {"train": folder}
    for name in named.keys() - splits.keys():
        _LOGGER.warning("ignoring %s, which has no class folders", named[name])
    validation = [splits[name] for name in _VALIDATION_NAMES if name in splits]
    if len(validation) > 1:
        raise ValueError(f"{folder} has several validation folders: {', '.join(path.name for path in validation)}")
    result = {"train": splits["train"]}
    if "test" in splits:
        result["test"] = splits["test"]
    if validation:
        result["held_out" if "test" in splits else "test"] = validation[0]
    return result


def _class_folders(folder: Path) -> Mapping[str, Path]:
    return {path.name: path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


def _list_images(folder: Path, classes: Sequence[str], train: Path) -> list[tuple[str, int]]:
    """Return the image files of all classes, and check that the classes are those of the `train` folder."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension, make_dataset

    own = _class_folders(folder)
    for name in sorted(own.keys() - set(classes)):
        raise ValueError(f"{folder} has a class {name!r} that {train} does not have{nearest(name, classes)}")
    for name in classes:
        if name not in own:
            raise ValueError(f"{folder} has no class {name!r}, which {train} has{nearest(name, own)}")

    def is_image(path: str) -> bool:
        return not os.path.basename(path).startswith(".") and has_file_allowed_extension(path, IMG_EXTENSIONS)

    indices = {name: index for index, name in enumerate(classes)}
    samples: list[tuple[str, int]] = make_dataset(folder, indices, is_valid_file=is_image, allow_empty=True)
    occurring = {label for _, label in samples}
    for name, index in indices.items():
        if index not in occurring:
            raise ValueError(
                f"class {name!r} has no images in {folder / name}; types read: {', '.join(IMG_EXTENSIONS)}"
            )
    return samples
