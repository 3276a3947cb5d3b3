"""What errors of single blocks say about whole networks, and what a search by them finds.

    python benchmarks/block_errors.py runs/supernet/family --networks 30 --samples 8

First, random networks of one input size: how far the sum of their blocks' errors agrees with their loss on held-out images, with
repaired weights. Then, under each limit, the best of as many networks that `search=knapsack`, evolution and random search score.
Prints a row of JSON for each.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr

from oneshot.config import make_data
from oneshot.costs import CostSettings
from oneshot.data import Recorded
from oneshot.pipeline.block_errors import BlockErrors
from oneshot.pipeline.folders import load_supernet
from oneshot.pipeline.search_settings import EvaluationSettings, SearchSettings
from oneshot.pipeline.search_supernet import opened_candidates
from oneshot.search import Evolution, Knapsack, RandomSearch, Strategy


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("supernet", type=Path, help="a run folder of train_supernet.py")
    parser.add_argument("--networks", type=int, default=30, help="random networks")
    parser.add_argument("--size", type=int, help="their input size; the largest unless given")
    parser.add_argument(
        "--limits", type=float, nargs="*", default=[75, 50, 35, 25], help="percent of the original's MACs"
    )
    parser.add_argument("--samples", type=int, default=8, help="networks that each search scores")
    parser.add_argument("--images", type=int, default=384, help="training images that weights are repaired on")
    parser.add_argument("--kernels", action="store_true", help="whether kernels are elastic")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)

    trained = load_supernet(options.supernet)
    recorded = None if trained.record is None else Recorded(trained.record, "the supernet")
    data = make_data(trained.config["data"], recorded)
    space = trained.supernet.space
    if not options.kernels:
        last = {choice.name: choice.options[-1:] for choice in space.choices if choice.name.endswith(".kernel")}
        space = trained.supernet.space = space.restrict(last)
    evaluation = EvaluationSettings(device="cpu", threads=1, repair_images=options.images)
    settings = SearchSettings(RandomSearch(), evaluation=evaluation, seed=options.seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        opened_candidates(trained, data, settings, Path(folder)) as (scores, costs),
    ):
        errors = BlockErrors(scores, trained, replace(data, record=None))  # measured here, whatever is known
        started = time.process_time()
        errors()
        print(json.dumps({"errors": "measured", "seconds": round(time.process_time() - started, 1)}), flush=True)

        size = options.size or space.max_resolution
        rng = random.Random(options.seed)
        sized = space.restrict({"resolution": [size]}) if "resolution" in space.largest else space
        archs = [sized.sample(rng) for _ in range(options.networks)]
        keys = np.array([key[0] for key in scores.score_all(archs, "random")])
        sums = np.array([errors.of(arch) for arch in archs])
        macs = np.array([costs.table.cost(arch).macs for arch in archs])
        row = {"networks": len(archs), "size": size}
        for name, values in (("sum of errors", -sums), ("MACs", macs)):
            row[f"tau with the loss, {name}"] = round(kendalltau(values, keys).statistic, 3)
            row[f"rho with the loss, {name}"] = round(spearmanr(values, keys).statistic, 3)
        print(json.dumps(row), flush=True)

        half = options.samples // 2
        mutations = half - half // 2
        strategies: dict[str, Strategy] = {
            "knapsack": Knapsack(options.samples, errors=errors),
            "evolution": Evolution(half, max(1, half // 2), mutations, half - mutations, options.samples // half),
            "random": RandomSearch(options.samples),
        }
        whole = costs.table.original().macs
        for limit in options.limits:
            cost = CostSettings(max_macs=limit / 100 * whole)
            for name, strategy in strategies.items():
                problem = costs.problem(cost, lambda codes: scores.score_all(costs.coding.decode(codes), "search"))
                started = time.process_time()
                found = strategy.search(problem, scores.generator("search"))
                archs = problem.decode(found.codes)
                best = archs[found.best]
                row = {"limit": limit, "search": name, "scored": len(archs), "size": space.input_shape(best)[-1]}
                row |= {"loss": scores.known[best].loss, "accuracy": scores.known[best].accuracy}
                row |= {"macs": costs.table.cost(best).macs / whole, "error": errors.of(best)}
                print(json.dumps(row | {"seconds": round(time.process_time() - started, 1)}), flush=True)


if __name__ == "__main__":
    main()
