"""Cells with an operation on every edge between two inputs and four nodes: which are the same graph, and how many there are."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping

Edge = tuple[int, int]
Operations = tuple[str, ...]
"""One operation for each of ``EDGES``."""

INPUTS = (0, 1)
NODES = (2, 3, 4, 5)
EDGES: tuple[Edge, ...] = tuple((source, target) for target in NODES for source in range(target))
NONE = "none"
WEIGHTLESS = frozenset({NONE, "skip_connect", "avg_pool_3x3", "max_pool_3x3"})
"""Operations that make nothing of a node to which nothing comes."""

_PLACEMENTS = tuple(dict(zip(NODES, order, strict=True)) for order in itertools.permutations(NODES))


def live_edges(operations: Operations) -> dict[Edge, str]:
    """The edges that have an operation, with it; without weightless ones from nodes to which nothing comes."""
    live: dict[Edge, str] = {}
    for (source, target), operation in zip(EDGES, operations, strict=True):
        is_empty = source in NODES and not any(node == source for _, node in live)
        if operation != NONE and not (is_empty and operation in WEIGHTLESS):
            live[source, target] = operation
    return live


def inputs_read(operations: Operations) -> set[int]:
    """The inputs that have an edge."""
    return {source for source, _ in live_edges(operations)} & {*INPUTS}


@functools.lru_cache(maxsize=65_536)
def canonical_cell(operations: Operations, options: tuple[Operations, ...]) -> Operations:
    """The first cell, in the order of ``options``, that has the same live edges after some renumbering of its nodes."""
    live = live_edges(operations)
    empty = [node for node in NODES if all(target != node for _, target in live)]
    inner = [edge for edge in live if edge[0] in NODES]
    found: list[list[int]] = []
    for place in _PLACEMENTS:
        if any(place[source] > place[target] for source, target in inner):
            continue
        moved = {(place.get(source, source), place[target]): operation for (source, target), operation in live.items()}
        moved_empty = [place[node] for node in empty]
        cell = [
            _fitting(moved.get(edge), edge[0] in moved_empty, part) for edge, part in zip(EDGES, options, strict=True)
        ]
        if None not in cell:
            found.append([index for index in cell if index is not None])
    return tuple(part[index] for part, index in zip(options, min(found), strict=True))


def _fitting(operation: str | None, is_empty: bool, options: Operations) -> int | None:
    """The first of ``options`` that does what ``operation`` does on an edge whose source may be empty."""
    fitting = WEIGHTLESS if operation is None and is_empty else {operation or NONE}
    return next((index for index, option in enumerate(options) if option in fitting), None)


# Counting: for every shape, by Burnside's lemma the mean over its symmetries of how many labellings each leaves as they are --


@functools.lru_cache(maxsize=64)
def num_cells(options: tuple[Operations, ...]) -> int:
    """The number of different graphs among the cells of ``options``."""
    allowed = dict(zip(EDGES, options, strict=True))
    return sum(_num_labellings(shape, empty, allowed) for shape, empty in _shapes())


_Shape = frozenset[Edge]
"""The edges between the nodes that have an operation."""


@functools.cache
def _shapes() -> tuple[tuple[_Shape, frozenset[int]], ...]:
    """Every shape once, with every set of nodes that may be empty."""
    slots = [edge for edge in EDGES if edge[0] in NODES]
    found: dict[object, tuple[_Shape, frozenset[int]]] = {}
    for kept in itertools.product((False, True), repeat=len(slots)):
        shape = frozenset(itertools.compress(slots, kept))
        roots = [node for node in NODES if all(target != node for _, target in shape)]
        for number in range(len(roots) + 1):
            for empty in map(frozenset, itertools.combinations(roots, number)):
                key = min(_moved(shape, empty, place) for place in _PLACEMENTS)
                found.setdefault(key, (shape, empty))
    return tuple(found.values())


def _moved(shape: _Shape, empty: frozenset[int], place: Mapping[int, int]) -> tuple[tuple[Edge, ...], tuple[int, ...]]:
    edges = sorted((place[source], place[target]) for source, target in shape)
    return tuple(edges), tuple(sorted(place[node] for node in empty))


def _num_labellings(shape: _Shape, empty: frozenset[int], allowed: Mapping[Edge, Operations]) -> int:
    """The number of different graphs of this shape. Its parts are its nodes, labelled by what comes from the two inputs, and its
    edges. A labelling counts if the options allow it at one placement of the nodes at least: sets of placements are bits.
    """
    placements = [place for place in _PLACEMENTS if all(place[source] < place[target] for source, target in shape)]
    possible = 0
    labels: dict[tuple[int, ...], Counter[tuple[str, ...]]] = {part: Counter() for part in (*zip(NODES), *shape)}
    for bit, place in enumerate(placements):
        pairs = ((u, v) for u, v in itertools.permutations(NODES, 2) if place[u] < place[v] and (u, v) not in shape)
        if all((WEIGHTLESS if u in empty else {NONE}) & set(allowed[place[u], place[v]]) for u, v in pairs):
            possible |= 1 << bit
        for part, counted in labels.items():
            for label in _labels(part, shape, empty, place, allowed):
                counted[label] |= 1 << bit
    fixed, symmetries = 0, 0
    for turn in _PLACEMENTS:
        if _moved(shape, empty, turn) == _moved(shape, empty, {node: node for node in NODES}):
            symmetries += 1
            fixed += _num_fixed(turn, labels, possible)
    assert fixed % symmetries == 0
    return fixed // symmetries


def _labels(
    part: tuple[int, ...],
    shape: _Shape,
    empty: frozenset[int],
    place: Mapping[int, int],
    allowed: Mapping[Edge, Operations],
) -> Iterator[tuple[str, ...]]:
    if len(part) == 2:
        source, target = part
        unwanted = WEIGHTLESS if source in empty else {NONE}
        yield from ((operation,) for operation in allowed[place[source], place[target]] if operation not in unwanted)
        return
    (node,) = part
    may_be_none = node in empty or any(target == node for _, target in shape)
    for label in itertools.product(*(allowed[source, place[node]] for source in INPUTS)):
        is_none = set(label) == {NONE}
        if may_be_none if is_none else node not in empty:
            yield label


def _num_fixed(
    turn: Mapping[int, int], labels: Mapping[tuple[int, ...], Mapping[tuple[str, ...], int]], possible: int
) -> int:
    """The number of labellings that are the same at parts that ``turn`` exchanges, and allowed at a placement of ``possible``."""
    counts = Counter({possible: 1})
    seen: set[tuple[int, ...]] = set()
    for part in labels:
        if part in seen:
            continue
        cycle = [part]
        while (following := tuple(turn[node] for node in cycle[-1])) != part:
            cycle.append(following)
        seen.update(cycle)
        common = set.intersection(*(set(labels[member]) for member in cycle))
        masks = Counter(
            functools.reduce(lambda bits, member: bits & labels[member][label], cycle, -1) for label in common
        )
        extended: Counter[int] = Counter()
        for (bits, count), (mask, number) in itertools.product(counts.items(), masks.items()):
            if bits & mask:
                extended[bits & mask] += count * number
        counts = extended
    return sum(counts.values())
