"""What the readers of the largest network give, and whole blocks of it: what narrow ones are repaired towards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.evaluation.nesting import leaves
from oneshot.evaluation.refit import channel_dim, num_positions, rows_of
from oneshot.spaces.trials import mapped

_MAX_ROWS = 40_000  # vectors of channels that a layer is fitted on, from places drawn at random in each image
TOLERANCE = 1e-2  # relative, of what a block adds to its output where its last reader gives more

Given = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments of a call."""


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
        given: arguments of the block for each batch, where they are kept.
    """

    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    last: str | None = None
    scale: Tensor = field(default_factory=lambda: torch.empty(0))
    dim: int = 1
    block: list[Tensor] = field(default_factory=list)
    given: list[Given] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        """The memory that it takes."""
        rows = [*self.block, *(rows for parts in self.outputs.values() for rows in parts)]
        return sum(item.nbytes for item in (*rows, *leaves(self.given)) if isinstance(item, Tensor))


class Reference:
    """What the readers of the largest network give for the images, as far as ``limit`` allows at a time: where it does not, the
    blocks from the one that is asked for onwards, and the network runs again for others.

    Args:
        network: the largest network in eval mode.
        paths: of its blocks in it.
        batches: gives the images anew with every call, in batches.
        num_images: how many they are.
        limit: bytes that may be held; a single block may take more.
        with_arguments: whether the arguments of the blocks are kept, too.
    """

    def __init__(
        self,
        network: nn.Module,
        paths: Mapping[str, str],
        batches: Callable[[], Iterable[Tensor]],
        num_images: int,
        limit: int,
        with_arguments: bool = False,
    ) -> None:
        self.places = Places(num_images)
        self._with_arguments = with_arguments
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
            name: Listener(
                self._network.get_submodule(self._paths[name]),
                readers,
                partial(begin, name),
                copies_arguments=self._with_arguments,
            )
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
        if self._with_arguments:
            reference.given.append(heard.given)
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
        copies_arguments: whether those of the block are copied, because it may change them.

    Attributes:
        inputs, outputs: of the readers by path in the block, in the order in which they ran; those that ran more than once
            are left out.
        given: arguments of the block.
        output: of the block.
    """

    def __init__(
        self,
        block: nn.Module,
        readers: Iterable[str],
        ended: Callable[[Listener], object],
        with_inputs: bool = False,
        copies_arguments: bool = False,
    ) -> None:
        self.block, self._with_inputs, self._copies_arguments = block, with_inputs, copies_arguments
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self.given: Given = ((), {})
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
            self.given = mapped((args, kwargs), torch.clone) if self._copies_arguments else (args, kwargs)
            self._often = set()

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
    drawn = torch.rand(mine.shape, generator=torch.Generator().manual_seed(0)).to(mine) * size

    def change(by: Tensor) -> Tensor:
        hook = layer.register_forward_hook(lambda module, inputs, found: found + by)
        heard.is_paused = True
        args, kwargs = mapped(heard.given, torch.clone)  # the block may change them
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
        if (rows_of(by_drawn, other, None) - expected).abs().max() <= TOLERANCE * expected.abs().max():
            return other, scale
    return None
