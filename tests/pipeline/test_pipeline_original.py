"""The network that a space was made of, beside those that a search found in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from pipeline_runs import DATA, make_search, make_settings, read_rows
from toy_spaces import ToySpace

from oneshot.costs import CostTable
from oneshot.pipeline.folders import load_supernet
from oneshot.pipeline.search_settings import CombinationSettings
from oneshot.pipeline.search_supernet import search_supernet
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.search import RandomSearch


class MadeOfOne(ToySpace):
    """The toy space, as if it had been made of its largest network."""

    def __init__(self, resolutions: Sequence[int] = (6, 8)) -> None:
        super().__init__(resolutions=resolutions)
        self.original = self.largest


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for name, options in (("whole", {}), ("part", {"width": [4]})):
        space = MadeOfOne()
        training = SupernetTraining(make_settings(epochs=1), calibration_images=32, options=options)
        train_supernet(space, DATA, training, folder / name)
    return folder


def test_the_original_is_scored_and_timed_with_the_best(
    trained_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = load_supernet(trained_folder / "whole")
    with caplog.at_level(logging.INFO):
        result = search_supernet(trained, DATA, make_search(RandomSearch(num_samples=3, batch_size=3)), tmp_path)
    original = trained.supernet.space.original
    assert original is not None
    assert result.original == original
    shown = result.shown_original
    assert shown is not None
    assert shown.latency_ms is not None
    assert result.candidates[result.outcomes[0].best].latency_ms is not None
    (row,) = [row for row in read_rows(tmp_path) if json.loads(row["arch"]) == original.to_dict()]
    assert float(row["accuracy"]) == pytest.approx(shown.accuracy)
    assert "the original with the same weights: accuracy" in caplog.text
    page = (tmp_path / "report.html").read_text()
    assert '<span class="tag">original</span>' in page
    assert "against the original" in page


def test_the_original_has_a_combined_value_too(trained_folder: Path, tmp_path: Path) -> None:
    combination = CombinationSettings(num_reference=50, num_checked=50, untrained=())
    trained = load_supernet(trained_folder / "whole")
    limit = 0.9 * CostTable(trained.supernet.space).original().macs
    more = {"score": "combined", "combination": combination}
    settings = make_search(RandomSearch(num_samples=2), cost={"max_macs": limit}, more=more)
    result = search_supernet(trained, DATA, settings, tmp_path)
    rows = {row["arch"]: row for row in read_rows(tmp_path)}
    original = trained.supernet.space.original
    assert original is not None
    assert rows[original.to_json()]["source"] == "original"  # neither a candidate nor one of the reference
    assert all(float(rows[arch.to_json()]["combined"]) == one.combined for arch, one in result.candidates.items())


def test_where_the_original_was_not_trained_there_is_no_comparison(trained_folder: Path, tmp_path: Path) -> None:
    trained = load_supernet(trained_folder / "part")
    result = search_supernet(trained, DATA, make_search(RandomSearch(num_samples=3, batch_size=3)), tmp_path)
    assert result.original is None
    assert "against the original" not in (tmp_path / "report.html").read_text()
