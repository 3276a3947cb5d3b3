"""A chain of nodes drawn on a line, with the edges that jump over nodes as arcs beside it."""

from collections.abc import Sequence

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

_STEP = 22.0
_ROW = 44.0
_LOWEST, _SLOPE = 14.0, 0.2
_PORTS = 5.0
_SMALL_HEAD = 5.0
_LEAST_SCALE = 0.85


def is_chain(graph: Graph) -> bool:
    """Whether each node follows the one before it and the edges that jump carry no operation."""
    place = {name: number for number, name in enumerate(graph.nodes)}
    steps = [
        (place[source], operation) for source, target, operation in graph.edges if place[target] == place[source] + 1
    ]
    labelled = [source for source, operation in steps if operation]
    return {source for source, _ in steps} == set(range(len(graph.nodes) - 1)) and len(set(labelled)) == len(
        labelled
    ) == sum(bool(operation) for _, _, operation in graph.edges)


def draw_arcs(graph: Graph, operations: Sequence[str], width: float) -> str:
    """The SVG of a chain: along a row with the arcs above, or down a column where a row is too wide."""
    row = _Arcs(graph, operations, down=False)
    if width / row.size[0] >= _LEAST_SCALE:
        return row.draw(width)
    return _Arcs(graph, operations, down=True).draw(width)


class _Arcs:
    def __init__(self, graph: Graph, operations: Sequence[str], *, down: bool) -> None:
        self.graph, self.operations, self.down = graph, operations, down
        self.place = {name: number for number, name in enumerate(graph.nodes)}
        self.steps = self._steps()
        self.labels = {number + 1: graph.edges[edge][2] for number, edge in self.steps.items()}
        self.widths = [node_width(name) for name in graph.nodes]
        labels = [label_width(self.labels[i]) if self.labels.get(i) else 0.0 for i in range(len(self.widths))]
        self.extents = [NODE_HEIGHT] * len(self.widths) if down else self.widths
        self.middles = self._along(labels)
        self.ports = self._ports()
        reach = max((self._height(number) for number in self.ports), default=0.0)
        end = self.middles[-1] + max(self.extents[-1], 0.0 if down else labels[-1]) / 2 + MARGIN
        if down:
            # From the left: the operations, the nodes, the arcs.
            self.line = MARGIN + max(labels) + (10 if max(labels) else 0) + max(self.widths) / 2
            self.size = (self.line + max(self.widths) / 2 + reach + MARGIN, end)
        else:
            self.line = MARGIN + reach + NODE_HEIGHT / 2
            under = LABEL_HEIGHT + 6 if max(labels) else 0.0
            self.size = (end, self.line + NODE_HEIGHT / 2 + under + MARGIN)

    def draw(self, width: float) -> str:
        arcs = sorted(self.ports, key=self._height, reverse=True)
        parts = [*(self._arc(number) for number in arcs), *(self._step(number) for number in self.steps)]
        for number, name in enumerate(self.graph.nodes):
            parts.append(draw_node(name, *self._point(self.middles[number], 0)))
        return frame(self.graph, self.size, width, parts)

    # The edge that is drawn straight from each node to the next: the one with an operation, if any has one.
    def _steps(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for number, (source, target, operation) in enumerate(self.graph.edges):
            at = self.place[source]
            if self.place[target] == at + 1 and (at not in found or operation):
                found[at] = number
        return found

    def _along(self, labels: Sequence[float]) -> list[float]:
        if self.down:
            return [MARGIN + NODE_HEIGHT / 2 + _ROW * number for number in range(len(self.widths))]
        middles = [MARGIN + max(self.widths[0], labels[0]) / 2]
        for i in range(1, len(self.widths)):
            apart = max((self.widths[i - 1] + self.widths[i]) / 2 + _STEP, (labels[i - 1] + labels[i]) / 2 + 6)
            middles.append(middles[-1] + apart)
        return middles

    def _point(self, along: float, away: float) -> tuple[float, float]:
        return (self.line + away, along) if self.down else (along, self.line - away)

    # Arcs leave a node towards its far end and enter it at its near end, the longest outermost, so that they do not
    # cross where they need not.
    def _ports(self) -> dict[int, tuple[float, float]]:
        jumps = [number for number in range(len(self.graph.edges)) if number not in self.steps.values()]
        leaves: dict[int, float] = {}
        enters: dict[int, float] = {}
        for node in range(len(self.widths)):
            room = self.extents[node] / 2 - 3
            out = [number for number in jumps if self._ends(number)[0] == node]
            into = [number for number in jumps if self._ends(number)[1] == node]
            out.sort(key=lambda number: -self._ends(number)[1])
            into.sort(key=lambda number: self._ends(number)[0], reverse=True)
            for rank, number in enumerate(out):
                leaves[number] = self.middles[node] + min(_PORTS, room / len(out)) * (rank + 0.5)
            for rank, number in enumerate(into):
                enters[number] = self.middles[node] - min(_PORTS, room / len(into)) * (len(into) - rank - 0.5)
        return {number: (leaves[number], enters[number]) for number in jumps}

    def _ends(self, number: int) -> tuple[int, int]:
        source, target, _ = self.graph.edges[number]
        return self.place[source], self.place[target]

    def _height(self, number: int) -> float:
        leave, enter = self.ports[number]
        return _LOWEST + _SLOPE * (enter - leave) * (1.6 if self.down else 1)

    def _arc(self, number: int) -> str:
        leave, enter = self.ports[number]
        source, target = self._ends(number)
        out, into = self._edge_of(source), self._edge_of(target)
        # The control points of a cubic lie a third higher than its top.
        top = self._height(number) * 4 / 3
        tip = self._point(enter, into)
        spots = [(leave, out), (leave, out + top), (enter, into + top), (enter, into + _SMALL_HEAD - 1)]
        points = [f"{x:.1f} {y:.1f}" for x, y in (self._point(*spot) for spot in spots)]
        head = draw_head(*tip, *((-1, 0) if self.down else (0, 1)), size=_SMALL_HEAD)
        return draw_edge(
            self.graph.edges[number], self.operations, f"M{points[0]}C{' '.join(points[1:])}", head, "line arc"
        )

    def _edge_of(self, node: int) -> float:
        return self.widths[node] / 2 if self.down else NODE_HEIGHT / 2

    def _step(self, number: int) -> str:
        start = self.middles[number] + self.extents[number] / 2
        tip = self.middles[number + 1] - self.extents[number + 1] / 2
        line = "M{:.1f} {:.1f}L{:.1f} {:.1f}".format(*self._point(start, 0), *self._point(tip - HEAD + 1, 0))
        parts = draw_head(*self._point(tip, 0), *((0, 1) if self.down else (1, 0)))
        operation = self.labels[number + 1]
        if operation:
            x, y = self._point(self.middles[number + 1], 0)
            if self.down:
                x -= max(self.widths) / 2 + 10 + label_width(operation) / 2
            else:
                y += NODE_HEIGHT / 2 + 4 + LABEL_HEIGHT / 2
            parts += draw_label(operation, x, y)
        return draw_edge(self.graph.edges[self.steps[number]], self.operations, line, parts)
