"""The blocks that shallower networks do without: measured once, by what they do, and kept with the space."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pipeline_runs import make_settings
from space_examples import images
from torch import nn
from toy_spaces import make_data

from oneshot.data import Augmentation
from oneshot.pipeline.folders import load_supernet
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.spaces import TimmSpace
from oneshot.spaces.block_changes import block_changes
from oneshot.supernet import Supernet

DATA = make_data(augmentation=Augmentation())


def quiet(model: nn.Module, *blocks: int) -> nn.Module:
    """Makes some blocks of a transformer give what they get."""
    for index in blocks:
        for layer in (model.blocks[index].attn.proj, model.blocks[index].mlp.fc2):  # type: ignore[index, union-attr]
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return model


def make_space(**arguments: Any) -> TimmSpace:
    return TimmSpace("test_vit", 4, 32, width_ratios=(0.5, 1.0), input_ratios=(1.0,), **arguments)


def test_what_a_block_changes_is_what_the_network_without_it_gives() -> None:
    torch.manual_seed(0)
    space = make_space()
    whole = quiet(space.network(space.largest).eval(), 3)
    x = images(space, space.largest, 5)
    changes = block_changes(whole, space.removable(), [x[:2], x[2:]])
    assert list(changes) == [f"blocks.{index}" for index in range(6)]
    assert changes["blocks.3"] == 0

    with torch.no_grad():
        without = nn.Sequential(*(block for index, block in enumerate(whole.blocks) if index != 1))  # type: ignore[arg-type]
        embedded = whole.norm_pre(whole.patch_drop(whole._pos_embed(whole.patch_embed(x))))  # type: ignore[operator]
        full, less = whole.blocks(embedded), without(embedded)  # type: ignore[operator]
    change = (less - full).flatten(1).norm(dim=1) / full.flatten(1).norm(dim=1)
    assert changes["blocks.1"] == pytest.approx(float(change.mean()), rel=1e-4)


def test_another_order_is_the_space_that_is_made_with_it() -> None:
    order = ["blocks.4", "blocks.1", "blocks.5", "blocks.2", "blocks.0", "blocks.3"]
    changed, made = make_space().with_removal(order), make_space(removal=order)
    assert changed.definition == made.definition
    assert changed.choices == made.choices
    torch.manual_seed(0)
    supernet = Supernet(changed)
    rng = random.Random(0)
    for arch in (changed.smallest, *(changed.sample(rng) for _ in range(3))):
        assert changed.arch(made.arch(arch.to_dict()).to_dict()) == arch
        gone = order[: 6 - arch.integer("blocks.depth")]
        extracted = supernet.extract(arch).eval()
        assert [f"blocks.{i}" for i, block in enumerate(extracted.blocks) if not list(block.parameters())] == sorted(
            gone
        )  # type: ignore[arg-type, union-attr]
        x = images(changed, arch)
        assert torch.equal(supernet.eval()(x, arch), extracted(x))
    narrow = changed.restrict({"*.width": (0.5,)}).with_removal(order[::-1])
    assert all(choice.options == (0.5,) for choice in narrow.choices if choice.name.endswith(".width"))


def test_training_measures_the_order_once_and_keeps_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "weights.pt"
    model = timm.create_model("test_vit", num_classes=4, img_size=32)
    torch.save(quiet(model, 4, 1).state_dict(), weights)
    space = make_space(weights=str(weights))

    def train(folder: str, **changes: Any) -> list[str]:
        training = SupernetTraining(
            make_settings(epochs=1, lr=1e-3), calibration_images=32, config={"seed": 0}, **changes
        )
        found = train_supernet(space, DATA, training, tmp_path / folder)
        removal: list[str] = found.supernet.space.definition["removal"]
        return removal

    with caplog.at_level("INFO"):
        order = train("run")
    assert sorted(order[:2]) == ["blocks.1", "blocks.4"]
    assert "blocks that go first" in caplog.text
    assert load_supernet(tmp_path / "run").supernet.space.definition["removal"] == order

    caplog.clear()
    torch.save(quiet(timm.create_model("test_vit", num_classes=4, img_size=32), 0, 5).state_dict(), weights)
    with caplog.at_level("INFO"):
        assert train("run") == order
        assert train("next", init=tmp_path / "run") == order
    assert "blocks that go first" not in caplog.text
