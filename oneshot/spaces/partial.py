"""Mixtures on a part of the channels (Xu et al., PC-DARTS, ICLR 2020, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from oneshot.spaces.mixed import Computed, Mixed


class PartialMixed(Mixed):
    """Options that work on the first channels and leave the others as they are; then the channels are shuffled, so that others
    come first in the next cell. Where options halve the size, the others are max-pooled (yuhuixu1993/PC-DARTS,
    ``model_search.py``, ``MixedOp``). The others weigh what all options, zero included, weigh together: 1 by a softmax, and by
    edge normalisation what their edge does.

    Args:
        choice: its name.
        options: what its options are, in their order, on ``channels // parts`` channels.
        channels: of the input, a multiple of ``parts``.
        parts: published 4.
    """

    def __init__(self, choice: str, options: Sequence[nn.Module | None], channels: int, parts: int) -> None:
        super().__init__(choice, options)
        self.channels, self.parts = channels // parts, parts

    @property
    def is_silent(self) -> bool:
        return not any(self.numbers)

    def forward(self, *inputs: Any, computed: Computed | None = None) -> Tensor:
        """``(batch, channels, height, width)`` to the same, or half the height and width, rounded up."""
        assert self.weights is not None
        (x,) = inputs
        computed = {} if computed is None else computed
        key = (id(x), self.channels)
        if key not in computed:  # one part for all mixtures of this input, so that they share what begins alike
            computed[key] = x[:, : self.channels]
        mixed = super().forward(computed[key], computed=computed)
        rest = x[:, self.channels :]
        if mixed.shape[2:] != rest.shape[2:]:
            rest = functional.max_pool2d(rest, 2, ceil_mode=True)
        joined = torch.cat((mixed, rest * self.weights.sum()), 1)
        return functional.channel_shuffle(joined, self.parts)

    def __deepcopy__(self, memo: dict[int, Any]) -> Mixed:
        twin = super().__deepcopy__(memo)
        assert isinstance(twin, PartialMixed)
        twin.channels, twin.parts = self.channels, self.parts
        return twin
