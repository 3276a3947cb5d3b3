"""Channels in the order of their importance, so that narrower subnets inherit those that matter most."""

from __future__ import annotations

import fnmatch
import itertools
from collections import defaultdict

import torch
from torch import Tensor

from oneshot.spaces.base import SearchSpace
from oneshot.spaces.skeleton import Skeletons
from oneshot.supernet import Supernet


@torch.no_grad()
def sort_channels(supernet: Supernet, trained: SearchSpace) -> int:
    """Sorts channels by the L1 norm of the weights that read them, largest first, in the ways that the space's
    ``channel_orders`` name (Cai et al., ICLR 2020, section 3.3, elastic width).

    Channels change places only among those that every network of ``trained`` either has or lacks, so that each of these networks
    computes what it did, up to the order of summation. The published code does so for the channels between the convolutions
    of a block but orders those inside squeeze-and-excitation without regard to what has been trained.

    Args:
        trained: the part of the space that has been trained so far.

    Returns:
        The number of layers whose channels were sorted.
    """
    tensors = dict(supernet.bank.named_parameters()) | dict(supernet.bank.named_buffers())
    orders = [
        (order, name.removesuffix(f".{order.score}"))
        for order in supernet.space.channel_orders
        for name in tensors
        if name.endswith(f".{order.score}") and fnmatch.fnmatchcase(name.removesuffix(f".{order.score}"), order.blocks)
    ]
    shapes = _shapes(trained)
    for order, block in orders:
        score = f"{block}.{order.score}"
        bounds = {shape[order.dim] for shape in shapes[score]}
        permutation = _permutation(tensors[score], order.dim, bounds)
        for member, dim in order.members.items():
            tensor = tensors.get(f"{block}.{member}")
            if tensor is not None:
                tensor.copy_(tensor.index_select(dim, permutation))
    return len(orders)


def _permutation(weight: Tensor, dim: int, bounds: set[int]) -> Tensor:
    """Indices along ``dim`` by falling L1 norm, within each part between two ``bounds``."""
    importance = weight.abs().sum([other for other in range(weight.dim()) if other != dim])
    size = len(importance)
    ends = sorted({0, size, *(bound for bound in bounds if bound < size)})
    return torch.cat(
        [start + importance[start:end].argsort(descending=True, stable=True) for start, end in itertools.pairwise(ends)]
    )


def _shapes(space: SearchSpace) -> dict[str, set[torch.Size]]:
    """The shapes that each tensor has in the networks of ``space``."""
    skeletons = Skeletons(space)
    shapes: dict[str, set[torch.Size]] = defaultdict(set)
    seen = set()
    for arch in itertools.chain(space.covering(), space.pairwise()):
        for block in skeletons.network(arch)[1]:
            if block not in seen:
                seen.add(block)
                for name, tensor in block.module.named_parameters():
                    shapes[f"{block.name}.{name}"].add(tensor.shape)
    return shapes
