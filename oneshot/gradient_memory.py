"""Memory for the gradient of a tensor of which each step uses another part, so that a step writes that part and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oneshot.sharing import Region, part


class GradientMemory:
    """Gives ``stored.grad`` the same memory at every step, zero but for the parts that the step used.

    Memory is used again only where nothing else refers to it, and cleared as a whole where somebody wrote into it: a gradient
    that was kept stays what it was, and one that was changed leaves nothing behind.
    """

    __slots__ = ("_memory", "_parts", "_references", "_storage", "_used", "_version", "stored")

    def __init__(self, stored: nn.Parameter) -> None:
        self.stored = stored
        self.let_go()

    def let_go(self) -> None:
        """Gives the memory back; the next step takes it anew."""
        self._memory: Tensor | None = None
        self._parts: dict[Region, Tensor] = {}
        self._used: Region | None = None

    def start(self, region: Region) -> tuple[Tensor, Tensor | None]:
        """Makes this memory the gradient, which is none, for ``region`` to be written: that part, and what to clear before."""
        memory, stale = self._memory, None
        if memory is None or torch._C._storage_Use_Count(self._storage._cdata) != self._references:
            memory = self._take()
        elif memory._version != self._version:
            stale = memory
        elif self._used != region and self._used is not None and _around(self._used, region) != region:
            stale = self._parts[self._used]
        self._used = region
        place = self._part(memory, region)
        self.stored.grad = memory.detach()  # an object of its own, which counts among the references
        return place, stale

    def further(self, region: Region) -> Tensor | None:
        """The part to add ``region`` to, where this memory is the gradient."""
        memory, gradient = self._memory, self.stored.grad
        if memory is None or gradient is None or gradient.data_ptr() != memory.data_ptr():
            return None
        if memory._version != self._version:  # a path that used the whole tensor came between, or anybody
            self._used = tuple((0, length) for length in memory.shape)
            self._part(memory, self._used)
        elif self._used is not None and self._used != region:
            self._used = _around(self._used, region)
            self._part(memory, self._used)
        return self._part(memory, region)

    def written(self) -> None:
        """Called after the parts were written."""
        if self._memory is not None:
            self._version = self._memory._version

    def _take(self) -> Tensor:
        self._memory = torch.zeros_like(self.stored, requires_grad=False)
        self._storage = self._memory.untyped_storage()
        self._parts, self._used, self._version = {}, None, self._memory._version
        self._references = torch._C._storage_Use_Count(self._storage._cdata)
        return self._memory

    def _part(self, memory: Tensor, region: Region) -> Tensor:
        found = self._parts.get(region)
        if found is None:
            found = self._parts[region] = part(memory, region)
            self._references += 1
        return found


def _around(one: Region, two: Region) -> Region:
    """The smallest region with both in it."""
    bounds = [(min(a, b), max(a + c, b + d)) for (a, c), (b, d) in zip(one, two, strict=True)]
    return tuple((start, stop - start) for start, stop in bounds)
