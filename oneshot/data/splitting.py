"""Stratified random splits, made from labels alone, so that they do not depend on how images are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oneshot.data.options import check_share


@dataclass(frozen=True)
class Fixed:
    """What a random split may not decide.

    Attributes:
        first: for each image the first one with the same content, shape ``(num_images,)``; copies follow it.
        part: for each image the name of the part that it belongs to, as an index into ``("train", *shares)``, or -1 where the
            split decides, shape ``(num_images,)``.
    """

    first: Tensor
    part: Tensor


def stratified_split(
    labels: Tensor, shares: Mapping[str, float | int], classes: Sequence[str], seed: int, fixed: Fixed | None = None
) -> dict[str, Tensor]:
    """Splits images at random so that all parts have the same proportions of classes, to within one image.

    Every part, and the rest, gets at least one image of each class.

    Args:
        labels: int64 class indices, shape ``(num_images,)``.
        shares: the size of each part by name, a fraction of all images or their number; may be empty.
        classes: their names.
        seed: the same labels, shares and seed give the same split.
        fixed: copies are not counted, and follow their first. Where images have a part already, the others are split in the
            same proportions, but a part that has its share gets no more.

    Returns:
        Indices in ascending order for each part by name, and for the rest under ``"train"``.

    Raises:
        ValueError: a share is out of range or smaller than the number of classes, a class has too few images, or no
            training images are left; the message names the share or class.
    """
    if fixed is None:
        fixed = Fixed(torch.arange(len(labels)), torch.full((len(labels),), -1))
    distinct = fixed.first == torch.arange(len(labels))
    counts = _counts(labels[distinct], classes)
    for name, count in zip(classes, counts, strict=True):
        if count <= len(shares):
            parts = ", ".join(["train", *shares])
            raise ValueError(
                f"class {name!r} has {count}{'' if distinct.all() else ' different'} image{'' if count == 1 else 's'}, "
                f"at least {len(shares) + 1} are needed to split them into {parts}"
            )
    _check_together(shares, counts)
    least = [count - len(shares) - 1 for count in counts]  # what is left when each part has one of each class
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = shuffled[distinct[shuffled] & (fixed.part[shuffled] < 0)]
    by_class = list(
        shuffled[labels[shuffled].argsort(stable=True)].split_with_sizes(_counts(labels[shuffled], classes))
    )
    num_new = list(map(len, by_class))
    part = fixed.part.clone()
    for position, (name, share) in enumerate(shares.items(), 1):
        wanted = _allocate(name, share, counts, least)
        least = [left - number + 1 for left, number in zip(least, wanted, strict=True)]
        known = _counts(labels[distinct & (fixed.part == position)], classes)
        for index, (own, number) in enumerate(zip(by_class, wanted, strict=True)):
            share_of_new = -(-num_new[index] * number // counts[index])
            taken = min(max(number - known[index], 0), share_of_new)
            part[own[:taken]] = position
            by_class[index] = own[taken:]
    part[torch.cat(by_class)] = 0
    part = part[fixed.first]
    return {name: (part == position).nonzero().flatten() for position, name in enumerate(["train", *shares])}


def _check_together(shares: Mapping[str, float | int], counts: Sequence[int]) -> None:
    """Raises ValueError, for the largest of them, where all shares together leave no training image of each class."""
    for name, share in shares.items():
        check_share(name, share)
    sizes = {name: _size(share, counts) for name, share in shares.items()}
    name = max(sizes, key=sizes.__getitem__, default="")
    if sum(sizes.values()) > sum(counts) - len(counts):
        most = sum(counts) - len(counts) - sum(sizes.values()) + sizes[name]
        raise ValueError(_TOO_MANY.format(name=name, share=shares[name], total=sizes[name], all=sum(counts), most=most))


_TOO_MANY = (
    "{name}={share} asks for {total} of {all} images; at most {most} can be taken if others are to keep what they ask for, and "
    "one image of each class"
)


def _size(share: float | int, counts: Sequence[int]) -> int:
    """How many images a share is of all."""
    return share if isinstance(share, int) else max(round(share * sum(counts)), len(counts))


def _counts(labels: Tensor, classes: Sequence[str]) -> list[int]:
    counts: list[int] = torch.bincount(labels, minlength=len(classes)).tolist()
    return counts


def stratified_subset(labels: Tensor, num_images: int, classes: Sequence[str], seed: int) -> Tensor:
    """The ascending indices of ``num_images`` images with the same proportions of classes, or of all.

    Raises:
        ValueError: ``num_images`` is smaller than the number of classes.
    """
    if num_images >= len(labels):
        return torch.arange(len(labels))
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    taken = _allocate("max_train_images", num_images, counts, [count - 1 for count in counts])
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)].split_with_sizes(counts)
    return torch.cat([own[:number] for own, number in zip(by_class, taken, strict=True)]).sort().values


def _allocate(name: str, share: float | int, counts: Sequence[int], free: Sequence[int]) -> list[int]:
    """Divides a part among the classes by largest remainders: 1 to 1 + ``free`` images of each.

    Args:
        name: of the part, for messages.
        share: its size.
        counts: images of each class.
        free: how many of each class the part may have beyond the first.
    """
    check_share(name, share)
    num_images, num_classes = sum(counts), len(counts)
    total = _size(share, counts)
    if total < num_classes:
        raise ValueError(
            f"{name}={share} is less than one image for each of the {num_classes} classes; give at least {num_classes}"
        )
    most = num_classes + sum(free)
    if total > most:
        raise ValueError(_TOO_MANY.format(name=name, share=share, total=total, all=num_images, most=most))
    wanted = [count * total / num_images for count in counts]
    taken = [min(max(int(want), 1), 1 + left) for want, left in zip(wanted, free, strict=True)]
    while sum(taken) < total:
        open_classes = [i for i in range(num_classes) if taken[i] < 1 + free[i]]
        taken[max(open_classes, key=lambda i: wanted[i] - taken[i])] += 1
    while sum(taken) > total:
        open_classes = [i for i in range(num_classes) if taken[i] > 1]
        taken[min(open_classes, key=lambda i: wanted[i] - taken[i])] -= 1
    return taken
