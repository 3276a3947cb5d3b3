"""Checkpoints: written atomically, the newest good one found again, never a source of code."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from oneshot.processes import is_first
from oneshot.reading import read_torch, short
from oneshot.runs import write_atomically

log = logging.getLogger(__name__)

FORMAT = "oneshot.checkpoint.1"
_NAME = re.compile(r"step-(\d{9})\.pt")


class CheckpointError(ValueError):
    """A file that is not a checkpoint of ours, or not all of one; the message names the file."""


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Writes ``folder/step-000000123.pt`` and removes all but the newest ``keep``; returns its path.

    The file appears whole or not at all: it is written under another name, flushed to the disk and renamed. ``state`` holds
    tensors, numbers, strings, and lists and dictionaries of those.

    Raises:
        OSError: the folder cannot be written or the disk is full; earlier checkpoints are untouched.
    """
    path = folder / f"step-{step:09d}.pt"
    write_file(path, {"format": FORMAT, "step": step, **state})
    if not is_first():
        return path
    for old in list_checkpoints(folder)[keep:]:
        old.unlink(missing_ok=True)
    return path


def write_file(path: Path, state: Mapping[str, Any]) -> None:
    """Writes ``state`` to ``path`` in one piece (``write_atomically``)."""

    def save(file: BinaryIO) -> None:
        try:
            torch.save(dict(state), file)
        except RuntimeError as error:  # torch reports a failed write of its zip file as a RuntimeError
            raise OSError(f"cannot write {path}: {str(error).splitlines()[0]}") from error

    write_atomically(path, save)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first; whether they are good is not looked at."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def load_checkpoint(path: Path, expected: str = FORMAT) -> dict[str, Any]:
    """Reads one checkpoint, or another file that ``write_file`` wrote and that names its format ``expected``. Tensors come to
    the CPU, and loading never runs code from the file.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is truncated, damaged or not a checkpoint of oneshot.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        state = read_torch(path, archive=True)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    if not isinstance(state, dict) or state.get("format") != expected:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{path} is not what is expected here (its format is {short(found)}, not {expected!r})")
    return state


def is_checkpoint(path: Path) -> bool:
    """Whether the file is a checkpoint of oneshot rather than someone else's."""
    try:
        return bool(load_checkpoint(path)["format"] == FORMAT)
    except CheckpointError:
        return False


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest good checkpoint of a folder, or None where there is none; bad ones are named in a warning and passed over. The
    folder may be that of a run that is still writing.
    """
    for path in list_checkpoints(folder):
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            log.warning("%s; trying the one before", error)
        except FileNotFoundError:  # removed since, so there is a newer one
            return load_newest(folder)
    return None
