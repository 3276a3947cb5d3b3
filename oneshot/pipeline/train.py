"""Train a supernet: a space, data and settings in; a run folder with checkpoints and curves out."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from oneshot.data import ImageData
from oneshot.evaluation import Evaluator
from oneshot.samplers import Sampler
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import SupernetTask, Trainer, TrainSettings, resolve_device
from oneshot.training.randomness import seeded


def train_supernet(
    space: SearchSpace,
    data: ImageData,
    make_sampler: Callable[[SearchSpace], Sampler],
    settings: TrainSettings,
    folder: Path,
    config: Mapping[str, Any],
    calibration_images: int = 512,
) -> Supernet:
    """Trains a supernet of ``space`` in ``folder``, or continues the run that the folder holds.

    Every ``settings.eval_every`` epochs the largest, the smallest and one random subnet are scored on the held-out images with
    recalibrated statistics.

    Args:
        config: plain values that describe the run; a folder that was started with other values is refused.

    Returns:
        The supernet with the weights to rank by.

    Raises:
        ValueError: the space does not fit the data, or the folder holds another run.
    """
    if space.num_classes != data.num_classes:
        raise ValueError(f"the space has {space.num_classes} classes, the data {data.num_classes}")
    if calibration_images < 1:
        raise ValueError(f"calibration_images is at least 1, not {calibration_images}")
    device = resolve_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with seeded("weights", settings.seed):
        supernet = Supernet(space)
    shown = {
        "largest": space.largest,
        "smallest": space.smallest,
        "random": space.sample(random.Random(f"shown {settings.seed}")),
    }

    def evaluate(module: torch.nn.Module) -> dict[str, float]:
        assert isinstance(module, Supernet)
        evaluator = Evaluator(
            module, data, device=device, calibration_images=calibration_images, channels_last=settings.channels_last
        )
        scores = {name: evaluator(arch) for name, arch in shown.items()}
        return {f"held_out_accuracy/{name}": score.accuracy for name, score in scores.items()} | {
            f"held_out_loss/{name}": score.loss for name, score in scores.items()
        }

    meta = {"config": dict(config), "space": space.definition, "classes": list(data.classes)}
    task = SupernetTask(supernet, make_sampler(space), settings.label_smoothing)
    trained = Trainer(task, data, settings, folder, device=device, evaluate=evaluate, meta=meta).run()
    assert isinstance(trained, Supernet)
    return trained
