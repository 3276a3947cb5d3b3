"""How weights over options are drawn from architecture parameters: what the methods of the family differ in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from oneshot.arch import Choice
from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment
from oneshot.spaces.base import SearchSpace

Parameters = Mapping[str, Tensor]
"""Architecture parameters by name: those over the options of a choice are called as the choice is."""


class Relaxation(ABC):
    """Mixes from parameters. A method overrides ``mix``, and the others where it differs."""

    @property
    def takes_one(self) -> bool:
        """Whether every mix is of one option of each choice, so that nothing is ever mixed. What wraps another is as that is."""
        of = getattr(self, "of", None)
        return of.takes_one if isinstance(of, Relaxation) else False

    def on(self, space: SearchSpace) -> Relaxation:
        """The same relaxation with what it has to know of a space.

        Raises:
            ValueError: it has no use in this space.
        """
        return self

    def parameters(self, space: SearchSpace, generator: torch.Generator) -> dict[str, Tensor]:
        """Initial parameters: normal with deviation 1e-3, as in DARTS's code, one for each option of each open choice."""
        return {choice.name: normal(len(choice.options), generator) for choice in open_choices(space)}

    @abstractmethod
    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        """The mix of one pass, through which gradients reach the parameters.

        Args:
            generator: of everything random in it.
            for_weights: whether the weights learn in this pass, or the architecture.
        """

    def strengths(self, parameters: Parameters) -> dict[str, Tensor]:
        """How strong each option of each choice is, from 0 to 1, without anything random: for records, and to derive from."""
        return {name: values.detach().softmax(0) for name, values in parameters.items()}

    def option_strengths(self, parameters: Parameters) -> dict[str, Tensor]:
        """``strengths``, but where a method has closed an edge those that its options have among themselves."""
        return self.strengths(parameters)

    def temperature(self, moment: Moment) -> float | None:
        """The temperature at that moment, for methods that have one."""
        return None

    def courses(self, moment: Moment) -> dict[str, float]:
        """What changes by a schedule, as it is at that moment: curves by ``"group/name"``."""
        temperature = self.temperature(moment)
        return {} if temperature is None else {"architecture_temperature/temperature": temperature}

    def settle(self, before: Parameters, parameters: Parameters) -> None:  # noqa: B027 - optional
        """Called without gradients after each step of the parameters, with their former values; may change them in place."""


def open_choices(space: SearchSpace) -> list[Choice]:
    """The choices of a space that have several options."""
    return [choice for choice in space.choices if len(choice.options) > 1]


def normal(number: int, generator: torch.Generator, deviation: float = 1e-3) -> Tensor:
    """``(number,)`` normal numbers."""
    return deviation * torch.randn(number, generator=generator)


def gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    """Gumbel noise of the shape of ``like``."""
    noise = torch.empty(like.shape, dtype=like.dtype).exponential_(generator=generator)
    return -noise.clamp_min(torch.finfo(noise.dtype).tiny).log().to(like.device)


def one_hot(position: int, like: Tensor) -> Tensor:
    """A vector of the shape of ``like`` that is 1 at one position."""
    hard = torch.zeros_like(like)
    hard[position] = 1.0
    return hard


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """``hard`` to the last bit, with the gradient of ``soft``: ``soft + (hard - soft).detach()`` is off by a rounding."""
    passed: Tensor = _StraightThrough.apply(hard, soft)
    return passed


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hard: Tensor, soft: Tensor) -> Tensor:
        return hard.detach().clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return None, grad
