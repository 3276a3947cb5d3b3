"""Cells whose nodes each add up two operations on earlier values: which are the same graph, and how many there are."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

Branch = tuple[int, str]
"""The value that a node reads and the operation on it. Values 0 and 1 are the cell's inputs, ``n + 2`` is that of node ``n``."""

Node = tuple[Branch, Branch]
Cell = tuple[Node, ...]

CellOptions = tuple[tuple[tuple[int, ...], tuple[str, ...], tuple[int, ...], tuple[str, ...]], ...]
"""What each node may be: options of its first input, first operation, second input and second operation."""

_ENUMERATED = 20_000


@functools.lru_cache(maxsize=65_536)
def canonical_cell(cell: Cell, options: CellOptions) -> Cell:
    """The first cell, among those of ``options``, that is the same graph as ``cell``: nodes in another order, or a node's two
    branches exchanged. Cells are ordered by the second branch of their first node, then by its first branch, and so on.
    ``cell`` is one of ``options``.
    """
    return min(_firsts(cell, options, (), {0: 0, 1: 1}), key=_order)


@functools.lru_cache(maxsize=64)
def num_cells(options: CellOptions) -> int:
    """The number of different graphs among the cells of ``options``, without listing them: in a second or two at five nodes where
    all operations have the same options, in up to minutes where each has its own.
    """
    if math.prod(len(part) for node in options for part in node) <= _ENUMERATED:
        nodes = ([((i, o), (j, p)) for i, o, j, p in itertools.product(*node)] for node in options)
        return len({canonical_cell(cell, options) for cell in itertools.product(*nodes)})
    return sum(_num_labellings(shape, options) for shape in _shapes(len(options)))


# Canonical form ------------------------------------------------------------------------------------------------------


def _order(cell: Cell) -> list[Node]:
    return [(second, first) for first, second in cell]


def _firsts(cell: Cell, options: CellOptions, placed: Cell, values: dict[int, int]) -> Iterator[Cell]:
    """The first completions of ``placed``, one for each way to break ties that may matter. ``values`` maps the values of ``cell``
    that are inputs or placed to those of ``placed``.
    """
    position = len(placed)
    if position == len(cell):
        yield placed
        return
    found: dict[Node, list[int]] = {}
    inputs, operations, other_inputs, other_operations = options[position]
    for node, ((first, one), (second, two)) in enumerate(cell):
        if node + 2 in values or first not in values or second not in values:
            continue
        pair = ((values[first], one), (values[second], two))
        for (i, o), (j, p) in {pair, pair[::-1]}:
            if i in inputs and o in operations and j in other_inputs and p in other_operations:
                found.setdefault(((j, p), (i, o)), []).append(node)
    read = {value for node in cell for value, _ in node}
    for (second_branch, first_branch), nodes in sorted(found.items()):
        # Equal nodes that nothing reads may be placed in any order.
        distinct = [node for node in nodes if node + 2 in read] + [node for node in nodes if node + 2 not in read][:1]
        completed = False
        for node in distinct:
            extended = (*placed, (first_branch, second_branch))
            for completion in _firsts(cell, options, extended, values | {node + 2: position + 2}):
                completed = True
                yield completion
        if completed:
            return


# Counting: by shape, a cell without its operations -------------------------------------------------------------------

_Shape = tuple[tuple[int, int], ...]
"""The two values that each node reads, the smaller one first."""

_Slot = tuple[int, int]
"""A node and which of its two values, in the order of the shape."""

_Box = tuple[frozenset[str], ...]


@functools.lru_cache(maxsize=8)
def _shapes(num_nodes: int) -> tuple[_Shape, ...]:
    """Every shape once."""
    full: CellOptions = tuple((tuple(range(node + 2)), ("",)) * 2 for node in range(num_nodes))
    shapes: list[_Shape] = [()]
    for node in range(num_nodes):
        pairs = [(first, second) for second in range(node + 2) for first in range(second + 1)]
        # Canonical cells have their nodes in rising order.
        shapes = [(*shape, pair) for shape in shapes for pair in pairs if not shape or shape[-1][::-1] <= pair[::-1]]
    found: dict[Cell, _Shape] = {}
    for shape in shapes:
        cell = tuple(((first, ""), (second, "")) for first, second in shape)
        tied = len(set(shape)) < len(shape)
        found.setdefault(canonical_cell.__wrapped__(cell, full) if tied else cell, shape)
    return tuple(found.values())


def _num_labellings(shape: _Shape, options: CellOptions) -> int:
    """The number of different graphs of this shape among ``options``: by Burnside's lemma, the mean over the symmetries of the
    shape of how many labellings of its slots with operations each leaves as they are.
    """
    boxes = _boxes(shape, options)
    symmetries = [*_symmetries(shape)]
    if len({part for box in boxes for part in box}) <= 1:
        num_operations = len(next(iter(boxes))[0]) if boxes else 0
        fixed = sum(math.prod([num_operations] * len(cycles)) for cycles in symmetries)
    else:
        fixed = 0
        for cycles in symmetries:
            merged = {
                tuple(frozenset.intersection(*(box[slot] for slot in cycle)) for cycle in cycles) for box in boxes
            }
            fixed += _union(frozenset(box for box in merged if all(box)))
    assert fixed % len(symmetries) == 0
    return fixed // len(symmetries)


def _boxes(shape: _Shape, options: CellOptions) -> set[_Box]:
    """The operations that the slots of ``shape`` may have, for each way to place its nodes that the options of inputs allow."""
    boxes: set[_Box] = set()
    same_operations = len({frozenset(part) for node in options for part in node[1::2]}) == 1

    def place(values: dict[int, int], box: dict[_Slot, frozenset[str]]) -> None:
        position = len(values) - 2
        if position == len(shape):
            boxes.add(tuple(box[slot] for slot in _slots(shape)))
            return
        inputs, operations, other_inputs, other_operations = options[position]
        for node, (first, second) in enumerate(shape):
            if boxes and same_operations:
                return
            if node + 2 in values or first not in values or second not in values:
                continue
            placed = values | {node + 2: position + 2}
            slots = ((node, 0), (node, 1))
            turned = inputs != other_inputs or operations != other_operations
            for one, two in (slots, slots[::-1]) if turned else (slots,):
                if values[shape[node][one[1]]] in inputs and values[shape[node][two[1]]] in other_inputs:
                    place(placed, box | {one: frozenset(operations), two: frozenset(other_operations)})

    place({0: 0, 1: 1}, {})
    return boxes


def _slots(shape: _Shape) -> list[_Slot]:
    return [(node, side) for node in range(len(shape)) for side in (0, 1)]


def _symmetries(shape: _Shape) -> Iterator[list[list[int]]]:
    """The ways to exchange slots that keep the shape, each as the cycles that it turns, of indices into ``_slots``."""
    doubled = [node for node, (first, second) in enumerate(shape) if first == second]
    for values in _automorphisms(shape, {0: 0, 1: 1}):
        for flipped in itertools.product((0, 1), repeat=len(doubled)):
            flips = dict(zip(doubled, flipped, strict=True))
            target: list[int] = []
            for node, side in _slots(shape):
                other = values[node + 2] - 2
                if node in flips:
                    target.append(2 * other + (side ^ flips[node]))
                else:
                    target.append(2 * other + shape[other].index(values[shape[node][side]]))
            yield _cycles(target)


def _automorphisms(shape: _Shape, values: dict[int, int]) -> Iterator[dict[int, int]]:
    """The orders of the nodes in which each reads what it did."""
    node = len(values) - 2
    if node == len(shape):
        yield values
        return
    first, second = shape[node]
    wanted = tuple(sorted((values[first], values[second])))
    for other, pair in enumerate(shape):
        if pair == wanted and other + 2 not in values.values():
            yield from _automorphisms(shape, values | {node + 2: other + 2})


def _cycles(target: Sequence[int]) -> list[list[int]]:
    cycles: list[list[int]] = []
    left = set(range(len(target)))
    while left:
        cycle = [left.pop()]
        while (following := target[cycle[-1]]) != cycle[0]:
            cycle.append(following)
            left.remove(following)
        cycles.append(cycle)
    return cycles


@functools.lru_cache(maxsize=65_536)
def _union(boxes: frozenset[_Box]) -> int:
    """The number of tuples that are in at least one of ``boxes``."""
    if len(boxes) <= 1:
        return sum(math.prod(map(len, box)) for box in boxes)
    holders: dict[str, set[_Box]] = {}
    for box in boxes:
        for value in box[0]:
            holders.setdefault(value, set()).add(box[1:])
    return sum(_union(frozenset(rest)) for rest in holders.values())
