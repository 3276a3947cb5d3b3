"""How far training-free scores agree with true accuracies and with one another."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.evaluation import random_order, rank_correlation
from oneshot.pipeline.judging import RANDOM, JudgedRanking, counted, first_note, keep_judged, known_to
from oneshot.pipeline.search_settings import RankingSettings
from oneshot.pipeline.truth import Truth
from oneshot.pipeline.untrained_candidates import UntrainedCandidates
from oneshot.pipeline.witnesses import MACS

log = logging.getLogger(__name__)
Values = NDArray[np.float64]


def judge_untrained(
    candidates: UntrainedCandidates, costs: CostTable, truth: Truth, settings: RankingSettings
) -> JudgedRanking:
    """Judges what ranks the candidates and every score beside it, counting and random order on all that were scored; writes
    ``ranking.json`` beside the scores, and logs a table.

    Raises:
        ValueError: the truth of fewer than two networks is known.
    """
    known = known_to(truth, candidates.known)
    keys = candidates.keys(known)
    order = {key: place for place, key in enumerate(sorted(set(keys)))}
    given: dict[str, Values] = {candidates.way: np.array([order[key] for key in keys], dtype=np.float64)}
    given |= {name: values for name, values in candidates.values(known).items() if name not in given}
    given |= counted(costs, known)
    true = [truth.values[arch] for arch in known]
    ways = {
        name: rank_correlation(_finite(way), true, num_resamples=settings.num_resamples, seed=candidates.seed)
        for name, way in given.items()
    } | {RANDOM: random_order(true)}
    judged = JudgedRanking(truth, len(candidates.known), known, ways, candidates.space.size)
    keep_judged(judged, candidates.way, settings, candidates.store.folder)
    return judged


def told_equal(candidates: UntrainedCandidates) -> list[str]:
    """A sentence for each score that is the same for all networks of the search."""
    archs = list(candidates.known)
    more = "; with more images (untrained.num_images) it may"
    return [
        f"{name} is {values[0]:.6g} for all {len(archs):,} networks of this search, so that it tells none apart"
        f"{more if name == 'swap' else ''}."
        for name, values in candidates.values(archs).items()
        if len(archs) > 1 and (values == values[0]).all()
    ]


def untrained_notes(
    candidates: UntrainedCandidates, costs: CostTable, judged: JudgedRanking | None, kept: Arch | None
) -> list[str]:
    """How far the ranking can be trusted, in words; ``kept`` is the network that is kept, None where there are several."""
    notes = []
    if judged is not None:
        own, macs = judged.ways[candidates.way], judged.ways[MACS]
        notes.append(
            f"Against {judged.truth.source}, {candidates.way} ranks {own.num_candidates:,} networks with a Kendall's tau of "
            f"{own.tau.value:.2f} ({own.tau.low:.2f} to {own.tau.high:.2f}); counting MACs {macs.tau.value:.2f}. "
            f"{first_note(judged, own, kept)}"
        )
    archs = list(candidates.known)
    ranking = {candidates.way: np.array([key[0] for key in candidates.keys(archs)])}
    notes += told_equal(candidates)
    agreement = _agreement(ranking | candidates.values(archs) | counted(costs, archs))
    if agreement:
        notes.append(
            f"How far {candidates.way} agrees with others on the {len(archs):,} networks of this search (Kendall's tau: 1 is the "
            f"same order, 0 no relation): {', '.join(f'{name} {tau:.2f}' for name, tau in agreement.items())}. Scores that agree "
            "may still be wrong together."
        )
    notes.append(
        "Nothing was trained: the scores look at networks with random weights. How much that tells differs from space to space, "
        "and on some counting MACs tells more. Retrain what you choose, and something else beside it."
    )
    return notes


def _agreement(values: Mapping[str, Values]) -> dict[str, float]:
    """Kendall's tau of the first with each of the others; without those that are the same values."""
    (own, *others) = values.items()
    found = {}
    for name, column in others:
        tau = float(kendalltau(_finite(own[1]), _finite(column)).statistic)
        if name != own[0] and not math.isnan(tau):
            found[name] = tau
    return found


def _finite(values: Values) -> Values:
    """The same order in finite numbers."""
    return np.unique(values, return_inverse=True)[1].astype(np.float64)
