"""What is recorded of the steps since the last record."""

from __future__ import annotations

import time

import pytest
import torch

from oneshot.training.tasks import StepResult
from oneshot.training.window import Window


def test_evaluations_take_no_part_in_the_speed_and_leave_the_steps_before_them_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    window = Window(10, torch.device("cpu"))
    window.start()
    for loss in (4.0, 2.0):
        clock[0] += 1
        window.add(StepResult(torch.tensor(loss), torch.tensor(0.25)))
    with window.paused():
        clock[0] += 50
    clock[0] += 2
    window.add(StepResult(torch.tensor(0.0), torch.tensor(1.0)))
    assert window.means() == (2.0, 0.5, pytest.approx(30 / 4))


def test_steps_before_a_continuation_count_for_the_means_and_not_for_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    before = Window(10, torch.device("cpu"))
    before.start()
    before.add(StepResult(torch.tensor(4.0), torch.tensor(0.0)))
    window = Window(10, torch.device("cpu"))
    window.load_state_dict(before.state_dict())
    clock[0] += 1000
    window.start()
    clock[0] += 2
    window.add(StepResult(torch.tensor(2.0), torch.tensor(1.0)))
    assert window.means() == (3.0, 0.5, pytest.approx(10 / 2))
