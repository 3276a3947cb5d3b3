"""Beta decay (Ye et al., beta-DARTS, CVPR 2022, equation 13): keeps architecture parameters from growing apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.regulariser import Regulariser, check_weight
from oneshot.samplers.differentiable.relaxation import Parameters


@dataclass(frozen=True)
class BetaDecay(Regulariser):
    """Adds the mean over the choices of the log of the summed exponentials of their parameters, with a weight that grows linearly
    from 0 (code ``optimizers/darts/architect.py``, ``mlc_loss``).

    Args:
        weight: what it would be after the last epoch; published 50.
    """

    weight: float = 50.0

    def __post_init__(self) -> None:
        check_weight(weight=self.weight)

    def __call__(self, loss: Tensor, mix: Mix, parameters: Parameters, moment: Moment) -> Tensor:
        sums = torch.stack([parameters[name].logsumexp(0) for name in mix])
        return loss + self._weight_at(moment) * sums.mean()

    def records(self, strengths: Mapping[str, Tensor], moment: Moment) -> dict[str, float]:
        return {"architecture_beta_decay/weight": self._weight_at(moment)}

    def _weight_at(self, moment: Moment) -> float:
        return self.weight * moment.epoch / moment.epochs
