"""Files that appear whole or not at all, whatever stops the writer."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from oneshot.processes import is_first


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Lets ``write`` fill a new file beside ``path``, flushes it to the disk and renames it to ``path``, whose folder is made if
    missing. A reader sees the old file or the new one. Of several processes of a run the first writes; the others do nothing.

    Raises:
        OSError: it cannot be written; the error names ``path``, and what was there is untouched.
    """
    if not is_first():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the new name is on the disk once its folder is
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` as UTF-8 in one piece, as ``write_atomically``."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON in one piece, as ``write_atomically``."""
    write_text(path, json.dumps(content, indent=1) + "\n")
