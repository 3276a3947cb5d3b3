"""Channel groups: what inside a block can be made narrower, found by trial on any block and verified on numbers.

Nothing is traced and no architecture is known by name. One layer of the block is made narrower on the meta device, and every
layer behind it is adapted to the width that reaches it. Where the block's output keeps its shape, the tensors that changed
hold the same channels. They are believed only if permuting these channels leaves the block's output as it is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.sharing import reordered

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_SMALLEST = 8  # channels that are taken away in a trial, or one group of a grouped convolution where that is more
_MAX_TRIALS = 12
_TOLERANCE = 1e-6  # relative, in float64; what is no group changes the output by 1e-2 and more


@dataclass(frozen=True)
class Member:
    """One tensor that holds the channels of a group.

    Args:
        name: in the block, such as ``"conv_pw.weight"``.
        dim: the dimension along which the channels lie.
        parts: how often they lie there, one whole set after another: 3 in the weight of a fused query, key and value.
    """

    name: str
    dim: int
    parts: int = 1


@dataclass(frozen=True)
class Group:
    """Channels, or attention heads, that a block can do without.

    Args:
        units: how many there are that can go one at a time: channels, groups of a grouped convolution, or heads.
        size: channels of one unit.
        members: the tensors in which they lie; the first is the one that reads them.
        attributes: ``(module, name)`` of numbers of the block's modules that shrink with the units, such as ``in_channels``.
    """

    units: int
    size: int
    members: tuple[Member, ...]
    attributes: tuple[tuple[str, str], ...]

    @property
    def width(self) -> int:
        """The number of channels."""
        return self.units * self.size


@dataclass(frozen=True)
class Inputs:
    """What a block was called with, and the block on the same device."""

    block: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def meta(self) -> Inputs:
        """The same on the meta device."""
        return Inputs(copy.deepcopy(self.block).to("meta"), on_meta(self.args), on_meta(self.kwargs))

    def run(self) -> Any:
        """The output of the block."""
        with torch.no_grad():
            return self.block(*self.args, **self.kwargs)


def on_meta(value: Any) -> Any:
    """Nested arguments with every tensor on the meta device."""
    return _mapped(value, lambda tensor: tensor.to("meta"))


def producers(block: nn.Module) -> dict[str, nn.Module]:
    """The layers of a block that make channels: linear layers and convolutions that are not grouped, by name."""
    return {
        name: module
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, _CONVOLUTIONS) and module.groups == 1)
    }


def out_width(module: nn.Module) -> int:
    """The channels that a linear layer or a convolution makes."""
    return int(module.weight.shape[0])  # type: ignore[index, union-attr]


def find_channel_groups(inputs: Inputs, taken: set[str]) -> tuple[list[Group], list[str]]:
    """The channel groups of a block in eval mode, and why there are not more.

    Args:
        inputs: the block with random weights, and real values for it.
        taken: names of producers that other groups hold already; those found are added.
    """
    skeleton = inputs.meta()
    baseline = Baseline.of(skeleton)
    makers = {name: module for name, module in producers(skeleton.block).items() if name not in taken}
    groups: list[Group] = []
    reasons: list[str] = []
    for position, (name, module) in enumerate(makers.items()):
        width = out_width(module)
        if name in taken:
            continue
        later = [other for other in list(makers)[position + 1 :] if other not in taken]
        reason = "" if width > _SMALLEST else "narrow"
        for parts, team in _teams(name, width, [other for other in later if out_width(makers[other]) == width]):
            size = _unit(skeleton.block, width // parts)
            if width % (parts * size) or width // (parts * size) < 2 or width // parts <= _SMALLEST:
                reason = reason or "narrow"
                continue
            trial = Trial(baseline, width // (parts * size), size, math.ceil(_SMALLEST / size))
            if trial.units <= trial.removed:
                reason = reason or "narrow"
                continue
            found = trial.run({other: parts for other in team}, lambda n, width=width, parts=parts: n * parts // width)
            if isinstance(found, str):
                reason = reason or found
            elif not is_group(inputs, found):
                reason = "exchanging its channels changes the output"
            else:
                groups.append(found)
                taken.update(team)
                reason = ""
                break
        if reason and reason != "narrow":
            reasons.append(f"{type(module).__name__}: {reason}")
    return groups, reasons


def _teams(name: str, width: int, others: list[str]) -> Iterator[tuple[int, list[str]]]:
    """What is to shrink together, the likeliest first: the layer alone, with one of equal width (the gates of squeeze and
    excitation), with all of them; then as two parts, which a gated layer multiplies.
    """
    yield 1, [name]
    yield from ((1, [name, other]) for other in others[:_MAX_TRIALS])
    if len(others) > 1:
        yield 1, [name, *others]
    if width % 2 == 0:
        yield 2, [name]


def _unit(block: nn.Module, width: int) -> int:
    """Channels that have to stay together: those of a group of the grouped convolutions and norms of that width."""
    sizes = [
        module.in_channels // module.groups
        for module in block.modules()
        if isinstance(module, _CONVOLUTIONS) and module.groups > 1 and module.in_channels == width
    ] + [
        module.num_channels // module.num_groups
        for module in block.modules()
        if isinstance(module, nn.GroupNorm) and module.num_groups > 1 and module.num_channels == width
    ]
    return math.lcm(*sizes) if sizes else 1


# Trials --------------------------------------------------------------------------------------------------------------


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
    """Takes ``removed`` of ``units`` away from some layers of a block, and sees what becomes of the others."""

    def __init__(self, baseline: Baseline, units: int, size: int, removed: int = 1) -> None:
        self.baseline, self.units, self.size, self.removed = baseline, units, size, removed
        self._parts: dict[str, int] = {}

    def run(
        self,
        makers: Mapping[str, int],
        parts_of: Callable[[int], int],
        numbers: Sequence[tuple[str, str]] = (),
        extra: Mapping[str, int] | None = None,
    ) -> Group | str:
        """The group that results, or in a few words why there is none.

        Args:
            makers: the layers that make fewer channels, and how many sets of them each makes.
            parts_of: how many sets lie in a width of what reaches another layer.
            numbers: ``(module, name)`` of attributes to shrink besides those of layers.
            extra: further tensors that hold the units, and the dimension along which they lie.
        """
        block = copy.deepcopy(self.baseline.inputs.block)
        self._parts = {}
        try:
            for name, parts in makers.items():
                layer = block.get_submodule(name)
                for local in ("weight", "bias"):
                    self._cut(layer, name, local, 0, parts)
                _shrink(layer, "out_channels" if isinstance(layer, _CONVOLUTIONS) else "out_features", self._kept)
            for tensor, dim in (extra or {}).items():
                owner, _, local = tensor.rpartition(".")
                self._cut(block.get_submodule(owner), owner, local, dim, 1)
            for owner, attribute in numbers:
                _shrink(block.get_submodule(owner), attribute, self._kept)
            output = self._run_adapting(block, parts_of)
        except Exception as error:  # whatever a forward makes of a width that it does not expect
            return " ".join(str(error).split())[:60] or type(error).__name__
        if output != self.baseline.output:
            return "its channels reach the block's output"
        return self._group(block, set(makers))

    def _kept(self, number: int) -> int:
        if number * self.removed % self.units:
            raise ValueError(f"{number} is no multiple of {self.units}")
        return number - number * self.removed // self.units

    def _cut(self, module: nn.Module, path: str, local: str, dim: int, parts: int) -> None:
        kind: dict[str, Any] = module._parameters if local in module._parameters else module._buffers
        tensor = kind.get(local)
        if tensor is None:
            return
        if tensor.shape[dim] % (parts * self.units):
            raise ValueError(f"{tensor.shape[dim]} channels in {parts} times {self.units}")
        if parts > 1 and local in module._buffers:
            raise ValueError("statistics of a fused layer")
        kind[local] = taken_from(tensor, tensor.narrow(dim, 0, self._kept(tensor.shape[dim])))
        self._parts[f"{path}.{local}" if path else local] = parts

    def _run_adapting(self, block: nn.Module, parts_of: Callable[[int], int]) -> tuple[torch.Size, ...]:
        hooks = []
        for name, module in block.named_modules():
            if name in self.baseline.reaching:
                hooks.append(module.register_forward_pre_hook(self._adapting(name, parts_of)))
        try:
            return shapes_in(Inputs(block, self.baseline.inputs.args, self.baseline.inputs.kwargs).run())
        finally:
            for handle in hooks:
                handle.remove()

    def _adapting(self, name: str, parts_of: Callable[[int], int]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        before = self.baseline.reaching[name]
        adapted = False

        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            nonlocal adapted
            after = args[0].shape
            if after == before or adapted:
                return
            changed = [dim for dim, sizes in enumerate(zip(before, after, strict=True)) if sizes[0] != sizes[1]]
            if len(changed) != 1 or after[changed[0]] != self._kept(before[changed[0]]):
                raise ValueError("another part of it changes as well")
            self._adapt(module, name, before[changed[0]], parts_of(before[changed[0]]))
            adapted = True

        return hook

    def _adapt(self, module: nn.Module, name: str, width: int, parts: int) -> None:
        """Makes a layer take ``width`` channels less those that are gone."""
        if parts < 1 or width % parts:
            raise ValueError(f"a width of {width}")
        if isinstance(module, nn.Linear):
            self._cut(module, name, "weight", 1, parts)
            _shrink(module, "in_features", self._kept)
        elif isinstance(module, _CONVOLUTIONS) and module.groups > 1:
            if module.in_channels != module.out_channels or self._kept(width) % (width // module.groups):
                raise ValueError("a grouped convolution")
            for local in ("weight", "bias"):
                self._cut(module, name, local, 0, parts)
            for attribute in ("in_channels", "out_channels", "groups"):
                _shrink(module, attribute, self._kept)
        elif isinstance(module, _CONVOLUTIONS):
            self._cut(module, name, "weight", 1, parts)
            _shrink(module, "in_channels", self._kept)
        else:
            self._adapt_other(module, name, width, parts)

    def _adapt_other(self, module: nn.Module, name: str, width: int, parts: int) -> None:
        """Norms, scales and activations with weights: every tensor with one dimension of that width."""
        own = {**module._parameters, **module._buffers}
        for local, tensor in own.items():
            if tensor is not None and tensor.numel() > 1:
                dims = [dim for dim, size in enumerate(tensor.shape) if size == width]
                if len(dims) != 1:
                    raise ValueError(f"{type(module).__name__}.{local} {tuple(tensor.shape)}")
                self._cut(module, name, local, dims[0], parts)
        for attribute, value in vars(module).items():
            if value in (width, (width,)) and attribute in ("num_features", "normalized_shape", "num_channels", "dim"):
                _shrink(module, attribute, self._kept)
        if isinstance(module, nn.GroupNorm) and module.num_groups > 1:
            _shrink(module, "num_groups", self._kept)

    def _group(self, block: nn.Module, makers: set[str]) -> Group | str:
        members = []
        for name, tensor in named_tensors(block):
            before = self.baseline.tensors[name]
            if tensor.shape != before:
                dims = [dim for dim, sizes in enumerate(zip(before, tensor.shape, strict=True)) if sizes[0] != sizes[1]]
                members.append(Member(name, dims[0], self._parts[name]))
        readers = [member for member in members if member.name.endswith("weight") and member.dim == 1]
        if not readers:
            return "nothing reads its channels"
        first = readers[-1]
        attributes = [
            (path, attribute)
            for path, module in block.named_modules()
            for attribute, value in vars(module).items()
            if not attribute.startswith("_")
            and vars(self.baseline.inputs.block.get_submodule(path)).get(attribute) != value
            and is_number(value)
        ]
        others = [member for member in members if member is not first]
        return Group(self.units, self.size, (first, *others), tuple(attributes))


# Numbers -------------------------------------------------------------------------------------------------------------


def is_group(inputs: Inputs, group: Group) -> bool:
    """Whether exchanging the units of ``group`` leaves the block's output as it is, to rounding."""
    order = torch.randperm(group.units, generator=torch.Generator().manual_seed(group.units))
    block = copy.deepcopy(inputs.block)
    for member in group.members:
        owner, _, local = member.name.rpartition(".")
        module = block.get_submodule(owner)
        kind: dict[str, Any] = module._parameters if local in module._parameters else module._buffers
        kind[local] = taken_from(kind[local], reordered(kind[local], member.dim, member.parts, order))
    before, after = (_tensors_in(one.run()) for one in (inputs, Inputs(block, inputs.args, inputs.kwargs)))
    return all(
        bool((one - other).abs().max() <= _TOLERANCE * one.abs().max())
        for one, other in zip(before, after, strict=True)
        if one.is_floating_point()
    )


def leading(tensor: Tensor, dim: int, parts: int, share: tuple[int, int]) -> Tensor:
    """The first ``share[0]`` of ``share[1]`` units of every part along ``dim``."""
    split = tensor.unflatten(dim, (parts, share[1], -1))
    return split.narrow(dim + 1, 0, share[0]).flatten(dim, dim + 2)


def narrow(block: nn.Module, group: Group, kept: int) -> None:
    """Takes all but the first ``kept`` units of ``group`` from a block, in place."""
    if kept == group.units:
        return
    for member in group.members:
        owner, _, local = member.name.rpartition(".")
        module = block.get_submodule(owner)
        kind: dict[str, Any] = module._parameters if local in module._parameters else module._buffers
        kind[local] = taken_from(
            kind[local], leading(kind[local], member.dim, member.parts, (kept, group.units)).contiguous()
        )
    for path, attribute in group.attributes:
        _shrink(block.get_submodule(path), attribute, lambda number: number * kept // group.units)


def taken_from(tensor: Tensor, values: Tensor) -> Tensor:
    """``values`` as a parameter where ``tensor`` is one."""
    values = values.detach()
    return nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values


def holds_tensors(module: nn.Module) -> bool:
    """Whether parameters or buffers are the module's own."""
    return any(tensor is not None for tensor in (*module._parameters.values(), *module._buffers.values()))


def named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def shapes_in(value: Any) -> tuple[torch.Size, ...]:
    """The shapes of all tensors in nested outputs."""
    return tuple(tensor.shape for tensor in _tensors_in(value))


def is_number(value: object) -> bool:
    """Whether an attribute is a positive number, or a tuple of one."""
    if isinstance(value, tuple):
        return len(value) == 1 and is_number(value[0])
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _shrink(module: nn.Module, attribute: str, kept: Callable[[int], int]) -> None:
    value = vars(module)[attribute]
    setattr(module, attribute, (kept(value[0]),) if isinstance(value, tuple) else kept(value))


def _tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = value.values()
    return [tensor for item in value for tensor in _tensors_in(item)] if isinstance(value, (list, tuple)) else []


def _mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(item, change) for item in value)
    return {key: _mapped(item, change) for key, item in value.items()} if isinstance(value, Mapping) else value
