"""The network that a space was made of, beside those that a search found in it: its score, and what both take on this machine."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from oneshot import report
from oneshot.arch import Arch
from oneshot.pipeline.candidate_cards import CandidateCards
from oneshot.pipeline.candidate_scores import describe

log = logging.getLogger(__name__)


def measure_original(cards: CandidateCards, found: Sequence[Arch]) -> Arch | None:
    """The original, scored with the supernet's weights as the candidates are; it and the networks found are timed, so that their
    latencies can be compared. None where the space was made of no network, or what was trained is without it.
    """
    scores, costs = cards.scores, cards.costs
    if scores.space.original is None:
        return None
    try:
        original = scores.space.arch(scores.space.original.to_dict())
    except ValueError:
        log.info("the original is not among the networks that were trained: no comparison with it")
        return None
    with scores.store.exported():
        scores.score_all([original], "original")
        for arch in dict.fromkeys([original, *found]):
            costs.latency(arch)
    whole = describe(scores.known[original], costs.table.cost(original))
    log.info("the original with the same weights: %s, %.3g ms", whole, costs.latency(original))
    for note in report.speed_notes(cards.candidate(original), [cards.candidate(arch) for arch in found]):
        log.info("%s", note)
    return original
