"""Short training runs, and what the tests look at in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from toy_spaces import ToySpace, make_data

from oneshot.arch import Arch
from oneshot.data import ImageData, TensorImages
from oneshot.samplers import Sampler, UniformSampler
from oneshot.spaces.base import SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import RunPart, SupernetTask, Trainer, TrainSettings
from oneshot.training.randomness import seeded

CPU = torch.device("cpu")


class Scripted(Sampler):
    """Draws what it is told to, and calls ``watch`` at the start of every step."""

    def __init__(
        self,
        space: SearchSpace,
        archs_of: Callable[[int], Sequence[Arch]],
        watch: Callable[[int], None] = lambda step: None,
        teacher_first: bool = False,
    ) -> None:
        super().__init__(space)
        self.archs_of, self.watch, self.teacher_first = archs_of, watch, teacher_first

    def sample(self, step: int) -> list[Arch]:
        self.watch(step)
        return list(self.archs_of(step))


class RecordedImages(TensorImages):
    """Remembers which images were asked for."""

    def __init__(self, images: TensorImages) -> None:
        super().__init__(images.images, images.labels)
        self.asked: list[Tensor] = []

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in index_batches:
            self.asked.append(indices)
            yield from super().batches([indices])


def make_settings(**changes: Any) -> TrainSettings:
    """Two epochs of six steps on ``make_data()``, with every change."""
    values: dict[str, Any] = {"epochs": 2, "batch_size": 16, "lr": 0.2, "warmup_epochs": 0.5, "device": "cpu"}
    return TrainSettings(**values | changes)


def make_trainer(
    folder: Path,
    space: SearchSpace | None = None,
    sampler: Callable[[SearchSpace], Sampler] = UniformSampler,
    data: ImageData | None = None,
    evaluate: Callable[[torch.nn.Module], Mapping[str, float]] = lambda module: {},
    config: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Trainer:
    """A trainer of a toy supernet."""
    space = ToySpace() if space is None else space
    chosen = make_settings(**settings)
    with seeded("weights", chosen.seed):
        supernet = Supernet(space)
    return Trainer(
        SupernetTask(supernet, sampler(space), chosen.label_smoothing),
        make_data() if data is None else data,
        chosen,
        RunPart(folder, {"config": dict(config or {}), "space": space.definition, "classes": ["a", "b", "c", "d"]}),
        evaluate,
    )


def copy_state(module: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of the weights and statistics."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def values_of(folder: Path, name: str) -> list[float]:
    """One column of ``metrics.jsonl``."""
    return [record[name] for record in records(folder) if name in record]


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two nested states differ; tensors must be equal bit for bit."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return [] if left.dtype == right.dtype and torch.equal(left, right) else [path]
    if isinstance(left, dict) and isinstance(right, dict):
        found = [f"{path}.{key}" for key in left.keys() ^ right.keys()]
        return found + [
            item for key in left.keys() & right.keys() for item in differences(left[key], right[key], f"{path}.{key}")
        ]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return [
            item for i, pair in enumerate(zip(left, right, strict=True)) for item in differences(*pair, f"{path}.{i}")
        ]
    return [] if type(left) is type(right) and left == right else [path]


def trained_steps(folder: Path) -> list[int]:
    """The steps at which ``metrics.jsonl`` has a training loss."""
    return [record["step"] for record in records(folder) if "loss/train" in record]
