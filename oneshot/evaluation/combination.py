"""One ranking from several witnesses: values on one scale, their weighted mean, and weights that are learned.

All of it is functions of arrays. docs/ranking.md is the recipe and says why it is that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
Matrix = NDArray[np.float64]
"""``(num_networks, num_witnesses)`` of normal scores; a NaN is a witness that says nothing of a network."""

MIN_LEARNED = 8  # true values from which weights are learned
_PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)


@dataclass(frozen=True)
class Witness:
    """Something that ranks networks and may be wrong.

    Args:
        name: for reports.
        family: of witnesses that look at the same thing and so share their errors; they do not vouch for one another.
        reliability: how far it agrees with itself, from 0 to 1; a count is exact.

    Raises:
        ValueError: a reliability out of range.
    """

    name: str
    family: str
    reliability: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.reliability <= 1:
            raise ValueError(f"the reliability of {self.name} lies between 0 and 1, not at {self.reliability}")


class ReferenceScale:
    """Turns a witness's values into normal scores by their places among the values of reference networks: van der Waerden's
    scores, the normal quantile of ``rank / (number + 1)``, tied values sharing a mean rank.

    Between reference values it runs straight, beyond them it grows with the logarithm of the distance: a higher value always has
    a higher score, and no single outlier decides a weighted mean. Minus infinity is a value below the others. A score depends on
    the reference alone.

    Args:
        reference: ``(num_networks,)``, higher is better; NaN and infinity are left out.

    Raises:
        ValueError: fewer than two finite values.
    """

    def __init__(self, reference: ArrayLike) -> None:
        from scipy.stats import norm, rankdata

        values = np.asarray(reference, dtype=np.float64)
        finite = values[np.isfinite(values)]
        if len(finite) < 2:
            raise ValueError(f"a scale is made of at least 2 finite values, not of {len(finite)}")
        self._floor = float(finite.min() - (np.ptp(finite) / 10 or 1.0))
        values = self._raised(values)
        values = values[np.isfinite(values)]
        self._values, places = np.unique(values, return_index=True)
        scores: Values = norm.ppf(rankdata(values) / (len(values) + 1))
        self._scores = scores[places]
        self.is_constant = len(self._values) == 1

    def __call__(self, values: ArrayLike) -> Values:
        """``(num_networks,)`` normal scores; NaN for NaN and infinity, 0 for all where the reference is constant."""
        given = self._raised(np.asarray(values, dtype=np.float64))
        known = np.isfinite(given)
        if self.is_constant:
            return np.where(known, 0.0, np.nan)
        low, high = self._values[0], self._values[-1]
        unit = (high - low) / (self._scores[-1] - self._scores[0])  # of values, for one normal score
        filled = np.where(known, given, low)
        scores = np.interp(filled, self._values, self._scores)
        scores += np.log1p(np.maximum(filled - high, 0.0) / unit) - np.log1p(np.maximum(low - filled, 0.0) / unit)
        return np.where(known, scores, np.nan)

    def _raised(self, values: Values) -> Values:
        """Minus infinity as a number below the finite ones."""
        return np.where(np.isneginf(values), self._floor, values)


def combine(scores: Matrix, weights: ArrayLike) -> Values:
    """``(num_networks,)``: the weighted mean of what the witnesses say of each network; one that says nothing is taken for the
    middle, and a network of which no witness that counts says anything has minus infinity.
    """
    counts = np.asarray(weights, dtype=np.float64)
    told = (np.isfinite(scores) & (counts > 0)).any(axis=1)
    weighted = np.where(np.isfinite(scores), scores, 0.0) @ counts
    combined: Values = np.where(told, weighted / counts.sum(), -np.inf)
    return combined


def correlation_matrix(scores: Matrix) -> Matrix:
    """``(num_witnesses, num_witnesses)`` of normal scores, missing ones taken for the middle; all 0 for a constant column."""
    filled = np.nan_to_num(scores)
    centred = filled - filled.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0))
    spread[spread < 1e-12] = np.inf
    standard = centred / spread
    correlations: Matrix = standard.T @ standard
    return correlations


def spearman_brown(correlation: float, times: float = 2.0) -> float:
    """The reliability of a measure ``times`` as long as those that correlate so (Spearman, 1910; Brown, 1910); at least 0."""
    correlation = max(0.0, correlation)
    return times * correlation / (1 + (times - 1) * correlation)


# Weights from a few true values ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LearnedWeights:
    """Weights fitted to true values.

    Attributes:
        weights: ``(num_witnesses,)``, not negative, of sum 1.
        penalty: how strongly they were pulled to those from before; infinity is not moved at all.
        error: root mean squared leave-one-out error in predicting the truth's normal score, with these weights.
        unlearned_error: the same with the weights from before, of which only the scale is fitted.
        mean_error: the same of predicting the mean.
        num_networks: with a true value.
    """

    weights: Values
    penalty: float
    error: float
    unlearned_error: float
    mean_error: float
    num_networks: int


def learn_weights(scores: Matrix, truth: ArrayLike, before: ArrayLike) -> LearnedWeights:
    """Weights by least squares on the normal scores of ``truth``, none negative, with a ridge penalty on what they differ from
    ``before`` by (stacking with non-negative weights: Breiman, Machine Learning 1996).

    Of the penalties the greatest is taken whose leave-one-out error is within one standard error of the least: few true values
    do not move the weights by luck.

    Args:
        truth: ``(num_networks,)``, finite.
        before: ``(num_witnesses,)``: the weights to start from.

    Raises:
        ValueError: fewer than 8 true values, or other numbers of them than of rows.
    """
    values = np.asarray(truth, dtype=np.float64)
    prior = np.asarray(before, dtype=np.float64)
    if len(values) < MIN_LEARNED:
        raise ValueError(f"weights are learned from at least {MIN_LEARNED} true values, not {len(values)}")
    if values.shape != scores.shape[:1] or not np.isfinite(values).all():
        raise ValueError(f"there is one finite true value for each of the {len(scores)} networks")
    targets = ReferenceScale(values)(values)
    inputs = np.nan_to_num(scores)
    rows = np.arange(len(values))
    penalties = (np.inf, *_PENALTIES)
    errors = np.empty((len(penalties), len(values)))
    means = np.array([targets[rows != row].mean() - targets[row] for row in rows]) ** 2
    for index, penalty in enumerate(penalties):
        for row in rows:
            kept = rows != row
            fitted, bias = _fit(inputs[kept], targets[kept], prior, penalty)
            errors[index, row] = (inputs[row] @ fitted + bias - targets[row]) ** 2
    best = int(errors.mean(axis=1).argmin())
    reach = errors[best].mean() + (errors - errors[best]).std(axis=1, ddof=1) / np.sqrt(len(values))
    chosen = int(np.flatnonzero(errors.mean(axis=1) <= reach)[0])
    weights, _ = _fit(inputs, targets, prior, penalties[chosen])
    if not weights.sum() > 0:
        weights = prior
    return LearnedWeights(
        weights / weights.sum(),
        penalties[chosen],
        float(np.sqrt(errors[chosen].mean())),
        float(np.sqrt(errors[0].mean())),
        float(np.sqrt(means.mean())),
        len(values),
    )


def _fit(inputs: Matrix, targets: Values, prior: Values, penalty: float) -> tuple[Values, float]:
    """Weights of ``inputs`` and what is added."""
    from scipy.optimize import nnls

    middle, mean = inputs.mean(axis=0), float(targets.mean())
    centred, wanted = inputs - middle, targets - mean
    combined = centred @ prior
    power = float(combined @ combined)
    scaled = prior * max(0.0, float(combined @ wanted) / power if power > 0 else 0.0)
    weights = scaled
    if np.isfinite(penalty):
        pull = np.sqrt(penalty * len(targets))
        weights = nnls(np.vstack([centred, pull * np.eye(len(prior))]), np.concatenate([wanted, pull * scaled]))[0]
    return weights, mean - float(middle @ weights)
