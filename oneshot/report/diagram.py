"""The chosen architecture as an SVG: one column a block, grouped by stage, with its shape and its share of MACs."""

import math
from collections.abc import Sequence

from oneshot.report.diagram_layout import (
    GUTTER,
    Grid,
    Stage,
    arrange,
    format_shape,
    resolution_ratio,
)
from oneshot.report.model import Block
from oneshot.report.naming import abbreviate, format_option, format_value
from oneshot.report.page import escape, read_asset
from oneshot.report.units import format_cost, format_share

_HEADER = 66.0
_CHANNELS = 96.0
_BARS = 46.0
_LINE = 15.0
_ROW_GAP = 22.0
_CHARACTER = 6.6
_BOLD_CHARACTER = 7.6
_NUM_KIND_COLOURS = 6
DIAGRAM_CAPTION = """Blocks in execution order. Box height grows with the logarithm of the output channels;
the bar below is the block's share of the multiply-accumulates; \u00f72 marks where the resolution halves. Hover for
numbers."""


def architecture_svg(blocks: Sequence[Block], *, width: int = 1240) -> str:
    """A standalone SVG of the network, ``width`` pixels wide, that follows the reader's light or dark mode.

    Each block is a column in execution order: a box whose height grows with the logarithm of its output channels,
    its options, its output shape, and its share of the network's MACs as a bar. A dashed line marks where the
    resolution falls. Raises ValueError for no blocks.
    """
    if not blocks:
        raise ValueError("an architecture diagram needs at least one block, not 0")
    return _Diagram(blocks, width).draw()


def render_diagram(blocks: Sequence[Block]) -> str:
    """The diagram as HTML, in a wide and a narrow drawing of which a page shows the one that fits."""
    drawings = {"wide": architecture_svg(blocks, width=1240), "narrow": architecture_svg(blocks, width=640)}
    return "\n".join(f'<div class="diagram {name}">{drawing}</div>' for name, drawing in drawings.items())


class _Diagram:
    def __init__(self, blocks: Sequence[Block], width: int) -> None:
        self.blocks = blocks
        self.width = width
        self.grid: Grid = arrange(blocks, width)
        self.total_macs = sum(block.macs for block in blocks)
        self.most_macs = max(block.macs for block in blocks)
        self.most_channels = max(_channels(block) for block in blocks)
        self.fewest_channels = min(_channels(block) for block in blocks)
        self.short = abbreviate([name for block in blocks for name in block.options])
        kinds = list(dict.fromkeys(block.kind for block in blocks))
        # What occurs most gets the first colour: it is what the eye should take as normal.
        kinds.sort(key=lambda kind: -sum(block.kind == kind for block in blocks))
        self.kinds = kinds
        self.captions = [_wrap(self._words(block), self.grid.column) for block in blocks]
        self.num_caption_lines = max(len(lines) for lines in self.captions)

    def draw(self) -> str:
        legend, top = self._legend()
        row_height = self._bars_top() + _BARS + 20
        height = top + len(self.grid.rows) * (row_height + _ROW_GAP) - _ROW_GAP + 4
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="oneshot-arch" viewBox="0 0 {self.width} {height:.0f}" '
            f'width="{self.width}" height="{height:.0f}" role="img" aria-label="{escape(self._summary())}">',
            f"<style>\n{read_asset('diagram.css')}</style>",
            f'<rect class="ground" width="{self.width}" height="{height:.0f}"/>',
            *legend,
        ]
        for number, row in enumerate(self.grid.rows):
            offset = top + number * (row_height + _ROW_GAP)
            parts.append(f'<g transform="translate(0 {offset:.0f})">')
            parts += self._row(row, last=number == len(self.grid.rows) - 1)
            parts.append("</g>")
        return "\n".join([*parts, "</svg>"])

    def _summary(self) -> str:
        params = format_cost("params", sum(block.params for block in self.blocks))
        shape = format_shape(self.blocks[0].input_shape)
        count = f"{len(self.blocks)} block{'' if len(self.blocks) == 1 else 's'}"
        return f"{count}, {format_cost('macs', self.total_macs)}, {params}, input {shape}"

    def _legend(self) -> tuple[list[str], float]:
        parts = [f'<text class="strong" x="0" y="14">{escape(self._summary())}</text>']
        x, y = 0.0, 36.0
        labels = {self._colour(kind): _cut(kind, 40) for kind in self.kinds[:_NUM_KIND_COLOURS]}
        if len(self.kinds) > _NUM_KIND_COLOURS:
            labels[self._colour(self.kinds[-1])] = f"{len(self.kinds) - _NUM_KIND_COLOURS + 1} other kinds"
        for colour, label in labels.items():
            extent = 34 + len(label) * (_CHARACTER + 1)
            if x > 0 and x + extent > self.width:
                x, y = 0.0, y + 18
            parts.append(f'<rect class="box {colour}" x="{x:.0f}" y="{y - 10:.0f}" width="12" height="12"/>')
            parts.append(f'<text x="{x + 18:.0f}" y="{y:.0f}">{escape(label)}</text>')
            x += extent
        return parts, y + 16

    def _colour(self, kind: str) -> str:
        return f"kind{min(self.kinds.index(kind), _NUM_KIND_COLOURS - 1)}"

    def _words(self, block: Block) -> list[str]:
        if not block.options:
            return [format_value(block.kind)]
        return [format_option(name, self.short[name], value) for name, value in block.options.items()]

    def _bars_top(self) -> float:
        return _HEADER + _CHANNELS + 10 + _LINE * (self.num_caption_lines + 1) + 8

    def _row(self, row: tuple[Stage, ...], *, last: bool) -> list[str]:
        floor = _HEADER + _CHANNELS
        start = row[0].start
        end = GUTTER + (row[-1].stop - start) * self.grid.column
        shape_line = floor + 10 + _LINE * (self.num_caption_lines + 1) - 4
        lanes = [
            ("channels", floor - 4),
            ("choices", floor + 10 + _LINE - 4),
            ("output", shape_line),
            ("MACs", self._bars_top() + 10),
        ]
        parts = [f'<text class="lane" x="{GUTTER - 12:.0f}" y="{y:.1f}">{name}</text>' for name, y in lanes]
        for stage in row:
            parts += self._stage(stage, start)
            for index in range(stage.start, stage.stop):
                parts += self._block(index, GUTTER + (index - start) * self.grid.column)
        if not last:
            parts.append(f'<text class="lane" x="{end - 4:.1f}" y="{self._bars_top() + _BARS + 34:.1f}">')
            parts.append("continues below \u21b5</text>")
        return parts

    def _stage(self, stage: Stage, row_start: int) -> list[str]:
        x = GUTTER + (stage.start - row_start) * self.grid.column + 2
        extent = (stage.stop - stage.start) * self.grid.column - 4
        height = self._bars_top() + _BARS + 20
        members = self.blocks[stage.start : stage.stop]
        share = format_share(sum(block.macs for block in members), self.total_macs)
        room = int((extent - 14) / (_CHARACTER + 0.6))
        name = stage.name + (" (cont.)" if stage.continued and len(stage.name) + 8 <= room else "")
        parts = [
            f'<rect class="stage" x="{x:.1f}" y="0" width="{extent:.1f}" height="{height:.1f}" rx="6"/>',
            _fitted(name, "strong", x + 8, 19, extent - 14),
        ]
        if stage.stop - stage.start > 1 and len(name) + len(share) + 8 <= room:
            parts.append(f'<text class="share" x="{x + extent - 8:.1f}" y="19">{escape(share)} of MACs</text>')
        return parts

    def _block(self, index: int, left: float) -> list[str]:
        block = self.blocks[index]
        column = self.grid.column
        centre = left + column / 2
        floor = _HEADER + _CHANNELS
        tall = _CHANNELS * self._height(block)
        wide = min(column - 18, 64)
        parts = [
            f'<g class="block" data-tip="{escape(chr(10).join(self._tip(block)))}">',
            f"<title>{escape(chr(10).join(self._tip(block)))}</title>",
            *self._resolution_mark(block, left),
            f'<rect class="box {self._colour(block.kind)}" x="{centre - wide / 2:.1f}" y="{floor - tall:.1f}" '
            f'width="{wide:.1f}" height="{tall:.1f}" rx="2.5"/>',
            f'<text class="count" x="{centre:.1f}" y="{floor - tall - 5:.1f}">{_channels(block)}</text>',
        ]
        y = floor + 10 + _LINE - 4
        for line in self.captions[index]:
            parts.append(_fitted(line, "strong middle" if block.options else "kindname", centre, y, column - 6))
            y += _LINE
        y = floor + 10 + _LINE * (self.num_caption_lines + 1) - 4
        parts.append(_fitted(format_shape(block.output_shape), "shape", centre, y, column - 6))
        parts += self._bar(block, centre, wide)
        parts.append(
            f'<rect class="hit" x="{left + 2:.1f}" y="26" width="{column - 4:.1f}" '
            f'height="{self._bars_top() + _BARS - 8:.1f}"/></g>'
        )
        return parts

    def _bar(self, block: Block, centre: float, wide: float) -> list[str]:
        top = self._bars_top()
        long = _BARS * block.macs / self.most_macs if self.most_macs else 0.0
        label = format_share(block.macs, self.total_macs)
        return [
            f'<path class="rule" d="M{centre - wide / 2:.1f} {top:.1f}h{wide:.1f}"/>',
            f'<rect class="bar" x="{centre - wide / 2:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{long:.1f}"/>',
            f'<text class="count" x="{centre:.1f}" y="{top + long + 13:.1f}">{escape(label)}</text>',
        ]

    def _height(self, block: Block) -> float:
        # Sixteen and 1280 channels in one picture: a linear scale would leave nothing of the early stages. The
        # narrowest block counts as one doubling above the floor.
        doublings = math.log2(1 + self.most_channels) - math.log2(1 + self.fewest_channels) + 1
        return (math.log2(1 + _channels(block)) - math.log2(1 + self.fewest_channels) + 1) / doublings

    def _resolution_mark(self, block: Block, left: float) -> list[str]:
        ratio = resolution_ratio(block)
        if ratio == 1:
            return []
        label = f"\u00f7{ratio:.0f}" if ratio > 1 else f"\u00d7{round(1 / ratio)}"
        extent = 10 + 7 * len(label)
        bottom = _HEADER + _CHANNELS
        return [
            f'<path class="cut" d="M{left + 6:.1f} 42V{bottom:.1f}"/>',
            f'<rect class="pill" x="{left + 5:.1f}" y="28" width="{extent}" height="17" rx="4"/>',
            f'<text class="pilltext" x="{left + 5 + extent / 2:.1f}" y="40.5">{label}</text>',
        ]

    def _tip(self, block: Block) -> list[str]:
        options = ", ".join(f"{name} {format_value(value)}" for name, value in block.options.items())
        share = format_share(block.macs, self.total_macs)
        return [
            f"{block.name}: {block.kind}",
            *([options] if options else []),
            f"{format_shape(block.input_shape)} \u2192 {format_shape(block.output_shape)}",
            f"{block.macs:,} MACs ({share})",
            f"{block.params:,} params",
        ]


def _channels(block: Block) -> int:
    return max(0, block.output_shape[0]) if block.output_shape else 0


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(1, room - 1)] + "\u2026"


def _wrap(words: Sequence[str], column: float) -> list[str]:
    room = max(4, int((column - 6) / _CHARACTER))
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    # More than two lines would push every block's shape down for the sake of one; the hover card has them all.
    return lines if len(lines) <= 2 else [lines[0], f"{lines[1]}\u2026"]


def _fitted(text: str, style: str, x: float, y: float, room: float) -> str:
    # Squeezed a little it still reads well; beyond that it is better cut.
    character = _BOLD_CHARACTER if "strong" in style else _CHARACTER
    text = _cut(text, int(room / character / 0.8))
    squeeze = f' textLength="{room:.1f}" lengthAdjust="spacingAndGlyphs"' if len(text) * character > room else ""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}"{squeeze}>{escape(text)}</text>'
