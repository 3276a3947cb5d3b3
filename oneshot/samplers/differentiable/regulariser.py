"""What keeps the architecture from going astray: terms of the loss from which it learns, and changes of what weights see."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from oneshot.arch import suggest
from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.relaxation import Parameters
from oneshot.spaces.base import SearchSpace


class Regulariser:
    """What a sampler may have beside its method, several of them by names of their own. Each does one of these, or more.

    Attributes:
        disturbs: whether it changes mixes on which weights learn, for which they need passes of their own.
    """

    disturbs = False

    def prepare(self, space: SearchSpace) -> None:
        """Called once with the space, where it needs something of it, such as its costs.

        Raises:
            ValueError: it has no use in this space.
        """

    def __call__(self, loss: Tensor, mix: Mix, parameters: Parameters, moment: Moment) -> Tensor:
        """The loss of the architecture with a term in it, by which it is usually added to, or multiplied with.

        Args:
            loss: so far, with those of earlier regularisers.
            mix: of the pass that made the loss.
        """
        return loss

    def disturbed(self, mix: Mix, loss: Callable[[Mix], Tensor], moment: Moment, generator: torch.Generator) -> Mix:
        """The mix on which the weights learn in place of ``mix``.

        Args:
            loss: of a mix, on the images of the step; leaves no trace.
        """
        return mix

    def records(self, strengths: Mapping[str, Tensor], moment: Moment) -> dict[str, float]:
        """What to record after an epoch, from the strengths of the options and from schedules: curves by ``"group/name"``."""
        return {}


def check_weight(**values: float) -> None:
    """Raises ValueError unless they are finite numbers from 0."""
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} is at least 0, not {value}")


@dataclass(frozen=True)
class ZeroOne(Regulariser):
    """FairDARTS's auxiliary loss, which drives weights away from one half, to 0 or 1 (Chu et al., ECCV 2020, equation 4; code
    ``fairdarts/separate_loss.py``): minus the mean of ``(weight - 0.5) ** 2`` or of ``|weight - 0.5|``, over all weights.

    Args:
        weight: published 10.
        norm: "l2" (published) or "l1".
    """

    weight: float = 10.0
    norm: str = "l2"

    def __post_init__(self) -> None:
        check_weight(weight=self.weight)
        if self.norm not in ("l1", "l2"):
            raise ValueError(f"norm is l1 or l2, not {self.norm!r}{suggest(self.norm, ('l1', 'l2'))}")

    def __call__(self, loss: Tensor, mix: Mix, parameters: Parameters, moment: Moment) -> Tensor:
        distances = torch.cat([mix[name] - 0.5 for name in mix])
        return loss - self.weight * (distances.square() if self.norm == "l2" else distances.abs()).mean()
