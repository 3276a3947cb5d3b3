"""MaskConnect (Ahmed and Torresani, ECCV 2018, section 3): which K of the connections into a node are there is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oneshot.checking import check_count
from oneshot.mix import Mix
from oneshot.samplers.differentiable.edges import EdgeNormalisation, named, parted
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.relaxation import Parameters, one_hot, open_choices, straight_through
from oneshot.spaces.base import SearchSpace

_HALF = 0.5
_LEAST = 1e-6  # so that K connections can always be drawn


@dataclass(frozen=True)
class Connections(EdgeNormalisation):
    """The weights of another relaxation on ``kept`` connections into each node; the others weigh nothing. Each connection has a
    mask from 0 to 1, at first one half, and connections are drawn without replacement by their masks (equation 2). A mask has
    the gradient of the binary one, which is that of a connection that passes, also where it does not (equation 3), and is clipped
    to its range after each step. Derived are the connections with the largest masks.

    Args:
        kept: connections into a node; nodes with fewer have them all.
        nothing: the position of the option that is no connection, by choice; None is found in the space.

    Raises:
        ValueError: kept is no whole number of at least 1; in use, the space has no nodes.
    """

    kept: int = 2
    nothing: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        check_count(1, kept=self.kept)

    def on(self, space: SearchSpace) -> Connections:
        none = {name: join.none for join in space.joins for name in join.choices}
        nothing = {
            choice.name: choice.options.index(none[choice.name])
            for choice in open_choices(space)
            if none.get(choice.name) in choice.options
        }
        made = super().on(space)
        assert isinstance(made, Connections)
        return replace(made, nothing=nothing)

    def parameters(self, space: SearchSpace, generator: torch.Generator) -> dict[str, Tensor]:
        own, edges = parted(super().parameters(space, generator))
        return own | {name: torch.full_like(values, _HALF) for name, values in edges.items()}

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        own, edges = parted(parameters)
        mix = self.of.mix(own, moment, generator, for_weights)
        weights, probed = dict(mix), {name: set(mix.probed(name)) for name in mix}
        for name, masks in edges.items():
            likely = masks.detach().cpu().clamp_min(_LEAST)
            drawn = torch.multinomial(likely, min(self.kept, len(masks)), generator=generator)
            binary = torch.zeros_like(masks).index_fill(0, drawn.to(masks.device), 1.0)
            for choice, gate, is_open in zip(
                named(name), straight_through(binary, masks), binary.tolist(), strict=True
            ):
                weights[choice] = mix[choice] * gate
                if not is_open:  # its gradient is that of the options, which run as constants
                    probed[choice] |= {place for place, number in enumerate(mix.numbers(choice)) if number}
        return Mix(weights, probed)

    def strengths(self, parameters: Parameters) -> dict[str, Tensor]:
        own, edges = parted(parameters)
        found = self.of.strengths(own)
        for name, masks in edges.items():
            for place in masks.detach().sort(descending=True, stable=True).indices.tolist()[self.kept :]:
                choice = named(name)[place]
                weights = found[choice]
                places = self.nothing or {}
                found[choice] = one_hot(places[choice], weights) if choice in places else torch.zeros_like(weights)
        return found

    def option_strengths(self, parameters: Parameters) -> dict[str, Tensor]:
        return self.of.option_strengths(parted(parameters)[0])

    def settle(self, before: Parameters, parameters: Parameters) -> None:
        super().settle(before, parameters)
        for masks in parted(parameters)[1].values():
            masks.clamp_(0, 1)
