"""Predictors made of scikit-learn's regressions: linear, and boosted trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from oneshot.checking import check_count, check_positive
from oneshot.predictors.predictor import Features, Scores, check_features, check_pairs


class RidgePredictor:
    """A linear model with an L2 penalty, chosen among ``penalties`` by leave-one-out error: what each option adds.

    Args:
        penalties: tried in turn.

    Raises:
        ValueError: a penalty that is not positive.
    """

    def __init__(self, penalties: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0)) -> None:
        if not isinstance(penalties, Sequence) or not penalties or any(not penalty > 0 for penalty in penalties):
            given = list(penalties) if isinstance(penalties, Sequence) else penalties
            raise ValueError(f"penalties are a list of positive numbers, not {given}")
        self.penalties = tuple(penalties)
        self._weights: Scores | None = None
        self._bias = 0.0

    def fit(self, features: Features, scores: Scores) -> None:
        """As ``Predictor.fit``."""
        from sklearn.linear_model import Ridge, RidgeCV

        check_pairs(features, scores)
        # One pair cannot be left out.
        model = RidgeCV(alphas=self.penalties) if len(scores) > 1 else Ridge(self.penalties[-1])
        model.fit(features.astype(np.float64), scores)
        self._weights, self._bias = np.asarray(model.coef_, dtype=np.float64), float(model.intercept_)

    def predict(self, features: Features) -> Scores:
        """As ``Predictor.predict``."""
        check_features(features, None if self._weights is None else len(self._weights))
        assert self._weights is not None
        predicted: Scores = features @ self._weights + self._bias
        return predicted

    def state_dict(self) -> dict[str, Any]:
        """As ``Predictor.state_dict``."""
        return {"weights": None if self._weights is None else torch.from_numpy(self._weights), "bias": self._bias}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As ``Predictor.load_state_dict``."""
        self._weights = None if state["weights"] is None else state["weights"].numpy()
        self._bias = state["bias"]


class GBDTPredictor:
    """Gradient-boosted regression trees (Friedman, Annals of Statistics 2001), each fitted to a random part of the pairs.

    Its state is the pairs, from which the same trees are grown again.

    Args:
        num_trees: one after another.
        lr: what each tree counts.
        max_depth: of a tree: how many choices act together.
        subsample: part of the pairs that one tree sees.
        seed: of these parts.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self, num_trees: int = 300, lr: float = 0.05, max_depth: int = 4, subsample: float = 0.8, seed: int = 0
    ) -> None:
        check_count(1, num_trees=num_trees, max_depth=max_depth)
        check_positive(lr=lr)
        if not 0 < subsample <= 1:
            raise ValueError(f"subsample is a part of the pairs, above 0 and at most 1, not {subsample}")
        self.num_trees = num_trees
        self.lr = lr
        self.max_depth = max_depth
        self.subsample = subsample
        self.seed = seed
        self._pairs: tuple[Features, Scores] | None = None
        self._model: Any = None

    def fit(self, features: Features, scores: Scores) -> None:
        """As ``Predictor.fit``."""
        from sklearn.ensemble import GradientBoostingRegressor

        check_pairs(features, scores)
        # A part of few pairs may be none.
        subsample = self.subsample if self.subsample * len(scores) >= 1 else 1.0
        self._model = GradientBoostingRegressor(
            n_estimators=self.num_trees,
            learning_rate=self.lr,
            max_depth=self.max_depth,
            subsample=subsample,
            random_state=self.seed,
        ).fit(features, scores)
        self._pairs = features, scores

    def predict(self, features: Features) -> Scores:
        """As ``Predictor.predict``."""
        check_features(features, None if self._pairs is None else self._pairs[0].shape[1])
        predicted: Scores = self._model.predict(features)
        return predicted

    def state_dict(self) -> dict[str, Any]:
        """As ``Predictor.state_dict``."""
        if self._pairs is None:
            return {"features": None, "scores": None}
        return {"features": torch.from_numpy(self._pairs[0]), "scores": torch.from_numpy(self._pairs[1])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As ``Predictor.load_state_dict``."""
        if state["features"] is None:
            self._pairs = self._model = None
        else:
            self.fit(state["features"].numpy(), state["scores"].numpy())
