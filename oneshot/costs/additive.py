"""Sums over blocks: what depends on few choices at a time is measured once and looked up for whole populations."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from oneshot.arch import Arch
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Codes, Coding

Contributions = Mapping[str, Sequence[float]]
"""What each block of one architecture adds to the values, by the block's name."""

_MAX_ROWS = 2**18  # of a group that has a row for every key; larger groups have one for each key that occurred


class AdditiveTable:
    """Values of every architecture of ``space`` that are sums of what its blocks contribute.

    Each block's contribution is kept under the options of the choices on which it depends. Those choices are found by
    changing one choice at a time, and the table is checked by walking architectures that contain every pair of options. Where
    a walk contradicts it, each block is taken to depend on all choices that ever changed together with it, and where that is
    contradicted, too, every architecture is walked. Integers are exact; floats are summed in another order than by a walk.

    Attributes:
        coding: of the codes that the table takes.

    Args:
        space: where the architectures come from.
        contributions: walks one architecture; every contribution has ``num_values`` entries. The table passes on what it
            raises and stays as it was.
        num_values: of every architecture.
        integers: whether the values are integers rather than floats.
    """

    def __init__(
        self,
        space: SearchSpace,
        contributions: Callable[[Arch], Contributions],
        num_values: int,
        integers: bool = False,
    ) -> None:
        self.coding = Coding(space)
        self._walk = contributions
        self._shape = (num_values, np.dtype(np.int64 if integers else np.float64))
        self._walked: list[tuple[Codes, Contributions]] = []
        self._grouping: _Grouping | None = None
        self._fallbacks: list[_Grouping] = []

    def __call__(self, codes: Codes) -> NDArray[np.float64]:
        """``(num_archs, num_values)`` of the architectures with these codes."""
        if self._grouping is None:
            self._grouping = self._discover()
        grouping = self._grouping
        values, known = grouping.look_up(codes)
        while not known.all():
            missing = np.flatnonzero(~known)
            self._enter(codes[missing[:1]], self._walk(self.coding.decode(codes[missing[:1]])[0]))
            if self._grouping is not grouping:
                return self(codes)
            values[missing], known[missing] = grouping.look_up(codes[missing])
        return values

    def _enter(self, code: Codes, contributions: Contributions) -> None:
        assert self._grouping is not None
        if self._fallbacks:
            self._walked.append((code, contributions))
        if not self._grouping.enter(code, contributions):
            self._grouping = self._fall_back()

    def _fall_back(self) -> _Grouping:
        """The next grouping that no walk contradicts; the last is contradicted by none."""
        while True:
            grouping = self._fallbacks.pop(0)
            if all(grouping.enter(*walked) for walked in self._walked):
                if not self._fallbacks:
                    self._walked.clear()
                return grouping

    # Discovery -------------------------------------------------------------------------------------------------------

    def _discover(self) -> _Grouping:
        space = self.coding.space
        everything = [_Group(None, range(len(space.choices)))]
        if type(space).canonical is not SearchSpace.canonical:  # one change renames others, so nothing would be learned
            self._walked = []
            self._fallbacks = [_Grouping(everything, self.coding.num_options, *self._shape)]
            return self._fall_back()
        narrow: dict[str, set[int]] = {}
        wide: dict[str, set[int]] = {}
        walked: list[tuple[Codes, Contributions]] = []
        for base in (space.largest, space.smallest, space.sample(random.Random(0))):
            near = [self._walked_one(arch) for arch in (base, *space.neighbours(base))]
            walked += near
            for other in near[1:]:
                changed = np.flatnonzero(near[0][0][0] != other[0][0]).tolist()
                # What became active or inactive follows from the choices that decide about it.
                deciding = [column for column in changed if near[0][0][0, column] >= 0 and other[0][0, column] >= 0]
                _note(narrow, near[0][1], other[1], deciding or changed)
                _note(wide, near[0][1], other[1], changed)
            for one, other in itertools.pairwise(near[1:]):
                changed = np.flatnonzero(one[0][0] != other[0][0]).tolist()
                if len(changed) == 1:
                    _note(narrow, one[1], other[1], changed)
        walked += map(self._walked_one, space.pairwise())
        self._walked = walked
        self._fallbacks = [
            _Grouping(groups, self.coding.num_options, *self._shape)
            for groups in (_group(narrow), _group(wide), everything)
        ]
        return self._fall_back()

    def _walked_one(self, arch: Arch) -> tuple[Codes, Contributions]:
        return self.coding.encode([arch]), self._walk(arch)


class AdditiveLatency:
    """Latencies in milliseconds of architectures of ``space``, as sums of what their blocks take.

    Args:
        space: where the architectures come from.
        contributions: the milliseconds of each block of one architecture, by name; the first use passes on what it raises for
            an architecture that it does not know.
    """

    def __init__(self, space: SearchSpace, contributions: Callable[[Arch], Mapping[str, float]]) -> None:
        def walk(arch: Arch) -> Contributions:
            return {name: (milliseconds,) for name, milliseconds in contributions(arch).items()}

        self._table = AdditiveTable(space, walk, num_values=1)

    def latencies_of(self, codes: Codes) -> NDArray[np.float64]:
        """``(num_archs,)`` in milliseconds."""
        return self._table(codes)[:, 0]

    def latency(self, arch: Arch) -> float:
        """Milliseconds of ``arch``, an architecture of the space."""
        return float(self.latencies_of(self._table.coding.encode([arch]))[0])


class _Group:
    """Blocks (all if None) whose contributions depend on the choices at ``columns``."""

    def __init__(self, blocks: frozenset[str] | None, columns: Iterable[int]) -> None:
        self.blocks = blocks
        self.columns = np.array(sorted(columns), dtype=np.int64)


class _Grouping:
    """A row of values for every key of every group: the options of the choices on which it depends.

    Groups with few keys have a row for each of them, whose number is a sum over the columns of a code; the rows of the other
    groups are numbered as they occur. Row 0 is never known.
    """

    def __init__(
        self, groups: list[_Group], num_options: NDArray[np.int64], num_values: int, dtype: np.dtype[np.generic]
    ) -> None:
        num_keys = [float(np.prod(num_options[group.columns] + 1.0)) for group in groups]
        dense = [group for group, keys in zip(groups, num_keys, strict=True) if keys <= _MAX_ROWS]
        self._sparse = [group for group, keys in zip(groups, num_keys, strict=True) if keys > _MAX_ROWS]
        self._groups = dense + self._sparse
        self._numbers: list[dict[bytes, int]] = [{} for _ in self._sparse]
        # Floats multiply faster than integers; these are too small to be rounded.
        precision = np.float32 if sum(keys for keys in num_keys if keys <= _MAX_ROWS) < 2**23 else np.float64
        self._strides = np.zeros((len(num_options), len(dense)), dtype=precision)
        self._offsets = np.zeros(len(dense), dtype=precision)
        self._num_rows = 1
        for index, group in enumerate(dense):
            radices = num_options[group.columns] + 1
            strides = np.concatenate([[1], np.cumprod(radices)])
            self._strides[group.columns, index] = strides[:-1]
            self._offsets[index] = self._num_rows + strides[:-1].sum()  # -1, an inactive choice, is digit 0
            self._num_rows += int(strides[-1])
        self._values = np.zeros((num_values, self._num_rows), dtype=dtype)
        self._known = np.zeros(self._num_rows, dtype=np.bool_)
        self._group_of = {name: index for index, group in enumerate(self._groups) for name in group.blocks or ()}

    def look_up(self, codes: Codes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """``(num_archs, num_values)``, and ``(num_archs,)`` whether they are known."""
        rows = self._rows_of(codes)
        known = self._known[rows]
        # The sum over short rows is slow, and hardly ever needed.
        return self._values[:, rows].sum(axis=2).T, np.full(len(codes), True) if known.all() else np.all(known, axis=1)

    def enter(self, code: Codes, contributions: Contributions) -> bool:
        """Whether the ``contributions`` of the architecture with this code agree with all that were entered before."""
        totals = np.zeros((len(self._values), len(self._groups)), dtype=self._values.dtype)
        for name, parts in contributions.items():
            group = 0 if self._groups[0].blocks is None else self._group_of.get(name)
            if group is None:
                return False
            totals[:, group] += np.asarray(parts, dtype=self._values.dtype)
        rows = self._rows_of(code, number=True)[0]
        known = self._known[rows]
        self._values[:, rows[~known]] = totals[:, ~known]
        self._known[rows] = True
        return bool(np.allclose(self._values[:, rows], totals, rtol=_rounding(totals), atol=0))

    def _rows_of(self, codes: Codes, number: bool = False) -> NDArray[np.int64]:
        """``(num_archs, num_groups)``; with ``number``, keys that did not occur before get a row."""
        dense: NDArray[np.int64] = (codes.astype(self._strides.dtype) @ self._strides + self._offsets).astype(np.int64)
        if not self._sparse:
            return dense
        sparse = []
        for group, numbers in zip(self._sparse, self._numbers, strict=True):
            keys = [key.tobytes() for key in codes[:, group.columns]]
            for key in keys if number else ():
                if key not in numbers:
                    numbers[key] = self._num_rows
                    self._num_rows += 1
            sparse.append([numbers.get(key, 0) for key in keys])
        if self._num_rows > len(self._known):
            grown = 2 * self._num_rows
            self._values = np.pad(self._values, ((0, 0), (0, grown)))
            self._known = np.pad(self._known, (0, grown))
        return np.concatenate([dense, np.array(sparse, dtype=np.int64).T], axis=1)


def _rounding(totals: NDArray[np.float64]) -> float:
    return 1e-9 if totals.dtype.kind == "f" else 0.0


def _note(depends: dict[str, set[int]], one: Contributions, other: Contributions, columns: Iterable[int]) -> None:
    """Adds ``columns`` to the dependencies of all blocks in which two walks differ."""
    for block in one.keys() | other.keys():
        entry = depends.setdefault(block, set())
        if one.get(block) != other.get(block):
            entry.update(columns)


def _group(depends: Mapping[str, set[int]]) -> list[_Group]:
    """Blocks that depend on the same choices, together."""
    blocks_of: dict[tuple[int, ...], set[str]] = {}
    for block, columns in depends.items():
        blocks_of.setdefault(tuple(sorted(columns)), set()).add(block)
    return [_Group(frozenset(blocks), columns) for columns, blocks in blocks_of.items()]
