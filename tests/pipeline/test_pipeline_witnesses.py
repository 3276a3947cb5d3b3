"""Searches with several witnesses: a supernet that knows nothing must not decide."""

from __future__ import annotations

import csv
import html
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_runs import DATA, make_settings, opened, search
from scipy.stats import kendalltau
from torch import nn
from toy_spaces import ToySpace

from oneshot.arch import Arch, Choice
from oneshot.costs import CostSettings, CostTable
from oneshot.evaluation import Evaluator, Score
from oneshot.pipeline import retrained_truth
from oneshot.pipeline.combined_scores import CombinedScores
from oneshot.pipeline.folders import load_before, load_subnet, load_supernet
from oneshot.pipeline.retrain import RetrainSettings
from oneshot.pipeline.search_settings import CombinationSettings, PredictionSettings, RankingSettings, RetrainedTruth
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.pipeline.truth import Truth
from oneshot.predictors import RidgePredictor
from oneshot.samplers import UniformSampler
from oneshot.search import Derivation, Evolution, Exhaustive, Perturbation, RandomSearch, Strategy
from oneshot.spaces.base import Make, SearchSpace

SPACE = ToySpace(resolutions=tuple(range(4, 14)))
ARCHS = list(SPACE.enumerate())  # 120
COSTS = CostTable(SPACE)
MACS = {arch: COSTS.cost(arch).macs for arch in ARCHS}
SALT = 0
LARGEST = max(ARCHS, key=MACS.__getitem__)
EVOLUTION = Evolution(population=10, num_parents=5, num_mutations=5, num_crossovers=5, generations=3)
COMBINED = {
    "score": "combined",
    "combination": CombinationSettings(num_reference=60, num_checked=50, untrained=("naswot",)),
}
TRUTH = Truth("a table", {arch: macs / 1e6 for arch, macs in MACS.items()})
Loss = Callable[[Arch], float]


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet that was hardly trained, with the checkpoints of its two last steps."""
    folder = tmp_path_factory.mktemp("hardly") / "supernet"
    settings = make_settings(epochs=1, checkpoint_seconds=0.0)
    training = SupernetTraining(settings, UniformSampler, calibration_images=16, config={"data": {"name": "toys"}})
    train_supernet(SPACE, DATA, training, folder)
    return folder


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch) -> Callable[[Loss], None]:
    """Makes the supernet's losses what a function of the architecture says."""

    def use(loss: Loss) -> None:
        def scores(evaluator: Evaluator, archs: Sequence[Arch]) -> Iterator[tuple[Arch, Score]]:
            for arch in archs:
                yield arch, Score(0.5, loss(arch), len(evaluator.held_out.images))

        monkeypatch.setattr(Evaluator, "scores", scores)

    return use


def noise(arch: Arch) -> float:
    """Nothing that has to do with the network, or with how large it is (their correlation is 0.0 here)."""
    return zlib.crc32(f"{SALT}{arch.to_json()}".encode()) / 2**32


def knowing(arch: Arch) -> float:
    """Larger networks do better."""
    return 1 - MACS[arch] / MACS[LARGEST] + 0.05 * noise(arch)


# The choice follows whom can be trusted --------------------------------------------------------------------------------


def predicted(supernet: Path, folder: Path, **more: Any) -> Any:
    settings = {
        "predictor": RidgePredictor(),
        "prediction": PredictionSettings(num_pairs=100, num_verified=3),
        "truth": TRUTH,
        "ranking": RankingSettings(num_resamples=2),
    }
    return search(supernet, folder, Exhaustive(), metric="loss", more=settings | more)


def test_a_predictor_of_useless_scores_does_not_choose(
    supernet: Path, tmp_path: Path, scoring: Callable[[Loss], None]
) -> None:
    """The supernet's scores are noise, and so is what is learned from them; counting MACs is right here."""
    scoring(noise)
    found = predicted(supernet, tmp_path)
    assert not json.loads((tmp_path / "predictor.json").read_text())["trusted"]
    (outcome,) = found.outcomes
    assert outcome.best == LARGEST
    by_loss = min(outcome.archs, key=noise)
    assert by_loss != LARGEST  # what the scores themselves would have chosen
    page = (tmp_path / "report.html").read_text()
    assert "The predictor is not to be trusted" in page
    assert "), not to be trusted" in page  # beside Kendall's tau among the facts
    assert "chosen by <strong>counting MACs, because nothing agrees with the supernet</strong>" in page


def test_a_predictor_of_good_scores_chooses(supernet: Path, tmp_path: Path, scoring: Callable[[Loss], None]) -> None:
    scoring(knowing)
    found = predicted(supernet, tmp_path)
    assert json.loads((tmp_path / "predictor.json").read_text())["trusted"]
    (outcome,) = found.outcomes
    assert outcome.best == min(outcome.archs, key=knowing)
    assert outcome.chosen_by == ""


def test_a_predictor_can_learn_from_costs_too(supernet: Path, tmp_path: Path, scoring: Callable[[Loss], None]) -> None:
    """Width, depth and kernel multiply in MACs, which options alone do not add up to."""
    scoring(lambda arch: float(-np.log(MACS[arch])))
    errors = []
    for with_costs in (True, False):
        pairs = PredictionSettings(num_pairs=100, num_verified=3, with_costs=with_costs)
        predicted(supernet, tmp_path / str(with_costs), prediction=pairs)
        errors.append(json.loads((tmp_path / str(with_costs) / "predictor.json").read_text())["rmse"])
    assert errors[0] < 0.5 * errors[1]


def test_a_search_by_useless_scores_keeps_what_counting_says(
    supernet: Path, tmp_path: Path, scoring: Callable[[Loss], None]
) -> None:
    scoring(noise)
    more = {"truth": TRUTH, "ranking": RankingSettings(num_resamples=2)}
    found = search(supernet, tmp_path, RandomSearch(num_samples=60), metric="loss", more=more)
    (outcome,) = found.outcomes
    assert MACS[outcome.best] == max(MACS[arch] for arch in outcome.archs)
    page = (tmp_path / "report.html").read_text()
    assert found.judged is not None
    known = found.judged.known
    first, kept = (1 + sum(MACS[o] > MACS[a] for o in known) for a in (min(known, key=noise), outcome.best))
    assert first > kept
    assert f"ranked first is truly number {first} of these {len(known)}, " in page
    assert f"the one that is kept is number {kept}, " in page
    assert "Inherited weights are not to be trusted here" in page
    assert "Do the witnesses agree?" in page


def test_a_search_by_good_scores_says_how_far_they_agree(
    supernet: Path, tmp_path: Path, scoring: Callable[[Loss], None]
) -> None:
    scoring(knowing)
    found = search(supernet, tmp_path, RandomSearch(num_samples=60), metric="loss")
    (outcome,) = found.outcomes
    assert outcome.best == min(outcome.archs, key=knowing)
    page = (tmp_path / "report.html").read_text()
    assert "agrees well with counting MACs" in page
    assert "beyond size" not in page  # of a supernet and counts alone, all that they say is compared
    assert "not to be trusted" not in page


def test_every_limit_keeps_the_best_that_was_scored_for_any(
    supernet: Path, tmp_path: Path, scoring: Callable[[Loss], None]
) -> None:
    middle = float(sorted(MACS.values())[60])
    more = {"costs": [CostSettings(max_macs=limit) for limit in (middle, float(MACS[LARGEST]))]}
    given = {"strategy": RandomSearch(num_samples=4), "metric": "loss", "more": more}
    scoring(noise)
    narrow, wide = search(supernet, tmp_path / "noise", **given).outcomes
    (best, *_) = (arch for arch in narrow.archs[:4] if arch not in wide.archs[:4])
    scoring(lambda arch: float(arch != best))
    narrow, wide = search(supernet, tmp_path / "one", **given).outcomes
    assert wide.best == narrow.best == best
    assert wide.archs[4:] == [best]
    assert len(narrow.archs) == 4
    (note,) = wide.notes
    assert note.startswith("Under max_macs=6.716e4 a network scored under another limit is better")
    assert note in html.unescape((tmp_path / "one" / "report.html").read_text())
    assert list(narrow.notes) == []


def test_a_better_network_of_random_search_is_kept(
    supernet: Path, tmp_path: Path, scoring: Callable[[Loss], None]
) -> None:
    given = {"strategy": RandomSearch(num_samples=4), "metric": "loss"}
    scoring(noise)
    (outcome,) = search(supernet, tmp_path / "noise", **given).outcomes
    (best, *_) = (arch for arch in outcome.baseline if arch not in outcome.archs)
    scoring(lambda arch: noise(arch) - (arch == best))
    (outcome,) = search(supernet, tmp_path / "one", **given).outcomes
    own = min(outcome.archs[:4], key=noise)
    assert (outcome.best, outcome.found, outcome.num_own) == (best, own, 4)
    assert outcome.archs[4:] == [best]
    assert load_subnet(tmp_path / "one").arch == best
    (note,) = outcome.notes
    assert note.startswith(
        "Without limits a network of the random search beside it is better than what the search found"
    )
    page = html.unescape((tmp_path / "one" / "report.html").read_text())
    assert note in page
    assert "random search with the same number of evaluations did better: " in page
    assert "; that network is kept." in page


def test_a_folder_that_a_shorter_search_continues_keeps_its_best(
    supernet: Path, tmp_path: Path, scoring: Callable[[Loss], None]
) -> None:
    scoring(noise)
    (longer,) = search(supernet, tmp_path, RandomSearch(num_samples=20), metric="loss").outcomes
    (shorter,) = search(supernet, tmp_path, RandomSearch(num_samples=2), metric="loss").outcomes
    assert shorter.best == longer.best not in shorter.baseline
    assert shorter.num_own == 2
    (note,) = shorter.notes
    assert note.startswith("Without limits a network that an earlier search in this folder scored is better than what")
    assert load_subnet(tmp_path).arch == longer.best


@pytest.mark.parametrize(
    "decided",
    [Derivation(num_samples=1, draw=lambda step: [LARGEST]), Perturbation(choose=lambda: LARGEST)],
    ids=["derivation", "perturbation"],
)
def test_what_was_decided_in_training_is_kept(
    supernet: Path, tmp_path: Path, scoring: Callable[[Loss], None], decided: Strategy
) -> None:
    """Whatever random networks score with weights that were trained in a mix."""
    scoring(lambda arch: float(arch == LARGEST))
    (outcome,) = search(supernet, tmp_path, decided, metric="loss").outcomes
    assert len(outcome.baseline) == 1
    assert LARGEST not in outcome.baseline
    assert (outcome.best, outcome.found, list(outcome.archs)) == (LARGEST, None, [LARGEST])


# All witnesses together ------------------------------------------------------------------------------------------------


def test_a_useless_supernet_has_no_say_among_others(
    supernet: Path, tmp_path: Path, scoring: Callable[[Loss], None]
) -> None:
    scoring(noise)
    more = {**COMBINED, "truth": TRUTH, "ranking": RankingSettings(num_resamples=2)}
    found = search(supernet, tmp_path, Exhaustive(), metric="loss", more=more)
    evidence, judged = found.evidence, found.judged
    assert evidence is not None
    assert judged is not None
    weights = dict(zip(evidence.panel.names, evidence.panel.weights, strict=True))
    assert list(weights) == ["MACs", "parameters", "naswot", "inherited weights", "what options add"]
    assert weights["inherited weights"] + weights["what options add"] < 0.1
    assert list(judged.ways)[:2] == ["all witnesses", "inherited weights"]
    assert judged.ways["all witnesses"].tau.value > judged.ways["inherited weights"].tau.value + 0.5
    assert found.outcomes[0].best != min(ARCHS, key=noise)
    combined = {arch: found.candidates[arch].combined for arch in ARCHS}
    assert found.outcomes[0].best == max(ARCHS, key=lambda arch: combined[arch] or 0.0)
    front = [SPACE.arch(row["arch"]) for row in json.loads((tmp_path / "pareto.json").read_text())]
    values = {arch: (value, -MACS[arch]) for arch, value in combined.items() if value is not None}
    beaten = {
        one
        for one in ARCHS
        for other in ARCHS
        if values[other] != values[one] and np.all(np.array(values[other]) >= values[one])
    }
    assert {values[arch] for arch in front} == {values[arch] for arch in ARCHS if arch not in beaten}
    assert found.outcomes[0].best in front
    written = json.loads((tmp_path / "witnesses.json").read_text())
    assert [one["name"] for one in written["witnesses"]] == list(weights)
    page = (tmp_path / "report.html").read_text()
    assert "chosen by <strong>all witnesses together</strong>" in page
    assert (
        "Kendall&#x27;s tau of the ranking by all witnesses is" in page or "tau of the ranking by all witnesses" in page
    )


def test_a_network_is_worth_the_same_in_any_company_and_after_a_stop(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the true losses of the supernet; what was measured is read and not measured again."""
    caplog.set_level("INFO")
    found = [
        search(supernet, tmp_path / name, strategy, metric="loss", more=COMBINED)
        for name, strategy in (("a", RandomSearch(num_samples=8)), ("b", EVOLUTION))
    ]
    scored = set(found[0].scores) & set(found[1].scores)
    assert len(scored) >= 60
    values = [one.evidence.ways(sorted(scored, key=str))["all witnesses"] for one in found if one.evidence]
    np.testing.assert_array_equal(*values)
    costs = [message for message in caplog.messages if message.startswith("a network takes ")]
    assert len(costs) == 2
    assert "for its loss and" in costs[0]
    assert costs[0].endswith(" s for naswot without training; counting takes none")
    monkeypatch.setattr(Evaluator, "scores", lambda evaluator, archs: iter([(arch, 1 / 0) for arch in archs]))
    again = search(supernet, tmp_path / "b", EVOLUTION, metric="loss", more=COMBINED)
    assert again.outcomes[0].best == found[1].outcomes[0].best
    assert sum(message.startswith("a network takes ") for message in caplog.messages) == 2


def test_what_a_supernet_shows_of_itself(supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(supernet, tmp_path, metric="loss", more=COMBINED) as (scores, costs):
        assert isinstance(scores, CombinedScores)
        scores.settle([costs.problem(costs.settings, lambda codes: [0.0] * len(codes))])
        measured = scores.measured
    archs = scores.reference[:50]
    earlier = load_before(load_supernet(supernet))
    assert earlier is not None
    assert earlier.step == load_supernet(supernet).step - 1
    evaluator = scores.evaluator
    half = len(evaluator.held_out.images) // 2
    parts = [evaluator.part(0, half), evaluator.part(half, len(evaluator.held_out.images))]
    losses = [[part(arch).loss for arch in archs] for part in parts]
    rho = _spearman(*losses)
    assert measured.halves == pytest.approx(2 * rho / (1 + rho))
    evaluator.supernet = earlier.supernet.eval()
    before = [evaluator(arch).loss for arch in archs]
    assert measured.checkpoints == pytest.approx(_spearman(before, [scores.known[arch].loss for arch in archs]))


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def test_weights_are_learned_from_held_out_images_of_retrained_networks(
    supernet: Path,
    tmp_path: Path,
    scoring: Callable[[Loss], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Held-out accuracy says that parameters decide, test accuracy the opposite: the test is for judging, not for learning."""
    scoring(noise)
    params = {arch: COSTS.cost(arch).params for arch in ARCHS}
    most = max(params.values())

    def retrained(subnet: Any, data: Any, training: Any, folder: Path) -> None:
        (folder / "checkpoints").mkdir(parents=True)
        share = params[subnet.arch] / most
        result = {"held_out_accuracy": share, "test_accuracy": 1 - share}
        (folder / "retrain.json").write_text(json.dumps(result))

    monkeypatch.setattr(retrained_truth, "retrain_subnet", retrained)
    truth = RetrainedTruth(16, make_settings(epochs=1), RetrainSettings(weights="scratch"))
    more = {**COMBINED, "truth": truth, "ranking": RankingSettings(num_resamples=2)}
    with caplog.at_level("INFO"):
        found = search(supernet, tmp_path, Exhaustive(), metric="loss", more=more)
    assert "From 16 networks that were retrained the weights were learned" in caplog.text
    assert "judges the ranking only" not in caplog.text
    evidence = found.evidence
    assert evidence is not None
    assert evidence.learned is not None
    assert evidence.learned.error < evidence.learned.unlearned_error
    combined = evidence.ways(ARCHS)["all witnesses"]
    with (tmp_path / "candidates.csv").open() as file:
        rows = {row["arch"]: float(row["combined"]) for row in csv.DictReader(file)}
    assert [rows[arch.to_json()] for arch in ARCHS] == combined.tolist()
    learned = kendalltau(combined, [params[arch] for arch in ARCHS]).statistic
    values = evidence.witnesses.values(ARCHS)
    evidence.panel.weights = evidence.panel.weighting.weights
    assert learned > kendalltau(evidence.panel.combined(values), [params[arch] for arch in ARCHS]).statistic
    assert "From 16 networks that were retrained the weights were learned" in (tmp_path / "report.html").read_text()


class Linear(SearchSpace):
    """Networks without an activation."""

    num_classes = 4

    def __init__(self) -> None:
        self.choices = (Choice("resolution", tuple(range(2, 12))), *(Choice(f"op{i}", (1, 3)) for i in range(3)))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        sizes = [arch.integer(f"op{i}") for i in range(3)]
        layers = [make(f"op{i}.{size}", nn.Conv2d, 3, 3, size, padding=size // 2) for i, size in enumerate(sizes)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), make("classifier", nn.Linear, 3, 4))


def test_scores_that_say_nothing_about_a_space_are_no_witnesses(
    tmp_path: Path, scoring: Callable[[Loss], None], caplog: pytest.LogCaptureFixture
) -> None:
    scoring(noise)
    space, folder = Linear(), tmp_path / "supernet"
    training = SupernetTraining(make_settings(epochs=1, lr=1e-3), calibration_images=16, config={"data": {}})
    train_supernet(space, DATA, training, folder)
    caplog.set_level("INFO")
    settings = {**COMBINED, "combination": CombinationSettings(50, ("naswot", "synflow"), 50)}
    found = search(folder, tmp_path / "search", RandomSearch(num_samples=5), metric="loss", more=settings)
    assert found.evidence is not None
    assert list(found.evidence.panel.names)[:3] == ["MACs", "parameters", "synflow"]
    assert "naswot" not in found.evidence.panel.names
    assert any(message.startswith("naswot is no witness here: it looks at") for message in caplog.messages)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score": "magic"}, "score is 'inherited' or 'combined', not 'magic'"),
        ({"combination": {"num_reference": 10}}, "combination.num_reference is at least 50, not 10"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str, supernet: Path, tmp_path: Path) -> None:
    def run() -> None:
        if "combination" in settings:
            CombinationSettings(**settings["combination"])
        search(supernet, tmp_path, more=settings)

    with pytest.raises(ValueError, match=message):
        run()


def test_halving_cannot_be_combined(supernet: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="score=combined compares losses on the same images"):
        search(supernet, tmp_path, halving_images=8, more=COMBINED)
