"""The record of a run: ``metrics.jsonl``, TensorBoard and a page of curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oneshot.report import Curve, write_training_report


class Metrics:
    """Appends one line of JSON a record to ``folder/metrics.jsonl`` and the same numbers to TensorBoard in ``folder``.

    A run that continues from step ``resume_step`` first drops the records beyond it, so that the file reads as if the run had
    never stopped.
    """

    def __init__(self, folder: Path, resume_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        self.records = [record for record in _read(self.path) if record["step"] <= resume_step]
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_text("".join(json.dumps(record) + "\n" for record in self.records), encoding="utf-8")
        temporary.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Records ``values``, such as ``{"train/loss": 2.3}``, at ``step``."""
        record = {"step": step} | {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.records.append(record)
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def curves(self) -> dict[str, list[Curve]]:
        """All values so far, one group of curves for each first part of the names."""
        points: dict[str, list[tuple[int, float]]] = {}
        for record in self.records:
            for name, value in record.items():
                if name != "step" and value is not None:
                    points.setdefault(name, []).append((record["step"], value))
        groups: dict[str, list[Curve]] = {}
        for name, pairs in points.items():
            group, _, label = name.partition("/")
            curve = Curve(label or name, [step for step, _ in pairs], [value for _, value in pairs])
            groups.setdefault(_TITLES.get(group, group), []).append(curve)
        return groups

    def close(self, path: Path, title: str, facts: Mapping[str, str]) -> None:
        """Writes the page of curves to ``path`` and closes the files."""
        write_training_report(path, title=title, groups=self.curves(), facts=facts)
        self.stop()

    def stop(self) -> None:
        """Closes the files."""
        self._file.close()
        self._writer.close()


_TITLES = {
    "loss": "training loss",
    "accuracy": "training accuracy of the first network of a step",
    "lr": "learning rate",
    "speed": "images per second",
    "held_out_accuracy": "accuracy on held-out images",
    "held_out_loss": "loss on held-out images",
}


def _read(path: Path) -> list[dict[str, Any]]:
    """The whole records of the file; a last line cut short by a kill is dropped."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records
