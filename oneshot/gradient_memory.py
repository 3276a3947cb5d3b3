"""Memory for the gradient of a tensor of which each step uses another part, so that a step writes that part and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oneshot.sharing import Region, part


class Part:
    """A part of a gradient, and the view that it is while there is memory for it."""

    __slots__ = ("region", "view")

    def __init__(self, region: Region) -> None:
        self.region = region
        self.view: Tensor | None = None


class GradientMemory:
    """Gives ``stored.grad`` the same memory at every step, zero but for the parts that the step used.

    Memory is used again only where nothing else refers to it, and cleared as a whole where somebody wrote into it: a gradient
    that was kept stays what it was, and one that was changed leaves nothing behind.
    """

    __slots__ = ("_joined", "_memory", "_parts", "_references", "_storage", "_used", "_version", "stored")

    def __init__(self, stored: nn.Parameter) -> None:
        self.stored = stored
        self._parts: dict[Region, Part] = {}
        self._joined: dict[tuple[Part, Part], Part] = {}
        self.let_go()

    def part(self, region: Region) -> Part:
        """The one ``Part`` of this region."""
        found = self._parts.get(region)
        if found is None:
            found = self._parts[region] = Part(region)
        return found

    def let_go(self) -> None:
        """Gives the memory back; the next step takes it anew."""
        self._memory: Tensor | None = None
        self._used: Part | None = None
        for known in self._parts.values():
            known.view = None

    def start(self, used: Part) -> tuple[Tensor, Tensor | None]:
        """Makes this memory the gradient, which is none, for ``used`` to be written: its view, and what to clear before that."""
        memory, stale = self._memory, None
        if memory is None or torch._C._storage_Use_Count(self._storage._cdata) != self._references:
            memory = self._take()
        elif memory._version != self._version:
            stale = memory
        elif self._used is not None and self._used is not used and self._around(self._used, used) is not used:
            stale = self._used.view
        self._used = used
        view = used.view if used.view is not None else self._view(memory, used)
        self.stored.grad = memory.detach()  # an object of its own, which counts among the references
        return view, stale

    def further(self, used: Part) -> Tensor | None:
        """The view of ``used`` to add to, where this memory is the gradient."""
        memory, gradient = self._memory, self.stored.grad
        if memory is None or gradient is None or gradient.data_ptr() != memory.data_ptr():
            return None
        if memory._version != self._version:  # a path that used the whole tensor came between, or anybody
            self._used = self.part(tuple((0, length) for length in memory.shape))
        elif self._used is not None and self._used is not used:
            self._used = self._around(self._used, used)
        if self._used is not None and self._used.view is None:
            self._view(memory, self._used)
        return used.view if used.view is not None else self._view(memory, used)

    def written(self) -> None:
        """Called after the parts were written."""
        if self._memory is not None:
            self._version = self._memory._version

    def _take(self) -> Tensor:
        self.let_go()
        self._memory = torch.zeros_like(self.stored, requires_grad=False)
        self._storage = self._memory.untyped_storage()
        self._version = self._memory._version
        self._references = torch._C._storage_Use_Count(self._storage._cdata)
        return self._memory

    def _view(self, memory: Tensor, used: Part) -> Tensor:
        used.view = part(memory, used.region)
        self._references += 1
        return used.view

    def _around(self, one: Part, two: Part) -> Part:
        """The smallest part with both in it."""
        joined = self._joined.get((one, two))
        if joined is None:
            pairs = zip(one.region, two.region, strict=True)
            bounds = [(min(a, b), max(a + length, b + other)) for (a, length), (b, other) in pairs]
            joined = self._joined[one, two] = self.part(tuple((start, stop - start) for start, stop in bounds))
        return joined
