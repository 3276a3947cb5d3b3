"""Groups of channels or attention heads that a block can do without, and blocks made narrower by them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.sharing import Place

Number = tuple[str, str, int | None]
"""A number that a block's module holds: its path, the attribute, and the item where that is a tuple."""


@dataclass(frozen=True)
class Group:
    """Channels, or attention heads, that a block can do without.

    Args:
        units: how many there are that can go one at a time: channels, groups of a grouped convolution, or heads.
        size: channels of one unit.
        reader: the tensor that reads them.
        members: every tensor in which they lie, by its name in the block, such as ``"conv_pw.weight"``, and where.
        numbers: what the block's modules hold that shrinks with the units, such as ``in_channels``, and how much goes with one.
    """

    units: int
    size: int
    reader: str
    members: Mapping[str, Place]
    numbers: Mapping[Number, int]

    @property
    def width(self) -> int:
        """The number of channels."""
        return self.units * self.size


def narrow(block: nn.Module, kept: Iterable[tuple[Group, int]]) -> None:
    """Takes all but the first units of groups from a block, in place: of each as many stay as are named."""
    kept = list(kept)
    # From the back, so that what lies before stays where it is.
    places = [(place, name, group, units) for group, units in kept for name, place in group.members.items()]
    for place, name, group, units in sorted(places, key=lambda item: -item[0].start):
        if units < group.units:
            _, kind, local = owner_of(block, name)
            pieces = place.pieces(kind[local].shape[place.dim], group.units, units)
            kind[local] = like(kind[local], taken(kind[local], place.dim, pieces))
    for group, units in kept:
        for number, step in group.numbers.items():
            change(block, number, functools.partial(operator.add, -(group.units - units) * step))


def taken(tensor: Tensor, dim: int, pieces: Iterable[tuple[int, int]]) -> Tensor:
    """A copy of the ``(start, length)`` pieces of a tensor, one behind another along ``dim``."""
    found = [tensor.narrow(dim, start, length) for start, length in pieces]
    return found[0].detach().clone() if len(found) == 1 else torch.cat([piece.detach() for piece in found], dim)


def owner_of(block: nn.Module, name: str) -> tuple[nn.Module, dict[str, Any], str]:
    """The module that holds the tensor ``name``, its parameters or its buffers, and the tensor's name there."""
    path, _, local = name.rpartition(".")
    module = block.get_submodule(path)
    return module, module._parameters if local in module._parameters else module._buffers, local


def like(tensor: Tensor, values: Tensor) -> Tensor:
    """``values`` as a parameter where ``tensor`` is one."""
    return nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values


def change(block: nn.Module, number: Number, by: Callable[[int], int]) -> None:
    """Sets a number of a module of ``block`` to what ``by`` makes of it."""
    path, attribute, item = number
    module = block.get_submodule(path)
    value = vars(module)[attribute]
    if item is None:
        setattr(module, attribute, by(value))
    else:
        setattr(module, attribute, type(value)((*value[:item], by(value[item]), *value[item + 1 :])))


def numbers_of(block: nn.Module) -> Iterator[tuple[Number, int]]:
    """The positive integers, alone and in tuples or lists, that are attributes of a block's modules."""
    for path, module in block.named_modules():
        for attribute, value in vars(module).items():
            if attribute.startswith("_"):
                continue
            if is_count(value):
                yield (path, attribute, None), value
            elif type(value) in (tuple, list) and value and all(map(is_count, value)):
                yield from (((path, attribute, item), count) for item, count in enumerate(value))


def is_count(value: object) -> bool:
    """Whether it is a positive integer."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def holds_tensors(module: nn.Module) -> bool:
    """Whether parameters or buffers are the module's own."""
    return any(tensor is not None for tensor in (*module._parameters.values(), *module._buffers.values()))
