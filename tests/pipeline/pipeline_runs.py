"""The steps of the job on toys: train, search, retrain."""

from __future__ import annotations

import csv
import itertools
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from toy_spaces import ToySpace, make_data

from oneshot.arch import Arch
from oneshot.costs import CostSettings
from oneshot.data import Augmentation, ImageData
from oneshot.evaluation import Evaluator, Score
from oneshot.pipeline.candidate_scores import EvaluationSettings, Scorer
from oneshot.pipeline.folders import load_subnet, load_supernet
from oneshot.pipeline.retrain import RetrainSettings, retrain_subnet
from oneshot.pipeline.scored_search import SupernetSearch
from oneshot.pipeline.train import train_supernet
from oneshot.runs import store
from oneshot.samplers import UniformSampler
from oneshot.search import RandomSearch, Strategy
from oneshot.supernet import Supernet
from oneshot.training import TrainSettings

DATA = make_data(augmentation=Augmentation())
SPACE = {"resolutions": (6, 8), "dropout": 0.1}


def make_settings(**changes: Any) -> TrainSettings:
    values: dict[str, Any] = {"epochs": 6, "batch_size": 16, "lr": 0.2, "device": "cpu"}
    return TrainSettings(**values | changes)


def train(folder: Path, data: ImageData = DATA, **changes: Any) -> Supernet:
    """Trains a supernet of 24 networks."""
    settings = make_settings(**changes)
    config = {"data": {"name": "toys"}, "seed": settings.seed}
    return train_supernet(ToySpace(**SPACE), data, UniformSampler, settings, folder, config, calibration_images=64)


def make_search(
    supernet: Path,
    folder: Path,
    strategy: Strategy | None = None,
    data: ImageData = DATA,
    seed: int = 0,
    cost: dict[str, Any] | None = None,
    **evaluation: Any,
) -> SupernetSearch:
    """A search that random sampling of eight networks makes unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {"device": "cpu", "calibration_images": 64, "metric": "accuracy"}
    costs = CostSettings(**cost or {})
    scorer = Scorer(
        load_supernet(supernet),
        data,
        costs,
        EvaluationSettings(**values | evaluation),
        folder,
        seed,
        {"data": {"name": "toys"}},
    )
    return SupernetSearch(scorer, RandomSearch(num_samples=8, batch_size=4) if strategy is None else strategy, costs)


def killed_search(supernet: str, folder: str, strategy: Strategy, number: int) -> None:
    """A search that is killed once it has scored ``number`` candidates, and kept each of them at once."""
    torch.set_num_threads(1)
    store._COMMIT_SECONDS = 0.0
    original, count = Evaluator.scores, itertools.count()

    def killed(evaluator: Evaluator, archs: Sequence[Arch]) -> Iterator[tuple[Arch, Score]]:
        for pair in original(evaluator, archs):
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            yield pair

    Evaluator.scores = killed  # type: ignore[method-assign, assignment]
    make_search(Path(supernet), Path(folder), strategy).run()


def retrain(
    subnet: Path, folder: Path, data: ImageData = DATA, options: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Retrains the subnet of a search for two epochs."""
    found = load_subnet(subnet)
    trained = load_supernet(Path(found.card["supernet"]))
    settings = make_settings(**{"epochs": 2, "lr": 0.05} | changes)
    chosen = RetrainSettings(**{"calibration_images": 64} | (options or {}))
    return retrain_subnet(found, trained, data, settings, chosen, folder, {"data": {"name": "toys"}})


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of ``candidates.csv``."""
    with (folder / "candidates.csv").open(newline="") as file:
        return list(csv.DictReader(file))
