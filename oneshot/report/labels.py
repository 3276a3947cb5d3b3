"""Where the labels of a chart stand: beside their marks, off the other labels, the marks and the lines."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_CHARACTER = 7.0
_LINE = 15.0
_GAP = 5.0
# Around the mark, the likeliest first: a rising curve leaves room above to the left and below to the right.
_SIDES = ((0, -1), (-1, -1), (1, 1), (0, 1), (1, 0), (-1, 0), (1, -1), (-1, 1))
_DISTANCES = (0.0, 15.0, 30.0, 48.0)


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """The area that two boxes share."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, across) * max(0.0, down)

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies inside."""
        return self.left <= x <= self.right and self.top <= y <= self.bottom


@dataclass(frozen=True)
class Label:
    """A text that belongs to the mark at (x, y), and the style class it is drawn in."""

    text: str
    x: float
    y: float
    style: str


def place_labels(
    labels: Sequence[Label], *, frame: Box, marks: Sequence[tuple[float, float]], lines: Sequence[tuple[float, float]]
) -> list[Box]:
    """A box inside ``frame`` for each label, the earlier ones first served.

    ``marks`` are the centres of all marks, ``lines`` are points along the lines, a few pixels apart. Covering another
    label is worst, a mark is bad, a line is not good; among equals the nearer place wins.
    """
    occupied = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in marks]
    placed: list[Box] = []
    for label in labels:

        def cost(choice: tuple[float, Box]) -> float:
            reluctance, box = choice
            covered = 40 * sum(box.overlap(other) for other in placed) + 8 * sum(box.overlap(mark) for mark in occupied)
            return reluctance + covered + 15 * sum(box.holds(x, y) for x, y in lines)

        placed.append(min(_choices(label, frame), key=cost)[1])
    return placed


def distance_to(box: Box, x: float, y: float) -> float:
    """How far a point is from the nearest edge of a box; 0 inside."""
    return math.hypot(max(box.left - x, 0, x - box.right), max(box.top - y, 0, y - box.bottom))


def _choices(label: Label, frame: Box) -> Iterator[tuple[float, Box]]:
    wide = _CHARACTER * len(label.text)
    for distance in _DISTANCES:
        for rank, (right, down) in enumerate(_SIDES):
            reach = _GAP + distance + (3 if right and down else 5)
            left = label.x + right * reach - wide * (1 - right) / 2
            top = label.y + down * reach - _LINE * (1 - down) / 2
            # What would stick out is pushed back in.
            left = max(frame.left, min(left, frame.right - wide))
            top = max(frame.top, min(top, frame.bottom - _LINE))
            box = Box(left, top, left + wide, top + _LINE)
            yield 3 * rank + 4 * distance, box
