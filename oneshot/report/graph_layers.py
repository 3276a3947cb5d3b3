"""A graph drawn in layers, each node after all that it reads, with the operations in boxes on the edges."""

from collections.abc import Sequence
from itertools import pairwise

from oneshot.report.graph_layout import Layout, arrange
from oneshot.report.graph_parts import (
    HEAD,
    LABEL_HEIGHT,
    MARGIN,
    NODE_HEIGHT,
    draw_edge,
    draw_head,
    draw_label,
    draw_node,
    frame,
    label_width,
    node_width,
)
from oneshot.report.model import Graph

_NARROWEST_GAP = 18.0
_WIDEST_GAP = 48.0
_GAP_DOWN = 26.0
_PORTS = 6.0
_LEAST_SCALE = 0.93


def draw_layers(graph: Graph, operations: Sequence[str], width: float) -> str:
    """The SVG: from left to right, or from top to bottom where that is much too wide for ``width``."""
    flat = _Layers(graph, operations, width, down=False)
    if width / flat.size[0] >= _LEAST_SCALE:
        return flat.draw(width)
    tall = _Layers(graph, operations, width, down=True)
    return min(flat, tall, key=lambda layers: layers.size[0]).draw(width)


class _Layers:
    def __init__(self, graph: Graph, operations: Sequence[str], width: float, *, down: bool) -> None:
        self.graph, self.operations, self.down = graph, operations, down
        place = {name: number for number, name in enumerate(graph.nodes)}
        edges = [(place[source], place[target]) for source, target, _ in graph.edges]
        nodes = [(node_width(name), NODE_HEIGHT) for name in graph.nodes]
        labels = [(label_width(operation), LABEL_HEIGHT) if operation else None for _, _, operation in graph.edges]
        side = 0 if down else 1
        self.layout: Layout = arrange([size[side] for size in nodes], edges, [size and size[side] for size in labels])
        sizes = dict(enumerate(nodes))
        for item, size in zip(self.layout.labels, labels, strict=True):
            if item is not None and size is not None:
                sizes[item] = size
        self.along = {item: size[1 - side] for item, size in sizes.items()}
        self.across = {item: size[side] for item, size in sizes.items()}
        self.column = {item: number for number, items in enumerate(self.layout.columns) for item in items}
        self.starts, self.depths = self._columns(width)
        end = max(at + self.across.get(item, 0.0) / 2 for item, at in enumerate(self.layout.across))
        natural = (self.starts[-1] + self.depths[-1] + MARGIN, end + 2 * MARGIN)
        self.size = natural[::-1] if down else natural

    def draw(self, width: float) -> str:
        ports = self._ports()
        parts = [self._edge(number, *ports[number]) for number in range(len(self.graph.edges))]
        for number, name in enumerate(self.graph.nodes):
            parts.append(draw_node(name, *self._middle(number)))
        return frame(self.graph, self.size, width, parts)

    def _columns(self, width: float) -> tuple[list[float], list[float]]:
        depths = [max((self.along.get(item, 0.0) for item in column), default=0.0) for column in self.layout.columns]
        gap = _GAP_DOWN
        if not self.down:
            room = (width - sum(depths) - 2 * MARGIN) / max(1, len(depths) - 1)
            gap = max(_NARROWEST_GAP, min(_WIDEST_GAP, room))
        starts = [MARGIN]
        for depth in depths[:-1]:
            starts.append(starts[-1] + depth + gap)
        return starts, depths

    def _point(self, along: float, across: float) -> tuple[float, float]:
        return (across + MARGIN, along) if self.down else (along, across + MARGIN)

    def _middle(self, item: int) -> tuple[float, float]:
        column = self.column[item]
        return self._point(self.starts[column] + self.depths[column] / 2, self.layout.across[item])

    # Where each edge leaves its source and enters its target, in the order of where it goes: side by side.
    def _ports(self) -> list[tuple[float, float]]:
        leaves: dict[int, float] = {}
        enters: dict[int, float] = {}
        for node in range(len(self.graph.nodes)):
            for end, beside, found in ((0, 1, leaves), (-1, -2, enters)):
                numbers = [i for i, route in enumerate(self.layout.routes) if route[end] == node]
                numbers.sort(key=lambda i: self.layout.across[self.layout.routes[i][beside]])
                room = (self.across[node] - 8) / max(1, len(numbers) - 1)
                for rank, number in enumerate(numbers):
                    shift = (rank - (len(numbers) - 1) / 2) * min(_PORTS, room)
                    found[number] = self.layout.across[node] + shift
        return [(leaves[number], enters[number]) for number in range(len(self.graph.edges))]

    def _edge(self, number: int, leave: float, enter: float) -> str:
        route = self.layout.routes[number]
        spots = [(self._end(route[0], 1), leave)]
        # Level through each column that it passes, it meets none of the labels there. A column without labels only keeps
        # edges between the same nodes apart.
        fanned = sum(edge[:2] == self.graph.edges[number][:2] for edge in self.graph.edges) > 1
        for item in route[1:-1]:
            start, depth = self.starts[self.column[item]], self.depths[self.column[item]]
            if depth or fanned:
                spots += [(start, self.layout.across[item]), (start + depth, self.layout.across[item])]
        tip = self._end(route[-1], -1)
        spots.append((tip - HEAD + 1, enter))
        line = "M{:.1f} {:.1f}".format(*self._point(*spots[0]))
        for (along, across), (to_along, to_across) in pairwise(spots):
            middle = (along + to_along) / 2
            corners = [(middle, across), (middle, to_across), (to_along, to_across)]
            points = [self._point(*corner) for corner in corners]
            if abs(across - to_across) < 0.05:
                line += "L{:.1f} {:.1f}".format(*points[-1])
            else:
                line += "C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts = draw_head(*self._point(tip, enter), *((0, 1) if self.down else (1, 0)))
        label = self.layout.labels[number]
        if label is not None:
            parts += draw_label(self.graph.edges[number][2], *self._middle(label))
        return draw_edge(self.graph.edges[number], self.operations, line, parts)

    def _end(self, node: int, side: int) -> float:
        column = self.column[node]
        return self.starts[column] + (self.depths[column] + side * self.along[node]) / 2
