"""How architecture parameters learn: from which images, when, and by which optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from oneshot.arch import suggest
from oneshot.checking import check_count
from oneshot.samplers.differentiable.stopping import EarlyStopping

_ORDERS = ("first", "second", "joint")


@dataclass(frozen=True)
class ArchitectureLearning:
    """How architecture parameters learn, by Adam.

    Args:
        order: "first": from the loss of other images, weights as they are (Liu et al., DARTS, ICLR 2019, section 2.3); "second":
            from that loss after one more step of the weights (equation 7); "joint": together with the weights, from
            the loss of the training images.
        images: the share of the training images that they learn from, and the weights do not; 0 for "joint".
        lr, betas, weight_decay: of Adam.
        first_epoch: until then only weights learn.
        every: steps of the weights for one of the architecture.
        clip_grad: largest norm of their gradient; None is off.
        epsilon: of the second order: by how much the weights move to measure its product of a vector and a matrix,
            ``epsilon / norm of the vector``.
        stopping: when they stop to learn; None is never.

    Raises:
        ValueError: a number out of range.
    """

    order: str = "first"
    images: float = 0.5
    lr: float = 3e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-3
    first_epoch: int = 0
    every: int = 1
    clip_grad: float | None = None
    epsilon: float = 1e-2
    stopping: EarlyStopping | None = None

    def __post_init__(self) -> None:
        if self.order not in _ORDERS:
            raise ValueError(
                f"sampler.learning.order is one of {', '.join(_ORDERS)}, not {self.order!r}{suggest(self.order, _ORDERS)}"
            )
        if self.order == "joint" and self.images != 0:
            raise ValueError(f"order=joint learns from the weights' own images: its images is 0, not {self.images}")
        if self.order != "joint" and not 0 < self.images < 1:
            raise ValueError(f"sampler.learning.images is a share between 0 and 1, not {self.images}")
        if self.order == "joint" and self.stopping is not None:
            raise ValueError(
                "sampler.learning.stopping looks at the loss on the architecture's own images, and with order=joint it has none: "
                "take order=first or another sampler"
            )
        check_count(0, "sampler.learning.", first_epoch=self.first_epoch)
        check_count(1, "sampler.learning.", every=self.every)
        betas = tuple(self.betas)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"sampler.learning.betas are two numbers from 0 to below 1, not {list(betas)}")
        object.__setattr__(self, "betas", betas)
        for name, is_open in (("lr", True), ("epsilon", True), ("weight_decay", False)):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (is_open and value == 0):
                raise ValueError(f"sampler.learning.{name} is {'above' if is_open else 'at least'} 0, not {value}")
        if self.clip_grad is not None and not self.clip_grad > 0:
            raise ValueError(f"sampler.learning.clip_grad is above 0, or null for none, not {self.clip_grad}")
