"""Files are whole or not there, and an error names the one that was to be written."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from oneshot.runs import differences, fingerprint, require_same, write_atomically, write_json, write_text


def test_text_and_json(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "Grüße\r\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "Grüße\r\n".encode()
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
    assert {path.name for path in tmp_path.iterdir()} == {"new", "a.json"}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no file size limits")
def test_a_write_that_the_system_refuses_names_the_file(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "report.html"
    write_text(path, "before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**12, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*report\.html'"):
            write_text(path, "x" * 2**16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("place", ["os.fsync", "pathlib.Path.replace"])
def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(place, full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.json'"):
        write_json(tmp_path / "a.json", 1)
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_writer_leaves_nothing(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise ValueError("no JSON")

    with pytest.raises(ValueError, match="no JSON"):
        write_atomically(tmp_path / "a", write)
    assert not list(tmp_path.iterdir())


def test_what_differs_is_told(tmp_path: Path) -> None:
    before = {"trainer": {"lr": 0.1, "threads": 1}, "seed": 0, "old": 1}
    now = {"trainer": {"lr": 0.2, "threads": 2}, "seed": 0}
    assert differences(before, now, {"trainer.threads"}) == ["old was 1 and is None", "trainer.lr was 0.1 and is 0.2"]
    require_same(tmp_path, "holds another run", before, before)
    with pytest.raises(ValueError, match=r"holds another run \(old was 1 .*\); use another folder"):
        require_same(tmp_path, "holds another run", before, now)


def test_a_setting_that_there_was_not_yet_is_off(tmp_path: Path) -> None:
    before = {"trainer": {"lr": 0.1}}
    require_same(
        tmp_path, "was another", before, {"trainer": {"lr": 0.1, "sync": False}, "extra": {"on": None, "of": {}}}
    )
    with pytest.raises(ValueError, match=r"\(extra.of.what was None and is 2, trainer.sync was None and is True\)"):
        require_same(
            tmp_path, "was another", before, {"trainer": {"lr": 0.1, "sync": True}, "extra": {"of": {"what": 2}}}
        )


def test_a_fingerprint_is_that_of_the_whole() -> None:
    """FIPS 180-2, appendix B.1."""
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint([b"a", b"", memoryview(b"bc")]) == fingerprint([b"abc"]) == expected
