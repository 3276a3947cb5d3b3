"""What a search without training compares candidates by: one score, AZ-NAS's four, or all witnesses there are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from oneshot.arch import Arch
from oneshot.pipeline.evidence import Evidence, learn_from
from oneshot.pipeline.untrained_candidates import UntrainedCandidates
from oneshot.pipeline.witnesses import Measured, Witnesses, draw_agreement
from oneshot.training_free import AZ_NAS, TrainingFreeScores

log = logging.getLogger(__name__)
Values = NDArray[np.float64]


class LogRanks:
    """AZ-NAS's aggregation of its four scores (see ``log_rank_sum``), with ranks among reference networks: the published search
    ranks all that it has seen anew at every step, so that a value depends on when it is asked for.

    Args:
        reference: ``(num_networks,)`` for each score.
    """

    name = "az_nas"

    def __init__(self, reference: Mapping[str, Values]) -> None:
        self._sorted = {name: np.sort(reference[name]) for name in AZ_NAS}

    def __call__(self, archs: Sequence[Arch], values: Mapping[str, Values]) -> Values:
        total = np.zeros(len(archs))
        for name, known in self._sorted.items():
            below = np.searchsorted(known, values[name], "left")
            reached = np.searchsorted(known, values[name], "right")
            total += np.log(((below + reached) / 2 + 1) / (len(known) + 1))
        return total


class Combined:
    """All witnesses, weighed by what they show of themselves on reference networks: docs/ranking.md."""

    name = "combined"

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    def __call__(self, archs: Sequence[Arch], values: Mapping[str, Values]) -> Values:
        return self.evidence.panel.combined(self.evidence.witnesses.values(archs))

    def learn(self, truth: Mapping[Arch, float]) -> bool:
        """Ranks by weights learned from ``truth`` from now on; False where it holds too few networks."""
        learned = learn_from(self.evidence.witnesses, self.evidence.panel, truth)
        if learned is not None:
            self.evidence.panel.weights = learned.weights
            self.evidence = replace(self.evidence, learned=learned)
        return learned is not None


def combine_untrained(
    candidates: UntrainedCandidates,
    witnesses: Witnesses,
    reference: Sequence[Arch],
    num_checked: int,
    redrawn: Callable[[], TrainingFreeScores],
) -> Combined:
    """The combination of witnesses of untrained networks.

    Args:
        reference: random networks on which witnesses are compared, all of them scored.
        num_checked: of these, the number on which each score is compared with
        redrawn: the same scores with other weights and images.
    """
    checked = reference[:num_checked]
    draws = draw_agreement(witnesses, redrawn(), checked) if witnesses.untrained else {}
    measured = Measured(None, None, draws)
    panel = witnesses.panel(reference, measured)
    for witness, weight in zip(panel.witnesses, panel.weights.tolist(), strict=True):
        log.info("%s: weight %.2f, reliability %.2f", witness.name, weight, witness.reliability)
    return Combined(Evidence(witnesses, panel, len(reference), measured, True))
