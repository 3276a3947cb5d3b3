"""Search with a predictor that has learned already, and without a supernet: nothing is scored."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from oneshot import published, report
from oneshot.arch import Arch
from oneshot.costs import AdditiveLatency, CostTable, LatencyTable
from oneshot.pipeline.candidate_cards import blocks_of
from oneshot.pipeline.predicted_search import describe_limits, the_predictor
from oneshot.pipeline.search_settings import SearchSettings
from oneshot.runs import write_json
from oneshot.search import Problem
from oneshot.spaces import OFAMobileNetV3, OFAProxyless
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Codes, Coding

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictedNetworks:
    """What was found without a supernet.

    Attributes:
        archs: the best architecture under each set of limits.
        points: what is predicted of each and what it costs.
    """

    archs: Sequence[Arch]
    points: Sequence[report.TradeoffPoint]


def search_without_supernet(space: SearchSpace, settings: SearchSettings, folder: Path) -> PredictedNetworks:
    """Searches with a predictor that has learned already, such as a published one, and nothing else.

    Writes ``networks.json``, with Once-for-All's encoding for its spaces, and ``report.html`` to ``folder``.

    Raises:
        ValueError: no architecture meets some of the limits, or there is no predictor.
    """
    started = time.monotonic()
    predictor, limited, costs = the_predictor(settings), settings.limited, settings.costs
    table, coding = CostTable(space), Coding(space)
    functions: dict[str, Callable[[Codes], ArrayLike]] = {**table.functions}
    facts = {"space": f"{space.size:.3g} networks", "seed": str(settings.seed)}
    if costs[0].latency_table is not None:
        layers = LatencyTable.load(costs[0].latency_table, space)
        facts["latency"] = layers.summed_over(costs[0].latency_table)
        functions["latency_ms"] = AdditiveLatency(space, layers.contributions).latencies_of

    def predict(codes: Codes) -> ArrayLike:
        return predictor.predict(coding.one_hot(codes))

    archs, points, networks = [], [], []
    for cost in costs:
        problem = Problem(coding, predict, functions, cost.limits, cost.minimize, written=cost.written)
        problem.check()
        found = settings.strategy.search(problem, np.random.default_rng(settings.seed))
        best = found[[found.best]]
        (arch,) = problem.decode(best.codes)
        predicted = float(best.scores[0, 0].clip(0, 1))  # a regression knows no bounds, an accuracy does
        values = {name: float(np.asarray(function(best.codes))[0]) for name, function in functions.items()}
        macs, params, latency = int(values["macs"]), int(values["params"]), values.get("latency_ms")
        log.info(
            "%s: predicted accuracy %.4f, %.1fM MACs%s; %d predictions",
            describe_limits(cost),
            predicted,
            macs / 1e6,
            "" if latency is None else f", {latency:.2f} ms",
            len(found),
        )
        archs.append(arch)
        blocks = blocks_of(table, arch)
        own = (cost.limits[limited], arch.to_dict(), values[limited], macs, params, latency)
        points.append(report.TradeoffPoint(*own, predicted=predicted, accuracy=None, baseline=None, blocks=blocks))
        names = ("limit", "arch", limited, "macs", "params", "latency_ms")
        network: dict[str, Any] = dict(zip(names, own, strict=True)) | {"predicted": predicted}
        if isinstance(space, (OFAMobileNetV3, OFAProxyless)):
            network["published"] = published.to_published(space, arch)
        networks.append(network)
    facts["time of this run"] = f"{time.monotonic() - started:.1f} s"
    write_json(folder / "networks.json", networks)
    report.write_tradeoff_report(
        folder / "report.html",
        report.TradeoffReport(
            title=f"{space.title} by prediction",
            space=space.title,
            data="as the predictor's",
            strategy=type(settings.strategy).__name__,
            predictor=type(predictor).__name__,
            cost=limited,  # type: ignore[arg-type]
            points=points,
            scored=(),
            references=settings.references,
            facts=facts,
            notes=[
                "No network was run: accuracies are predictions, and a search finds where a predictor errs upwards. Score or "
                "retrain what you choose."
            ],
        ),
    )
    return PredictedNetworks(archs, points)
