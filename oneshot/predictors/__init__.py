"""Accuracy predictors: scores learned from few evaluated architectures, for searches that ask for many."""

from oneshot.predictors.checking import PredictorReport, explained_variance, fit_and_check
from oneshot.predictors.mlp import MLPPredictor
from oneshot.predictors.predictor import Predictor
from oneshot.predictors.published import PublishedPredictor
from oneshot.predictors.regressions import GBDTPredictor, RidgePredictor

__all__ = [
    "GBDTPredictor",
    "MLPPredictor",
    "Predictor",
    "PredictorReport",
    "PublishedPredictor",
    "RidgePredictor",
    "explained_variance",
    "fit_and_check",
]
