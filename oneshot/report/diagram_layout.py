"""Where each block of the architecture diagram stands: rows, stages within rows, columns within stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from oneshot.report.model import Block

GUTTER = 74.0
NARROWEST_COLUMN = 68.0
WIDEST_COLUMN = 112.0


@dataclass(frozen=True)
class Stage:
    """Blocks of one stage that stand next to each other in one row; ``continued`` where the row above holds its start."""

    name: str
    start: int
    stop: int
    continued: bool


@dataclass(frozen=True)
class Grid:
    """Rows of stages, and the width in pixels that every block gets."""

    rows: tuple[tuple[Stage, ...], ...]
    column: float


def stage_of(block: Block) -> str:
    """The first dotted part of a block's name."""
    return block.name.split(".", 1)[0]


def arrange(blocks: Sequence[Block], width: float) -> Grid:
    """Breaks the blocks into as few rows as fit ``width`` pixels, at the start of a stage where one is near."""
    room = max(1, int((width - GUTTER) // NARROWEST_COLUMN))
    bounds: list[tuple[int, int]] = []
    start = 0
    while start < len(blocks):
        stop = _row_end(blocks, start, room)
        bounds.append((start, stop))
        start = stop
    longest = max((stop - start for start, stop in bounds), default=1)
    rows = tuple(tuple(_stages(blocks, start, stop)) for start, stop in bounds)
    return Grid(rows, min(WIDEST_COLUMN, (width - GUTTER) / longest))


def resolution_ratio(block: Block) -> float:
    """How many times lower the output is than the input, as the stride that does it.

    A fraction is a rise; 1 is no change or a shape without a height. A stride of two takes 13 rows to 7, so the
    ratio is rounded.
    """
    if len(block.input_shape) != 3 or len(block.output_shape) != 3:
        return 1
    before, after = block.input_shape[1], block.output_shape[1]
    if min(before, after) <= 0 or before == after:
        return 1
    # Convolutions without padding lose a row or two; that is not a step in resolution.
    return round(before / after) if before > after else 1 / round(after / before)


def format_shape(shape: Sequence[int]) -> str:
    """A shape as "channels x height x width", or the number of features alone."""
    return "\u00d7".join(str(size) for size in shape) if shape else "scalar"


def _row_end(blocks: Sequence[Block], start: int, room: int) -> int:
    remaining = len(blocks) - start
    if remaining <= room:
        return len(blocks)
    # Rows of about equal length look better than full ones and a stub.
    even = -(-remaining // -(-remaining // room))
    starts = [i for i in range(start + 1, start + room + 1) if stage_of(blocks[i]) != stage_of(blocks[i - 1])]
    near = [i for i in starts if i - start >= even * 0.7]
    return min(near, key=lambda i: abs(i - start - even)) if near else start + even


def _stages(blocks: Sequence[Block], start: int, stop: int) -> list[Stage]:
    stages: list[Stage] = []
    for name, members in groupby(range(start, stop), key=lambda index: stage_of(blocks[index])):
        indices = list(members)
        first = indices[0]
        stages.append(Stage(name, first, indices[-1] + 1, first > 0 and stage_of(blocks[first - 1]) == name))
    return stages
