"""What training-free scores are worth and what they cost: Kendall's tau with true accuracies on NAS-Bench-Macro, and time.

    python benchmarks/training_free.py nas-bench-macro_cifar10.json CIFAR_FOLDER [--repeats 1] [--values FILE]

Settings are those of the publications unless --repeats says otherwise. With --values, what is found is kept in a file of JSON
lines, and the same command goes on with it. Times are those of the CPU, taken in turns, each score alone on the same networks.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
from pathlib import Path

import numpy as np
import torch

from oneshot.arch import Arch
from oneshot.data import image_folder
from oneshot.evaluation import RankCorrelation, rank_correlation
from oneshot.pipeline.truth import read_truth
from oneshot.progress import progress
from oneshot.spaces import NASBenchMacro
from oneshot.training_free import AZ_NAS, SCORES, TrainingFreeScores, log_rank_sum, scores_called


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("images", type=Path, help="CIFAR-10 as an image folder")
    parser.add_argument("--scores", nargs="+", default=list(SCORES), help="by name; all by default")
    parser.add_argument("--networks", type=int, default=150, help="random networks of the table")
    parser.add_argument("--repeats", type=int, help="draws of weights; as published by default")
    parser.add_argument("--timed", type=int, default=5, help="networks on which times are taken")
    parser.add_argument("--seed", type=int, default=0, help="of networks, images and weights")
    parser.add_argument("--values", type=Path, help="a file that keeps them")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    space = NASBenchMacro(num_classes=10, resolution=32)
    truth = read_truth(arguments.table, space).values
    known = sorted(truth, key=lambda arch: arch.to_json())
    archs = random.Random(arguments.seed).sample(known, arguments.networks)
    data = image_folder(str(arguments.images), image_size=32, max_train_images=5000)

    def scorer(*names: str) -> TrainingFreeScores:
        return TrainingFreeScores(space, data, scores_called(names, repeats=arguments.repeats), seed=arguments.seed)

    kept = {}
    if arguments.values is not None and arguments.values.exists():
        kept = {space.parse(key): values for key, values in map(json.loads, arguments.values.open())}
    together = scorer(*arguments.scores)
    for arch in progress(logging.getLogger("benchmark"), "score", "network", iterable=archs):
        if arch not in kept:
            kept[arch] = together(arch)
            if arguments.values is not None:
                with arguments.values.open("a") as file:
                    print(json.dumps([arch.to_json(), kept[arch]]), file=file)
    columns = {name: np.array([kept[arch][name] for arch in archs]) for name in arguments.scores}
    seconds = _seconds(
        {name: scorer(name) for name in arguments.scores} | {"together": together}, archs[: arguments.timed]
    )
    unit = seconds.get("naswot", seconds["together"])
    true = [truth[arch] for arch in archs]
    print(f"{len(archs)} networks, seed {arguments.seed}; times over {unit:.2f} s of one core")
    for name, column in columns.items():
        print(_row(name, rank_correlation(column, true), f"{seconds[name] / unit:.2f}"))
    if set(AZ_NAS) <= columns.keys():
        aggregated = log_rank_sum({name: columns[name] for name in AZ_NAS})
        print(_row("az_nas", rank_correlation(aggregated, true), ""))
    print(f"together: {seconds['together'] / unit:.2f}")


def _seconds(scorers: dict[str, TrainingFreeScores], archs: list[Arch]) -> dict[str, float]:
    """The median CPU time of each over ``archs``."""
    taken: dict[str, list[float]] = {name: [] for name in scorers}
    for scorer in scorers.values():
        scorer(archs[0])  # tables and images
    for arch in archs:
        for name, scorer in scorers.items():
            started = time.process_time()
            scorer(arch)
            taken[name].append(time.process_time() - started)
    return {name: float(np.median(times)) for name, times in taken.items()}


def _row(name: str, judged: RankCorrelation, cost: str) -> str:
    tau, first = judged.tau, judged.first[1]
    return f"| `{name}` | {tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}] | {first.best_rank:.0f} | {cost} |"


if __name__ == "__main__":
    main()
