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
from oneshot.spaces.making import Making


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
            made = self.block(used, name, block, args, kwargs)
            return made.module if wrap is None else wrap(made)

        return self.space.build(arch, Making(arch, make)), list(used.values())

    def block(
        self,
        used: dict[str, Block],
        name: str,
        constructor: Callable[..., nn.Module],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Block:
        """One block, which is then among the ``used`` ones of its network.

        Raises:
            ValueError: another block of the network has its name.
        """
        key = (name, _freeze(constructor), _freeze(args), _freeze(kwargs))
        made = self._blocks.get(key)
        if made is None:
            with torch.device("meta"):
                module = constructor(*args, **kwargs)
            made = self._blocks[key] = Block(name, module, constructor, args, kwargs)
        if used.setdefault(name, made) is not made:
            raise ValueError(
                f"two different blocks of one network are called {name!r}; give each a name of its own, or make both with "
                "the same arguments to share one block"
            )
        return made


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
