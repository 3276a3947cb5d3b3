"""DARTS- (Chu et al., ICLR 2021): a skip connection beside every mixture, which fades, so that options need not play its part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from oneshot.mix import Mix
from oneshot.samplers.differentiable.deriving import is_skip
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.relaxation import Parameters, Relaxation, one_hot, open_choices
from oneshot.samplers.differentiable.softmax import Softmax
from oneshot.spaces.base import SearchSpace


@dataclass(frozen=True)
class AuxiliarySkip(Relaxation):
    """The weights of another relaxation, with ``beta`` added to that of the skip connection where a choice has one (equation 7):
    the sum of the options, and ``beta`` times the input. It falls linearly from epoch to epoch, to 0 in the last one (in the code
    after the last one), and strengths know nothing of it. On edges that halve the image, where a skip connection has weights, the
    published code gives the auxiliary one weights of its own, and here it shares them.

    Args:
        of: the other relaxation.
        beta: in the first epoch; published 1.
        places: where the skip connection is among the options, by choice; None is found in the space.

    Raises:
        ValueError: beta is not above 0; in use, no choice of the space has a skip connection.
    """

    of: Relaxation = field(default_factory=Softmax)
    beta: float = 1.0
    places: Mapping[str, int] | None = None

    @property
    def takes_one(self) -> bool:
        return False

    def __post_init__(self) -> None:
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise ValueError(f"beta is above 0, not {self.beta}")

    def on(self, space: SearchSpace) -> AuxiliarySkip:
        places = {
            choice.name: choice.options.index(option)
            for choice in open_choices(space)
            for option in choice.options
            if is_skip(option)
        }
        if not places:
            raise ValueError(
                f"there is no skip connection (skip_connect or identity) among the options of {type(space).__name__}, beside "
                "which another could be: take another sampler"
            )
        return replace(self, of=self.of.on(space), places=places)

    def parameters(self, space: SearchSpace, generator: torch.Generator) -> dict[str, Tensor]:
        return self.of.parameters(space, generator)

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        mix, beta, places = self.of.mix(parameters, moment, generator, for_weights), self.at(moment), self.places or {}
        if beta == 0:
            return mix
        return Mix(
            {
                name: weights + beta * one_hot(places[name], weights) if name in places else weights
                for name, weights in mix.items()
            },
            {name: mix.probed(name) for name in mix},
        )

    def at(self, moment: Moment) -> float:
        """Beta in an epoch."""
        return self.beta * (1 - moment.epoch / (moment.epochs - 1)) if moment.epochs > 1 else 0.0

    def strengths(self, parameters: Parameters) -> dict[str, Tensor]:
        return self.of.strengths(parameters)

    def option_strengths(self, parameters: Parameters) -> dict[str, Tensor]:
        return self.of.option_strengths(parameters)

    def courses(self, moment: Moment) -> dict[str, float]:
        return {**self.of.courses(moment), "architecture_auxiliary_skip/beta": self.at(moment)}

    def settle(self, before: Parameters, parameters: Parameters) -> None:
        self.of.settle(before, parameters)
