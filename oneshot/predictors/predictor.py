"""What every accuracy predictor offers, and what it asks of its pairs."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
"""``(num_archs, num_features)``, as ``Coding.one_hot`` gives them."""

Scores = NDArray[np.float64]
"""``(num_archs,)``: higher is better."""


class Predictor(Protocol):
    """Learns scores from pairs of features and scores, so that a search can ask for many of them at once."""

    def fit(self, features: Features, scores: Scores) -> None:
        """Learns from these pairs alone; what an earlier call learned is forgotten.

        Raises:
            ValueError: no pair, a score that is not finite, or another number of scores than of rows.
        """
        ...

    def predict(self, features: Features) -> Scores:
        """The scores expected of ``features``.

        Raises:
            ValueError: nothing was learned, or from another number of features.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What was learned, as tensors, numbers and strings: ``torch.load`` reads it with ``weights_only=True``."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of ``state_dict``, into a predictor made with the same settings."""
        ...


def check_pairs(features: Features, scores: Scores) -> None:
    """Raises ValueError unless there are pairs to learn from."""
    if features.ndim != 2 or scores.shape != (len(features),):
        raise ValueError(f"features of shape {features.shape} do not go with scores of shape {scores.shape}")
    if not len(scores):
        raise ValueError("there are no pairs to learn from")
    num_broken = int((~np.isfinite(scores)).sum())
    if num_broken:
        raise ValueError(f"{num_broken} of {len(scores)} scores are not finite; leave those pairs out")


def check_features(features: Features, num_features: int | None) -> None:
    """Raises ValueError unless a predictor that learned from ``num_features`` can read ``features``."""
    if num_features is None:
        raise ValueError("this predictor has not been fitted")
    if features.ndim != 2 or features.shape[1] != num_features:
        raise ValueError(f"this predictor takes {num_features} features, not an array of shape {features.shape}")
