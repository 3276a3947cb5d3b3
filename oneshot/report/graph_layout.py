"""Where the parts of a layered drawing of a graph stand: columns of nodes with columns of edge labels between them.

Every edge is a path of items, one in each column that it passes, so that no line runs through a node or a label. The
order of the items keeps the lines from crossing, and their places keep the lines straight (Sugiyama, Tagawa and Toda,
"Methods for Visual Understanding of Hierarchical System Structures", 1981).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

_NUM_STARTS = 12
_NUM_SWEEPS = 10
_NUM_RELAXATIONS = 160
_MOST_PLACED = 4
_BEND = 6.0
_APART = 9.0
# A long line should be straight; that the ends of a short one are level matters less.
_STRAIGHTNESS = {0: 1.0, 1: 2.0, 2: 6.0}
_MOST_SWAPPED = 400


@dataclass(frozen=True)
class Layout:
    """Items and where they stand.

    ``columns`` holds the items of each column in order, ``across`` the middle of every item at right angles to the flow.
    Item ``i`` is node ``i`` as long as there are nodes; ``routes`` are the items of each edge, from its source to its target.
    ``labels`` are the items of the edges' labels, None where there is none.
    """

    columns: list[list[int]]
    across: list[float]
    routes: list[list[int]]
    labels: list[int | None]


def layers_of(num_nodes: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Each node's layer: one more than the last that it reads, and the last node alone at the end."""
    layers = [0] * num_nodes
    for target in range(num_nodes):
        layers[target] = max((layers[a] + 1 for a, b in edges if b == target), default=0)
    if num_nodes > 1:
        layers[-1] = max(layers[:-1]) + 1
    return layers


def arrange(nodes: Sequence[float], edges: Sequence[tuple[int, int]], labels: Sequence[float | None]) -> Layout:
    """A layout of nodes and labels of the given extents across the flow.

    ``edges`` join earlier nodes to later ones. Nodes are in the even columns and labels in the odd ones.
    """
    layers = layers_of(len(nodes), edges)
    graph = _Items(layers, nodes, edges, labels)
    orders: list[list[list[int]]] = []
    for start in range(_NUM_STARTS):
        columns = graph.order(random.Random(start) if start else None)
        if columns not in orders:
            orders.append(columns)
    least: tuple[float, list[list[int]], list[float]] | None = None
    for columns in sorted(orders, key=graph.num_crossings)[:_MOST_PLACED]:
        if graph.num_crossings(columns) == min(map(graph.num_crossings, orders)):
            across = graph.place(columns)
            bending = graph.bending(across)
            if least is None or bending < least[0]:
                least = bending, columns, across
    assert least is not None
    _, columns, across = least
    if len(columns[0]) > 1 and columns[0][0] > columns[0][-1]:
        columns = [column[::-1] for column in columns]
        across = [-value for value in across]
    low = min((across[i] - graph.extents[i] / 2 for i in range(len(across))), default=0.0)
    return Layout(columns, [value - low for value in across], graph.routes, graph.labels)


class _Items:
    def __init__(
        self,
        layers: Sequence[int],
        nodes: Sequence[float],
        edges: Sequence[tuple[int, int]],
        labels: Sequence[float | None],
    ) -> None:
        self.num_nodes = len(nodes)
        self.column = [2 * layer for layer in layers]
        self.extents = list(nodes)
        self.routes: list[list[int]] = [[] for _ in edges]
        self.labels: list[int | None] = [None for _ in edges]
        chosen = _label_columns(layers, edges, labels)
        for number, (source, target) in enumerate(edges):
            route = [source]
            for column in range(self.column[source] + 1, self.column[target]):
                route.append(len(self.column))
                label = labels[number] if column == chosen[number] else None
                if label is not None:
                    self.labels[number] = len(self.column)
                self.column.append(column)
                self.extents.append(_BEND if label is None else label)
            self.routes[number] = [*route, target]
        count = len(self.column)
        self.before: list[list[int]] = [[] for _ in range(count)]
        self.after: list[list[int]] = [[] for _ in range(count)]
        for route in self.routes:
            for a, b in pairwise(route):
                self.after[a].append(b)
                self.before[b].append(a)

    def order(self, generator: random.Random | None) -> list[list[int]]:
        columns: list[list[int]] = [[] for _ in range(max(self.column, default=0) + 1)]
        items = list(range(len(self.column)))
        if generator:
            generator.shuffle(items)
        for item in items:
            columns[self.column[item]].append(item)
        best, fewest = [list(column) for column in columns], self.num_crossings(columns)
        for sweep in range(_NUM_SWEEPS):
            forward = sweep % 2 == 0
            sides = self.before if forward else self.after
            numbers = range(1, len(columns)) if forward else range(len(columns) - 2, -1, -1)
            for number in numbers:
                beside = {item: i for i, item in enumerate(columns[number - 1 if forward else number + 1])}
                centres = {
                    item: sum(beside[other] for other in sides[item]) / len(sides[item]) if sides[item] else float(i)
                    for i, item in enumerate(columns[number])
                }
                columns[number].sort(key=centres.__getitem__)
            self._swap_neighbours(columns)
            crossings = self.num_crossings(columns)
            if crossings < fewest:
                best, fewest = [list(column) for column in columns], crossings
        return best

    def num_crossings(self, columns: Sequence[Sequence[int]]) -> int:
        total = 0
        for column in range(len(columns) - 1):
            place = {item: i for i, item in enumerate(columns[column + 1])}
            ends = [sorted(place[other] for other in self.after[item]) for item in columns[column]]
            total += sum(b < a for first, second in combinations(ends, 2) for a in first for b in second)
        return total

    def _swap_neighbours(self, columns: list[list[int]]) -> None:
        if len(self.column) > _MOST_SWAPPED:
            return
        for number, column in enumerate(columns):
            places = [
                {item: i for i, item in enumerate(columns[other])} if 0 <= other < len(columns) else {}
                for other in (number - 1, number + 1)
            ]
            for i in range(len(column) - 1):
                upper, lower = column[i], column[i + 1]
                change = 0
                for side, place in zip((self.before, self.after), places, strict=True):
                    for a in side[upper]:
                        change += sum((place[a] < place[b]) - (place[a] > place[b]) for b in side[lower])
                if change < 0:
                    column[i], column[i + 1] = lower, upper

    def place(self, columns: Sequence[Sequence[int]]) -> list[float]:
        across = [0.0] * len(self.column)
        offsets = [0.0] * len(self.column)
        for column in columns:
            at = 0.0
            for i, item in enumerate(column):
                if i:
                    at += (self.extents[column[i - 1]] + self.extents[item]) / 2 + _APART
                offsets[item] = at
            for item in column:
                across[item] = offsets[item] - at / 2
        for sweep in range(_NUM_RELAXATIONS):
            for column in columns if sweep % 2 == 0 else reversed(columns):
                wishes = [self._wish(item, across, _stiffness(sweep)) for item in column]
                places = _nearest_rising(
                    [wish - offsets[item] for item, (wish, _) in zip(column, wishes, strict=True)],
                    [weight for _, weight in wishes],
                )
                for item, place in zip(column, places, strict=True):
                    across[item] = place + offsets[item]
        return across

    def bending(self, across: Sequence[float]) -> float:
        return sum(
            self._weight(a, b) * (across[a] - across[b]) ** 2 for route in self.routes for a, b in pairwise(route)
        )

    def _wish(self, item: int, across: Sequence[float], stiffness: float) -> tuple[float, float]:
        others = [*self.before[item], *self.after[item]]
        if not others:
            return across[item], 1e-3
        weights = [self._weight(item, other) for other in others]
        weights = [w / (stiffness + abs(across[item] - across[b])) for w, b in zip(weights, others, strict=True)]
        mean = sum(weight * across[other] for weight, other in zip(weights, others, strict=True)) / sum(weights)
        return mean, sum(weights)

    def _weight(self, a: int, b: int) -> float:
        return _STRAIGHTNESS[(a >= self.num_nodes) + (b >= self.num_nodes)]


def _label_columns(
    layers: Sequence[int], edges: Sequence[tuple[int, int]], labels: Sequence[float | None]
) -> list[int | None]:
    # The short edges have no choice; the others go where there is most room, so that no column grows long.
    filled: dict[int, float] = {}
    chosen: list[int | None] = [None for _ in edges]
    for number in sorted(range(len(edges)), key=lambda i: layers[edges[i][1]] - layers[edges[i][0]]):
        label = labels[number]
        if label is not None:
            source, target = edges[number]
            gaps = range(2 * layers[source] + 1, 2 * layers[target], 2)
            column = min(gaps, key=lambda gap: (filled.get(gap, 0.0), -gap))
            filled[column] = filled.get(column, 0.0) + label + _APART
            chosen[number] = column
    return chosen


# Least squares, which comes first, would spread a shift over all of a line, as stairs. Weights that fall with the
# distance, which is to say least distances, make it one step between straight parts.
def _stiffness(sweep: int) -> float:
    return max(0.3, 1000 * 0.93**sweep)


def _nearest_rising(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    # Pools neighbours that are out of order: the weighted least squares among rising sequences.
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, total, count = pools.pop()
            both = total + pool[1]
            pool = ((mean * total + pool[0] * pool[1]) / both, both, count + pool[2])
        pools.append(pool)
    return [mean for mean, _, count in pools for _ in range(count)]
