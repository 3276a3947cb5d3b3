"""Which step of the job a run folder is of, so that no other step writes into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oneshot.training.checkpoint import load_newest

_FILES = {  # that only this step writes
    "search_subnet": ("run.sqlite", "networks.json", "candidates.csv"),
    "export_subnet": ("model.json",),
    "measure_latency": ("table.json",),
    "retrain_subnet": ("retrained.pt",),
}
_KINDS = {"supernet": "train_supernet", "subnet": "retrain_subnet"}


def check_step(folder: Path, step: str) -> None:
    """Looks at what ``folder`` holds before ``step``, such as ``"search_subnet"``, writes there. Whether checkpoints are of a
    supernet or of a subnet, ``newest_checkpoint`` tells the two steps that train.

    Raises:
        ValueError: it holds the run of another step.
    """
    for other, names in _FILES.items():
        if any((folder / name).exists() for name in names):
            _require(folder, other, step)
    if step not in _KINDS.values():
        newest_checkpoint(folder, step)


def newest_checkpoint(folder: Path, step: str) -> dict[str, Any] | None:
    """The newest good checkpoint of a run of ``step``; None where there is none.

    Raises:
        ValueError: it is of another step.
    """
    state = load_newest(folder / "checkpoints")
    if state is not None:
        _require(folder, _KINDS.get(str(state.get("kind")), step), step)
    return state


def _require(folder: Path, found: str, step: str) -> None:
    if found != step:
        raise ValueError(f"{folder} holds a run of {found}, not one of {step}; use another folder with run=...")
