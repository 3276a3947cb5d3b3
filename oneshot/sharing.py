"""Sharing rules: how the tensor of a subnet is cut from the larger one that the supernet holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class SharingRule(nn.Module):
    """Cuts a tensor of a given shape from the stored one. The base rule is that of convolutions: the leading slice of the
    channels, and the centre of the kernel. A rule with parameters of its own is one instance for each stored tensor, and its
    parameters are trained with the supernet.
    """

    def prepare(self, stored: torch.Size, name: str) -> None:
        """Called once with the largest shape of the tensor that this rule serves and the tensor's name."""

    def forward(self, stored: Tensor, shape: torch.Size) -> Tensor:
        """``stored`` cut to ``shape``, which differs from its own."""
        return crop(stored, shape)


@dataclass(frozen=True)
class Place:
    """Where channels lie in a tensor.

    Args:
        dim: the dimension along which they lie.
        parts: how many sets of them lie there, one behind another: 3 in the weight of a fused query, key and value.
        start, stop: where they begin and end, if others lie beside them.
    """

    dim: int
    parts: int = 1
    start: int = 0
    stop: int | None = None

    def pieces(self, size: int, units: int, kept: int) -> list[tuple[int, int]]:
        """The ``(start, length)`` of what is left of ``size`` entries where the first ``kept`` of ``units`` units stay."""
        stop = self.inside(size).stop
        part = len(self.inside(size)) // self.parts
        inside = [(self.start + index * part, part // units * kept) for index in range(self.parts)]
        found: list[tuple[int, int]] = []
        for start, length in [(0, self.start), *inside, (stop, size - stop)]:
            if found and sum(found[-1]) == start:
                found[-1] = (found[-1][0], found[-1][1] + length)
            elif length:
                found.append((start, length))
        return found

    def inside(self, size: int) -> range:
        """The entries, of ``size`` along the dimension, in which the channels lie."""
        return range(self.start, size if self.stop is None else self.stop)

    def reordered(self, tensor: Tensor, order: Tensor) -> Tensor:
        """``tensor`` with the units, as many as ``order`` is long, in another order."""
        size = tensor.shape[self.dim]
        inside = torch.tensor(self.inside(size)).view(self.parts, len(order), -1)[:, order.cpu()].flatten()
        whole = torch.cat([torch.arange(self.start), inside, torch.arange(self.inside(size).stop, size)])
        return tensor.index_select(self.dim, whole.to(tensor.device))


@dataclass(frozen=True)
class ChannelOrder:
    """Channels inside the blocks of a pattern that may change places together.

    Args:
        blocks: pattern of block names, such as ``"stage*.block*"``.
        score: the tensor that reads the channels: it tells how important they are.
        dim: the dimension of ``score`` along which the channels lie.
        members: every tensor that holds the channels and the dimension along which they lie, or their place, ``score`` among
            them; those that a block lacks are passed over.
        units: how many there are that change places as a whole, such as attention heads; None is every channel of ``score``.
    """

    blocks: str
    score: str
    dim: int
    members: Mapping[str, int | Place]
    units: int | None = None

    def place(self, member: str) -> Place:
        """Where the channels lie in a member."""
        found = self.members[member]
        return Place(found) if isinstance(found, int) else found


# Where a part of a tensor begins and how long it is, in each dimension.
Region = tuple[tuple[int, int], ...]


def part(stored: Tensor, region: Region) -> Tensor:
    """What lies in a region of ``stored``: a view."""
    offset = stored.storage_offset()
    for (start, _), stride in zip(region, stored.stride(), strict=True):
        offset += start * stride
    # One operation for all dimensions: every `narrow` would write a gradient of the stored size of its own.
    return stored.as_strided([length for _, length in region], stored.stride(), offset)


def centre(stored: torch.Size, shape: torch.Size) -> Region:
    """The leading slice of the first two dimensions and the centre of the others."""
    pairs = zip(stored, shape, strict=True)
    return tuple((0 if dim < 2 else (have - want) // 2, want) for dim, (have, want) in enumerate(pairs))


def crop(stored: Tensor, shape: torch.Size) -> Tensor:
    """Leading slice of the first two dimensions, centre crop of the others: a view."""
    return part(stored, centre(stored.shape, shape))


def leading_slice(stored: Tensor, shape: torch.Size) -> Tensor:
    """Leading slice of every dimension: a view."""
    return stored.as_strided(shape, stored.stride())


class Pieces(SharingRule):
    """Cuts several pieces of a dimension, such as the first heads of a fused query, key and value; other dimensions are cut as
    usual.

    Args:
        pieces: by dimension, the ``(start, length)`` of the pieces for every size that the cut tensor may have.
    """

    def __init__(self, pieces: Mapping[int, Mapping[int, Sequence[tuple[int, int]]]]) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, stored: Tensor, shape: torch.Size) -> Tensor:
        """``stored`` cut to ``shape``."""
        for dim, of_size in self.pieces.items():
            if shape[dim] != stored.shape[dim]:
                cuts = [stored.narrow(dim, start, length) for start, length in of_size[shape[dim]]]
                stored = torch.cat(cuts, dim)
        return stored if stored.shape == shape else crop(stored, shape)

    def region(self, stored: torch.Size, shape: torch.Size) -> Region | None:
        """What ``shape`` is of a tensor of shape ``stored``, where it is one piece."""
        region = list(centre(stored, shape))
        for dim, of_size in self.pieces.items():
            if shape[dim] != stored[dim]:
                if len(of_size[shape[dim]]) > 1:
                    return None
                ((start, length),) = of_size[shape[dim]]
                region[dim] = start, length
        return tuple(region)

    def write(self, stored: Tensor, values: Tensor) -> None:
        """Puts ``values``, cut from ``stored`` along one dimension and changed since, back to where they were."""
        (dim,) = self.pieces
        end = 0
        for start, length in self.pieces[dim][values.shape[dim]]:
            stored.narrow(dim, start, length).copy_(values.narrow(dim, end, length))
            end += length


class KernelTransform(SharingRule):
    """Once-for-All's elastic kernel: the centre of the next larger kernel, multiplied by a learned matrix that all channels
    of the layer share and that starts as the identity (Cai et al., ICLR 2020, section 3.3). The published code applies the
    matrices one after another, 7 to 5 to 3; here it is their product, the same but for rounding. Channels are cut by leading
    slices.

    Args:
        sizes: the kernel sizes of the space, in any order.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = sorted(int(size) for size in sizes)

    def prepare(self, stored: torch.Size, name: str) -> None:
        """Makes the matrices, ``(k * k, k * k)`` each for every size k below that of the stored kernel, which is the largest of
        the space, or of the part of it that the supernet is of.

        Raises:
            ValueError: the stored kernel is none of the sizes.
        """
        if stored[-1] not in self.sizes:
            raise ValueError(f"{name} is {stored[-1]} wide, but the kernel sizes of its transform are {self.sizes}")
        self.sizes = [size for size in self.sizes if size <= stored[-1]]
        for small, large in zip(self.sizes, self.sizes[1:], strict=False):
            self.register_parameter(f"{large}to{small}", nn.Parameter(torch.eye(small * small)))

    def forward(self, stored: Tensor, shape: torch.Size) -> Tensor:
        """``(channels, inputs, k, k)`` from ``(max channels, max inputs, K, K)``.

        Raises:
            ValueError: k is not one of the sizes.
        """
        matrix = self.matrix(shape[-1])
        if matrix is None:
            return crop(stored, shape)
        read = crop(stored, self.reads(shape))
        return transformed(read.reshape(-1, matrix.shape[1]), matrix, read)

    def reads(self, shape: torch.Size) -> torch.Size:
        """The shape of the centre of which a smaller kernel of ``shape`` is made."""
        read = shape[-1] if shape[-1] == self.sizes[-1] else self.sizes[-2]
        return torch.Size((*shape[:2], read, read))

    def matrix(self, size: int) -> Tensor | None:
        """By what a kernel of ``size`` is made of the numbers that it reads: the product of the matrices, each after the centre
        of the kernel before it. None for the largest, which is cut only.

        Raises:
            ValueError: it is not one of the sizes.
        """
        if size not in self.sizes:
            raise ValueError(f"the kernel sizes of this transform are {self.sizes}, not {size}")
        product: Tensor | None = None
        for small, large in zip(self.sizes[-2::-1], self.sizes[:0:-1], strict=True):
            if large == size:
                break
            matrix: Tensor = getattr(self, f"{large}to{small}")
            if product is not None:
                margin = (large - small) // 2
                inside = slice(margin, margin + small)
                matrix = matrix @ product.view(large, large, -1)[inside, inside].reshape(small * small, -1)
            product = matrix
        return product


def transformed(numbers: Tensor, matrix: Tensor, read: Tensor) -> Tensor:
    """Kernels ``(channels, inputs, k, k)``, whose numbers are sums of ``numbers``, those of the larger kernels that were ``read``
    in rows, by the rows of ``matrix``.
    """
    size = round(matrix.shape[0] ** 0.5)
    kernel = nn.functional.linear(numbers, matrix).view(*read.shape[:2], size, size)
    # Convolutions choose their algorithm by the strides of the weight, so these are the stored weight's.
    return kernel.to(memory_format=torch.channels_last) if read.stride(1) < read.stride(2) else kernel
