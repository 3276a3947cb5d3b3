"""Scores of networks that nobody has trained ("zero-cost proxies"): random weights, one batch, well under a second.

``SCORES`` holds each by name with the settings of its publication, ``scores_called(["swap", "naswot"])`` picks some, and
``TrainingFreeScores(space, data, scores, seed=0)`` gives them to architectures: ``scorer(arch)`` is ``{name: value}``,
``scorer.scores(archs)`` yields ``(arch, {name: value})`` one after the other, and ``scorer.values(archs)`` is ``{name:
(num_archs,)}``. Higher is better throughout. ``log_rank_sum`` puts
several scores together, ``AZ_NAS`` among them. A score of one's own is a ``TrainingFreeScore``: a name, and a function of a
``Trial``.
"""

from oneshot.training_free.names import SCORES, scores_called
from oneshot.training_free.population import TrainingFreeScores, those_that_apply
from oneshot.training_free.ranking import AZ_NAS, log_rank_sum
from oneshot.training_free.score import NotApplicable, TrainingFreeScore
from oneshot.training_free.trial import Bench, Trial

__all__ = [
    "AZ_NAS",
    "SCORES",
    "Bench",
    "NotApplicable",
    "TrainingFreeScore",
    "TrainingFreeScores",
    "Trial",
    "log_rank_sum",
    "scores_called",
    "those_that_apply",
]
