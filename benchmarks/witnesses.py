"""What each witness of the quality of networks is worth beside a table of true accuracies, and all of them together.

    python benchmarks/witnesses.py nas-bench-macro_cifar10.json FOLDER runs/supernet/shared runs/supernet/split

judges what ``score=combined`` ranks by, for the supernet of each of these runs, or without any, which takes ``--data FOLDER``: on
``--networks`` random networks of the table. Beside the witnesses it judges the older recipe, ``predictor=ridge`` learned from the
inherited losses of all these networks. ``FOLDER/NAME.json`` holds the figures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from oneshot.config import make_data
from oneshot.costs import CostSettings, CostTable
from oneshot.evaluation import Panel, RankCorrelation, combine, learn_weights, random_order, rank_correlation
from oneshot.pipeline.combined_scores import CombinedScores
from oneshot.pipeline.evidence import COMBINED
from oneshot.pipeline.folders import load_supernets
from oneshot.pipeline.recorded import of_step
from oneshot.pipeline.search_settings import CombinationSettings, EvaluationSettings, SearchSettings
from oneshot.pipeline.search_supernet import opened_candidates
from oneshot.pipeline.truth import Truth, read_truth
from oneshot.pipeline.witnesses import Measured, Witnesses, draw_agreement
from oneshot.predictors import RidgePredictor
from oneshot.search import RandomSearch
from oneshot.spaces import NASBenchMacro
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Coding
from oneshot.statistics import kendall_tau
from oneshot.training_free import TrainingFreeScores, scores_called

Values = NDArray[np.float64]
OLD, EQUAL = "ridge over the losses (old recipe)", "all witnesses, equal weights"
UNTRAINED = "all witnesses but the supernet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("supernets", type=Path, nargs="*")
    parser.add_argument(
        "--networks", type=int, default=1000, help="random networks of the table, the first of them the reference"
    )
    parser.add_argument("--reference", type=int, default=500)
    parser.add_argument("--images", type=int, default=None, help="held-out images to score on; all if left out")
    parser.add_argument("--channels", type=int, default=8, help="of nasbench_macro, where there is no supernet")
    parser.add_argument("--resolution", type=int, default=16, help="likewise")
    parser.add_argument("--data", type=Path, help="the image folder, where there is no supernet")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.folder.mkdir(parents=True, exist_ok=True)
    for supernet in asked.supernets:
        _write(asked.folder / f"{supernet.name}.json", *_with_supernet(asked, supernet))
    if not asked.supernets:
        _write(asked.folder / f"none-{asked.channels}-{asked.resolution}.json", *_without(asked))


def _with_supernet(asked: argparse.Namespace, supernet: Path) -> tuple[dict[str, Any], dict[str, RankCorrelation]]:
    trained = load_supernets([supernet])
    space = trained.supernet.space
    folder = asked.folder / supernet.name
    data = make_data(trained.config["data"], of_step(trained.record, str(supernet), folder, None, "ignore"))
    settings = SearchSettings(
        RandomSearch(),
        evaluation=EvaluationSettings(device="cpu", max_images=asked.images, calibration_images=512),
        score="combined",
        combination=CombinationSettings(num_reference=asked.reference),
    )
    truth = read_truth(asked.table, space)
    with opened_candidates(trained, data, settings, folder) as (scores, costs), scores.store.exported():
        assert isinstance(scores, CombinedScores)
        started = time.process_time()
        scores.settle([costs.problem(CostSettings())])
        archs = _drawn(space, truth, asked.networks, scores.reference)
        scores.score_all(archs, "judged")
        evidence = scores.evidence()
        ways = evidence.ways(archs)
        values = evidence.witnesses.values(archs)
        ways[EQUAL] = np.nan_to_num(evidence.panel.scores_of(values)).mean(axis=1)
        number = len(evidence.witnesses.names) - 2  # without what the supernet says
        untrained = Panel(evidence.panel.witnesses[:number], evidence.witnesses.values(scores.reference)[:, :number])
        ways[UNTRAINED] = untrained.combined(values[:, :number])
        ridge, features = RidgePredictor(), costs.coding.one_hot(costs.coding.encode(archs))
        ridge.fit(features, scores.inherited(archs))
        ways[OLD] = ridge.predict(features)
        learned = _learned(evidence.panel, values, np.array([truth.values[arch] for arch in archs]))
        seconds = time.process_time() - started
        facts = json.loads((folder / "witnesses.json").read_text()) | {"seconds": seconds, "learned": learned}
    return facts, _judge(ways, archs, truth)


def _learned(panel: Panel, values: Values, truth: Values) -> dict[str, list[float]]:
    """Mean, deviation and least of Kendall's tau by weights learned from some networks of the table, as if these were retrained,
    on the others: over 20 draws of as many.
    """
    scores, found = panel.features_of(values), {}
    for number in (8, 16, 32):
        taus = []
        for draw in range(100, 120):
            order = np.random.default_rng(draw).permutation(len(truth))
            chosen, rest = order[:number], order[number:]
            learned = learn_weights(scores[chosen], truth[chosen], panel.weighting.weights)
            taus.append(kendall_tau(combine(scores[rest], learned.weights), truth[rest]))
        found[f"learned from {number}"] = [float(np.mean(taus)), float(np.std(taus)), min(taus)]
    return found


def _without(asked: argparse.Namespace) -> tuple[dict[str, Any], dict[str, RankCorrelation]]:
    space = NASBenchMacro(10, channels=asked.channels, head_channels=40 * asked.channels, resolution=asked.resolution)
    config = {
        "_target_": "oneshot.data.image_folder",
        "root": str(asked.data),
        "image_size": asked.resolution,
        "held_out": 5000,
    }
    data = make_data(config)
    truth = read_truth(asked.table, space)
    scores = scores_called(CombinationSettings().untrained)
    archs = _drawn(space, truth, asked.networks, [])
    seconds: dict[str, float] = {}
    for score in scores:
        started = time.process_time()
        TrainingFreeScores(space, data, [score]).values(archs[:10])
        seconds[score.name] = (time.process_time() - started) / 10
    witnesses = Witnesses(Coding(space), CostTable(space), TrainingFreeScores(space, data, scores))
    checked = archs[: CombinationSettings().num_checked]
    draws = draw_agreement(witnesses, TrainingFreeScores(space, data, scores, seed=1), checked)
    panel = witnesses.panel(archs[: asked.reference], Measured(None, None, draws))
    values = witnesses.values(archs)
    ways = {COMBINED: panel.combined(values), **dict(zip(panel.names, values.T, strict=True))}
    ways[EQUAL] = np.nan_to_num(panel.scores_of(values)).mean(axis=1)
    rows = zip(panel.witnesses, panel.weighting.agreement.tolist(), panel.weights.tolist(), strict=True)
    facts = {
        "witnesses": [{**vars(one), "agreement": agreement, "weight": weight} for one, agreement, weight in rows],
        "correlations": panel.correlations().tolist(),
        "seconds_per_network": seconds,
    }
    return facts, _judge(ways, archs, truth)


def _drawn(space: SearchSpace, truth: Truth, number: int, first: list[Any]) -> list[Any]:
    """``number`` random networks of the table, ``first`` among them."""
    rest = [arch for arch in truth.values if arch not in set(first)]
    order = np.random.default_rng(0).permutation(len(rest))
    return [*first, *(rest[place] for place in order)][:number]


def _judge(ways: Mapping[str, Values], archs: list[Any], truth: Truth) -> dict[str, RankCorrelation]:
    values = [truth.values[arch] for arch in archs]
    return {name: rank_correlation(way, values) for name, way in ways.items()} | {"random order": random_order(values)}


def _write(path: Path, facts: dict[str, Any], judged: dict[str, RankCorrelation]) -> None:
    path.write_text(json.dumps({**facts, "ways": {name: asdict(way) for name, way in judged.items()}}, indent=1))
    print(path)
    for one in facts["witnesses"]:
        figures = [f"{name} {one[name]:.2f}" for name in ("reliability", "agreement", "weight")]
        print(f"  {one['name']:24} {'  '.join(figures)}")
    for name, (mean, deviation, least) in facts.get("learned", {}).items():
        print(f"  {name}: tau {mean:.3f} ± {deviation:.3f} on the others, at the least {least:.3f}")
    for name, way in judged.items():
        top = _text(way.top_tau)
        first = way.first[1]
        print(
            f"  {name:36} tau {way.tau.value:.3f} ({way.tau.low:.3f} to {way.tau.high:.3f})  best 10 %: {top}  best 1 % among "
            f"the first 1 %: {100 * way.precision[0.01]:.0f} %  first: rank {first.best_rank:.0f} of {way.num_candidates}"
        )


def _text(value: float | None) -> str:
    """Two decimals, or a dash for none."""
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
