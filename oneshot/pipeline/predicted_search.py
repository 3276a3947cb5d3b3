"""Search with a predictor: it learns from few scored subnets, a strategy asks it about many, the best are scored again."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oneshot import published, report
from oneshot.arch import Arch
from oneshot.costs import AdditiveLatency, CostSettings, CostTable, LatencyTable
from oneshot.pipeline.candidate_scores import Scorer, blocks_of
from oneshot.pipeline.results import Outcome
from oneshot.predictors import Predictor, PredictorReport, fit_and_check
from oneshot.progress import progress
from oneshot.runs import write_json
from oneshot.search import History, Problem, Strategy
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
        strategy: Strategy,
        costs: Sequence[CostSettings],
        settings: PredictionSettings,
    ) -> None:
        if scorer.evaluation.halving_images is not None:
            raise ValueError("a predictor learns from scores on the same images: without evaluation.halving_images")
        self.scorer, self.predictor, self.strategy = scorer, predictor, strategy
        self.costs, self.settings = costs, settings
        _check_latency(costs[0])

    def search(self) -> list[Outcome]:
        """The outcome under each set of limits, with random search at equal budget as the baseline.

        Raises:
            ValueError: no architecture meets some of the limits, or the predictor cannot learn from the pairs.
        """
        started = time.monotonic()
        scorer, settings = self.scorer, self.settings
        problems = [scorer.problem(cost, self._predict) for cost in self.costs]
        for problem in problems:
            problem.check()
        total = settings.num_pairs + 2 * len(self.costs) * settings.num_verified
        with scorer.store.exported(), progress(log, "score", "network", total=total) as bar:
            pairs = self._pairs(problems, bar)
            checked = self._learn([arch for part in pairs for arch in part])
            outcomes = []
            for cost, problem, part in zip(self.costs, problems, pairs, strict=True):
                best, verified, predicted = self._best(cost, problem, bar)
                baseline = self._baseline(cost, problem, part, bar)
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
        return self._predict(self.scorer.coding.encode(archs))

    def _predict(self, codes: Codes) -> Values:
        return np.asarray(self.predictor.predict(self.scorer.coding.one_hot(codes)), dtype=np.float64)

    def _pairs(self, problems: Sequence[Problem], bar: tqdm[object]) -> list[list[Arch]]:
        """Random subnets to learn from, as many of each of ``problems``, and scored."""
        scorer, rng = self.scorer, self.scorer.generator("pairs")
        drawn: dict[Arch, int] = {}  # and the set of limits for which
        for number in range(_TRIES * len(problems)):
            index = number % len(problems)
            wanted = math.ceil((self.settings.num_pairs - len(drawn)) / (len(problems) - index))
            for arch in problems[index].decode(problems[index].sample(wanted, rng)):
                drawn.setdefault(arch, index)
        pairs = [[arch for arch, own in drawn.items() if own == index] for index in range(len(problems))]
        for cost, part in zip(self.costs, pairs, strict=True):
            scorer.score_all(part, "pairs", cost.needs_latency, lambda key: bar.update())
        return pairs

    def _baseline(self, cost: CostSettings, problem: Problem, pairs: Sequence[Arch], bar: tqdm[object]) -> list[Arch]:
        """Random search at equal budget: the pairs, which are random as well, and as many more as were verified."""
        scorer, share = self.scorer, self.settings.num_pairs // len(self.costs)
        history = History(problem, len(pairs) + self.settings.num_verified, scorer.generator("baseline"))
        history.propose(scorer.coding.encode(pairs))
        history.fill(len(pairs) + self.settings.num_verified)
        more = problem.decode(history.waiting[len(pairs) :])
        scorer.score_all(more, "random", cost.needs_latency, lambda key: bar.update())
        return [*pairs[:share], *more]

    def _learn(self, archs: Sequence[Arch]) -> PredictorReport:
        """Fits the predictor to scored subnets."""
        scorer = self.scorer
        pairs = {arch: scorer.key(scorer.store.scores[arch])[0] for arch in archs}
        known = {arch: score for arch, score in pairs.items() if np.isfinite(score)}
        features = scorer.coding.one_hot(scorer.coding.encode(known))
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
        self, cost: CostSettings, problem: Problem, bar: tqdm[object]
    ) -> tuple[Arch, list[Arch], dict[Arch, float]]:
        """The best of the architectures with the highest predictions, all of them, and what was predicted."""
        scorer = self.scorer
        found = self.strategy.search(problem, scorer.generator("search"))
        first = found.top(self.settings.num_verified)
        verified = problem.decode(first.codes)
        keys = scorer.score_all(verified, "verified", cost.needs_latency, lambda key: bar.update())
        best = verified[max(range(len(verified)), key=lambda index: (keys[index], -index))]
        log.info("%s: %d predictions; best: %s", _describe(cost), len(found), scorer.describe(best))
        return best, verified, dict(zip(verified, first.scores[:, 0].tolist(), strict=True))

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
    strategy: Strategy,
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
    _check_latency(costs[0])
    table, coding = CostTable(space), Coding(space)
    functions: dict[str, Callable[[Codes], ArrayLike]] = {**table.functions}
    if costs[0].latency_table is not None:
        layers = LatencyTable.load(costs[0].latency_table, space)
        functions["latency_ms"] = AdditiveLatency(space, layers.contributions).latencies_of

    def predict(codes: Codes) -> ArrayLike:
        return predictor.predict(coding.one_hot(codes))

    archs, points, networks = [], [], []
    for cost in costs:
        problem = Problem(coding, predict, functions, cost.limits, cost.minimize)
        problem.check()
        found = strategy.search(problem, np.random.default_rng(seed))
        best = found[[found.best]]
        (arch,) = problem.decode(best.codes)
        predicted = float(best.scores[0, 0])
        values = {name: float(np.asarray(function(best.codes))[0]) for name, function in functions.items()}
        macs, params, latency = int(values["macs"]), int(values["params"]), values.get("latency_ms")
        log.info(
            "%s: predicted accuracy %.4f, %.1fM MACs%s; %d predictions",
            _describe(cost),
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
    return archs


def _check_latency(cost: CostSettings) -> None:
    if cost.needs_latency and cost.latency_table is None:
        raise ValueError(
            "a predictor answers faster than a network can be timed: give cost.latency_table, a folder of layer latencies "
            "such as measure_latency.py writes, with cost.max_latency_ms"
        )


def _describe(cost: CostSettings) -> str:
    return ", ".join(f"max_{name}={limit:g}" for name, limit in cost.limits.items()) or "without limits"
