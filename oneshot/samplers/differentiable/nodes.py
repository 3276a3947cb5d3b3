"""I-DARTS (Jiang et al., EMNLP 2019, section 3.2): one softmax over all operations on all edges into a node."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from oneshot.mix import Mix
from oneshot.samplers.differentiable.edges import joined
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.relaxation import Parameters, Relaxation
from oneshot.spaces.base import SearchSpace


@dataclass(frozen=True)
class NodeSoftmax(Relaxation):
    """Operations on different edges compete too, so that those of one edge can all be weak. Choices that meet in no node have a
    softmax of their own.

    Args:
        nodes: the choices that meet in each node; None is those of the space.
    """

    nodes: tuple[tuple[str, ...], ...] | None = None

    def on(self, space: SearchSpace) -> NodeSoftmax:
        return self if self.nodes is not None else replace(self, nodes=joined(space))

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        return Mix(self._shares(parameters))

    def strengths(self, parameters: Parameters) -> dict[str, Tensor]:
        return self._shares({name: values.detach() for name, values in parameters.items()})

    def _shares(self, parameters: Parameters) -> dict[str, Tensor]:
        found = {name: values.softmax(0) for name, values in parameters.items()}
        for node in self.nodes or ():
            names = [name for name in node if name in parameters]
            if names:
                shares = torch.cat([parameters[name] for name in names]).softmax(0)
                found |= zip(names, shares.split([len(parameters[name]) for name in names]), strict=True)
        return found
