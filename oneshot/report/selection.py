"""Which candidates count: limits, the best so far, and the Pareto front. Non-finite metrics never win."""

import math
from collections.abc import Mapping, Sequence

from oneshot.pareto import pareto_front as non_dominated
from oneshot.report.model import Candidate, Cost, Metric, TradeoffPoint

COSTS: tuple[Cost, ...] = ("macs", "params", "latency_ms")
METRICS: tuple[Metric, ...] = ("accuracy", "loss")


def cost_of(candidate: Candidate | TradeoffPoint, cost: Cost) -> float | None:
    """One cost of a network; None for a latency that was not measured."""
    if cost == "macs":
        return candidate.macs
    return candidate.params if cost == "params" else candidate.latency_ms


def metric_of(candidate: Candidate, metric: Metric) -> float:
    """One metric of a candidate, as it was given."""
    return candidate.accuracy if metric == "accuracy" else candidate.loss


def score_of(candidate: Candidate, metric: Metric) -> float:
    """The metric turned so that more is better, with minus infinity for what is not finite."""
    value = metric_of(candidate, metric)
    if not math.isfinite(value):
        return -math.inf
    return value if metric == "accuracy" else -value


def check_accuracy(value: float) -> None:
    """Raises ValueError for an accuracy that is not a fraction from 0 to 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"accuracy is a fraction from 0 to 1, not {value}")


def split_limit(name: str) -> tuple[str, str] | None:
    """("max" or "min", quantity) for a limit this report can check, None for any other."""
    bound, _, quantity = name.partition("_")
    return (bound, quantity) if bound in ("max", "min") and quantity in (*COSTS, *METRICS) else None


def within_limits(candidate: Candidate, limits: Mapping[str, float]) -> bool:
    """Whether a candidate meets every limit that can be checked; an unmeasured latency does not."""
    quantities: dict[str, float | None] = {cost: cost_of(candidate, cost) for cost in COSTS}
    quantities |= {metric: metric_of(candidate, metric) for metric in METRICS}
    for name, limit in limits.items():
        known = split_limit(name)
        if known is None:
            continue
        value = quantities[known[1]]
        if value is None or not (value <= limit if known[0] == "max" else value >= limit):
            return False
    return True


def best_so_far(candidates: Sequence[Candidate], metric: Metric, limits: Mapping[str, float]) -> list[int | None]:
    """After each evaluation, the index of the best candidate within the limits that was scored on all images (None before the
    first).
    """
    history: list[int | None] = []
    best: int | None = None
    best_score = -math.inf
    for index, candidate in enumerate(candidates):
        score = score_of(candidate, metric)
        if candidate.is_whole and score > best_score and within_limits(candidate, limits):
            best, best_score = index, score
        history.append(best)
    return history


def pareto_front(candidates: Sequence[Candidate], cost: Cost, metric: Metric, limits: Mapping[str, float]) -> list[int]:
    """The indices no candidate within the limits beats in cost and metric, from the cheapest up.

    Of several equal candidates the first is kept. Where nothing is within the limits, all candidates compete.
    """
    allowed = [index for index, candidate in enumerate(candidates) if within_limits(candidate, limits)]
    competing = allowed or list(range(len(candidates)))
    scores = [score_of(candidates[index], metric) for index in competing]
    prices = [cost_of(candidates[index], cost) for index in competing]
    # What is not finite, or was not measured, is a NaN, which never is on a front.
    front = non_dominated(
        [score if math.isfinite(score) else math.nan for score in scores],
        [math.nan if price is None or not math.isfinite(price) else price for price in prices],
    )
    return [competing[place] for place in front]
