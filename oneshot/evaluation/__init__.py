"""Evaluation of subnets with inherited weights."""

from oneshot.evaluation.batches import Batches, random_indices
from oneshot.evaluation.combination import (
    MIN_LEARNED,
    LearnedWeights,
    ReferenceScale,
    Witness,
    combine,
    correlation_matrix,
    learn_weights,
    spearman_brown,
)
from oneshot.evaluation.correlation import FirstRanked, RankCorrelation, random_order, rank_correlation
from oneshot.evaluation.evaluator import Evaluator
from oneshot.evaluation.halving import RungScores, SuccessiveHalving
from oneshot.evaluation.paired import image_scores, lead_of_first
from oneshot.evaluation.panel import Panel
from oneshot.evaluation.recalibration import recalibrate
from oneshot.evaluation.repair import RepairSettings
from oneshot.evaluation.repaired import largest_at
from oneshot.evaluation.score import Score, evaluate
from oneshot.evaluation.settings import ScoreSettings
from oneshot.evaluation.weighing import Weighting, weigh
from oneshot.statistics import Estimate

__all__ = [
    "MIN_LEARNED",
    "Batches",
    "Estimate",
    "Evaluator",
    "FirstRanked",
    "LearnedWeights",
    "Panel",
    "RankCorrelation",
    "ReferenceScale",
    "RepairSettings",
    "RungScores",
    "Score",
    "ScoreSettings",
    "SuccessiveHalving",
    "Weighting",
    "Witness",
    "combine",
    "correlation_matrix",
    "evaluate",
    "image_scores",
    "largest_at",
    "lead_of_first",
    "learn_weights",
    "random_indices",
    "random_order",
    "rank_correlation",
    "recalibrate",
    "spearman_brown",
    "weigh",
]
