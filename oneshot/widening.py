"""Channels that a wider part of a network adds begin as copies of those that are trained (Net2Net: Chen, Goodfellow and Shlens,
ICLR 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from oneshot.binding import Binding


def copy_channels(narrow: Sequence[Binding], wide: Sequence[Binding], generator: torch.Generator) -> int:
    """Fills what ``wide`` takes of the bank and ``narrow`` does not, in tensors that both use, with copies of random channels,
    the same ones wherever so many become so many. As in DrNAS's code (xiangning-chen/DrNAS, ``net2wider.py``) copies are not
    scaled down. Returns how many tensors were filled.
    """
    shapes = {(id(one.source), one.source_name): one.shape for one in narrow}
    chosen: dict[tuple[int, int], torch.Tensor] = {}
    filled = set()
    for one in wide:
        key = (id(one.source), one.source_name)
        before = shapes.get(key)
        if before is None or before == one.shape or key in filled:
            continue
        filled.add(key)
        stored, reached = one.source[one.source_name], list(before)
        for dim, (old, new) in enumerate(zip(before, one.shape, strict=True)):
            if new <= old:
                continue
            if (old, new) not in chosen:
                chosen[old, new] = torch.randint(old, (new - old,), generator=generator)
            known = stored[tuple(slice(size) for size in reached)]
            copies = known.index_select(dim, chosen[old, new].to(stored.device))
            reached[dim] = new
            added = [slice(size) for size in reached]
            added[dim] = slice(old, new)
            stored[tuple(added)] = copies
    return len(filled)
