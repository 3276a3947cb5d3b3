"""Evaluation of subnets with inherited weights."""

from oneshot.evaluation.evaluator import Batches, Evaluator, Score, evaluate
from oneshot.evaluation.recalibration import recalibrate

__all__ = ["Batches", "Evaluator", "Score", "evaluate", "recalibrate"]
