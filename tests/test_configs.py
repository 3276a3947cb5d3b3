"""The configuration files: each says what it is, composes with its command, makes its object, and repeats the code's defaults."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from config_files import PRESETS, composed, toy_data
from omegaconf import OmegaConf

from oneshot.config import (
    CONF,
    make_sampler,
    make_space,
    make_strategy,
    moved_data,
    plain,
    settings,
)
from oneshot.config.building import PREDICTORS, build
from oneshot.costs import CostSettings
from oneshot.pipeline.retrain import RetrainSettings
from oneshot.pipeline.search_settings import (
    CombinationSettings,
    EvaluationSettings,
    PredictionSettings,
    RankingSettings,
)
from oneshot.pipeline.untrained_search import UntrainedSettings
from oneshot.policies import PolicySettings, ReinforceSettings
from oneshot.samplers import ArchitectureLearning, DifferentiableSampler, Sampler, Softmax
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.loading import find_class, from_definition
from oneshot.training import Distillation, TrainSettings

pytestmark = pytest.mark.usefixtures("fresh_hydra")


FILES = sorted(CONF.rglob("*.yaml"))
ENTRIES = ("train_supernet", "search_subnet", "retrain_subnet", "export_subnet", "measure_latency")
COMMAND_OF = {
    "data": "train_supernet",
    "distillation": "train_supernet",
    "sampler": "train_supernet",
    "space": "train_supernet",
    "trainer": "train_supernet",
    "cost": "search_subnet",
    "evaluation": "search_subnet",
    "predictor": "search_subnet",
    "prediction": "search_subnet",
    "ranking": "search_subnet",
    "combination": "search_subnet",
    "untrained": "search_subnet",
    "search": "search_subnet",
    "retrain": "retrain_subnet",
}
CLASS_OF: dict[str, type[Any]] = {
    "trainer": TrainSettings,
    "cost": CostSettings,
    "distillation": Distillation,
    "prediction": PredictionSettings,
    "ranking": RankingSettings,
    "combination": CombinationSettings,
    "untrained": UntrainedSettings,
    "evaluation": EvaluationSettings,
    "retrain": RetrainSettings,
}
POLICY_DEFAULTS = {"policy": PolicySettings, "learning": ReinforceSettings}
FROM_DATA = {"num_classes", "resolution", "resolutions"}
REQUIRED = {"timm": "space.model=test_efficientnet", "network": "space.build=torchvision:squeezenet1_1"}


def options(*groups: str) -> list[Any]:
    """A parameter for every file of these groups."""
    paths = [path for group in groups for path in sorted((CONF / group).glob("*.yaml"))]
    return [pytest.param(path.parent.name, path.stem, id=f"{path.parent.name}={path.stem}") for path in paths]


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_it_opens_with_what_it_is(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package ")]
    assert re.fullmatch(r"# \S.{30,}", lines[0])
    assert "TODO" not in path.read_text(encoding="utf-8")


def test_every_file_belongs_to_a_command() -> None:
    assert {path.parent.name for path in FILES if path.parent != CONF} == {*COMMAND_OF, "experiment", "regulariser"}
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
    if name in PRESETS:
        return  # tested below
    override = f"{'+' if group == 'space' else ''}{group}={name}"
    config = composed(COMMAND_OF[group], override)
    file = OmegaConf.load(CONF / group / f"{name}.yaml")
    expected = OmegaConf.merge(
        *(OmegaConf.load(CONF / group / f"{base}.yaml") for base in file.pop("defaults", [])[:-1]), file
    )
    assert config[group] == expected
    rest = composed(COMMAND_OF[group])
    for other in rest:
        if other not in (group, "run"):
            assert config[other] == rest[other]


def test_the_space_is_not_among_the_defaults() -> None:
    """Hydra refuses ``+space=`` where it is."""
    assert "space" not in composed("train_supernet")


@pytest.mark.parametrize("entry", ["search_subnet", "retrain_subnet"])
def test_settings_of_the_data_can_be_changed_later(entry: str) -> None:
    for typed in ("data.root=/other/place", "+data.root=/other/place"):
        assert moved_data({"root": "here", "download": True}, composed(entry, typed).data) == {
            "root": "/other/place",
            "download": True,
        }


# Objects -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "name"), options("space"))
def test_a_space_is_made_to_fit_the_data(group: str, name: str) -> None:
    config = composed("train_supernet", f"+{group}={name}", *filter(None, [REQUIRED.get(name)])).space
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
            default = "???" if parameter.default is inspect.Parameter.empty else parameter.default
            assert file[parameter.name] == (list(default) if isinstance(default, tuple) else default), parameter.name


@pytest.mark.parametrize(("group", "name"), options("sampler"))
def test_a_sampler(group: str, name: str) -> None:
    config = composed("train_supernet", f"{group}={name}").sampler
    kind = {"p_darts": "DARTS", "pc_darts": "NASBench201", "i_darts": "NASBench201", "mask_connect": "NASBench201"}.get(
        name, "NASBenchMacro"
    )
    own = CONF / "space" / f"{name}.yaml"  # a sampler's settings for one space
    space = make_space(OmegaConf.load(own), toy_data()) if own.is_file() else find_class(f"oneshot.spaces.{kind}")()
    sampler = make_sampler(plain(config), space, 3)
    assert isinstance(sampler, Sampler)
    assert (sampler.space, sampler.seed) == (space, 3)
    assert sampler.sample(0)
    parameters = inspect.signature(type(sampler).__init__).parameters
    if isinstance(sampler, DifferentiableSampler):
        if name == "darts":  # of which the others differ where their papers do
            assert (sampler.relaxation, sampler.learning) == (Softmax(), ArchitectureLearning())
            assert (sampler.regularisers, sampler.threshold) == ({}, 0.0)
        assert list(config)[1:] == [key for key in parameters if key not in ("self", "space", "seed")]
        return
    if name in {path.stem for path in (CONF / "space").glob("*.yaml")}:
        return  # the published values of that space
    defaults = {key: value.default for key, value in parameters.items() if key not in ("self", "space", "seed")}
    defaults |= {key: made() for key, made in POLICY_DEFAULTS.items() if key in defaults}
    given = hydra.utils.instantiate({**config, "_target_": "builtins.dict", "_convert_": "all"})
    assert given == defaults


@pytest.mark.parametrize(
    ("sampler", "settings", "message"),
    [
        (
            "darts",
            {"+regulariser": "beta_decay", "sampler.regularisers.beta_decay.weight": "-1"},
            "is at least 0, not -1",
        ),
        ("fair_darts", {"sampler.regularisers.zero_one.norm": "l3"}, "is l1 or l2, not 'l3'"),
        (
            "darts",
            {"+regulariser": "expected_macs", "sampler.regularisers.expected_macs.reference": "half"},
            "is a number of",
        ),
        (
            "darts",
            {"+regulariser": "smooth_random", "sampler.regularisers.smooth.steps": "0.5"},
            "must be a whole number",
        ),
        ("gdas", {"sampler.relaxation.temperature_of.start": "0"}, "is above 0, not 0"),
        ("data", {"sampler.relaxation.num_draws": "0"}, "must be a whole number"),
        ("darts_minus", {"sampler.relaxation.beta": "0"}, "is above 0, not 0"),
        ("darts", {"sampler.learning.every": "0.5"}, "must be a whole number"),
        ("darts", {"+regulariser": "early_stopping", "sampler.learning.stopping.window": "2"}, "has a middle"),
        ("darts", {"sampler.skip_dropout": "little"}, "is a number, not 'little'"),
        ("darts", {"sampler.learning.lr": "small"}, "is a number, not 'small'"),
        ("gdas", {"sampler.relaxation.temperature_of.decay": "slow"}, "is a number, not 'slow'"),
        ("controller", {"sampler.policy.hidden_size": "0.5"}, "must be a whole number"),
        ("controller", {"sampler.learning.lr": "0"}, "is above 0, not 0"),
    ],
)
def test_a_part_that_is_refused_says_where_it_stands(sampler: str, settings: dict[str, str], message: str) -> None:
    """Once, before what is wrong with it."""
    words = [f"{name}={value}" for name, value in settings.items()]
    config = composed("train_supernet", f"sampler={sampler}", *words)
    with pytest.raises(ValueError, match=rf"^{re.escape(words[-1].partition('=')[0])} {message}"):
        make_sampler(plain(config.sampler), find_class("oneshot.spaces.NASBenchMacro")(), 0)


@pytest.mark.parametrize(("group", "name"), options("regulariser"))
def test_a_regulariser_joins_any_sampler_that_mixes(group: str, name: str) -> None:
    """In the place that its file names, with every setting at the default of its class or as in its paper."""
    file = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8")
    place = file.splitlines()[0].removeprefix("# @package sampler.")
    given = OmegaConf.create(file)
    needed = [f"sampler.{place}.reference=1e6"] if name == "expected_macs" else []
    if name == "expected_latency":
        needed = [f"sampler.{place}.latency_table=latencies"]
    config = composed("train_supernet", "sampler=drnas", f"+{group}={name}", *needed)
    assert set(config) == set(composed("train_supernet"))
    found = plain(OmegaConf.select(config.sampler, place))
    made = find_public(str(found.pop("_target_")))
    fields = {field.name: field for field in dataclasses.fields(made) if field.init}
    assert list(found) == list(fields)
    if name in ("beta_decay", "early_stopping", "smooth_random"):
        assert made(**found) == made()
    assert {key for key in given if OmegaConf.is_missing(given, key)} == {
        word.split("=")[0].rpartition(".")[2] for word in needed
    }
    if name != "expected_latency":
        sampler = make_sampler(
            plain(config.sampler), find_class("oneshot.spaces.NASBench201")(channels=4, num_cells=1), 3
        )
        assert isinstance(sampler, DifferentiableSampler)
        assert made in {type(sampler.learning.stopping), *map(type, sampler.regularisers.values())}


@pytest.mark.parametrize("name", ["beta_decay", "early_stopping"])
@pytest.mark.parametrize("sampler", ["uniform", "controller"])
def test_a_regulariser_needs_a_sampler_that_learns_by_gradient(name: str, sampler: str) -> None:
    config = composed("train_supernet", f"sampler={sampler}", f"+regulariser={name}")
    with pytest.raises(
        ValueError, match=r"\(\+regulariser=\.\.\.\) is for samplers .* by gradient, such as sampler=darts"
    ):
        make_sampler(plain(config.sampler), find_class("oneshot.spaces.NASBench201")(channels=4, num_cells=1), 3)


def find_public(target: str) -> type[Any]:
    package, _, name = target.rpartition(".")
    found: type[Any] = getattr(importlib.import_module(package), name)
    return found


@pytest.mark.parametrize(("group", "name"), options("predictor"))
def test_a_predictor(group: str, name: str, shared_data: Path) -> None:
    config = OmegaConf.load(CONF / group / f"{name}.yaml")
    settings_in_file = OmegaConf.to_container(config)
    assert isinstance(settings_in_file, dict)
    if settings_in_file.pop("_target_").endswith(".load"):
        assert settings_in_file == {"path": None}
        path, space = shared_data / "ofa" / "acc_predictor.pth", find_class("oneshot.spaces.OFAMobileNetV3")()
        predictor = build(plain(config) | {"path": str(path)}, PREDICTORS, "predictor", space=space)
    else:
        predictor = build(plain(config), PREDICTORS, "predictor")
        parameters = inspect.signature(type(predictor).__init__).parameters
        own = {key: value.default for key, value in parameters.items() if key != "self"}
        listed = {key: list(value) if isinstance(value, tuple) else value for key, value in own.items()}
        assert settings_in_file == listed
        predictor.fit(np.eye(12, dtype=np.float32), np.arange(12.0))
        assert predictor.predict(np.eye(12, dtype=np.float32)).shape == (12,)
    assert isinstance(predictor.state_dict(), dict)


@pytest.mark.parametrize(("group", "name"), options("search"))
def test_a_strategy(group: str, name: str) -> None:
    strategy = make_strategy(composed("search_subnet", f"{group}={name}"))
    budgets = {"derivation": 10, "exhaustive": 100_000, "knapsack": 20, "perturbation": 1}
    assert strategy.budget == budgets.get(name, 1000)
    assert strategy == type(strategy)()


@pytest.mark.parametrize("group", CLASS_OF)
def test_settings_repeat_the_defaults_of_their_class(group: str) -> None:
    """So that a script with the class and a command without settings do the same."""
    config = composed(COMMAND_OF[group])
    extra = {"seed": config.seed} if group == "trainer" else {}
    assert settings(CLASS_OF[group], config, group, **extra) == CLASS_OF[group]()
    fields = {field.name for field in dataclasses.fields(CLASS_OF[group])}
    assert {str(key) for key in config[group]} | set(extra) == fields


# Experiments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "name"), options("experiment"))
def test_an_experiment_sets_what_it_names_and_makes_its_objects(group: str, name: str) -> None:
    config = composed("train_supernet", f"+{group}={name}", "data.root=images")
    file = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    container = OmegaConf.to_container(config)
    assert isinstance(file, dict)
    assert isinstance(container, dict)
    for key, values in file.items():
        if key in ("defaults", "hydra"):
            continue
        for setting, value in values.items():
            given = container[key][setting]
            assert value.items() <= given.items() if isinstance(value, dict) else given == value, f"{key}.{setting}"
    settings(TrainSettings, config, "trainer", seed=config.seed)
    space = make_space(config.space, toy_data())
    assert make_sampler(plain(config.sampler), space, 0).sample(0)
    parts = file.get("hydra", {}).get("sweeper", {}).get("params", {})
    for choice, given in parts.items():
        pattern = choice.removeprefix("+options.")
        listed = re.findall(r"\w+", given)
        assert len(listed) == len(set(listed)) > 1
        assert sum(space.restrict({pattern: [option]}).size for option in listed) == space.size
