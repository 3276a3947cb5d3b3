"""The elastic space of a network that somebody already has."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from oneshot.arch import Arch, Choice, Option, suggest
from oneshot.sharing import ChannelOrder, Pieces
from oneshot.spaces.assembly import Parts, assemble, block_name
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.elastic_blocks import Analysis, ElasticBlock, analyse, smaller_for_large, stages_of
from oneshot.spaces.groups import Group, named_tensors
from oneshot.spaces.input_sizes import sizes_taken
from oneshot.spaces.making import check_initialised, check_trains_logits, check_untied, construct
from oneshot.spaces.plain import Plain, in_plain_values

_MULTIPLE = 8  # of hidden widths: what processors like


class ElasticNetwork(SearchSpace):
    """The narrower, shallower and smaller networks that lie in one network.

    Choices are, for each block, ``<block>.width`` (the share of its hidden channels that stay), ``<block>.heads`` (attention
    heads) and ``<block>.kernel`` (of large depthwise kernels); for each container of blocks ``<container>.depth`` (blocks that
    stay); and ``resolution``. Names are paths in the network. The largest architecture is the network itself.

    Attributes:
        analysis: what can be elastic, and why other parts cannot.
        starts_trained: whether initial weights are trained ones.

    Args:
        create: makes the network with initial weights, drawn from torch's global generator.
        num_classes: size of its logits.
        resolution: the largest input height and width in pixels.
        width_ratios: shares of the hidden channels and heads of a block that may stay; rounded to multiples of 8 channels or of
            what a grouped convolution needs.
        depth_ratio: the least share of the blocks of a container that stay.
        input_ratios: shares of ``resolution``, rounded to sizes that the network takes.
        kernels: whether large depthwise kernels may be cropped.
        removal: paths of blocks in the order in which they go; of a container whose blocks are not among them, the last goes
            first. None lets a training that starts from trained weights measure what each block does, see ``with_removal``.

    Raises:
        ValueError: the network does not take images of that size, nothing in it can be elastic, or an argument is out of range.
    """

    def __init__(
        self,
        create: Callable[[], nn.Module],
        num_classes: int,
        resolution: int,
        width_ratios: Sequence[float],
        depth_ratio: float,
        input_ratios: Sequence[float],
        kernels: bool,
        removal: Sequence[str] | None,
    ) -> None:
        self.num_classes, self.resolution = num_classes, resolution
        self._width_ratios = _ratios("width_ratios", width_ratios)
        if not 0 < depth_ratio <= 1:
            raise ValueError(f"depth_ratio is a share above 0 and up to 1, not {depth_ratio!r}")
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            network = create().eval()
        self.name = type(network).__name__
        check_initialised(network, self.name)
        check_untied(network, self.name)
        image = torch.randn(1, self.in_channels, resolution, resolution, generator=torch.Generator().manual_seed(0))
        examined, macs = smaller_for_large(network, image)
        self.analysis, logits = self._analyse(network, examined, macs)
        has_kernels = any(block.kernels for block in self.analysis.blocks.values())
        if not kernels:
            self.analysis = _without_kernels(self.analysis)
        self._check_assembly(network, examined, logits)
        self._skeleton = network.train().eval().to("meta")  # training mode drops what is kept of weights between calls
        self._check_runs_without_values(image)
        check_trains_logits(self._skeleton, self.name, image.to("meta"))
        self._parts = Parts(create, self._skeleton, self.analysis.blocks)
        self._sizes = sizes_taken(self._skeleton, image.shape, _ratios("input_ratios", input_ratios))
        self._depth_ratio = depth_ratio
        self._stages = self._make_stages(removal or ())
        self.choices = self._make_choices(self._sizes)
        if not self.choices:
            raise ValueError(self._explain_nothing(has_kernels and not kernels, input_ratios))
        self.original = self.largest
        self.sharing = {f"{block_name(path)}.{name}": partial(Pieces, found) for path, name, found in self._pieces()}
        self.channel_orders = [_order(path, group) for path, group in self._groups()]

    def _analyse(self, network: nn.Module, image: Tensor, macs: Mapping[str, int] | None) -> tuple[Analysis, Any]:
        try:
            analysis, logits = analyse(network, image, macs)
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            raise ValueError(
                f"{self.name} does not take images of {image.shape[-1]} pixels: {' '.join(str(error).split())[:200]}"
            ) from None
        if not isinstance(logits, Tensor) or logits.shape != (1, self.num_classes):
            got = tuple(logits.shape[1:]) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"{self.name} gives {got} for an image, not logits of {self.num_classes} classes")
        return analysis, logits

    def _check_assembly(self, network: nn.Module, image: Tensor, logits: Tensor) -> None:
        """Raises ValueError unless the network, put together of its own parts, computes what it does."""
        parts = Parts(lambda: network, network, {})
        whole: dict[str, Mapping[str, Any]] = {path: {} for path in self.analysis.blocks}
        built = assemble(network, parts, construct({}), whole)
        with torch.no_grad():
            if torch.equal(built(image), logits):
                return
            if not torch.isfinite(logits).all():
                raise ValueError(
                    f"{self.name} gives numbers that are not finite: its initial weights or its forward are at fault"
                )
            if not torch.equal(network(image), logits):
                raise ValueError(
                    f"{self.name} gives other logits for the same image each time: in eval mode it must not draw at random"
                )
        raise ValueError(f"{self.name} cannot be taken apart: its parts depend on each other")

    def _check_runs_without_values(self, image: Tensor) -> None:
        """Raises ValueError unless the network runs without values: what it does must not depend on what it sees."""
        try:
            with torch.no_grad():
                self._skeleton(image.to("meta"))
        except Exception as error:  # whatever a forward does
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"the forward of {self.name} depends on the values that it sees ({reason})") from None

    def _groups(self) -> list[tuple[str, Group]]:
        return [(path, group) for path, block in self.analysis.blocks.items() for group in block.groups]

    def _pieces(self) -> Iterator[tuple[str, str, dict[int, dict[int, list[tuple[int, int]]]]]]:
        """Block, tensor and pieces of every tensor that is not cut by a leading slice: by dimension, for each of its sizes."""
        options = {choice.name: choice.options for choice in self.choices}
        for path, block in self.analysis.blocks.items():
            kept = [
                [(block.widths, _units(block, float(ratio)))] for ratio in options.get(f"{block_name(path)}.width", ())
            ]
            kept += [
                [(block.heads, _heads(block, int(heads)))] for heads in options.get(f"{block_name(path)}.heads", ())
            ]
            shapes = dict(named_tensors(self._skeleton.get_submodule(path)))
            found: dict[str, dict[int, dict[int, list[tuple[int, int]]]]] = {}
            for [(groups, units)] in kept:
                for name, dim in {(name, place.dim) for group in groups for name, place in group.members.items()}:
                    pieces = _left(name, dim, shapes[name].shape[dim], list(zip(groups, units, strict=True)))
                    size = sum(length for _, length in pieces)
                    found.setdefault(name, {}).setdefault(dim, {})[size] = pieces
            for name, dims in found.items():
                odd = {
                    dim: sizes
                    for dim, sizes in dims.items()
                    if any(cuts != [(0, size)] for size, cuts in sizes.items())
                }
                if odd:
                    yield path, name, odd

    # Depth -----------------------------------------------------------------------------------------------------------

    def _make_stages(self, removal: Sequence[str]) -> dict[str, tuple[int, list[str]]]:
        """Of every container of blocks how many it has, and those that may go, the first to go first."""
        stages = [*stages_of(self.analysis.blocks, self._skeleton)]
        can_go = [path for _, number, removable in stages if number > 1 for path in removable]
        for path in removal:
            if path not in can_go:
                raise ValueError(
                    f"removal: {path!r} is no block that {self.name} can do without{suggest(path, can_go)}"
                )
        return {
            stage: (number, _in_order(removable, number, self._depth_ratio, removal))
            for stage, number, removable in stages
        }

    def removable(self) -> dict[str, list[str]]:
        """The blocks that each container can do without, in the order of execution, by the path of its last block."""
        return {
            f"{stage}.{next(reversed(self._skeleton.get_submodule(stage)._modules))}": paths
            for stage, _, paths in stages_of(self.analysis.blocks, self._skeleton)
        }

    def with_removal(self, removal: Sequence[str]) -> Self:
        """This space, with blocks that go in another order: an argument like any other, which checkpoints keep.

        Raises:
            ValueError: the network cannot do without one of them.
        """
        twin = copy.copy(self)
        twin._stages = twin._make_stages(removal)
        twin.definition = {**self.definition, "removal": list(removal)}
        options = {choice.name: choice.options for choice in self.choices}  # of which there may be fewer by now
        twin.choices = tuple(
            Choice(choice.name, options[choice.name], dict(choice.when)) for choice in twin._make_choices(self._sizes)
        )
        return twin

    # Choices ---------------------------------------------------------------------------------------------------------

    def _make_choices(self, sizes: Sequence[int]) -> tuple[Choice, ...]:
        choices = [Choice("resolution", tuple(sizes))] if len(sizes) > 1 else []
        removal = {path: stage for stage, (_, paths) in self._stages.items() for path in paths}
        for stage, (number, paths) in self._stages.items():
            if paths:
                choices.append(Choice(f"{stage}.depth", tuple(range(number - len(paths), number + 1))))
        for path, block in self.analysis.blocks.items():
            when: dict[str, tuple[Option, ...]] = {}
            if path in removal:
                number, paths = self._stages[removal[path]]
                when = {f"{removal[path]}.depth": tuple(range(number - paths.index(path), number + 1))}
            options = {
                "width": _width_options(block, self._width_ratios),
                "heads": _head_options(block, self._width_ratios),
                "kernel": tuple(range(3, block.kernel + 1, 2))[-3:] if block.kernels else (),
            }
            choices += [
                Choice(f"{block_name(path)}.{name}", found, when) for name, found in options.items() if len(found) > 1
            ]
        return tuple(choices)

    def alternatives(self, whole: Arch) -> list[list[Arch]]:
        """The architectures in which a single part differs from ``whole``, the largest of its input size: for each block that can
        be narrower, and for the blocks that stay of each container, a list with every combination of options, ``whole`` included.
        """
        parts: dict[str, list[Choice]] = {}
        for choice in self.choices:
            if choice.name != "resolution":
                is_depth = choice.name.endswith(".depth")
                parts.setdefault(choice.name if is_depth else choice.name.rpartition(".")[0], []).append(choice)
        return [
            [
                self.arch({**whole, **dict(zip((choice.name for choice in part), options, strict=True))})
                for options in itertools.product(*(choice.options for choice in part))
            ]
            for part in parts.values()
        ]

    def build(self, arch: Arch, make: Make) -> nn.Module:
        """The network of ``arch``."""
        skipped = {
            path
            for stage, (number, paths) in self._stages.items()
            if f"{stage}.depth" in arch
            for path in paths[: number - arch.integer(f"{stage}.depth")]
        }
        blocks = {
            path: self._arguments(path, block, arch) if path not in skipped else {}
            for path, block in self.analysis.blocks.items()
        }
        return assemble(self._skeleton, self._parts, make, blocks, skipped)

    def _arguments(self, path: str, block: ElasticBlock, arch: Arch) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if f"{block_name(path)}.width" in arch:
            units = _units(block, float(arch[f"{block_name(path)}.width"]))
            arguments["widths"] = tuple(group.size * kept for group, kept in zip(block.widths, units, strict=True))
        if f"{block_name(path)}.heads" in arch:
            arguments["heads"] = _heads(block, arch.integer(f"{block_name(path)}.heads"))
        if f"{block_name(path)}.kernel" in arch:
            arguments["kernel"] = arch.integer(f"{block_name(path)}.kernel")
        return arguments

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return copy.copy(self)  # nothing in a space changes

    def __reduce__(self) -> Any:
        arguments = {name: value for name, value in self.definition.items() if name != "_target_"}
        return _restored, (type(self), arguments, self.choices)

    def plain(self, arch: Arch, network: nn.Module) -> Plain:
        """What sets ``network``, of ``arch``, apart from the whole one, in plain values."""
        return in_plain_values(network, self._skeleton, self.input_shape(arch))

    def covering(self) -> list[Arch]:
        """The largest architecture, which has every tensor at its largest shape."""
        return [self.largest]

    # Words -----------------------------------------------------------------------------------------------------------

    def notes(self) -> list[str]:
        """How much of the network is elastic, and why the rest is not."""
        blocks = self.analysis.blocks.values()
        widths, heads = sum(bool(block.widths) for block in blocks), sum(bool(block.heads) for block in blocks)
        kernels = sum(bool(block.kernels) for block in blocks)
        fresh = "; a classifier that starts at zero, as the weights are of other classes" if self.new_classifier else ""
        return [
            f"{self.name}: {100 * self.analysis.elastic_share:.0f} % of the multiply-accumulates in elastic layers; "
            f"{widths} blocks with elastic width, {heads} with heads, {kernels} with kernels; "
            f"{sum(bool(paths) for _, paths in self._stages.values())} of {len(self._stages)} stages with elastic depth; "
            f"resolutions {', '.join(map(str, self._sizes))}{fresh}",
            *(
                f"{self.name}: {100 * share:.0f} % of the multiply-accumulates are in layers that stay, each as {reason}"
                for reason, share in self.analysis.static_shares()
                if share >= 0.01
            ),
        ]

    def _explain_nothing(self, is_without_kernels: bool, input_ratios: Sequence[float]) -> str:
        """Why there are no choices: what could be elastic is switched off, or there is nothing of the kind."""
        off = []
        if any(block.widths or block.heads for block in self.analysis.blocks.values()):
            off.append(f"width_ratios={list(self._width_ratios)}")
        if any(number > 1 and paths for _, number, paths in stages_of(self.analysis.blocks, self._skeleton)):
            off.append(f"depth_ratio={self._depth_ratio:g}")
        if is_without_kernels:
            off.append("kernels=false")
        if off:
            settings = f"{', '.join(off)} and input_ratios={list(input_ratios)}"
            return f"{settings} leave nothing of {self.name} to choose: change one of these"
        why = "; ".join(reason for reason, _ in self.analysis.static_shares()[:3])
        return f"nothing in {self.name} can be elastic: {why}"


def _restored(kind: type[ElasticNetwork], arguments: dict[str, Any], choices: tuple[Choice, ...]) -> ElasticNetwork:
    space = kind(**arguments)
    space.choices = choices
    return space


def _ratios(name: str, ratios: Sequence[float]) -> tuple[float, ...]:
    chosen = tuple(sorted({float(ratio) for ratio in ratios}))
    if not chosen or not 0 < chosen[0] <= chosen[-1] <= 1:
        raise ValueError(f"{name} are shares above 0 and up to 1, not {list(ratios)}")
    return chosen if chosen[-1] == 1 else (*chosen, 1.0)


def _without_kernels(analysis: Analysis) -> Analysis:
    blocks = {
        path: ElasticBlock(block.widths, block.heads, (), 1, block.is_removable)
        for path, block in analysis.blocks.items()
    }
    return Analysis(blocks, analysis.macs, analysis.reasons)


def _in_order(removable: list[str], number: int, depth_ratio: float, removal: Sequence[str]) -> list[str]:
    """The blocks of a container that may go, the first to go first."""
    order = [path for path in removal if path in removable] or removable[::-1]
    return order[: number - max(1, math.ceil(number * depth_ratio))]


def _units(block: ElasticBlock, ratio: float) -> tuple[int, ...]:
    """The units of each group of hidden channels that stay at ``ratio``."""
    kept = []
    for group in block.widths:
        step = max(1, math.lcm(_MULTIPLE, group.size) // group.size)  # units that make a multiple of 8 channels
        step = step if step <= group.units else 1
        kept.append(group.units if ratio == 1 else min(group.units, max(1, round(group.units * ratio / step)) * step))
    return tuple(kept)


def _heads(block: ElasticBlock, heads: int) -> tuple[int, ...]:
    """The heads of each group that stay where ``heads`` of the first do."""
    return tuple(max(1, round(group.units * heads / block.heads[0].units)) for group in block.heads)


def _width_options(block: ElasticBlock, ratios: Sequence[float]) -> tuple[Option, ...]:
    """The ratios that give different widths; the largest of those that give the same."""
    if not block.widths:
        return ()
    return tuple(sorted({_units(block, ratio): ratio for ratio in ratios}.values()))


def _left(name: str, dim: int, size: int, kept: list[tuple[Group, int]]) -> list[tuple[int, int]]:
    """The pieces along ``dim`` that stay of a tensor with ``size`` entries."""
    entries = list(range(size))
    for group, units in kept:
        place = group.members.get(name)
        if place is not None and place.dim == dim:
            pieces = place.pieces(size, group.units, units)
            stays = {entry for start, length in pieces for entry in range(start, start + length)}
            entries = [entry for entry in entries if entry in stays]
    found: list[tuple[int, int]] = []
    for entry in entries:
        if found and sum(found[-1]) == entry:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((entry, 1))
    return found


def _head_options(block: ElasticBlock, ratios: Sequence[float]) -> tuple[Option, ...]:
    if not block.heads:
        return ()
    heads = block.heads[0].units
    found = {_heads(block, count): count for count in sorted({max(1, round(heads * ratio)) for ratio in ratios})}
    return tuple(found.values())


def _order(path: str, group: Group) -> ChannelOrder:
    return ChannelOrder(block_name(path), group.reader, 1, group.members, group.units)
