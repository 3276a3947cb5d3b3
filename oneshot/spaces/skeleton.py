"""Skeletons: weightless networks on the meta device whose blocks are made once and shared by all architectures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
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
    construct: Callable[[], nn.Module]


class Skeletons:
    """Builds the skeleton of any architecture of ``space`` from cached blocks."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._blocks: dict[Hashable, Block] = {}

    def network(self, arch: Arch, wrap: Callable[[Block], nn.Module] | None = None) -> tuple[nn.Module, list[Block]]:
        """The network of ``arch`` and its blocks in the order in which they were made. ``wrap`` may put another module into
        the network in place of a block's.
        """
        used: list[Block] = []

        def make(name: str, block: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
            key = (name, _freeze(block), _freeze(args), _freeze(kwargs))
            made = self._blocks.get(key)
            if made is None:
                with torch.device("meta"):
                    module = block(*args, **kwargs)
                made = self._blocks[key] = Block(name, module, lambda: block(*args, **kwargs))
            used.append(made)
            return made.module if wrap is None else wrap(made)

        return self.space.build(arch, make), used


def _freeze(value: Any) -> Hashable:
    """A hashable key: equal values that a block's constructor cannot tell apart get equal keys."""
    if isinstance(value, dict):
        return ("dict", tuple((key, _freeze(item)) for key, item in sorted(value.items())))
    if isinstance(value, (list, tuple)):
        return (type(value), tuple(_freeze(item) for item in value)) if value else type(value)
    if isinstance(value, functools.partial):
        return ("partial", value.func, _freeze(value.args), _freeze(value.keywords))
    if isinstance(value, (bool, float)):
        return (type(value), value)
    return value  # type: ignore[no-any-return]
