"""Files that somebody else may have written, read without running anything in them: PyTorch's, JSON and YAML."""

from __future__ import annotations

import json
import pickle
import reprlib
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 16  # of tables; libyaml's composer overflows the stack of the process on thousands


def short(value: object) -> str:
    """What a file holds, for a message: one line of no more than about 90 characters, however large or nested it is."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 80
    text = " ".join(shortener.repr(value).split())
    return text if len(text) <= 90 else f"{text[:87]}..."


def begins_like_torch(path: Path) -> bool:
    """Whether a file begins as those of ``torch.save`` do: with a zip file, or before PyTorch 1.6 with a pickle."""
    with path.open("rb") as file:
        begin = file.read(2)
    return begin == b"PK" or begin[:1] == b"\x80"


def read_torch(path: Path, archive: bool = False) -> Any:
    """Tensors, on the CPU, and plain values of a file of ``torch.save``.

    Args:
        archive: it is a zip file, as PyTorch has written since 1.6, and not one of its older forms.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, damaged, compressed, or holds anything else; the message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        if archive or zipfile.is_zipfile(path):
            _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} is no PyTorch file, or it holds objects other than tensors and plain values; it is not read"
        ) from None
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # there is no end to the errors that a damaged file can cause
        reason = str(error).splitlines() or [type(error).__name__]
        if not begins_like_torch(path):
            reason = ["it does not begin like one"]
        raise ValueError(f"{path} is truncated, damaged or no PyTorch file: {reason[0]}") from None


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        files = archive.infolist()
        # PyTorch stores without compression, so that a small file cannot ask for more memory than it has bytes.
        if any(file.compress_type != zipfile.ZIP_STORED for file in files) or (
            sum(file.file_size for file in files) > path.stat().st_size
        ):
            raise ValueError("it is compressed, which PyTorch's files are not")
        # Checksums do not cover attributes, and torch leaves the memory for what is marked as a folder uninitialised.
        damaged = archive.testzip() or next((file.filename for file in files if file.external_attr), None)
    if damaged is not None:
        raise ValueError(f"{damaged} fails its checksum")


def read_json(path: Path, what: str) -> Any:
    """The content of a JSON file.

    Args:
        what: the file is, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} {path}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def read_yaml(path: Path, what: str) -> Any:
    """Plain values from a YAML file of few levels, without aliases. ``what`` and what it raises are as for ``read_json``."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} {path}")
    content = path.read_bytes()
    try:
        depth = 0
        for event in yaml.parse(content, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"{path} is no {what}: it holds the alias {short(event.anchor)}")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise ValueError(f"{path} is no {what}: it is nested more than {_MAX_DEPTH} levels deep")
        return yaml.load(content, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
