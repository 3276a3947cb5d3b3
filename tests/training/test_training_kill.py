"""A run that is killed and continued ends with the weights of an undisturbed one, bit for bit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from child_processes import start, wait
from killed_runs import KINDS, NUM_STEPS, train
from training_runs import differences, records

from oneshot.training import list_checkpoints, load_newest

SIGKILL = -9


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run of each kind that was never stopped."""
    folders: dict[str, Path] = {}

    def run(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            assert wait(start(train, kind, str(folders[kind]))) == 0
        return folders[kind]

    return run


def record_of(folder: Path) -> list[dict[str, Any]]:
    """All that was recorded but for times."""
    return [{name: value for name, value in record.items() if name != "speed/train"} for record in records(folder)]


def check_same(folder: Path, expected: Path) -> None:
    found, wanted = load_newest(folder / "checkpoints"), load_newest(expected / "checkpoints")
    assert found is not None
    assert wanted is not None
    assert found["step"] == wanted["step"] == NUM_STEPS
    assert wanted["optimizer"]["state"]
    for part in ("model", "average", "optimizer", "scaler", "task"):
        assert not differences(found[part], wanted[part]), part
    assert record_of(folder) == record_of(expected)
    assert (folder / "training.html").is_file()
    assert not list((folder / "checkpoints").glob(".*")), "half a checkpoint was left behind"
    assert len(list_checkpoints(folder / "checkpoints")) == 2


def test_the_run_to_compare_with(undisturbed: Callable[[str], Path]) -> None:
    """They have averages, dropout and distillation to get wrong, and records between checkpoints."""
    for kind in KINDS:
        folder = undisturbed(kind)
        state = load_newest(folder / "checkpoints")
        assert state is not None
        assert (state["average"] is not None) == (kind in ("uniform", "controller"))
        trained = [record["step"] for record in records(folder) if "loss/train" in record]
        ends = {8, 16} if kind == "phases" else set()
        assert trained == sorted({*range(3, NUM_STEPS + 1, 3), *ends})
        assert [record["step"] for record in records(folder) if "held_out_loss/largest" in record] == [8, 16, 24]


@pytest.mark.parametrize(
    "places",
    [
        [("step", 1), ("step", 9), ("step", 1)],
        [("checkpoint", 1), ("checkpoint", 6), ("rename", 4)],
        [("removal", 1), ("record", 8), ("record", 1)],
        [("save", 7), ("evaluation", 2), ("evaluation", 5), ("page", 1)],
    ],
    ids=["steps", "checkpoints", "records", "evaluations"],
)
def test_killed_at_the_worst_places(
    tmp_path: Path, undisturbed: Callable[[str], Path], places: list[tuple[str, int]]
) -> None:
    for place, number in places:
        assert wait(start(train, "uniform", str(tmp_path), place, number)) == SIGKILL, place
    assert wait(start(train, "uniform", str(tmp_path))) == 0
    check_same(tmp_path, undisturbed("uniform"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random(tmp_path: Path, undisturbed: Callable[[str], Path], kind: str, seed: int) -> None:
    """Killed from outside at some time after the first new checkpoint, until a run comes to its end."""
    rng = random.Random(f"{kind} {seed}")
    codes = []
    for _ in range(4):
        before = {path.name for path in list_checkpoints(tmp_path / "checkpoints")}
        process = start(train, kind, str(tmp_path))
        while process.exitcode is None and before >= {path.name for path in list_checkpoints(tmp_path / "checkpoints")}:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.15)
        process.kill()
        codes.append(wait(process))
    assert SIGKILL in codes
    assert wait(start(train, kind, str(tmp_path))) == 0
    check_same(tmp_path, undisturbed(kind))


@pytest.mark.parametrize("step", [1, 8, 9, 16, 17, 24])
def test_killed_around_the_ends_of_phases(tmp_path: Path, undisturbed: Callable[[str], Path], step: int) -> None:
    """The next phase starts from the last one's weights, with the teacher that the first one left."""
    for place in ("step", "checkpoint"):
        assert wait(start(train, "phases", str(tmp_path), place, step if place == "step" else 1)) == SIGKILL
    assert wait(start(train, "phases", str(tmp_path))) == 0
    check_same(tmp_path, undisturbed("phases"))


@pytest.mark.parametrize("kind", ["sandwich", "phases"])
def test_a_finished_run_is_not_run_again(undisturbed: Callable[[str], Path], kind: str) -> None:
    folder = undisturbed(kind)

    def written() -> dict[Path, int]:  # but for the lock, which older versions of filelock touch
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    assert wait(start(train, kind, str(folder), "step", 1)) == 0
    assert written() == before
