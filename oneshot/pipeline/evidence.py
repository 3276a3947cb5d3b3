"""What the witnesses of a search say together: whom to trust, in numbers and in words."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneshot import report
from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.evaluation import MIN_LEARNED, LearnedWeights, Panel, learn_weights
from oneshot.pipeline.candidate_scores import CandidateScores
from oneshot.pipeline.witnesses import ADDED, INHERITED, MACS, MIN_NETWORKS, SIZE, Measured, Witnesses, plain
from oneshot.runs import write_json
from oneshot.spaces.coding import Coding

log = logging.getLogger(__name__)
Values = NDArray[np.float64]
COMBINED, WITNESSES = "all witnesses", "witnesses.json"
_MIN_SHARE = 0.1  # of the variance of scores that options must explain where nobody else agrees with them
_WORDS = ((0.7, "well"), (0.5, "fairly"), (0.2, "weakly"), (-1.0, "not at all"))


@dataclass(frozen=True)
class Evidence:
    """The witnesses of a search.

    Attributes:
        witnesses: that can be asked about any network.
        panel: what they said of random networks, and what they count.
        num_networks: of these.
        measured: how far they agree with themselves.
        decides: whether the search ranks by all of them together.
        learned: how the weights were learned, where they were.
    """

    witnesses: Witnesses
    panel: Panel
    num_networks: int
    measured: Measured
    decides: bool
    learned: LearnedWeights | None = None

    @property
    def doubted(self) -> bool:
        """Whether inherited weights tell nothing that could be believed: no other family agrees with them, and what they say
        does not follow from the networks' options.
        """
        place = self.panel.names.index(ADDED)
        return not self.panel.weighting.agreed and self.panel.witnesses[place].reliability < _MIN_SHARE

    @property
    def moved(self) -> LearnedWeights | None:
        """What the weights were learned by, where that changed them."""
        return self.learned if self.learned is not None and math.isfinite(self.learned.penalty) else None

    def ways(self, archs: Sequence[Arch]) -> dict[str, Values]:
        """``(num_archs,)`` for each way to rank: all witnesses together, and each alone."""
        values = self.witnesses.values(archs)
        return {
            COMBINED: self.panel.combined(values),
            **{name: column for name, column in zip(self.panel.names, values.T, strict=True)},
        }

    def first(self, archs: Sequence[Arch]) -> Arch:
        """The one of ``archs`` that all witnesses together put first; of equal ones the earliest."""
        return archs[int(np.argmax(self.panel.combined(self.witnesses.values(archs))))]


def evidence_of(scores: CandidateScores, costs: CostTable, archs: Sequence[Arch]) -> Evidence | None:
    """What can be had for nothing where ``archs``, random networks, were scored by a supernet; None where they are too few."""
    known = [arch for arch in dict.fromkeys(archs) if math.isfinite(scores.inherited([arch])[0])]
    if len(known) < MIN_NETWORKS or scores.settings.halving_images is not None:
        return None
    witnesses = Witnesses(Coding(scores.space), costs, inherited=scores.inherited)
    witnesses.learn(known)
    measured = Measured(None, None, {})
    return Evidence(witnesses, witnesses.panel(known, measured), len(known), measured, False)


def learn_from(witnesses: Witnesses, panel: Panel, truth: Mapping[Arch, float]) -> LearnedWeights | None:
    """Weights learned from ``truth``, what networks reach on held-out images; None where these are too few to learn from."""
    if len(truth) < MIN_LEARNED:
        log.warning(
            "the weights of witnesses are learned from at least %d retrained networks, not %d", MIN_LEARNED, len(truth)
        )
        return None
    features = panel.features_of(witnesses.values(list(truth)))
    learned = learn_weights(features, list(truth.values()), panel.weighting.weights)
    log.info("%s", _about_learning(learned))
    return learned


def keep_witnesses(path: Path, evidence: Evidence, of: str = "") -> None:
    """Writes what each witness counts, and how far it agrees with itself and with the others.

    Args:
        of: on what it was measured, in digits.
    """
    panel = evidence.panel
    rows = zip(panel.witnesses, panel.weighting.agreement.tolist(), panel.weights.tolist(), strict=True)
    write_json(
        path,
        {
            "of": of,
            "measured": plain(evidence.measured),
            "num_networks": evidence.num_networks,
            "witnesses": [
                {**vars(one), "agreement": None if math.isnan(agreement) else agreement, "weight": weight}
                for one, agreement, weight in rows
            ],
            "correlations": panel.correlations().tolist(),
        },
    )


# In words --------------------------------------------------------------------------------------------------------------


def evidence_notes(evidence: Evidence, is_judged: bool) -> list[str]:
    """Whom to trust, in sentences.

    Args:
        is_judged: whether the ranking was compared with true accuracies.
    """
    panel, weighting = evidence.panel, evidence.panel.weighting
    agreement = dict(zip(panel.names, weighting.agreement.tolist(), strict=True))
    found = []
    if INHERITED in agreement:
        with_macs = float(panel.correlations()[panel.names.index(INHERITED), panel.names.index(MACS)])
        others = agreement[INHERITED]
        beyond = " and, beyond size," if weighting.is_beyond_size else " and"
        rest = (
            "" if math.isnan(others) else f"{beyond} {_word(others)} with the other witnesses together ({others:.2f})"
        )
        found.append(
            f"On {evidence.num_networks:,} random networks the ranking by inherited weights agrees {_word(with_macs)} with "
            f"counting MACs (correlation {with_macs:.2f}; 1 is the same order, 0 none){rest}."
        )
    if not weighting.agreed and evidence.moved is None:
        found.append(_nobody(evidence, is_judged))
    elif evidence.decides:
        found.append(_who_counts(evidence))
    if evidence.learned is not None:
        found.append(_about_learning(evidence.learned))
    if not evidence.decides:
        found.append("score=combined asks scores of untrained networks as well, and ranks by all witnesses together.")
    return found


def _who_counts(evidence: Evidence) -> str:
    panel = evidence.panel
    shares = [f"{100 * weight:.0f} %" for weight in panel.weights]
    highest = shares[int(np.argmax(panel.weights))]
    most = [name for name, share in zip(panel.names, shares, strict=True) if share == highest]
    silent = [name for name, weight in zip(panel.names, panel.weights, strict=True) if weight == 0]
    heard = len(panel.names) - len(silent)
    found = f"The network was chosen by {_listed(most)} alone."
    if heard > 1:
        each = " each" if len(most) > 1 else ""
        found = f"The network was chosen by {heard} witnesses together, of which {_listed(most)} counted most ({highest}{each})."
    for names, why in _reasons(evidence, silent):
        found += f" No weight was given to {_listed(names)}, because {why}."
    return found


def _reasons(evidence: Evidence, silent: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """Why witnesses have no weight: names, and what they have in common."""
    if not silent:
        return
    if evidence.moved is not None:
        what = _says(silent)
        yield (
            list(silent),
            f"{what} does not help to tell what the {evidence.moved.num_networks} retrained networks reach",
        )
        return
    families = {one.name: one.family for one in evidence.panel.witnesses}
    counts = [name for name in silent if evidence.panel.weighting.is_beyond_size and families[name] == SIZE]
    others = [name for name in silent if name not in counts]
    if counts:
        them = "it" if len(counts) == 1 else "them"
        beside = " beside the other counts" if len(counts) < list(families.values()).count(SIZE) else ""
        yield counts, f"the supernet's losses do not follow {them}{beside}"
    if others:
        yield others, f"{_says(others)} is not what the others say"


def _says(names: Sequence[str]) -> str:
    return f"what {'it says' if len(names) == 1 else 'they say'}"


def doubt_note(evidence: Evidence) -> str:
    """Why the network is not the one that the search ranked first."""
    share = evidence.panel.witnesses[evidence.panel.names.index(ADDED)].reliability
    return (
        f"Inherited weights are not to be trusted here: {evidence.num_networks:,} random networks do not prove that their "
        f"ranking agrees with the size of networks, and options explain {100 * share:.0f} % of it. So the network with the most "
        "MACs of those that were scored was chosen, not the one with the best score."
    )


def _nobody(evidence: Evidence, is_judged: bool) -> str:
    found = "That proves no agreement, so nothing here confirms the ranking"
    if evidence.decides:
        found = (
            "No two kinds of witnesses agree, so none of their rankings is to be trusted; counting MACs decided alone"
        )
    if is_judged:
        return f"{found}. What the ranking is worth, only the true accuracies tell."
    return f"{found}. Judge some networks by training them: truth=retrain:8."


def _about_learning(learned: LearnedWeights) -> str:
    if math.isinf(learned.penalty):
        nothing = ": on these networks they tell nothing" if learned.unlearned_error >= learned.mean_error else ""
        return (
            f"From {learned.num_networks} networks that were retrained no better weights could be learned, so they stayed as the "
            f"witnesses themselves gave them: the truth's normal score is missed by {learned.unlearned_error:.2f} with them, by "
            f"{learned.mean_error:.2f} without any witness{nothing}."
        )
    return (
        f"From {learned.num_networks} networks that were retrained the weights were learned: left out one by one, the truth's "
        f"normal score is missed by {learned.error:.2f}; by {learned.unlearned_error:.2f} with the weights from before, by "
        f"{learned.mean_error:.2f} without any witness."
    )


def _word(correlation: float) -> str:
    return next(word for least, word in _WORDS if correlation >= least)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def witness_section(evidence: Evidence) -> report.Witnesses:
    """The section of a report about them."""
    panel = evidence.panel
    weights = panel.weights if evidence.decides else np.full(len(panel.names), np.nan)
    unmeasured = [INHERITED] if evidence.measured.halves is None else []
    rows = [
        report.WitnessRow(
            one.name,
            one.family,
            None if one.family == SIZE or one.name in unmeasured else one.reliability,
            None if math.isnan(agreement) else agreement,
            None if math.isnan(weight) else weight,
        )
        for one, agreement, weight in zip(
            panel.witnesses, panel.weighting.agreement.tolist(), weights.tolist(), strict=True
        )
    ]
    said = (
        " of what a witness says beyond size, and for counts of size itself," if panel.weighting.is_beyond_size else ""
    )
    caption = (
        f"Correlations of normal scores over {evidence.num_networks:,} random networks: 1 is the same order, 0 no relation, "
        f"-1 the opposite order. Agreement is the correlation{said} with the other kinds of witnesses{_weighed(evidence)}. "
        "Reliability is how far a witness agrees with itself, where that was measured; counts are exact."
    )
    return report.Witnesses(caption, rows, panel.correlations().tolist())


def _weighed(evidence: Evidence) -> str:
    if not evidence.decides:
        return ""
    if evidence.moved is not None:
        return f"; weights are learned from {evidence.moved.num_networks} retrained networks"
    if not evidence.panel.weighting.agreed:
        return "; none is proven, so counting MACs has all the weight"
    return ", and what is not proven to agree with the others has no weight"
