"""A search with inherited weights: what it finds, what it writes, and how it goes on after a stop."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline_runs import DATA, make_search, opened, read_rows, search
from toy_searches import STRATEGIES, key_of
from toy_spaces import ToySpace, Unreadable
from training_runs import copy_state, differences

from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.evaluation import Batches, Evaluator, Score, ScoreSettings, evaluate
from oneshot.pipeline.candidate_costs import CandidateCosts
from oneshot.pipeline.folders import load_subnet, load_supernet
from oneshot.pipeline.search_supernet import search_supernet
from oneshot.search import Exhaustive, RandomSearch

SPACE = ToySpace(resolutions=(6, 8), dropout=0.1)


def arch_of(row: dict[str, str]) -> Arch:
    return SPACE.arch(json.loads(row["arch"]))


# What it finds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRATEGIES)
def test_candidates_are_scored_once_and_as_a_fresh_evaluation_does(
    supernet_folder: Path, finished: Callable[[str], Path], name: str
) -> None:
    rows = read_rows(finished(name))
    archs = [arch_of(row) for row in rows]
    assert len(set(archs)) == len(archs) >= 8
    assert [int(row["index"]) for row in rows] == list(range(len(rows)))
    assert {row["source"] for row in rows} == {"search", "random"}
    supernet = load_supernet(supernet_folder).supernet
    evaluator = Evaluator(supernet, DATA, ScoreSettings(64), device=torch.device("cpu"))
    costs = CostTable(SPACE)
    for row, arch in list(zip(rows, archs, strict=True))[::3]:
        score = Score(float(row["accuracy"]), float(row["loss"]), int(row["num_images"]))
        assert score == evaluator(arch)
        assert (int(row["macs"]), int(row["params"])) == (costs.cost(arch).macs, costs.cost(arch).params)
        assert row["latency_ms"] == ""


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_best_is_the_best_of_all_candidates(finished: Callable[[str], Path], name: str) -> None:
    """Of the strategy's, and of the random search's beside it."""
    rows = [row for row in read_rows(finished(name)) if row["source"] in ("search", "random")]
    subnet = load_subnet(finished(name))
    best = max(rows, key=key_of)
    assert (subnet.card["held_out_accuracy"], -subnet.card["held_out_loss"]) == key_of(best)
    assert subnet.arch in {arch_of(row) for row in rows if key_of(row) == key_of(best)}


def test_the_subnet_of_a_search(supernet_folder: Path, finished: Callable[[str], Path]) -> None:
    folder = finished("evolution")
    subnet = load_subnet(folder)
    module = subnet.module()
    resolution = SPACE.input_shape(subnet.arch)[-1]
    score = evaluate(module, Batches(DATA.held_out, DATA, 64, torch.device("cpu")).at(resolution))
    assert score.accuracy == subnet.card["held_out_accuracy"]
    assert score.num_images == subnet.card["held_out_images"] == 64
    assert subnet.card["supernet"] == str(supernet_folder)
    assert subnet.card["input_shape"] == [3, resolution, resolution]
    assert subnet.card["classes"] == ["a", "b", "c", "d"]
    assert subnet.card["mean"] == [0.5, 0.5, 0.5]
    assert subnet.config == {"data": {"name": "toys"}}
    inherited = copy_state(load_supernet(supernet_folder).supernet.extract(subnet.arch))
    weights = {name for name, _ in module.named_parameters()}
    assert not weights & {path.removeprefix(".") for path in differences(inherited, subnet.weights)}


def dominates(left: dict[str, Any], right: dict[str, Any]) -> bool:
    no_worse = left["accuracy"] >= right["accuracy"] and left["macs"] <= right["macs"]
    return no_worse and (left["accuracy"], left["macs"]) != (right["accuracy"], right["macs"])


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_pareto_front(finished: Callable[[str], Path], name: str) -> None:
    front = json.loads((finished(name) / "pareto.json").read_text())
    everyone = read_rows(finished(name))
    rows = [row for row in everyone if row["source"] == "search"]
    best = load_subnet(finished(name)).arch
    if best not in map(arch_of, rows):  # of random search
        rows.append(next(row for row in everyone if arch_of(row) == best))
    points = [{"accuracy": float(row["accuracy"]), "macs": int(row["macs"])} for row in rows]
    pairs = [(entry["accuracy"], entry["macs"]) for entry in front]
    assert len(set(pairs)) == len(pairs) >= 1
    for entry in front:
        assert not any(dominates(point, entry) for point in points)
        assert SPACE.arch(entry["arch"]).to_dict() == entry["arch"]
        assert arch_of(everyone[entry["index"]]).to_dict() == entry["arch"]
    for point in points:
        assert (point["accuracy"], point["macs"]) in pairs or any(dominates(entry, point) for entry in front)


def test_what_a_search_leaves(finished: Callable[[str], Path]) -> None:
    folder = finished("evolution")
    names = {
        "candidates.csv",
        "pareto.json",
        "subnet.pt",
        "subnet.json",
        "architecture.svg",
        "report.html",
        "search.json",
        "top.json",
        "run.sqlite",
        ".lock",
    }
    assert {path.name for path in folder.iterdir()} == names
    page = (folder / "report.html").read_text()
    assert "ToySpace on toys" in page
    assert "24 networks" in page
    assert "supernet, step 36 of 36" in page
    assert "With 64 held-out images the accuracy of the chosen network is known to about" in page
    assert "not fully trained" not in page
    assert "<svg" in (folder / "architecture.svg").read_text()


def test_an_exhaustive_search_lists_the_space_once(
    supernet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, whole = [], ToySpace.enumerate
    monkeypatch.setattr(ToySpace, "enumerate", lambda space: (listed.append(space), whole(space))[1])
    (outcome,) = search(supernet_folder, tmp_path, Exhaustive()).outcomes
    assert len(outcome.archs) == 24
    assert len(listed) == 1


def test_the_baseline_has_the_same_budget(finished: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Random search gets as many candidates as the strategy; those already scored are not scored again."""
    rows = read_rows(finished("evolution"))
    searched = sum(row["source"] == "search" for row in rows)
    assert searched == 12
    assert len(rows) <= 2 * searched


def test_the_loss_can_be_the_measure(supernet_folder: Path, tmp_path: Path) -> None:
    best = search(supernet_folder, tmp_path, metric="loss").outcomes[0].best
    rows = [row for row in read_rows(tmp_path) if row["source"] == "search"]
    assert min(rows, key=lambda row: float(row["loss"]))["arch"] == best.to_json()
    front = json.loads((tmp_path / "pareto.json").read_text())
    assert min(entry["loss"] for entry in front) == min(float(row["loss"]) for row in rows)


def test_the_test_set_is_never_read(supernet_folder: Path, tmp_path: Path) -> None:
    search(supernet_folder, tmp_path, data=replace(DATA, test=Unreadable(48, 8)))
    assert (tmp_path / "subnet.pt").is_file()


def test_scores_of_weights_that_were_trained_in_part_are_not_called_good(supernet_folder: Path, tmp_path: Path) -> None:
    trained = replace(load_supernet(supernet_folder), sampler_state={"partial_channels": 4})
    assert (
        trained.partial_channels
        == replace(trained, members=[trained, load_supernet(supernet_folder)]).partial_channels
        == 4
    )
    search_supernet(trained, DATA, make_search(), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "one of 4 parts of their channels" in page
    assert "good for ranking" not in page


def test_a_supernet_that_is_not_fully_trained_is_said_to_be(supernet_folder: Path, tmp_path: Path) -> None:
    search_supernet(replace(load_supernet(supernet_folder), step=10), DATA, make_search(), tmp_path)
    assert "not fully trained: step 10 of 36" in (tmp_path / "report.html").read_text()


# Limits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("limit", ["max_macs", "max_params"])
def test_limits_are_kept(supernet_folder: Path, tmp_path: Path, name: str, limit: str) -> None:
    measure = limit.removeprefix("max_")
    values = sorted(getattr(CostTable(SPACE).cost(arch), measure) for arch in SPACE.enumerate())
    bound = values[len(values) // 2]
    result = search(supernet_folder, tmp_path, STRATEGIES[name], cost={limit: bound, "minimize": measure})
    best = result.outcomes[0].best
    rows = read_rows(tmp_path)
    assert all(int(row[measure]) <= bound for row in rows)
    scored = [row for row in rows if row["source"] in ("search", "random")]
    assert key_of(max(scored, key=key_of)) == key_of(next(row for row in rows if row["arch"] == best.to_json()))
    assert load_subnet(tmp_path).card[measure] <= bound


def test_limits_that_cannot_be_met(supernet_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"max_macs=100 cannot be met: networks of this space have .* MACs"):
        search(supernet_folder, tmp_path, cost={"max_macs": 100})
    assert not list(tmp_path.iterdir())


def test_a_limit_on_latency(supernet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that counts MACs; what exceeds the MACs' limit is not timed at all."""
    costs = CostTable(SPACE)
    measured: list[Arch] = []

    def measure(of: CandidateCosts, arch: Arch) -> float:
        measured.append(arch)
        return costs.cost(arch).macs / 500

    monkeypatch.setattr(CandidateCosts, "_measure", measure)
    cost = {"max_latency_ms": 30.0, "max_macs": 20_000, "minimize": "latency_ms"}
    best = search(supernet_folder, tmp_path, cost=cost).outcomes[0].best
    assert len(set(measured)) == len(measured) > 0
    assert all(costs.cost(arch).macs <= 20_000 for arch in measured if arch != SPACE.smallest)
    rows = read_rows(tmp_path)
    assert all(float(row["latency_ms"]) == int(row["macs"]) / 500 <= 30 for row in rows)
    assert load_subnet(tmp_path).card["latency_ms"] == costs.cost(best).macs / 500
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM latencies").fetchone() == (len(measured),)


def test_real_latencies(supernet_folder: Path, tmp_path: Path) -> None:
    settings = {"max_latency_ms": 1e4, "minimize": "latency_ms", "latency_repeats": 2, "latency_warmup": 0}
    search(supernet_folder, tmp_path / "one", RandomSearch(num_samples=3), cost=settings)
    assert all(0 < float(row["latency_ms"]) < 1e4 for row in read_rows(tmp_path / "one"))
    assert "median of 2 runs, batch 1" in (tmp_path / "one" / "report.html").read_text()
    with pytest.raises(ValueError, match=r"max_latency_ms=1e-06 cannot be met: .* ms"):
        search(supernet_folder, tmp_path / "two", cost=settings | {"max_latency_ms": 1e-6})


def test_latencies_measured_otherwise_are_not_mixed(supernet_folder: Path, tmp_path: Path) -> None:
    for threads, value in ((1, 1.0), (None, 2.0)):
        cost = {"minimize": "latency_ms", "latency_threads": threads}
        with opened(supernet_folder, tmp_path, cost=cost) as (_, costs):
            costs._measure = lambda arch, value=value: value  # type: ignore[misc]
            assert costs.latency(SPACE.smallest) == value
