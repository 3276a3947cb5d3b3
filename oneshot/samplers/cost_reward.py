"""Costs in rewards: MnasNet's soft constraint (Tan et al., CVPR 2019, equation 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from oneshot.arch import Arch, suggest
from oneshot.costs import CostTable
from oneshot.spaces.base import SearchSpace

_COSTS = ("macs", "params")


@dataclass(frozen=True)
class CostReward:
    """The factor ``(cost / target) ** weight`` of an architecture's reward; MnasNet's weight is -0.07."""

    table: CostTable
    cost: str
    target: float
    weight: float

    @classmethod
    def make(cls, space: SearchSpace, cost: str | None, target: float | None, weight: float) -> CostReward | None:
        """None without a ``cost``.

        Raises:
            ValueError: a cost that is not known, or no positive target for it.
        """
        if cost is None:
            return None
        if cost not in _COSTS:
            raise ValueError(f"cost is {' or '.join(_COSTS)}, or null for none, not {cost!r}{suggest(cost, _COSTS)}")
        if target is None or not target > 0:
            raise ValueError(f"cost_target is a number above 0 where cost is {cost!r}, not {target}")
        return cls(CostTable(space), cost, target, weight)

    def __call__(self, arch: Arch) -> float:
        """The factor of ``arch``."""
        value = float(getattr(self.table.cost(arch), self.cost))
        return math.pow(max(value, 1.0) / self.target, self.weight)
