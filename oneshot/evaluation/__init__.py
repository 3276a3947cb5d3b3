"""Evaluation of subnets with inherited weights."""

from oneshot.evaluation.batches import Batches, random_indices
from oneshot.evaluation.correlation import FirstRanked, RankCorrelation, random_order, rank_correlation
from oneshot.evaluation.evaluator import Evaluator
from oneshot.evaluation.halving import RungScores, SuccessiveHalving
from oneshot.evaluation.paired import image_scores, lead_of_first
from oneshot.evaluation.recalibration import recalibrate
from oneshot.evaluation.repair import RepairSettings
from oneshot.evaluation.score import Score, evaluate
from oneshot.evaluation.settings import ScoreSettings
from oneshot.statistics import Estimate

__all__ = [
    "Batches",
    "Estimate",
    "Evaluator",
    "FirstRanked",
    "RankCorrelation",
    "RepairSettings",
    "RungScores",
    "Score",
    "ScoreSettings",
    "SuccessiveHalving",
    "evaluate",
    "image_scores",
    "lead_of_first",
    "random_indices",
    "random_order",
    "rank_correlation",
    "recalibrate",
]
