"""Which trainer a command gets that names none."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from oneshot.config import CONF, for_repaired, predictor_for_repaired, settings
from oneshot.config.presets import with_trainer
from oneshot.pipeline.search_settings import PredictionSettings
from oneshot.training import TrainSettings

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


def test_the_trainer_of_a_repaired_network() -> None:
    config = OmegaConf.load(CONF / "retrain_subnet.yaml")
    config.trainer = OmegaConf.merge(OmegaConf.load(CONF / "trainer" / "default.yaml"), config.trainer)
    own = for_repaired(config, ["subnet=a", "trainer.epochs=3", "trainer.epochs"], True)
    assert own.keys() == config.repaired.keys() - {"epochs"}
    made = settings(TrainSettings, config, "trainer", seed=0, **own)
    assert (made.optimizer, made.lr, made.epochs) == ("adamw", 5e-5, config.trainer.epochs)
    assert for_repaired(config, [], False) == {}
    assert for_repaired(config, ["trainer=default"], True) == {}
    config.repaired.learning_rate = 0.1
    with pytest.raises(ValueError, match=r"no setting 'repaired.learning_rate'"):
        for_repaired(config, [], False)


@pytest.mark.parametrize(
    ("typed", "is_repaired", "expected"),
    [
        (["supernet=a", "cost.max_macs=[75%,50%]"], True, True),
        (["supernet=a"], False, False),
        (["search=evolution"], True, False),
        (["search.generations=3"], True, False),
        (["prediction.num_pairs=30"], True, True),
        (["predictor=gbdt"], True, False),
    ],
)
def test_the_search_of_repaired_networks(typed: list[str], is_repaired: bool, expected: bool) -> None:
    config = OmegaConf.load(CONF / "search_subnet.yaml")
    OmegaConf.set_struct(config, True)  # as Hydra does
    given = PredictionSettings(30) if "prediction.num_pairs=30" in typed else PredictionSettings()
    found = predictor_for_repaired(config, typed, is_repaired, given)
    assert ("predictor" in config) == expected
    num_pairs = 30 if "prediction.num_pairs=30" in typed else 80
    assert found == (PredictionSettings(num_pairs, num_verified=5) if expected else given)


def test_a_predictor_for_repaired_networks_that_there_is_none_of() -> None:
    config = OmegaConf.load(CONF / "search_subnet.yaml")
    config.repaired.predictor = "rigde"
    with pytest.raises(ValueError, match="not 'rigde'; did you mean 'ridge'"):
        predictor_for_repaired(config, [], True, PredictionSettings())
