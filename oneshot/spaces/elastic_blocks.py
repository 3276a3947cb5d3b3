"""What of an ordinary network can be elastic: which of its blocks can be narrower, and which it can do without."""

from __future__ import annotations

import contextlib
import copy
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.spaces.channel_groups import find_channel_groups, out_width, producers
from oneshot.spaces.groups import Group, like, named_tensors
from oneshot.spaces.heads import find_head_groups
from oneshot.spaces.input_sizes import nearest_size
from oneshot.spaces.trials import CONVOLUTIONS, Inputs, fresh_copy, mapped, on_meta, shapes_in

log = logging.getLogger(__name__)
_LARGE = 2 * 10**8  # multiply-accumulates of a block that is examined in float32, because float64 is slow
_MOST = 5 * 10**10  # multiply-accumulates of a network that is examined, and run twice, with whole images
_LEAST_SHARE = 0.05  # of the block's multiply-accumulates that a group has to take part in to be worth a choice


@dataclass(frozen=True)
class ElasticBlock:
    """What can be smaller in one block.

    Args:
        widths: groups of hidden channels.
        heads: groups of attention heads.
        kernels: depthwise convolutions with a large kernel, by name.
        kernel: the size of that kernel; 1 where there is none.
        is_removable: whether the network can do without it: its output has the shape of its input.
    """

    widths: tuple[Group, ...] = ()
    heads: tuple[Group, ...] = ()
    kernels: tuple[str, ...] = ()
    kernel: int = 1
    is_removable: bool = False

    @property
    def groups(self) -> tuple[Group, ...]:
        """All channel groups."""
        return self.widths + self.heads

    @property
    def is_narrowable(self) -> bool:
        """Whether a part of it can be smaller."""
        return bool(self.groups or self.kernels)


@dataclass(frozen=True)
class Analysis:
    """What ``analyse`` found in a network.

    Args:
        blocks: by their path in the network, in the order of execution.
        macs: multiply-accumulates of every convolution and linear layer for one image, by path.
        reasons: why a layer is not elastic, by path.
    """

    blocks: Mapping[str, ElasticBlock]
    macs: Mapping[str, int]
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def elastic_layers(self) -> set[str]:
        """The weights of layers with elastic channels, heads or kernels, by path."""
        return {
            f"{path}.{tensor}" if path else tensor
            for path, block in self.blocks.items()
            for tensor in (
                *(name for group in block.groups for name in group.members),
                *(f"{name}.weight" for name in block.kernels),
            )
        }

    @property
    def elastic_share(self) -> float:
        """The share of the multiply-accumulates in layers with elastic channels, heads or kernels."""
        elastic = self.elastic_layers
        inside = sum(macs for layer, macs in self.macs.items() if f"{layer}.weight" in elastic)
        return inside / max(1, sum(self.macs.values()))

    def static_shares(self) -> list[tuple[str, float]]:
        """Why layers stay as they are, and which share of the multiply-accumulates they have; the largest first."""
        elastic, total = self.elastic_layers, max(1, sum(self.macs.values()))
        shares: Counter[str] = Counter()
        for layer, macs in self.macs.items():
            if f"{layer}.weight" not in elastic:
                shares[self.reasons.get(layer, "it is in no block that could be narrower")] += macs
        return [(reason, macs / total) for reason, macs in shares.most_common()]


def smaller_for_large(model: nn.Module, image: Tensor) -> tuple[Tensor, dict[str, int] | None]:
    """``image``, or the part of it that ``model`` is to be examined with, as it would take long with all of it: then also the
    multiply-accumulates of every layer for the whole.
    """
    # No layer has more multiply-accumulates than weights times places; those before the image is a quarter as high have few.
    if sum(parameter.numel() for parameter in model.parameters()) * image[0, 0].numel() / 16 <= _MOST:
        return image, None
    try:
        skeleton = _without_values(model)
        with _counting(skeleton) as macs, torch.no_grad():
            skeleton(image.to("meta"))
    except Exception:  # whatever a forward does; what is wrong with it will be seen with the whole image
        return image, None
    if (total := sum(macs.values())) <= _MOST:
        return image, None
    size = nearest_size(skeleton, image.shape, image.shape[-1] * math.sqrt(_MOST / total))
    return (image, None) if size is None else (image[..., :size, :size].contiguous(), dict(macs))


def analyse(model: nn.Module, image: Tensor, macs: Mapping[str, int] | None = None) -> tuple[Analysis, Any]:
    """What can be elastic in ``model``, a network in eval mode on the CPU, and its output for ``image``.

    Args:
        macs: of every layer, if it is not those for this image that count.

    Raises:
        ValueError: it does not take the image.
    """
    names = find_blocks(model)
    calls, own_macs, output = _record(model, names, image)
    macs = macs or own_macs
    blocks: dict[str, ElasticBlock] = {}
    reasons: dict[str, str] = {}
    known: dict[object, tuple[ElasticBlock, dict[str, str]]] = {}
    for name in names:
        if name not in calls:
            log.debug("%s is not called", name)
            continue
        module, called = model.get_submodule(name), calls[name]
        key = (repr(module), tuple((n, t.shape) for n, t in named_tensors(module)), str(on_meta(called.args)))
        if key not in known:
            start = f"{name}." if name else ""
            own = {path.removeprefix(start): count for path, count in macs.items() if path.startswith(start)}
            known[key] = _examine(module, called, own)
        block, why = known[key]
        reasons |= {f"{name}.{layer}".lstrip("."): reason for layer, reason in why.items()}
        if block.is_narrowable or block.is_removable:
            blocks[name] = block
    return Analysis(blocks, macs, reasons), output


def find_blocks(model: nn.Module) -> list[str]:
    """The paths of a network's blocks, none of which holds another: the innermost items of containers that hold two layers or
    more that make channels; modules called blocks outside of those; and the largest modules with as many layers, such as a
    stem, that hold none of all these. A network without any is one block, whose path is empty.
    """
    items, named = _blocks_in("", model, None)
    inner = {*items, *named}
    above = {"", *(path[:end] for path in inner for end in ends(path))}
    found = [
        path
        for path, module in model.named_modules()
        if path in inner or (path not in above and path.rpartition(".")[0] in above and len(producers(module)) >= 2)
    ]
    return found or [""]


def _blocks_in(path: str, module: nn.Module, parent: nn.Module | None) -> tuple[list[str], list[str]]:
    """The blocks in a module, itself among them: items of containers, and those that are called so."""
    items: list[str] = []
    named: list[str] = []
    for name, child in module.named_children():
        more = _blocks_in(f"{path}.{name}" if path else name, child, module)
        items += more[0]
        named += more[1]
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    if items or not path or type(module) in containers or len(producers(module)) < 2:
        return items, named
    if isinstance(parent, containers):
        return [path], []
    is_named = any(word in type(module).__name__ for word in ("Block", "Bottleneck", "Residual"))
    return [], named or ([path] if is_named else [])


def ends(path: str) -> Iterator[int]:
    """The lengths of the paths of everything above a module, the network itself among it."""
    yield 0
    yield from (index for index, character in enumerate(path) if character == ".")


@dataclass(frozen=True)
class _Called:
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: tuple[torch.Size, ...] = ()


def _record(model: nn.Module, names: list[str], image: Tensor) -> tuple[dict[str, _Called], dict[str, int], Any]:
    """The first call of every block, the multiply-accumulates of every layer, and the network's output."""
    calls: dict[str, _Called] = {}
    outputs: dict[str, tuple[torch.Size, ...]] = {}

    def inputs_hook(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if name not in calls:  # copies of lists, to which some blocks append
                calls[name] = _Called(mapped(args, torch.clone), mapped(kwargs, torch.clone))

        return hook

    def output_hook(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            outputs.setdefault(name, (output.shape,) if isinstance(output, Tensor) else ())

        return hook

    hooks = []
    for name in names:
        block = model.get_submodule(name)
        hooks += [
            block.register_forward_pre_hook(inputs_hook(name), with_kwargs=True),
            block.register_forward_hook(output_hook(name)),
        ]
    try:
        with _counting(model) as macs, torch.no_grad():
            output = model(image)
    finally:
        for handle in hooks:
            handle.remove()
    return {name: replace(called, output=outputs[name]) for name, called in calls.items()}, dict(macs), output


@contextlib.contextmanager
def _counting(model: nn.Module) -> Iterator[Counter[str]]:
    """Inside, the multiply-accumulates of every layer that is called are counted."""
    macs: Counter[str] = Counter()

    def layer_hook(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            macs[name] += output.numel() // out_width(module) * module.weight.numel()  # type: ignore[operator]

        return hook

    hooks = [
        module.register_forward_hook(layer_hook(name))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, *CONVOLUTIONS))
    ]
    try:
        yield macs
    finally:
        for handle in hooks:
            handle.remove()


def _without_values(model: nn.Module) -> nn.Module:
    """A copy on the meta device, made without a copy of the numbers."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(
        model, {id(tensor): like(tensor, torch.empty_like(tensor, device="meta")) for tensor in tensors}
    )


def _examine(module: nn.Module, called: _Called, macs: Mapping[str, int]) -> tuple[ElasticBlock, dict[str, str]]:
    first = next((arg for arg in called.args if isinstance(arg, Tensor)), None)
    is_removable = first is not None and called.output == (first.shape,) and not isinstance(module, nn.Sequential)
    with torch.no_grad():
        try:
            inputs = _running(module, called, is_large=sum(macs.values()) > _LARGE)
        except Exception as error:  # whatever a forward does
            reason = f"its block does not run by itself ({' '.join(str(error).split())[:60]})"
            return ElasticBlock(is_removable=is_removable), dict.fromkeys(producers(module), reason)
        taken: set[str] = set()
        heads, reasons = find_head_groups(inputs, taken)
        widths, more = find_channel_groups(inputs, taken)
    reasons |= more
    worth = [group for group in widths if _share(group, macs) >= _LEAST_SHARE]
    kernels, kernel = _large_kernels(module, inputs)
    return ElasticBlock(tuple(worth), tuple(heads), kernels, kernel, is_removable), reasons


def _running(module: nn.Module, called: _Called, is_large: bool) -> Inputs:
    """A block that has run by itself, in float64 if that is not slow and its forward does not insist on float32."""

    def run(dtype: torch.dtype) -> Inputs:
        inputs = Inputs(_with_random_weights(module, dtype), _as(dtype, called.args), _as(dtype, called.kwargs))
        inputs.run()
        return inputs

    if not is_large:
        with contextlib.suppress(Exception):  # what fails in either is told of float32
            return run(torch.float64)
    return run(torch.float32)


def _share(group: Group, macs: Mapping[str, int]) -> float:
    return sum(macs.get(name.removesuffix(".weight"), 0) for name in group.members) / max(1, sum(macs.values()))


def _large_kernels(module: nn.Module, inputs: Inputs) -> tuple[tuple[str, ...], int]:
    """The depthwise convolutions of a block whose kernels can be cropped, and their size."""
    found = {
        name: conv.kernel_size[0]
        for name, conv in module.named_modules()
        if isinstance(conv, nn.Conv2d)
        and conv.groups == conv.in_channels > 1
        and conv.kernel_size[0] == conv.kernel_size[1] >= 5
        and conv.kernel_size[0] % 2
        and conv.dilation == (1, 1)
        and not isinstance(conv.padding, str)
        and set(conv.padding) in ({0}, {conv.kernel_size[0] // 2})
        and conv.padding_mode == "zeros"
    }
    if not found:
        return (), 1
    size = max(found.values())
    names = tuple(name for name, kernel in found.items() if kernel == size)
    trial = inputs.meta()
    before = shapes_in(trial.run())
    crop_kernels(trial.block, names, 3)
    try:
        return (names, size) if shapes_in(trial.run()) == before else ((), 1)
    except Exception:  # its forward reads the kernel in some other way
        return (), 1


def crop_kernels(block: nn.Module, names: tuple[str, ...], size: int) -> None:
    """Crops the kernels of convolutions of a block to their centre, in place; the padding follows."""
    for name in names:
        conv = block.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        border = (conv.kernel_size[0] - size) // 2
        if border == 0:
            continue
        weight = conv.weight.detach()[:, :, border : border + size, border : border + size]
        conv.weight = nn.Parameter(weight.clone(), conv.weight.requires_grad)
        conv.kernel_size = (size, size)
        if conv.padding != (0, 0):
            conv.padding = (size // 2, size // 2)
            conv._reversed_padding_repeated_twice = [size // 2] * 4


def _with_random_weights(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a type in which no weight is zero or equal to another, as freshly initialised ones may be."""
    generator = torch.Generator().manual_seed(0)
    block = fresh_copy(module).to(dtype).requires_grad_(False)
    for name, parameter in block.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        scale = (parameter.numel() / parameter.shape[0]) ** -0.5 if parameter.dim() > 1 else 0.3
        parameter.copy_(noise * scale + (0.7 if parameter.dim() <= 1 and name.endswith("weight") else 0.0))
    for name, buffer in block.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator, dtype=buffer.dtype) + 0.5)
    return block


def _as(dtype: torch.dtype, value: Any) -> Any:
    return mapped(value, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def stages_of(blocks: Mapping[str, ElasticBlock], model: nn.Module) -> Iterator[tuple[str, int, list[str]]]:
    """Every container of blocks: its path, how many blocks it has, and those that it can do without, in order. A module of
    another kind is one if it has nothing but blocks of one class.
    """
    parents = dict.fromkeys(path.rpartition(".")[0] for path, block in blocks.items() if block.is_removable)
    for parent in parents:
        container = model.get_submodule(parent)
        children = container._modules
        if not isinstance(container, (nn.Sequential, nn.ModuleList)) and (
            not parent
            or len({type(child) for child in children.values()}) > 1
            or any(f"{parent}.{name}" not in blocks for name in children)
        ):
            continue
        removable = [path for path, block in blocks.items() if block.is_removable and path.rpartition(".")[0] == parent]
        yield parent, len(children), removable
