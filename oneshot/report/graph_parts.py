"""The parts that every drawing of a graph is made of: node boxes, operations, arrow heads and the frame."""

import unicodedata
from collections.abc import Sequence

from oneshot.report.model import Graph
from oneshot.report.page import escape, read_asset

NODE_HEIGHT = 26.0
LABEL_HEIGHT = 18.0
HEAD = 7.0
MARGIN = 6.0
_NUM_COLOURS = 8
_LONGEST = 28
# An edge that carries nothing: drawn, for it was chosen, but faintly.
_ABSENT = frozenset({"none", "zero", "zeroize"})


def node_width(name: str) -> float:
    """How wide the box of a node is."""
    return max(NODE_HEIGHT, _text_width(cut(name), 7.6) + 16)


def label_width(operation: str) -> float:
    """How wide the box of an operation is."""
    return _text_width(cut(operation), 6.7) + 12


def draw_node(name: str, x: float, y: float) -> str:
    """The box of a node with its middle at (x, y)."""
    wide = node_width(name)
    title = f"<title>{escape(name)}</title>" if cut(name) != name else ""
    return (
        f'<rect class="node" x="{x - wide / 2:.1f}" y="{y - NODE_HEIGHT / 2:.1f}" width="{wide:.1f}" '
        f'height="{NODE_HEIGHT:.0f}" rx="6">{title}</rect>'
        f'<text class="name" x="{x:.1f}" y="{y + 4.2:.1f}">{escape(cut(name))}</text>'
    )


def draw_label(operation: str, x: float, y: float) -> str:
    """The box of an operation with its middle at (x, y)."""
    wide = label_width(operation)
    box = f'x="{x - wide / 2:.1f}" y="{y - LABEL_HEIGHT / 2:.1f}" width="{wide:.1f}" height="{LABEL_HEIGHT:.0f}" rx="5"'
    return (
        f'<rect class="ground" {box}/><rect class="label" {box}/>'
        f'<text class="operation" x="{x:.1f}" y="{y + 3.8:.1f}">{escape(cut(operation))}</text>'
    )


def draw_edge(edge: tuple[str, str, str], operations: Sequence[str], line: str, parts: str, style: str = "line") -> str:
    """An edge: its path, what stands on it, and its tooltip, in the colour of its operation."""
    source, target, operation = edge
    tip = f"{source} \u2192 {target}" + (f": {operation}" if operation else "")
    return (
        f'<g class="edge {_colour(operation, operations)}"><title>{escape(tip)}</title>'
        f'<path class="near" d="{line}"/><path class="{style}" d="{line}"/>{parts}</g>'
    )


def draw_head(x: float, y: float, right: float, down: float, size: float = HEAD) -> str:
    """An arrow head with its tip at (x, y), pointing along (right, down)."""
    back_x, back_y = x - size * right, y - size * down
    side_x, side_y = -down * size / 2, right * size / 2
    return (
        f'<path class="head" d="M{x:.1f} {y:.1f}L{back_x + side_x:.1f} {back_y + side_y:.1f}'
        f'L{back_x - side_x:.1f} {back_y - side_y:.1f}Z"/>'
    )


def frame(graph: Graph, natural: tuple[float, float], width: float, parts: Sequence[str]) -> str:
    """The SVG around a drawing of the given natural size, scaled down where it is wider than ``width``."""
    wide, tall = natural
    scale = min(1.0, width / wide)
    summary = f"{graph.name}: {_count(graph.nodes, 'node')}, {_count(graph.edges, 'edge')}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="oneshot-graph" viewBox="0 0 {wide:.1f} {tall:.1f}" '
            f'width="{wide * scale:.1f}" height="{tall * scale:.1f}" role="img" aria-label="{escape(summary)}">',
            f"<style>\n{read_asset('graph.css')}</style>",
            f'<rect class="ground" width="{wide:.1f}" height="{tall:.1f}"/>',
            *parts,
            "</svg>",
        ]
    )


def cut(text: str) -> str:
    """A text short enough to be drawn."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\u2026"


def _text_width(text: str, character: float) -> float:
    return sum(character * (1.8 if unicodedata.east_asian_width(letter) in "WF" else 1) for letter in text)


def _colour(operation: str, operations: Sequence[str]) -> str:
    if not operation:
        return "pass"
    if operation in _ABSENT:
        return "absent"
    known = [name for name in operations if name and name not in _ABSENT]
    number = known.index(operation)
    return f"op{number % _NUM_COLOURS}" + (" repeated" if number >= _NUM_COLOURS else "")


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"
