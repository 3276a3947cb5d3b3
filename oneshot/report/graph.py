"""Cells as pictures: a graph of nodes and operations as SVG, and as source for Graphviz."""

import difflib
from collections.abc import Sequence

from oneshot.report.graph_arcs import draw_arcs, is_chain
from oneshot.report.graph_layers import draw_layers
from oneshot.report.model import Graph
from oneshot.report.page import escape, printable

GRAPH_CAPTION = """Each node reads the nodes whose edges lead to it; the operation stands on the edge. Grey edges pass a
value on as it is. Hover for an edge's ends."""


def graph_svg(graph: Graph, *, width: int = 1240, operations: Sequence[str] = ()) -> str:
    """A standalone SVG, at most ``width`` pixels wide, that follows the reader's light or dark mode.

    Each node stands after all that it reads and each operation in a box on its edge. A chain whose other edges carry
    no operation is drawn on a line, those edges as arcs. Where a drawing from left to right is too wide, it goes from
    top to bottom. Colours are given out in the order of ``operations``, then in that of the alphabet: cells with the
    same ``operations`` have the same colours.

    Raises:
        ValueError: no nodes, two of the same name, or an edge that does not join a node to a later one.
    """
    check_graph(graph)
    used = {operation for _, _, operation in graph.edges if operation}
    ordered = [*dict.fromkeys(operations), *sorted(used - set(operations))]
    return (draw_arcs if is_chain(graph) else draw_layers)(graph, ordered, width)


def graph_dot(graph: Graph) -> str:
    """The graph in the language of Graphviz, nodes as boxes from left to right and operations on the edges.

    Raises ValueError as ``graph_svg`` does.
    """
    check_graph(graph)
    numbers = {name: number for number, name in enumerate(graph.nodes)}
    lines = [f"digraph {_quote(graph.name)} {{", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    lines += [f"  n{number} [label={_quote(name)}];" for name, number in numbers.items()]
    for source, target, operation in graph.edges:
        label = f" [label={_quote(operation)}]" if operation else ""
        lines.append(f"  n{numbers[source]} -> n{numbers[target]}{label};")
    return "\n".join([*lines, "}", ""])


def check_graph(graph: Graph) -> None:
    """Raises ValueError where a graph cannot be drawn; the message says which node or edge is wrong."""
    if not graph.nodes:
        raise ValueError(f"graph {graph.name!r} needs at least one node, not 0")
    place = {name: number for number, name in enumerate(graph.nodes)}
    for number, name in enumerate(graph.nodes):
        if place[name] != number:
            raise ValueError(f"graph {graph.name!r} has two nodes named {name!r}; names must differ")
    for edge in graph.edges:
        source, target, _ = edge
        for end in (source, target):
            if end not in place:
                near = difflib.get_close_matches(end, graph.nodes, n=1) or list(graph.nodes)
                names = ", ".join(repr(name) for name in near)
                raise ValueError(f"edge {edge} of graph {graph.name!r}: {end!r} is no node; did you mean {names}?")
        if place[source] >= place[target]:
            raise ValueError(
                f"edge {edge} of graph {graph.name!r} must lead to a node after {source!r}, not {target!r}"
            )


def render_graphs(graphs: Sequence[Graph]) -> str:
    """Graphs as HTML in the same colours, each in a wide and a narrow drawing of which a page shows one."""
    operations = sorted({operation for graph in graphs for _, _, operation in graph.edges if operation})
    figures = []
    for graph in graphs:
        drawings = "\n".join(
            f'<div class="diagram {name}">{graph_svg(graph, width=width, operations=operations)}</div>'
            for name, width in (("wide", 1240), ("narrow", 640))
        )
        figures.append(f'<figure class="graph"><figcaption>{escape(graph.name)}</figcaption>\n{drawings}</figure>')
    return "\n".join(figures)


# In a label Graphviz reads a backslash as the start of an escape, such as \N for the node's name.
def _quote(text: str) -> str:
    text = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\r\n", "\\n").replace("\n", "\\n").replace("\r", "\\n") + '"'
