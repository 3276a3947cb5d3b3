"""Cells as pictures: complete, readable, inside their frame, and the same graph as Graphviz source."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_builders import HOSTILE, plain

from oneshot.report import Graph, graph_dot, graph_svg, write_search_report
from oneshot.report.graph_layout import arrange, layers_of
from oneshot.report.labels import Box

SVG = "{http://www.w3.org/2000/svg}"
DARTS_OPERATIONS = [
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
]


def nas_bench_201() -> Graph:
    nodes = ["input", "node 1", "node 2", "output"]
    operations = iter(["nor_conv_3x3", "skip_connect", "avg_pool_3x3", "none", "nor_conv_1x1", "nor_conv_3x3"])
    return Graph("cell", nodes, [(a, nodes[i], next(operations)) for i in range(1, 4) for a in nodes[:i]])


def darts(reads: list[list[int]]) -> Graph:
    nodes = ["c_{k-2}", "c_{k-1}", "0", "1", "2", "3", "output"]
    pairs = [(nodes[source], nodes[2 + i]) for i, sources in enumerate(reads) for source in sources]
    edges = [(a, b, DARTS_OPERATIONS[5 * n % 8]) for n, (a, b) in enumerate(pairs)]
    return Graph("normal", nodes, [*edges, *((name, "output", "") for name in nodes[2:6])])


def enas_micro(reads: list[tuple[int, int]]) -> Graph:
    nodes = ["input 0", "input 1", *(f"node {i}" for i in range(5)), "output"]
    operations = ["identity", "sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3"]
    pairs = [(source, 2 + i) for i, sources in enumerate(reads) for source in sources]
    edges = [(nodes[a], nodes[b], operations[(3 * a + n) % 5]) for n, (a, b) in enumerate(pairs)]
    loose = set(range(2, 7)) - {a for a, _ in pairs}
    return Graph("reduce", nodes, [*edges, *((nodes[i], "output", "") for i in sorted(loose))])


def enas_macro(every: int = 1) -> Graph:
    layers = [f"layer {i}" for i in range(1, 13)]
    chain = ["input", *layers]
    edges = [(chain[i], chain[i + 1], ["conv_3x3", "sep_conv_5x5", "max_pool_3x3"][i % 3]) for i in range(12)]
    skips = [(a, b, "") for n, (a, b) in enumerate(combinations(layers, 2)) if n % every == 0]
    return Graph("network", [*chain, "output"], [*edges, ("layer 12", "output", ""), *skips])


CELLS = {
    "NAS-Bench-201": nas_bench_201(),
    "DARTS": darts([[0, 1], [0, 1], [1, 0], [0, 2]]),
    "deep DARTS": darts([[0, 1], [2, 1], [3, 0], [4, 3]]),
    "DARTS with all edges": darts([list(range(2 + i)) for i in range(4)]),
    "ENAS micro": enas_micro([(1, 1), (0, 1), (0, 1), (0, 1), (1, 0)]),
    "deep ENAS micro": enas_micro([(0, 1), (2, 1), (3, 3), (4, 1), (0, 5)]),
    "ENAS macro": enas_macro(),
    "sparse ENAS macro": enas_macro(every=3),
    "two nodes": Graph("pair", ["a", "b"], [("a", "b", ""), ("a", "b", "x"), ("a", "b", "y"), ("a", "b", "")]),
    "one node": Graph("lone", ["a"], []),
    "loose nodes": Graph("loose", ["a", "b", "c", "d"], [("a", "d", "x" * 60)]),
}
EVERY_CELL = pytest.mark.parametrize("graph", CELLS.values(), ids=CELLS.keys())
EVERY_WIDTH = pytest.mark.parametrize("width", [1240, 640, 320])


def parse(graph: Graph, **options) -> ElementTree.Element:
    return ElementTree.fromstring(graph_svg(graph, **options))


def boxes(root: ElementTree.Element, style: str) -> list[Box]:
    rects = [node for node in root.iter(f"{SVG}rect") if node.get("class") == style]
    corners = [[float(rect.get(name)) for name in ("x", "y", "width", "height")] for rect in rects]
    return [Box(x, y, x + width, y + height) for x, y, width, height in corners]


def texts(root: ElementTree.Element, style: str) -> list[ElementTree.Element]:
    return [node for node in root.iter(f"{SVG}text") if node.get("class") == style]


def drawn_edges(root: ElementTree.Element) -> dict[str, list[ElementTree.Element]]:
    found: dict[str, list[ElementTree.Element]] = {}
    for node in root.iter(f"{SVG}g"):
        found.setdefault(node.find(f"{SVG}title").text, []).append(node)
    return found


def tip(edge: tuple[str, str, str]) -> str:
    return f"{edge[0]} \u2192 {edge[1]}" + (f": {edge[2]}" if edge[2] else "")


def points(path: str) -> list[tuple[float, float]]:
    """Points along a path of M, L and C, a few pixels apart."""
    found: list[tuple[float, float]] = []
    for command, text in re.findall(r"([MLC])([^MLC]*)", path):
        numbers = [float(number) for number in text.split()]
        ends = list(zip(numbers[::2], numbers[1::2], strict=True))
        if command == "M":
            found += ends
            continue
        start = found[-1]
        a, b, end = ends if command == "C" else (start, ends[0], ends[0])
        for step in range(1, 101):
            t = step / 100
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            spots = (start, a, b, end)
            found.append(tuple(sum(w * spot[i] for w, spot in zip(weights, spots, strict=True)) for i in (0, 1)))
    return found


def inside(box: Box, x: float, y: float, air: float) -> bool:
    return box.left + air < x < box.right - air and box.top + air < y < box.bottom - air


@EVERY_CELL
@EVERY_WIDTH
def test_every_node_and_edge_is_drawn_once(graph, width):
    root = parse(graph, width=width)
    shown = [node.text for node in texts(root, "name")]
    assert shown == list(graph.nodes)
    operations = sorted(operation for _, _, operation in graph.edges if operation)
    drawn = sorted(node.text for node in texts(root, "operation"))
    assert [text[:27] for text in drawn] == [text[:27] for text in operations]
    tips = {name: len(nodes) for name, nodes in drawn_edges(root).items()}
    assert tips == {tip(edge): sum(tip(other) == tip(edge) for other in graph.edges) for edge in graph.edges}


@EVERY_CELL
@EVERY_WIDTH
def test_everything_is_inside_and_nothing_overlaps(graph, width):
    root = parse(graph, width=width)
    left, top, wide, tall = map(float, root.get("viewBox").split())
    assert (left, top) == (0, 0)
    assert float(root.get("width")) <= width + 0.05
    assert float(root.get("width")) / wide == pytest.approx(float(root.get("height")) / tall, rel=0.01)
    placed = boxes(root, "node") + boxes(root, "label")
    assert all(box.left >= 0 and box.top >= 0 and box.right <= wide and box.bottom <= tall for box in placed)
    assert [0 for a, b in combinations(placed, 2) if a.overlap(b) > 0] == []
    for node in root.iter(f"{SVG}path"):
        assert all(0 <= x <= wide and 0 <= y <= tall for x, y in points(node.get("d").replace("Z", "")))


@EVERY_CELL
def test_texts_fit_their_boxes(graph):
    root = parse(graph)
    for style, box_style, character in (("name", "node", 7.4), ("operation", "label", 6.5)):
        for text, box in zip(texts(root, style), boxes(root, box_style), strict=True):
            assert box.holds(float(text.get("x")), float(text.get("y")))
            assert len(text.text) * character <= box.right - box.left


@EVERY_CELL
@EVERY_WIDTH
def test_edges_join_their_nodes_and_run_through_no_other_box(graph, width):
    root = parse(graph, width=width)
    node_boxes = dict(zip(graph.nodes, boxes(root, "node"), strict=True))
    for edge in graph.edges:
        for node in drawn_edges(root)[tip(edge)]:
            along = points(node.find(f"{SVG}path").get("d"))
            own = [box for rect in [node] for box in boxes(rect, "label")]
            for name, (x, y) in ((edge[0], along[0]), (edge[1], along[-1])):
                box = node_boxes[name]
                assert inside(box, x, y, air=-7.1), f"{edge} does not reach {name}"
            others = [box for name, box in node_boxes.items() if name not in edge[:2]]
            others += [box for box in boxes(root, "label") if box not in own]
            assert not any(inside(box, x, y, air=1) for x, y in along for box in others), f"{edge} runs through a box"


@EVERY_CELL
@EVERY_WIDTH
def test_nodes_stand_after_what_they_read(graph, width):
    placed = dict(zip(graph.nodes, boxes(parse(graph, width=width), "node"), strict=True))
    pairs = [(placed[source], placed[target]) for source, target, _ in graph.edges]
    assert all(a.right < b.left for a, b in pairs) or all(a.bottom < b.top for a, b in pairs)


@pytest.mark.parametrize("name", ["deep DARTS", "deep ENAS micro", "ENAS macro"])
def test_what_is_too_wide_goes_from_top_to_bottom(name):
    for width, falls in ((1240, False), (640, True)):
        root = parse(CELLS[name], width=width)
        placed = boxes(root, "node")
        assert (placed[0].bottom < placed[-1].top) == falls
        # It would be no gain if the text became too small to read.
        assert float(root.get("width")) >= 0.85 * float(root.get("viewBox").split()[2])


def test_edges_between_the_same_nodes_are_fanned_out():
    root = parse(CELLS["two nodes"])
    paths = [node.find(f"{SVG}path").get("d") for nodes in drawn_edges(root).values() for node in nodes]
    assert len(set(paths)) == 4
    middles = sorted(points(path)[len(points(path)) // 2][1] for path in paths)
    assert all(b - a > 8 for a, b in pairwise(middles))


def test_skips_of_a_chain_are_arcs():
    root = parse(enas_macro())
    arcs = [node for node in root.iter(f"{SVG}path") if node.get("class") == "line arc"]
    assert len(arcs) == 66
    tops = {box.top for box in boxes(root, "node")}
    assert len(tops) == 1
    # The further an arc goes, the higher it rises.
    rise = [
        (max(x for x, _ in spots) - min(x for x, _ in spots), -min(y for _, y in spots))
        for spots in (points(node.get("d")) for node in arcs)
    ]
    assert [high for _, high in sorted(rise)] == pytest.approx(sorted(high for _, high in rise), abs=0.5)
    assert not [node for node in parse(nas_bench_201()).iter(f"{SVG}path") if node.get("class") == "line arc"]


def test_crossings_are_avoided_where_they_can_be():
    # Drawn in the given order these edges cross three times, in the best order never.
    layout = arrange([10] * 8, [(0, 5), (1, 4), (2, 3)], [None] * 3)
    order = {item: i for column in layout.columns for i, item in enumerate(column)}
    lines = [[order[item] for item in route] for route in layout.routes]
    assert not any((a[0] - b[0]) * (a[-1] - b[-1]) < 0 for a, b in combinations(lines, 2))


def test_the_first_input_is_above_the_second():
    for name in ("DARTS", "deep DARTS", "ENAS micro", "deep ENAS micro"):
        first, second = boxes(parse(CELLS[name]), "node")[:2]
        assert first.bottom < second.top


def test_layers():
    assert layers_of(5, [(0, 1), (1, 2), (0, 2), (0, 3)]) == [0, 1, 2, 1, 3]
    assert layers_of(1, []) == [0]
    assert layers_of(3, []) == [0, 0, 1]


def colours(root: ElementTree.Element) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, nodes in drawn_edges(root).items():
        found.setdefault(name.rpartition(": ")[2] if ": " in name else "", set()).update(n.get("class") for n in nodes)
    return found


def test_operations_have_colours_of_their_own():
    shown = colours(parse(CELLS["DARTS with all edges"]))
    assert all(len(styles) == 1 for styles in shown.values())
    assert len(set.union(*shown.values())) == len(DARTS_OPERATIONS) + 1
    assert shown["none"] == {"edge absent"}
    assert shown[""] == {"edge pass"}


def test_colours_are_the_same_in_cells_of_the_same_operations():
    chain = Graph("chain", ["a", "b"], [("a", "b", "sep_conv_5x5")])
    both = [colours(parse(graph, operations=DARTS_OPERATIONS)) for graph in (CELLS["DARTS with all edges"], chain)]
    assert both[0]["sep_conv_5x5"] == both[1]["sep_conv_5x5"] != colours(parse(chain))["sep_conv_5x5"]


def test_more_operations_than_colours_are_dashed():
    nodes = ["a", "b"]
    shown = colours(parse(Graph("many", nodes, [("a", "b", f"operation{i}") for i in range(10)])))
    assert len(set.union(*shown.values())) == 10
    assert shown["operation8"] == {"edge op0 repeated"}


def test_light_and_dark_have_the_same_colours_to_set():
    style = parse(nas_bench_201()).find(f"{SVG}style").text
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    names = [set(re.findall(r"(--\w+):", part)) for part in (light, dark.split("}")[0])]
    assert names[0] == names[1] >= {"--ink", "--ground", "--op0", "--op7"}
    assert set(re.findall(r"var\((--\w+)\)", style)) <= names[0] | {"--line"}


def test_pictures_are_standalone_and_repeatable():
    for graph in CELLS.values():
        picture = graph_svg(graph)
        assert picture == graph_svg(graph)
        assert set(re.findall(r"[a-z]+://[^\s\"'<>)]+", picture)) == {"http://www.w3.org/2000/svg"}
        assert "url(" not in picture
        assert "<script" not in picture


def test_hostile_names_are_well_formed():
    graph = Graph(HOSTILE, ["<a>&\"'\x00", HOSTILE], [("<a>&\"'\x00", HOSTILE, HOSTILE)])
    root = parse(graph)
    assert {node.tag.removeprefix(SVG) for node in root.iter()} == {
        "svg",
        "style",
        "rect",
        "g",
        "title",
        "path",
        "text",
    }
    assert "<a>&\"'\ufffd" in [node.text for node in root.iter(f"{SVG}text")]


def read_dot(source: str) -> tuple[str, dict[str, str], list[tuple[str, str, str]]]:
    """The name, the labels of the nodes, and the edges of a graph, by the grammar of quoted strings in Graphviz."""
    quoted = r'"((?:[^"\\]|\\.)*)"'
    statements = rf"digraph {quoted}|^  (n\d+) \[label={quoted}\];$|^  (n\d+) -> (n\d+)(?: \[label={quoted}\])?;$"
    name, nodes, edges = "", {}, []

    def unescape(text: str) -> str:
        return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), text, flags=re.DOTALL)

    for match in re.finditer(statements, source, re.MULTILINE):
        if match[2]:
            nodes[match[2]] = unescape(match[3])
        elif match[4]:
            edges.append((match[4], match[5], unescape(match[6] or "")))
        else:
            name = unescape(match[1])
    return name, nodes, edges


def same_as_source(graph: Graph) -> None:
    source = graph_dot(graph)
    name, nodes, edges = read_dot(source)
    assert name == graph.name
    assert list(nodes.values()) == list(graph.nodes)
    assert [(nodes[a], nodes[b], operation) for a, b, operation in edges] == list(graph.edges)
    # A line break in a name must not break a statement.
    assert len(source.splitlines()) == 4 + len(nodes) + len(edges)


@EVERY_CELL
def test_dot_is_the_same_graph(graph):
    same_as_source(graph)


PRINTABLE = st.text(st.one_of(st.sampled_from('"\\\n;{}[]->N'), st.characters(categories=["L", "N", "P", "S"])))


@given(PRINTABLE, st.lists(PRINTABLE, min_size=2, max_size=4, unique=True), PRINTABLE)
def test_dot_quotes_any_name(name, nodes, operation):
    same_as_source(Graph(name, nodes, [(nodes[0], nodes[-1], operation), (nodes[0], nodes[1], "")]))


def test_dot_has_no_characters_that_graphviz_cannot_read():
    assert "\x00" not in graph_dot(Graph("a\x00", ["b\x00\r\nc"], []))
    assert r'[label="b' + "\ufffd" + r'\nc"]' in graph_dot(Graph("a", ["b\x00\r\nc"], []))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (Graph("g", [], []), "graph 'g' needs at least one node, not 0"),
        (Graph("g", ["a", "b", "a"], []), "graph 'g' has two nodes named 'a'"),
        (
            Graph("g", ["input", "output"], [("inputs", "output", "conv")]),
            "edge ('inputs', 'output', 'conv') of graph 'g': 'inputs' is no node; did you mean 'input'?",
        ),
        (Graph("g", ["a", "b"], [("a", "z", "")]), "'z' is no node; did you mean 'a', 'b'?"),
        (Graph("g", ["a", "b"], [("b", "a", "x")]), "edge ('b', 'a', 'x') of graph 'g' must lead to a node after 'b'"),
        (Graph("g", ["a", "b"], [("a", "a", "x")]), "must lead to a node after 'a', not 'a'"),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path, report, graph, message):
    for use in (graph_svg, graph_dot):
        with pytest.raises(ValueError, match=re.escape(message)):
            use(graph)
    with pytest.raises(ValueError, match=re.escape(message)):
        write_search_report(tmp_path / "report.html", replace(report, graphs=[graph]))
    assert not list(tmp_path.iterdir())


def test_search_page_shows_the_cells_in_the_same_colours(tmp_path, report):
    path = tmp_path / "report.html"
    write_search_report(path, report)
    assert "oneshot-graph" not in path.read_text(encoding="utf-8")
    cells = [CELLS["DARTS"], replace(CELLS["deep DARTS"], name="<reduce>")]
    write_search_report(path, replace(report, graphs=cells))
    page = path.read_text(encoding="utf-8")
    assert "The chosen cells" in plain(page)
    assert "<figcaption>&lt;reduce&gt;</figcaption>" in page
    drawings = [
        ElementTree.fromstring(text) for text in re.findall(r"<svg [^>]*oneshot-graph.*?</svg>", page, re.DOTALL)
    ]
    assert len(drawings) == 4
    assert all(float(root.get("width")) <= width for root, width in zip(drawings, [1240, 640] * 2, strict=True))
    shown = [colours(root) for root in drawings]
    shared = set(shown[0]) & set(shown[2])
    assert len(shared) > 2
    assert all(shown[0][name] == shown[2][name] == shown[3][name] for name in shared)
