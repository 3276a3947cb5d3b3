"""Several processes train what one trains."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from child_processes import wait
from process_runs import LOST, run_together, train_kinds
from torch import Tensor
from training_runs import make_trainer, records

from oneshot.training import load_newest

KINDS = ["phases", "attentive", "controller", "architecture", "synchronised"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The folders of runs on one process and on two."""
    found = {number: tmp_path_factory.mktemp(f"on{number}") for number in (1, 2)}
    runs = [
        process for number, folder in found.items() for process in run_together(number, train_kinds, str(folder), KINDS)
    ]
    assert [wait(process) for process in runs] == [0] * 3
    return found


def check_close(found: Any, expected: Any, path: str = "") -> None:
    """The same nested state, tensors to 1e-9."""
    if isinstance(expected, Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=lambda text: f"{path}: {text}")
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        for key in expected:
            check_close(found[key], expected[key], f"{path}.{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), path
        for index, pair in enumerate(zip(found, expected, strict=True)):
            check_close(*pair, f"{path}.{index}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9), path
    else:
        assert found == expected, path


def check_same_run(found: Path, expected: Path) -> None:
    states = [load_newest(folder / "checkpoints") for folder in (found, expected)]
    check_close(*states)
    lines = [
        [{k: v for k, v in record.items() if k != "speed/train"} for record in records(folder)]
        for folder in (found, expected)
    ]
    check_close(*lines)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_end_where_one_does(folders: dict[int, Path], kind: str) -> None:
    """Crops, flips and erased parts, a teacher, sorted channels, averages, samplers that learn by rewards and by gradients of the
    second order; batch normalisation that is synchronised, by torch's own function with the arithmetic of its CUDA
    kernels, with slices of a bank's tensors; and what is recorded.
    """
    check_same_run(folders[2] / kind, folders[1] / kind)


def test_synchronised_batch_norm_is_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^trainer\.sync_batch_norm=true is for CUDA devices, .*; on cpu it is false: "
    ):
        make_trainer(tmp_path, sync_batch_norm=True)


def test_a_killed_process_ends_the_run_and_another_number_of_processes_continues_it(
    folders: dict[int, Path], tmp_path: Path
) -> None:
    """Even to shares that are uneven: 30 images are 7, 8, 7 and 8 for four processes."""
    first, second = run_together(2, train_kinds, str(tmp_path), ["phases"], 4)
    started = time.monotonic()
    assert (wait(second), wait(first)) == (-9, LOST)
    assert time.monotonic() - started < 60
    state = load_newest(tmp_path / "phases" / "checkpoints")
    assert state is not None
    assert state["step"] == 4
    assert [wait(process) for process in run_together(4, train_kinds, str(tmp_path), ["phases"])] == [0] * 4
    check_same_run(tmp_path / "phases", folders[1] / "phases")
