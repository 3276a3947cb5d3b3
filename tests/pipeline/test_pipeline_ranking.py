"""A ranking judged by true accuracies, from a table and by retraining; and whether the best candidates can be told apart."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipeline_runs import DATA, make_settings, opened, read_rows, search
from scipy.stats import kendalltau
from toy_spaces import ToySpace

from oneshot.arch import Arch
from oneshot.costs import CostSettings, CostTable
from oneshot.evaluation import Batches, Evaluator, evaluate
from oneshot.pipeline.candidate_cards import CandidateCards
from oneshot.pipeline.folders import load_subnet, load_supernet
from oneshot.pipeline.results import SearchResult
from oneshot.pipeline.retrain import RetrainSettings
from oneshot.pipeline.retrained_truth import retrain_truth
from oneshot.pipeline.search_settings import PredictionSettings, RankingSettings, RetrainedTruth
from oneshot.pipeline.truth import Truth, read_truth
from oneshot.predictors import RidgePredictor
from oneshot.search import Evolution, Exhaustive, RandomSearch, Strategy
from oneshot.spaces.coding import Coding
from oneshot.training import Trainer

SPACE = ToySpace(resolutions=(6, 8), dropout=0.1)
ARCHS = list(SPACE.enumerate())
COSTS = CostTable(SPACE)
EVOLUTION = Evolution(population=4, num_parents=2, num_mutations=2, num_crossovers=2, generations=2)
SETTINGS = RankingSettings(num_resamples=20)
SCRATCH = RetrainSettings(weights="scratch", calibration_images=64)


@pytest.fixture(scope="module")
def searched(supernet_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exhaustive search."""
    folder = tmp_path_factory.mktemp("exhaustive")
    search(supernet_folder, folder, Exhaustive())
    return folder


@pytest.fixture
def again(supernet_folder: Path, searched: Path, tmp_path: Path) -> Callable[..., SearchResult]:
    """The same search in a copy of its folder."""

    def run(truth: Truth | None = None, **changes: Any) -> SearchResult:
        for path in searched.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        return search(supernet_folder, tmp_path, Exhaustive(), more={"truth": truth, "ranking": SETTINGS}, **changes)

    return run


@pytest.fixture
def retrained(
    supernet_folder: Path, searched: Path, tmp_path: Path
) -> Callable[[RetrainedTruth, Sequence[Arch] | None], Truth]:
    """Retrains scored networks, all or those given, in a copy of the folder of the search."""
    for path in searched.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())

    def run(settings: RetrainedTruth, archs: Sequence[Arch] | None = None) -> Truth:
        with opened(supernet_folder, tmp_path) as (scores, costs):
            cards = CandidateCards(scores, costs, load_supernet(supernet_folder), DATA, {})
            return retrain_truth(scores, archs or list(scores.known), cards.subnet, DATA, settings)

    return run


def scores_of(folder: Path) -> dict[Arch, tuple[float, float]]:
    rows = read_rows(folder)
    return {SPACE.arch(json.loads(row["arch"])): (float(row["accuracy"]), -float(row["loss"])) for row in rows}


def made_up(seed: int = 0) -> dict[Arch, float]:
    rng = np.random.default_rng(seed)
    return dict(zip(ARCHS, rng.uniform(0.5, 0.9, len(ARCHS)).tolist(), strict=True))


def text_of(folder: Path) -> str:
    page = (folder / "report.html").read_text()
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").replace("&#x27;", "'")


# Exhaustive ------------------------------------------------------------------------------------------------------------


def test_an_exhaustive_search_scores_everything_and_needs_no_baseline(searched: Path) -> None:
    rows = read_rows(searched)
    assert len(rows) == SPACE.size == 24
    assert {row["source"] for row in rows} == {"search"}
    assert {SPACE.arch(json.loads(row["arch"])) for row in rows} == set(ARCHS)
    text = text_of(searched)
    assert "these are all networks within the limits, so that no other search finds a better one." in text
    assert "Every network within the limits was scored, so there is no random search to compare with" in text
    assert "Ranking and truth" not in text
    best = load_subnet(searched).arch
    assert scores_of(searched)[best] == max(scores_of(searched).values())


def test_an_exhaustive_search_under_a_limit(supernet_folder: Path, tmp_path: Path) -> None:
    bound = sorted(COSTS.cost(arch).macs for arch in ARCHS)[10]
    search(supernet_folder, tmp_path, Exhaustive(), cost={"max_macs": bound})
    expected = {arch for arch in ARCHS if COSTS.cost(arch).macs <= bound}
    assert {SPACE.arch(json.loads(row["arch"])) for row in read_rows(tmp_path)} == expected


def test_a_space_that_is_too_large_is_refused(supernet_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"these are 24, more than max_size=23"):
        search(supernet_folder, tmp_path, Exhaustive(max_size=23))


# What is said of a ranking -------------------------------------------------------------------------------------------


def test_a_ranking_is_judged_beside_macs_parameters_and_random_order(
    again: Callable[..., SearchResult], caplog: pytest.LogCaptureFixture
) -> None:
    values = made_up()
    with caplog.at_level(logging.INFO):
        (folder,) = again(Truth("a table", values)).folders
    archs = list(scores_of(folder))
    order = {key: place for place, key in enumerate(sorted(set(scores_of(folder).values())))}
    given = {
        "inherited weights": [order[scores_of(folder)[arch]] for arch in archs],
        "MACs": [COSTS.cost(arch).macs for arch in archs],
        "parameters": [COSTS.cost(arch).params for arch in archs],
    }
    written = json.loads((folder / "ranking.json").read_text())
    assert list(written["ways"]) == [*given, "random order"]
    assert (written["truth"], written["num_ranked"], written["num_known"]) == ("a table", 24, 24)
    for name, scores in given.items():
        expected = kendalltau(scores, [values[arch] for arch in archs]).statistic
        assert written["ways"][name]["tau"]["value"] == pytest.approx(expected)
    assert written["ways"]["random order"]["tau"]["value"] == 0.0
    first = max(archs, key=lambda arch: scores_of(folder)[arch])
    rank = 1 + sum(value > values[first] for value in values.values())
    assert written["ways"]["inherited weights"]["first"]["1"]["best_rank"] == rank
    text = text_of(folder)
    assert f"The network ranked first is truly number {rank} of these 24, " in text
    tau = written["ways"]["inherited weights"]["tau"]["value"]
    assert f"Kendall's tau of the ranking by inherited weights is {tau:.2f} (" in text
    assert "The true accuracy of all 24 networks that were scored is known from a table." in text
    assert "Ranking and truth" in text
    assert "no random sample" not in text
    (head,) = [record.message for record in caplog.records if "random order" in record.message]
    assert head.split() == ["inherited", "weights", "MACs", "parameters", "random", "order"]
    (line,) = [record.message for record in caplog.records if record.message.startswith("Kendall's tau ")]
    assert f"{tau:.2f}" in line


def test_truth_that_contradicts_the_supernet_is_said_to(again: Callable[..., SearchResult], searched: Path) -> None:
    """MACs tell the truth here, and the supernet's ranking is turned round."""
    scores = scores_of(searched)
    worst = {arch: 0.5 - place / 100 for place, arch in enumerate(sorted(scores, key=scores.__getitem__))}
    text = text_of(again(Truth("a table", worst)).folders[0])
    assert "tau of the ranking by inherited weights is -" in text
    assert "ranks these networks at least as well as the supernet does." in text
    assert "truly number 24 of these 24, " in text


def test_a_table_that_misses_candidates(again: Callable[..., SearchResult]) -> None:
    values = dict(list(made_up().items())[:9])
    found = again(Truth("a table", values))
    (folder,), (outcome,) = found.folders, found.outcomes
    assert found.judged is not None
    assert found.judged.ways["MACs"].num_candidates == 9
    assert "The true accuracy of 9 of the 24 networks that were scored is known from a table." in text_of(folder)
    page = (folder / "report.html").read_text()
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert [value is not None for value in data["ranking"]["truth"]["candidates"]] == [
        arch in values for arch in outcome.archs
    ]
    with pytest.raises(ValueError, match=r"a table tells the true accuracy of 1 of the 24 networks that were scored"):
        again(Truth("a table", dict(list(values.items())[:1])))


@pytest.mark.parametrize(("strategy", "is_random"), [(EVOLUTION, False), (RandomSearch(num_samples=8), True)])
def test_any_strategy_is_judged_with_all_that_was_scored(
    strategy: Strategy, is_random: bool, supernet_folder: Path, tmp_path: Path
) -> None:
    more = {"truth": Truth("a table", made_up()), "ranking": SETTINGS}
    found = search(supernet_folder, tmp_path, strategy, more=more)
    (outcome,) = found.outcomes
    assert found.judged is not None
    assert set(found.judged.known) == {*outcome.archs, *outcome.baseline}
    assert len(found.judged.known) < 24
    assert ("no random sample of the space" in text_of(tmp_path)) != is_random


def test_a_predictor_is_judged_too_and_limits_share_the_ranking(supernet_folder: Path, tmp_path: Path) -> None:
    macs = sorted(COSTS.cost(arch).macs for arch in ARCHS)
    costs = [CostSettings(max_macs=float(bound)) for bound in (macs[12], macs[-1])]
    values, predictor, coding = made_up(), RidgePredictor(), Coding(SPACE)
    more = {
        "costs": costs,
        "predictor": predictor,
        "prediction": PredictionSettings(num_pairs=10, num_verified=3),
        "truth": Truth("a table", values),
        "ranking": SETTINGS,
    }
    found = search(supernet_folder, tmp_path, RandomSearch(num_samples=20), more=more)
    outcomes, judged = found.outcomes, found.judged
    assert judged is not None

    def predict(archs: Sequence[Arch]) -> Any:
        return predictor.predict(coding.one_hot(coding.encode(archs)))

    assert list(judged.ways) == ["inherited weights", "predictor", "MACs", "parameters", "random order"]
    known = [values[arch] for arch in judged.known]
    assert judged.ways["predictor"].tau.value == pytest.approx(kendalltau(predict(judged.known), known).statistic)
    every = list(values)
    assert len(judged.known) < len(every)
    written = json.loads((tmp_path / "ranking.json").read_text())["by_prediction"]
    assert list(written) == ["predictor", "MACs", "parameters", "random order"]
    tau = kendalltau(predict(every), list(values.values())).statistic
    assert written["predictor"]["tau"]["value"] == pytest.approx(tau)
    assert written["predictor"]["num_candidates"] == len(every)
    for folder in (tmp_path, *found.folders):
        assert "Ranking and truth" in text_of(folder)
        assert f"The predictor ranks all {len(every)} networks of a table with a tau of {tau:.2f} (" in text_of(folder)
    page = (found.folders[0] / "report.html").read_text()
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    shown = sum(len(values) for values in data["ranking"]["truth"].values())
    in_both = len({*outcomes[0].archs} & {*outcomes[0].baseline})
    assert shown - in_both == len(judged.known)
    assert data["ranking"]["truth"]["others"]


def test_settings_out_of_range() -> None:
    for name, least in (("num_resamples", 2), ("num_seeds", 1)):
        with pytest.raises(ValueError, match=f"ranking.{name} is at least {least}, not {least - 1}"):
            RankingSettings(**{name: least - 1})


# Retraining ------------------------------------------------------------------------------------------------------------


def test_networks_spread_over_the_ranking_are_retrained_and_kept(
    retrained: Callable[..., Truth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = RetrainedTruth(4, make_settings(epochs=2), SCRATCH)
    truth = retrained(settings)
    assert truth.source == "retraining for 2 epochs"
    scores = scores_of(tmp_path)
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    assert [scores[arch] for arch in truth.values] == [scores[ranked[place]] for place in (0, 8, 15, 23)]
    for arch, value in truth.values.items():
        (folder,) = [
            path.parent
            for path in tmp_path.glob("retrained/*/seed0/retrained.json")
            if json.loads(path.read_text())["arch"] == arch.to_dict()
        ]
        subnet = load_subnet(folder)
        batches = Batches(DATA.test, DATA, 64, torch.device("cpu"))
        assert evaluate(subnet.module(), batches.at(SPACE.input_shape(arch)[-1])).accuracy == value
        assert not (folder / "checkpoints").exists()
    assert read_truth(tmp_path / "retrained" / "truth.json", SPACE).values == truth.values
    # Another two seeds are the mean of all, without training the first again.
    trained: list[Path] = []
    original = Trainer.run
    monkeypatch.setattr(
        Trainer, "run", lambda trainer, *given: (trained.append(trainer.folder), original(trainer, *given))[1]
    )
    twice = retrained(replace(settings, num_seeds=2))
    assert [folder.name for folder in trained] == ["seed1"] * 4
    assert twice.source.endswith(", 2 times each")
    for arch, folder in zip(twice.values, trained, strict=True):
        other = json.loads((folder / "retrain.json").read_text())["test_accuracy"]
        assert twice.values[arch] == pytest.approx((truth.values[arch] + other) / 2)


def test_more_networks_than_there_are(retrained: Callable[..., Truth]) -> None:
    truth = retrained(RetrainedTruth(50, make_settings(epochs=1), SCRATCH), ARCHS[:3])
    assert truth.values.keys() == set(ARCHS[:3])


def test_retraining_that_was_stopped_ends_as_if_it_had_not_been(
    retrained: Callable[..., Truth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = RetrainedTruth(3, make_settings(epochs=1), SCRATCH)
    runs: list[Path] = []
    original = Trainer.run

    def stop_at_third(trainer: Trainer, *given: Any) -> Any:
        runs.append(trainer.folder)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return original(trainer, *given)

    monkeypatch.setattr(Trainer, "run", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        retrained(settings)
    assert len(json.loads((tmp_path / "retrained" / "truth.json").read_text())) == 2
    truth = retrained(settings)
    assert len(runs) == 4
    assert runs[2] == runs[3]
    runs.clear()
    assert retrained(settings) == truth
    assert runs == []


def test_networks_retrained_otherwise_are_not_mixed(retrained: Callable[..., Truth]) -> None:
    trainer = make_settings(epochs=1)
    settings = RetrainedTruth(2, trainer, SCRATCH)
    retrained(settings, ARCHS[:2])
    with pytest.raises(ValueError, match=r"retrained otherwise \(trainer.epochs was 1 and is 2\); use another folder"):
        retrained(replace(settings, trainer=replace(trainer, epochs=2)), ARCHS[:2])
    with pytest.raises(ValueError, match=r"retrain.weights was scratch and is inherited"):
        retrained(replace(settings, retrain=replace(SCRATCH, weights="inherited")), ARCHS[:2])
    retrained(replace(settings, trainer=replace(trainer, log_every=3)), ARCHS[:2])


# The best candidates -----------------------------------------------------------------------------------------------------


def test_the_best_are_compared_image_by_image(searched: Path) -> None:
    top = json.loads((searched / "top.json").read_text())
    scores = scores_of(searched)
    archs = [SPACE.arch(entry["arch"]) for entry in top["networks"]]
    assert len(archs) == 10
    assert archs[0] == load_subnet(searched).arch
    assert [scores[arch] for arch in archs] == sorted(scores.values(), reverse=True)[:10]
    assert (top["metric"], top["held_out_images"]) == ("accuracy", 64)
    for arch, entry in zip(archs, top["networks"], strict=True):
        lead = entry["lead_of_first"]
        assert lead["value"] == pytest.approx(scores[archs[0]][0] - scores[arch][0])
        assert lead["low"] <= lead["value"] <= lead["high"]
    close = sum(entry["lead_of_first"]["low"] <= 0 for entry in top["networks"][1:])
    assert (
        f"Of the 9 candidates ranked next, {close} cannot be told from the first at 95 % by their accuracy on 64"
        in (text_of(searched))
    )


def test_the_comparison_is_read_again_and_made_anew_for_other_candidates(
    again: Callable[..., SearchResult], searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[Arch] = []
    original = Evaluator.subnet

    def count(evaluator: Evaluator, arch: Arch) -> Any:
        evaluated.append(arch)
        return original(evaluator, arch)

    monkeypatch.setattr(Evaluator, "subnet", count)
    found = again()
    assert evaluated == [found.outcomes[0].best]  # for subnet.pt
    assert (tmp_path / "top.json").read_bytes() == (searched / "top.json").read_bytes()
    again(metric="loss")
    top = json.loads((tmp_path / "top.json").read_text())
    assert top["metric"] == "loss"
    assert len(evaluated) == 1 + 10 + 1
    scores = scores_of(tmp_path)
    losses = [-scores[SPACE.arch(entry["arch"])][1] for entry in top["networks"]]
    assert losses == sorted(losses)
    for loss, entry in zip(losses, top["networks"], strict=True):
        assert entry["lead_of_first"]["value"] == pytest.approx(loss - losses[0], abs=1e-6)


def test_one_candidate_has_nothing_to_be_compared_with(supernet_folder: Path, tmp_path: Path) -> None:
    least = min(COSTS.cost(arch).macs for arch in SPACE.enumerate())
    search(supernet_folder, tmp_path, RandomSearch(num_samples=1), cost={"max_macs": least})
    assert not (tmp_path / "top.json").exists()
    assert "cannot be told" not in text_of(tmp_path)


def test_all_networks_are_ranked_by_what_a_predictor_learned_from_some(supernet_folder: Path, tmp_path: Path) -> None:
    predictor, coding = RidgePredictor(), Coding(SPACE)
    more = {"predictor": predictor, "prediction": PredictionSettings(num_pairs=8, num_verified=2)}
    found = search(supernet_folder, tmp_path, Exhaustive(), more=more)
    (outcome,) = found.outcomes
    predicted = predictor.predict(coding.one_hot(coding.encode(ARCHS)))
    best = {ARCHS[index] for index in np.argsort(-predicted, kind="stable")[:2]}
    assert set(outcome.archs[: outcome.num_own]) == best
    assert len(outcome.baseline) == len(set(outcome.baseline)) == 10
    assert len(found.scores) <= 12


def test_a_predictor_that_was_asked_about_nothing_new(supernet_folder: Path, tmp_path: Path) -> None:
    more = {
        "predictor": RidgePredictor(),
        "prediction": PredictionSettings(num_pairs=24, num_verified=2),
        "truth": Truth("a table", made_up()),
        "ranking": SETTINGS,
    }
    judged = search(supernet_folder, tmp_path, Exhaustive(), more=more).judged
    assert judged is not None
    assert len(judged.known) == 24
    assert not judged.by_prediction
    assert "The predictor ranks these 24 networks of a table with a tau of " in text_of(tmp_path)
