"""The layers of an architecture's network, from its skeleton: every block, and every operation outside of the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from oneshot.arch import Arch
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.skeleton import Block, Layer, Skeletons


@dataclass(frozen=True)
class Step:
    """One execution of a layer: its name in tables of latency, and what ran, with tensors on the meta device.

    Args:
        name: of the layer, as ``SearchSpace.layer_name`` has it.
        block: the name of the block; empty outside of blocks.
        source: the block, or the operation.
        args, kwargs: of the call.
    """

    name: str
    block: str
    source: Block | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class LayerWalk:
    """Walks networks of ``space`` at ``batch`` images without computing: blocks that were seen before are looked up."""

    def __init__(self, space: SearchSpace, batch: int = 1) -> None:
        self.space = space
        self._batch = batch
        self._skeletons = Skeletons(space)
        self._outputs: dict[Any, tuple[Layer, Any]] = {}

    def __call__(self, arch: Arch) -> list[Step]:
        """The layers of ``arch`` in the order of execution, without those that tables leave out.

        Raises:
            ValueError: ``arch`` is not an architecture of the space.
        """
        self.space.validate(arch)
        steps: list[Step] = []

        def add(
            layer: Layer, source: Block | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> None:
            name = self.space.layer_name(layer, arch)
            if name:
                steps.append(Step(name, layer.block, source, args, kwargs))

        def run(block: Block, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            key = (block, _shapes(args), _shapes(kwargs))
            if key not in self._outputs:
                block.module.eval()
                with recorder.paused():
                    output = block.module(*args, **kwargs)
                kind = getattr(block.constructor, "__name__", type(block.module).__name__)
                layer = _layer(block.name, kind, block.arguments(), (args, kwargs), output, block.module)
                self._outputs[key] = layer, output
            layer, output = self._outputs[key]
            add(layer, block, args, kwargs)
            return output

        recorder = _Recorder(add)
        network, _ = self._skeletons.network(arch, wrap=lambda block: _Stand(block, run))
        network.eval()
        image = torch.empty(self._batch, *self.space.input_shape(arch), device="meta")
        with torch.no_grad(), recorder:
            network(image)
        return steps


class _Stand(nn.Module):
    """Stands for a block in a skeleton."""

    def __init__(self, block: Block, run: Callable[[Block, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self._block, self._run = block, run

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._block, args, kwargs)


_aten = torch.ops.aten
# Operations inside of blocks whose meta kernels would take milliseconds.
_KEEP_SHAPE = frozenset({_aten.hardswish, _aten.hardswish_, _aten.hardsigmoid, _aten.hardsigmoid_})


class _Recorder(TorchDispatchMode):
    """Hands on every operation on tensors but views, which move no data."""

    def __init__(self, add: Callable[[Layer, Callable[..., Any], tuple[Any, ...], dict[str, Any]], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._add = add
        self._is_paused = False

    def paused(self) -> _Pause:
        return _Pause(self)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._is_paused and func.overloadpacket in _KEEP_SHAPE:
            return args[0]
        if self._is_paused and func.overloadpacket is _aten.native_batch_norm:
            return args[0], args[0], args[0]
        output = func(*args, **(kwargs or {}))
        if not self._is_paused and not func.is_view and any(True for _ in _tensors((args, kwargs))):
            arguments = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False))
            plain = {
                name: str(value).replace(" ", "")
                for name, value in (arguments | (kwargs or {})).items()
                if isinstance(value, (bool, int, float, str, list, tuple)) and not any(True for _ in _tensors(value))
            }
            layer = _layer("", func.overloadpacket.__name__, plain, (args, kwargs), output, None)
            self._add(layer, func, args, kwargs or {})
        return output


class _Pause:
    """While it lasts, nothing is recorded."""

    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder

    def __enter__(self) -> None:
        self._recorder._is_paused = True

    def __exit__(self, *_: object) -> None:
        self._recorder._is_paused = False


def _layer(
    block: str, kind: str, arguments: dict[str, str], inputs: Any, output: Any, module: nn.Module | None
) -> Layer:
    input_shapes = tuple(tuple(tensor.shape[1:]) for tensor in _tensors(inputs))
    output_shape = next((tuple(tensor.shape[1:]) for tensor in _tensors(output)), ())
    return Layer(block, kind, input_shapes, output_shape, arguments, module)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        items: Iterable[Any] = value.values() if isinstance(value, dict) else value
        for item in items:
            yield from _tensors(item)


def _shapes(value: Any) -> Any:
    """The shapes of all tensors in nested arguments, as a hashable key."""
    if isinstance(value, Tensor):
        return value.shape
    if isinstance(value, dict):
        return tuple((key, _shapes(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_shapes, value))
    return value
