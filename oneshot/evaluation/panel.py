"""Several witnesses on one scale, fixed by what they say of reference networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oneshot.evaluation.combination import Matrix, ReferenceScale, Values, Witness, combine, correlation_matrix
from oneshot.evaluation.weighing import weigh


class Panel:
    """Witnesses, their scales, and what each of them counts; the combined value of a network depends on nothing else.

    Args:
        witnesses: in the order of the columns.
        reference: ``(num_networks, num_witnesses)``: their values for random networks, higher is better, NaN for none.
        anchor: the witness that decides alone where no two families agree.

    Attributes:
        scores: ``(num_networks, num_witnesses)``: the normal scores of the reference.
        weighting: what they count by what they show of themselves.
        weights: what they count in fact: these, or weights that were learned.

    Raises:
        ValueError: fewer than two networks, or another number of witnesses than columns.
    """

    def __init__(self, witnesses: Sequence[Witness], reference: ArrayLike, anchor: int = 0) -> None:
        values = np.asarray(reference, dtype=np.float64)
        self.witnesses = tuple(witnesses)
        self._scales = [ReferenceScale(column) if np.isfinite(column).sum() > 1 else None for column in values.T]
        self.scores = self.scores_of(values)
        self.weighting = weigh(self.scores, self.witnesses, anchor)
        self.weights = self.weighting.weights

    @property
    def names(self) -> tuple[str, ...]:
        """Of the witnesses."""
        return tuple(witness.name for witness in self.witnesses)

    def scores_of(self, values: ArrayLike) -> Matrix:
        """Normal scores of ``values``, ``(num_networks, num_witnesses)`` both; NaN where a witness says nothing."""
        given = np.asarray(values, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != len(self._scales):
            raise ValueError(f"there are {len(self._scales)} witnesses for values of shape {given.shape}")
        columns = [
            np.full(len(given), np.nan) if scale is None else scale(column)
            for scale, column in zip(self._scales, given.T, strict=True)
        ]
        return np.stack(columns, axis=1)

    def combined(self, values: ArrayLike, without: Sequence[str] = ()) -> Values:
        """``(num_networks,)``: the combined values, higher is better, of networks of which the witnesses say ``values``.

        Args:
            without: names of witnesses that are not asked here.
        """
        asked = np.array([name not in without for name in self.names])
        return combine(self.features_of(values), self.weights * asked)

    def features_of(self, values: ArrayLike) -> Matrix:
        """``(num_networks, num_witnesses)`` of which the weights are: counts, and what other witnesses say beyond size."""
        return self.weighting.features(self.scores_of(values))

    def correlations(self) -> Matrix:
        """``(num_witnesses, num_witnesses)``: how the witnesses' scores of the reference networks correlate."""
        return correlation_matrix(self.scores)

    def tells(self) -> NDArray[np.bool_]:
        """``(num_witnesses,)``: whether a witness tells any two reference networks apart."""
        found: NDArray[np.bool_] = np.diag(self.correlations()) > 0
        return found
