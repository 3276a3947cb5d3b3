"""Averages of the weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import make_settings, make_trainer

from oneshot.training import PhaseSettings, TrainSettings


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_mean_is_that_of_the_ends_of_the_last_epochs(tmp_path: Path, number: int) -> None:
    ends: list[dict[str, torch.Tensor]] = []
    trainer = make_trainer(tmp_path, epochs=4, average_epochs=number, eval_every=1)
    end_epoch = trainer.task.end_epoch

    def watch(*given: Any) -> Any:
        ends.append({name: tensor.clone() for name, tensor in trainer.task.module.named_parameters()})
        return end_epoch(*given)

    trainer.task.end_epoch = watch  # type: ignore[method-assign]
    shown = []
    trainer.evaluate = lambda module: shown.append(module is trainer.task.module) or {}
    averaged = trainer.run()
    assert len(ends) == 4
    assert shown == [True] * (4 - number) + [False] * number
    for name, tensor in averaged.named_parameters():
        assert torch.allclose(tensor, torch.stack([end[name] for end in ends[-number:]]).mean(0), atol=1e-6)


def test_without_an_average_the_weights_themselves_rank(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    assert trainer.run() is trainer.task.module


@pytest.mark.parametrize("number", [0, 3])
def test_there_are_not_more_epochs_than_are_trained(number: int) -> None:
    with pytest.raises(ValueError, match=r"trainer\.average_epochs lies from 1 to the 2 epochs"):
        make_settings(epochs=2, average_epochs=number)


def test_there_is_one_average() -> None:
    with pytest.raises(ValueError, match="one average of the weights is kept"):
        TrainSettings(ema_decay=0.9, average_epochs=2)


def test_a_phase_averages_no_more_than_it_trains() -> None:
    assert PhaseSettings(epochs=2).apply(TrainSettings(epochs=9, average_epochs=5)).average_epochs == 2
