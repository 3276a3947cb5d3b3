"""Any data set that timm reads: Hugging Face, WebDataset, TFDS, torchvision, folders and tar files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from oneshot.arch import suggest
from oneshot.data.augmentation import Augmentation
from oneshot.data.image_data import ImageData, to_image_data
from oneshot.data.options import CommonOptions, DataOptions, check_path, check_share, make_options
from oneshot.data.timm_reading import Split, open_split

_READERS = ("hfds", "hfids", "tfds", "torch", "wds")


def timm_dataset(
    name: str = "",
    root: str | os.PathLike[str] | None = None,
    *,
    train_split: str = "train",
    held_out_split: str | None = None,
    test_split: str | None = "validation",
    image_size: int = 224,
    test: float | int = 0.2,
    download: bool = False,
    reader_options: Mapping[str, object] | None = None,
    augmentation: Augmentation | None = None,
    **common: Unpack[CommonOptions],
) -> ImageData:
    """Loads a data set through ``timm.data.create_dataset``.

    Streams (``hfids/``, ``tfds/``, ``wds/``) are decoded into memory once; others only if they fit into the memory limit.

    Args:
        name: as timm takes it: ``hfds/user/name``, ``wds/``, ``tfds/name``, ``torch/cifar10``, or empty for a folder or tar
            file at ``root``.
        root: where it lies, or where it is cached.
        train_split: name of the training images, as the reader calls them.
        held_out_split: name of the images held out from training; None splits them off the training images.
        test_split: name of the test images; None splits them off the training images.
        image_size: height and width in pixels; the shorter side is resized to it and the centre cut out.
        test: part or number of the images to test on, if ``test_split`` is None.
        download: fetch the data set if it is missing and its reader can.
        reader_options: further arguments of ``timm.data.create_dataset``, such as ``input_key``, ``target_key``,
            ``class_map``, ``num_samples``.
        augmentation: by default crops of 35 % to 100 % of the area with ratios from 3/4 to 4/3, and mirroring.
        common: see ``DataOptions``.

    Raises:
        FileNotFoundError: the root of a folder does not exist.
        ValueError: the name is unknown, timm cannot open a split (its reason is quoted), two splits are the same or
            have other classes, or what ``image_folder`` raises.
    """
    default = Augmentation(crop_scale=(0.35, 1.0), crop_ratio=(3 / 4, 4 / 3), horizontal_flip=True)
    options = make_options(common, image_size=image_size, augmentation=augmentation, default=default)
    check_share("test", test)
    location = _check_location(name, root)
    names = {"train": train_split, "held_out": held_out_split, "test": test_split}
    arguments: dict[str, object] = {"root": location, "download": download}
    for key, value in (reader_options or {}).items():
        _check_option(key, value)
        arguments[key] = dict(value) if isinstance(value, Mapping) else value
    if not name and Path(location or "").suffix == ".tar":
        arguments["cache_tarinfo"] = False
    splits = _open_splits(name, names, arguments, options)
    classes = _class_names(splits)
    data = to_image_data(
        name or Path(location or "").name,
        classes,
        options,
        test_share=test,
        **{split: opened.source for split, opened in splits.items()},
    )
    return replace(data, num_skipped=data.num_skipped + sum(opened.num_skipped for opened in splits.values()))


def _check_location(name: str, root: str | os.PathLike[str] | None) -> str | None:
    """Checks the name and returns the root, with ``~`` replaced."""
    reader, slash, _ = name.partition("/")
    if name and not (slash and reader.lower() in _READERS):
        prefixes = ", ".join(f"{known}/" for known in _READERS)
        raise ValueError(
            f"name must begin with one of {prefixes} or be empty for a folder or tar file at data.root, got {name!r}"
            f"{suggest(reader, _READERS)}"
        )
    if root is None:
        if not name or reader.lower() in ("torch", "wds"):
            raise ValueError(f"data.root must be set for {name or 'a folder or tar file'!r}")
        return None
    check_path("root", root)
    location = Path(root).expanduser()
    if not name and not location.exists():
        raise FileNotFoundError(f"{location} does not exist; set data.root")
    return str(location)


def _check_option(key: str, value: object) -> None:
    """Refuses what would run code or read a pickle: a checkpoint keeps the options, and later commands take them from there."""
    if key in ("trust_remote_code", "cache_tarinfo"):
        raise ValueError(
            f"data.reader_options.{key} cannot be set: oneshot runs no code and reads no pickles of a data set"
        )
    if key == "class_map" and not isinstance(value, Mapping) and not str(value).lower().endswith(".txt"):
        raise ValueError(f"data.reader_options.class_map maps names to numbers or is a .txt file, not {value!r}")


def _open_splits(
    name: str, names: Mapping[str, str | None], arguments: Mapping[str, Any], options: DataOptions
) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for split, split_name in names.items():
        if split_name is None:
            continue
        num_bytes = sum(opened.num_bytes for opened in splits.values())
        opened = open_split(name, split_name, arguments, options, num_bytes)
        for other, known in splits.items():
            if split_name == names[other] or opened.source.keys[:1] == known.source.keys[:1]:
                raise ValueError(
                    f"data.{other}_split={names[other]} and data.{split}_split={split_name} are the same images; set "
                    f"data.{split}_split=null to split them off the training images"
                )
        splits[split] = opened
    return splits


def _class_names(splits: Mapping[str, Split]) -> list[str]:
    """The names of all classes in the order of their labels, from the training split."""
    train = splits["train"]
    for split, opened in splits.items():
        for name, index in opened.class_to_index.items():
            if train.class_to_index and train.class_to_index.get(name) != index:
                raise ValueError(
                    f"class {name!r} of the {split} images is number {index}, but {train.class_to_index.get(name)} in "
                    f"the training images{suggest(name, train.class_to_index)}"
                )
    known = {index: name for name, index in train.class_to_index.items()}
    num_classes = max([int(train.source.labels.max()), *known]) + 1
    return [known.get(index, str(index)) for index in range(num_classes)]
