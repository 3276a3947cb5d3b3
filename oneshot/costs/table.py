"""MACs and parameters of an architecture without a forward pass: measured per block, cached, and summed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from oneshot.arch import Arch
from oneshot.costs.additive import AdditiveTable
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Codes
from oneshot.spaces.skeleton import Block, Skeletons


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
        self._skeletons = Skeletons(space)
        self._measured: dict[Any, tuple[int, Any]] = {}
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

    # Walking ---------------------------------------------------------------------------------------------------------

    def _walk(self, arch: Arch) -> list[BlockCost]:
        walked: list[BlockCost] = []
        counted: set[Block] = set()

        def record(block: Block, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            key = (block, _shapes(args), _shapes(kwargs))
            if key not in self._measured:
                block.module.eval()
                outside = counter.macs
                output = block.module(*args, **kwargs)
                self._measured[key] = (counter.macs - outside, output)
                counter.macs = outside
            macs, output = self._measured[key]
            if block not in self._params:
                self._params[block] = sum(parameter.numel() for parameter in block.module.parameters())
            params = 0 if block in counted else self._params[block]
            counted.add(block)
            kind = type(block.module).__name__
            walked.append(BlockCost(block.name, kind, _first_shape((args, kwargs)), _first_shape(output), macs, params))
            return output

        network, _ = self._skeletons.network(arch, wrap=lambda block: _Probe(block, record))
        network.eval()
        image = torch.empty(1, *self.space.input_shape(arch), device="meta")
        with torch.no_grad(), _MACCounter() as counter:
            logits = network(image)
        if counter.macs:
            kind = type(network).__name__
            walked.append(BlockCost("", kind, _first_shape(image), _first_shape(logits), counter.macs, 0))
        return walked


_aten = torch.ops.aten
_ELEMENTWISE = frozenset({_aten.hardswish, _aten.hardswish_, _aten.hardsigmoid, _aten.hardsigmoid_})


class _Probe(nn.Module):
    """Stands for a block in a skeleton: looks up what it costs and returns a tensor of its output's shape."""

    def __init__(self, block: Block, record: Callable[[Block, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self._block, self._record = block, record

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._record(self._block, args, kwargs)


class _MACCounter(TorchDispatchMode):
    """Counts multiply-accumulates, and spares operations that have none their meta kernels, which take milliseconds."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        operation = func.overloadpacket
        if operation in _ELEMENTWISE:
            return args[0]
        if operation is _aten.native_batch_norm:
            return args[0], args[0], args[0]
        if operation is _aten.add and _shapes(args[0]) == _shapes(args[1]):
            return args[0]
        output = func(*args, **(kwargs or {}))
        if operation in flop_registry:
            self.macs += flop_registry[operation](*args, **(kwargs or {}), out_val=output) // 2
        return output


def _contributions(walked: list[BlockCost]) -> dict[str, tuple[int, int]]:
    totals: dict[str, tuple[int, int]] = {}
    for block in walked:
        macs, params = totals.get(block.name, (0, 0))
        totals[block.name] = (macs + block.macs, params + block.params)
    return totals


def _shapes(value: Any) -> Any:
    """The shapes of all tensors in nested arguments, as a hashable key."""
    if isinstance(value, Tensor):
        return value.shape
    if isinstance(value, dict):
        return tuple((key, _shapes(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(_shapes(item) for item in value)
    return value


def _first_shape(value: Any) -> tuple[int, ...]:
    """The shape without the batch of the first tensor in nested arguments."""
    if isinstance(value, Tensor):
        return tuple(value.shape[1:])
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return next((shape for shape in map(_first_shape, items) if shape), ())
