"""The architecture diagram: well-formed, complete, and inside its own frame."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from report_builders import make_blocks

from oneshot.report import Block, architecture_svg
from oneshot.report.diagram_layout import GUTTER, NARROWEST_COLUMN, arrange, resolution_ratio

SVG = "{http://www.w3.org/2000/svg}"


def parse(blocks: list[Block], width: int = 1240) -> ElementTree.Element:
    return ElementTree.fromstring(architecture_svg(blocks, width=width))


def texts(root: ElementTree.Element) -> list[str]:
    return [(node.text or "").replace("\u00a0", " ") for node in root.iter(f"{SVG}text")]


def drawn_blocks(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [node for node in root.iter(f"{SVG}g") if node.get("class") == "block"]


def test_shows_every_block_in_order():
    blocks = make_blocks()
    root = parse(blocks)
    assert [node.find(f"{SVG}title").text.split(":")[0] for node in drawn_blocks(root)] == [b.name for b in blocks]
    shown = texts(root)
    assert {"stem", "stage1", "head", "16\u00d716\u00d716", "10"} <= set(shown)
    assert "k5 e4 squeeze" in " ".join(shown)
    assert "no squeeze" in " ".join(shown)
    assert "5 blocks, 6.11 M MACs, 15.6 k params, input 3\u00d732\u00d732" in shown


def test_bars_are_shares_of_the_macs():
    blocks = make_blocks()
    root = parse(blocks)
    total = sum(block.macs for block in blocks)
    largest = max(block.macs for block in blocks)
    bars = [float(node.get("height")) for node in root.iter(f"{SVG}rect") if node.get("class") == "bar"]
    assert bars == pytest.approx([max(bars) * block.macs / largest for block in blocks], abs=0.06)
    labels = [node.findall(f"{SVG}text")[-1].text for node in drawn_blocks(root)]
    assert labels[1] == f"{100 * blocks[1].macs / total:.1f}\u00a0%"
    assert labels[-1] == "<0.1\u00a0%"


def test_marks_where_the_resolution_falls():
    root = parse(make_blocks())
    marked = [any(node.get("class") == "cut" for node in block) for block in drawn_blocks(root)]
    assert marked == [True, False, False, False, False]
    assert texts(root).count("\u00f72") == 1


@pytest.mark.parametrize(
    ("before", "after", "ratio"),
    [
        ((3, 224, 224), (16, 112, 112), 2),
        ((8, 13, 13), (8, 7, 7), 2),
        ((8, 14, 14), (8, 14, 14), 1),
        ((8, 32, 32), (8, 30, 30), 1),
        ((8, 7, 7), (8, 28, 28), 0.25),
        ((8, 7, 7), (100,), 1),
    ],
)
def test_resolution_ratio(before, after, ratio):
    assert resolution_ratio(replace(make_blocks()[0], input_shape=before, output_shape=after)) == ratio


@pytest.mark.parametrize("count", [3, 12, 23, 60])
@pytest.mark.parametrize("width", [640, 1240])
def test_rows_hold_every_block_once_within_the_width(count, width):
    blocks = make_blocks(count)
    grid = arrange(blocks, width)
    order = [index for row in grid.rows for stage in row for index in range(stage.start, stage.stop)]
    assert order == list(range(count))
    assert grid.column >= NARROWEST_COLUMN
    root = parse(blocks, width)
    assert len(drawn_blocks(root)) == count
    for rect in root.iter(f"{SVG}rect"):
        assert float(rect.get("x", 0)) + float(rect.get("width")) <= width
    _, _, box_width, box_height = map(float, root.get("viewBox").split())
    assert box_width == width
    bottoms = [
        float(group.get("transform").split()[1].rstrip(")")) + float(rect.get("y", 0)) + float(rect.get("height"))
        for group in root.findall(f"{SVG}g")
        for rect in group.iter(f"{SVG}rect")
    ]
    assert max(bottoms) <= box_height


def test_hostile_names_and_odd_shapes_are_well_formed():
    hostile = Block("<a>&\"'\x00", "]]><b/>", {"x<y": "<&>", "long": "v" * 99}, (3, 0, 0), (), 0, 0)
    root = parse([hostile, replace(hostile, output_shape=(0,))])
    assert not list(root.iter("b"))
    assert len(drawn_blocks(root)) == 2


def test_no_blocks_are_refused():
    with pytest.raises(ValueError, match="at least one block, not 0"):
        architecture_svg([])


def test_bold_names_stay_in_their_columns():
    """Twelve bold characters are wider than twelve plain ones, for which there would be room."""
    operation, shape = {"operation": "mbconv_k5_e6"}, (16, 8, 8)
    blocks = [Block(f"layer{n}", "InvertedResidual", operation, shape, shape, 1000, 100) for n in range(6)]
    drawn = re.findall(r"<text class=\"strong middle\"[^>]*>", architecture_svg(blocks, width=round(GUTTER + 6 * 94)))
    assert len(drawn) == len(blocks)
    assert all("textLength" in text for text in drawn)
