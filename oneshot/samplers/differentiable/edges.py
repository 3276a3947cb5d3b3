"""Edge normalisation (Xu et al., PC-DARTS, ICLR 2020, section 3.3): the edges into one node compete as well."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.relaxation import Parameters, Relaxation, normal
from oneshot.samplers.differentiable.softmax import Softmax
from oneshot.spaces.base import SearchSpace


@dataclass(frozen=True)
class EdgeNormalisation(Relaxation):
    """The weights of another relaxation, times the softmax of one more parameter an edge over the edges into a node.

    Args:
        of: the other relaxation.
    """

    of: Relaxation = field(default_factory=Softmax)

    def on(self, space: SearchSpace) -> EdgeNormalisation:
        joined(space)
        return replace(self, of=self.of.on(space))

    def parameters(self, space: SearchSpace, generator: torch.Generator) -> dict[str, Tensor]:
        own = self.of.parameters(space, generator)
        nodes = [[name for name in node if name in own] for node in joined(space)]
        return own | {_name(names): normal(len(names), generator) for names in nodes if names}

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        own, edges = parted(parameters)
        mix = self.of.mix(own, moment, generator, for_weights)
        factors = _factors(edges)
        return Mix(
            {name: weights * factors[name] if name in factors else weights for name, weights in mix.items()},
            {name: mix.probed(name) for name in mix},
        )

    def strengths(self, parameters: Parameters) -> dict[str, Tensor]:
        own, edges = parted(parameters)
        factors = _factors(edges)
        found = self.of.strengths(own)
        return {name: found[name] * factors[name].detach() if name in factors else found[name] for name in found}

    def courses(self, moment: Moment) -> dict[str, float]:
        return self.of.courses(moment)

    def settle(self, before: Parameters, parameters: Parameters) -> None:
        self.of.settle(parted(before)[0], parted(parameters)[0])


_PREFIX = "edges\n"  # no choice has a line break in its name


def joined(space: SearchSpace) -> tuple[tuple[str, ...], ...]:
    """The choices that meet in each node of a space.

    Raises:
        ValueError: the space has no nodes.
    """
    if not space.joins:
        raise ValueError(
            f"edges compete where several meet in a node, and {type(space).__name__} has no such nodes (joins): take another "
            "relaxation, such as sampler=darts"
        )
    return tuple(tuple(join.choices) for join in space.joins)


def _name(names: list[str]) -> str:
    return _PREFIX + "\n".join(names)


def named(parameter: str) -> list[str]:
    """The choices whose edges a parameter is of."""
    return parameter.removeprefix(_PREFIX).split("\n")


def parted(parameters: Parameters) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Those of the options, and those of the edges."""
    own = {name: values for name, values in parameters.items() if not name.startswith(_PREFIX)}
    return own, {name: values for name, values in parameters.items() if name.startswith(_PREFIX)}


def _factors(edges: Parameters) -> dict[str, Tensor]:
    """By choice."""
    return {
        choice: factor
        for name, values in edges.items()
        for choice, factor in zip(named(name), values.softmax(0), strict=True)
    }
