"""ProxylessNAS (Cai, Zhu and Han, ICLR 2019, section 3.2): binary gates, and the architecture learns from two paths at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oneshot.arch import suggest
from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.relaxation import Parameters, Relaxation, one_hot, straight_through

_PATHS = ("two", "all")


@dataclass(frozen=True)
class BinaryGates(Relaxation):
    """Weights learn on one path, drawn by the softmax of the parameters. For the architecture, options are drawn without
    replacement, one of them passes, and the others are computed as constants: the gradient of all their gates is known (equation
    4). After a step the parameters that changed are shifted, so that the probability of the others stays (section 3.2.1).

    Args:
        paths: "two", as in the paper, or "all", as ``full_v2`` of the published code, which takes the time of all.
    """

    paths: str = "two"

    @property
    def takes_one(self) -> bool:
        return True

    def __post_init__(self) -> None:
        if self.paths not in _PATHS:
            raise ValueError(f"paths is two or all, not {self.paths!r}{suggest(self.paths, _PATHS)}")

    def mix(self, parameters: Parameters, moment: Moment, generator: torch.Generator, for_weights: bool) -> Mix:
        weights: dict[str, Tensor] = {}
        probed: dict[str, list[int]] = {}
        for name, values in parameters.items():
            likely = values.detach().softmax(0).cpu()
            count = 1 if for_weights else 2 if self.paths == "two" else len(values)
            drawn = torch.multinomial(likely, min(count, len(values)), generator=generator)
            soft = torch.zeros_like(values).index_put((drawn.to(values.device),), values[drawn].softmax(0))
            active = int(drawn[torch.multinomial(soft.detach().cpu()[drawn], 1, generator=generator)])
            weights[name] = straight_through(one_hot(active, soft), soft)
            probed[name] = [int(position) for position in drawn if int(position) != active]
        return Mix(weights, probed)

    def settle(self, before: Parameters, parameters: Parameters) -> None:
        for name, values in parameters.items():
            changed = values != before[name]
            if changed.any():
                values[changed] -= values[changed].logsumexp(0) - before[name][changed].logsumexp(0)
