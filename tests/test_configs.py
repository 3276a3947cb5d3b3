"""The configuration files: each says what it is, composes with its command, makes its object, and repeats the code's defaults."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from oneshot.config import CONF, make_space, settings
from oneshot.costs import CostSettings
from oneshot.data import Augmentation, ImageData, TensorImages
from oneshot.pipeline.retrain import RetrainSettings
from oneshot.pipeline.search import EvaluationSettings
from oneshot.samplers import Sampler
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.loading import find_class, from_definition
from oneshot.training import TrainSettings

FILES = sorted(CONF.rglob("*.yaml"))
ENTRIES = ("train_supernet", "search_subnet", "retrain_subnet", "export_subnet", "measure_latency")
COMMAND_OF = {
    "data": "train_supernet",
    "sampler": "train_supernet",
    "space": "train_supernet",
    "trainer": "train_supernet",
    "cost": "search_subnet",
    "evaluation": "search_subnet",
    "predictor": "search_subnet",
    "search": "search_subnet",
    "retrain": "retrain_subnet",
}
CLASS_OF: dict[str, type[Any]] = {
    "trainer": TrainSettings,
    "cost": CostSettings,
    "evaluation": EvaluationSettings,
    "retrain": RetrainSettings,
}
FROM_DATA = {"num_classes", "resolution", "resolutions"}


def options(*groups: str) -> list[Any]:
    """A parameter for every file of these groups."""
    paths = [path for group in groups for path in sorted((CONF / group).glob("*.yaml"))]
    return [pytest.param(path.parent.name, path.stem, id=f"{path.parent.name}={path.stem}") for path in paths]


@pytest.fixture(autouse=True)
def _fresh_hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


@functools.cache
def composed(entry: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(entry, overrides=list(overrides))


def toy_data() -> ImageData:
    images = TensorImages(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1]))
    statistics = (0.5, 0.5, 0.5)
    return ImageData("toy", images, images, images, ("a", "b"), 32, statistics, statistics, Augmentation())


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_it_opens_with_what_it_is(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert re.fullmatch(r"# \S.{30,}", first)
    assert "TODO" not in path.read_text(encoding="utf-8")


def test_every_file_belongs_to_a_command() -> None:
    assert {path.parent.name for path in FILES if path.parent != CONF} == set(COMMAND_OF)
    assert {path.stem for path in FILES if path.parent == CONF} == set(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_command_names_its_script(entry: str) -> None:
    first = (CONF / f"{entry}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert f"python {entry}.py" in first
    assert (CONF.parent / f"{entry}.py").is_file()


# Composition ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_command_composes_without_arguments(entry: str) -> None:
    config = composed(entry)
    assert not OmegaConf.missing_keys(config)
    assert config.run.startswith("runs/")
    assert "hydra" not in config


@pytest.mark.parametrize(("group", "name"), options(*COMMAND_OF))
def test_an_option_composes_with_its_command(group: str, name: str) -> None:
    override = f"{'+' if group not in composed(COMMAND_OF[group]) else ''}{group}={name}"
    config = composed(COMMAND_OF[group], override)
    file = OmegaConf.load(CONF / group / f"{name}.yaml")
    assert config[group] == file
    rest = composed(COMMAND_OF[group])
    for other in rest:
        if other not in (group, "run"):
            assert config[other] == rest[other]


def test_the_space_is_not_among_the_defaults() -> None:
    """Hydra refuses ``+space=`` where it is."""
    assert "space" not in composed("train_supernet")


@pytest.mark.parametrize("entry", ["search_subnet", "retrain_subnet"])
def test_settings_of_the_data_can_be_changed_later(entry: str) -> None:
    assert composed(entry, "+data.root=/other/place").data == {"root": "/other/place"}


# Objects -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "name"), options("space"))
def test_a_space_is_made_to_fit_the_data(group: str, name: str) -> None:
    config = composed("train_supernet", f"+{group}={name}").space
    data = toy_data()
    space = make_space(config, data)
    assert isinstance(space, SearchSpace)
    assert space.num_classes == 2
    assert space.max_resolution == 32
    assert from_definition(space.definition).definition == space.definition


@pytest.mark.parametrize(("group", "name"), options("space"))
def test_a_space_has_every_argument_at_its_default(group: str, name: str) -> None:
    file = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    assert isinstance(file, dict)
    parameters = list(inspect.signature(find_class(str(file.pop("_target_"))).__init__).parameters.values())[1:]
    assert list(file) == [parameter.name for parameter in parameters]
    for parameter in parameters:
        if parameter.name in FROM_DATA:
            assert file[parameter.name] is None
        else:
            default = parameter.default
            assert file[parameter.name] == (list(default) if isinstance(default, tuple) else default), parameter.name


@pytest.mark.parametrize(("group", "name"), options("sampler"))
def test_a_sampler(group: str, name: str) -> None:
    config = composed("train_supernet", f"{group}={name}").sampler
    space = find_class("oneshot.spaces.NASBenchMacro")()
    sampler = hydra.utils.instantiate(config, space=space, seed=3)
    assert isinstance(sampler, Sampler)
    assert (sampler.space, sampler.seed) == (space, 3)
    assert sampler.sample(0)
    parameters = inspect.signature(type(sampler).__init__).parameters
    own = {key: value.default for key, value in parameters.items() if key not in ("self", "space", "seed")}
    assert {key: value for key, value in config.items() if key != "_target_"} == own


@pytest.mark.parametrize(("group", "name"), options("predictor"))
def test_a_predictor(group: str, name: str, shared_data: Path) -> None:
    config = OmegaConf.load(CONF / group / f"{name}.yaml")
    settings_in_file = OmegaConf.to_container(config)
    assert isinstance(settings_in_file, dict)
    if settings_in_file.pop("_target_").endswith(".load"):
        assert settings_in_file == {"path": None}
        path, space = shared_data / "ofa" / "acc_predictor.pth", find_class("oneshot.spaces.OFAMobileNetV3")()
        predictor = hydra.utils.instantiate(config, path=path, space=space)
    else:
        predictor = hydra.utils.instantiate(config)
        parameters = inspect.signature(type(predictor).__init__).parameters
        own = {key: value.default for key, value in parameters.items() if key != "self"}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in own.items()}
        assert settings_in_file == plain
        predictor.fit(np.eye(12, dtype=np.float32), np.arange(12.0))
        assert predictor.predict(np.eye(12, dtype=np.float32)).shape == (12,)
    assert isinstance(predictor.state_dict(), dict)


@pytest.mark.parametrize(("group", "name"), options("search"))
def test_a_strategy(group: str, name: str) -> None:
    config = composed("search_subnet", f"{group}={name}").search
    strategy = hydra.utils.instantiate(config)
    assert strategy.budget == 1000
    assert dataclasses.asdict(strategy) == {key: value for key, value in config.items() if key != "_target_"}
    assert strategy == type(strategy)()


@pytest.mark.parametrize("group", CLASS_OF)
def test_settings_repeat_the_defaults_of_their_class(group: str) -> None:
    """So that a script with the class and a command without settings do the same."""
    config = composed(COMMAND_OF[group])
    extra = {"seed": config.seed} if group == "trainer" else {}
    assert settings(CLASS_OF[group], config, group, **extra) == CLASS_OF[group]()
    fields = {field.name for field in dataclasses.fields(CLASS_OF[group])}
    assert {str(key) for key in config[group]} | set(extra) == fields


def test_retraining_differs_from_training_in_the_learning_rate_only() -> None:
    training, retraining = composed("train_supernet").trainer, composed("retrain_subnet").trainer
    assert {name for name in training if training[name] != retraining[name]} == {"lr"}
    assert training.keys() == retraining.keys()
    assert composed("retrain_subnet", "trainer.lr=0.3").trainer.lr == 0.3


def test_the_seed_is_that_of_the_command() -> None:
    for entry in ("train_supernet", "retrain_subnet"):
        config = composed(entry, "seed=7")
        assert settings(TrainSettings, config, "trainer", seed=config.seed).seed == 7


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("trainer.weight_decay=1e-3", 1e-3),
        ("trainer.lr=1", 1.0),
        ("trainer.clip_grad=null", None),
        ("trainer.ema_decay=0.99", 0.99),
        ("trainer.optimizer=adamw", "adamw"),
        ("trainer.amp=false", False),
        ("trainer.threads=2", 2),
    ],
)
def test_a_setting_reaches_the_class(override: str, value: object) -> None:
    config = composed("train_supernet", override)
    made = settings(TrainSettings, config, "trainer", seed=0)
    found = getattr(made, override.partition("=")[0].removeprefix("trainer."))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.epochs=many", r"trainer\.epochs: .*'many'"),
        ("trainer.epochs=1.5", r"trainer\.epochs: .*1\.5"),
        ("trainer.lr=fast", r"trainer\.lr: .*'fast'"),
        ("trainer.amp=2.5", r"trainer\.amp: .*2\.5"),
        ("trainer.epochs=0", r"trainer\.epochs is at least 1, not 0"),
        ("trainer.epochs=null", r"trainer\.epochs"),
        ("+trainer.epoch=5", r"epoch"),
    ],
)
def test_settings_of_the_wrong_type_are_refused_by_name(override: str, message: str) -> None:
    config = composed("train_supernet", override)
    with pytest.raises(ValueError, match=message):
        settings(TrainSettings, config, "trainer", seed=0)
