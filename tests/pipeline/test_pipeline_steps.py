"""A folder holds the run of one step: every other step refuses it, in words that say which it is."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from pipeline_runs import open_once, retrain, search, train
from toy_spaces import ToySpace

from oneshot.costs import MeasureSettings, measure_table
from oneshot.pipeline.steps import check_step, newest_checkpoint
from oneshot.runs import write_json
from oneshot.training import checkpoint

STEPS = ("train_supernet", "search_subnet", "retrain_subnet", "export_subnet", "measure_latency")


def begin(folder: Path, step: str) -> None:
    """As the programs do."""
    check_step(folder, step)
    if step in ("train_supernet", "retrain_subnet"):
        newest_checkpoint(folder, step)


@pytest.fixture(scope="module")
def folders(supernet_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A run of each step."""
    root = tmp_path_factory.mktemp("steps")
    made = {step: root / step for step in STEPS} | {"train_supernet": supernet_folder}
    search(supernet_folder, made["search_subnet"])
    retrain(made["search_subnet"], made["retrain_subnet"], epochs=1)
    write_json(made["export_subnet"] / "model.json", {})  # the card of an export, which takes seconds
    measure_table(ToySpace(), [8], MeasureSettings(repeats=1), made["measure_latency"])
    return made


@pytest.mark.parametrize(("held", "step"), list(itertools.product(STEPS, STEPS)))
def test_only_the_step_of_a_folder_may_go_on_there(held: str, step: str, folders: Mapping[str, Path]) -> None:
    if held == step:
        begin(folders[held], step)
        return
    with pytest.raises(ValueError, match=rf"^{folders[held]} holds a run of {held}, not one of {step}; use another"):
        begin(folders[held], step)


@pytest.mark.parametrize("step", STEPS)
def test_runs_that_are_not_finished(
    step: str, folders: Mapping[str, Path], supernet_folder: Path, tmp_path: Path
) -> None:
    """A search that has only begun, a retraining that has a checkpoint and no result; and a folder in which nothing is yet."""
    open_once(supernet_folder, tmp_path / "search_subnet")
    (tmp_path / "retrain_subnet").mkdir()
    (tmp_path / "retrain_subnet" / "checkpoints").symlink_to(folders["retrain_subnet"] / "checkpoints")
    for held in ("search_subnet", "retrain_subnet"):
        if held == step:
            begin(tmp_path / held, step)
            continue
        with pytest.raises(ValueError, match=f"holds a run of {held}, not one of {step}"):
            begin(tmp_path / held, step)
    begin(tmp_path / "new", step)


def test_a_continued_run_reads_its_checkpoint_once(
    supernet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a program has read it already, for the images that the run began with."""
    shutil.copytree(supernet_folder, tmp_path / "run")
    reads: list[Path] = []
    read = checkpoint.load_checkpoint
    monkeypatch.setattr(checkpoint, "load_checkpoint", lambda path, *given: (reads.append(path), read(path, *given))[1])
    train(tmp_path / "run")
    assert len(reads) == 1
    train(tmp_path / "run", newest=newest_checkpoint(tmp_path / "run", "train_supernet"))
    assert len(reads) == 2
