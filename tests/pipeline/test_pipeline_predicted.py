"""Searches with a predictor, under several limits, and without a supernet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_runs import read_rows, search
from toy_spaces import ToySpace

from oneshot.arch import Arch
from oneshot.costs import CostSettings, CostTable, LatencyTable, MeasureSettings, RelativeCostSettings, measure_table
from oneshot.evaluation import Evaluator, Score
from oneshot.pipeline.candidate_costs import CandidateCosts
from oneshot.pipeline.folders import load_subnet
from oneshot.pipeline.references import read_references
from oneshot.pipeline.results import SearchResult
from oneshot.pipeline.search_settings import PredictionSettings, SearchSettings
from oneshot.pipeline.unscored_search import search_without_supernet
from oneshot.policies import PolicySettings
from oneshot.predictors import Predictor, RidgePredictor
from oneshot.published import from_published
from oneshot.report import Reference
from oneshot.samplers import UniformSampler
from oneshot.search import (
    NSGA2,
    ControllerSearch,
    Derivation,
    Evaluated,
    Evolution,
    Exhaustive,
    History,
    LocalSearch,
    Problem,
    RandomSearch,
    Strategy,
)
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3
from oneshot.spaces.coding import Coding
from oneshot.supernet import Supernet

SPACE = ToySpace(resolutions=(6, 8), dropout=0.1)
TABLE = CostTable(SPACE)
MACS = sorted(cost.macs for cost in TABLE.costs(SPACE.enumerate()))
LIMITS = [float(MACS[len(MACS) // 3]), float(MACS[-1])]
EVOLUTION = Evolution(population=6, num_parents=3, num_mutations=3, num_crossovers=3, generations=4)


class Widest(RidgePredictor):
    """Learns nothing and holds wide networks best, so that what it is asked about can be told."""

    def fit(self, features: Any, scores: Any) -> None:
        self.fitted = (features, scores)

    def predict(self, features: Any) -> Any:
        names = [(choice.name, option) for choice in SPACE.choices for option in choice.options]
        return np.asarray(features)[:, names.index(("width", 8))] + 1e-3 * np.asarray(features).sum(1)


def key_of(found: SearchResult, arch: Arch) -> tuple[float, float]:
    return found.scores[arch].accuracy, -found.scores[arch].loss


def limits(*values: float, **rest: Any) -> list[CostSettings]:
    return [CostSettings(max_macs=value, **rest) for value in values]


def run(supernet: Path, folder: Path, predictor: Predictor | None = None, **changes: Any) -> SearchResult:
    """A search with a predictor under two limits."""
    more = {
        "costs": limits(*LIMITS),
        "predictor": predictor or RidgePredictor(),
        "prediction": PredictionSettings(num_pairs=12, num_verified=3),
        "references": [Reference("some net", 1e4, 0.5)],
    }
    return search(supernet, folder, EVOLUTION, more=more, **changes)


def test_the_best_of_the_predicted_best_is_chosen_by_the_supernet(supernet_folder: Path, tmp_path: Path) -> None:
    found = run(supernet_folder, tmp_path)
    for outcome, limit in zip(found.outcomes, LIMITS, strict=True):
        assert outcome.cost.max_macs == limit
        verified = outcome.archs[:3]
        assert set(outcome.archs) == {*verified, outcome.best}
        assert all(TABLE.cost(arch).macs <= limit for arch in (*outcome.archs, *outcome.baseline))
        scored = [*found.outcomes[0].archs[:3], *found.outcomes[1].archs[:3], *outcome.learned_from]
        keys = [key_of(found, arch) for arch in scored if TABLE.cost(arch).macs <= limit]
        assert key_of(found, outcome.best) == max(keys)
        assert outcome.predicted.keys() == set(verified)
        assert len(outcome.baseline) <= 12 // 2 + 3
    sources = {row["source"] for row in read_rows(tmp_path)}
    assert sources <= {"pairs", "verified", "random"}
    assert "pairs" in sources
    report = json.loads((tmp_path / "predictor.json").read_text())
    assert not report["trusted"]  # too few pairs
    assert "pairs were held out" in report["reason"]


def test_the_predictor_learns_from_pairs_within_every_limit(supernet_folder: Path, tmp_path: Path) -> None:
    predictor = Widest()
    outcomes = run(supernet_folder, tmp_path, predictor).outcomes
    features, scores = predictor.fitted
    pairs = [row for row in read_rows(tmp_path) if row["source"] == "pairs"]
    assert len(features) == len(scores) == len(pairs) <= 12
    assert sorted(scores) == sorted(float(row["accuracy"]) for row in pairs)
    assert sum(int(row["macs"]) <= LIMITS[0] for row in pairs) >= 4
    assert {arch["width"] for arch in outcomes[1].archs[:3]} == {8}


def test_the_loss_can_be_predicted(supernet_folder: Path, tmp_path: Path) -> None:
    predictor = Widest()
    found = run(supernet_folder, tmp_path, predictor, metric="loss")
    outcomes = found.outcomes
    assert (predictor.fitted[1] < 0).all()
    assert outcomes[0].predicted == {}  # a negative loss is no accuracy to report
    assert outcomes[0].best == min(outcomes[0].archs, key=lambda arch: found.scores[arch].loss)
    page = (tmp_path / "report.html").read_text()
    assert ", chosen by their losses; random search at equal budget reached" in page
    lost = [min(found.scores[arch].loss for arch in outcome.baseline) for outcome in outcomes]
    assert all(f"{loss:.4f}" in page for loss in (*lost, *(found.scores[outcome.best].loss for outcome in outcomes)))
    assert "The 3 best predictions under each limit were scored" in page


def test_without_limits_no_limits_are_spoken_of(supernet_folder: Path, tmp_path: Path) -> None:
    more = {"predictor": RidgePredictor(), "prediction": PredictionSettings(num_pairs=12, num_verified=2)}
    (outcome,) = search(supernet_folder, tmp_path, EVOLUTION, more=more).outcomes
    assert "The 2 best predictions were scored by the supernet, and the best of those was chosen." in outcome.notes[0]


def test_a_search_goes_on_where_it_was_stopped(
    supernet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(supernet_folder, tmp_path / "whole").outcomes
    rows = read_rows(tmp_path / "whole")
    whole = Evaluator.scores

    def interrupted(evaluator: Evaluator, archs: Sequence[Arch]) -> Iterator[tuple[Arch, Score]]:
        for number, pair in enumerate(whole(evaluator, archs)):
            if number == 4:
                raise KeyboardInterrupt
            yield pair

    monkeypatch.setattr(Evaluator, "scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(supernet_folder, tmp_path / "stopped")
    monkeypatch.undo()
    assert len(read_rows(tmp_path / "stopped")) == 4
    again = run(supernet_folder, tmp_path / "stopped").outcomes
    assert [outcome.best for outcome in again] == [outcome.best for outcome in first]
    assert [row["arch"] for row in read_rows(tmp_path / "stopped")] == [row["arch"] for row in rows]


def test_what_a_search_under_several_limits_leaves(supernet_folder: Path, tmp_path: Path) -> None:
    found = run(supernet_folder, tmp_path)
    outcomes, folders = found.outcomes, found.folders
    assert [folder.name for folder in folders] == [f"max_macs-{limit:g}" for limit in LIMITS]
    for folder, outcome in zip(folders, outcomes, strict=True):
        assert {path.name for path in folder.iterdir()} == {
            "architecture.svg",
            "pareto.json",
            "report.html",
            "subnet.json",
            "subnet.pt",
            "top.json",
        }
        assert load_subnet(folder).arch == outcome.best
        page = (folder / "report.html").read_text()
        assert "The predictor is not to be trusted" in page
        assert "Evolution with RidgePredictor" in page
    page = (tmp_path / "report.html").read_text()
    assert f"{len(read_rows(tmp_path))} scored candidates" in page  # those that the predictor learned from, too
    assert "some net" in page
    assert "RidgePredictor" in page


def test_a_strategy_without_a_predictor_under_several_limits(supernet_folder: Path, tmp_path: Path) -> None:
    more = {"costs": limits(*LIMITS)}
    outcomes = search(supernet_folder, tmp_path, RandomSearch(num_samples=4), more=more).outcomes
    assert "RandomSearch" in (tmp_path / "report.html").read_text()
    assert outcomes[0].predicted == {}


def test_a_single_limit(supernet_folder: Path, tmp_path: Path) -> None:
    more = {
        "costs": limits(LIMITS[0]),
        "predictor": RidgePredictor(),
        "prediction": PredictionSettings(num_pairs=6, num_verified=2),
    }
    (outcome,) = search(supernet_folder, tmp_path, NSGA2(population=4, generations=2), more=more).outcomes
    assert load_subnet(tmp_path).arch == outcome.best


@dataclass(frozen=True)
class Climb:
    """A strategy as a user writes it."""

    budget: int = 10

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        history = History(problem, self.budget, rng)
        while len(history.evaluate(fill_to=4)):
            history.propose(problem.mutate(history.evaluated.top(3).codes, 0.3, rng))
        return history.evaluated


@pytest.mark.parametrize(
    "strategy",
    [
        Climb(),
        RandomSearch(num_samples=10),
        LocalSearch(num_samples=10, num_starts=2, batch_size=4),
        ControllerSearch(num_samples=10, batch_size=5, policy=PolicySettings(hidden_size=8, num_layers=1)),
        Exhaustive(),
        Derivation(num_samples=5, draw=UniformSampler(SPACE, seed=0).sample),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_every_strategy_works_with_a_predictor_and_without(
    supernet_folder: Path, tmp_path: Path, strategy: Strategy
) -> None:
    more = {"costs": limits(LIMITS[0])}
    learning = {"predictor": RidgePredictor(), "prediction": PredictionSettings(num_pairs=6, num_verified=2)}
    (predicted,) = search(supernet_folder, tmp_path, strategy, more=more | learning).outcomes
    found = search(supernet_folder, tmp_path, strategy, more=more)
    (scored,) = found.outcomes
    assert len(predicted.archs) == 2
    assert 2 < len(scored.archs) <= strategy.budget
    for outcome in (predicted, scored):
        keys = {arch: key_of(found, arch) for arch in outcome.archs}
        assert keys[outcome.best] == max(keys.values())
        assert all(TABLE.cost(arch).macs <= LIMITS[0] for arch in outcome.archs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_pairs": 4}, "prediction.num_pairs is at least 5, not 4"),
        ({"holdout": 1.0}, "prediction.holdout lies between 0 and 1, not 1.0"),
        ({"num_verified": 0}, "prediction.num_verified is at least 1, not 0"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictionSettings(**changes)


# Latency -------------------------------------------------------------------------------------------------------------


def test_latency_needs_a_table(supernet_folder: Path, tmp_path: Path) -> None:
    more = {"costs": [CostSettings(max_latency_ms=5)], "predictor": RidgePredictor()}
    with pytest.raises(ValueError, match=r"give cost\.latency_table"):
        search(supernet_folder, tmp_path, EVOLUTION, more=more)


@pytest.mark.parametrize("predicted", [True, False])
def test_latencies_of_a_table_are_limits(supernet_folder: Path, tmp_path: Path, predicted: bool) -> None:
    measure_table(SPACE, settings=MeasureSettings(warmup=0, repeats=1), folder=tmp_path / "table")
    table = LatencyTable.load(tmp_path / "table", SPACE)
    latencies = sorted(table.latency(arch) for arch in SPACE.enumerate())
    cost = CostSettings(
        max_latency_ms=latencies[len(latencies) // 2], minimize="latency_ms", latency_table=str(tmp_path / "table")
    )
    more: dict[str, Any] = {"costs": [cost]}
    if predicted:
        more |= {"predictor": RidgePredictor(), "prediction": PredictionSettings(num_pairs=6, num_verified=2)}
    strategy = EVOLUTION if predicted else RandomSearch(num_samples=5)
    (outcome,) = search(supernet_folder, tmp_path / "search", strategy, more=more).outcomes
    assert all(table.latency(arch) <= cost.limits["latency_ms"] * (1 + 1e-9) for arch in outcome.archs)
    assert load_subnet(tmp_path / "search").card["latency_ms"] == pytest.approx(table.latency(outcome.best))
    assert not list((tmp_path / "search").glob("latencies*.csv"))  # nothing was timed
    assert re.search(
        r"summed over .*table of device cpu.*, batch 1, threads 1", (tmp_path / "search" / "report.html").read_text()
    )


def test_latencies_of_a_table_are_in_every_file_without_a_limit_too(supernet_folder: Path, tmp_path: Path) -> None:
    measure_table(SPACE, settings=MeasureSettings(warmup=0, repeats=1), folder=tmp_path / "table")
    table = LatencyTable.load(tmp_path / "table", SPACE)
    cost = CostSettings(latency_table=str(tmp_path / "table"))
    search(supernet_folder, tmp_path / "search", RandomSearch(num_samples=5), more={"costs": [cost]})
    for row in read_rows(tmp_path / "search"):
        latency = table.latency(SPACE.arch(json.loads(row["arch"])))
        assert float(row["latency_ms"]) == pytest.approx(latency)
    origin = load_subnet(tmp_path / "search").card["latency_origin"]
    assert re.fullmatch(r"summed over .*table of device cpu.*, batch 1, threads 1", origin)
    macro = Supernet(NASBenchMacro(channels=4))
    assert CandidateCosts(macro, CostSettings()).origin == "measured: cpu, batch 1, threads 1"
    with pytest.raises(ValueError, match="is a latency table of ToySpace, not of NASBenchMacro: measure one"):
        CandidateCosts(macro, cost)


def test_no_pair_is_lost_where_they_do_not_divide_by_the_limits(supernet_folder: Path, tmp_path: Path) -> None:
    costs = sorted(CostTable(SPACE).cost(arch).macs for arch in SPACE.enumerate())
    prediction = PredictionSettings(num_pairs=9, num_verified=1)
    more = {"predictor": RidgePredictor(), "prediction": prediction, "costs": limits(costs[len(costs) // 2], costs[-1])}
    found = search(supernet_folder, tmp_path, EVOLUTION, more=more)
    pairs = [json.loads(row["arch"]) for row in read_rows(tmp_path) if row["source"] == "pairs"]
    assert len(pairs) == 9
    shown = {arch for outcome in found.outcomes for arch in outcome.baseline}
    assert {SPACE.arch(pair) for pair in pairs} <= shown


# Without a supernet --------------------------------------------------------------------------------------------------


class Deep:
    """A predictor that learned before: one part of accuracy for each option in use."""

    def predict(self, features: Any) -> Any:
        return np.asarray(features, dtype=np.float64).sum(1) / 100


def test_a_predictor_that_has_learned_needs_no_supernet(tmp_path: Path) -> None:
    space = OFAMobileNetV3(num_classes=10, resolutions=(24, 32), depths=(2, 3), width_multiplier=0.35)
    macs = [CostTable(space).cost(arch).macs for arch in (space.smallest, space.largest)]
    costs = limits(1.3 * macs[0], 2.0 * macs[1])
    coding = Coding(space)
    settings = SearchSettings(EVOLUTION, costs, predictor=Deep())  # type: ignore[arg-type]
    found = search_without_supernet(space, settings, tmp_path).archs
    networks = json.loads((tmp_path / "networks.json").read_text())
    assert [space.arch(network["arch"]) for network in networks] == found
    assert networks[0]["macs"] <= costs[0].limits["macs"]
    assert networks[1]["predicted"] == pytest.approx(coding.one_hot(coding.encode([found[1]])).sum() / 100)
    assert networks[1]["predicted"] > networks[0]["predicted"]
    for network, arch in zip(networks, found, strict=True):
        assert from_published(space, network["published"]) == arch
    assert "by prediction" in (tmp_path / "report.html").read_text()


def test_what_is_predicted_above_all_that_there_is_is_shown_as_that(supernet_folder: Path, tmp_path: Path) -> None:
    """``Widest`` predicts values above 1."""
    found = run(supernet_folder, tmp_path / "scored", Widest())
    assert max(found.outcomes[1].predicted.values()) == 1.0
    settings = SearchSettings(RandomSearch(num_samples=4), limits(LIMITS[1]), predictor=Widest())
    (point,) = search_without_supernet(SPACE, settings, tmp_path).points
    assert point.predicted == 1.0


def test_a_limit_that_cannot_be_met_is_named(tmp_path: Path) -> None:
    space = OFAMobileNetV3(num_classes=10, resolutions=(24, 32), depths=(2,), width_multiplier=0.35)
    settings = SearchSettings(EVOLUTION, limits(100), predictor=Deep())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"max_macs=100 cannot be met"):
        search_without_supernet(space, settings, tmp_path)
    with pytest.raises(ValueError, match=r"a search by predictions needs a predictor"):
        search_without_supernet(space, SearchSettings(EVOLUTION), tmp_path)


# References ----------------------------------------------------------------------------------------------------------


def test_references(tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    path.write_text('[{"name": "a", "accuracy": 0.7, "latency_ms": 11}, {"name": "b", "accuracy": 0.8, "macs": 3}]')
    assert read_references(path, "latency_ms") == [Reference("a", 11.0, 0.7)]
    with pytest.raises(ValueError, match="holds no network with params"):
        read_references(path, "params")
    with pytest.raises(FileNotFoundError, match="there is no file of references"):
        read_references(tmp_path / "nothing.json", "macs")
    for text in ("{", '[{"macs": 3}]', "[3]", '{"a": 1}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"known\.json"):
            read_references(path, "macs")


def test_the_examples_references_are_read() -> None:
    path = Path(__file__).resolve().parent.parent.parent / "examples" / "note10.json"
    assert [reference.cost for reference in read_references(path, "latency_ms")] == [11, 16, 22, 30, 41, 50, 64]


def test_a_percentage_that_cannot_be_met_is_given_as_it_was_written(supernet_folder: Path, tmp_path: Path) -> None:
    costs = [RelativeCostSettings(max_macs=0.1, percentages=("max_macs",)).of_original({"macs": 1e5})]
    with pytest.raises(ValueError, match=r"max_macs=0\.1% \(100\) cannot be met"):
        search(supernet_folder, tmp_path, more={"costs": costs})
