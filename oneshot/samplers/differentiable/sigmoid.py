"""FairDARTS (Chu et al., ECCV 2020, section 4.1): each option by a sigmoid of its own, so that none wins by others' loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.relaxation import Parameters, Relaxation, open_choices
from oneshot.spaces.base import SearchSpace


@dataclass(frozen=True)
class Sigmoid(Relaxation):
    """Weights that do not compete; published with the ``zero_one`` regulariser. All start at one half."""

    def parameters(self, space: SearchSpace, generator: torch.Generator) -> dict[str, Tensor]:
        return {choice.name: torch.zeros(len(choice.options)) for choice in open_choices(space)}

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        return Mix({name: values.sigmoid() for name, values in parameters.items()})

    def strengths(self, parameters: Parameters) -> dict[str, Tensor]:
        return {name: values.detach().sigmoid() for name, values in parameters.items()}
