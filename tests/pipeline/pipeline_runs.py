"""The steps of the job on toys: train, search, retrain."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from toy_spaces import ToySpace, make_data

from oneshot.arch import Arch
from oneshot.costs import CostSettings
from oneshot.data import Augmentation, ImageData
from oneshot.evaluation import Evaluator, Score
from oneshot.pipeline.candidate_costs import CandidateCosts
from oneshot.pipeline.candidate_scores import CandidateScores
from oneshot.pipeline.folders import load_subnet, load_supernet
from oneshot.pipeline.results import SearchResult
from oneshot.pipeline.retrain import RetrainSettings, SubnetTraining, retrain_subnet
from oneshot.pipeline.search_settings import EvaluationSettings, SearchSettings
from oneshot.pipeline.search_supernet import opened_candidates, search_supernet
from oneshot.pipeline.train import SupernetTraining, train_supernet
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


def train(folder: Path, data: ImageData = DATA, newest: Mapping[str, Any] | None = None, **changes: Any) -> Supernet:
    """Trains a supernet of 24 networks."""
    settings = make_settings(**changes)
    config = {"data": {"name": "toys"}, "seed": settings.seed}
    training = SupernetTraining(settings, UniformSampler, calibration_images=64, config=config)
    supernet = train_supernet(ToySpace(**SPACE), data, training, folder, newest).supernet
    assert isinstance(supernet, Supernet)
    return supernet


def make_search(
    strategy: Strategy | None = None,
    seed: int = 0,
    cost: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    **evaluation: Any,
) -> SearchSettings:
    """A search that random sampling of eight networks makes unless told otherwise; ``more`` are further settings of it."""
    values: dict[str, Any] = {"device": "cpu", "calibration_images": 64, "metric": "accuracy"}
    return SearchSettings(
        RandomSearch(num_samples=8, batch_size=4) if strategy is None else strategy,
        **{"costs": [CostSettings(**cost or {})], "seed": seed, "config": {"data": {"name": "toys"}}} | (more or {}),
        evaluation=EvaluationSettings(**values | evaluation),
    )


def search(
    supernet: Path, folder: Path, strategy: Strategy | None = None, data: ImageData = DATA, **changes: Any
) -> SearchResult:
    """Runs a search that ``make_search`` makes."""
    return search_supernet(load_supernet(supernet), data, make_search(strategy, **changes), folder)


def opened(
    supernet: Path, folder: Path, strategy: Strategy | None = None, data: ImageData = DATA, **changes: Any
) -> contextlib.AbstractContextManager[tuple[CandidateScores, CandidateCosts]]:
    """The candidates of that search."""
    return opened_candidates(load_supernet(supernet), data, make_search(strategy, **changes), folder)


def open_once(supernet: Path, folder: Path, **changes: Any) -> None:
    """Begins that search, and leaves it."""
    with opened(supernet, folder, **changes):
        pass


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
    search(Path(supernet), Path(folder), strategy)


def retrain(
    subnet: Path, folder: Path, data: ImageData = DATA, options: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Retrains the subnet of a search for two epochs; returns the card of the result."""
    found = load_subnet(subnet)
    trained = load_supernet(Path(found.card["supernet"]))
    settings = make_settings(**{"epochs": 2, "lr": 0.05} | changes)
    chosen = RetrainSettings(**{"calibration_images": 64} | (options or {}))
    training = SubnetTraining(settings, chosen, trained, config={"data": {"name": "toys"}})
    return retrain_subnet(found, data, training, folder).subnet.card


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of ``candidates.csv``."""
    with (folder / "candidates.csv").open(newline="") as file:
        return list(csv.DictReader(file))
