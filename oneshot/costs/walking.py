"""Networks walked without computing: every call of a block, and every operation outside of blocks, on the meta device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from oneshot.arch import Arch
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.skeleton import Block, Skeletons

Stand = Callable[[Block], nn.Module]
"""Makes what stands in a network for a block."""


class Call(NamedTuple):
    """One call in a network, with tensors on the meta device.

    Attributes:
        block: the block that was called; None for an operation outside of blocks.
        source: the block, or the operation.
        args, kwargs: of the call.
        output: what it gave.
        macs: multiply-accumulates of convolutions, matrix products and attention in it.
    """

    block: Block | None
    source: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    macs: int


class Walked(NamedTuple):
    """A network, the calls in it in the order of execution, and its input and output on the meta device."""

    network: nn.Module
    calls: list[Call]
    image: Tensor
    logits: Tensor


class Walk:
    """Walks networks of ``space`` at ``batch`` images; a block that was called with inputs of the same shapes is looked up."""

    def __init__(self, space: SearchSpace, batch: int = 1) -> None:
        self.space = space
        self._batch = batch
        self._skeletons = Skeletons(space)
        self._known: dict[Any, tuple[Any, int]] = {}

    def __call__(self, arch: Arch) -> Walked:
        """The network of ``arch``, an architecture of the space, and its calls."""
        calls: list[Call] = []
        network, image, logits = self.run(arch, lambda stand: self._skeletons.network(arch, stand)[0], calls.append)
        return Walked(network, calls, image, logits)

    def run(
        self, arch: Arch, build: Callable[[Stand], nn.Module], record: Callable[[Call], None]
    ) -> tuple[nn.Module, Tensor, Tensor]:
        """Records each call of what ``build`` makes with stands for its blocks, on an image of the size that ``arch`` takes.
        Returns the network, the image and the logits.
        """

        def run(block: Block, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            key = (block, shapes_of(args), shapes_of(kwargs))
            if key not in self._known:
                block.module.eval()
                self._known[key] = recorder.inside(lambda: block.module(*args, **kwargs))
            output, macs = self._known[key]
            record(Call(block, block, args, kwargs, output, macs))
            return output

        recorder = _Recorder(record)
        network = build(lambda block: _Stand(block, run))
        network.eval()
        image = torch.empty(self._batch, *self.space.input_shape(arch), device="meta")
        with torch.no_grad(), recorder:
            logits = network(image)
        return network, image, logits


class _Stand(nn.Module):
    """Stands for a block in a skeleton, and has the block's attributes, which the network may read."""

    def __init__(self, block: Block, run: Callable[[Block, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self._block, self._run = block, run

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._block.module, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._block, args, kwargs)


_aten = torch.ops.aten
_ELEMENTWISE = frozenset({_aten.hardswish, _aten.hardswish_, _aten.hardsigmoid, _aten.hardsigmoid_})


class _Recorder(TorchDispatchMode):
    """Counts multiply-accumulates and records operations outside of blocks. The operations of which networks mostly consist are
    spared their meta kernels, which take milliseconds.
    """

    def __init__(self, record: Callable[[Call], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._record = record
        self._is_inside = False
        self._macs = 0

    def inside(self, run: Callable[[], Any]) -> tuple[Any, int]:
        """What ``run`` gives, a block's call, and its multiply-accumulates; nothing in it is recorded."""
        self._is_inside, self._macs = True, 0
        try:
            return run(), self._macs
        finally:
            self._is_inside = False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        operation, kwargs = func.overloadpacket, kwargs or {}
        macs = 0
        if operation in _ELEMENTWISE:
            output = args[0]
        elif operation is _aten.native_batch_norm:
            output = args[0], args[0], args[0]
        elif operation is _aten.add and shapes_of(args[0]) == shapes_of(args[1]):
            output = args[0]
        elif func is _aten.convolution.default and (sizes := _convolved(*args)) is not None:
            output = args[0].new_empty(sizes)
            macs = math.prod(sizes) * math.prod(args[1].shape[1:])
        elif func is _aten.mean.dim and args[1] and not kwargs:
            output = args[0].new_empty(_averaged(args[0].shape, *args[1:]))
        else:
            output = func(*args, **kwargs)
            if operation in flop_registry:
                macs = flop_registry[operation](*args, **kwargs, out_val=output) // 2
        if self._is_inside:
            self._macs += macs
        else:
            self._record(Call(None, func, args, kwargs, output, macs))
        return output


def _convolved(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> tuple[int, ...] | None:
    """The shape of what a plain convolution gives; None for others and for those that torch refuses."""
    dims = weight.ndim - 2
    if transposed or image.ndim != weight.ndim or image.shape[1] != weight.shape[1] * groups or len(stride) != dims:
        return None
    if len(padding) != dims or len(dilation) != dims:
        return None
    extents = zip(image.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    sizes = [(size + 2 * pad - far * (kernel - 1) - 1) // step + 1 for size, kernel, step, pad, far in extents]
    return (image.shape[0], weight.shape[0], *sizes) if min(sizes) > 0 else None


def _averaged(shape: torch.Size, dims: Sequence[int], keepdim: bool = False) -> list[int]:
    """The shape of a mean over ``dims``."""
    gone = {dim % len(shape) for dim in dims}
    return [1 if dim in gone else size for dim, size in enumerate(shape) if keepdim or dim not in gone]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        items: Iterable[Any] = value.values() if isinstance(value, dict) else value
        for item in items:
            yield from tensors_in(item)


def shapes_of(value: Any) -> Any:
    """The shapes of all tensors in nested arguments, as a hashable key."""
    if isinstance(value, Tensor):
        return value.shape
    if isinstance(value, dict):
        return tuple((key, shapes_of(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(shapes_of, value))
    return value


def first_shape(value: Any) -> tuple[int, ...]:
    """The shape without the batch of the first tensor in nested arguments; empty where there is none."""
    return next((tuple(tensor.shape[1:]) for tensor in tensors_in(value)), ())
