"""What is said of witnesses: who decided, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from toy_spaces import ToySpace

from oneshot.arch import Arch
from oneshot.costs import CostSettings, CostTable
from oneshot.evaluation import LearnedWeights, Panel, Witness
from oneshot.pipeline.choosing import choose_together
from oneshot.pipeline.evidence import Evidence, doubt_note, evidence_notes, witness_section
from oneshot.pipeline.results import Outcome
from oneshot.pipeline.witnesses import Measured, Witnesses
from oneshot.spaces.coding import Coding

SPACE = ToySpace()
WITNESSES = Witnesses(Coding(SPACE), CostTable(SPACE))
NAMES = {"MACs": "size", "az_progressivity": "features", "naswot": "activation patterns", "synflow": "signal"}
LEARNED = LearnedWeights(np.array([0.0, 0.0, 1.0, 0.0]), 0.1, 0.5, 0.8, 1.0, 8)


def evidence(loadings: list[float], learned: LearnedWeights | None = None) -> Evidence:
    """That of witnesses which see so much of one truth, and rank together."""
    rng = np.random.default_rng(0)
    load = np.array(loadings)
    values = rng.normal(size=(500, 1)) * load + rng.normal(size=(500, len(load))) * np.sqrt(1 - load**2)
    panel = Panel([Witness(name, family) for name, family in NAMES.items()], values)
    if learned is not None and np.isfinite(learned.penalty):
        panel.weights = learned.weights
    return Evidence(WITNESSES, panel, 500, Measured(None, None, {}), True, learned)


def test_learned_weights_decide_where_nobody_agrees() -> None:
    found = evidence([0.0] * 4, LEARNED)
    assert not found.panel.weighting.agreed
    text = " ".join(evidence_notes(found, True))
    assert "decided alone" not in text
    assert "truth=retrain" not in text
    assert "The network was chosen by naswot alone." in text
    silent = (
        "No weight was given to MACs, az_progressivity and synflow, because what they say does not help to tell what"
    )
    assert f"{silent} the 8 retrained networks reach." in text
    assert "weights are learned from 8 retrained networks" in witness_section(found).caption
    assert "no weight" not in witness_section(found).caption


@pytest.mark.parametrize("learned", [None, replace(LEARNED, penalty=np.inf)])
def test_counting_decides_where_nobody_agrees_and_nothing_was_learned(learned: LearnedWeights | None) -> None:
    found = evidence([0.0] * 4, learned)
    if learned is not None:
        assert any(
            "no better weights could be learned" in note and "0.80 with them, by 1.00" in note
            for note in evidence_notes(found, False)
        )
    assert any("counting MACs decided alone" in note for note in evidence_notes(found, False))
    assert any("truth=retrain:8" in note for note in evidence_notes(found, False))
    assert not any("truth=retrain:8" in note for note in evidence_notes(found, True))
    assert "counting MACs has all the weight" in witness_section(found).caption


def test_all_that_count_most_are_named() -> None:
    (text,) = evidence_notes(evidence([0.8, 0.0, 0.8, 0.8]), False)
    assert "by 3 witnesses together, of which MACs, naswot and synflow counted most (33 % each)." in text
    assert "No weight was given to az_progressivity, because what it says is not what the others say." in text


def test_a_count_that_a_confirmed_supernet_does_not_follow_is_silent_for_that_reason() -> None:
    rng = np.random.default_rng(0)
    size, other, quality = rng.normal(size=(3, 500))
    witnesses = [Witness("MACs", "size"), Witness("parameters", "size")]
    witnesses += [
        Witness("naswot", "activation patterns"),
        Witness("synflow", "signal"),
        Witness("inherited", "supernet"),
    ]
    rest = [size + 0.3 * other + quality + 0.3 * rng.normal(size=500) for _ in range(3)]
    panel = Panel(witnesses, np.stack([size, 0.5 * size - other, *rest], axis=1))
    assert panel.weighting.is_beyond_size
    assert panel.weights[1] == 0
    text = " ".join(evidence_notes(Evidence(WITNESSES, panel, 500, Measured(None, None, {}), True), False))
    why = "the supernet's losses do not follow it beside the other counts"
    assert f"No weight was given to parameters, because {why}." in text
    assert "not what the others say" not in text


def test_that_learned_weights_changed_the_choice_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class Turned:
        def ranked(self, archs: Iterable[Arch]) -> list[Arch]:
            return list(archs)[::-1]

    archs = list(SPACE.enumerate())[:4]
    first = Outcome(CostSettings(), archs[0], archs, archs[:2], "RandomSearch")
    with caplog.at_level("INFO"):
        same = choose_together(replace(first, best=archs[3]), Turned())
        assert not caplog.messages
        found = choose_together(first, Turned())
    assert same.notes == ()
    assert (found.best, found.rival) == (archs[3], archs[1])
    (note,) = found.notes
    assert (
        note
        == "The weights learned from retrained networks put another network first than before; it is the one that is kept."
    )
    assert caplog.messages == [f"{note} Best of 4 now: {archs[3].to_json()}"]


def supernet_evidence(measured: Measured, follows: float) -> Evidence:
    """Of a supernet whose losses correlate so with MACs."""
    rng = np.random.default_rng(1)
    size, noise, more = rng.normal(size=(3, 60))
    values = np.stack([size, follows * size + np.sqrt(1 - follows**2) * noise, more], axis=1)
    listed = [Witness("MACs", "size"), Witness("inherited weights", "supernet")]
    listed.append(Witness("what options add", "supernet", 0.05))
    return Evidence(WITNESSES, Panel(listed, values), 60, measured, False)


def test_what_was_not_measured_has_no_reliability() -> None:
    rows = witness_section(supernet_evidence(Measured(None, None, {}), 0.9)).rows
    assert [row.reliability for row in rows] == [None, None, 0.05]
    rows = witness_section(supernet_evidence(Measured(0.8, None, {}), 0.9)).rows
    assert [row.reliability for row in rows] == [None, 1.0, 0.05]


def test_weak_agreement_that_proves_nothing_is_not_said_to_be_none() -> None:
    found = supernet_evidence(Measured(None, None, {}), 0.3)
    assert found.doubted
    first, second, *_ = evidence_notes(found, False)
    assert "agrees weakly with counting MACs" in first
    assert second.startswith("That proves no agreement, so nothing here confirms the ranking")
    assert "60 random networks do not prove that their ranking agrees with the size" in doubt_note(found)
