"""Which architectures no other one beats in every respect."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pareto_front(scores: ArrayLike, costs: ArrayLike) -> list[int]:
    """The indices that no other one dominates, by a higher score at no higher cost or a lower cost at no lower score.

    They are sorted by cost. Of equal ones the first is taken, and a NaN never.
    """
    values, prices = np.asarray(scores, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    if values.shape != prices.shape:
        raise ValueError(f"there is a cost for every score, not {prices.size} for {values.size}")
    order = np.lexsort((-values, prices))
    order = order[~np.isnan(values[order]) & ~np.isnan(prices[order])]
    reached = np.maximum.accumulate(values[order])
    better = np.ones(len(order), dtype=np.bool_)
    better[1:] = values[order[1:]] > reached[:-1]
    front: list[int] = order[better].tolist()
    return front


def non_dominated_sort(objectives: NDArray[np.float64], number: int | None = None) -> NDArray[np.int64]:
    """The front of each row of ``objectives`` ``(points, objectives)``, where larger is better.

    It is 0 for those that no row dominates, 1 for those that only front 0 dominates, and so on (NSGA-II's
    fast-non-dominated-sort; Deb et al., 2002, Section III-A). Once ``number`` rows have a front, all others are given the next.
    """
    no_worse = np.ones((len(objectives), len(objectives)), dtype=np.bool_)
    for values in objectives.T:
        no_worse &= values[:, None] >= values
    dominates: NDArray[np.bool_] = no_worse & ~no_worse.T
    num_dominating = dominates.sum(axis=0)
    left = np.arange(len(objectives))
    fronts = np.zeros(len(objectives), dtype=np.int64)
    front = 0
    while len(left) and len(objectives) - len(left) < (len(objectives) if number is None else number):
        undominated = num_dominating[left] == 0
        current, left = left[undominated], left[~undominated]
        front += 1
        fronts[left] = front
        num_dominating = num_dominating - dominates[current].sum(axis=0)
    return fronts


def crowding_distance(objectives: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each row of ``objectives`` ``(points, objectives)``, all of one front, lies from its neighbours.

    It is infinite at the ends (NSGA-II's crowding-distance-assignment; Deb et al., 2002, Section III-B).
    """
    distance = np.zeros(len(objectives))
    for values in objectives.T:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        span = ordered[-1] - ordered[0] if len(ordered) else 0.0
        if span > 0:
            distance[order[1:-1]] += (ordered[2:] - ordered[:-2]) / span
        distance[order[[0, -1]]] = math.inf
    return distance


def crowded_order(objectives: NDArray[np.float64], number: int | None = None) -> NDArray[np.int64]:
    """The rows of ``objectives`` from the best to the worst: by front, and within one by falling crowding distance.

    Of equal ones the first comes first (NSGA-II's crowded-comparison operator; Deb et al., 2002, Section III-B). Only the first
    ``number`` rows are sure to be in order.
    """
    fronts = non_dominated_sort(objectives, number)
    crowding = np.empty(len(objectives))
    for front in np.unique(fronts):
        crowding[fronts == front] = crowding_distance(objectives[fronts == front])
    return np.lexsort((-crowding, fronts))
