"""Which of the networks that a search scored is kept, where its own score is not what decides."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from oneshot.arch import Arch
from oneshot.pipeline.evidence import Evidence, doubt_note
from oneshot.pipeline.results import Outcome
from oneshot.pipeline.retrained_truth import Ranked

log = logging.getLogger(__name__)


def choose_together(outcome: Outcome, scores: Ranked) -> Outcome:
    """The outcome with the network that all witnesses together put first among those that were scored for the strategy, which
    learned weights may have changed since.
    """
    rival = scores.ranked(outcome.baseline)[0] if outcome.baseline else None
    best, notes = scores.ranked(outcome.archs)[0], outcome.notes
    if best != outcome.best:
        note = "The weights learned from retrained networks put another network first than before; it is the one that is kept."
        log.info("%s Best of %d now: %s", note, len(outcome.archs), best.to_json())
        notes = [*notes, note]
    return replace(outcome, best=best, chosen_by="all witnesses together", rival=rival, notes=notes)


def choose_by_size(outcome: Outcome, evidence: Evidence) -> Outcome:
    """The outcome with the network that has the most MACs of those that were scored for the strategy: their scores are not to
    be trusted.
    """
    note = doubt_note(evidence)
    log.warning("%s", note)
    return replace(
        outcome,
        best=evidence.first(outcome.archs),
        chosen_by="counting MACs, because the scores are not to be trusted",
        notes=[note, *outcome.notes],
    )


def random_networks(outcomes: Sequence[Outcome]) -> list[Arch]:
    """The networks of searches that no score chose: random ones, or all."""
    drawn = [outcome.archs if outcome.exhaustive else outcome.baseline for outcome in outcomes]
    return list(dict.fromkeys(arch for part in drawn for arch in part))
