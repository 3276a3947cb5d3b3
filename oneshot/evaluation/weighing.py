"""What each of several witnesses counts, by what they show of themselves: size, and what they agree on beyond size.

Almost everything that ranks networks follows their size, so agreement alone says little. What witnesses of different kinds say of
networks of one size is another matter: nothing but the networks' quality makes them agree. docs/ranking.md is the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oneshot.evaluation.combination import Matrix, Values, Witness, correlation_matrix

_NO_AGREEMENT = 0.2  # a correlation with the others, or with size, up to which a witness has nothing to do with it
_NO_AGREEMENT_BEYOND = 0.1  # the same of what is left beside size, where correlations are smaller
_NORMAL = 1.96  # standard deviations on each side that hold 95 %
_MOST = 0.95  # a loading; one of 1 would silence everyone else
_SIZE_SHARE = 0.5  # of the variance of quality that follows size, where nothing tells
_STEPS = 200
_SETTLED = 1e-9


@dataclass(frozen=True)
class Weighting:
    """What each witness counts. Counts of size are taken as they are, of the others what they say beyond size, or all they say.

    Attributes:
        size: ``(num_witnesses,)``: the normal score of size as a sum over counts; 0 for other witnesses, and where size is not
            taken out.
        slopes: ``(num_witnesses,)``: how a witness follows size; 0 for counts.
        spreads: ``(num_witnesses,)``: the deviation of what it says beyond that; 1 for counts.
        weights: ``(num_witnesses,)``, not negative, of sum 1.
        agreement: ``(num_witnesses,)``: of counts, the correlation with the mean of the other families; of others the same, or
            of what they say beyond size with what the other families do; of who has no say, with those that were left when it
            lost it; NaN where there is none.
        agreed: whether any families agree.
    """

    size: Values
    slopes: Values
    spreads: Values
    weights: Values
    agreement: Values
    agreed: bool

    @property
    def is_beyond_size(self) -> bool:
        """Whether size is taken out of what witnesses say."""
        return bool(self.size.any())

    def features(self, scores: Matrix) -> Matrix:
        """``(num_networks, num_witnesses)``: what the weights are of: counts, and what the others say beyond size."""
        size = np.nan_to_num(scores) @ self.size
        found: Matrix = (scores - size[:, None] * self.slopes) / self.spreads
        return found


def weigh(
    scores: Matrix, witnesses: Sequence[Witness], anchor: int = 0, size: str = "size", trained: str = "supernet"
) -> Weighting:
    """Size, plus what a trained supernet and other families of witnesses agree on beyond it, the more the better they agree.

    What is beyond size follows a model with one factor (Spearman, 1904): a family's loading is its correlation with that on which
    all of them agree, by least squares on the correlations between families. A family counts by Bartlett's weight (1937),
    ``loading / (1 - loading^2)``, times its reliability; a witness within it by reliability and agreement. Agreement counts by
    the lower end of its 95 % interval (Fisher, 1915), 0.1 or less as none. Size is the sum of counts that the trained supernet
    follows. How much of quality follows it nobody knows beforehand, so half of its variance does; what the supernet says
    replaces that as far as the others confirm it.

    All that takes a supernet that others confirm. Scores of untrained networks alone may agree because their formulas are alike;
    then every family that agrees with the others has one vote, and what is weighed are the scores themselves.

    Args:
        scores: normal scores of random networks, NaN for none; a column that is constant has no weight.
        anchor: the witness that decides alone where nobody agrees.
        size: the family of counts; without any, weights are of the scores themselves.
        trained: the family of what training tells.

    Raises:
        ValueError: another number of witnesses than columns, or fewer than two networks.
    """
    _check(scores, witnesses)
    count, number = scores.shape
    values = np.nan_to_num(scores)
    reliability = np.array([witness.reliability for witness in witnesses], dtype=np.float64)
    reliability *= values.std(axis=0) > _SETTLED
    families = np.array([witness.family for witness in witnesses])
    of_size = families == size
    others = [family for family in dict.fromkeys(families.tolist()) if family != size]
    inside = np.stack([families == family for family in others]) if others else np.zeros((0, number), bool)

    consensus = _standard(_standard(values @ (inside * reliability).T).sum(axis=1))
    learned = values @ (reliability * (families == trained))
    by_size, agreement = _size(values, of_size, learned, anchor), np.full(number, np.nan)
    agreement[of_size] = _correlations(values[:, of_size], consensus)
    height = values @ by_size
    slopes = np.where(of_size, 0.0, values.T @ height / count)
    rest = values - height[:, None] * slopes
    spreads = rest.std(axis=0)
    reliability = np.where(spreads > _SETTLED, reliability, 0.0)
    spreads = np.where(of_size | (spreads <= _SETTLED), 1.0, spreads)
    rest = rest / spreads

    inner, loadings, agreement[~of_size] = _beyond(rest, inside, reliability, ~of_size)
    if trained not in others or not loadings[others.index(trained)] > 0:
        return _votes_alike(values, families, reliability, anchor)
    place, share = others.index(trained), 0.0
    if by_size.any():
        share = _own_share(_correlations(values @ (inside[place] * inner), height)[0], loadings[place])
    votes = _bartlett(loadings) * _mean_reliability(inside, inner, reliability)
    composites = rest @ (inside * inner).T
    scale = np.where(composites.std(axis=0) > _SETTLED, composites.std(axis=0), 1.0)
    beyond = (votes / scale) @ (inside * inner)
    spread = float((rest @ beyond).std())
    known = min(1.0, float(votes @ loadings) / spread)
    weights = share**0.5 * by_size + (1 - share) ** 0.5 * known / spread * beyond
    return Weighting(by_size, slopes, spreads, weights / weights.sum(), agreement, True)


def _votes_alike(values: Matrix, families: NDArray[np.str_], reliability: Values, anchor: int) -> Weighting:
    """One vote for each family that agrees with the others, shared by its witnesses; the anchor decides alone where none do."""
    count, number = values.shape
    inside = np.stack([families == family for family in dict.fromkeys(families.tolist())])

    def with_others(kept: NDArray[np.bool_]) -> Values:
        composites = _standard(values @ (inside * (kept * reliability)).T)
        found = np.full(number, np.nan)
        for family, members in enumerate(inside):
            found[members] = _correlations(values[:, members], np.delete(composites, family, axis=1).sum(axis=1))
        return found

    kept, agreement = _agreeing(with_others, reliability > 0, inside, count, _NO_AGREEMENT)
    agreed = bool(kept.any())
    weights = np.eye(number)[anchor]
    if agreed:
        members = inside @ kept.astype(np.float64)
        weights = kept * reliability / (members @ inside).clip(min=1.0)
    plain = np.zeros(number)
    return Weighting(plain, plain, np.ones(number), weights / weights.sum(), agreement, agreed)


def _agreeing(
    with_others: Callable[[NDArray[np.bool_]], Values],
    asked: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    count: int,
    most: float,
) -> tuple[NDArray[np.bool_], Values]:
    """Which of the ``asked`` witnesses agree with other families. Whoever agrees least with the others that are left goes, one
    after the other and for good, until the agreement of each is proven; none is left where fewer than two families are.

    Args:
        with_others: ``(num_witnesses,)``: how far each agrees with those families of a choice of witnesses that are not its own.
        inside: ``(num_families, num_witnesses)``: who belongs to which family.
        count: networks on which they are compared.
        most: agreement up to which there is none.

    Returns:
        Who is left, and the agreement of each with the others that were left while it was among them.
    """
    kept, agreement = asked.copy(), np.full(len(asked), np.nan)
    while (inside & kept).any(axis=1).sum() > 1:
        agreement = np.where(kept, with_others(kept), agreement)
        least = int(np.argmin(np.where(kept, np.nan_to_num(agreement, nan=-1.0), np.inf)))
        if _lower(agreement, count)[least] > most:
            return kept, agreement
        kept[least] = False
    return np.zeros_like(kept), agreement


def _size(values: Matrix, of_size: NDArray[np.bool_], learned: Values, anchor: int) -> Values:
    """Weights of counts, none negative, whose sum has a deviation of 1 and follows ``learned`` best; the anchor alone where that
    follows none; 0 where nothing counts.
    """
    from scipy.optimize import nnls

    found = np.zeros(len(of_size))
    if of_size.any():
        found[of_size] = nnls(values[:, of_size], learned)[0]
        if not _lower(_correlations((values @ found)[:, None], learned), len(values))[0] > _NO_AGREEMENT:
            found[:] = 0.0
            found[anchor if of_size[anchor] else int(np.argmax(of_size))] = 1.0
        spread = (values @ found).std()
        found = found / spread if spread > _SETTLED else np.zeros(len(of_size))
    return found


def _beyond(
    rest: Matrix, inside: NDArray[np.bool_], reliability: Values, asked: NDArray[np.bool_]
) -> tuple[Values, Values, Values]:
    """Weights of witnesses within their families, loadings of the families, and the agreement of each of the ``asked``."""
    count, number = rest.shape

    def loadings_by(inner: Values) -> tuple[Values, Values]:
        """Of families, and how far each witness agrees with the other ones."""
        composites = _standard(rest @ (inside * inner).T)
        loadings, found = _loadings(correlation_matrix(composites)), np.full(number, np.nan)
        votes = _bartlett(loadings)
        for family, members in enumerate(inside):
            other = composites @ np.where(np.arange(len(inside)) == family, 0.0, votes)
            found[members] = _correlations(rest[:, members], other)
        return loadings, found

    kept, agreement = _agreeing(
        lambda kept: loadings_by(kept * reliability)[1], asked & (reliability > 0), inside, count, _NO_AGREEMENT_BEYOND
    )
    if not kept.any():
        return np.zeros(number), np.zeros(len(inside)), agreement[asked]
    loadings, found = loadings_by(np.where(kept, reliability * _lower(agreement, count), 0.0))
    agreement = np.where(kept, found, agreement)
    return np.where(kept, reliability * _lower(agreement, count).clip(min=0.0), 0.0), loadings, agreement[asked]


def _loadings(correlations: Matrix) -> Values:
    """Of families in a model with one factor, from 0 to 0.95: least squares on the correlations between them."""
    count = len(correlations)
    found = np.full(count, 0.6)
    between = correlations * (1 - np.eye(count))
    for _ in range(_STEPS):
        power = (found**2).sum() - found**2
        fitted = np.divide(between @ found, power, out=np.zeros(count), where=power > _SETTLED)
        before, found = found, (found + np.clip(fitted, 0.0, _MOST)) / 2
        if np.abs(found - before).max(initial=0.0) < _SETTLED:
            break
    return np.where(found > 1e-3, found, 0.0)


def _bartlett(loadings: Values) -> Values:
    return loadings / (1 - loadings**2)


def _own_share(follows: float, loading: float) -> float:
    """The share of the variance of quality that follows size, by a witness with that ``loading`` beyond it."""
    follows = max(0.0, follows)
    own = follows**2 / (follows**2 + (1 - follows**2) * loading**2)
    return (1 - loading**2) * _SIZE_SHARE + loading**2 * own


def _mean_reliability(inside: NDArray[np.bool_], inner: Values, reliability: Values) -> Values:
    total = inside @ inner
    return np.divide(inside @ (inner * reliability), total, out=np.zeros(len(inside)), where=total > 0)


def _standard(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """With a mean of 0 and a deviation of 1; 0 where constant."""
    centred = columns - columns.mean(axis=0)
    spread = centred.std(axis=0)
    found: NDArray[np.float64] = centred / np.where(spread > _SETTLED, spread, np.inf)
    return found


def _correlations(columns: NDArray[np.float64], other: Values) -> Values:
    """Of each column with ``other``; NaN where one of both is constant."""
    found = np.atleast_1d(_standard(columns).T @ _standard(other) / len(other))
    known = (np.atleast_1d(columns.std(axis=0)) > _SETTLED) & (other.std() > _SETTLED)
    return np.where(known, found, np.nan)


def _lower(correlations: Values, count: int) -> Values:
    """The lower ends of 95 % intervals of correlations over ``count`` networks, by Fisher's transformation."""
    if count < 4:
        return np.full_like(correlations, -1.0)
    clipped = np.clip(np.nan_to_num(correlations, nan=-1.0), -1 + 1e-12, 1 - 1e-12)
    found: Values = np.tanh(np.arctanh(clipped) - _NORMAL / np.sqrt(count - 3))
    return found


def _check(scores: Matrix, witnesses: Sequence[Witness]) -> None:
    if scores.ndim != 2 or scores.shape[1] != len(witnesses):
        raise ValueError(f"there are {len(witnesses)} witnesses for scores of shape {scores.shape}")
    if len(scores) < 2:
        raise ValueError(f"witnesses are compared on at least 2 networks, not {len(scores)}")
