"""Trials on the meta device: some layers of a block made narrower, and what that does to the others."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.sharing import Place
from oneshot.spaces.groups import (
    Group,
    Number,
    change,
    holds_tensors,
    like,
    named_tensors,
    numbers_of,
    owner_of,
)

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True)
class Inputs:
    """What a block was called with, and the block on the same device."""

    block: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def meta(self) -> Inputs:
        """The same on the meta device."""
        return Inputs(fresh_copy(self.block).to("meta"), on_meta(self.args), on_meta(self.kwargs))

    @functools.cached_property
    def reference(self) -> list[Tensor]:
        """The tensors that the block gives, computed once."""
        return tensors_in(self.run())

    def run(self) -> Any:
        """The output of the block."""
        with torch.no_grad():  # on lists of its own, to which some blocks append
            return self.block(*mapped(self.args, _same), **mapped(self.kwargs, _same))


@dataclass(frozen=True)
class Baseline:
    """A block on the meta device as it is: the shapes of its tensors, outputs, and of what reaches each layer."""

    inputs: Inputs
    tensors: Mapping[str, torch.Size]
    output: tuple[torch.Size, ...]
    reaching: Mapping[str, torch.Size]

    @classmethod
    def of(cls, inputs: Inputs) -> Baseline:
        """The baseline of a block on the meta device."""
        reaching: dict[str, torch.Size] = {}

        def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
                if args and isinstance(args[0], Tensor):
                    reaching.setdefault(name, args[0].shape)

            return hook

        hooks = [
            module.register_forward_pre_hook(note(name))
            for name, module in inputs.block.named_modules()
            if holds_tensors(module)
        ]
        try:
            output = shapes_in(inputs.run())
        finally:
            for handle in hooks:
                handle.remove()
        return cls(inputs, {name: tensor.shape for name, tensor in named_tensors(inputs.block)}, output, reaching)


class Trial:
    """Takes ``removed`` of ``units`` away from some layers of a block, and sees what becomes of the others.

    Args:
        units: channels, groups of a grouped convolution, or heads.
        size: channels of a unit in what reaches other layers.

    Attributes:
        reached: the layers that were called before the run ended or failed.
    """

    def __init__(self, baseline: Baseline, units: int, size: int, removed: int = 1) -> None:
        self.baseline, self.units, self.size, self.removed = baseline, units, size, removed
        self._places: dict[str, Place] = {}
        self._open: dict[str, int] = {}
        self._parts_of: Mapping[int, int] = {}
        self.reached: set[str] = set()

    def run(
        self,
        makers: Mapping[str, int],
        parts_of: Mapping[int, int] | None = None,
        numbers: Sequence[Number] = (),
        extra: Mapping[str, int] | None = None,
    ) -> list[Group] | str:
        """The groups that this may be, the likeliest first, or in a few words why it is none.

        Args:
            makers: the layers that make fewer channels, and how many sets of them each makes.
            parts_of: how many sets lie in what reaches a layer, by its width, where the widths do not tell.
            numbers: attributes to shrink besides those of layers.
            extra: further tensors that hold the units, and the dimension along which they lie.
        """
        block = fresh_copy(self.baseline.inputs.block)
        self._places, self._open, self._parts_of, self.reached = {}, {}, parts_of or {}, set()
        try:
            for name, parts in makers.items():
                layer = block.get_submodule(name)
                self._cut_outputs(layer, name, parts)
                self._shrink(layer, "out_channels" if isinstance(layer, CONVOLUTIONS) else "out_features")
            for tensor, dim in (extra or {}).items():
                path, _, local = tensor.rpartition(".")
                self._cut(block.get_submodule(path), path, local, dim, 1)
            for number in numbers:
                change(block, number, self._kept)
            output = self._run_adapting(block)
        except Exception as error:  # whatever a forward makes of a width that it does not expect
            return _in_words(error)
        if output != self.baseline.output:
            return "its channels reach the block's output"
        return self._groups(block)

    def _kept(self, number: int) -> int:
        if number * self.removed % self.units:
            raise _Unfit(f"{number} does not go with {self.units}")
        return number - number * self.removed // self.units

    def _shrink(self, module: nn.Module, attribute: str, gone: int | None = None) -> None:
        value = vars(module)[attribute]
        number = ("", attribute, 0 if isinstance(value, tuple) else None)
        change(module, number, self._kept if gone is None else lambda count: count - gone)

    def _cut(
        self,
        module: nn.Module,
        path: str,
        local: str,
        dim: int,
        parts: int,
        gone: int | None = None,
        is_open: bool = False,
    ) -> None:
        """Takes ``gone`` entries of a tensor away, of all of which the units are a part where its place is open."""
        _, kind, _ = owner_of(module, local)
        tensor = kind.get(local)
        if tensor is None:
            return
        size = tensor.shape[dim]
        if not is_open and size % (parts * self.units):
            raise _Unfit(f"{size} channels are not {parts} times {self.units}")
        kept = self._kept(size) if gone is None else size - gone
        kind[local] = like(tensor, tensor.detach().narrow(dim, 0, kept))
        name = f"{path}.{local}" if path else local
        self._places[name] = Place(dim, parts)
        if is_open:
            self._open[name] = size

    def _cut_outputs(self, layer: nn.Module, name: str, parts: int) -> None:
        """Cuts what a layer has for each channel that it makes: its weight and bias, also the gains of some."""
        width = len(layer.weight)  # type: ignore[arg-type]
        for local, tensor in {**layer._parameters, **layer._buffers}.items():
            if tensor is not None and tensor.dim() and len(tensor) == width:
                self._cut(layer, name, local, 0, parts)

    def _run_adapting(self, block: nn.Module) -> tuple[torch.Size, ...]:
        hooks = [
            module.register_forward_pre_hook(self._adapting(name))
            for name, module in block.named_modules()
            if name in self.baseline.reaching
        ]
        try:
            return shapes_in(Inputs(block, self.baseline.inputs.args, self.baseline.inputs.kwargs).run())
        finally:
            for handle in hooks:
                handle.remove()

    def _adapting(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        before = self.baseline.reaching[name]
        is_done = False

        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            nonlocal is_done
            self.reached.add(name)
            after = args[0].shape
            if after == before or is_done:
                return
            changed = [dim for dim, sizes in enumerate(zip(before, after, strict=True)) if sizes[0] != sizes[1]]
            if len(changed) != 1:
                raise _Unfit("its channels change their place")
            if not _reads_along(module, changed[0], len(before)):
                return  # to the layer they are more or fewer places, or images
            width, gone = before[changed[0]], before[changed[0]] - after[changed[0]]
            if width in self._parts_of or gone * self.units == width * self.removed:
                parts, is_open = self._parts_of.get(width, max(1, gone // (self.removed * self.size))), False
            else:
                parts, is_open = 1, True
                if gone != self.removed * self.size or width < self.units * self.size:
                    raise _Unfit("its channels are joined with others")
            self._adapt(module, name, width, parts, gone, is_open)
            is_done = True

        return hook

    def _adapt(self, module: nn.Module, name: str, width: int, parts: int, gone: int, is_open: bool) -> None:
        """Makes a layer take ``width`` channels less those that are gone."""
        if isinstance(module, nn.Linear):
            self._cut(module, name, "weight", 1, parts, gone, is_open)
            self._shrink(module, "in_features", gone)
        elif isinstance(module, CONVOLUTIONS) and module.groups > 1:
            if module.in_channels != module.out_channels or (width - gone) % (width // module.groups) or is_open:
                raise _Unfit("a grouped convolution that mixes them with others")
            self._cut_outputs(module, name, parts)
            for attribute in ("in_channels", "out_channels", "groups"):
                self._shrink(module, attribute)
        elif isinstance(module, CONVOLUTIONS):
            self._cut(module, name, "weight", 1, parts, gone, is_open)
            self._shrink(module, "in_channels", gone)
        else:
            self._adapt_other(module, name, width, parts, gone, is_open)

    def _adapt_other(self, module: nn.Module, name: str, width: int, parts: int, gone: int, is_open: bool) -> None:
        """Norms, scales and activations with weights: every tensor with one dimension of that width."""
        own = {**module._parameters, **module._buffers}
        for local, tensor in own.items():
            if tensor is not None and tensor.numel() > 1:
                dims = [dim for dim, size in enumerate(tensor.shape) if size == width]
                if len(dims) != 1:
                    raise _Unfit(f"a {type(module).__name__} of another width")
                self._cut(module, name, local, dims[0], parts, gone, is_open)
        for attribute, value in list(vars(module).items()):
            if (
                type(value) in (int, tuple)
                and value in (width, (width,))
                and attribute in ("num_features", "normalized_shape", "num_channels", "dim")
            ):
                self._shrink(module, attribute, gone)
        if isinstance(module, nn.GroupNorm) and module.num_groups > 1:
            self._shrink(module, "num_groups")

    def _groups(self, block: nn.Module) -> list[Group] | str:
        readers = [name for name, place in self._places.items() if name.endswith("weight") and place.dim == 1]
        if not readers:
            return "nothing reads its channels"
        before = dict(numbers_of(self.baseline.inputs.block))
        numbers = {
            number: (before[number] - value) // self.removed
            for number, value in numbers_of(block)
            if before.get(number, value) != value
        }
        reader = next((name for name in reversed(readers) if name not in self._open), readers[-1])
        places = dict(self._places)
        if not self._open:
            return [Group(self.units, self.size, reader, places, numbers)]
        width = self.units * self.size
        total = min(self._open.values())
        starts = [start for step in range(total // width + 1) for start in (step * width, total - (step + 1) * width)]
        return [
            Group(
                self.units,
                self.size,
                reader,
                places | {name: Place(places[name].dim, 1, start, start + width) for name in self._open},
                numbers,
            )
            for start in dict.fromkeys(starts)
            if 0 <= start <= total - width
        ]


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _reads_along(module: nn.Module, dim: int, dims: int) -> bool:
    """Whether a layer mixes what lies along ``dim`` of ``dims`` dimensions."""
    if isinstance(module, nn.Linear):
        return dim == dims - 1
    return dim == 1 if isinstance(module, CONVOLUTIONS) else dim > 0


class _Unfit(ValueError):
    """A layer that cannot be adapted."""


def _in_words(error: Exception) -> str:
    """Why a block does not run with fewer channels; torch's errors name sizes, which differ from block to block."""
    text = " ".join(str(error).split())
    if isinstance(error, _Unfit):
        return text
    if "broadcast" in text or "must match" in text:
        return "its channels meet others that keep their number"
    if "invalid for input of size" in text:
        return "its channels are arranged by a fixed number"
    if "split" in text:
        return "its channels are split at a fixed place"
    return f"{type(error).__name__} ({text[:60]})"


def fresh_copy(block: nn.Module) -> nn.Module:
    """A copy in eval mode without what some attention layers keep of their weights between calls in eval mode."""
    return copy.deepcopy(block).train().eval()


def shapes_in(value: Any) -> tuple[torch.Size, ...]:
    """The shapes of all tensors in nested outputs."""
    return tuple(tensor.shape for tensor in tensors_in(value))


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in nested outputs."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = tuple(value.values())
    return [tensor for item in value for tensor in tensors_in(item)] if isinstance(value, (list, tuple)) else []


def on_meta(value: Any) -> Any:
    """Nested arguments with every tensor on the meta device."""
    return mapped(value, lambda tensor: tensor.to("meta"))


def mapped(value: Any, by: Callable[[Tensor], Any]) -> Any:
    """Nested arguments with ``by`` applied to every tensor."""
    if isinstance(value, Tensor):
        return by(value)
    if isinstance(value, (list, tuple)):
        items = [mapped(item, by) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return {key: mapped(item, by) for key, item in value.items()} if isinstance(value, Mapping) else value
