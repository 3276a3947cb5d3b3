"""GDAS (Dong and Yang, CVPR 2019, equations 3 to 6): one option a choice, drawn by Gumbel-max, with the soft one's gradient."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment, Temperature
from oneshot.samplers.differentiable.relaxation import Parameters, Relaxation, gumbel, one_hot, straight_through


@dataclass(frozen=True)
class HardGumbel(Relaxation):
    """Costs what one path costs. The gradient of the drawn option's weight is the inner product of its output with the gradient
    of the sum, that of the others is zero (the published code adds their weights, all zero, to the features, by which they get
    the sum of the gradient).

    Args:
        temperature_of: published 10 to 0.1, linearly.
    """

    temperature_of: Temperature = field(default_factory=lambda: Temperature(10.0, 0.1))

    @property
    def takes_one(self) -> bool:
        return True

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        temperature = self.temperature_of.at(moment)
        weights = {}
        for name, values in parameters.items():
            soft = ((values.log_softmax(0) + gumbel(values, generator)) / temperature).softmax(0)
            weights[name] = straight_through(one_hot(int(soft.argmax()), soft), soft)
        return Mix(weights)

    def temperature(self, moment: Moment) -> float:
        return self.temperature_of.at(moment)
