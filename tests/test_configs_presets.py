"""Presets of trainers, and how single settings are written, refused and reach the code."""

from __future__ import annotations

import pytest
from config_files import PRESETS, composed, toy_data
from omegaconf import OmegaConf

from oneshot.config import (
    CONF,
    cost_settings,
    data_settings,
    make_sampler,
    make_space,
    patterns_of,
    phase_settings,
    plain,
    settings,
)
from oneshot.config.keys import no_setting
from oneshot.costs import CostTable, RelativeCostSettings
from oneshot.spaces.loading import find_class, from_definition
from oneshot.training import Distillation, TrainSettings, plan_phases

pytestmark = pytest.mark.usefixtures("fresh_hydra")


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
    left_open = {"epochs": 1, "lr": 0.1}
    settings(
        TrainSettings, config, "trainer", seed=0,
        **{name: value for name, value in left_open.items() if config.trainer[name] is None},
    )  # fmt: skip
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
