"""What is said of the best candidates where the one that is kept is not the one that scored best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pipeline_runs import opened, search

from oneshot.pipeline import distinction
from oneshot.pipeline.distinction import distinction_note
from oneshot.search import Exhaustive, RandomSearch


def test_a_choice_by_something_else_is_compared_with_what_scores_better(
    supernet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of the others are right on every image and two on none; the chosen one is right on half, as the rest are."""
    (outcome,) = search(supernet_folder, tmp_path, Exhaustive()).outcomes
    half = np.arange(64) % 2.0
    with opened(supernet_folder, tmp_path) as (scores, _):
        ranked = scores.ranked(outcome.archs)
        seen = (
            dict.fromkeys(ranked, half) | dict.fromkeys(ranked[:2], half * 0 + 1) | dict.fromkeys(ranked[2:4], half * 0)
        )
        monkeypatch.setattr(distinction, "_of_images", lambda _, arch: seen[arch])
        note = distinction_note(scores, ranked[-1], outcome.archs, tmp_path)
    assert note == (
        "Of the 9 others with the best scores, 5 cannot be told from the chosen one at 95 % by their accuracy on 64 held-out "
        "images (a paired bootstrap over images), and 2 do better."
    )


@pytest.mark.parametrize(
    ("first", "second", "begin", "end"),
    [
        (0, 0, "The candidate ranked next cannot be told from the first at 95 % by their", "over images)."),
        (1, 0, "The candidate ranked next can be told from the first at 95 % by their", "over images)."),
    ],
)
def test_two_candidates_are_compared_in_the_singular(
    supernet_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    second: int,
    begin: str,
    end: str,
) -> None:
    (outcome,) = search(supernet_folder, tmp_path, RandomSearch(num_samples=2)).outcomes
    with opened(supernet_folder, tmp_path) as (scores, _):
        ranked = scores.ranked(outcome.archs[:2])
        correct = dict(zip(ranked, (np.full(64, float(first)), np.full(64, float(second))), strict=True))
        monkeypatch.setattr(distinction, "_of_images", lambda _, arch: correct[arch])
        note = distinction_note(scores, ranked[0], outcome.archs[:2], tmp_path / "other")
    assert note is not None
    assert note.startswith(begin)
    assert note.endswith(end)
