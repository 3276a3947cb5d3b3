"""Search with a predictor: it learns from few scored subnets, a strategy asks it about many, the best are scored again."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oneshot.arch import Arch
from oneshot.costs import CostSettings
from oneshot.pipeline.candidate_costs import CandidateCosts
from oneshot.pipeline.candidate_scores import CandidateScores
from oneshot.pipeline.combined_scores import CombinedScores
from oneshot.pipeline.drawing import draw_random
from oneshot.pipeline.evidence import Evidence, evidence_of
from oneshot.pipeline.results import Outcome
from oneshot.pipeline.search_settings import SearchSettings
from oneshot.predictors import Predictor, PredictorReport, PublishedPredictor, fit_and_check
from oneshot.predictors.predictor import Features
from oneshot.progress import progress
from oneshot.runs import write_json
from oneshot.search import History, Problem
from oneshot.search.limits import describe_limit
from oneshot.spaces.coding import Codes

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)
Values = NDArray[np.float64]


class PredictedSearch:
    """Searches under each of several sets of limits with one predictor of the scores of a supernet's subnets; run again in the
    same folder, it continues where it was stopped.

    Args:
        scores: of the subnets that the predictor learns from, and of those that it finds best.
        costs: of all that it is asked about.
        settings: with a predictor.

    Raises:
        ValueError: there is no predictor, ``scores`` use successive halving, or latency is limited and would be measured.
    """

    def __init__(
        self,
        scores: CandidateScores,
        costs: CandidateCosts,
        settings: SearchSettings,
    ) -> None:
        if scores.settings.halving_images is not None:
            raise ValueError("a predictor learns from scores on the same images: without evaluation.halving_images")
        self.scores, self.costs, self.strategy = scores, costs, settings.strategy
        self.predictor, self.limits = the_predictor(settings), settings.costs
        self.settings = settings.prediction
        if self.settings.with_costs and isinstance(self.predictor, PublishedPredictor):
            raise ValueError("a published predictor has inputs of its own: without prediction.with_costs")
        self._costs: tuple[Values, Values] | None = None  # mean and spread of their logarithms, where they are features
        self.evidence: Evidence | None = None  # where the predictor is not to be trusted, and others are asked

    def search(self) -> list[Outcome]:
        """The outcome under each set of limits, with random search at equal budget as the baseline.

        Raises:
            ValueError: no architecture meets some of the limits, or the predictor cannot learn from the pairs.
        """
        scores, settings = self.scores, self.settings
        problems = [self.costs.problem(limits, self._expect) for limits in self.limits]
        for problem in problems:
            problem.check()
        total = settings.num_pairs + 2 * len(self.limits) * settings.num_verified
        with scores.store.exported(), progress(log, "score", "network", total=total) as bar:
            pairs = self._pairs(problems, bar)
            every = [arch for part in pairs for arch in part]
            checked = self._learn(every)
            self.evidence = None if checked.trusted else self._others(every)
            outcomes = []
            for cost, problem, part in zip(self.limits, problems, pairs, strict=True):
                best, verified, predicted = self._best(cost, problem, bar)
                baseline = self._baseline(cost, problem, part, bar)
                outcomes.append(
                    Outcome(
                        cost,
                        best,
                        verified,
                        baseline,
                        f"{type(self.strategy).__name__} with {type(self.predictor).__name__}",
                        predicted if self._predicts_accuracy else {},
                        [self._note(checked)],
                        {"predictor": type(self.predictor).__name__, "predictor's Kendall tau": _agreement(checked)},
                        chosen_by="" if self.evidence is None else self._chosen_by(self.evidence),
                        learned_from=every,
                    )
                )
        return outcomes

    def predict(self, archs: Sequence[Arch]) -> Values:
        """The predicted scores of ``archs``, ``(num_archs,)``, once it has learned."""
        return self._predict(self.costs.coding.encode(archs))

    def _predict(self, codes: Codes) -> Values:
        return np.asarray(self.predictor.predict(self._features(codes)), dtype=np.float64)

    def _features(self, codes: Codes) -> Features:
        """One-hot options, and where that is wanted the logarithms of MACs and parameters, standardised over the pairs."""
        options = self.costs.coding.one_hot(codes)
        if self._costs is None:
            return options
        mean, spread = self._costs
        features: Features = np.column_stack([options, (self._log_costs(codes) - mean) / spread]).astype(np.float32)
        return features

    def _log_costs(self, codes: Codes) -> Values:
        logs: Values = np.log(self.costs.table.costs_of(codes) + 1.0)
        return logs

    def _expect(self, codes: Codes) -> Values:
        """What the strategy maximises: predictions, or where these are not to be trusted what quick witnesses say together."""
        if self.evidence is None:
            return self._predict(codes)
        return self.evidence.panel.combined(self.evidence.witnesses.quick(codes))

    def _others(self, pairs: Sequence[Arch]) -> Evidence | None:
        """The witnesses to ask in place of a predictor that is not to be trusted; None where there are too few ``pairs``, random
        networks, to weigh them by.
        """
        if isinstance(self.scores, CombinedScores):
            return self.scores.evidence()
        return evidence_of(self.scores, self.costs.table, pairs)

    @property
    def _predicts_accuracy(self) -> bool:
        combined = isinstance(self.scores, CombinedScores)
        return self.scores.settings.metric == "accuracy" and self.evidence is None and not combined

    def _pairs(self, problems: Sequence[Problem], bar: tqdm[object]) -> list[list[Arch]]:
        """Random subnets to learn from, as many of each of ``problems``, and scored."""
        pairs = draw_random(problems, self.settings.num_pairs, self.scores.generator("pairs"))
        for cost, part in zip(self.limits, pairs, strict=True):
            self.scores.score_all(part, "pairs", cost.needs_latency, lambda key: bar.update())
        return pairs

    def _baseline(self, cost: CostSettings, problem: Problem, pairs: Sequence[Arch], bar: tqdm[object]) -> list[Arch]:
        """Random search at equal budget: the pairs, which are random as well, and as many more as were verified."""
        share = math.ceil(self.settings.num_pairs / len(self.limits))
        history = History(problem, len(pairs) + self.settings.num_verified, self.scores.generator("baseline"))
        history.propose(self.costs.coding.encode(pairs))
        history.fill(len(pairs) + self.settings.num_verified)
        more = problem.decode(history.waiting[len(pairs) :])
        self.scores.score_all(more, "random", cost.needs_latency, lambda key: bar.update())
        return [*pairs[:share], *more]

    def _learn(self, archs: Sequence[Arch]) -> PredictorReport:
        """Fits the predictor to scored subnets."""
        scores = self.scores
        pairs = dict(zip(archs, (key[0] for key in scores.keys(archs)), strict=True))
        known = {arch: score for arch, score in pairs.items() if np.isfinite(score)}
        codes = self.costs.coding.encode(known)
        if self.settings.with_costs:
            logs = self._log_costs(codes)
            self._costs = logs.mean(axis=0), np.maximum(logs.std(axis=0), 1e-12)
        features = self._features(codes)
        values = np.array(list(known.values()), dtype=np.float64)
        checked = fit_and_check(self.predictor, features, values, self.settings.holdout, scores.seed)
        write_json(scores.store.folder / "predictor.json", asdict(checked))
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
        found = self.strategy.search(problem, self.scores.generator("search"))
        first = found.top(self.settings.num_verified)
        verified = problem.decode(first.codes)
        keys = self.scores.score_all(verified, "verified", cost.needs_latency, lambda key: bar.update())
        best = verified[max(range(len(verified)), key=lambda index: (keys[index], -index))]
        if self.evidence is not None:
            best = self.evidence.first(verified)
        asked = "predictions; best" if self.evidence is None else f"networks; first by {self._chosen_by(self.evidence)}"
        log.info("%s: %d %s: %s", describe_limits(cost), len(found), asked, self.scores.describe(best))
        # A regression knows no bounds, an accuracy does.
        return best, verified, dict(zip(verified, first.scores[:, 0].clip(0, 1).tolist(), strict=True))

    def _note(self, checked: PredictorReport) -> str:
        trust = "The predictor" if checked.trusted else "The predictor is not to be trusted; it"
        number = self.settings.num_verified
        if self.evidence is not None:
            return (
                f"{trust} learned from {checked.num_pairs:,} scored subnets and was judged on {checked.num_held_out:,} of them "
                f"before: {checked.reason} So it was not asked: networks were chosen by {self._chosen_by(self.evidence)}."
            )
        under = " under each limit" if len(self.limits) > 1 else " within the limits" if self.limits[0].limits else ""
        chosen = (
            f"The best prediction{under} was chosen."
            if number == 1
            else f"The {number} best predictions{under} were scored by the supernet, and the best of those was chosen."
        )
        return (
            f"{trust} learned from {checked.num_pairs:,} scored subnets and was judged on {checked.num_held_out:,} of them "
            f"before: {checked.reason} {chosen}"
        )

    def _chosen_by(self, evidence: Evidence) -> str:
        if not evidence.panel.weighting.agreed:
            return "counting MACs, because nothing agrees with the supernet"
        return "all witnesses together, because the predictor is not to be trusted"


def the_predictor(settings: SearchSettings) -> Predictor:
    """The predictor that is searched with.

    Raises:
        ValueError: there is none, or latency is limited and would have to be measured.
    """
    if settings.predictor is None:
        raise ValueError("a search by predictions needs a predictor")
    cost = settings.costs[0]
    if cost.needs_latency and cost.latency_table is None:
        raise ValueError(
            "a predictor answers faster than a network can be timed: give cost.latency_table, a folder of layer latencies "
            "such as measure_latency.py writes, with cost.max_latency_ms, or search without a predictor: search=evolution"
        )
    return settings.predictor


def describe_limits(cost: CostSettings) -> str:
    """The limits in a line of the log."""
    limits = [describe_limit(name, limit, cost.written.get(name)) for name, limit in cost.limits.items()]
    return ", ".join(limits) or "without limits"


def _agreement(checked: PredictorReport) -> str:
    doubt = "" if checked.trusted else ", not to be trusted"
    return f"{checked.tau:.2f} ({checked.tau_low:.2f} to {checked.tau_high:.2f}){doubt}"
