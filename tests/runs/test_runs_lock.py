"""One process writes to a run folder; another one is told who does, and a killed one leaves it free."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from child_processes import start, wait
from run_children import hold, make_store

from oneshot.runs import FolderInUseError, writing


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[BaseProcess]:
    """Another process that writes to ``tmp_path / "run"``."""
    process = start(hold, str(tmp_path / "run"), str(tmp_path / "ready"))
    while not (tmp_path / "ready").exists():
        assert process.exitcode is None
        time.sleep(0.005)
    yield process
    process.kill()
    wait(process)


def test_the_second_is_told_who_writes(tmp_path: Path, holder: BaseProcess) -> None:
    folder = tmp_path / "run"
    (folder / ".step-000000004.pt.12345.tmp").write_bytes(b"half")
    who = rf"another process \(pid {holder.pid} on host {re.escape(socket.gethostname())} since \d{{4}}-\d\d-\d\d \d\d:\d\d\)"
    line = rf"^{re.escape(str(folder))} is being written by {who}; wait for it, or use another folder with run=\.\.\.$"
    for _ in range(2):
        with pytest.raises(FolderInUseError, match=line), writing(folder):
            pytest.fail("two processes write to one folder")
    with pytest.raises(FolderInUseError, match=line):
        make_store(folder)
    assert (folder / ".step-000000004.pt.12345.tmp").exists(), "a file that the other process is writing was removed"


def test_a_killed_process_leaves_the_folder_free(tmp_path: Path, holder: BaseProcess) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / ".step-000000004.pt.12345.tmp").write_bytes(b"half")
    (folder / ".report.html.12345.tmp").write_bytes(b"half")
    with writing(folder / "own"):
        own = folder / "own" / ".a.json.12.tmp"
        own.write_bytes(b"half")
    (folder / ".mine.tmp").write_text("a user's")
    holder.kill()
    assert wait(holder) == -9
    assert (folder / ".lock.json").exists()
    with writing(folder):
        assert str(os.getpid()) in (folder / ".lock.json").read_text()
        left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert left == {".lock", ".lock.json", ".mine.tmp", "own/.lock", "own/.a.json.12.tmp"}
    assert not (folder / ".lock.json").exists()


def test_within_one_thread_it_is_held_several_times_over(tmp_path: Path) -> None:
    refused = []

    def try_elsewhere() -> None:
        try:
            with writing(tmp_path):
                pass
        except FolderInUseError as error:
            refused.append(str(error))

    def is_free() -> bool:
        refused.clear()
        thread = threading.Thread(target=try_elsewhere)
        thread.start()
        thread.join()
        return not refused

    with writing(tmp_path):
        with writing(tmp_path / "." / ".." / tmp_path.name):
            assert not is_free()
        assert not is_free()
        assert f"pid {os.getpid()} " in refused[0]
    assert is_free()
    with make_store(tmp_path) as opened:
        circle = [opened]
        circle.append(circle)  # type: ignore[arg-type]
        assert not is_free()
    assert is_free()  # whoever still holds the store
    opened.close()
    assert is_free()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"file"), writing(tmp_path / "file" / "run"):
        pytest.fail("there is no such folder")
    with pytest.raises(OSError, match=r"/proc"), writing(Path("/proc/run")):
        pytest.fail("nobody may write there")
