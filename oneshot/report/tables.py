"""Networks as a table: one row each, with the architecture on one short line."""

import math
from collections.abc import Sequence

from oneshot.report.model import Candidate, Cost, Metric, SearchReport, TradeoffPoint, TradeoffReport
from oneshot.report.naming import format_architecture
from oneshot.report.original import ORIGINAL, format_percent, share_heading, share_of_original, shared_costs
from oneshot.report.page import escape
from oneshot.report.payload import available_costs, has_combined
from oneshot.report.selection import COSTS, cost_of, score_of, within_limits
from oneshot.report.units import COST_HEADINGS, format_cost, format_metric, format_short_cost

_OVER = '<span class="tag over">over the limit</span> '
_ABSENT = "\u2013"


def top_candidates(report: SearchReport, count: int) -> list[int]:
    """The indices of the best candidates: within the limits first, then scored on all images, then by the combined value where
    there is one, then by the metric; of equal ones the chosen network, then the earliest.
    """

    def order(index: int) -> tuple[bool, bool, float, float, bool, int]:
        candidate = report.candidates[index]
        combined = 0.0 if candidate.combined is None else candidate.combined
        outside = not within_limits(candidate, report.limits)
        return (
            outside,
            not candidate.is_whole,
            -combined,
            -score_of(candidate, report.metric),
            index != report.best,
            index,
        )

    return sorted(range(len(report.candidates)), key=order)[:count]


def render_candidate_table(report: SearchReport, indices: Sequence[int]) -> str:
    """A table with one row for each index, and one for the original where there is one; a number's cell carries its exact value
    for sorting.
    """
    if not indices:
        return '<p class="caption">None.</p>'
    costs = available_costs(report)
    names = ["Evaluation", *(["All witnesses"] if has_combined(report) else []), "Accuracy", "Loss"]
    names += [COST_HEADINGS[cost] for cost in costs]
    names += [share_heading(cost) for cost in _shared(report)]
    headings = "".join(f'<th scope="col" class="number"><button type="button">{name}</button></th>' for name in names)
    rows = "\n".join(_row(report, index) for index in indices)
    if report.original is not None:
        rows += f"\n{_original_row(report, report.original)}"
    return f'<div class="scroll">{_table(headings, rows)}</div>'


def render_tradeoff_table(report: TradeoffReport) -> str:
    """A table with one row for each limit, and one for the original where there is one, without the columns that no row has or
    that repeat the cost.
    """
    original, points = report.original, report.points
    networks: list[TradeoffPoint | Candidate] = [*points, *([] if original is None else [original])]
    last = [] if original is None else [ORIGINAL]
    costs = [
        network.cost if isinstance(network, TradeoffPoint) else cost_of(network, report.cost) for network in networks
    ]
    columns = [
        ("Limit", [*(format_cost(report.cost, point.limit) for point in points), *last]),
        ("Cost", [format_short_cost(report.cost, cost) for cost in costs]),
    ]
    for cost in COSTS:
        prices = [cost_of(network, cost) for network in networks]
        pairs = zip(prices, points, strict=False)
        if any(price is not None and not math.isclose(price, point.cost, rel_tol=1e-3) for price, point in pairs):
            columns.append((COST_HEADINGS[cost], [format_short_cost(cost, price) for price in prices]))
    if original is not None:
        for cost in shared_costs(original, points):
            shares = [share_of_original(original, network, cost) for network in networks]
            columns.append((share_heading(cost), [format_percent(share) for share in shares]))
    shown: list[tuple[str, Metric, list[float | None]]] = [
        ("Predicted", "accuracy", [point.predicted for point in points]),
        ("Inherited", "accuracy", [network.accuracy for network in networks]),
        ("Random", "accuracy", [point.baseline for point in points]),
    ]
    elsewhere = any(point.found is not None for point in points)
    if elsewhere:
        own = [point.accuracy if point.found is None else point.found for point in points]
        shown.insert(2, ("Strategy\u2019s own", "accuracy", own))
    if report.by_loss:
        shown.append(("Loss", "loss", [network.loss for network in networks]))
        if elsewhere:
            own = [point.loss if point.found_loss is None else point.found_loss for point in points]
            shown.append(("Its own loss", "loss", own))
        shown.append(("Random\u2019s loss", "loss", [point.baseline_loss for point in points]))
    for name, metric, values in shown:
        if any(value is not None for value in values[: len(points)]):
            values = [*values, *[None] * (len(networks) - len(values))]
            columns.append((name, [_ABSENT if v is None else format_metric(metric, v) for v in values]))
    headings = "".join(f'<th scope="col" class="number">{name}</th>' for name, _ in columns)
    rows = "\n".join(_tradeoff_row(network, [t[i] for _, t in columns]) for i, network in enumerate(networks))
    table = f'<table class="limits">\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>'
    return f'<div class="scroll whole">{table}</div>'


def _table(headings: str, rows: str) -> str:
    return f"""<table>
<thead><tr>{headings}<th scope="col">Architecture</th></tr></thead>
<tbody>
{rows}
</tbody></table>"""


def _tradeoff_row(network: TradeoffPoint | Candidate, texts: Sequence[str]) -> str:
    """A row of numbers, and below it the architecture, which is long."""
    numbers = "".join(f'<td class="number">{escape(text)}</td>' for text in texts)
    tag = _OVER if isinstance(network, TradeoffPoint) and network.cost > network.limit else ""
    text = f"{tag}{escape(format_architecture(network.arch))}"
    return f'<tr class="above">{numbers}</tr>\n<tr><td class="architecture" colspan="{len(texts)}">{text}</td></tr>'


def _shared(report: SearchReport) -> list[Cost]:
    return [] if report.original is None else shared_costs(report.original, report.candidates)


def _row(report: SearchReport, index: int) -> str:
    candidate = report.candidates[index]
    number = f"{index + 1:,}" if index < len(report.own) else _ABSENT
    numbers = _numbers(report, candidate, (float(index + 1), number))
    tags = '<span class="tag best">best</span> ' if index == report.best else ""
    if not within_limits(candidate, report.limits):
        tags += _OVER
    text = escape(format_architecture(candidate.arch))
    return f'<tr data-index="{index}">{numbers}<td class="architecture">{tags}{text}</td></tr>'


def _original_row(report: SearchReport, original: Candidate) -> str:
    numbers = _numbers(report, original, (math.nan, _ABSENT))
    text = escape(format_architecture(original.arch))
    return f'<tr>{numbers}<td class="architecture"><span class="tag">{ORIGINAL}</span> {text}</td></tr>'


def _numbers(report: SearchReport, candidate: Candidate, first: tuple[float, str]) -> str:
    cells = [first]
    if has_combined(report):
        value = candidate.combined
        cells.append((math.nan, _ABSENT) if value is None else (value, f"{value:.3f}"))
    cells += [
        (candidate.accuracy, format_metric("accuracy", candidate.accuracy)),
        (candidate.loss, format_metric("loss", candidate.loss)),
    ]
    for cost in available_costs(report):
        price = cost_of(candidate, cost)
        cells.append((math.nan, _ABSENT) if price is None else (price, format_short_cost(cost, price)))
    for cost in _shared(report):
        share = None if report.original is None else share_of_original(report.original, candidate, cost)
        cells.append((math.nan if share is None else share, format_percent(share)))
    return "".join(f'<td class="number" data-value="{value!r}">{escape(text)}</td>' for value, text in cells)
