"""A search with successive halving: what it ranks, what it says, and how it goes on after a stop."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline_runs import open_once, opened, read_rows, search, train

from oneshot.evaluation import Evaluator, Score
from oneshot.pipeline.folders import load_subnet
from oneshot.search import NSGA2, ControllerSearch, Evolution, Exhaustive, RandomSearch, Strategy
from oneshot.supernet import Supernet

STRATEGIES: dict[str, Strategy] = {
    "exhaustive": Exhaustive(),
    "evolution": Evolution(population=4, num_parents=2, num_mutations=2, num_crossovers=2, generations=3),
    "random": RandomSearch(num_samples=8, batch_size=3),
}


@pytest.fixture(scope="module")
def supernet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supernet")
    train(folder)
    return folder


def test_the_best_is_one_that_was_scored_on_all_images(supernet_folder: Path, tmp_path: Path) -> None:
    search(supernet_folder, tmp_path, Exhaustive(), halving_images=16)
    rows = read_rows(tmp_path)
    numbers = [int(row["num_images"]) for row in rows]
    assert sorted(numbers) == [16] * 12 + [32] * 6 + [64] * 6
    whole = [row for row in rows if row["num_images"] == "64"]
    best = max(whole, key=lambda row: (float(row["accuracy"]), -float(row["loss"])))
    assert load_subnet(tmp_path).arch.to_dict() == json.loads(best["arch"])
    front = json.loads((tmp_path / "pareto.json").read_text())
    assert {rows[entry["index"]]["num_images"] for entry in front} == {"64"}
    note = "Successive halving: of 24 candidates 6 were scored on all held-out images, the others on 16 or more"
    assert note in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("stop", [3, 9, 14])
def test_a_stopped_search_goes_on(
    supernet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stop: int
) -> None:
    def run(folder: Path) -> None:
        search(supernet_folder, folder, STRATEGIES[name], halving_images=16)

    run(tmp_path / "whole")
    plain, count = Evaluator.scores, 0

    def stopping(self: Evaluator, archs: Any) -> Any:
        nonlocal count
        for pair in plain(self, archs):
            yield pair
            count += 1
            if count == stop:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "scores", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped")
    run(tmp_path / "stopped")
    for file in ("candidates.csv", "pareto.json", "subnet.json"):
        assert (tmp_path / "stopped" / file).read_text() == (tmp_path / "whole" / file).read_text()


def test_a_folder_is_of_one_way_of_halving(supernet_folder: Path, tmp_path: Path) -> None:
    open_once(supernet_folder, tmp_path, halving_images=16)
    with pytest.raises(ValueError, match=r"halving was 16 images, by accuracy and is None"):
        open_once(supernet_folder, tmp_path)
    with pytest.raises(ValueError, match=r"halving was 16 images, by accuracy and is 16 images, by loss"):
        open_once(supernet_folder, tmp_path, halving_images=16, metric="loss")


@pytest.mark.parametrize("strategy", [NSGA2(population=4, generations=2), ControllerSearch(num_samples=8)])
def test_searches_that_reckon_with_scores_refuse_it(supernet_folder: Path, tmp_path: Path, strategy: Strategy) -> None:
    with pytest.raises(ValueError, match=r"needs every candidate's score on the same images"):
        search(supernet_folder, tmp_path, strategy, halving_images=16)


def test_a_single_candidate_is_scored_on_all_images(supernet_folder: Path, tmp_path: Path) -> None:
    with opened(supernet_folder, tmp_path, halving_images=16) as (scores, _):
        arch = scores.space.largest
        assert scores.score_all([arch], "alone")[0][0] == 64
        parts = [scores.evaluator.part(start, stop)(arch) for start, stop in ((0, 16), (16, 32), (32, 64))]
        assert scores.known[arch] == parts[0] + parts[1] + parts[2]


def test_a_loss_that_is_no_number_ranks_last(supernet_folder: Path, tmp_path: Path) -> None:
    """A NaN compares as neither higher nor lower, and would leave the others unsorted."""
    with opened(supernet_folder, tmp_path, halving_images=16, metric="loss") as (scores, _):
        archs = list(scores.space.enumerate())[:7]
        losses = [2.0, float("nan"), 1.0, 4.0, float("nan"), 0.5, 3.0]
        scores.store.scores.update({arch: Score(0.5, loss, 64) for arch, loss in zip(archs, losses, strict=True)})
        assert scores.ranked(archs) == [archs[place] for place in (5, 2, 0, 6, 3, 1, 4)]


def test_a_network_that_overflows_is_said_to_and_ranks_last(
    supernet_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By its accuracy too: of logits that are no numbers the first class is what is left, and that may be right."""
    for metric in ("accuracy", "loss"):
        with opened(supernet_folder, tmp_path / metric, metric=metric) as (scores, _):
            supernet = scores.evaluator.supernet
            assert isinstance(supernet, Supernet)
            with torch.no_grad():
                supernet.bank.op.conv1.conv.weight.fill_(float("inf"))
            archs = list(scores.space.enumerate())[:8]
            scores.score_all(archs, "search")
            broken = [arch for arch in archs if arch["op"] == "conv1"]
            assert 0 < len(broken) < len(archs)
            assert set(scores.ranked(archs)[-len(broken) :]) == set(broken)
            assert scores.key(scores.known[broken[0]]) == (-math.inf, -math.inf)
        for arch in broken:
            assert (
                f"the loss of {arch.to_json()} is nan: its activations overflow, and it is ranked last" in caplog.text
            )
        caplog.clear()
        with opened(supernet_folder, tmp_path / metric, metric=metric) as (again, _):
            assert set(again.ranked(archs)[-len(broken) :]) == set(broken)
