"""Expected MACs or latency in the loss of the architecture, by the formulas of ProxylessNAS and FBNet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from oneshot.arch import suggest
from oneshot.costs import ExpectedCost, LatencyTable
from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.regulariser import Regulariser, check_weight
from oneshot.samplers.differentiable.relaxation import Parameters
from oneshot.spaces.base import SearchSpace

_COSTS = {"macs": "MACs", "latency_ms": "ms"}
_FORMULAS = ("add", "multiply")
_OVER = ("mix", "softmax")
_TINY = 1e-30


@dataclass
class CostTerm(Regulariser):
    """The expected cost ``E`` of a network whose options are drawn by their shares of the weights of a choice, which need not add
    up to 1. So it says which options edges should have, not which edges there should be: how much an edge weighs beside others,
    which PC-DARTS and MaskConnect learn, has no part in it.

    ``formula="add"`` is ``loss + weight * (E - reference) / reference`` (Cai, Zhu and Han, ProxylessNAS, ICLR 2019, equation 7;
    as in the code, ``nas_manager.py``, ``add#linear``, relative to the reference). ``formula="multiply"`` is
    ``loss * weight * (log E / log reference) ** power`` (the code's ``mul#log``; Wu et al., FBNet, CVPR 2019, equation 2, is that
    without a reference).

    Args:
        cost: "macs", or "latency_ms" from a table.
        formula: "add" or "multiply".
        weight: published 0.2 to add; to multiply, ProxylessNAS 1 and FBNet 0.2.
        reference: the cost to aim at, in MACs or milliseconds; None, to multiply, is a logarithm of 1.
        power: to multiply; published 0.6 in both.
        over: the weights whose expectation it is: those of the "mix", as in FBNet, or the "softmax" of the parameters, as in
            ProxylessNAS, whose mixes are of two options.
        latency_table: a table of latencies of the space, see ``LatencyTable.load``.

    Raises:
        ValueError: a setting is out of range, or there is no table of the latency, or no reference where it is needed.
    """

    cost: str = "macs"
    formula: str = "add"
    weight: float = 0.2
    reference: float | None = None
    power: float = 0.6
    over: str = "mix"
    latency_table: str | None = None
    _expected: ExpectedCost | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("cost", self.cost, (*_COSTS,)),
            ("formula", self.formula, _FORMULAS),
            ("over", self.over, _OVER),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {' or '.join(allowed)}, not {value!r}{suggest(value, allowed)}")
        check_weight(weight=self.weight, power=self.power)
        least = 0 if self.formula == "add" else 1
        if isinstance(self.reference, str):
            raise ValueError(f"reference is a number of MACs or milliseconds, not {self.reference!r}")
        if self.reference is not None and not (self.reference > least and math.isfinite(self.reference)):
            raise ValueError(f"reference is a number above {least} where formula={self.formula}, not {self.reference}")
        if self.reference is None and self.formula == "add":
            raise ValueError("formula=add needs a reference: the cost to aim at, in MACs or milliseconds")
        if (self.latency_table is None) == (self.cost == "latency_ms"):
            raise ValueError(
                "cost=latency_ms takes its times from latency_table=FOLDER, which measure_latency.py writes; cost=macs takes none"
            )

    def prepare(self, space: SearchSpace) -> None:
        """Counts what options cost in this space.

        Raises:
            ValueError: the space cannot be mixed, the table lacks a layer of it, or, to multiply, a network costs 1 or less.
        """
        if self.latency_table is None:
            self._expected = ExpectedCost.macs(space)
        else:
            self._expected = ExpectedCost.latency(space, LatencyTable.load(self.latency_table, space))
        if self.formula == "multiply" and not (least := self._expected.least()) > 1:
            raise ValueError(
                f"formula=multiply takes the logarithm of a cost above 1, and the cheapest network of this space has {least:.3g} "
                f"{_COSTS[self.cost]}: take formula=add with a reference"
            )

    def __call__(self, loss: Tensor, mix: Mix, parameters: Parameters, moment: Moment) -> Tensor:
        expected = self._of(mix if self.over == "mix" else {name: parameters[name].softmax(0) for name in mix})
        if self.formula == "add":
            assert self.reference is not None
            return loss + self.weight * (expected - self.reference) / self.reference
        if not expected > 1:  # of weights that add up to less than 1
            raise ValueError(
                f"formula=multiply takes the logarithm of a cost above 1, and {expected.item():.3g} {_COSTS[self.cost]} are "
                "expected: take formula=add"
            )
        scale = 1.0 if self.reference is None else math.log(self.reference)
        return loss * self.weight * (torch.log(expected) / scale) ** self.power

    def records(self, strengths: Mapping[str, Tensor], moment: Moment) -> dict[str, float]:
        return {f"expected_{self.cost}/expected": float(self._of(strengths))}

    def _of(self, weights: Mapping[str, Tensor]) -> Tensor:
        assert self._expected is not None, "prepare() comes first"
        return self._expected({name: _shares(values) for name, values in weights.items()})


def _shares(values: Tensor) -> Tensor:
    """Of weights that add up to 1 or not; none, and nothing to learn from, where all of a choice weigh nothing."""
    total = values.sum()
    is_there = total > _TINY
    return values / torch.where(is_there, total, 1.0) * is_there
