"""Witnesses of known worth."""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau

from oneshot.evaluation import ReferenceScale


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Of each column."""
    return np.stack([ReferenceScale(column)(column) for column in values.T], axis=1)


def drawn(loadings: list[float], count: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The truth of networks, and witnesses that correlate with it by ``loadings`` and err independently; as normal scores."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=count)
    load = np.array(loadings)
    values = truth[:, None] * load + rng.normal(size=(count, len(load))) * np.sqrt(1 - load**2)
    return truth, normal_scores(values)


def tau(first: np.ndarray, second: np.ndarray) -> float:
    return float(kendalltau(first, second).statistic)
