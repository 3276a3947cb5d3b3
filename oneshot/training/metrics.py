"""The record of a run: ``metrics.jsonl``, TensorBoard and a page of curves."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oneshot.arch import Option
from oneshot.processes import is_first
from oneshot.report import Curve, Graph, PolicyHistory, write_training_report
from oneshot.runs import write_text


class Metrics:
    """Appends one line of JSON a record to ``folder/metrics.jsonl`` and the same numbers to TensorBoard in ``folder``.

    A run that continues from step ``resume_step`` first drops the records beyond it, so that the file reads as if the run had
    never stopped. Of several processes that train together the first writes. Records of a run in phases name theirs.
    """

    def __init__(self, folder: Path, resume_step: int, phase: str = "") -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._phase = {_PHASE: phase} if phase else {}
        self.path = folder / "metrics.jsonl"
        self.records = [record for record in _read(self.path) if record["step"] <= resume_step]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in self.records))
        self._file = (self.path if is_first() else Path(os.devnull)).open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step + 1) if is_first() else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Records ``values``, such as ``{"train/loss": 2.3}``, at ``step``."""
        if values:
            self._write({"step": step} | self._phase | {name: _finite(value) for name, value in values.items()})
        if self._writer is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def write_policy(self, step: int, probabilities: Mapping[str, Mapping[Option, float]]) -> None:
        """Records the probabilities of a sampling policy, by choice and option, at ``step``."""
        if probabilities:
            shown = {
                choice: {str(option): _finite(value) for option, value in values.items()}
                for choice, values in probabilities.items()
            }
            self._write({"step": step, _POLICY: shown})

    def _write(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def curves(self) -> dict[str, list[Curve]]:
        """All values so far, one group of curves for each first part of the names."""
        points: dict[str, list[tuple[int, float]]] = {}
        for record in self.records:
            for name, value in record.items():
                if name not in ("step", _POLICY, _PHASE) and value is not None:
                    points.setdefault(name, []).append((record["step"], value))
        groups: dict[str, list[Curve]] = {}
        for name, pairs in points.items():
            group, _, label = name.partition("/")
            curve = Curve(label or name, [step for step, _ in pairs], [value for _, value in pairs])
            groups.setdefault(_TITLES.get(group, group), []).append(curve)
        return groups

    def phases(self) -> list[tuple[int, str]]:
        """After which step each phase begins, in order, and its name."""
        found: list[tuple[int, str]] = []
        before = 0
        for record in self.records:
            if _PHASE in record and (not found or record[_PHASE] != found[-1][1]):
                found.append((before, record[_PHASE]))
            before = record["step"]
        return found

    def policy(self) -> PolicyHistory | None:
        """The probabilities recorded so far, or None where there are none."""
        records = [record for record in self.records if _POLICY in record]
        if not records:
            return None
        names = {choice: list(values) for record in records for choice, values in record[_POLICY].items()}
        return PolicyHistory(
            [record["step"] for record in records],
            {
                choice: {
                    option: [_number(record[_POLICY].get(choice, {}).get(option)) for record in records]
                    for option in options
                }
                for choice, options in names.items()
            },
            any("architecture_entropy/nats" in record for record in self.records),
        )

    def close(self, path: Path, title: str, facts: Mapping[str, str], graphs: Sequence[Graph] = ()) -> None:
        """Writes the page of curves to ``path``, with cells that were derived, and closes the files."""
        groups, phases = self.curves(), self.phases()
        write_training_report(
            path, title=title, groups=groups, facts=facts, policy=self.policy(), graphs=graphs, phases=phases
        )
        self.stop()

    def stop(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()


_POLICY = "policy"
_PHASE = "phase"
_TITLES = {
    "loss": "training loss",
    "accuracy": "training accuracy of the first network of a step",
    "lr": "learning rate",
    "speed": "images per second",
    "held_out_accuracy": "accuracy on held-out images",
    "held_out_loss": "loss on held-out images",
    "architecture_loss": "loss from which the architecture learns",
    "architecture_entropy": "entropy of the architecture (nats, mean over choices)",
    "architecture_temperature": "temperature",
    "architecture_auxiliary_skip": "weight of the skip connection beside every mixture",
    "architecture_skip_dropout": "dropout on skip connections",
    "architecture_perturbation": "by how much the weights of options are moved, at most",
    "architecture_beta_decay": "weight of beta decay",
    "expected_macs": "MACs of the relaxed network, as expected by the strengths of the options",
    "expected_latency_ms": "latency of the relaxed network (ms), as expected by the strengths of the options",
    "architecture_eigenvalue": "largest eigenvalue of the Hessian of the architecture's loss",
    "derived_skips": "skip connections of the derived architecture",
    "policy_reward": "reward of the paths that the policy draws",
    "policy_entropy": "entropy of the policy (nats)",
}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _read(path: Path) -> list[dict[str, Any]]:
    """The whole records of the file; a last line cut short by a kill is dropped."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records
