"""The configuration files: each says what it is, composes with its command, makes its object, and repeats the code's defaults."""

from __future__ import annotations

import dataclasses
import functools
import importlib
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

from oneshot.config import (
    CONF,
    cost_settings,
    data_settings,
    make_sampler,
    make_space,
    make_strategy,
    moved_data,
    patterns_of,
    phase_settings,
    plain,
    settings,
)
from oneshot.config.building import PREDICTORS, build
from oneshot.config.keys import no_setting
from oneshot.costs import CostSettings, CostTable, RelativeCostSettings
from oneshot.data import Augmentation, ImageData, TensorImages
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
from oneshot.training import Distillation, TrainSettings, plan_phases

FILES = sorted(CONF.rglob("*.yaml"))
ENTRIES = ("train_supernet", "search_subnet", "retrain_subnet", "export_subnet", "measure_latency")
GLOBAL = "# @package _global_"
PRESETS = {path.stem for path in (CONF / "trainer").glob("*.yaml") if path.read_text().startswith(GLOBAL)}
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


# Presets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_sets_what_it_names_and_makes_its_objects(name: str) -> None:
    config = composed("train_supernet", f"trainer={name}")
    file = OmegaConf.to_container(OmegaConf.load(CONF / "trainer" / f"{name}.yaml"))
    assert isinstance(file, dict)
    assert file.pop("defaults")[0] == "/trainer/default@trainer"
    container = OmegaConf.to_container(config)
    assert isinstance(container, dict)
    for group, values in file.items():
        assert values.items() <= container[group].items() if isinstance(values, dict) else container[group] == values
    phases = phase_settings(config)
    epochs = {"epochs": 1} if config.trainer.epochs is None else {}
    settings(TrainSettings, config, "trainer", seed=0, **epochs)
    settings(Distillation, config, "distillation")
    space = find_class("oneshot.spaces.OFAMobileNetV3")(num_classes=10, resolutions=(24, 28, 32))
    if name == "drnas":  # which keeps 4 options of 8
        space = find_class("oneshot.spaces.DARTS")()
    assert plan_phases(phases, space).keys() == phases.keys()
    sampler = plain(config.sampler) | ({"num_observations": 50} if "num_observations" in config.sampler else {})
    assert make_sampler(sampler, space, 0).sample(0)


def test_progressive_shrinking_has_the_published_values() -> None:
    """The ImageNet schedule of train_ofa_net.py; the small one has its phases, in its order."""
    config = composed("train_supernet", "trainer=progressive_shrinking_imagenet")
    assert (config.trainer.lr, config.trainer.lr_batch_size, config.trainer.weight_decay) == (2.6, 2048, 3e-5)
    phases = phase_settings(config)
    rows = {name: (p.epochs, p.lr, p.warmup_epochs, p.num_paths, p.distill) for name, p in phases.items()}
    assert rows == {
        "full": (180, None, None, None, False),
        "kernel": (125, 0.96, 5, 1, True),
        "depth1": (25, 0.08, None, 2, True),
        "depth2": (125, 0.24, 5, 2, True),
        "expand1": (25, 0.08, None, 4, True),
        "expand2": (125, 0.24, 5, 4, True),
    }
    assert (config.distillation.ratio, config.distillation.label_weight) == (1.0, 1.0)
    small = phase_settings(composed("train_supernet", "trainer=progressive_shrinking"))
    assert {n: (p.largest, p.num_paths, p.distill, p.sort_channels) for n, p in small.items()} == {
        n: (p.largest, p.num_paths, p.distill, p.sort_channels) for n, p in phases.items()
    }


def test_single_stage_presets_have_the_published_values() -> None:
    for name, kind, sampler in (
        ("attentive_nas_imagenet", "kl", "AttentiveSampler"),
        ("alphanet_imagenet", "alpha", "SandwichSampler"),
    ):
        config = composed("train_supernet", f"trainer={name}", "+space=attentive_nas")
        trainer = config.trainer
        assert (trainer.epochs, trainer.lr, trainer.lr_batch_size, trainer.weight_decay) == (360, 0.1, 256, 1e-5)
        assert (trainer.clip_grad, trainer.clip_mode, trainer.warmup_epochs) == (1.0, "value", 5.0)
        assert (config.distillation.kind, config.sampler.num_random) == (kind, 2)
        assert config.sampler._target_.endswith(sampler)
        assert (config.space.dropout, config.space.drop_path) == (0.2, 0.2)


def test_options_of_choices_with_dots_in_their_names() -> None:
    config = composed(
        "train_supernet", "+space=ofa", "+options.stage1.depth=[2]", "+options.stage2.block1={kernel: [3, 5]}"
    )
    assert patterns_of(config.options) == {"stage1.depth": [2], "stage2.block1.kernel": [3, 5]}
    with pytest.raises(ValueError, match="options are lists by pattern of choice names, not 3"):
        patterns_of(3)


def test_a_limit_can_be_a_list() -> None:
    limited, costs = cost_settings(composed("search_subnet", "cost.max_params=5e5", "cost.max_macs=[8e6,3e6]"))
    assert (limited, [cost.limits for cost in costs]) == (
        "macs",
        [{"macs": 3e6, "params": 5e5}, {"macs": 8e6, "params": 5e5}],
    )
    limited, (cost,) = cost_settings(composed("search_subnet", "cost.max_latency_ms=7"))
    assert (limited, cost.limits) == ("latency_ms", {"latency_ms": 7.0})
    limited, (cost,) = cost_settings(composed("search_subnet"))
    assert (limited, cost.limits) == ("macs", {})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("cost.max_macs=[1e6]", "cost.max_params=[1e6]"), "not both cost.max_macs and cost.max_params"),
        (("cost.max_macs=[]",), "cost.max_macs is an empty list"),
        (("cost.max_macs=[1e6,big]",), r"cost.max_macs is a list of numbers, not \[1000000.0, 'big'\]"),
        (("cost.max_macs=[1e6,-1]",), "cost.max_macs is above 0"),
        (("cost.max_macs=[1e6,50%]",), "cost.max_macs is a list of percentages or one of numbers"),
        (("cost.max_macs=[50%,25%,50%]",), "cost.max_macs is a list of different limits, not 50%, 25%, 50%"),
        (("cost.max_params=[1e6,1000000]",), "cost.max_params is a list of different limits, not 1000000.0, 1000000"),
        (("cost.max_macs=half",), "cost.max_macs: Value 'half'"),
        (("cost.max_macs=0%",), r"cost\.max_macs is a percentage above 0, such as 50%, not '0%'"),
        (("cost.max_macs=-5%",), r"cost\.max_macs is a percentage above 0, such as 50%, not '-5%'"),
        (("cost.max_params=[50%,half%]",), r"cost\.max_params is a percentage above 0, such as 50%, not 'half%'"),
        (("cost.max_macs=150%",), "cost.max_macs=150% limits nothing"),
        (("cost.max_params=[50%,100.5%]",), "cost.max_params=100.5% limits nothing"),
        (("cost.max_latency_ms=50%",), "cost.max_latency_ms is a number of milliseconds"),
    ],
)
def test_lists_of_limits_that_are_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cost_settings(composed("search_subnet", *overrides))


def test_a_limit_can_be_a_percentage_of_the_original() -> None:
    whole = {"macs": 2e6, "params": 1e5}
    limited, costs = cost_settings(composed("search_subnet", "cost.max_macs=[75%,12.5%]", "cost.max_params=40 %"))
    assert limited == "macs"
    assert all(isinstance(cost, RelativeCostSettings) for cost in costs)
    assert [cost.of_original(whole).limits for cost in costs if isinstance(cost, RelativeCostSettings)] == [
        {"macs": 0.25e6, "params": 4e4},
        {"macs": 1.5e6, "params": 4e4},
    ]
    assert [cost.of_original(whole).written for cost in costs if isinstance(cost, RelativeCostSettings)] == [
        {"macs": "12.5%", "params": "40%"},
        {"macs": "75%", "params": "40%"},
    ]
    assert CostTable(find_class("oneshot.spaces.TimmSpace")("test_efficientnet", 5, 32)).original().macs > 0  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="NASBenchMacro was made of none: give the limit as a number"):
        CostTable(find_class("oneshot.spaces.NASBenchMacro")()).original()


def test_what_is_null_of_the_data_is_as_the_trained_weights_expect(caplog: pytest.LogCaptureFixture) -> None:
    overrides = ["+space=timm", "space.model=tf_efficientnet_lite0", "space.weights=lite0.pt", "data.std=[0.1,0.2,0.3]"]
    with caplog.at_level("INFO"):
        chosen = data_settings(composed("train_supernet", *overrides))
    assert (chosen["mean"], chosen["std"]) == ([0.5, 0.5, 0.5], [0.1, 0.2, 0.3])
    assert "data.mean=[0.5, 0.5, 0.5]" in caplog.text
    assert "data.std" not in caplog.text
    for others in (overrides[:2], ["+space=ofa"]):
        assert data_settings(composed("train_supernet", *others))["mean"] is None
    for typed, usual in (([], 0.875), (["data.crop_pct=0.9"], None)):
        found = data_settings(composed("train_supernet", *overrides, "data=image_folder", "data.root=.", *typed))
        assert found["usual_crop_pct"] == usual


def test_no_setting_that_is_far_off_is_suggested() -> None:
    known = ["space.resolution", "trainer.epochs", "search.population"]
    assert no_setting("evaluation", known) == "there is no setting 'evaluation'"
    assert no_setting("epoch", known) == "there is no setting 'epoch'; did you mean 'trainer.epochs'?"
    known = ["phases.full.epochs", "phases.kernel.epochs", *known]
    assert no_setting("phases.kernels.epochs", known).endswith("did you mean 'phases.kernel.epochs'?")
    assert no_setting("epochs", known).endswith("did you mean 'trainer.epochs'?")


def test_how_elastic_a_network_is_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    config = composed("train_supernet", "+space=timm", "space.model=test_vit")
    with caplog.at_level("INFO"):
        space = make_space(config.space, toy_data())
        assert caplog.text.count("of the multiply-accumulates in elastic layers; 6 blocks with elastic width") == 1
        assert from_definition(space.definition).title == "test_vit"  # as every step reads it from a file
    assert caplog.text.count("in elastic layers") == 1


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
        ("trainer.epochs=-1", r"trainer\.epochs is at least 0, not -1"),
        ("trainer.epochs=null", r"trainer\.epochs"),
        ("+trainer.epoch=5", r"epoch"),
    ],
)
def test_settings_of_the_wrong_type_are_refused_by_name(override: str, message: str) -> None:
    config = composed("train_supernet", override)
    with pytest.raises(ValueError, match=message):
        settings(TrainSettings, config, "trainer", seed=0)
