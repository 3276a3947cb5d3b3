"""Figures with the interval that a bootstrap gives them, and Kendall's tau where it may be undefined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
_AT_ONCE = 2**22  # numbers resampled at a time


@dataclass(frozen=True)
class Estimate:
    """A figure, and the interval that holds it in 95 % of the resamples."""

    value: float
    low: float
    high: float


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's tau-b, 0 where it is not defined because all values on one side are equal."""
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic) if np.ptp(first) and np.ptp(second) else 0.0


def bootstrap_pairs(
    statistic: Callable[[ArrayLike, ArrayLike], float],
    first: Values | NDArray[np.int64],
    second: Values | NDArray[np.int64],
    num_resamples: int,
    rng: np.random.Generator,
) -> Estimate:
    """``statistic`` of paired values, at least two, with percentiles over resampled pairs (Efron, 1979)."""
    from scipy.stats import bootstrap

    found = bootstrap(
        (first, second),
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=num_resamples,
        method="percentile",
        random_state=rng,
    ).confidence_interval
    return Estimate(statistic(first, second), float(found.low), float(found.high))


def bootstrap_means(values: Values, num_resamples: int, rng: np.random.Generator) -> list[Estimate]:
    """The mean of each row of ``values`` ``(num_rows, num_columns)``, with percentiles over resampled columns, the same for all
    rows (Efron, 1979).
    """
    from scipy.stats import bootstrap

    means = values.mean(axis=1).tolist()
    if values.shape[1] < 2:
        return [Estimate(mean, mean, mean) for mean in means]
    found = bootstrap(
        (values,),
        np.mean,
        axis=1,
        vectorized=True,
        n_resamples=num_resamples,
        batch=max(1, _AT_ONCE // values.size),
        method="percentile",
        random_state=rng,
    ).confidence_interval
    return [
        Estimate(mean, low, high)
        for mean, low, high in zip(means, found.low.tolist(), found.high.tolist(), strict=True)
    ]
