"""Accuracy against cost of the networks found under a list of limits, as an SVG that needs no script."""

import math
from collections.abc import Sequence
from itertools import pairwise

from oneshot.report.axes import Axis, padded, without_outliers
from oneshot.report.labels import Box, Label, distance_to, place_labels
from oneshot.report.model import TradeoffPoint, TradeoffReport
from oneshot.report.original import ORIGINAL
from oneshot.report.page import escape
from oneshot.report.selection import cost_of
from oneshot.report.units import COST_AXES, format_cost, format_metric, format_short_cost, format_tick
from oneshot.report.verdict import format_limit

_LONGEST_NAME = 30
_STEP = 6.0
_COLOURS = {"predicted": "var(--series0)", "inherited": "var(--series2)"}
_CURVES = {"predicted": "predicted accuracy", "inherited": "accuracy with inherited weights"}


def tradeoff_svg(report: TradeoffReport, *, width: int, height: int) -> str:
    """The chart as an SVG of a page, ``width`` x ``height`` units, coloured by the page's style.

    Networks stand at their own cost, random search at the cost of the network found under the same limit. Every
    mark has a tooltip.
    """
    return _Chart(report, width, height).draw()


def tradeoff_legend(report: TradeoffReport) -> str:
    """The legend of the series that the chart has, as HTML."""
    items = [
        (text, f'<path class="curve" style="stroke: {_COLOURS[name]}" d="M0 7H26"/>{_dot(name, 13, 7)}', 26)
        for name, text in _CURVES.items()
        if _values(report, name)
    ]
    if any(point.baseline is not None for point in report.points):
        items.append(("random search at equal budget", '<circle class="hollow" cx="7" cy="7" r="5.5"/>', 14))
    if _originals(report):
        items.append(("the original", f'<path class="square" d="{_square(7, 7)}"/>', 14))
    if report.references:
        items.append(("known networks", f'<path class="diamond" d="{_diamond(7, 7)}"/>', 14))
    count = len(_cloud(report))
    if count:
        text = f"{count:,} scored candidate{'' if count == 1 else 's'}"
        items.append((text, '<path class="cloud" d="M4 9h0M10 4h0M16 10h0"/>', 20))
    drawn = (f'<span><svg width="{wide}" height="14">{mark}</svg>{escape(text)}</span>' for text, mark, wide in items)
    return f'<div class="legend">{"".join(drawn)}</div>'


def num_hidden(report: TradeoffReport) -> int:
    """How many scored candidates lie so far below the others that the chart leaves them out."""
    low = _lowest(report)
    return sum(100 * accuracy < low for _, accuracy in _cloud(report))


class _Chart:
    def __init__(self, report: TradeoffReport, width: int, height: int) -> None:
        self.report = report
        self.width, self.height = width, height
        costs = [*(point.cost for point in report.points), *(known.cost for known in report.references)]
        costs += [cost for cost, _ in [*_cloud(report), *_originals(report)]]
        accuracies = [accuracy for accuracy in _accuracies(report) if accuracy >= _lowest(report)]
        self.x = Axis(*padded(costs, air=0.05), 62, width - 26)
        self.y = Axis(*padded(accuracies, air=0.1, ceiling=100), height - 46, 14)
        self.curves = {name: [self._spot(*value) for value in _values(report, name)] for name in _CURVES}
        self.labels = self._labels()

    def draw(self) -> str:
        low, high = (format_cost(self.report.cost, self.report.points[i].limit) for i in (0, -1))
        title = escape(f"accuracy against cost of the best networks under limits from {low} to {high}")
        parts = [f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{title}">']
        parts += [*self._axes(), *self._scored(), *self._lines(), *self._leaders(), *self._references()]
        return "\n".join([*parts, *self._original(), *self._dots(), *self._baseline(), *self._texts(), "</svg>"])

    def _spot(self, point: TradeoffPoint, accuracy: float) -> tuple[float, float]:
        return self.x.place(point.cost), self.y.place(100 * accuracy)

    def _axes(self) -> list[str]:
        parts = []
        values, step = self.x.ticks(apart=110)
        for value in values:
            x = self.x.place(value)
            text = format_tick(value, step, self.x.high, suffix=self.report.cost != "latency_ms")
            parts.append(f'<path class="grid" d="M{x:.1f} {self.y.end:.1f}V{self.y.start:.1f}"/>')
            parts.append(
                f'<text class="xtick" x="{x:.1f}" y="{self.y.start + 18:.1f}" text-anchor="middle">{text}</text>'
            )
        values, step = self.y.ticks(apart=55)
        for value in values:
            y = self.y.place(value)
            text = format_tick(value, step, self.y.high, suffix=False)
            parts.append(f'<path class="grid" d="M{self.x.start:.1f} {y:.1f}H{self.x.end:.1f}"/>')
            parts.append(
                f'<text class="ytick" x="{self.x.start - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
            )
        middle_x, middle_y = (self.x.start + self.x.end) / 2, (self.y.start + self.y.end) / 2
        parts += [
            f'<path class="axis" d="M{self.x.start:.1f} {self.y.start:.1f}H{self.x.end:.1f}"/>',
            f'<text x="{middle_x:.1f}" y="{self.height - 7}" text-anchor="middle">{COST_AXES[self.report.cost]}</text>',
            f'<text transform="translate(14 {middle_y:.1f}) rotate(-90)" text-anchor="middle">accuracy (%)</text>',
        ]
        return parts

    # A dot is a line of no length: one path for thousands of them.
    def _scored(self) -> list[str]:
        low = _lowest(self.report)
        spots = [
            f"M{self.x.place(cost):.1f} {self.y.place(100 * accuracy):.1f}h0"
            for cost, accuracy in _cloud(self.report)
            if 100 * accuracy >= low
        ]
        return [f'<path class="cloud" d="{"".join(spots)}"/>'] if spots else []

    def _lines(self) -> list[str]:
        parts = []
        for name, spots in self.curves.items():
            line = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
            if len(spots) > 1:
                parts.append(f'<path class="curve" style="stroke: {_COLOURS[name]}" d="M{line}"/>')
        return parts

    def _dots(self) -> list[str]:
        return [
            _dot(name, *spot, tip=f"{_describe(self.report, point)}: {format_metric('accuracy', value)} {text}")
            for name, text in _CURVES.items()
            for (point, value), spot in zip(_values(self.report, name), self.curves[name], strict=True)
        ]

    def _baseline(self) -> list[str]:
        parts = []
        for point in self.report.points:
            if point.baseline is not None:
                x, y = self._spot(point, point.baseline)
                limit = format_limit(f"max_{self.report.cost}", point.limit)
                tip = f"random search at equal budget, {limit}: {format_metric('accuracy', point.baseline)}"
                parts.append(f'<circle class="hollow" cx="{x:.1f}" cy="{y:.1f}" r="5.5">{_title(tip)}</circle>')
        return parts

    def _original(self) -> list[str]:
        parts = []
        for cost, accuracy in _originals(self.report):
            tip = f"the original: {format_metric('accuracy', accuracy)} at {format_cost(self.report.cost, cost)}"
            path = _square(self.x.place(cost), self.y.place(100 * accuracy))
            parts.append(f'<path class="square" d="{path}">{_title(tip)}</path>')
        return parts

    def _references(self) -> list[str]:
        parts = []
        for known in self.report.references:
            numbers = f"{format_metric('accuracy', known.accuracy)} at {format_cost(self.report.cost, known.cost)}"
            path = _diamond(self.x.place(known.cost), self.y.place(100 * known.accuracy))
            parts.append(f'<path class="diamond" d="{path}">{_title(f"{known.name}: {numbers}")}</path>')
        return parts

    def _labels(self) -> list[tuple[Label, Box]]:
        labels = []
        for point in self.report.points:
            highest = max(value for value in (point.predicted, point.accuracy) if value is not None)
            text = f"\u2264\u00a0{format_short_cost(self.report.cost, point.limit)}"
            labels.append(Label(text, *self._spot(point, highest), "label"))
        marks = [spot for spots in self.curves.values() for spot in spots]
        marks += [self._spot(point, point.baseline) for point in self.report.points if point.baseline is not None]
        for cost, accuracy in _originals(self.report):
            spot = self.x.place(cost), self.y.place(100 * accuracy)
            labels.append(Label(ORIGINAL, *spot, "reference"))
            marks.append(spot)
        for known in self.report.references:
            spot = self.x.place(known.cost), self.y.place(100 * known.accuracy)
            name = known.name if len(known.name) <= _LONGEST_NAME else f"{known.name[: _LONGEST_NAME - 1]}\u2026"
            labels.append(Label(name, *spot, "reference"))
            marks.append(spot)
        lines = [spot for spots in self.curves.values() for spot in _walk(spots)]
        frame = Box(self.x.start + 2, self.y.end - 10, self.width - 4, self.y.start - 2)
        return list(zip(labels, place_labels(labels, frame=frame, marks=marks, lines=lines), strict=True))

    # A label that found no room beside its mark is tied to it.
    def _leaders(self) -> list[str]:
        return [
            f'<path class="leader" d="M{label.x:.1f} {label.y:.1f}L{min(max(label.x, box.left), box.right):.1f} '
            f'{min(max(label.y, box.top), box.bottom):.1f}"/>'
            for label, box in self.labels
            if distance_to(box, label.x, label.y) > 16
        ]

    def _texts(self) -> list[str]:
        return [
            f'<text class="{label.style}" x="{(box.left + box.right) / 2:.1f}" y="{box.bottom - 3.5:.1f}" '
            f'text-anchor="middle">{escape(label.text)}</text>'
            for label, box in self.labels
        ]


def _values(report: TradeoffReport, curve: str) -> list[tuple[TradeoffPoint, float]]:
    pairs = [(point, point.predicted if curve == "predicted" else point.accuracy) for point in report.points]
    return [(point, value) for point, value in pairs if value is not None]


def _cloud(report: TradeoffReport) -> list[tuple[float, float]]:
    return [(cost, accuracy) for cost, accuracy in report.scored if math.isfinite(cost) and math.isfinite(accuracy)]


def _originals(report: TradeoffReport) -> list[tuple[float, float]]:
    """The cost and the accuracy of the original, where both are known."""
    if report.original is None or not math.isfinite(report.original.accuracy):
        return []
    cost = cost_of(report.original, report.cost)
    return [] if cost is None or not math.isfinite(cost) else [(cost, report.original.accuracy)]


def _accuracies(report: TradeoffReport) -> list[float]:
    """All accuracies of the chart in percent."""
    values = [value for point in report.points for value in (point.predicted, point.accuracy, point.baseline)]
    values += [known.accuracy for known in report.references]
    values += [accuracy for _, accuracy in _originals(report)]
    return [100 * value for value in values if value is not None] + [100 * accuracy for _, accuracy in _cloud(report)]


def _lowest(report: TradeoffReport) -> float:
    """The lowest accuracy of the view in percent: outliers count only among the scored candidates."""
    num_scored = len(_cloud(report))
    values = _accuracies(report)
    named, scored = values[: len(values) - num_scored], values[len(values) - num_scored :]
    return min([*named, without_outliers(scored)] if scored else named)


def _walk(spots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points a few pixels apart along the line through the spots."""
    walked = []
    for (x0, y0), (x1, y1) in pairwise(spots):
        count = max(1, round(math.hypot(x1 - x0, y1 - y0) / _STEP))
        walked += [(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(count + 1)]
    return walked


def _describe(report: TradeoffReport, point: TradeoffPoint) -> str:
    limit = format_limit(f"max_{report.cost}", point.limit)
    return f"{limit}, the network itself {format_cost(report.cost, point.cost)}"


def _dot(curve: str, x: float, y: float, tip: str = "") -> str:
    style = f'class="dot {curve}" style="fill: {_COLOURS[curve]}"'
    return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="5.5">{_title(tip) if tip else ""}</circle>'


def _diamond(x: float, y: float) -> str:
    return f"M{x:.1f} {y - 6.5:.1f}l6.5 6.5l-6.5 6.5l-6.5 -6.5Z"


def _square(x: float, y: float) -> str:
    return f"M{x - 5.5:.1f} {y - 5.5:.1f}h11v11h-11Z"


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"
