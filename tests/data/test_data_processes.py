"""Several processes of a run read a folder together: each its own part."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from child_processes import wait
from data_processes import read
from process_runs import run_together

from oneshot.data import FileSource
from oneshot.data.pool import digests_of


def test_each_process_reads_its_own_share(make_folder: Callable[[dict[str, int]], Path], tmp_path: Path) -> None:
    """Once to know the images, once for a batch; and all know what one process would."""
    root, runs = make_folder({"a": 20, "b": 17}), []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        runs += run_together(number, read, str(root), str(tmp_path / str(number)))
    assert [wait(process) for process in runs] == [0] * 3
    alone, first, second = (json.loads((tmp_path / name).read_text()) for name in ("1/0.json", "2/0.json", "2/1.json"))
    assert alone["digested"] == Counter(map(str, root.glob("*/*")))
    assert alone["digested"] == {**first["digested"], **second["digested"]}
    assert not first["digested"].keys() & second["digested"].keys()
    assert abs(len(first["digested"]) - len(second["digested"])) <= 1
    half = len(alone["asked"]) // 2
    assert first["decoded"] == Counter(alone["asked"][:half])
    assert second["decoded"] == Counter(alone["asked"][half:])
    assert first["pixels"] + second["pixels"] == alone["pixels"]
    assert first["statistics"] == second["statistics"] == alone["statistics"]


@pytest.mark.parametrize(("there", "differ"), [("/there/b/2.png", False), ("/here/b/3.png", True)])
def test_processes_that_see_other_files_are_told(there: str, differ: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the folder lies may be another place on each machine."""
    here, other = (FileSource([("/here/a/1.png", 0), (path, 1)]) for path in ("/here/b/2.png", there))
    seen: list[Any] = []
    monkeypatch.setattr("oneshot.data.pool.count", lambda: 2)
    monkeypatch.setattr("oneshot.data.pool.gathered", lambda own: [own, *seen] if seen else seen.append(own) or [own])
    digests_of(here, "training images")
    if not differ:
        digests_of(other, "training images")
        return
    with pytest.raises(
        ValueError, match=r"^the 2 processes find different training images \(numbers by process: 2, 2\)"
    ):
        digests_of(other, "training images")
