"""One lock for each run folder, held by whoever writes there; readers do not ask for it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from oneshot import processes
from oneshot.runs.files import write_json

_LOCK = ".lock"
_OWNER = ".lock.json"  # apart from the lock, which some systems forbid others to read


class FolderInUseError(OSError):
    """Another process is writing to the run folder; the message says which."""


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds the lock of a run folder, which is made if missing. Within one thread it may be held several times over. Processes of
    one run enter together, so that none reads what another writes inside, and leave together; the first holds the lock for all.

    Raises:
        FolderInUseError: another process holds it.
        OSError: the folder cannot be written.
    """
    with locked(folder):
        processes.wait()
        yield
        processes.wait()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a run folder in the first process of a run; the others have no need of it.

    It is the operating system's lock on an open file (``flock``) rather than the existence of a file: it ends with its process,
    however that ends, and holds between machines on NFS. Where a file system has none, filelock says so and goes by the file.

    Raises:
        FolderInUseError: another process holds it.
        OSError: the folder cannot be written.
    """
    if not processes.is_first():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(folder.resolve() / _LOCK, is_singleton=True), folder.resolve() / _OWNER
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderInUseError(
            f"{folder} is being written by {_describe(owner)}; wait for it, or use another folder with run=..."
        ) from None
    try:
        if lock.lock_counter == 1:
            _remove_unfinished(owner.parent)
            since = datetime.now().strftime("%Y-%m-%d %H:%M")
            write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        if lock.lock_counter == 1:
            owner.unlink(missing_ok=True)
        lock.release()


def _remove_unfinished(folder: Path) -> None:
    """Removes what killed processes left half written in ``folder`` and in those of its folders that are no runs of their own."""
    for place in (folder, *(path for path in folder.iterdir() if path.is_dir() and not (path / _LOCK).exists())):
        for path in place.glob(".*.[0-9]*.tmp"):  # as ``write_atomically`` names them
            path.unlink(missing_ok=True)


def _describe(owner: Path) -> str:
    try:
        known = json.loads(owner.read_text(encoding="utf-8"))
        return f"another process (pid {known['pid']} on host {known['host']} since {known['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun, or is about to end
        return "another process"
