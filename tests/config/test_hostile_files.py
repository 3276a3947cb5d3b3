"""Files that name what they should not, or hold garbage: nothing is run, nothing is imported, and the answer is one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_values import CANARY, SPACE, SYSTEM, TOUCH, WRITE, nested, one_line

from oneshot.config import make_data, make_sampler
from oneshot.config.building import PREDICTORS, STRATEGIES, build
from oneshot.data import ImageData
from oneshot.spaces.loading import from_definition

pytestmark = pytest.mark.usefixtures("canary")

DIGITS = "oneshot.data.digits"


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = value
    return value


HOSTILE_DATA: list[Any] = [
    WRITE,
    {"_target_": "oneshot.data.source_folder.Path.write_text", "_args_": [CANARY, "x"]},
    {"_target_": "oneshot.data.source_folder.os.system", "command": TOUCH},
    {"_target_": "oneshot.data.os.system", "_args_": [TOUCH]},
    {"_target_": "oneshot.data.__builtins__.eval", "_args_": [f"open({CANARY!r}, 'w')"]},
    SYSTEM,
    {"_target_": "builtins.exec", "_args_": [f"open({CANARY!r}, 'w')"]},
    {"_target_": "oneshot.data.digits.__globals__"},
    {"_target_": "oneshot.data.digits_"},
    {"_target_": "oneshot.data.digits "},
    {"_target_": "oneshot.data.Augmentation"},
    {"_target_": "oneshot.data.to_image_data"},
    {"_target_": "oneshot.data.source_digits.digits"},
    {"_target_": "hydra.utils.instantiate", "config": SYSTEM},
    {"_target_": ["oneshot.data.digits"]},
    {"_target_": {"_target_": "os.system", "command": TOUCH}},
    {"_target_": None},
    {"_target_": 7},
    {},
    [WRITE],
    "oneshot.data.digits",
    None,
    {"_target_": DIGITS, "_args_": [8]},
    {"_target_": DIGITS, "_partial_": True},
    {"_target_": DIGITS, "_recursive_": True},
    {"_target_": DIGITS, "_convert_": "all"},
    {"_target_": DIGITS, "_call_": TOUCH},
    {"_target_": DIGITS, "augmentation": WRITE},
    {"_target_": DIGITS, "augmentation": {"_target_": "oneshot.data.digits"}},
    {"_target_": DIGITS, "augmentation": {"_target_": "oneshot.data.Augmentation.__class__"}},
    {"_target_": DIGITS, "augmentation": {"_target_": "oneshot.data.Augmentation", "crop_scale": [SYSTEM, 1.0]}},
    {"_target_": DIGITS, "augmentation": {"_target_": "oneshot.data.Augmentation", "_partial_": True}},
    {"_target_": DIGITS, "image_size": SYSTEM},
    {"_target_": DIGITS, "image_size": "${oc.env:SECRET}"},
    {"_target_": DIGITS, "image_size": "${oc.decode:${oc.env:SECRET}}"},
    {"_target_": "oneshot.data.image_folder", "root": "${oc.env:HOME}"},
    {"_target_": "oneshot.data.image_folder", "root": "${now:%Y}"},
    {"_target_": DIGITS, "image_size": torch.zeros(3)},
    {"_target_": DIGITS, "image_size": "eight"},
    {"_target_": DIGITS, "mean": nested(3000)},
    {"_target_": DIGITS, "mean": endless()},
    {"_target_": DIGITS, ("image", "size"): 8},
    {"_target_": DIGITS, "imagesize": 8},
    {"_target_": "oneshot.data.timm_dataset", "name": "hfds/a/b", "reader_options": {"trust_remote_code": True}},
    {"_target_": "oneshot.data.timm_dataset", "root": ".", "reader_options": {"class_map": "evil.pkl"}},
    {"_target_": "oneshot.data.timm_dataset", "root": "x.tar", "reader_options": {"cache_tarinfo": True}},
    {"_target_": "oneshot.data.timm_dataset", "root": ".", "reader_options": SYSTEM},
]  # fmt: skip


@pytest.mark.parametrize("config", HOSTILE_DATA, ids=range(len(HOSTILE_DATA)))
def test_data_of_a_file(config: Any, tmp_path: Path) -> None:
    (tmp_path / "x.tar").touch()
    message = one_line(lambda: make_data(config))
    assert "17" not in message.replace("1,797", "")


def test_data_of_a_file_that_are_what_they_should_be() -> None:
    config = {"_target_": DIGITS, "image_size": 8, "max_train_images": 60, "held_out": 40, "test": 40}
    augmentation = {"_target_": "oneshot.data.Augmentation", "crop_scale": (0.5, 1.0)}
    data = make_data(config | {"augmentation": augmentation})
    assert isinstance(data, ImageData)
    assert data.augmentation.crop_scale == (0.5, 1.0)


# Everything else that configs make -----------------------------------------------------------------------------------

CONTROLLER = "oneshot.samplers.ControllerSampler"


@pytest.mark.parametrize(
    "config",
    [
        SYSTEM,
        {"_target_": "oneshot.samplers.base.random.os.system", "command": TOUCH},
        {"_target_": "oneshot.samplers.Sampler"},
        {"_target_": "oneshot.samplers.UniformSampler.rng"},
        {"_target_": "oneshot.policies.PolicySettings"},
        {"_target_": "oneshot.samplers.UniformSampler", "_args_": []},
        {"_target_": "oneshot.samplers.UniformSampler", "space": SYSTEM},
        {"_target_": "oneshot.samplers.UniformSampler", "seed": 3},
        {"_target_": "oneshot.samplers.UniformSampler", "num_paths": "two"},
        {"_target_": CONTROLLER, "policy": SYSTEM},
        {"_target_": CONTROLLER, "policy": {"_target_": "oneshot.policies.LSTMPolicy"}},
        {"_target_": CONTROLLER, "policy": {"_target_": "oneshot.policies.PolicySettings", "choices": {"*": SYSTEM}}},
        {"_target_": CONTROLLER, "policy": {"_target_": "oneshot.policies.PolicySettings", "choices": {"_args_": 1}}},
        {"_target_": CONTROLLER, "learning": {"_target_": "oneshot.policies.ReinforceSettings", "_partial_": True}},
        {"_target_": CONTROLLER, "cost": "${oc.env:SECRET}"},
        None,
        [],
    ],
)
def test_a_sampler_of_a_file(config: Any) -> None:
    one_line(lambda: make_sampler(config, SPACE, 0))


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (STRATEGIES, {"_target_": "oneshot.search.Strategy"}),
        (STRATEGIES, {"_target_": "oneshot.search.Problem"}),
        (STRATEGIES, {"_target_": "oneshot.search.evolution.random.os.system", "command": TOUCH}),
        (STRATEGIES, {"_target_": "oneshot.search.ControllerSearch", "policy": SYSTEM}),
        (STRATEGIES, {"_target_": "oneshot.search.Evolution", "_partial_": True}),
        (PREDICTORS, {"_target_": "oneshot.predictors.PublishedPredictor"}),
        (PREDICTORS, {"_target_": "oneshot.predictors.published.Path.touch", "self": CANARY}),
        (PREDICTORS, {"_target_": "oneshot.predictors.RidgePredictor", "penalties": SYSTEM}),
        (PREDICTORS, {"_target_": "oneshot.predictors.MLPPredictor", "hidden": "wide"}),
    ],
)
def test_a_strategy_or_predictor(kind: Any, config: Any) -> None:
    one_line(lambda: build(config, kind, "part"))


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"_target_": "evil_space.MySpace"}, "add code=evil_space.py .*trust"),
        ({"_target_": "evil_space"}, "is not a search space"),
        ({"_target_": "os.system", "command": TOUCH}, "is not a search space"),
        ({"_target_": "oneshot.spaces.base.SearchSpace"}, "is not a search space"),
        ({"_target_": "oneshot.spaces.ofa.OFAMobileNetV3.restrict"}, "is not a search space"),
        ({"_target_": "oneshot.spaces.base.inspect.os.system"}, "is not a search space"),
        ({"_target_": "oneshot.spaces.OFAMobileNetV"}, "did you mean 'oneshot.spaces.OFAMobileNetV3'"),
        ({"_target_": ["oneshot.spaces.OFAMobileNetV3"]}, "is not a search space"),
        ({"_target_": "a.b" * 5000}, "is not a search space"),
        ({}, "is not a search space"),
        ([], r"not by \[\]"),
        ({"_target_": "oneshot.spaces.NASBenchMacro", "_args_": [3]}, "no argument '_args_'"),
        ({"_target_": "oneshot.spaces.NASBenchMacro", "channel": 3}, "did you mean 'channels'"),
        ({"_target_": "oneshot.spaces.NASBenchMacro", "channels": SYSTEM | {"a": torch.zeros(1)}}, "no plain value"),
        ({"_target_": "oneshot.spaces.NASBenchMacro", "channels": "${oc.env:SECRET}"}, "no plain value"),
        ({"_target_": "oneshot.spaces.OFAMobileNetV3", "depths": nested(100)}, "no plain value"),
    ],
)
def test_a_space_of_a_file(definition: Any, message: str) -> None:
    text = one_line(lambda: from_definition(definition))
    assert re.search(message, text), text
