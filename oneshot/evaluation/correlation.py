"""How well a ranking agrees with true values: over all candidates, and at its top."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oneshot.statistics import Estimate, Values, bootstrap_pairs, kendall_tau

_SHARES = (0.01, 0.05, 0.1)
_COUNTS = (1, 10, 100)
_TOP = 0.1
_MIN_TOP = 10  # candidates without which a correlation within the top is left out
_NORMAL = 1.96  # standard deviations on each side that hold 95 %
Ranks = NDArray[np.int64]


@dataclass(frozen=True)
class FirstRanked:
    """The candidates that are ranked first.

    Attributes:
        best: the highest true value among them.
        best_rank: its rank by true value among all candidates; 1 is the best.
        mean: the mean of their true values.
    """

    best: float
    best_rank: float
    mean: float


@dataclass(frozen=True)
class RankCorrelation:
    """What a ranking gets right. Where scores are tied, figures about the first are expected values over all orders of the tied.

    Attributes:
        num_candidates: that were ranked.
        tau: Kendall's tau-b, 0 where all scores or all true values are equal.
        spearman: Spearman's rho, likewise.
        top_tau: Kendall's tau-b among the truly best tenth; None where that holds fewer than 10 candidates.
        precision: of the truly best 1, 5 and 10 %, the part that is among as many ranked first, by share.
        first: the 1, 10 and 100 candidates ranked first, by count, where there are as many.
        regret: the best true value less that of the candidate ranked first.
    """

    num_candidates: int
    tau: Estimate
    spearman: Estimate
    top_tau: float | None
    precision: Mapping[float, float]
    first: Mapping[int, FirstRanked]
    regret: float


def rank_correlation(
    scores: ArrayLike, truth: ArrayLike, *, num_resamples: int = 200, seed: int = 0
) -> RankCorrelation:
    """Judges the ranking of candidates by ``scores`` against their true values.

    Intervals are percentiles over ``num_resamples`` bootstrap resamples of the candidates (Efron, 1979), drawn by ``seed``: the
    same for every ranking of as many candidates. 6,561 candidates take about two seconds.

    Args:
        scores: ``(num_candidates,)``, higher is ranked first; a NaN is ranked last.
        truth: ``(num_candidates,)``, finite.

    Raises:
        ValueError: fewer than 2 candidates, unequal numbers of scores and true values, or true values that are not finite.
    """
    score_ranks, values = _check(scores, truth)
    if num_resamples < 2:
        raise ValueError(f"num_resamples is at least 2, not {num_resamples}")
    value_ranks = _dense_ranks(values)
    tau, spearman = (
        bootstrap_pairs(measure, score_ranks, value_ranks, num_resamples, np.random.default_rng(seed))
        for measure in (kendall_tau, _spearman)
    )
    return _judge(score_ranks, values, tau, spearman)


def random_order(truth: ArrayLike) -> RankCorrelation:
    """What ranking in random order gets right on average: the expected values, and for the correlations the interval that holds
    95 % of random orders, by the normal approximation (Kendall, 1938).

    Raises:
        ValueError: as ``rank_correlation``.
    """
    score_ranks, values = _check(np.zeros(np.shape(truth)), truth)
    count = len(values)
    tau = _NORMAL * math.sqrt(2 * (2 * count + 5) / (9 * count * (count - 1)))
    spearman = _NORMAL / math.sqrt(count - 1)
    around = [Estimate(0.0, -min(1.0, reach), min(1.0, reach)) for reach in (tau, spearman)]
    return _judge(score_ranks, values, *around)


def _check(scores: ArrayLike, truth: ArrayLike) -> tuple[Ranks, Values]:
    given, values = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if given.ndim != 1 or given.shape != values.shape:
        raise ValueError(
            f"scores and true values are two lists of equal length, not of shapes {given.shape} and {values.shape}"
        )
    if len(values) < 2:
        raise ValueError(f"a ranking has at least 2 candidates, not {len(values)}")
    if not np.isfinite(values).all():
        raise ValueError(f"true values are finite, not {values[~np.isfinite(values)][0]}")
    return _dense_ranks(np.where(np.isnan(given), -np.inf, given)), values


def _dense_ranks(values: Values) -> Ranks:
    """0 for the lowest; equal values have equal ranks."""
    ranks: Ranks = np.unique(values, return_inverse=True)[1]
    return ranks


# Over all candidates ---------------------------------------------------------------------------------------------------


def _spearman(first: ArrayLike, second: ArrayLike) -> float:
    from scipy.stats import spearmanr

    if not np.ptp(first) or not np.ptp(second):
        return 0.0
    return float(spearmanr(first, second).statistic)


# At the top ------------------------------------------------------------------------------------------------------------


def _judge(scores: Ranks, truth: Values, tau: Estimate, spearman: Estimate) -> RankCorrelation:
    count = len(truth)
    first = {number: _first_ranked(scores, truth, number) for number in _COUNTS if number <= count}
    return RankCorrelation(
        num_candidates=count,
        tau=tau,
        spearman=spearman,
        top_tau=_top_tau(scores, truth),
        precision={share: _precision(scores, truth, max(1, round(share * count))) for share in _SHARES},
        first=first,
        regret=float(truth.max()) - first[1].mean,
    )


def _top_tau(scores: Ranks, truth: Values) -> float | None:
    number = round(_TOP * len(truth))
    if number < _MIN_TOP:
        return None
    best = truth >= np.sort(truth)[-number]
    return kendall_tau(scores[best], _dense_ranks(truth[best]))


def _chances(values: Values | Ranks, number: int) -> Values:
    """The probability of each to be among the ``number`` highest where the tied are put in random order."""
    bound = np.sort(values)[-number]
    above, tied = values > bound, values == bound
    chances: Values = above + tied * ((number - above.sum()) / tied.sum())
    return chances


def _precision(scores: Ranks, truth: Values, number: int) -> float:
    return float(_chances(scores, number) @ _chances(truth, number)) / number


def _first_ranked(scores: Ranks, truth: Values, number: int) -> FirstRanked:
    chances = _chances(scores, number)
    fixed, tied = truth[chances == 1], truth[(chances > 0) & (chances < 1)]
    best = fixed.max(initial=-np.inf)
    values, weights = np.array([best]), np.ones(1)
    if len(tied):
        values, weights = np.maximum(np.sort(tied)[::-1], best), _chances_to_be_best(len(tied), number - len(fixed))
    ranks = 1 + len(truth) - np.searchsorted(np.sort(truth), values, side="right")
    return FirstRanked(float(values @ weights), float(ranks @ weights), float(truth @ chances) / number)


def _chances_to_be_best(count: int, drawn: int) -> Values:
    """The probability of each of ``count`` ordered values, the highest first, to be the highest of ``drawn`` of them."""
    places = np.arange(count - 1)
    left = count - 1 - places
    steps = np.maximum(0, left - (drawn - 1)) / left
    return drawn / count * np.concatenate([[1.0], np.cumprod(steps)])
