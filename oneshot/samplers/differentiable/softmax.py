"""DARTS (Liu, Simonyan and Yang, ICLR 2019, equation 2): all options at once, by the softmax of their parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.relaxation import Parameters, Relaxation


@dataclass(frozen=True)
class Softmax(Relaxation):
    """The softmax over the options of each choice."""

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        return Mix({name: values.softmax(0) for name, values in parameters.items()})
