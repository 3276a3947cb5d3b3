"""Checkpoints: whole or not there at all, the newest good one found, never a source of code."""

from __future__ import annotations

import errno
import logging
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from oneshot.runs import writing
from oneshot.training import CheckpointError, list_checkpoints, load_checkpoint, load_newest, save_checkpoint
from oneshot.training.checkpoint import write_file


def state_of(step: int) -> dict[str, Any]:
    weights = torch.randn(40, 3, generator=torch.Generator().manual_seed(step))
    return {
        "model": {"weight": weights, "count": torch.tensor(step)},
        "config": {"lr": 0.1, "names": ["a", None, True]},
    }


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def test_round_trip(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "new" / "folder", 12, state_of(12))
    assert path.name == "step-000000012.pt"
    loaded = load_checkpoint(path)
    assert loaded.pop("format") == "oneshot.checkpoint.1"
    assert loaded.pop("step") == 12
    assert same(loaded, state_of(12))


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    for step in (1, 2, 9, 10, 100):
        save_checkpoint(tmp_path, step, state_of(step), keep=keep)
    steps = [int(path.stem.removeprefix("step-")) for path in list_checkpoints(tmp_path)]
    assert steps == [100, 10, 9, 2, 1][:keep]
    assert len(list(tmp_path.iterdir())) == keep


def test_other_files_are_neither_listed_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "step-12.pt").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    save_checkpoint(tmp_path, 3, state_of(3), keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000003.pt"]
    assert len(list(tmp_path.iterdir())) == 3


# Writing that fails --------------------------------------------------------------------------------------------------


def full_disk(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_then_full(state: Any, file: Any) -> None:
    file.write(b"PK half of a checkpoint")
    full_disk()


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("torch.save", full_disk),
        ("torch.save", half_then_full),
        ("os.fsync", full_disk),
        ("pathlib.Path.replace", full_disk),
    ],
    ids=["at_once", "halfway", "on_flush", "on_rename"],
)
def test_a_full_disk_leaves_earlier_checkpoints_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, replacement: Callable[..., None]
) -> None:
    save_checkpoint(tmp_path, 1, state_of(1), keep=1)
    with monkeypatch.context() as patch:
        patch.setattr(name, replacement)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(tmp_path, 2, state_of(2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]
    newest = load_newest(tmp_path)
    assert newest is not None
    assert same(newest["model"], state_of(1)["model"])


@pytest.mark.skipif(sys.platform == "win32", reason="there are no file size limits")
def test_a_write_that_the_system_refuses(tmp_path: Path) -> None:
    """Not a patched function but a limit of the operating system, which torch's writer meets in the middle of a file."""
    import resource

    save_checkpoint(tmp_path, 1, state_of(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*step-000000002\.pt|File too large"):
            save_checkpoint(tmp_path, 2, {"model": {"weight": torch.zeros(2**18)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, 1, state_of(1))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_whoever_has_the_folder(tmp_path: Path) -> None:
    """Nobody else may: the file may be that of another process which is writing it."""
    folder = tmp_path / "checkpoints"
    save_checkpoint(folder, 3, state_of(3))
    (folder / ".step-000000004.pt.12345.tmp").write_bytes(b"half")
    save_checkpoint(folder, 5, state_of(5))
    assert (folder / ".step-000000004.pt.12345.tmp").is_file()
    with writing(tmp_path):
        assert [path.name for path in list_checkpoints(folder)] == ["step-000000005.pt", "step-000000003.pt"]
        assert len(list(folder.iterdir())) == 2


def test_a_reader_of_a_run_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoints that it saw are gone when it comes to read them: newer ones took their places."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, state_of(step))
    original = torch.load

    def overtaken(path: Path, **arguments: Any) -> Any:
        if path.name == "step-000000002.pt":
            for step in (3, 4):
                save_checkpoint(tmp_path, step, state_of(step))
        return original(path, **arguments)

    monkeypatch.setattr("torch.load", overtaken)
    newest = load_newest(tmp_path)
    assert newest is not None
    assert newest["step"] == 4


def test_no_permission_to_write_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        save_checkpoint(tmp_path / "file" / "checkpoints", 1, state_of(1))


# Reading damaged files -----------------------------------------------------------------------------------------------


def test_there_is_none(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "nowhere") is None
    assert load_newest(tmp_path) is None
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*step-000000001\.pt"):
        load_checkpoint(tmp_path / "step-000000001.pt")


def test_a_truncated_file_is_refused_by_name_and_the_one_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        path = save_checkpoint(tmp_path, step, state_of(step))
    content = path.read_bytes()
    lengths = {0, 1, 4, 30, len(content) // 2, len(content) - 22, len(content) - 1, *range(17, len(content), 37)}
    for length in sorted(lengths):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"step-000000002\.pt is truncated"):
            load_checkpoint(path)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            newest = load_newest(tmp_path)
        assert newest is not None
        assert same(newest["model"], state_of(1)["model"])
        assert "step-000000002.pt" in caplog.text
        assert "trying the one before" in caplog.text


def test_no_good_checkpoint_at_all(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, state_of(step)).write_bytes(b"")
    assert load_newest(tmp_path) is None


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Wherever a bit is flipped, the file is refused, or it was one that carries nothing (padding, a date)."""
    path = save_checkpoint(tmp_path, 1, state_of(1))
    content, expected = path.read_bytes(), load_checkpoint(path)
    rng = random.Random(0)
    positions = rng.sample(range(len(content) * 8), 400)
    refused = 0
    for position in positions:
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError as error:
            assert "step-000000001.pt" in str(error)  # noqa: PT017 - a flip that carries nothing raises nothing
            refused += 1
        else:
            assert same(loaded, expected)
    assert refused > 100


def test_every_flipped_bit_of_a_weight_is_noticed(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, 1, state_of(1))
    content = path.read_bytes()
    start = content.index(state_of(1)["model"]["weight"].numpy().tobytes())
    for position in range(start * 8, (start + 480) * 8, 29):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="checksum"):
            load_checkpoint(path)


def test_a_weight_marked_as_a_folder_is_noticed(tmp_path: Path) -> None:
    """A bit that no checksum covers and that makes torch return uninitialised memory."""
    path = save_checkpoint(tmp_path, 1, state_of(1))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"/data/0"))
    content[entry + 38] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="data/0 fails"):
        load_checkpoint(path)


# Files of others -----------------------------------------------------------------------------------------------------


class Malicious:
    """Runs code where it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "pickle"])
def test_code_in_a_file_is_not_run(tmp_path: Path, old_format: bool) -> None:
    victim = tmp_path / "ran"
    path = tmp_path / "step-000000001.pt"
    content = {"format": "oneshot.checkpoint.1", "model": Malicious(victim)}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(CheckpointError, match=r"step-000000001\.pt"):
        load_checkpoint(path)
    assert load_newest(tmp_path) is None
    assert not victim.exists()
    torch.load(path, weights_only=False)
    assert victim.exists(), "the file would have run its code elsewhere"


@pytest.mark.parametrize(
    ("content", "found"),
    [({"model": {}}, "None"), ({"format": "oneshot.subnet.1"}, "oneshot.subnet.1"), ([1, 2], "list")],
    ids=["someone_elses", "subnet", "list"],
)
def test_another_format_is_refused(tmp_path: Path, content: Any, found: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"model\.pt is not what is expected .*{found}.*oneshot\.checkpoint\.1"):
        load_checkpoint(path)


def test_the_expected_format_can_be_named(tmp_path: Path) -> None:
    write_file(tmp_path / "subnet.pt", {"format": "oneshot.subnet.1", "weights": {}})
    assert load_checkpoint(tmp_path / "subnet.pt", expected="oneshot.subnet.1")["weights"] == {}


def test_no_permission_to_read_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(tmp_path, 1, state_of(1))

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("zipfile.ZipFile", refuse)
    with pytest.raises(PermissionError):
        load_newest(tmp_path)
