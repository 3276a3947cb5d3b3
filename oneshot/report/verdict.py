"""The search in one sentence and four numbers: the best, its cost, and random search at the same budget and limit."""

import math

from oneshot.report.model import Candidate, SearchReport
from oneshot.report.original import format_percent, share_heading, share_of_original, shared_costs
from oneshot.report.page import escape
from oneshot.report.selection import COSTS, best_so_far, cost_of, metric_of, score_of, split_limit, within_limits
from oneshot.report.units import SPACE, format_cost, format_count, format_metric


def best_of_baseline(report: SearchReport) -> Candidate | None:
    """The best random candidate within the limits, or None where there is none."""
    history = best_so_far(report.baseline, report.metric, report.limits)
    last = history[-1] if history else None
    return None if last is None else report.baseline[last]


def format_limit(name: str, value: float) -> str:
    """A limit in words, "at most 420 M MACs"; one this report cannot check is given as it is named."""
    known = split_limit(name)
    if known is None:
        return f"{name} {value:,.10g}"
    bound, quantity = known
    if quantity == "accuracy":
        text = f"{format_metric('accuracy', value)} accuracy"
    elif quantity == "loss":
        text = f"a loss of {format_count(value)}"
    else:
        text = next(format_cost(cost, value) for cost in COSTS if cost == quantity)
    return f"at {'most' if bound == 'max' else 'least'} {text}"


def render_verdict(report: SearchReport) -> str:
    """The verdict as one or two sentences of HTML."""
    best, tried = report.own_best, _evaluations(len(report.own))
    found = f"{escape(report.strategy)} found <strong>{_result(report, best)}</strong> in {tried}"
    if not within_limits(best, report.limits):
        found += f", which is <strong>outside the limit</strong> ({escape(_limits_text(report))})"
    if report.chosen_by:
        found += f", chosen by <strong>{escape(report.chosen_by)}</strong>"
    verdict = f"{found}; {_comparison(report, best)}"
    if report.found is None:
        return verdict
    kept = report.candidates[report.best]
    rival = best_of_baseline(report)
    if report.chosen_by:
        rival = None if report.rival is None else report.baseline[report.rival]
    if rival is not None and rival.arch == kept.arch:
        return f"{verdict.removesuffix('.')}; that network is kept."
    return f"{verdict} Kept is a network that was scored elsewhere, with <strong>{_result(report, kept)}</strong>."


def _result(report: SearchReport, network: Candidate) -> str:
    value = format_metric(report.metric, metric_of(network, report.metric))
    result = f"{value} {report.metric}" if report.metric == "accuracy" else f"a loss of {value}"
    return f"{result} at {format_cost(report.cost, cost_of(network, report.cost))}"


def render_tiles(report: SearchReport) -> str:
    """The key numbers as a row of tiles."""
    best = report.candidates[report.best]
    tiles = [
        (
            f"{report.metric} of the chosen" if report.chosen_by else f"best {report.metric}",
            format_metric(report.metric, metric_of(best, report.metric)),
            _rank_text(report),
        ),
        ("multiply-accumulates", format_count(best.macs), ""),
        ("parameters", format_count(best.params), ""),
    ]
    if best.latency_ms is not None:
        tiles.append(("latency", format_cost("latency_ms", best.latency_ms), ""))
    rival = best_of_baseline(report)
    if rival is not None and not report.chosen_by:
        own = report.own_best
        tiles.append(("against random search", _difference(report, own, rival), _baseline_text(report, rival)))
    if report.original is not None:
        tiles.append(
            ("against the original", _difference(report, best, report.original), _shares(report, report.original))
        )
    body = "".join(
        f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b><small>{escape(note)}</small></div>'
        for name, value, note in tiles
    )
    return f'<div class="tiles">{body}</div>'


def _comparison(report: SearchReport, best: Candidate) -> str:
    if report.exhaustive:
        return "these are all networks within the limits, so that no other search finds a better one."
    if not report.baseline:
        return "there is no random search to compare with."
    if report.chosen_by:
        return _comparison_alike(report)
    limits = f" ({escape(_limits_text(report))})" if within_limits(best, report.limits) else ""
    same = "the same number of" if len(report.baseline) == len(report.own) else f"{len(report.baseline):,}"
    budget = f"random search with {same} evaluations"
    under = f" within the same limit{limits}" if _limits_text(report) else ""
    rival = best_of_baseline(report)
    if rival is None:
        return f"{budget} found nothing{under}."
    reached = f"{format_metric(report.metric, metric_of(rival, report.metric))} at "
    reached += format_cost(report.cost, cost_of(rival, report.cost))
    lead = score_of(best, report.metric) - score_of(rival, report.metric)
    if lead == 0:
        return f"{budget} reached exactly the same, {reached}{under}."
    word = "reached" if lead > 0 else "did better:"
    return f"{budget} {word} {reached}{under}."


def _comparison_alike(report: SearchReport) -> str:
    """Where the metric is not what was chosen by, its difference is no success."""
    if report.rival is None:
        return "so the scores say nothing about how it compares to random search."
    rival = report.baseline[report.rival]
    reached = f"{format_metric(report.metric, metric_of(rival, report.metric))} at "
    reached += format_cost(report.cost, cost_of(rival, report.cost))
    return f"of {_evaluations(len(report.baseline))} of random search, the one chosen alike has {reached}."


def _difference(report: SearchReport, best: Candidate, rival: Candidate) -> str:
    difference = metric_of(best, report.metric) - metric_of(rival, report.metric)
    if not math.isfinite(difference):
        return "not finite"
    if report.metric == "accuracy":
        return f"{100 * difference:+.2f}{SPACE}points"
    return f"{difference:+.4f}"


def _shares(report: SearchReport, original: Candidate) -> str:
    best = report.candidates[report.best]
    shares = [
        f"{format_percent(share_of_original(original, best, cost))} {share_heading(cost).removeprefix('%').strip()}"
        for cost in shared_costs(original, [best])
    ]
    return f"{format_metric(report.metric, metric_of(original, report.metric))}; {', '.join(shares)}"


def _rank_text(report: SearchReport) -> str:
    if report.found is not None:
        own = _metric(report, report.own_best)
        return f"scored elsewhere; the best of the strategy\u2019s {_evaluations(len(report.own))} is {own}"
    return f"evaluation {report.best + 1:,} of {len(report.candidates):,}"


def _baseline_text(report: SearchReport, rival: Candidate) -> str:
    text = f"{_metric(report, rival)} in {_evaluations(len(report.baseline))}"
    return text if report.found is None else f"the strategy\u2019s own {_metric(report, report.own_best)}, not {text}"


def _metric(report: SearchReport, network: Candidate) -> str:
    return format_metric(report.metric, metric_of(network, report.metric))


def _evaluations(count: int) -> str:
    return f"{count:,} evaluation{'' if count == 1 else 's'}"


def _limits_text(report: SearchReport) -> str:
    checked = {name: value for name, value in report.limits.items() if split_limit(name) and math.isfinite(value)}
    return ", ".join(format_limit(name, value) for name, value in checked.items())
