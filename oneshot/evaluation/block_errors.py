"""What each block of a network loses by being narrower, or by not being there, when it is repaired and all else stays whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.evaluation.nesting import leaves
from oneshot.evaluation.reference import Given
from oneshot.evaluation.repaired import Original, order_of
from oneshot.spaces.skeleton import Block
from oneshot.spaces.trials import mapped


def block_errors(original: Original, archs: Sequence[Arch]) -> Iterator[tuple[Arch, float]]:
    """The errors of architectures in which a single block differs from the largest network, or some are left out.

    The block is given what the largest network gives it, its weights are repaired, and what it makes of that is compared with
    what the largest network's makes: the sum of squares of the difference, over that of what it should be, over all images. A
    block that is left out is measured on the next one that can be repaired, which makes up for it; where there is none, by what
    itself would change. Several count as the sum of each alone.

    Args:
        original: with arguments.

    Returns:
        Each architecture with its error, in the order of the blocks.
    """
    with torch.inference_mode(False), torch.no_grad():
        yield from _Measurement(original, archs).run()


class _Measurement:
    def __init__(self, original: Original, archs: Sequence[Arch]) -> None:
        self.original = original
        self.order = order_of(original.network, original.paths, next(iter(original.chunks()))[:2])
        self.narrow: dict[str, dict[Block, list[Arch]]] = {}
        self.shallow: dict[Arch, list[str]] = {}
        for arch in archs:
            _, blocks = original.supernet.skeleton(arch, lambda block: block.module)
            changed = [block for block in blocks if block is not original.blocks.get(block.name)]
            left_out = [name for name in original.blocks if name not in {block.name for block in blocks}]
            if left_out:
                self.shallow[arch] = left_out
            for block in changed:
                self.narrow.setdefault(block.name, {}).setdefault(block, []).append(arch)
        for block in [block for blocks in self.narrow.values() for block in blocks]:
            original.readers(block)
        self.following = {name: self._following(name) for left_out in self.shallow.values() for name in left_out}

    def run(self) -> Iterator[tuple[Arch, float]]:
        for name in dict.fromkeys(self.order):
            for block, archs in self.narrow.get(name, {}).items():
                error = self._of_block(block)
                yield from ((arch, error) for arch in archs)
        known: dict[str, float] = {}
        for arch, left_out in self.shallow.items():
            known |= {name: self._without(name) for name in left_out if name not in known}
            yield arch, sum(known[name] for name in left_out)

    def _following(self, name: str) -> str:
        """The next block that can be repaired; without one the block itself."""
        readers = self.original.readers
        later = self.order[self.order.index(name) + 1 :]
        found = next((other for other in later if readers(self.original.blocks[other])), name)
        readers(self.original.blocks[found])  # announces that it is asked for
        return found

    def _of_block(self, block: Block) -> float:
        return self._error(block, self.original.reference.of(block.name).given)

    def _without(self, name: str) -> float:
        """The error that there is when a block gives what it is given."""
        following = self.following[name]
        if following == name:
            whole = self._whole(name)
            return _relative((given[0][0], _called(whole, given)) for given in self.original.reference.of(name).given)
        return self._error(self.original.blocks[following], list(self._arguments(following, name)))

    def _error(self, block: Block, given: Sequence[Given]) -> float:
        """The error of a block that is called with ``given`` and repaired."""
        module, reference = self.original.supernet.extract_block(block).eval(), self.original.reference.of(block.name)
        self.original.repair(module, block, lambda: (partial(_called, module, part) for part in given))
        whole = self._whole(block.name)
        return _relative(
            (_called(module, mine), _called(whole, theirs)) for mine, theirs in zip(given, reference.given, strict=True)
        )

    def _whole(self, name: str) -> nn.Module:
        return self.original.network.get_submodule(self.original.paths[name])

    def _arguments(self, name: str, left_out: str) -> Iterator[Given]:
        """What a block is called with, each time, if another one gives what it is given."""
        found: list[Given] = []
        times = self.order.count(name)

        def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(mapped((args, kwargs), torch.clone))  # what follows may change them
            if len(found) == times:
                raise _Reached

        hooks = [
            self._whole(left_out).register_forward_hook(lambda module, args, output: args[0]),
            self._whole(name).register_forward_pre_hook(stop, with_kwargs=True),
        ]
        try:
            for images in self.original.chunks():
                with contextlib.suppress(_Reached):
                    self.original.network(images)
                yield from found
                found.clear()
        finally:
            for hook in hooks:
                hook.remove()


class _Reached(Exception):
    """The rest of a forward pass is of no use."""


def _called(module: nn.Module, given: Given) -> Any:
    args, kwargs = mapped(given, torch.clone)  # it may change them
    return module(*args, **kwargs)


def _relative(pairs: Iterator[tuple[Any, Any]]) -> float:
    """Over pairs of results and what they should be, the squared norm of the differences over that of what they should be."""
    sums: Tensor | float = 0.0  # a number of a CUDA device would be waited for each time
    for found, expected in pairs:
        for one, other in zip(leaves(found), leaves(expected), strict=True):
            if isinstance(one, Tensor):
                norms = [part.double().square().sum() for part in (one - other, other)]
                sums = torch.stack(norms) + sums
    error, size = (0.0, 0.0) if isinstance(sums, float) else sums.tolist()
    return error / size if size > 0 else 0.0
