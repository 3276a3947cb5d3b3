"""Training a supernet: from a space, data and settings to a run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pipeline_runs import DATA, make_settings, train
from toy_spaces import ToySpace, Unreadable
from training_runs import copy_state, differences, records

from oneshot.evaluation import Evaluator, ScoreSettings
from oneshot.pipeline.folders import load_supernet
from oneshot.pipeline.train import SupernetTraining, train_supernet


def test_what_a_run_leaves(tmp_path: Path) -> None:
    supernet = train(tmp_path, epochs=2, eval_every=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        "checkpoints",
        "metrics.jsonl",
        "tensorboard",
        "training.html",
    ]
    evaluations = [record for record in records(tmp_path) if "held_out_accuracy/largest" in record]
    assert [record["step"] for record in evaluations] == [6, 12]
    names = {
        f"held_out_{measure}/{arch}" for measure in ("accuracy", "loss") for arch in ("largest", "smallest", "random")
    }
    assert evaluations[0].keys() == {"step"} | names
    trained = load_supernet(tmp_path)
    assert not differences(copy_state(trained.supernet), copy_state(supernet))
    score = Evaluator(trained.supernet, DATA, ScoreSettings(64), device=torch.device("cpu"))(supernet.space.largest)
    assert evaluations[-1]["held_out_accuracy/largest"] == score.accuracy
    assert evaluations[-1]["held_out_loss/largest"] == pytest.approx(score.loss)


def test_the_average_is_what_is_returned_and_read_back(tmp_path: Path) -> None:
    averaged = train(tmp_path / "averaged", epochs=2, ema_decay=0.8)
    plain = train(tmp_path / "plain", epochs=2)
    assert differences(copy_state(averaged), copy_state(plain))
    assert not differences(copy_state(load_supernet(tmp_path / "averaged").supernet), copy_state(averaged))


def test_neither_test_nor_held_out_images_are_trained_on(tmp_path: Path) -> None:
    closed = replace(DATA, test=Unreadable(48, 8))
    assert not differences(
        copy_state(train(tmp_path / "closed", closed, epochs=1)), copy_state(train(tmp_path / "open", epochs=1))
    )
    relabelled = replace(DATA, held_out=DATA.held_out.subset(torch.arange(10)))
    assert not differences(
        copy_state(train(tmp_path / "fewer", relabelled, epochs=1)),
        copy_state(load_supernet(tmp_path / "open").supernet),
    )


def test_what_does_not_fit_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    space = ToySpace(num_classes=7)
    with pytest.raises(ValueError, match="the space has 7 classes, the data 4"):
        train_supernet(space, DATA, SupernetTraining(make_settings()), tmp_path)
    with pytest.raises(ValueError, match="calibration_images is at least 2, not 0"):
        SupernetTraining(make_settings(), calibration_images=0)
    with pytest.raises(ValueError, match=r"trainer\.optimizer 'sgdd'"):
        train(tmp_path, optimizer="sgdd")
    with pytest.raises(ValueError, match="device 'tpu9' cannot be used"):
        train(tmp_path, device="tpu9")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_number_of_threads(tmp_path: Path) -> None:
    train(tmp_path, epochs=1, threads=2)
    assert torch.get_num_threads() == 2
