"""How far a predictor can be trusted: judged on pairs that it did not learn from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from oneshot.predictors.predictor import Features, Predictor, Scores, check_pairs
from oneshot.statistics import bootstrap_pairs, kendall_tau

_MIN_PAIRS = 5
_MIN_HELD_OUT = 20  # fewer tell nothing: the standard error of tau between 20 pairs without relation is 0.16
_MIN_TAU = 0.3  # at the lower end of its interval
_NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class PredictorReport:
    """What a predictor got right on pairs held out from its training.

    Attributes:
        num_pairs: in all; the predictor is fitted to all of them in the end.
        num_held_out: on which it was judged before that.
        tau: Kendall's tau-b between predicted and true scores, 0 where either are all equal.
        tau_low, tau_high: its 95% bootstrap interval.
        rmse: root mean squared error, in units of the score.
        baseline_rmse: of predicting the mean of the training scores for all.
        trusted: whether it ranks well enough to search with.
        reason: one sentence that says why, or why not.
    """

    num_pairs: int
    num_held_out: int
    tau: float
    tau_low: float
    tau_high: float
    rmse: float
    baseline_rmse: float
    trusted: bool
    reason: str


def fit_and_check(
    predictor: Predictor, features: Features, scores: Scores, holdout: float = 0.2, seed: int = 0
) -> PredictorReport:
    """Fits ``predictor`` to a random part of the pairs, judges it on the rest, ``holdout`` of them, and fits it to all.

    Raises:
        ValueError: fewer than 5 pairs, or pairs that cannot be learned from.
    """
    check_pairs(features, scores)
    if len(scores) < _MIN_PAIRS:
        raise ValueError(f"a predictor is checked with at least {_MIN_PAIRS} pairs, not {len(scores)}")
    if not 0 < holdout < 1:
        raise ValueError(f"holdout is a part of the pairs, between 0 and 1, not {holdout}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(scores))
    num_held_out = min(max(2, round(holdout * len(scores))), len(scores) - 2)
    held_out, train = order[:num_held_out], order[num_held_out:]
    predictor.fit(features[train], scores[train])
    predicted, true = predictor.predict(features[held_out]), scores[held_out]
    found = bootstrap_pairs(kendall_tau, predicted, true, _NUM_RESAMPLES, rng)
    tau, low, high = found.value, found.low, found.high
    rmse, baseline = _rmse(predicted, true), _rmse(np.full(num_held_out, scores[train].mean()), true)
    doubt = _doubt(predicted, true, tau, low, rmse, baseline)
    reason = doubt or f"Kendall tau is {tau:.2f} ({low:.2f} to {high:.2f}) on {num_held_out} held-out pairs."
    predictor.fit(features, scores)
    return PredictorReport(len(scores), num_held_out, tau, low, high, rmse, baseline, not doubt, reason)


def explained_variance(predictor: Predictor, features: Features, scores: Scores, folds: int = 5) -> float:
    """The part of the variance of ``scores`` that ``predictor`` explains in cross-validation; below 0 where it errs more than the
    mean does. The predictor is left as the last fold made it.

    Args:
        folds: parts, each of which is predicted from the others; at the most as many as there are pairs.

    Raises:
        ValueError: fewer than 2 pairs, or pairs that cannot be learned from.
    """
    check_pairs(features, scores)
    if len(scores) < 2:
        raise ValueError(f"a part of the variance is explained of at least 2 scores, not {len(scores)}")
    part = np.random.default_rng(0).permutation(len(scores)) % min(folds, len(scores))
    predicted, means = np.empty(len(scores)), np.empty(len(scores))
    for fold in range(int(part.max()) + 1):
        own = part == fold
        predictor.fit(features[~own], scores[~own])
        predicted[own], means[own] = predictor.predict(features[own]), scores[~own].mean()
    total = float(np.sum((scores - means) ** 2))
    return 1 - float(np.sum((scores - predicted) ** 2)) / total if total > 0 else 0.0


def _doubt(predicted: Scores, true: Scores, tau: float, low: float, rmse: float, baseline: float) -> str:
    """The first reason not to trust it, or an empty string."""
    count = len(true)
    if count < _MIN_HELD_OUT:
        return f"Only {count} pairs were held out, and fewer than {_MIN_HELD_OUT} do not tell a good ranking from luck."
    if np.ptp(true) == 0:
        return "All held-out scores are equal, so that there is nothing to rank."
    if np.ptp(predicted) == 0:
        return "It predicts the same score for all held-out pairs."
    if low < _MIN_TAU:
        return (
            f"Kendall tau is {tau:.2f} on {count} held-out pairs and may be as low as {low:.2f}; at least {_MIN_TAU} is "
            "needed."
        )
    if rmse >= baseline:
        return f"Its error of {rmse:.3g} is no smaller than the {baseline:.3g} of predicting the mean."
    return ""


def _rmse(predicted: Scores, true: Scores) -> float:
    return math.sqrt(float(np.mean((predicted - true) ** 2)))
