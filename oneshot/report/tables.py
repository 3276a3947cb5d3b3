"""Networks as a table: one row each, with the architecture on one short line."""

import math
from collections.abc import Sequence

from oneshot.report.model import SearchReport, TradeoffPoint, TradeoffReport
from oneshot.report.naming import format_architecture
from oneshot.report.page import escape
from oneshot.report.payload import available_costs
from oneshot.report.selection import COSTS, cost_of, score_of, within_limits
from oneshot.report.units import COST_HEADINGS, format_cost, format_metric, format_short_cost

_OVER = '<span class="tag over">over the limit</span> '
_ABSENT = "\u2013"


def top_candidates(report: SearchReport, count: int) -> list[int]:
    """The indices of the best candidates: within the limits first, then by the metric, then the earliest."""

    def order(index: int) -> tuple[bool, float, int]:
        candidate = report.candidates[index]
        return (not within_limits(candidate, report.limits), -score_of(candidate, report.metric), index)

    return sorted(range(len(report.candidates)), key=order)[:count]


def render_candidate_table(report: SearchReport, indices: Sequence[int]) -> str:
    """A table with one row for each index; a number's cell carries its exact value for sorting."""
    if not indices:
        return '<p class="caption">None.</p>'
    costs = available_costs(report)
    names = ["Evaluation", "Accuracy", "Loss", *(COST_HEADINGS[cost] for cost in costs)]
    headings = "".join(f'<th scope="col" class="number"><button type="button">{name}</button></th>' for name in names)
    rows = "\n".join(_row(report, index) for index in indices)
    return f'<div class="scroll">{_table(headings, rows)}</div>'


def render_tradeoff_table(report: TradeoffReport) -> str:
    """A table with one row for each limit, without the columns that no row has or that repeat the cost."""
    columns = [
        ("Limit", [format_cost(report.cost, point.limit) for point in report.points]),
        ("Cost", [format_short_cost(report.cost, point.cost) for point in report.points]),
    ]
    for cost in COSTS:
        prices = [cost_of(point, cost) for point in report.points]
        pairs = zip(prices, report.points, strict=True)
        if any(price is not None and not math.isclose(price, point.cost, rel_tol=1e-3) for price, point in pairs):
            columns.append((COST_HEADINGS[cost], [format_short_cost(cost, price) for price in prices]))
    for name, values in (
        ("Predicted", [point.predicted for point in report.points]),
        ("Inherited", [point.accuracy for point in report.points]),
        ("Random", [point.baseline for point in report.points]),
    ):
        if any(value is not None for value in values):
            columns.append((name, [_ABSENT if v is None else format_metric("accuracy", v) for v in values]))
    headings = "".join(f'<th scope="col" class="number">{name}</th>' for name, _ in columns)
    rows = "\n".join(_tradeoff_row(point, [t[i] for _, t in columns]) for i, point in enumerate(report.points))
    return f'<div class="scroll whole">{_table(headings, rows)}</div>'


def _table(headings: str, rows: str) -> str:
    return f"""<table>
<thead><tr>{headings}<th scope="col">Architecture</th></tr></thead>
<tbody>
{rows}
</tbody></table>"""


def _tradeoff_row(point: TradeoffPoint, texts: Sequence[str]) -> str:
    numbers = "".join(f'<td class="number">{escape(text)}</td>' for text in texts)
    tag = _OVER if point.cost > point.limit else ""
    return f'<tr>{numbers}<td class="architecture">{tag}{escape(format_architecture(point.arch))}</td></tr>'


def _row(report: SearchReport, index: int) -> str:
    candidate = report.candidates[index]
    cells = [
        (float(index + 1), f"{index + 1:,}"),
        (candidate.accuracy, format_metric("accuracy", candidate.accuracy)),
        (candidate.loss, format_metric("loss", candidate.loss)),
    ]
    for cost in available_costs(report):
        price = cost_of(candidate, cost)
        cells.append((math.nan if price is None else price, format_short_cost(cost, price)))
    numbers = "".join(f'<td class="number" data-value="{value!r}">{escape(text)}</td>' for value, text in cells)
    tags = '<span class="tag best">best</span> ' if index == report.best else ""
    if not within_limits(candidate, report.limits):
        tags += _OVER
    text = escape(format_architecture(candidate.arch))
    return f'<tr data-index="{index}">{numbers}<td class="architecture">{tags}{text}</td></tr>'
