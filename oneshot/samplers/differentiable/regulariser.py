"""What is added to the loss from which architecture parameters learn."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from oneshot.arch import suggest
from oneshot.mix import Mix
from oneshot.samplers.differentiable.moment import Moment
from oneshot.samplers.differentiable.relaxation import Parameters
from oneshot.spaces.base import SearchSpace


class Regulariser(ABC):
    """A term of the architecture's loss. A sampler may have several, by names of their own."""

    def prepare(self, space: SearchSpace) -> None:  # noqa: B027 - optional
        """Called once with the space, where it needs something of it, such as its costs.

        Raises:
            ValueError: it has no use in this space.
        """

    @abstractmethod
    def __call__(self, loss: Tensor, mix: Mix, parameters: Parameters, moment: Moment) -> Tensor:
        """The loss with the term in it, by which it is usually added to, or multiplied with.

        Args:
            loss: so far, with those of earlier regularisers.
            mix: of the pass that made the loss.
        """


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
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise ValueError(f"the weight of a regulariser is at least 0, not {self.weight}")
        if self.norm not in ("l1", "l2"):
            raise ValueError(f"norm is l1 or l2, not {self.norm!r}{suggest(self.norm, ('l1', 'l2'))}")

    def __call__(self, loss: Tensor, mix: Mix, parameters: Parameters, moment: Moment) -> Tensor:
        distances = torch.cat([mix[name] - 0.5 for name in mix])
        return loss - self.weight * (distances.square() if self.norm == "l2" else distances.abs()).mean()
