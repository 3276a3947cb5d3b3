"""Which trainer, predictor and score a command gets that names none."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from config_files import toy_data
from omegaconf import DictConfig, OmegaConf
from space_examples import SPACES
from torch import nn

from oneshot.arch import Arch, Choice
from oneshot.config import CONF, for_repaired, rate_left_open, score_left_open, search_for_repaired, settings
from oneshot.config.presets import with_trainer
from oneshot.costs import CostSettings
from oneshot.data import ImageData, TensorImages
from oneshot.evaluation.family import SupernetFamily
from oneshot.pipeline.folders import Trained
from oneshot.pipeline.search_settings import EvaluationSettings, PredictionSettings, SearchSettings
from oneshot.predictors import RidgePredictor
from oneshot.search import Evolution, Exhaustive, Knapsack, RandomSearch
from oneshot.spaces import NASBenchMacro
from oneshot.spaces.base import Make, SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import TrainSettings

MACRO = NASBenchMacro(4, 8, channels=4, head_channels=8)
TRAINED = ["+space=timm", "space.model=resnet18", "space.weights=resnet18.pt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (TRAINED, True),
        (["-m", *TRAINED, "trainer.lr=0.02,0.01", "seed=0"], True),
        (["+space=network", "space.build=torchvision:resnet18", "++space.weights='a=b.pt'"], True),
        (["+space=timm", "space.weights=pretrained"], True),
        (["+space=timm"], False),
        (["+space=timm", "space.weights=null"], False),
        (["+space=ofa", "space.weights=a.pt"], False),
        ([*TRAINED, "trainer=default"], False),
        ([*TRAINED, "+experiment=mine"], False),
    ],
)
def test_the_trainer_for_trained_weights(arguments: list[str], expected: bool) -> None:
    assert with_trainer(arguments, "train_supernet") == [*arguments, *(["trainer=pretrained"] if expected else [])]
    assert with_trainer(arguments, "measure_latency") == arguments


@pytest.mark.parametrize(("space", "rate"), [(MACRO, 1e-3), (SPACES["vit"](), 1e-4)])
def test_a_learning_rate_that_is_left_open(space: SearchSpace, rate: float, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    settings_now = TrainSettings(optimizer="adamw", lr=1.0, weight_decay=0.01)
    config = OmegaConf.create({"trainer": {"lr": 0.03}})
    assert rate_left_open(config, settings_now, space) == settings_now  # it was not left open
    config.trainer.lr = None
    assert rate_left_open(config, settings_now, space) == replace(settings_now, lr=rate)
    assert config.trainer.lr == rate  # what is recorded
    assert f"trainer.lr={rate:g}" in caplog.text
    config.trainer.lr = None
    with pytest.raises(ValueError, match=r"trainer\.lr=null .* give a number for trainer\.optimizer=sgd"):
        rate_left_open(config, replace(settings_now, optimizer="sgd"), space)


def images(count: int) -> ImageData:
    train = TensorImages(torch.zeros(count, 3, 1, 1, dtype=torch.uint8), torch.zeros(count, dtype=torch.long))
    return replace(toy_data(), train=train)


def test_the_trainer_of_a_repaired_network() -> None:
    many = images(64 * 40)
    config = OmegaConf.load(CONF / "retrain_subnet.yaml")
    config.trainer = OmegaConf.merge(OmegaConf.load(CONF / "trainer" / "default.yaml"), config.trainer)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    own = for_repaired(config, ["subnet=a", "trainer.epochs=3", "trainer.epochs"], True, lambda: network, many)
    assert own.keys() == config.repaired.keys() - {"epochs", "min_steps"}
    made = settings(TrainSettings, config, "trainer", seed=0, **own)
    assert (made.optimizer, made.lr, made.epochs) == ("adamw", 5e-4, config.trainer.epochs)
    whole = for_repaired(config, [], True, lambda: network, many)
    assert settings(TrainSettings, config, "trainer", seed=0, **whole).epochs == 6
    few = for_repaired(config, [], True, lambda: network, images(64 * 4 + 63))
    assert few == {**whole, "epochs": math.ceil(config.repaired.min_steps / 4)}
    assert "epochs" not in for_repaired(config, ["trainer.epochs=2"], True, lambda: network, images(5))
    assert for_repaired(config, [], True, lambda: nn.Sequential(*network, nn.GroupNorm(1, 4)), many)["lr"] == 5e-5
    assert "lr" not in for_repaired(config, ["trainer.lr=0.1"], True, lambda: network, many)
    assert for_repaired(config, [], False, lambda: network, many) == {}
    assert for_repaired(config, ["trainer=default"], True, lambda: network, many) == {}
    config.repaired.learning_rate = 0.1
    with pytest.raises(ValueError, match=r"no setting 'repaired.learning_rate'"):
        for_repaired(config, [], False, lambda: network, many)


LIMITED = CostSettings(max_macs=1e6)
MEASURED = CostSettings(max_macs=1e6, max_latency_ms=3.0)


@pytest.mark.parametrize(
    ("typed", "is_repaired", "costs", "expected"),
    [
        ([], True, [LIMITED, LIMITED], "knapsack"),
        ([], True, [replace(MEASURED, latency_table="walks")], "knapsack"),
        ([], True, [CostSettings()], "ridge"),
        ([], True, [MEASURED], "evolution"),
        ([], True, [LIMITED, MEASURED], "evolution"),
        (["prediction.num_pairs=30"], True, [MEASURED], "ridge"),
        (["prediction.num_pairs=30"], True, [LIMITED], "ridge"),
        ([], False, [LIMITED], None),
        (["search=evolution"], True, [LIMITED], None),
        (["search.generations=3"], True, [LIMITED], None),
        (["predictor=gbdt"], True, [LIMITED], None),
    ],
)
def test_the_search_of_repaired_networks(
    typed: list[str], is_repaired: bool, costs: list[CostSettings], expected: str | None
) -> None:
    config = _search()
    prediction = PredictionSettings(30) if typed == ["prediction.num_pairs=30"] else PredictionSettings()
    given = SearchSettings(RandomSearch(), costs, "macs", prediction=prediction)
    found = search_for_repaired(config, typed, is_repaired, given)
    kind = {"knapsack": Knapsack, "evolution": Evolution}.get(str(expected), RandomSearch)
    assert isinstance(found.strategy, kind)
    if isinstance(found.strategy, Evolution):
        assert found.strategy.budget == 80
    assert ("predictor" in config) == (expected == "ridge")
    own = replace(prediction, num_pairs=30 if typed else 80, num_verified=5)
    assert found.prediction == (own if expected == "ridge" else prediction)


def test_several_supernets_and_other_scores_have_no_errors_of_blocks() -> None:
    given = SearchSettings(RandomSearch(), [LIMITED], "macs")
    assert search_for_repaired(_search(), [], True, given, is_single=False).strategy == RandomSearch()
    combined = replace(given, score="combined")
    assert search_for_repaired(_search(), [], True, combined).strategy == RandomSearch()


@pytest.mark.parametrize(
    ("group", "wrong", "near"), [("predictor", "rigde", "ridge"), ("search", "napsack", "knapsack")]
)
def test_what_there_is_none_of_for_repaired_networks(group: str, wrong: str, near: str) -> None:
    config = _search()
    config.repaired[group] = wrong
    costs = [LIMITED] if group == "search" else [CostSettings()]
    with pytest.raises(ValueError, match=f"repaired.{group} is one of .* not '{wrong}'; did you mean '{near}'"):
        search_for_repaired(config, [], True, SearchSettings(RandomSearch(), costs, "macs"))


def _search() -> DictConfig:
    config = OmegaConf.load(CONF / "search_subnet.yaml")
    config.search = OmegaConf.load(CONF / "search" / "evolution.yaml")
    OmegaConf.set_struct(config, True)  # as Hydra does
    assert isinstance(config, DictConfig)
    return config


# What ranks ------------------------------------------------------------------------------------------------------------


class Widths(SearchSpace):
    """Networks of two widths, the narrow one being a part of the wide one."""

    num_classes = 4

    def __init__(self) -> None:
        self.choices = (Choice("width", (2, 4)),)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        return nn.Sequential(nn.Flatten(), make("classifier", nn.Linear, 2 * arch.integer("width"), 4))


class Begun(Widths):
    """Networks that begin with trained weights."""

    starts_trained = True


@pytest.mark.parametrize(
    ("space", "changes", "expected", "reason"),
    [
        (MACRO, {}, "combined", "each option of this space has weights of its own"),
        (MACRO, {"strategy": RandomSearch(num_samples=500)}, "combined", "score=inherited ranks by the supernet alone"),
        (
            MACRO,
            {"strategy": RandomSearch(num_samples=499)},
            "inherited",
            "a search of 499 networks is shorter than the 500",
        ),
        (MACRO, {"strategy": Exhaustive()}, "inherited", "scoring all networks shares work"),
        (MACRO, {"predictor": RidgePredictor()}, "inherited", "a predictor learns what the supernet says"),
        (MACRO, {"evaluation": EvaluationSettings(halving_images=8)}, "inherited", "successive halving"),
        (Widths(), {}, "inherited", "networks of this space are parts of one another"),
        (Begun(), {}, "inherited", "the networks begin with trained weights"),
    ],
)
def test_what_ranks_where_nobody_says(
    space: SearchSpace, changes: dict[str, Any], expected: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    trained = Trained(Supernet(space), {}, (), Path("run"), 1, 1)
    search = SearchSettings(**{"strategy": Evolution(), **changes})
    with caplog.at_level("INFO"):
        assert score_left_open(trained, search) == expected
    assert f"score={expected}, " in caplog.text
    assert reason in caplog.text


def test_supernets_that_share_out_a_space_rank_as_one_does() -> None:
    parts = [MACRO.restrict({"layer1": [option]}) for option in MACRO.choices[0].options]
    members = [Trained(Supernet(part), {}, (), Path("run"), 1, 1) for part in parts]
    family = SupernetFamily([member.supernet for member in members])
    trained = Trained(family, {}, (), Path("run"), 1, 1, members=members)
    assert score_left_open(trained, SearchSettings(Evolution())) == "combined"
