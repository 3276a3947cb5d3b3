"""Runs that stop and go on: signals, errors, damaged checkpoints, and folders that hold something else."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_spaces import ToySpace, make_data, make_images
from training_runs import Scripted, copy_state, differences, make_settings, make_trainer, trained_steps

from oneshot.samplers import Sampler, UniformSampler
from oneshot.spaces.base import SearchSpace
from oneshot.training import Interrupted, RunPart, SubnetTask, Trainer, list_checkpoints, load_checkpoint

STEPS = 12


def at_step(step: int, act: Callable[[], object]) -> Callable[[SearchSpace], Sampler]:
    """A uniform sampler that calls ``act`` at the start of one step."""
    return lambda space: Scripted(space, UniformSampler(space).sample, lambda now: act() if now == step else None)


def final_weights(folder: Path, **settings: Any) -> dict[str, torch.Tensor]:
    return copy_state(make_trainer(folder, ToySpace(dropout=0.2), **settings).run())


def newest_step(folder: Path) -> int:
    return int(load_checkpoint(list_checkpoints(folder / "checkpoints")[0])["step"])


# Signals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_end_of_the_step_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    trainer = make_trainer(
        tmp_path / "run", ToySpace(dropout=0.2), at_step(6, lambda: signal.raise_signal(number)), log_every=1
    )
    with pytest.raises(Interrupted, match="stopped at step 7 of 12"):
        trainer.run()
    assert newest_step(tmp_path / "run") == 7
    assert {kind: signal.getsignal(kind) for kind in handlers} == handlers
    assert trained_steps(tmp_path / "run") == list(range(1, 8))
    continued = final_weights(tmp_path / "run", log_every=1)
    assert trained_steps(tmp_path / "run") == list(range(1, 13))
    assert not differences(continued, final_weights(tmp_path / "other"))


def test_a_signal_in_the_last_step_is_too_late(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, sampler=at_step(STEPS - 1, lambda: signal.raise_signal(signal.SIGTERM)))
    trainer.run()
    assert newest_step(tmp_path) == STEPS
    assert (tmp_path / "training.html").is_file()


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(tmp_path, sampler=at_step(6, twice), checkpoint_seconds=0)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert newest_step(tmp_path) == 6
    assert signal.getsignal(signal.SIGINT) == before


def test_outside_of_the_main_thread_there_are_no_signals(tmp_path: Path) -> None:
    thread = threading.Thread(target=make_trainer(tmp_path).run)
    thread.start()
    thread.join()
    assert newest_step(tmp_path) == STEPS


# Errors --------------------------------------------------------------------------------------------------------------


def test_a_full_disk_stops_the_run_and_space_lets_it_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    trainer = make_trainer(
        tmp_path / "run",
        ToySpace(dropout=0.2),
        at_step(6, lambda: monkeypatch.setattr("torch.save", full)),
        checkpoint_seconds=0,
    )
    with pytest.raises(OSError, match="No space left"):
        trainer.run()
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == [
        "step-000000006.pt",
        "step-000000005.pt",
    ]
    monkeypatch.undo()
    assert not differences(final_weights(tmp_path / "run"), final_weights(tmp_path / "other"))


@pytest.mark.parametrize("damage", ["truncated", "empty", "bit"])
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    stop = at_step(8, lambda: signal.raise_signal(signal.SIGTERM))
    trainer = make_trainer(tmp_path / "run", ToySpace(dropout=0.2), stop, checkpoint_seconds=0, log_every=1)
    with pytest.raises(Interrupted):
        trainer.run()
    path = list_checkpoints(tmp_path / "run" / "checkpoints")[0]
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[len(content) // 3] ^= 16
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b""}.get(damage, content))
    with caplog.at_level(logging.INFO):
        continued = final_weights(tmp_path / "run", log_every=1)
    assert "step-000000009.pt" in caplog.text
    assert "continuing at step 8 of 12" in caplog.text
    assert not differences(continued, final_weights(tmp_path / "other"))
    assert trained_steps(tmp_path / "run") == list(range(1, 13))


# Folders that hold something else ------------------------------------------------------------------------------------


def start(folder: Path, config: dict[str, Any], **options: Any) -> None:
    make_trainer(
        folder, sampler=at_step(3, lambda: signal.raise_signal(signal.SIGTERM)), config=config, **options
    ).run()


CONFIG = {"trainer": {"lr": 0.1, "log_every": 10}, "data": {"image_size": 8}, "seed": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainer": {"lr": 0.2, "log_every": 10}}, r"other settings \(trainer.lr was 0.1 and is 0.2\)"),
        ({"seed": 1}, r"seed was 0 and is 1"),
        ({"data": {"image_size": 16}}, r"data.image_size was 8 and is 16"),
        ({"trainer": {"lr": 0.1, "log_every": 10, "ema_decay": 0.9}}, r"trainer.ema_decay was None and is 0.9"),
        ({"trainer": {"lr": 0.3, "log_every": 10}, "seed": 1}, r"seed was 0 and is 1, trainer.lr was 0.1 and is 0.3"),
        ({"data": "digits"}, r"data was .* and is digits"),
    ],
)
def test_changed_settings_are_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(Interrupted):
        start(tmp_path, CONFIG)
    before = list_checkpoints(tmp_path / "checkpoints")[0].read_bytes()
    with pytest.raises(ValueError, match=message) as raised:
        make_trainer(tmp_path, config=CONFIG | change).run()
    assert str(tmp_path) in str(raised.value)
    assert "use another folder" in str(raised.value)
    assert list_checkpoints(tmp_path / "checkpoints")[0].read_bytes() == before


@pytest.mark.parametrize("name", ["log_every", "checkpoint_seconds", "keep_checkpoints", "threads", "device"])
def test_settings_that_change_no_weight_may_change(tmp_path: Path, name: str) -> None:
    with pytest.raises(Interrupted):
        start(tmp_path, CONFIG)
    make_trainer(tmp_path, config=CONFIG | {"trainer": CONFIG["trainer"] | {name: 1}}).run()
    assert newest_step(tmp_path) == STEPS


def test_other_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        start(tmp_path, CONFIG)
    data = replace(make_data(), train=make_images(64, seed=1))
    with pytest.raises(ValueError, match="started on other data: 12 steps, not 8"):
        make_trainer(tmp_path, data=data, config=CONFIG).run()


def test_the_run_of_a_supernet_is_not_that_of_a_subnet(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        start(tmp_path, CONFIG)
    space = ToySpace()
    task = SubnetTask(space.network(space.largest), space.largest, 8)
    trainer = Trainer(task, make_data(), make_settings(), RunPart(tmp_path, {"config": CONFIG}), lambda module: {})
    with pytest.raises(ValueError, match="holds a supernet run, not one of a subnet; use another folder"):
        trainer.run()


def test_checkpoints_are_kept_as_told_and_written_as_often_as_told(tmp_path: Path) -> None:
    make_trainer(tmp_path / "three", checkpoint_seconds=0, keep_checkpoints=3).run()
    assert [path.stem for path in list_checkpoints(tmp_path / "three" / "checkpoints")] == [
        "step-000000012",
        "step-000000011",
        "step-000000010",
    ]
    make_trainer(tmp_path / "one", checkpoint_seconds=3600).run()
    assert [path.stem for path in list_checkpoints(tmp_path / "one" / "checkpoints")] == ["step-000000012"]


def test_what_a_checkpoint_holds(tmp_path: Path) -> None:
    """A sampler that learns gets its state back, and the weights are those in memory."""

    class Learning(UniformSampler):
        told = 0

        def state_dict(self) -> dict[str, Any]:
            return {"told": self.told}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.told = state["told"]

        def sample(self, step: int) -> list[Any]:
            self.told += step
            return super().sample(step)

    trainer = make_trainer(tmp_path, sampler=Learning, ema_decay=0.5)
    trainer.run()
    state = load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[0])
    assert state["task"] == {"sampler": {"told": sum(range(STEPS))}}
    assert state["space"] == ToySpace().definition
    assert state["classes"] == ["a", "b", "c", "d"]
    assert not differences(dict(state["model"]), copy_state(trainer.task.module))
    assert not differences(dict(state["average"]), copy_state(trainer.best_module))
    again = make_trainer(tmp_path, sampler=Learning, ema_decay=0.5)
    assert not differences(copy_state(again.run()), copy_state(trainer.best_module))
    assert again.task.state_dict() == state["task"]
