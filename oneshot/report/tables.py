"""Candidates as a table: one row each, with the architecture on one short line."""

import math
from collections.abc import Sequence

from oneshot.report.model import Cost, SearchReport
from oneshot.report.naming import format_architecture
from oneshot.report.page import escape
from oneshot.report.payload import available_costs
from oneshot.report.ranking import cost_of, score_of, within_limits
from oneshot.report.units import format_cost, format_count, format_metric

_COST_HEADINGS = {"macs": "MACs", "params": "Params", "latency_ms": "Latency"}


def top_candidates(report: SearchReport, count: int) -> list[int]:
    """Return the indices of the best candidates: within the limits first, then by the metric, then the earliest."""

    def order(index: int) -> tuple[bool, float, int]:
        candidate = report.candidates[index]
        return (not within_limits(candidate, report.limits), -score_of(candidate, report.metric), index)

    return sorted(range(len(report.candidates)), key=order)[:count]


def render_candidate_table(report: SearchReport, indices: Sequence[int]) -> str:
    """Return a table with one row for each index; a number's cell carries its exact value for sorting."""
    if not indices:
        return '<p class="caption">None.</p>'
    costs = available_costs(report)
    names = ["Evaluation", "Accuracy", "Loss", *(_COST_HEADINGS[cost] for cost in costs)]
    headings = "".join(f'<th scope="col" class="number"><button type="button">{name}</button></th>' for name in names)
    rows = "\n".join(_row(report, index) for index in indices)
    return f"""<div class="scroll"><table>
<thead><tr>{headings}<th scope="col">Architecture</th></tr></thead>
<tbody>
{rows}
</tbody></table></div>"""


def _row(report: SearchReport, index: int) -> str:
    candidate = report.candidates[index]
    cells = [
        (float(index + 1), f"{index + 1:,}"),
        (candidate.accuracy, format_metric("accuracy", candidate.accuracy)),
        (candidate.loss, format_metric("loss", candidate.loss)),
    ]
    for cost in available_costs(report):
        price = cost_of(candidate, cost)
        cells.append((math.nan if price is None else price, _without_unit(cost, price)))
    numbers = "".join(f'<td class="number" data-value="{value!r}">{escape(text)}</td>' for value, text in cells)
    tags = '<span class="tag best">best</span> ' if index == report.best else ""
    if not within_limits(candidate, report.limits):
        tags += '<span class="tag over">over the limit</span> '
    text = escape(format_architecture(candidate.arch))
    return f'<tr data-index="{index}">{numbers}<td class="architecture">{tags}{text}</td></tr>'


# The heading says what is counted; a latency keeps its unit.
def _without_unit(cost: Cost, price: float | None) -> str:
    return format_cost(cost, price) if price is None or cost == "latency_ms" else format_count(price)
