"""MACs and parameters of an architecture without a forward pass: measured per block, cached, and summed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oneshot.arch import Arch
from oneshot.costs.additive import AdditiveTable
from oneshot.costs.walking import Walk, first_shape
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Codes
from oneshot.spaces.skeleton import Block


@dataclass(frozen=True)
class Cost:
    """Multiply-accumulates of one image and the number of parameters.

    MACs are those of convolutions, linear layers and attention products, without BatchNorm, biases, pooling and activations, as
    the Once-for-All and NAS-Bench-Macro tables count them; parameters include BatchNorm's weights and biases, not its
    statistics.
    """

    macs: int
    params: int


@dataclass(frozen=True)
class BlockCost:
    """One block of a network, in the order of execution; shapes are ``(channels, height, width)`` or ``(features,)``."""

    name: str
    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    macs: int
    params: int


class CostTable:
    """Costs of every architecture of ``space``.

    ``blocks`` walks the network's skeleton and is exact. The other methods look up the same numbers in an ``AdditiveTable``,
    which the first of them fills by walking some hundred architectures.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._walked = Walk(space)
        self._params: dict[Block, int] = {}
        self._table = AdditiveTable(space, lambda arch: _contributions(self._walk(arch)), num_values=2, integers=True)

    def blocks(self, arch: Arch) -> list[BlockCost]:
        """Every block's cost, exact.

        Raises:
            ValueError: ``arch`` is not an architecture of the space.
        """
        self.space.validate(arch)
        return self._walk(arch)

    def cost(self, arch: Arch) -> Cost:
        """MACs and parameters of ``arch``, an architecture of the space."""
        return self.costs([arch])[0]

    def costs(self, archs: Iterable[Arch]) -> list[Cost]:
        """MACs and parameters of many architectures of the space."""
        values = self._table(self._table.coding.encode(archs))
        return [Cost(macs, params) for macs, params in values.tolist()]

    def costs_of(self, codes: Codes) -> NDArray[np.int64]:
        """``(num_archs, 2)``: MACs and parameters of the architectures with these codes."""
        return self._table(codes).astype(np.int64, copy=False)

    @property
    def functions(self) -> dict[str, Callable[[Codes], NDArray[np.int64]]]:
        """MACs and parameters by name as functions of codes, ``(num_archs,)`` each: what ``Problem`` takes."""
        return {"macs": lambda codes: self.costs_of(codes)[:, 0], "params": lambda codes: self.costs_of(codes)[:, 1]}

    def original(self) -> Cost:
        """MACs and parameters of the network that the space was made of.

        Raises:
            ValueError: it was not made of one.
        """
        if self.space.original is None:
            raise ValueError(
                f"a percentage is one of the network that a space was made of, and {type(self.space).__name__} was made of none: "
                "give the limit as a number"
            )
        walked = self._walk(self.space.original)
        return Cost(sum(block.macs for block in walked), sum(block.params for block in walked))

    # Walking ---------------------------------------------------------------------------------------------------------

    def _walk(self, arch: Arch) -> list[BlockCost]:
        network, calls, image, logits = self._walked(arch)
        costs: list[BlockCost] = []
        counted: set[Block] = set()
        for call in calls:
            if call.block is None:
                continue
            params = 0 if call.block in counted else self._num_params(call.block)
            counted.add(call.block)
            kind, shape = type(call.block.module).__name__, first_shape((call.args, call.kwargs))
            costs.append(BlockCost(call.block.name, kind, shape, first_shape(call.output), call.macs, params))
        outside = sum(call.macs for call in calls if call.block is None)
        if outside:
            costs.append(BlockCost("", type(network).__name__, first_shape(image), first_shape(logits), outside, 0))
        return costs

    def _num_params(self, block: Block) -> int:
        if block not in self._params:
            self._params[block] = sum(parameter.numel() for parameter in block.module.parameters())
        return self._params[block]


def _contributions(walked: list[BlockCost]) -> dict[str, tuple[int, int]]:
    totals: dict[str, tuple[int, int]] = {}
    for block in walked:
        macs, params = totals.get(block.name, (0, 0))
        totals[block.name] = (macs + block.macs, params + block.params)
    return totals
