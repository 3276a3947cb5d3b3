"""How a sampling policy changed, as a heat map of probabilities: options down, steps across."""

import math
from collections.abc import Sequence

from oneshot.report.axes import Axis
from oneshot.report.model import PolicyHistory
from oneshot.report.page import escape, read_asset
from oneshot.report.policy_layout import ROW, Band, Panel, arrange_panels, check_policy, shown_columns

_NUM_LEVELS = 16
_NAME, _OPTION = 7.0, 6.3
_LONGEST_NAME, _LONGEST_OPTION = 28, 20
_LABELLED_WIDTH = 400.0
_CAPTION = """Colour is the probability with which the policy draws an option. A boolean choice has one row: the probability
of true. Empty: the choice was inactive in all architectures that were drawn. Bold: the likeliest option at the end."""
_CAPTION_OF_WEIGHTS = """Colour is the strength of an option: its weight in the mixture of all options of its choice, without
anything random. The strongest options at the end are bold, and derived. A boolean choice has one row: the strength of true."""


class PolicyMap:
    """The heat map of a history: HTML that shows it, and data for the script that reads out a cell.

    Raises ValueError for a row that does not fit the steps, or a number that is neither a probability nor NaN.
    """

    def __init__(self, history: PolicyHistory) -> None:
        check_policy(history)
        self.num_steps = len(history.steps)
        self.title = "Weights of the options" if history.are_weights else "Sampling policy"
        self.caption = _CAPTION_OF_WEIGHTS if history.are_weights else _CAPTION
        columns = shown_columns(history)
        self.steps = [history.steps[i] for i in columns]
        self.panels = arrange_panels(history, columns) if columns else []
        # All time axes start below one another.
        self.gutter = max((_gutter(panel) for panel in self.panels), default=0.0)

    def payload(self) -> dict[str, object]:
        """The JSON data: probabilities in hundredths of a percent, None for NaN."""
        panels = [
            [
                {
                    "choice": row.choice,
                    "option": row.option,
                    "top": row.top,
                    "values": [_hundredths(value) for value in row.values],
                }
                for band in panel.bands
                for row in band.rows
            ]
            for panel in self.panels
        ]
        return {"steps": self.steps, "row": ROW, "panels": panels}

    def render(self) -> str:
        """The section of the page."""
        drawn = "\n".join(self._panel(number, panel) for number, panel in enumerate(self.panels))
        caption = self.caption
        if len(self.steps) < self.num_steps:
            caption += f" {len(self.steps):,} of {self.num_steps:,} recorded steps are shown."
        columns = " single" if len(self.panels) == 1 else ""
        return f"""<section class="policy">
<style>
{read_asset("policy.css")}</style>
<div class="head"><h2>{self.title}</h2></div>
{_legend() if drawn else ""}
<div class="panels{columns}">
{drawn or '<p class="caption">Nothing was recorded.</p>'}
</div>
{f'<p class="caption">{caption}</p>' if drawn else ""}
</section>"""

    def _panel(self, number: int, panel: Panel) -> str:
        heading = f"<h3>{escape(panel.name)}</h3>" if panel.name else ""
        title = f"probabilities of {len(panel.bands)} choices over {len(self.steps)} steps"
        return f"""<div class="panel">{heading}
<div class="map" style="grid-template-columns: {self.gutter:.0f}px minmax(0, 1fr)">
{_labels(panel, self.gutter)}
<svg class="cells" viewBox="0 0 {len(self.steps)} {panel.height:.0f}" height="{panel.height:.0f}" \
preserveAspectRatio="none" role="img" aria-label="{title}" data-panel="{number}">
{_cells(panel)}
</svg>
<span class="unit">step</span>
{self._ticks()}
</div></div>"""

    def _ticks(self) -> str:
        steps = self.steps
        # The columns are evenly spaced whatever their steps: a round step stands between its neighbours.
        marks = []
        values = [float(steps[0])]
        if steps[0] < steps[-1]:
            values, _ = Axis(float(steps[0]), float(steps[-1]), 0, _LABELLED_WIDTH).ticks(apart=90)
        for value in values:
            if value.is_integer():
                share = 100 * (_column_of(value, steps) + 0.5) / len(steps)
                anchor = "start" if share < 5 and len(steps) > 1 else "end" if share > 95 else "middle"
                marks.append(f'<text x="{share:.2f}%" y="13" text-anchor="{anchor}">{value:,.0f}</text>')
        return f'<svg class="ticks" width="100%" height="16">{"".join(marks)}</svg>'


def _legend() -> str:
    boxes = "".join(f'<path class="heat{i}" d="M{7 * i} 7h7"/>' for i in range(_NUM_LEVELS))
    scale = f'<svg class="scale" width="{7 * _NUM_LEVELS}" height="14">{boxes}</svg>'
    empty = '<svg width="14" height="14"><rect class="band" x="1" y="1" width="12" height="12"/></svg>'
    return f'<div class="legend"><span>0\u00a0%{scale}100\u00a0%</span><span>{empty}inactive</span></div>'


def _labels(panel: Panel, gutter: float) -> str:
    parts = []
    for band in panel.bands:
        place = f'x="{gutter - 6:.0f}" text-anchor="end"' if band.single else 'x="0"'
        name = f"{escape(_cut(band.name, _LONGEST_NAME))}<title>{escape(band.rows[0].choice)}</title>"
        parts.append(f'<text class="choice" {place} y="{band.rows[0].top + ROW - 2.5:.1f}">{name}</text>')
        last = max((row.values[-1] for row in band.rows if not math.isnan(row.values[-1])), default=math.nan)
        for row in () if band.single else band.rows:
            kind = "option strongest" if row.values[-1] == last else "option"
            option = f"{escape(_cut(row.option, _LONGEST_OPTION))}<title>{escape(row.option)}</title>"
            place = f'x="{gutter - 6:.0f}" y="{row.top + ROW - 2.5:.1f}" text-anchor="end"'
            parts.append(f'<text class="{kind}" {place}>{option}</text>')
    return f'<svg class="names" width="{gutter:.0f}" height="{panel.height:.0f}">{"".join(parts)}</svg>'


def _gutter(panel: Panel) -> float:
    def width(band: Band) -> float:
        name = _NAME * min(_LONGEST_NAME, len(band.name)) + 6
        options = [_OPTION * min(_LONGEST_OPTION, len(row.option)) for row in band.rows]
        return name if band.single else name + 8 + max(options)

    return math.ceil(max(width(band) for band in panel.bands))


# One path for each colour, a line for each run of equal colour: a page of thousands of cells stays small.
def _cells(panel: Panel) -> str:
    frames, runs = [], [""] * _NUM_LEVELS
    for band in panel.bands:
        top, bottom = band.rows[0].top, band.rows[-1].top + ROW
        num_columns = len(band.rows[0].values)
        frames.append(f'<rect class="band" x="0" y="{top:g}" width="{num_columns}" height="{bottom - top:g}"/>')
        for row in band.rows:
            levels = [
                None if math.isnan(value) else min(_NUM_LEVELS - 1, int(value * _NUM_LEVELS)) for value in row.values
            ]
            for start, length, level in _runs(levels):
                runs[level] += f"M{start} {row.top + ROW / 2:g}h{length}"
    paths = [
        f'<path class="heat{level}" stroke-width="{ROW:g}" d="{line}"/>' for level, line in enumerate(runs) if line
    ]
    return "\n".join([*paths, *frames])


def _runs(levels: Sequence[int | None]) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for column, level in enumerate(levels):
        if level is None:
            continue
        if found and found[-1][2] == level and found[-1][0] + found[-1][1] == column:
            start, length, _ = found.pop()
            found.append((start, length + 1, level))
        else:
            found.append((column, 1, level))
    return found


def _column_of(value: float, steps: Sequence[int]) -> float:
    after = next((i for i, step in enumerate(steps) if step >= value), len(steps) - 1)
    if after == 0 or steps[after] == value:
        return after
    return after - (steps[after] - value) / (steps[after] - steps[after - 1])


def _hundredths(value: float) -> int | None:
    if math.isnan(value):
        return None
    # What is small but possible must not read as zero.
    return max(1, round(10_000 * value)) if value > 0 else 0


# The ends tell names apart: what they have in common is at the start or in the middle.
def _cut(text: str, room: int) -> str:
    if len(text) <= room:
        return text
    head = (room - 1) // 2
    return f"{text[:head]}\u2026{text[head + 1 - room :]}"
