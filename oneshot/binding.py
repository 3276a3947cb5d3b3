"""How tensors of skeletons are filled from the bank, and copied together with the modules that hold them."""

from __future__ import annotations

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from oneshot.sharing import crop, leading_slice

Cut = Callable[[Tensor, torch.Size], Tensor]


class Binding(NamedTuple):
    """What one tensor of a skeleton is filled with: ``source[source_name]``, cut to ``shape`` unless it is taken whole; and
    what puts changed statistics back that are no view.
    """

    target: dict[str, Any]
    name: str
    blank: Tensor
    source: dict[str, Any]
    source_name: str
    cut: Cut | None
    shape: torch.Size
    write: Callable[[Tensor, Tensor], None] | None = None


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def default_cut(module: nn.Module, stored: Tensor, shape: torch.Size) -> Cut:
    """How a tensor of ``module`` is cut where the space names no rule."""
    cut = crop if isinstance(module, _CONVOLUTIONS) else leading_slice
    is_dense = shape[1:] == stored.shape[1:]
    # Statistics stay views, so that updates reach the bank.
    return cut if is_dense or not isinstance(stored, nn.Parameter) else Copied(cut)


@dataclass(frozen=True)
class Copied:
    """A copy of the slice: convolutions and matrix products would make one themselves, in forward and again in backward."""

    cut: Cut

    def __call__(self, stored: Tensor, shape: torch.Size) -> Tensor:
        """``stored`` cut to ``shape``."""
        return self.cut(stored, shape).clone()


@contextlib.contextmanager
def filled(bindings: list[Binding]) -> Iterator[None]:
    """Fills the tensors of skeletons from the bank, and afterwards takes out what was cut."""
    try:
        for target, name, _, source, source_name, cut, shape, _ in bindings:
            stored = source[source_name]
            target[name] = stored if cut is None else cut(stored, shape)
        yield
    finally:
        for target, name, blank, source, source_name, cut, _, write in bindings:
            if write is not None and target[name] is not blank:
                write(source[source_name], target[name])
            if cut is not None:
                target[name] = blank


def copies_of(bindings: list[Binding]) -> dict[int, Any]:
    """Copies of what the tensors of skeletons would be filled with, by ``id`` of what they hold now; without gradients."""
    copies: dict[int, Any] = {}
    for target, name, _, source, source_name, cut, shape, _ in bindings:
        stored = source[source_name]
        copied = stored if cut is None else cut(stored, shape)
        if cut.__class__ is not Copied:
            copied = copied.clone()
        # The class first: the metaclass of parameters takes its time.
        is_parameter = stored.__class__ is nn.Parameter or isinstance(stored, nn.Parameter)
        copies[id(target[name])] = nn.Parameter(copied, stored.requires_grad) if is_parameter else copied
    return copies


_IMMUTABLE = frozenset({bool, int, float, str, type(None), torch.dtype})
_CONTAINERS = frozenset({dict, OrderedDict, set, list})


def copy_module(module: nn.Module, copies: dict[int, Any]) -> nn.Module:
    """``copy.deepcopy`` of a module whose tensors are already copied, several times faster: ``copies`` is its memo, by ``id``."""
    made = copies.get(id(module))
    if made is not None:
        return made  # type: ignore[no-any-return]
    if hasattr(module.__class__, "__deepcopy__"):
        return copy.deepcopy(module, copies)
    clone = copies[id(module)] = module.__class__.__new__(module.__class__)
    state = clone.__dict__
    state.update(module.__dict__)
    for name, value in module.__dict__.items():
        kind = value.__class__
        if kind in _IMMUTABLE:
            continue
        if kind in _CONTAINERS and not value:
            state[name] = kind()
        elif name == "_modules":
            state[name] = {key: child and copy_module(child, copies) for key, child in value.items()}
        elif name in ("_parameters", "_buffers"):
            state[name] = {key: None if tensor is None else copies[id(tensor)] for key, tensor in value.items()}
        elif not (kind is tuple and _IMMUTABLE.issuperset(map(type, value))):
            state[name] = copy.deepcopy(value, copies)
    return clone
