"""SNAS (Xie et al., ICLR 2019, equation 4) and FBNet (Wu et al., CVPR 2019, equation 7): soft Gumbel weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment, Temperature
from oneshot.samplers.differentiable.relaxation import Parameters, Relaxation, gumbel


@dataclass(frozen=True)
class Concrete(Relaxation):
    """All options at once, by weights from the concrete distribution, the nearer to one option the lower the temperature.

    Args:
        temperature_of: SNAS 1 to 0.03; FBNet ``5 exp(-0.045 epoch)``.
    """

    temperature_of: Temperature = field(default_factory=lambda: Temperature(1.0, 0.03))

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        temperature = self.temperature_of.at(moment)
        return Mix(
            {
                name: ((values.log_softmax(0) + gumbel(values, generator)) / temperature).softmax(0)
                for name, values in parameters.items()
            }
        )

    def temperature(self, moment: Moment) -> float:
        return self.temperature_of.at(moment)
