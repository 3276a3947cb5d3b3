"""A relaxation some of whose choices are decided (Wang et al., DARTS-PT, ICLR 2021, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.relaxation import Parameters, Relaxation, one_hot
from oneshot.samplers.differentiable.softmax import Softmax
from oneshot.spaces.base import SearchSpace


@dataclass(frozen=True)
class Decided(Relaxation):
    """Another relaxation as it was in its last epoch, with one option of the choices that are decided.

    Args:
        of: the other relaxation.
        taken: the position of the option, by choice.
        epochs: of the training that went before.
    """

    of: Relaxation = field(default_factory=Softmax)
    taken: Mapping[str, int] = field(default_factory=dict)
    epochs: int = 1

    def on(self, space: SearchSpace) -> Decided:
        return replace(self, of=self.of.on(space))

    def parameters(self, space: SearchSpace, generator: torch.Generator) -> dict[str, Tensor]:
        return self.of.parameters(space, generator)

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        last = Moment(moment.step, self.epochs - 1, self.epochs)
        mix = self.of.mix(parameters, last, generator, for_weights)
        probed = {name: mix.probed(name) for name in mix if name not in self.taken}
        return Mix(self._with_taken(mix), probed)

    def strengths(self, parameters: Parameters) -> dict[str, Tensor]:
        return self._with_taken(self.of.strengths(parameters))

    def option_strengths(self, parameters: Parameters) -> dict[str, Tensor]:
        return self._with_taken(self.of.option_strengths(parameters))

    def courses(self, moment: Moment) -> dict[str, float]:
        return self.of.courses(Moment(moment.step, self.epochs - 1, self.epochs))

    def settle(self, before: Parameters, parameters: Parameters) -> None:
        self.of.settle(before, parameters)

    def _with_taken(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: one_hot(self.taken[name], values.detach()) if name in self.taken else values
            for name, values in weights.items()
        }
