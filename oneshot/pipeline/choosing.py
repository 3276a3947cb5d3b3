"""Which of the networks that a search scored is kept, where its own score is not what decides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from oneshot.arch import Arch
from oneshot.pipeline.candidate_costs import CandidateCosts
from oneshot.pipeline.evidence import Evidence, doubt_note
from oneshot.pipeline.predicted_search import describe_limits
from oneshot.pipeline.results import Outcome
from oneshot.pipeline.retrained_truth import Ranked

log = logging.getLogger(__name__)


def first_ranked(scores: Ranked) -> Callable[[Sequence[Arch]], Arch]:
    """Gives of several networks the one with the best score."""
    return lambda archs: scores.ranked(archs)[0]


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


def share_finds(
    outcomes: Sequence[Outcome],
    first: Callable[[Sequence[Arch]], Arch],
    scores: Ranked,
    costs: CandidateCosts,
    earlier: Iterable[Arch] = (),
    is_whole: Callable[[Arch], bool] = lambda arch: True,
    with_random: bool = True,
) -> list[Outcome]:
    """The outcomes, each with the best network that was scored for any of them and meets its limits: by the search itself, by the
    random search beside it, under other limits, those that a predictor learned from, and by an earlier search in the folder.

    Args:
        first: the best of several networks, by what the networks of ``outcomes`` were chosen by; of equal ones the earliest.
        earlier: networks that the folder held already.
        is_whole: whether a network was scored on all images, as those are that can be the best.
        with_random: whether those of random search count, too: not beside a strategy whose networks were decided in training.
    """
    scored = dict.fromkeys(
        arch
        for outcome in outcomes
        for arch in (*outcome.archs, *outcome.learned_from, *(outcome.baseline if with_random else ()))
    )
    own = set(scored)
    scored |= dict.fromkeys(earlier)
    found = []
    for outcome in outcomes:
        rivals = [arch for arch in scored if is_whole(arch) and costs.meets(arch, outcome.cost)]
        best = first([outcome.best, *rivals])
        if best != outcome.best:
            outcome = _with_best(outcome, best, best in own, scores.describe(best))
        found.append(outcome)
    return found


def _with_best(outcome: Outcome, best: Arch, is_own: bool, told: str) -> Outcome:
    if best in outcome.archs:
        return replace(outcome, best=best)
    whence = "scored under another limit" if is_own else "that an earlier search in this folder scored"
    if best in outcome.learned_from:
        whence = "that the predictor learned from"
    elif best in outcome.baseline:
        whence = "of the random search beside it"
    under = f"Under {describe_limits(outcome.cost)}" if outcome.cost.limits else "Without limits"
    note = f"{under} a network {whence} is better than what the search found there, and is kept."
    if outcome.chosen_by:
        note = f"{under} a network {whence} is kept in place of what the search found there, by {outcome.chosen_by}."
    log.info("%s %s", note, told)
    archs = [*outcome.archs, best]
    return replace(outcome, best=best, archs=archs, found=outcome.best, notes=[*outcome.notes, note])


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
