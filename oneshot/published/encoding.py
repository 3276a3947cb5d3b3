"""The published encoding of an architecture: lists of kernel sizes, expansions and depths with a slot for every block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oneshot.arch import Arch, Option
from oneshot.published.families import family_of, make_arch, num_blocks
from oneshot.spaces.base import SearchSpace

# Published encodings have this many slots for each elastic stage, also where a network uses fewer.
_SLOTS = 4
_SIZES = ("r", "image_size", "resolution")


def from_published(space: SearchSpace, net: Mapping[str, Any]) -> Arch:
    """The architecture of ``{"ks": [...], "e": [...], "d": [...], "r": [224]}``, as the Once-for-All code samples and prints it.

    ``ks`` and ``e`` hold four slots for each stage; those of blocks beyond the stage's depth in ``d`` do not count. One number
    stands for a list of equal ones. The input size is ``r``, ``image_size`` or ``resolution``, a number or a list of one; it may
    be missing where the space has one only. Other entries are not looked at.

    Raises:
        ValueError: a space without a published encoding, a list missing or of the wrong length, or a value that is no option.
    """
    family_of(space)
    blocks = num_blocks(space)
    depths = _numbers(net, "d", len(blocks))
    slots = _slots(space)
    for name in ("ks", "e"):
        if isinstance(net.get(name), Sequence) and len(net[name]) == sum(blocks):
            slots = list(blocks)  # as the published code has it for a supernet with fewer blocks
    kernels, expands = (_numbers(net, name, sum(slots)) for name in ("ks", "e"))
    values: dict[str, Any] = {}
    position = 0
    for stage, (depth, count) in enumerate(zip(depths, slots, strict=True), start=1):
        values[f"stage{stage}.depth"] = depth
        for block in range(1, min(count, blocks[stage - 1]) + 1):
            values[f"stage{stage}.block{block}.kernel"] = kernels[position + block - 1]
            values[f"stage{stage}.block{block}.expand"] = expands[position + block - 1]
        position += count
    names = {choice.name for choice in space.choices}
    for stage, depth in enumerate(depths, start=1):
        # The published code takes larger depths for the largest; it draws them for a stage that always has one block.
        if f"stage{stage}.depth" not in names and (not isinstance(depth, int) or depth < blocks[stage - 1]):
            raise ValueError(
                f"d[{stage - 1}] is {depth!r}, but stage {stage} of this space always has {blocks[stage - 1]}"
            )
    return make_arch(space, {name: value for name, value in values.items() if name in names}, _size(net))


def to_published(space: SearchSpace, arch: Arch) -> dict[str, list[Option] | Option]:
    """The published encoding of ``arch``: ``ks``, ``e`` and ``d``, and the input size both as ``r`` (a list of one) and as
    ``image_size``, because the published programs differ in which they read. Slots of blocks that are not there hold the
    smallest option.

    Raises:
        ValueError: a space without a published encoding, or an architecture of another space.
    """
    family_of(space)
    space.validate(arch)
    smallest = {choice.name: choice.options[0] for choice in space.choices}
    lists: dict[str, list[Option]] = {"ks": [], "e": [], "d": []}
    for stage, (blocks, slots) in enumerate(zip(num_blocks(space), _slots(space), strict=True), start=1):
        lists["d"].append(arch.get(f"stage{stage}.depth", blocks))
        for slot in range(1, slots + 1):
            for key, name in (("ks", "kernel"), ("e", "expand")):
                choice = f"stage{stage}.block{slot}.{name}"
                unused = smallest.get(choice, smallest[f"stage{stage}.block1.{name}"])
                lists[key].append(arch.get(choice, unused))
    size = space.input_shape(arch)[-1]
    return {**lists, "r": [size], "image_size": size}


def _slots(space: SearchSpace) -> list[int]:
    """The slots of each stage: four where its depth is elastic."""
    names = {choice.name for choice in space.choices}
    return [
        max(_SLOTS, blocks) if f"stage{stage}.depth" in names else blocks
        for stage, blocks in enumerate(num_blocks(space), start=1)
    ]


def _numbers(net: Mapping[str, Any], name: str, count: int) -> list[Any]:
    if net.get(name) is None:
        raise ValueError(f"the encoding has no {name!r}; it has {', '.join(map(repr, net)) or 'nothing'}")
    value = net[name]
    if isinstance(value, (int, float)):
        return [value] * count
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{name!r} is a list of {count} numbers, not {value!r}")
    if len(value) != count:
        raise ValueError(f"{name!r} has {len(value)} slots, not {count}")
    return list(value)


def _size(net: Mapping[str, Any]) -> int | None:
    sizes: list[Any] = []
    for name in _SIZES:
        value: Any = net.get(name)
        if isinstance(value, Sequence) and not isinstance(value, str):
            if len(value) != 1:
                raise ValueError(f"{name!r} is one input size, not {value!r}")
            value = value[0]
        if value is not None:
            sizes.append(value)
    if any(size != sizes[0] for size in sizes):
        raise ValueError(f"the encoding has several input sizes: {sizes}")
    size: int | None = sizes[0] if sizes else None
    return size
