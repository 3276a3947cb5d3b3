"""Search with a predictor: it learns from few scored subnets, a strategy asks it about many, the best are scored again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oneshot import published, report
from oneshot.arch import Arch
from oneshot.costs import AdditiveLatency, CostSettings, CostTable, LatencyTable
from oneshot.pipeline.folders import write_json
from oneshot.pipeline.results import Outcome
from oneshot.pipeline.scoring import Scorer, blocks_of
from oneshot.predictors import Predictor, PredictorReport, fit_and_check
from oneshot.progress import progress
from oneshot.search import CodedProblem, CodedResult, CodedStrategy
from oneshot.search.history import History
from oneshot.spaces import OFAMobileNetV3, OFAProxyless
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.coding import Codes, Coding

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)
_TRIES = 20  # random subnets drawn for each pair that is wanted: tight limits leave few different ones
Values = NDArray[np.float64]


@dataclass(frozen=True)
class PredictionSettings:
    """How a predictor learns and what is done with its answers.

    Args:
        num_pairs: random subnets within the limits that the supernet scores for the predictor to learn from.
        holdout: part of them on which it is judged before it learns from all.
        num_verified: subnets with the best predictions under each limit that the supernet then scores.
    """

    num_pairs: int = 300
    holdout: float = 0.2
    num_verified: int = 10

    def __post_init__(self) -> None:
        if self.num_pairs < 5:
            raise ValueError(f"prediction.num_pairs is at least 5, not {self.num_pairs}")
        if not 0 < self.holdout < 1:
            raise ValueError(f"prediction.holdout lies between 0 and 1, not {self.holdout}")
        if self.num_verified < 1:
            raise ValueError(f"prediction.num_verified is at least 1, not {self.num_verified}")


class PredictedSearch:
    """Searches under each of several sets of limits with one predictor of the scores of a supernet's subnets; run again in the
    same folder, it continues where it was stopped.

    Args:
        scorer: scores the subnets that the predictor learns from, and those that it finds best.
        costs: the sets of limits.

    Raises:
        ValueError: ``scorer`` uses successive halving.
    """

    def __init__(
        self,
        scorer: Scorer,
        predictor: Predictor,
        strategy: CodedStrategy,
        costs: Sequence[CostSettings],
        settings: PredictionSettings,
    ) -> None:
        if scorer.evaluation.halving_images is not None:
            raise ValueError("a predictor learns from scores on the same images: without evaluation.halving_images")
        self.scorer, self.predictor, self.strategy = scorer, predictor, strategy
        self.costs, self.settings = costs, settings
        self._lookup = _Lookup(scorer.space, scorer.costs, costs[0])

    def search(self) -> list[Outcome]:
        """The outcome under each set of limits, with random search at equal budget as the baseline.

        Raises:
            ValueError: no architecture meets some of the limits, or the predictor cannot learn from the pairs.
        """
        started = time.monotonic()
        scorer, settings = self.scorer, self.settings
        problems = [self._lookup.problem(cost, self._predict) for cost in self.costs]
        for problem in problems:
            problem.check()
        total = settings.num_pairs + 2 * len(self.costs) * settings.num_verified
        with progress(log, "score", "network", total=total) as bar:
            pairs = self._pairs(bar)
            checked = self._learn([arch for part in pairs for arch in part])
            outcomes = []
            for cost, problem, part in zip(self.costs, problems, pairs, strict=True):
                best, verified, predicted = self._best(cost, problem, bar)
                baseline = self._baseline(cost, part, bar)
                seconds, started = time.monotonic() - started, time.monotonic()
                outcomes.append(
                    Outcome(
                        cost,
                        best,
                        verified,
                        baseline,
                        f"{type(self.strategy).__name__} with {type(self.predictor).__name__}",
                        seconds,
                        predicted if scorer.evaluation.metric == "accuracy" else {},
                        [self._note(checked)],
                        {"predictor": type(self.predictor).__name__, "predictor's Kendall tau": f"{checked.tau:.2f}"},
                    )
                )
        return outcomes

    def predict(self, archs: Sequence[Arch]) -> Values:
        """The predicted scores of ``archs``, ``(num_archs,)``, once it has learned."""
        return self._predict(self._lookup.coding.encode(archs))

    def _predict(self, codes: Codes) -> Values:
        return np.asarray(self.predictor.predict(self._lookup.coding.one_hot(codes)), dtype=np.float64)

    def _pairs(self, bar: tqdm[object]) -> list[list[Arch]]:
        """Random subnets to learn from, drawn within each set of limits in turn, and scored."""
        scorer, rng = self.scorer, random.Random(f"pairs {self.scorer.seed}")
        problems = [scorer.problem("pairs", cost) for cost in self.costs]
        drawn: dict[Arch, int] = {}  # and the set of limits for which
        for number in range(_TRIES * self.settings.num_pairs):
            index = number % len(problems)
            drawn.setdefault(problems[index].sample(rng), index)
            if len(drawn) == self.settings.num_pairs:
                break
        pairs = [[arch for arch, own in drawn.items() if own == index] for index in range(len(problems))]
        for cost, part in zip(self.costs, pairs, strict=True):
            scorer.score_all(part, "pairs", cost.needs_latency, lambda key: bar.update())
        return pairs

    def _baseline(self, cost: CostSettings, pairs: Sequence[Arch], bar: tqdm[object]) -> list[Arch]:
        """Random search at equal budget: the pairs, which are random as well, and as many more as were verified."""
        scorer, share = self.scorer, self.settings.num_pairs // len(self.costs)
        drawn = list(pairs)
        history = History(scorer.problem("random", cost))
        history.fill(drawn, len(pairs) + self.settings.num_verified, random.Random(f"baseline {scorer.seed}"))
        more = drawn[len(pairs) :]
        scorer.score_all(more, "random", cost.needs_latency, lambda key: bar.update())
        return [*pairs[:share], *more]

    def _learn(self, archs: Sequence[Arch]) -> PredictorReport:
        """Fits the predictor to scored subnets."""
        scorer = self.scorer
        pairs = {arch: scorer.key(scorer.journal.scores[arch])[0] for arch in archs}
        known = {arch: score for arch, score in pairs.items() if np.isfinite(score)}
        features = self._lookup.coding.one_hot(self._lookup.coding.encode(known))
        scores = np.array(list(known.values()), dtype=np.float64)
        checked = fit_and_check(self.predictor, features, scores, self.settings.holdout, scorer.seed)
        write_json(scorer.folder / "predictor.json", asdict(checked))
        (log.info if checked.trusted else log.warning)(
            "predictor%s: %s RMSE %.4f, of the mean %.4f",
            "" if checked.trusted else " is not to be trusted",
            checked.reason,
            checked.rmse,
            checked.baseline_rmse,
        )
        return checked

    def _best(
        self, cost: CostSettings, problem: CodedProblem, bar: tqdm[object]
    ) -> tuple[Arch, list[Arch], dict[Arch, float]]:
        """The best of the architectures with the highest predictions, all of them, and what was predicted."""
        scorer = self.scorer
        result = _search(self.strategy, problem, scorer.seed)
        first = np.argsort(-result.scores, kind="stable")[: self.settings.num_verified]
        verified = self._lookup.coding.decode(result.codes[first])
        keys = scorer.score_all(verified, "verified", cost.needs_latency, lambda key: bar.update())
        best = verified[max(range(len(verified)), key=lambda index: (keys[index], -index))]
        log.info("%s: %d predictions; best: %s", _describe(cost), len(result.codes), scorer.describe(best))
        return best, verified, dict(zip(verified, result.scores[first].tolist(), strict=True))

    def _note(self, checked: PredictorReport) -> str:
        trust = "The predictor" if checked.trusted else "The predictor is not to be trusted; it"
        number = self.settings.num_verified
        chosen = (
            "The best prediction under each limit was chosen."
            if number == 1
            else f"The {number} best predictions under each limit were scored by the supernet, and the best of those was chosen."
        )
        return (
            f"{trust} learned from {checked.num_pairs:,} scored subnets and was judged on {checked.num_held_out:,} of them "
            f"before: {checked.reason} {chosen}"
        )


def search_without_supernet(
    space: SearchSpace,
    predictor: Predictor,
    strategy: CodedStrategy,
    costs: Sequence[CostSettings],
    limited: str,
    folder: Path,
    seed: int,
    references: Sequence[report.Reference] = (),
) -> list[Arch]:
    """Searches with a predictor that has learned already, such as a published one, and nothing else.

    Writes ``networks.json``, with Once-for-All's encoding for its spaces, and ``report.html`` to ``folder``.

    Args:
        limited: the cost whose limits differ.

    Returns:
        The best architecture under each set of limits.

    Raises:
        ValueError: no architecture meets some of the limits.
    """
    started = time.monotonic()
    table = CostTable(space)
    lookup = _Lookup(space, table, costs[0])

    def predict(codes: Codes) -> Values:
        return np.asarray(predictor.predict(lookup.coding.one_hot(codes)), dtype=np.float64)

    found, points, networks = [], [], []
    for cost in costs:
        problem = lookup.problem(cost, predict)
        problem.check()
        result = _search(strategy, problem, seed)
        (arch,) = lookup.coding.decode(result.codes[[result.best]])
        predicted = float(result.scores[result.best])
        values = {name: float(column[0]) for name, column in lookup.costs(result.codes[[result.best]]).items()}
        macs, params, latency = int(values["macs"]), int(values["params"]), values.get("latency_ms")
        log.info(
            "%s: predicted accuracy %.4f, %.1fM MACs%s; %d predictions",
            _describe(cost),
            predicted,
            macs / 1e6,
            "" if latency is None else f", {latency:.2f} ms",
            len(result.codes),
        )
        found.append(arch)
        blocks = blocks_of(table, arch)
        own = (cost.limits[limited], arch.to_dict(), values[limited], macs, params, latency)
        points.append(report.TradeoffPoint(*own, predicted=predicted, accuracy=None, baseline=None, blocks=blocks))
        names = ("limit", "arch", limited, "macs", "params", "latency_ms")
        network: dict[str, Any] = dict(zip(names, own, strict=True)) | {"predicted": predicted}
        if isinstance(space, (OFAMobileNetV3, OFAProxyless)):
            network["published"] = published.to_published(space, arch)
        networks.append(network)
    seconds = time.monotonic() - started
    write_json(folder / "networks.json", networks)
    facts = {"space": f"{space.size:.3g} networks", "seed": str(seed), "time of this run": f"{seconds:.1f} s"}
    if costs[0].latency_table is not None:
        facts["latency"] = f"summed over {costs[0].latency_table}"
    report.write_tradeoff_report(
        folder / "report.html",
        report.TradeoffReport(
            title=f"{type(space).__name__} by prediction",
            space=type(space).__name__,
            data="as the predictor's",
            strategy=type(strategy).__name__,
            predictor=type(predictor).__name__,
            cost=limited,  # type: ignore[arg-type]
            points=points,
            scored=(),
            references=references,
            facts=facts,
            notes=[
                "No network was run: accuracies are predictions, and a search finds where a predictor errs upwards. Score or "
                "retrain what you choose."
            ],
        ),
    )
    return found


class _Lookup:
    """Costs of whole populations, and the problems that are posed with them."""

    def __init__(self, space: SearchSpace, table: CostTable, cost: CostSettings) -> None:
        if cost.needs_latency and cost.latency_table is None:
            raise ValueError(
                "a predictor answers faster than a network can be timed: give cost.latency_table, a folder of layer latencies "
                "such as measure_latency.py writes, with cost.max_latency_ms"
            )
        self.coding = Coding(space)
        self._table = table
        self._latency: AdditiveLatency | None = None
        if cost.latency_table is not None:
            self._latency = AdditiveLatency(space, LatencyTable.load(cost.latency_table, space).contributions)

    def costs(self, codes: Codes) -> Mapping[str, Values]:
        """MACs, parameters, and milliseconds where there is a table, ``(num_archs,)`` each."""
        values = self._table.costs_of(codes).astype(np.float64)
        costs = {"macs": values[:, 0], "params": values[:, 1]}
        if self._latency is not None:
            costs["latency_ms"] = self._latency.latencies_of(codes)
        return costs

    def problem(self, cost: CostSettings, predict: Callable[[Codes], Values]) -> CodedProblem:
        return CodedProblem(self.coding, predict, self.costs, cost.limits, cost.minimize)


def _search(strategy: CodedStrategy, problem: CodedProblem, seed: int) -> CodedResult:
    return strategy.search_coded(problem, np.random.default_rng(seed))


def _describe(cost: CostSettings) -> str:
    return ", ".join(f"max_{name}={limit:g}" for name, limit in cost.limits.items()) or "without limits"
