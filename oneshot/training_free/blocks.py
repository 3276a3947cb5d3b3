"""The blocks that a network is a chain of, and what each of them makes of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.training_free.activations import hooked
from oneshot.training_free.gradients import differentiable
from oneshot.training_free.score import NotApplicable


def chain_of(network: nn.Module) -> list[nn.Module]:
    """The modules of a network that have parameters and lie in no other module than sequences and lists: stem, layers or cells,
    head. A layer that is left out, an identity, is no block.
    """
    found: list[nn.Module] = []

    def walk(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if isinstance(child, (nn.Sequential, nn.ModuleList)):
                yield from walk(child)
            elif next(child.parameters(), None) is not None:
                yield child

    found += walk(network)
    return found


def block_features(network: nn.Module, images: Tensor, gradients: bool = False) -> list[Tensor]:
    """What the blocks of a network make of ``(batch, channels, height, width)`` images, in the order of their calls: feature maps
    of that shape, or tokens ``(batch, tokens, channels)``. Vectors, behind the pooling, are none.

    Args:
        gradients: keep what is needed to differentiate one by another.

    Raises:
        NotApplicable: no block makes one.
    """
    features: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        maps = [value for value in _tensors(output) if value.dim() in (3, 4) and len(value) == len(images)]
        if maps:
            features.append(maps[-1])

    blocks = set(chain_of(network))
    with hooked(network, blocks.__contains__, lambda module: module.register_forward_hook(keep)):
        if gradients:
            with differentiable(images):
                network(images)
        else:
            with torch.no_grad():
                network(images)
    if not features:
        raise NotApplicable(
            "looks at the feature maps of the blocks of a network, and this one has none that are modules"
        )
    return features


def by_position(features: Tensor) -> Tensor:
    """``(batch * positions, channels)`` of feature maps or tokens."""
    return features.movedim(1, -1).flatten(0, 2) if features.dim() == 4 else features.flatten(0, 1)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (list, tuple)):
        for part in output:
            yield from _tensors(part)
