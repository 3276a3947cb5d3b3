"""Closed-form repair: the readers of a narrow network, refitted so that they give what the largest network's give."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.checking import check_least
from oneshot.evaluation.refit import LAYERS, Fit, Layer, UnfitError, channel_dim, num_positions, rows_of
from oneshot.sharing import Pieces
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.skeleton import Block

_MAX_ROWS = 40_000  # vectors of channels that a layer is fitted on, from places drawn at random in each image
_TOLERANCE = 1e-2  # relative, of what a block adds to its output where its last reader gives more


@dataclass(frozen=True)
class RepairSettings:
    """How the weights of a subnet are repaired.

    Args:
        images: how many training images, the same for every candidate; labels are not used.
        measure_statistics: whether the largest network's BatchNorm statistics are measured anew on these images, as they have to
            be of a supernet that was trained with its subnets; otherwise they are those that it holds.
    """

    images: int = 384
    measure_statistics: bool = False

    def __post_init__(self) -> None:
        check_least(2, repair_images=self.images)


class Places:
    """The places in each image whose vectors of channels layers are fitted on: all, or some drawn at random where there are
    many. The same batch and number of places gives the same ones.
    """

    def __init__(self, num_images: int) -> None:
        self._each = max(1, _MAX_ROWS // num_images)

    def chosen(self, part: int, values: Tensor, dim: int) -> Tensor | None:
        """The rows of ``rows_of`` to take of the ``part``-th batch; None for all."""
        number = num_positions(values, dim)
        if number <= self._each:
            return None
        generator = torch.Generator().manual_seed(1_000_003 * part + number)
        drawn = torch.rand(len(values), number, generator=generator).argsort(1)[:, : self._each].sort(1).values
        return (drawn + number * torch.arange(len(values))[:, None]).flatten().to(values.device)


@dataclass
class BlockReference:
    """What a block of the largest network gives.

    Args:
        outputs: of its readers in the order in which they run, by path in the block: rows for each batch.
        last: the reader to whose output the block's own is proportional, channel by channel, but for what other paths add.
        scale: the factors ``(channels,)``.
        dim: along which the channels of the block's output lie.
        block: rows of the block's output for each batch.
    """

    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    last: str | None = None
    scale: Tensor = field(default_factory=lambda: torch.empty(0))
    dim: int = 1
    block: list[Tensor] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        """The memory that it takes."""
        rows = [*self.block, *(rows for parts in self.outputs.values() for rows in parts)]
        return sum(tensor.nbytes for tensor in rows)


class Reference:
    """What the readers of the largest network give for the images, as far as ``limit`` allows at a time: where it does not, the
    blocks from the one that is asked for onwards, and the network runs again for others.

    Args:
        network: the largest network in eval mode.
        paths: of its blocks in it.
        batches: gives the images anew with every call, in batches.
        num_images: how many they are.
        limit: bytes that may be held; a single block may take more.
    """

    def __init__(
        self,
        network: nn.Module,
        paths: Mapping[str, str],
        batches: Callable[[], Iterable[Tensor]],
        num_images: int,
        limit: int,
    ) -> None:
        self.places = Places(num_images)
        self._network, self._paths, self._batches = network, paths, batches
        self._num_images, self._limit = num_images, limit
        self._needed: dict[str, dict[str, None]] = {}
        self._known: dict[str, BlockReference] = {}

    def need(self, block: str, readers: Iterable[str]) -> None:
        """Announces that readers of a block will be asked for."""
        wanted = self._needed.setdefault(block, {})
        if any(reader not in wanted for reader in readers):
            wanted.update(dict.fromkeys(readers))
            self._known.pop(block, None)

    @property
    def num_bytes(self) -> int:
        """The memory that is held."""
        return sum(known.num_bytes for known in self._known.values())

    def forget(self) -> None:
        """Lets go of what is held; it is measured again when it is asked for."""
        self._known.clear()

    def of(self, block: str) -> BlockReference:
        """What a block gives, of the readers that were announced."""
        if block not in self._known:
            self._known.clear()
            self._measure(block)
        return self._known[block]

    @torch.no_grad()
    def _measure(self, first: str) -> None:
        part, window, is_open = 0, list[str](), False

        def begin(name: str, heard: Listener) -> None:
            nonlocal is_open
            is_open = is_open or name == first
            if part == 0 and is_open and name not in self._known:
                self._known[name] = _begin(heard)
                window.append(name)
            if name in self._known and (part == 0 or name in window):
                self._take(self._known[name], heard, part)

        heard = {
            name: Listener(self._network.get_submodule(self._paths[name]), readers, partial(begin, name))
            for name, readers in self._needed.items()
        }
        try:
            for part, images in enumerate(self._batches()):
                self._network(images)
                if part == 0:
                    window = self._fitting(window, self._num_images / len(images))
                    for name in set(heard) - set(window):
                        heard.pop(name).close()
                        self._known.pop(name, None)
        finally:
            for listener in heard.values():
                listener.close()

    def _take(self, reference: BlockReference, heard: Listener, part: int) -> None:
        for reader, rows in reference.outputs.items():
            output, dim = heard.outputs[reader], channel_dim(heard.layer(reader))
            rows.append(rows_of(output, dim, self.places.chosen(part, output, dim)).clone())
        if reference.last is not None:
            chosen = self.places.chosen(part, heard.output, reference.dim)
            reference.block.append(rows_of(heard.output, reference.dim, chosen).clone())

    def _fitting(self, names: list[str], times: float) -> list[str]:
        total = 0.0
        for number, name in enumerate(names):
            total += self._known[name].num_bytes * times
            if number and total > self._limit:
                return names[:number]
        return names


class Listener:
    """Hears what the readers of a block read and give whenever the block is called.

    Args:
        ended: called at the end of each call.
        with_inputs: whether what readers read is kept.

    Attributes:
        inputs, outputs: of the readers by path in the block, in the order in which they ran; those that ran more than once
            are left out.
        given: arguments of the block.
        output: of the block.
    """

    def __init__(
        self, block: nn.Module, readers: Iterable[str], ended: Callable[[Listener], object], with_inputs: bool = False
    ) -> None:
        self.block, self._with_inputs = block, with_inputs
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self.given: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self.output: Any = None
        self.is_paused = False
        self._ended, self._often = ended, set[str]()
        self._hooks = [
            block.register_forward_pre_hook(self._begin, with_kwargs=True),
            block.register_forward_hook(self._end),
            *(self.layer(reader).register_forward_hook(self._hear(reader)) for reader in readers),
        ]

    def layer(self, reader: str) -> nn.Module:
        """The layer of that path."""
        return self.block.get_submodule(reader)

    def close(self) -> None:
        """Hears no more."""
        for hook in self._hooks:
            hook.remove()

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self.is_paused:
            self.given, self._often = (args, kwargs), set()

    def _end(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.is_paused:
            return
        self.output = output
        for reader in self._often:
            del self.outputs[reader]
        self._ended(self)
        self.inputs, self.outputs, self.given, self.output = {}, {}, ((), {}), None

    def _hear(self, reader: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if self.is_paused:
                return
            if reader in self.outputs:
                self._often.add(reader)
            # A later layer may change them in place.
            self.outputs[reader] = output.clone()
            if self._with_inputs:
                self.inputs[reader] = args[0].clone()

        return hook


def _begin(heard: Listener) -> BlockReference:
    """A reference without rows, of a block that is just running."""
    reference = BlockReference({reader: [] for reader in heard.outputs})
    if isinstance(heard.output, Tensor) and heard.outputs:
        last = list(heard.outputs)[-1]
        found = _scale(heard, last)
        if found is not None:
            reference.last, (reference.dim, reference.scale) = last, found
    return reference


def _scale(heard: Listener, reader: str) -> tuple[int, Tensor] | None:
    """Where the block's output is ``scale * output of the reader`` and something that does not depend on it, channel by channel:
    along which dimension of it channels lie, and the scale.
    """
    layer, mine, output = heard.layer(reader), heard.outputs[reader], heard.output
    dim, size = channel_dim(layer), mine.std()
    args, kwargs = heard.given
    drawn = torch.rand(mine.shape, generator=torch.Generator().manual_seed(0)).to(mine) * size

    def change(by: Tensor) -> Tensor:
        hook = layer.register_forward_hook(lambda module, inputs, found: found + by)
        heard.is_paused = True
        try:
            changed: Tensor = heard.block(*args, **kwargs) - output
        finally:
            heard.is_paused = False
            hook.remove()
        return changed

    by_one, by_drawn = change(size.expand_as(mine)), change(drawn)
    for other in (dim, 1, -1):
        if output.dim() < 2 or output.shape[other] != mine.shape[dim]:
            continue
        if num_positions(output, other) != num_positions(mine, dim):
            continue
        scale = rows_of(by_one, other, None).mean(0) / size
        expected = scale * rows_of(drawn, dim, None)
        if (rows_of(by_drawn, other, None) - expected).abs().max() <= _TOLERANCE * expected.abs().max():
            return other, scale
    return None


def repair_block(
    block: nn.Module,
    readers: Mapping[str, Tensor | None],
    reference: BlockReference,
    places: Places,
    calls: Callable[[], Iterable[Callable[[], object]]],
) -> dict[str, str]:
    """Refits readers of a block in place, one after another as they run.

    What a reader gives is to be what it gives in the largest network. Where the block's output follows the last reader's, as
    ahead of a residual sum, that one also makes up for what came in through other paths (He, Zhang and Sun, ICCV 2017,
    section 3.3), such as the lack of the blocks before.

    Args:
        readers: by path in the block, which of the largest network's outputs each still has; None is all.
        calls: gives, anew with every call, functions that run the block on one batch after another.

    Returns:
        Why readers were left as they are, by path.
    """
    left: dict[str, str] = {}
    for reader in [path for path in reference.outputs if path in readers]:
        try:
            fitting = _Fitting(block, reader, readers[reader], reference, places)
            listener = Listener(block, [reader], fitting.take, with_inputs=True)
            try:
                for part, call in enumerate(calls()):
                    fitting.part = part
                    call()
            finally:
                listener.close()
            fitting.fit.solve()
        except UnfitError as error:
            left[reader] = str(error)
    return left


class _Fitting:
    """Takes in what a reader of a narrow block reads and gives, batch by batch."""

    def __init__(
        self, block: nn.Module, reader: str, kept: Tensor | None, reference: BlockReference, places: Places
    ) -> None:
        layer = block.get_submodule(reader)
        assert isinstance(layer, LAYERS)
        self.fit, self.part = Fit(layer), 0
        self._reader, self._kept, self._reference, self._places = reader, kept, reference, places

    def take(self, heard: Listener) -> None:
        """Takes in the call that has just ended."""
        reader, reference = self._reader, self._reference
        if reader not in heard.outputs:
            raise UnfitError("it does not run once in every call")
        dim = channel_dim(self.fit.layer)
        output, wanted = heard.outputs[reader], reference.outputs[reader][self.part]
        chosen = self._places.chosen(self.part, output, dim)
        kept = slice(None) if self._kept is None else self._kept.to(wanted.device)
        missing = wanted[:, kept] - rows_of(output, dim, chosen)
        if reader == reference.last:
            gap = reference.block[self.part] - rows_of(heard.output, reference.dim, chosen)
            follows = reference.scale.abs() > _TOLERANCE * reference.scale.abs().max()
            missing = torch.where(follows, gap / reference.scale.where(follows, 1.0), missing)
        self.fit.add(heard.inputs[reader], output, missing, chosen)


def readers_of(space: SearchSpace, block: Block, original: Block) -> dict[str, Tensor | None]:
    """The readers of a block that can be refitted, and which of the outputs that they have in the largest network they still
    have (None: all): layers that read fewer channels or have smaller kernels than there, and those by which channels are sorted.
    """
    sorting = {
        order.score.removesuffix(".weight")
        for order in space.channel_orders
        if fnmatch.fnmatchcase(block.name, order.blocks) and order.dim == 1
    }
    layers = dict(original.module.named_modules())
    found: dict[str, Tensor | None] = {}
    for path, layer in block.module.named_modules():
        whole = layers.get(path)
        if not isinstance(layer, LAYERS) or not isinstance(whole, type(layer)):
            continue
        if layer.weight.shape[1:] != whole.weight.shape[1:] or path in sorting:
            found[path] = _kept(space, f"{block.name}.{path}.weight" if path else f"{block.name}.weight", layer, whole)
    return found


def _kept(space: SearchSpace, name: str, layer: Layer, whole: Layer) -> Tensor | None:
    size, total = len(layer.weight), len(whole.weight)
    if size == total:
        return None
    for pattern, factory in space.sharing.items():
        if fnmatch.fnmatchcase(name, pattern):
            rule = factory()
            if isinstance(rule, Pieces) and 0 in rule.pieces:
                pieces: Sequence[tuple[int, int]] = rule.pieces[0][size]
                return torch.cat([torch.arange(start, start + length) for start, length in pieces])
            break
    return torch.arange(size)
