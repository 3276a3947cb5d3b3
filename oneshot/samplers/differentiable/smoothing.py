"""SmoothDARTS (Chen and Hsieh, ICML 2020): weights learn on mixes near the one that the architecture gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from oneshot.arch import suggest
from oneshot.checking import check_count
from oneshot.mix import Mix
from oneshot.processes import add_up
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.regulariser import Regulariser

_KINDS = ("random", "adversarial")


@dataclass(frozen=True)
class Smoothing(Regulariser):
    """Moves each weight of the weights' mix by at most epsilon: at random (equation 6), or by projected gradient ascent of
    the loss (equation 7; code ``attacker/perturb.py``, ``Linf_PGD_alpha``), from a random start in steps of
    ``2 * epsilon / steps``; what does not raise the loss is dropped. The weights of a choice stay at least 0 and keep their sum
    (the code's ``clip``, where that is 1), and options that weigh nothing stay out.

    Args:
        kind: "random" or "adversarial".
        start, end: of epsilon, which grows linearly; published 0.03 to 0.3, which it would reach after the last epoch.
        steps: of the ascent, a pass and a half each; published 7.

    Raises:
        ValueError: a setting is out of range.
    """

    kind: str = "random"
    start: float = 0.03
    end: float = 0.3
    steps: int = 7

    disturbs = True

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind is {' or '.join(_KINDS)}, not {self.kind!r}{suggest(self.kind, _KINDS)}")
        for name in ("start", "end"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is above 0, not {value}")
        check_count(1, steps=self.steps)

    def epsilon(self, moment: Moment) -> float:
        """By how much weights are moved in an epoch."""
        return self.start + (self.end - self.start) * moment.epoch / moment.epochs

    def records(self, strengths: Mapping[str, Tensor], moment: Moment) -> dict[str, float]:
        return {"architecture_perturbation/epsilon": self.epsilon(moment)}

    def disturbed(self, mix: Mix, loss: Callable[[Mix], Tensor], moment: Moment, generator: torch.Generator) -> Mix:
        if mix.takes_one:  # there is nothing to move
            return mix
        epsilon = self.epsilon(moment)
        before = {name: mix[name].detach() for name in mix}
        moved = {
            name: values + epsilon * (2 * torch.rand(len(values), generator=generator) - 1).to(values)
            for name, values in before.items()
        }
        near = _clipped(moved, before)
        if self.kind == "random":
            return mix.weighing(near)
        for _ in range(self.steps):
            inputs = {name: values.requires_grad_() for name, values in near.items()}
            slopes = torch.autograd.grad(loss(mix.weighing(inputs)), list(inputs.values()), allow_unused=True)
            uphill = [None if grad is None else grad.contiguous() for grad in slopes]
            add_up([grad for grad in uphill if grad is not None])  # of the parts of a loss that several processes have
            near = {
                name: values.detach() + (0 if grad is None else 2 * epsilon / self.steps * grad.sign())
                for (name, values), grad in zip(inputs.items(), uphill, strict=True)
            }
            near = {name: values.clamp(before[name] - epsilon, before[name] + epsilon) for name, values in near.items()}
            near = _clipped(near, before)
        found = mix.weighing(near)
        with torch.no_grad():
            losses = torch.stack([loss(found), loss(mix)])
            add_up([losses])
            return found if losses[0] >= losses[1] else mix


def _clipped(weights: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights from 0, with the sums that they had before, where all of a choice are not 0."""
    found = {}
    for name, values in weights.items():
        total = before[name].sum()
        kept = torch.where(before[name] != 0, values.clamp_min(0).minimum(total), 0)
        found[name] = kept * total / kept.sum() if kept.sum() > 0 else before[name].clone()
    return found
