"""Values that later candidates need, kept within a limit of memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from oneshot.evaluation.nesting import leaves


class Used(Protocol):
    """Whose values are kept.

    Attributes:
        uses: the positions of the candidates that need them, ascending.
    """

    uses: list[int]


@dataclass(eq=False)
class Uses:
    """Something that the candidates at these positions need."""

    uses: list[int] = field(default_factory=list)


class Store:
    """Keeps parts of what candidates have in common, at most ``limit`` bytes. Where they do not fit, those that are needed last
    go first (Belady, IBM Systems Journal 1966).

    Attributes:
        num_bytes: of the tensors that are kept now; memory that several of them share counts once.
        peak_bytes: the most there ever were.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.num_bytes = 0
        self.peak_bytes = 0
        self._parts: dict[Any, dict[Hashable, Any]] = {}
        self._holders: dict[int, int] = {}

    def has(self, owner: Used, part: Hashable) -> bool:
        return part in self._parts.get(owner, ())

    def get(self, owner: Used, part: Hashable, default: Any = None) -> Any:
        return self._parts.get(owner, {}).get(part, default)

    def put(self, owner: Used, part: Hashable, value: Any, now: int) -> None:
        """Keeps a part of ``owner`` if a candidate after the one at position ``now`` needs it, and it fits beside what is needed
        before that.
        """
        next_use = _next_use(owner, now)
        if next_use is None or self.has(owner, part):
            return
        if not self._make_room(value, next_use, now):
            return
        for address, size in _memory(value).items():
            self._holders[address] = self._holders.get(address, 0) + 1
            self.num_bytes += size if self._holders[address] == 1 else 0
        self._parts.setdefault(owner, {})[part] = value
        self.peak_bytes = max(self.peak_bytes, self.num_bytes)

    def tidy(self, now: int) -> None:
        """Lets go of what no candidate after the one at position ``now`` needs."""
        for owner in [owner for owner in self._parts if _next_use(owner, now) is None]:
            while self._parts.get(owner):
                self._drop(owner)

    def clear(self) -> None:
        """Lets go of everything."""
        self._parts.clear()
        self._holders.clear()
        self.num_bytes = 0

    def _make_room(self, value: Any, next_use: int, now: int) -> bool:
        memory = _memory(value)
        if sum(memory.values()) > self.limit:
            return False
        while self.num_bytes + sum(size for at, size in memory.items() if at not in self._holders) > self.limit:
            last, owner = max(
                ((_next_use(owner, now) or _NEVER, owner) for owner in self._parts), key=lambda pair: pair[0]
            )
            if last <= next_use:
                return False
            self._drop(owner)
        return True

    def _drop(self, owner: Used) -> None:
        parts = self._parts[owner]
        _, value = parts.popitem()
        if not parts:
            del self._parts[owner]
        for address, size in _memory(value).items():
            self._holders[address] -= 1
            if not self._holders[address]:
                del self._holders[address]
                self.num_bytes -= size


_NEVER = 2**62


def _next_use(owner: Used, now: int) -> int | None:
    index = bisect_right(owner.uses, now)
    return owner.uses[index] if index < len(owner.uses) else None


def _memory(value: Any) -> Mapping[int, int]:
    """The bytes of each piece of memory that a value holds, by address."""
    storages = (tensor.untyped_storage() for tensor in _tensors(value))
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, nn.Module):
        yield from value.parameters()
        yield from value.buffers()
    else:
        yield from (item for item in leaves(value) if isinstance(item, Tensor))
