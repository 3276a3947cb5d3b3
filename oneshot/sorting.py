"""Channels in the order of their importance, so that narrower subnets inherit those that matter most."""

from __future__ import annotations

import fnmatch
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.sharing import ChannelOrder
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.skeleton import Skeletons
from oneshot.supernet import Supernet


@torch.no_grad()
def sort_channels(supernet: Supernet, trained: SearchSpace, reaching: Mapping[str, Tensor] | None = None) -> int:
    """Sorts channels, or what else changes places as a whole, by the weights that read them, largest first, in the ways that
    the space's ``channel_orders`` name (Cai et al., ICLR 2020, section 3.3, elastic width).

    Channels change places only among those that every network of ``trained`` either has or lacks, so that each of these networks
    computes what it did, up to the order of summation. The published code does so for the channels between the convolutions
    of a block but orders those inside squeeze-and-excitation without regard to what has been trained.

    Args:
        trained: the part of the space that has been trained so far.
        reaching: what reaches the tensors that read channels, as ``input_energies`` measures it. With it the importance of a
            channel is the L2 norm of its weights times the root mean square of what they read; without it, the L1 norm.

    Returns:
        The number of layers whose channels were sorted.
    """
    tensors = dict(supernet.bank.named_parameters()) | dict(supernet.bank.named_buffers())
    orders = _orders(supernet)
    shapes = _shapes(trained)
    for order, block in orders:
        score = f"{block}.{order.score}"
        inside = order.place(order.score).inside(tensors[score].shape[order.dim])
        weight = tensors[score].narrow(order.dim, inside.start, len(inside))
        units = order.units or len(inside)
        energies = None if reaching is None or score not in reaching else reaching[score][inside.start : inside.stop]
        importance = _importance(weight, order.dim, len(inside) // units, energies)
        permutation = _permutation(importance, _bounds(order, block, units, tensors, shapes))
        for member in order.members:
            tensor = tensors.get(f"{block}.{member}")
            if tensor is not None:
                tensor.copy_(order.place(member).reordered(tensor, permutation))
    return len(orders)


@torch.no_grad()
def input_energies(supernet: Supernet, arch: Arch, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """The mean square of every channel that reaches a tensor by which channels are sorted, over images that ``arch`` takes; by
    the tensor's name in the bank, of the linear layers and convolutions among them.
    """
    modules = {block.name: block.module for block in supernet.skeleton(arch, lambda block: block.module)[1]}
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = defaultdict(int)

    def note(name: str, dim: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            values = args[0].detach().movedim(dim, -1).flatten(0, -2)
            squares = values.double().square().sum(0)
            sums[name] = sums[name] + squares if name in sums else squares
            counts[name] += len(values)

        return hook

    hooks = []
    for order, block in _orders(supernet):
        name, _, local = order.score.rpartition(".")
        layer = modules[block].get_submodule(name) if block in modules else None
        key = f"{block}.{order.score}"
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and local == "weight" and order.dim == 1 and key not in sums:
            hooks.append(layer.register_forward_pre_hook(note(key, -1 if isinstance(layer, nn.Linear) else 1)))
    was_training = supernet.training
    try:
        supernet.eval()
        for batch in images:
            supernet(batch, arch)
    finally:
        supernet.train(was_training)
        for handle in hooks:
            handle.remove()
    return {name: total / counts[name] for name, total in sums.items()}


def _orders(supernet: Supernet) -> list[tuple[ChannelOrder, str]]:
    """The orders of the space, and the block for each."""
    tensors = [name for name, _ in itertools.chain(supernet.bank.named_parameters(), supernet.bank.named_buffers())]
    found: list[tuple[ChannelOrder, str]] = []
    for order in supernet.space.channel_orders:
        blocks = [name.removesuffix(f".{order.score}") for name in tensors if name.endswith(f".{order.score}")]
        found += [(order, block) for block in blocks if fnmatch.fnmatchcase(block, order.blocks)]
    return found


def _bounds(
    order: ChannelOrder,
    block: str,
    units: int,
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, set[torch.Size]],
) -> set[int]:
    """The numbers of units that networks have, as a member tells in which no other channels lie."""
    whole = [name for name in (order.score, *order.members) if order.place(name).stop is None]
    name = next(name for name in whole if f"{block}.{name}" in tensors)
    dim = order.place(name).dim
    size = tensors[f"{block}.{name}"].shape[dim]
    return {shape[dim] * units // size for shape in shapes[f"{block}.{name}"]}


def _importance(weight: Tensor, dim: int, size: int, energies: Tensor | None) -> Tensor:
    """Of each unit of ``size`` channels along ``dim``."""
    others = [other for other in range(weight.dim()) if other != dim]
    if energies is None:
        return weight.abs().sum(others).view(-1, size).sum(1)
    squares = weight.double().square().sum(others) * energies.to(weight.device)
    return squares.view(-1, size).sum(1).sqrt()


def _permutation(importance: Tensor, bounds: set[int]) -> Tensor:
    """Indices by falling importance, within each part between two ``bounds``."""
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
