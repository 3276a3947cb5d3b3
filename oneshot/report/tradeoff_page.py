"""The page of one search under a list of limits: accuracy against cost, and the best network under each limit."""

import math
from itertools import pairwise
from pathlib import Path

from oneshot.report.diagram import DIAGRAM_CAPTION, render_diagram
from oneshot.report.model import TradeoffPoint, TradeoffReport
from oneshot.report.original import COST_WORDS, format_percent, share_of_original, speed_notes
from oneshot.report.page import escape, render_header, render_page, render_trust
from oneshot.report.ranking_section import check_ranking, render_ranking
from oneshot.report.selection import check_accuracy
from oneshot.report.tables import render_tradeoff_table
from oneshot.report.tradeoff_chart import num_hidden, tradeoff_legend, tradeoff_svg
from oneshot.report.units import format_cost, format_metric
from oneshot.report.verdict import format_limit
from oneshot.report.witness_section import check_witnesses, render_witnesses
from oneshot.runs import write_text


def write_tradeoff_report(path: Path, report: TradeoffReport) -> None:
    """Writes one self-contained HTML file without a script; the file appears whole or not at all.

    Raises:
        ValueError: no points, limits that do not rise, a cost that is not a number, an accuracy that is not a
            fraction, or a point without any accuracy of its network.
    """
    _check(report)
    ranking = "" if report.ranking is None else render_ranking(report.ranking, with_chart=False)
    witnesses = "" if report.witnesses is None else render_witnesses(report.witnesses)
    body = "\n".join([_header(report), _chart(report), _table(report), ranking, witnesses, _networks(report)])
    slow = [] if report.original is None else speed_notes(report.original, report.points)
    body += render_trust([*slow, *report.notes], report.facts)
    write_text(path, render_page(title=report.title, body=body))


def _check(report: TradeoffReport) -> None:
    if not report.points:
        raise ValueError("a trade-off report needs at least one point, not 0")
    for before, after in pairwise(point.limit for point in report.points):
        if not before < after:
            raise ValueError(f"points are in rising order of their limits, but {after:g} follows {before:g}")
    costs = [cost for point in report.points for cost in (point.limit, point.cost)]
    for cost in (*costs, *(known.cost for known in report.references)):
        if not math.isfinite(cost):
            raise ValueError(f"limits and costs are finite numbers, not {cost}")
    if report.ranking is not None:
        check_ranking(report.ranking, None)
    if report.witnesses is not None:
        check_witnesses(report.witnesses)
    for point in report.points:
        if point.predicted is None and point.accuracy is None:
            raise ValueError(f"the point with limit {point.limit:g} has neither a predicted nor an inherited accuracy")
        for value in (point.predicted, point.accuracy, point.baseline):
            if value is not None:
                check_accuracy(value)
    for known in report.references:
        check_accuracy(known.accuracy)
    if report.original is not None and math.isfinite(report.original.accuracy):
        check_accuracy(report.original.accuracy)
    # A candidate whose accuracy is not finite is not drawn, as on the page of one search.
    for _, accuracy in report.scored:
        if math.isfinite(accuracy):
            check_accuracy(accuracy)


def _header(report: TradeoffReport) -> str:
    about = {"space": report.space, "data": report.data, "strategy": report.strategy}
    if report.predictor:
        about["predictor"] = report.predictor
    return render_header(report.title, about, _verdict(report))


def _verdict(report: TradeoffReport) -> str:
    first, last = report.points[0], report.points[-1]
    inherited = first.accuracy is not None and last.accuracy is not None
    ends = [f"<strong>{_result(report, point, inherited)}</strong>" for point in (first, last)]
    elsewhere = sum(point.found is not None for point in report.points)
    several = len(report.points) > 1
    found = f"{escape(report.strategy)} found "
    if elsewhere:
        found = f"Kept {'are' if several else 'is'} "
    if several:
        low, high = (format_cost(report.cost, point.limit) for point in (first, last))
        found += f"networks from {ends[0]} to {ends[1]} under {len(report.points)} limits from {low} to {high}"
    else:
        found += f"a network of {ends[0]} under one limit, {format_limit(f'max_{report.cost}', first.limit)}"
    if elsewhere:
        found += (
            f", {f'{elsewhere} of them' if several else 'which was'} scored elsewhere than by {escape(report.strategy)}"
        )
    return f"{found}{_chosen_by(report)}{_comparison(report)}.{_beside_original(report)}"


def _result(report: TradeoffReport, point: TradeoffPoint, inherited: bool) -> str:
    price = format_cost(report.cost, point.cost)
    if point.accuracy is not None and (inherited or point.predicted is None):
        result = f"{format_metric('accuracy', point.accuracy)} accuracy"
        if report.by_loss and point.loss is not None:
            result = f"a loss of {format_metric('loss', point.loss)} ({result})"
        return f"{result} at {price}"
    return f"{format_metric('accuracy', point.predicted or 0.0)} predicted accuracy at {price}"


def _beside_original(report: TradeoffReport) -> str:
    original = report.original
    if original is None:
        return ""
    shares = [share_of_original(original, point, report.cost) for point in (report.points[0], report.points[-1])]
    text = f" The original reaches {format_metric('accuracy', original.accuracy)}"
    if None in shares:
        return f"{text} with the same weights."
    part = " to ".join(dict.fromkeys(map(format_percent, shares)))
    return f"{text} with the same weights; the networks found take {part} of its {COST_WORDS[report.cost]}."


def _chosen_by(report: TradeoffReport) -> str:
    if report.chosen_by:
        return f", chosen by {escape(report.chosen_by)}"
    return ", chosen by their losses" if report.by_loss else ""


def _comparison(report: TradeoffReport) -> str:
    leads = [lead for point in report.points if (lead := _lead(report, point)) is not None]
    if not leads:
        return ""
    rival = "random search at equal budget reached"
    if report.chosen_by:
        rival = "what is chosen alike of random search at equal budget has"
    less, equal, more = ("a higher loss", "the same loss", "a lower loss")
    if not report.by_loss:
        less, equal, more = ("less accuracy", "the same accuracy", "more accuracy")
    own = ""
    if any(point.found is not None for point in report.points):
        own = f" than {escape(report.strategy)} itself"
    if len(leads) == 1:
        return f"; {rival} {less if leads[0] > 0 else equal if leads[0] == 0 else more}{own}"
    won = sum(lead > 0 for lead in leads)
    return f"; {rival} {less}{own} under {'each' if won == len(leads) else won} of {len(leads)} limits"


def _lead(report: TradeoffReport, point: TradeoffPoint) -> float | None:
    """How much better the strategy's own network is than random search's by what the sentence speaks of."""
    if report.by_loss:
        loss = point.loss if point.found_loss is None else point.found_loss
        return None if loss is None or point.baseline_loss is None else point.baseline_loss - loss
    inherited = point.accuracy if point.found is None else point.found
    own = inherited if inherited is not None else point.predicted or 0.0
    return None if point.baseline is None else own - point.baseline


def _chart(report: TradeoffReport) -> str:
    caption = "Each label is a limit; the network kept under it stands at its own cost. Hover for numbers."
    if any(point.baseline is not None for point in report.points):
        caption += " Random search is drawn above or below the network kept under the same limit."
    if report.by_loss:
        caption += " Accuracies are drawn, but networks were chosen by their losses, which the table shows."
    hidden = num_hidden(report)
    if hidden:
        caption += f" {hidden:,} scored candidate{' lies' if hidden == 1 else 's lie'} below this view."
    return f"""<section>
<div class="head"><h2>Accuracy and cost</h2></div>
{tradeoff_legend(report)}
<div class="chart still wide">{tradeoff_svg(report, width=1240, height=520)}</div>
<div class="chart still narrow">{tradeoff_svg(report, width=640, height=440)}</div>
<p class="caption">{caption}</p>
</section>"""


def _table(report: TradeoffReport) -> str:
    return f"""<section>
<div class="head"><h2>The best network under each limit</h2></div>
{render_tradeoff_table(report)}
</section>"""


def _networks(report: TradeoffReport) -> str:
    drawn = "\n".join(_details(report, point) for point in report.points if point.blocks)
    if not drawn:
        return ""
    return f"""<section>
<div class="head"><h2>The networks</h2></div>
{drawn}
<p class="caption">{DIAGRAM_CAPTION}</p>
</section>"""


def _details(report: TradeoffReport, point: TradeoffPoint) -> str:
    limit = format_limit(f"max_{report.cost}", point.limit)
    result = _result(report, point, inherited=True)
    return f"""<details>
<summary><b>{limit}</b> <span>{result}</span></summary>
{render_diagram(point.blocks)}
</details>"""
