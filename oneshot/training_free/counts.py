"""Counting: what every other score has to do better than."""

from __future__ import annotations

from dataclasses import dataclass

from oneshot.training_free.trial import Trial


@dataclass(frozen=True)
class NumParams:
    """The number of parameters."""

    @property
    def name(self) -> str:
        return "num_params"

    def __call__(self, trial: Trial) -> float:
        return float(trial.cost.params)


@dataclass(frozen=True)
class MACs:
    """The multiply-accumulates of one image; the complexity of AZ-NAS (Lee and Ham, CVPR 2024, equation 9)."""

    @property
    def name(self) -> str:
        return "macs"

    def __call__(self, trial: Trial) -> float:
        return float(trial.cost.macs)
