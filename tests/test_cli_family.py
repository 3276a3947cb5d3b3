"""The commands on a network that begins trained, as a user types them: what they choose by themselves and what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import timm
import torch

sys.path.insert(0, str(Path(__file__).parent / "training"))

from child_processes import run_program
from command_lines import expect_error, expect_success

from oneshot.training import list_checkpoints, load_checkpoint

TRAIN = [
    "+space=timm",
    "space.model=test_resnet",
    "space.weights=weights.pt",
    "space.width_ratios=[0.5,1.0]",
    "space.input_ratios=[0.75,1.0]",
    "data.image_size=32",
    "data.max_train_images=50",
    "data.held_out=40",
    "data.test=40",
    "trainer.device=cpu",
    "trainer.batch_size=16",
    "trainer.eval_every=0",
    "phases.whole.min_steps=16",
    "phases.sizes.min_steps=20",
    "calibration_images=32",
    "run=family",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights of seven classes, of some size, and the family of the digits."""
    folder = tmp_path_factory.mktemp("family")
    network = timm.create_model("test_resnet", num_classes=7)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.03)
    torch.save(network.state_dict(), folder / "weights.pt")
    (folder / "output.txt").write_text(expect_success(run_program("train_supernet.py", TRAIN, folder)).stdout)
    return folder


def test_few_images_are_learned_for_longer_and_at_a_rate_that_suits_the_weights(trained: Path) -> None:
    output = (trained / "output.txt").read_text()
    assert "trainer=pretrained, for weights that are trained already" in output
    assert "trainer.lr=0.0003, by the size of the network's weights" in output
    assert "phases.whole.epochs=6 in place of 4, for phases.whole.min_steps=16: an epoch of 50 images has 3" in output
    assert "phases.sizes.epochs=7 in place of 5" in output
    state = load_checkpoint(list_checkpoints(trained / "family" / "checkpoints")[0])
    config = state["config"]
    assert (config["trainer"]["lr"], config["trainer"]["epochs"]) == (3e-4, None)
    assert [phase["epochs"] for phase in config["phases"].values()] == [6, 7]
    assert state["step"] == state["total_steps"] == 3 * (6 + 7)


def test_a_finished_family_is_not_trained_again(trained: Path) -> None:
    assert "continuing at step 39 of 39" in expect_success(run_program("train_supernet.py", TRAIN, trained)).stdout


def test_what_was_found_is_trained_on_at_half_of_that_rate(trained: Path) -> None:
    arguments = ["supernet=family", "cost.max_macs=60%", "search=knapsack", "search.num_samples=2"]
    arguments += ["evaluation.device=cpu", "evaluation.repair_images=64", "run=search"]
    expect_success(run_program("search_subnet.py", arguments, trained))
    arguments = [
        "subnet=search",
        "trainer.device=cpu",
        "trainer.batch_size=16",
        "repaired.min_steps=23",
        "run=retrained",
    ]
    output = expect_success(run_program("retrain_subnet.py", arguments, trained)).stdout
    assert "for repaired weights: trainer.epochs=8, trainer.optimizer=adamw" in output  # 23 steps, three an epoch
    (line,) = [line for line in output.splitlines() if "for repaired weights" in line]
    rate = float(line.partition("trainer.lr=")[2].partition(",")[0])
    assert 1e-4 <= rate <= 2e-4
    assert json.loads((trained / "retrained" / "retrain.json").read_text())["epochs"] == 8


def test_a_rate_for_another_optimizer_is_asked_for(trained: Path) -> None:
    arguments = [*TRAIN[:-1], "trainer.optimizer=sgd", "run=other"]
    expect_error(
        run_program("train_supernet.py", arguments, trained),
        "train_supernet.py",
        r"trainer\.lr=null stands for a rate of adamw: give a number for trainer\.optimizer=sgd",
    )


def test_epochs_that_are_asked_for_stay(trained: Path) -> None:
    arguments = [*TRAIN[:-1], "phases.whole.epochs=1", "phases.sizes.epochs=1", "run=short"]
    output = expect_success(run_program("train_supernet.py", arguments, trained)).stdout
    assert "in place of" not in output
    assert "whole 1, sizes 1" in output
