"""Searches by scores of untrained networks."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_runs import DATA
from scipy.stats import kendalltau
from toy_spaces import ToySpace

from oneshot.arch import Arch
from oneshot.costs import CostSettings, CostTable
from oneshot.export import ExportSettings
from oneshot.pipeline import untrained_search
from oneshot.pipeline.export import export_subnet
from oneshot.pipeline.folders import load_subnet
from oneshot.pipeline.retrain import RetrainSettings, SubnetTraining, retrain_subnet
from oneshot.pipeline.search_settings import CombinationSettings, RankingSettings, RetrainedTruth, SearchSettings
from oneshot.pipeline.truth import Truth
from oneshot.pipeline.untrained_ranking import LogRanks
from oneshot.pipeline.untrained_search import UntrainedSettings, search_untrained
from oneshot.search import Exhaustive, RandomSearch, Strategy
from oneshot.training import TrainSettings
from oneshot.training_free import AZ_NAS, TrainingFreeScores, log_rank_sum, scores_called

SPACE = ToySpace(resolutions=(6, 8), dropout=0.1)
ARCHS = list(SPACE.enumerate())
UNTRAINED = UntrainedSettings(num_images=8, device="cpu")


def search(folder: Path, *names: str, strategy: Strategy | None = None, **changes: Any) -> list[Path]:
    settings = SearchSettings(
        Exhaustive() if strategy is None else strategy,
        ranking=RankingSettings(num_resamples=10),
        config={"data": {"name": "toys"}},
        **changes,
    )
    return search_untrained(SPACE, DATA, names, UNTRAINED, settings, folder)


def read(folder: Path) -> dict[Arch, dict[str, str]]:
    with (folder / "candidates.csv").open(newline="") as file:
        return {SPACE.arch(json.loads(row["arch"])): row for row in csv.DictReader(file)}


def test_all_networks_are_scored_and_the_best_is_kept(tmp_path: Path) -> None:
    values = dict(zip(ARCHS, np.random.default_rng(0).uniform(0.5, 0.9, len(ARCHS)).tolist(), strict=True))
    assert search(tmp_path, "naswot", "macs", truth=Truth("a table", values)) == [tmp_path]
    expected = TrainingFreeScores(SPACE, DATA, scores_called(["naswot", "macs"], 8)).values(ARCHS)
    rows = read(tmp_path)
    assert [float(rows[arch]["naswot"]) for arch in ARCHS] == expected["naswot"].tolist()
    assert [float(rows[arch]["macs"]) for arch in ARCHS] == expected["macs"].tolist()
    subnet = load_subnet(tmp_path)
    assert subnet.arch == ARCHS[int(np.argmax(expected["naswot"]))]
    assert subnet.card["scores"]["naswot"] == expected["naswot"].max()
    assert subnet.module()(DATA.train.images[:2].float()).shape == (2, 4)  # type: ignore[attr-defined]
    judged = json.loads((tmp_path / "ranking.json").read_text())
    assert list(judged["ways"]) == ["naswot", "macs", "MACs", "parameters", "random order"]
    tau = kendalltau(expected["naswot"], [values[arch] for arch in ARCHS]).statistic
    assert judged["ways"]["naswot"]["tau"]["value"] == pytest.approx(tau)
    page = (tmp_path / "report.html").read_text()
    assert "Against a table, naswot ranks 24 networks" in page
    assert "Nothing was trained" in page


def test_a_search_goes_on_without_scoring_anything_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[Arch] = []
    original = TrainingFreeScores.__call__

    def stopping(self: TrainingFreeScores, arch: Arch) -> dict[str, float]:
        if len(scored) == 5:
            raise KeyboardInterrupt
        scored.append(arch)
        return original(self, arch)

    strategy = RandomSearch(num_samples=8, batch_size=4)
    monkeypatch.setattr(TrainingFreeScores, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "stopped", "swap", strategy=strategy)
    done = list(scored)
    scored.clear()
    monkeypatch.setattr(
        TrainingFreeScores,
        "__call__",
        lambda self, arch: scored.append(arch) or original(self, arch),  # type: ignore[func-returns-value]
    )
    search(tmp_path / "stopped", "swap", strategy=strategy)
    assert not set(scored) & set(done)
    search(tmp_path / "whole", "swap", strategy=strategy)
    assert (tmp_path / "stopped" / "candidates.csv").read_text() == (tmp_path / "whole" / "candidates.csv").read_text()
    with pytest.raises(ValueError, match="holds another search"):
        search(tmp_path / "whole", "naswot", strategy=strategy)


def test_limits_hold_and_there_is_a_network_under_each(tmp_path: Path) -> None:
    macs = sorted(CostTable(SPACE).cost(arch).macs for arch in ARCHS)
    limits = [macs[6], macs[16]]
    folders = search(tmp_path, "naswot", costs=[CostSettings(max_macs=limit) for limit in limits])
    assert len(folders) == 2
    for folder, limit in zip(folders, limits, strict=True):
        assert load_subnet(folder).card["macs"] <= limit


def test_every_limit_keeps_the_best_that_was_scored_for_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = CostTable(SPACE)
    monkeypatch.setattr(TrainingFreeScores, "__call__", lambda self, arch: {"naswot": -float(table.cost(arch).macs)})
    macs = sorted(table.cost(arch).macs for arch in ARCHS)
    costs = [CostSettings(max_macs=float(limit)) for limit in (macs[0], macs[-1])]
    folders = search(tmp_path, "naswot", costs=costs, strategy=RandomSearch(num_samples=1))
    assert [load_subnet(folder).card["macs"] for folder in folders] == [macs[0], macs[0]]


def test_a_folder_that_a_shorter_search_continues_keeps_its_best(tmp_path: Path) -> None:
    search(tmp_path, "num_params", strategy=RandomSearch(num_samples=12))
    longer = load_subnet(tmp_path).arch
    search(tmp_path, "num_params", strategy=RandomSearch(num_samples=1))
    assert load_subnet(tmp_path).arch == longer


def test_random_weights_are_not_inherited_and_exported_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search(tmp_path, "num_params", strategy=RandomSearch(num_samples=2))
    found = load_subnet(tmp_path)
    training = SubnetTraining(TrainSettings(epochs=1, device="cpu"))
    with pytest.raises(ValueError, match=r"has random weights, .*: add retrain\.weights=scratch$"):
        retrain_subnet(found, DATA, training, tmp_path / "retrained")
    exported = export_subnet(found, tmp_path / "exported", ExportSettings("torchscript"))
    assert json.loads(exported.card.read_text())["weights"] == "random"
    assert "the weights are random" in caplog.text


def test_what_was_trained_from_scratch_is_random_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    search(tmp_path, "num_params", strategy=RandomSearch(num_samples=2))
    scratch = SubnetTraining(TrainSettings(epochs=1, device="cpu"), RetrainSettings(weights="scratch"))
    first = retrain_subnet(load_subnet(tmp_path), DATA, scratch, tmp_path / "first")
    assert first.inherited_test_accuracy is None
    assert "inherited_test_accuracy" not in first.subnet.card
    exported = json.loads(
        export_subnet(first.subnet, tmp_path / "exported", ExportSettings("torchscript")).card.read_text()
    )
    assert (exported["weights"], exported["epochs"]) == ("scratch", 1)
    assert "the weights are random" not in caplog.text
    again = SubnetTraining(TrainSettings(epochs=2, seed=3, device="cpu"))
    card = retrain_subnet(load_subnet(tmp_path / "first"), DATA, again, tmp_path / "second").subnet.card
    assert (card["weights"], card["epochs"], card["seed"]) == ("inherited", 2, 3)
    assert card["inherited_test_accuracy"] == first.test_accuracy


def test_a_score_that_is_the_same_for_all_networks_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    space = SPACE.restrict({"resolution": [6]})
    settings = SearchSettings(
        Exhaustive(), ranking=RankingSettings(num_resamples=10), config={"data": {"name": "toys"}}
    )
    search_untrained(space, DATA, ["swap", "macs"], UntrainedSettings(num_images=2, device="cpu"), settings, tmp_path)
    line = f"swap is 4 for all {len(list(space.enumerate()))} networks of this search, so that it tells none apart; with more"
    assert line in caplog.text
    assert line in (tmp_path / "report.html").read_text()
    assert "macs is" not in caplog.text


def test_a_better_network_of_random_search_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page still says what the strategy itself found."""
    liked: list[Arch] = []
    values = {arch: place / 100 for place, arch in enumerate(ARCHS)}
    monkeypatch.setattr(
        TrainingFreeScores, "__call__", lambda self, arch: {"naswot": 2.0 if arch in liked else values[arch]}
    )
    (folder,) = search(tmp_path / "before", "naswot", strategy=RandomSearch(num_samples=3))
    rows = read(folder)
    liked += [next(arch for arch in rows if rows[arch]["source"] == "random")]
    (folder,) = search(tmp_path / "after", "naswot", strategy=RandomSearch(num_samples=3))
    assert load_subnet(folder).arch == liked[0]
    own = max(values[arch] for arch in rows if rows[arch]["source"] == "search")
    page = (folder / "report.html").read_text()
    told = rf"found <strong>naswot {own}\d* at .*</strong> in 3 evaluations; random search with as many reached 2"
    assert re.search(told + ".*; that network is kept", page)


@pytest.mark.parametrize("name", ["az_nas", "combined"])
def test_scores_are_put_together(name: str, tmp_path: Path) -> None:
    combination = CombinationSettings(num_reference=50, untrained=("naswot", "synflow"), num_checked=50)
    values = dict.fromkeys(ARCHS, 0.5) | {ARCHS[0]: 0.6}
    search(tmp_path, name, combination=combination, truth=Truth("a table", values))
    rows = read(tmp_path)
    judged = json.loads((tmp_path / "ranking.json").read_text())
    # What ranks is in the table and on the page, though it is none of the scores.
    assert max(rows, key=lambda arch: float(rows[arch][name])) == load_subnet(tmp_path).arch
    assert f'<th scope="col" class="number">{name}</th>' in (tmp_path / "report.html").read_text()
    assert (tmp_path / "witnesses.json").is_file() == (name == "combined")
    if name == "combined":
        written = json.loads((tmp_path / "witnesses.json").read_text())
        assert [one["name"] for one in written["witnesses"]] == ["MACs", "parameters", "naswot", "synflow"]
        assert sum(one["weight"] for one in written["witnesses"]) == pytest.approx(1)
        assert list(judged["ways"])[:3] == ["combined", "naswot", "synflow"]
        page = (tmp_path / "report.html").read_text()
        assert "Do the witnesses agree?" in page
        assert "4 witnesses together" in page or "counting MACs decided alone" in page
        return
    # All networks are the reference, so the order is that of the published aggregation.
    columns = {score: np.array([float(row[score]) for row in rows.values()]) for score in AZ_NAS}
    ranks = LogRanks(columns)(list(rows), columns)
    assert kendalltau(ranks, log_rank_sum(columns)).statistic > 0.95
    assert load_subnet(tmp_path).arch == list(rows)[int(np.argmax(ranks))]


def test_what_was_learned_is_in_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What retrained networks reach on held-out images is what synflow says."""
    params = {arch: CostTable(SPACE).cost(arch).params for arch in ARCHS}
    synflow = TrainingFreeScores(SPACE, DATA, scores_called(["synflow"], 8)).values(ARCHS)["synflow"]
    truth = Truth("retraining", {arch: 1 / n for arch, n in params.items()}, dict(zip(ARCHS, synflow, strict=True)))
    monkeypatch.setattr(untrained_search, "retrain_truth", lambda *given: truth)
    combination = CombinationSettings(num_reference=50, untrained=("naswot", "synflow"), num_checked=50)
    retrained = RetrainedTruth(16, TrainSettings(epochs=1, batch_size=16, lr=0.1), RetrainSettings(weights="scratch"))
    search(tmp_path, "combined", combination=combination, truth=retrained)
    written = json.loads((tmp_path / "witnesses.json").read_text())
    weights = {one["name"]: one["weight"] for one in written["witnesses"]}
    assert weights["synflow"] > 0.8
    rows = read(tmp_path)
    assert max(rows, key=lambda arch: float(rows[arch]["combined"])) == load_subnet(tmp_path).arch
    combined = [float(rows[arch]["combined"]) for arch in ARCHS]
    assert kendalltau(combined, synflow).statistic > 0.9
    assert "From 24 networks that were retrained the weights were learned" in (tmp_path / "report.html").read_text()


def test_combining_nothing_but_counts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"combination\.untrained=\[\] leaves score=combined nothing but counting"):
        search(tmp_path, "combined", combination=CombinationSettings(untrained=()))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nasswot"], "not 'nasswot'; did you mean 'naswot'?"),
        (["combined", "swap"], "score=combined puts scores together itself"),
        ([], "not an empty list"),
    ],
)
def test_names_that_are_refused(names: Sequence[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        search(tmp_path, *names)
