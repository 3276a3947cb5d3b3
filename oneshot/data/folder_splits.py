"""Which folder holds which set of images: by the user's word, or by its name."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from oneshot.arch import suggest
from oneshot.data.folder_files import FolderReader

_LOGGER = logging.getLogger(__name__)
_ROLES = {
    "train": "train(ing)?|trn",
    "validation": "val|valid|validat(ion|e)|dev(el|elopment)?|eval(uation)?|holdout|heldout",
    "test": "test(ing)?|tst",
}
_FILLER = "((data)?sets?|data|images?|imgs?|pictures?|photos?|samples?|splits?|folder)*"
_SPLITS = ("train", "held_out", "test")


def role_of(name: str) -> str | None:
    """Train, validation or test for a folder's name such as ``Training``, ``imgs_val`` or ``test2017``, None for others."""
    letters = re.sub("[^a-z]", "", name.lower())
    for role, words in _ROLES.items():
        if re.fullmatch(f"{_FILLER}({words}){_FILLER}", letters):
            return role
    return None


def find_splits(reader: FolderReader, root: Path, given: Mapping[str, str | None]) -> dict[str, Path]:
    """The folders that hold the classes of ``train``, and of ``held_out`` and ``test`` where there are such.

    Args:
        reader: of ``root``.
        root: of the data set.
        given: folders below the root by split, where the user says so.

    Raises:
        FileNotFoundError: a folder that is given does not exist.
        ValueError: it is not clear which folder is which.
    """
    chosen = {split: folder for split, folder in given.items() if folder is not None}
    if chosen:
        return _given_splits(root, chosen)
    found = reader.subfolders(root)
    if not found:
        raise ValueError(f"{root} has no class folders; expected ROOT/<class>/* or ROOT/train/<class>/*")
    inner = {name: set(reader.subfolders(path)) for name, path in found.items()}
    named = {name: role for name in found if (role := role_of(name)) is not None}
    by_role: dict[str, list[str]] = {}
    for name, role in named.items():
        if inner[name]:  # a folder that holds images itself is a class, whatever its name
            by_role.setdefault(role, []).append(name)
    if "train" not in by_role:
        if by_role or len(named) == len(found):
            _refuse_without_train(root, named, by_role)
        _check_classes(reader, root, found)
        return {"train": root}
    for role, names in by_role.items():
        if len(names) > 1:
            kind = {"train": "training"}.get(role, role)
            raise ValueError(
                f"{root} has several {kind} folders: {', '.join(names)}; say which is which with data.train_folder, "
                f"data.held_out_folder and data.test_folder"
            )
    train = by_role["train"][0]
    for name in sorted(found.keys() - {name for names in by_role.values() for name in names}):
        if inner[name] & inner[train]:
            raise ValueError(
                f"{found[name]} has classes of {found[train]}, but its name does not say which set it is; say so with "
                f"data.train_folder={train} and data.test_folder={name} (or held_out_folder), or move it away"
            )
        reason = "which has no class folders" if name in named else "which is no training, validation or test folder"
        _LOGGER.warning("ignoring %s, %s", found[name], reason)
    result = {"train": found[train]}
    if "test" in by_role:
        result["test"] = found[by_role["test"][0]]
    if "validation" in by_role:
        result["held_out" if "test" in by_role else "test"] = found[by_role["validation"][0]]
    return result


def _given_splits(root: Path, given: Mapping[str, str]) -> dict[str, Path]:
    if "train" not in given:
        name, folder = next(iter(given.items()))
        raise ValueError(
            f"data.{name}_folder={folder} is set, so data.train_folder must be set as well; without either, folders are found "
            "by their names"
        )
    splits: dict[str, Path] = {}
    for split in _SPLITS:
        if split not in given:
            continue
        path = root if given[split] == "." else root / given[split]
        if not path.is_dir():
            siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise FileNotFoundError(
                f"{path} is not a folder, and data.{split}_folder is one below data.root{suggest(path.name, siblings)}"
            )
        splits[split] = path
    return splits


def _refuse_without_train(root: Path, named: Mapping[str, str], by_role: Mapping[str, list[str]]) -> None:
    training = [name for name, role in named.items() if role == "train"]
    first = min([name for names in by_role.values() for name in names] or named)
    if training:
        raise ValueError(f"{root} has a folder {first!r}, but {root / training[0]} has no class folders")
    raise ValueError(
        f"{root} has a folder {first!r}, but {root / 'train'} does not exist; if its folders are classes, set "
        f"data.train_folder=."
    )


def _check_classes(reader: FolderReader, root: Path, found: Mapping[str, Path]) -> None:
    """Refuses folders that look like sets of images rather than classes: several have the same folders inside."""
    inside: dict[str, str] = {}
    for name, path in found.items():
        if reader.has_images(path):
            continue
        for inner in _unwrapped(reader, path):
            if inner in inside:
                other = inside[inner]
                raise ValueError(
                    f"{found[other]} and {path} both have a folder {inner!r} and no images beside: if they are sets of "
                    f"images, say which with data.train_folder={other} and data.test_folder={name} (or held_out_folder); "
                    f"if they are classes, set data.train_folder=."
                )
            inside[inner] = name


def _unwrapped(reader: FolderReader, folder: Path) -> list[str]:
    """The folders inside, where there is only one and no image those inside that, and so on for three levels."""
    inner = reader.subfolders(folder)
    for _ in range(3):
        if len(inner) != 1:
            break
        only = next(iter(inner.values()))
        deeper = {} if reader.has_images(only) else reader.subfolders(only)
        if not deeper:
            break
        inner = deeper
    return list(inner)
