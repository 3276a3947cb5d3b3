"""Trainings of architectures by gradient."""

from __future__ import annotations

from pathlib import Path

import torch
from toy_spaces import ToyCell, make_data

from oneshot.samplers import (
    ArchitectureLearning,
    DifferentiableSampler,
    Relaxation,
)
from oneshot.supernet import Supernet
from oneshot.training import (
    ArchitectureImages,
    ArchitectureTask,
    RunPart,
    Trainer,
    TrainSettings,
)


def make_task(
    learning: ArchitectureLearning | None = None,
    relaxation: Relaxation | None = None,
    epochs: int = 2,
    ended_after: int | None = None,
) -> ArchitectureTask:
    torch.manual_seed(0)
    space = ToyCell()
    sampler = DifferentiableSampler(space, 0, relaxation, learning or ArchitectureLearning(lr=0.05))
    data = make_data()
    images = None if sampler.architecture_images == 0 else ArchitectureImages(data.train, data, 16, 0)
    return ArchitectureTask(Supernet(space), sampler, images, 6, epochs, ended_after=ended_after)


def make_trainer(task: ArchitectureTask, folder: Path, **settings: object) -> Trainer:
    values = {"epochs": 2, "batch_size": 16, "lr": 0.1, "warmup_epochs": 0, "device": "cpu", "log_every": 1}
    return Trainer(
        task,
        make_data(),
        TrainSettings(**values | settings),  # type: ignore[arg-type]
        RunPart(folder, {"config": {}, "space": {}, "classes": []}),
        lambda module: {},
    )
