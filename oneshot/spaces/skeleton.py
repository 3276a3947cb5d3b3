"""Skeletons: weightless networks on the meta device whose blocks are made once and shared by all architectures."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from oneshot.arch import Arch
from oneshot.spaces.base import SearchSpace


@dataclass(frozen=True, eq=False)
class Block:
    """A block that ``make`` was asked for: its name and a module on the meta device. The same name, constructor and arguments
    give the same ``Block`` object.
    """

    name: str
    module: nn.Module
    constructor: Callable[..., nn.Module]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def construct(self) -> nn.Module:
        """A new module of this kind with initial weights of its own."""
        return self.constructor(*self.args, **self.kwargs)

    def arguments(self) -> dict[str, str]:
        """What ``make`` was given, as text: numbers and strings as they are, classes and functions by name."""
        try:
            signature = inspect.signature(self.constructor)
        except (TypeError, ValueError):
            return {f"arg{index}": _text(value) for index, value in enumerate(self.args)} | {
                name: _text(value) for name, value in self.kwargs.items()
            }
        bound = signature.bind(*self.args, **self.kwargs).arguments
        named: dict[str, Any] = {}
        for name, value in bound.items():
            named |= value if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD else {name: value}
        return {name: _text(value) for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class Layer:
    """One layer of a network, as tables of latency name it: a block, or an operation outside of all blocks.

    Args:
        block: the block's name; empty outside of blocks.
        kind: the name of the block's constructor, or of the operation (``"mean"``).
        input_shapes, output_shape: without the batch, ``(channels, height, width)`` or ``(features,)``.
        arguments: of the constructor or operation, as text.
        module: the block on the meta device; None outside of blocks.
    """

    block: str
    kind: str
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    arguments: Mapping[str, str]
    module: nn.Module | None = None

    def describe(self, kind: str | None = None, arguments: Mapping[str, object] | None = None) -> str:
        """``"Kind-input:HxWxC-output:HxWxC-argument:value-..."``, with another kind or other arguments where they are given."""
        shown = self.arguments if arguments is None else arguments
        inputs = "+".join(map(_extent, self.input_shapes))
        parts = [kind or self.kind, f"input:{inputs}", f"output:{_extent(self.output_shape)}"]
        return "-".join([*parts, *(f"{name}:{value}" for name, value in shown.items())])


class Skeletons:
    """Builds the skeleton of any architecture of ``space`` from cached blocks."""

    def __init__(self, space: SearchSpace) -> None:
        space.check()
        self.space = space
        self._blocks: dict[Hashable, Block] = {}

    def network(self, arch: Arch, wrap: Callable[[Block], nn.Module] | None = None) -> tuple[nn.Module, list[Block]]:
        """The network of ``arch`` and its blocks, each once, in the order in which they were made. ``wrap`` may put another
        module into the network in place of a block's.

        Raises:
            ValueError: two different blocks of the network have the same name.
        """
        used: dict[str, Block] = {}

        def make(name: str, block: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
            key = (name, _freeze(block), _freeze(args), _freeze(kwargs))
            made = self._blocks.get(key)
            if made is None:
                with torch.device("meta"):
                    module = block(*args, **kwargs)
                made = self._blocks[key] = Block(name, module, block, args, kwargs)
            if used.setdefault(name, made) is not made:
                raise ValueError(
                    f"two different blocks of one network are called {name!r}; give each a name of its own, or make both with "
                    "the same arguments to share one block"
                )
            return made.module if wrap is None else wrap(made)

        return self.space.build(arch, make), list(used.values())


def _extent(shape: tuple[int, ...]) -> str:
    """``HxWxC`` of ``(channels, height, width)``; other shapes as they are."""
    return "x".join(map(str, (*shape[1:], shape[0]) if len(shape) == 3 else shape))


def _text(value: Any) -> str:
    """A value in the name of a layer: equal for equal layers, without addresses."""
    if isinstance(value, (bool, int, float, str)):
        return str(int(value) if isinstance(value, bool) else value)
    if isinstance(value, functools.partial):
        given = [*map(_text, value.args), *(f"{name}={_text(item)}" for name, item in value.keywords.items())]
        return f"{_text(value.func)}({','.join(given)})"
    if isinstance(value, (list, tuple)):
        return "x".join(map(_text, value))
    if isinstance(value, dict):
        return ",".join(f"{name}={_text(item)}" for name, item in value.items())
    return str(getattr(value, "__name__", type(value).__name__))


def _freeze(value: Any) -> Hashable:
    """A hashable key: equal values that a block's constructor cannot tell apart get equal keys."""
    if isinstance(value, dict):
        return ("dict", tuple((key, _freeze(item)) for key, item in sorted(value.items())))
    if isinstance(value, (list, tuple)):
        return (type(value), tuple(_freeze(item) for item in value)) if value else type(value)
    if isinstance(value, functools.partial):
        return ("partial", _freeze(value.func), _freeze(value.args), _freeze(value.keywords))
    if isinstance(value, types.FunctionType) and "<locals>" in value.__qualname__:
        # A function defined inside `build` is a new object each time; the same code with the same variables makes the same block.
        variables = tuple(cell.cell_contents for cell in value.__closure__ or ())
        return (value.__code__, _freeze(variables), _freeze(value.__defaults__), _freeze(value.__kwdefaults__))
    if isinstance(value, (bool, float)):
        return (type(value), value)
    return value  # type: ignore[no-any-return]
