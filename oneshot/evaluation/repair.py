"""Closed-form repair: the readers of a narrow network, refitted so that they give what the largest network's give."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oneshot.checking import check_least
from oneshot.evaluation.reference import TOLERANCE, BlockReference, Listener, Places
from oneshot.evaluation.refit import LAYERS, Fit, Layer, UnfitError, channel_dim, rows_of
from oneshot.sharing import Pieces
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.skeleton import Block


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


def repair_block(
    block: nn.Module,
    readers: Mapping[str, Tensor | None],
    reference: BlockReference,
    places: Places,
    calls: Callable[[], Iterable[Callable[[], object]]],
) -> dict[str, UnfitError]:
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
    left: dict[str, UnfitError] = {}
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
            left[reader] = error
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
            follows = reference.scale.abs() > TOLERANCE * reference.scale.abs().max()
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
