"""Training runs in child processes, and the places at which they kill themselves."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from toy_spaces import ToyCell, ToySpace

from oneshot.data import digits
from oneshot.evaluation import Evaluator
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.policies import PolicySettings
from oneshot.samplers import (
    ArchitectureLearning,
    ControllerSampler,
    DifferentiableSampler,
    HardGumbel,
    SandwichSampler,
    UniformSampler,
)
from oneshot.training import PhaseSettings, Trainer, TrainSettings
from oneshot.training.metrics import Metrics

KINDS = ("uniform", "sandwich", "phases", "controller")
CONTROLLER = functools.partial(ControllerSampler, num_updates=2, num_rewarded=3, policy=PolicySettings(hidden_size=8))
ARCHITECTURE = functools.partial(
    DifferentiableSampler, relaxation=HardGumbel(), learning=ArchitectureLearning(order="second", lr=0.05)
)
NUM_STEPS = 24
PHASES = {
    "full": PhaseSettings(largest={"width": 1, "depth": 1, "kernel": 1}),
    "depth": PhaseSettings(largest={"width": 1}, lr=0.05, num_paths=2, distill=True),
    "width": PhaseSettings(num_paths=3, distill=True, sort_channels=True),
}


def train(kind: str, folder: str, place: str | None = None, number: int = 0) -> None:
    """Trains to the end, or up to the ``number``-th time at ``place``; writes a checkpoint after every step."""
    torch.set_num_threads(1)
    if place is not None:
        PLACES[place](number)
    settings = {
        "epochs": 3,
        "batch_size": 32,
        "device": "cpu",
        "log_every": 3,
        "eval_every": 1,
        "checkpoint_seconds": 0,
    }
    if kind == "uniform":
        space, sampler = ToySpace(10, dropout=0.2), UniformSampler
        settings["ema_decay"] = 0.9
    elif kind == "architecture":
        space, sampler = ToyCell(10), ARCHITECTURE
    elif kind == "controller":
        space, sampler = ToySpace(10), CONTROLLER
        settings["average_epochs"] = 2
    else:
        space = ToySpace(10, resolutions=(6, 8), dropout=0.1)
        sampler = SandwichSampler if kind == "sandwich" else UniformSampler
    data = digits(image_size=8, max_train_images=256)
    config = {"trainer": settings}
    phases = PHASES if kind == "phases" else {}
    trainer = TrainSettings(**settings)
    training = SupernetTraining(trainer, sampler, 64, phases, config=config)
    train_supernet(space, data, training, Path(folder))


# Places --------------------------------------------------------------------------------------------------------------


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _wrap(
    owner: Any, name: str, number: int, act: Callable[..., None], when: Callable[..., bool] | None = None
) -> None:
    """Calls ``act`` with the arguments of the ``number``-th call of a function."""
    original, calls = getattr(owner, name), iter(range(1, 10**6))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if (when is None or when(*args)) and next(calls) == number:
            act(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def _in_a_step(number: int) -> None:
    _wrap(Trainer, "_update", number, lambda *args: _die())


def _halfway_through_a_checkpoint(number: int) -> None:
    def act(state: Any, file: Any) -> None:
        file.write(b"PK\x03\x04" + bytes(5000))
        file.flush()
        _die()

    _wrap(torch, "save", number, act)


def _before_the_rename(number: int) -> None:
    _wrap(Path, "replace", number, lambda *args: _die(), lambda path, target: target.suffix == ".pt")


def _before_the_old_one_is_removed(number: int) -> None:
    _wrap(Path, "unlink", number, lambda *args, **kwargs: _die(), lambda path: path.suffix == ".pt")


def _halfway_through_a_record(number: int) -> None:
    def act(metrics: Metrics, step: int, values: Any) -> None:
        metrics._file.write(f'{{"step": {step}, "loss/tr')
        metrics._file.flush()
        _die()

    _wrap(Metrics, "write", number, act)


def _between_record_and_checkpoint(number: int) -> None:
    _wrap(Trainer, "_save", number, lambda *args: _die())


def _in_an_evaluation(number: int) -> None:
    _wrap(Evaluator, "__call__", number, lambda *args: _die())


def _before_the_page(number: int) -> None:
    _wrap(Metrics, "close", number, lambda *args: _die())


PLACES = {
    "step": _in_a_step,
    "checkpoint": _halfway_through_a_checkpoint,
    "rename": _before_the_rename,
    "removal": _before_the_old_one_is_removed,
    "record": _halfway_through_a_record,
    "save": _between_record_and_checkpoint,
    "evaluation": _in_an_evaluation,
    "page": _before_the_page,
}
