"""The data the search page carries for its script: candidates in columns, choices by number, fronts per axis pair."""

import math
from collections.abc import Sequence

from oneshot.report.model import Candidate, Cost, Ranking, SearchReport, Value
from oneshot.report.naming import group_choices
from oneshot.report.selection import COSTS, METRICS, best_so_far, cost_of, pareto_front, split_limit, within_limits


def search_payload(report: SearchReport) -> dict[str, object]:
    """The JSON data of a search report.

    ``choices`` lists every choice with the values that occur; a candidate's row holds the number of its value in
    that list, or -1 where it does not make the choice. ``fronts[cost][metric]`` are indices from the cheapest up;
    the report's own front is used for its own axes, unless it is by what all witnesses together give. ``progress`` holds,
    after each evaluation, the index of the best candidate within the limits.
    """
    original = [] if report.original is None else [report.original]
    everyone = [*report.candidates, *report.baseline, *(report.ranking.others if report.ranking else ()), *original]
    keys = list(dict.fromkeys(key for candidate in everyone for key in candidate.arch))
    values = _values_of(everyone, keys)
    costs = [cost for cost in available_costs(report) if cost == report.cost or _is_known_of_most(report, cost)]
    return {
        "strategy": report.strategy,
        "metric": report.metric,
        "cost": report.cost,
        "costs": costs,
        "limits": _limits_of(report),
        "choices": [{"name": key, "values": [value for _, value in values[key]]} for key in keys],
        "groups": [
            {"name": group.name, "kinds": [{"name": kind, "columns": list(at)} for kind, at in group.kinds.items()]}
            for group in group_choices(keys)
        ],
        "candidates": _columns(report.candidates, report, values),
        "baseline": _columns(report.baseline, report, values),
        "fronts": {cost: {metric: _front(report, cost, metric) for metric in METRICS} for cost in costs},
        "original": _columns(original, report, values),
        "best": report.best,
        "ranking": None if report.ranking is None else _ranking(report, report.ranking, values),
        "progress": {
            "candidates": best_so_far(report.own, report.metric, report.limits),
            "baseline": best_so_far(report.baseline, report.metric, report.limits),
        },
    }


def available_costs(report: SearchReport) -> list[Cost]:
    """The costs that at least one of the strategy's candidates has."""
    return [cost for cost in COSTS if any(cost_of(candidate, cost) is not None for candidate in report.candidates)]


def _is_known_of_most(report: SearchReport, cost: Cost) -> bool:
    known = sum(cost_of(candidate, cost) is not None for candidate in report.candidates)
    return 2 * known >= len(report.candidates)


def has_combined(report: SearchReport) -> bool:
    """Whether candidates have a combined value, which ranks."""
    return any(candidate.combined is not None for candidate in report.candidates)


def sorted_front(report: SearchReport) -> list[int]:
    """The report's own front from the cheapest up, without what has no place on its axes."""
    prices = {index: cost_of(report.candidates[index], report.cost) for index in report.front}
    return sorted((index for index, price in prices.items() if price is not None), key=lambda index: prices[index] or 0)


def _front(report: SearchReport, cost: Cost, metric: str) -> list[int]:
    if cost == report.cost and metric == report.metric and not has_combined(report):  # which is on no axis
        return sorted_front(report)
    return pareto_front(report.candidates, cost, "accuracy" if metric == "accuracy" else "loss", report.limits)


def _limits_of(report: SearchReport) -> list[dict[str, object]]:
    known = [(split_limit(name), value) for name, value in report.limits.items()]
    return [
        {"bound": split[0], "quantity": split[1], "value": value}
        for split, value in known
        if split is not None and math.isfinite(value)
    ]


# True, 1 and 1.0 are one dictionary key to Python and three choices to a reader: the type is part of the key.
def _values_of(candidates: Sequence[Candidate], keys: Sequence[str]) -> dict[str, dict[tuple[type, Value], int]]:
    numbers: dict[str, dict[tuple[type, Value], int]] = {key: {} for key in keys}
    for candidate in candidates:
        for key, value in candidate.arch.items():
            numbers[key].setdefault((type(value), value), len(numbers[key]))
    return numbers


def _columns(
    candidates: Sequence[Candidate], report: SearchReport, values: dict[str, dict[tuple[type, Value], int]]
) -> dict[str, object]:
    return {
        "arch": [
            [
                numbers[(type(candidate.arch[key]), candidate.arch[key])] if key in candidate.arch else -1
                for key, numbers in values.items()
            ]
            for candidate in candidates
        ],
        "accuracy": [_finite(candidate.accuracy) for candidate in candidates],
        "loss": [_finite(candidate.loss) for candidate in candidates],
        "macs": [candidate.macs for candidate in candidates],
        "params": [candidate.params for candidate in candidates],
        "latency_ms": [_finite(candidate.latency_ms) for candidate in candidates],
        "over": [i for i, candidate in enumerate(candidates) if not within_limits(candidate, report.limits)],
    }


def _ranking(
    report: SearchReport, ranking: Ranking, values: dict[str, dict[tuple[type, Value], int]]
) -> dict[str, object]:
    count = len(report.candidates)
    truth = {"candidates": ranking.truth[:count], "baseline": ranking.truth[count:], "others": ranking.others_truth}
    return {"others": _columns(ranking.others, report, values), "truth": {name: list(t) for name, t in truth.items()}}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
