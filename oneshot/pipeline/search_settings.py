"""All that can be set about the search of a supernet, in plain values and parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oneshot.checking import check_least
from oneshot.costs import CostSettings
from oneshot.evaluation import ScoreSettings
from oneshot.pipeline.retrain import RetrainSettings
from oneshot.pipeline.truth import Truth
from oneshot.pipeline.witnesses import MIN_NETWORKS
from oneshot.predictors import Predictor
from oneshot.report import Reference
from oneshot.search import Strategy
from oneshot.training import TrainSettings

INHERITED, COMBINED = "inherited", "combined"
SCORES = (INHERITED, COMBINED)


@dataclass(frozen=True)
class EvaluationSettings(ScoreSettings):
    """How the candidates of a search are scored and ranked: ``ScoreSettings``, and

    Args:
        metric: "loss" (ties broken by accuracy), which ranks better, or "accuracy" (ties by loss).
        halving_images: successive halving: all candidates that a search proposes together are scored on so many of these
            images, the better half of them on twice as many, and so on; None scores every candidate on all.
        device: "auto", "cpu", "cuda", ...
        threads: CPU threads; None leaves torch's own choice.
        repair: whether weights are repaired, rather than statistics recalibrated; None is where the space is that of a network
            that was there before, and its supernet has not been trained since.
        repair_images: training images on which they are; labels are not used.
    """

    metric: str = "loss"
    halving_images: int | None = None
    device: str = "auto"
    threads: int | None = None
    repair: bool | None = None
    repair_images: int = 384

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric not in ("accuracy", "loss"):
            raise ValueError(f"evaluation.metric is 'accuracy' or 'loss', not {self.metric!r}")
        check_least(2, "evaluation.", repair_images=self.repair_images)
        check_least(1, "evaluation.", halving_images=self.halving_images, threads=self.threads)


@dataclass(frozen=True)
class PredictionSettings:
    """How a predictor learns and what is done with its answers.

    Args:
        num_pairs: random subnets within the limits that the supernet scores for the predictor to learn from.
        holdout: part of them on which it is judged before it learns from all.
        num_verified: subnets with the best predictions under each limit that the supernet then scores.
        with_costs: whether multiply-accumulates and parameters are features beside the options. Options determine them, so that
            they tell something new where options multiply, such as widths and depths, and there are few pairs.
    """

    num_pairs: int = 300
    holdout: float = 0.2
    num_verified: int = 10
    with_costs: bool = False

    def __post_init__(self) -> None:
        check_least(5, "prediction.", num_pairs=self.num_pairs)
        check_least(1, "prediction.", num_verified=self.num_verified)
        if not 0 < self.holdout < 1:
            raise ValueError(f"prediction.holdout lies between 0 and 1, not {self.holdout}")


@dataclass(frozen=True)
class RankingSettings:
    """How a ranking is judged.

    Args:
        num_resamples: bootstrap resamples of the candidates for the intervals.
        num_seeds: trainings of each network that is retrained for its true accuracy, which is their mean.
    """

    num_resamples: int = 200
    num_seeds: int = 1

    def __post_init__(self) -> None:
        check_least(2, "ranking.", num_resamples=self.num_resamples)
        check_least(1, "ranking.", num_seeds=self.num_seeds)


@dataclass(frozen=True)
class CombinationSettings:
    """How several witnesses are combined, see docs/ranking.md.

    Args:
        num_reference: random networks within the limits on which witnesses are compared and put on one scale.
        untrained: scores of untrained networks that are witnesses, by name.
        num_checked: of the random networks, those on which it is measured how far witnesses agree with themselves.
    """

    num_reference: int = 500
    untrained: tuple[str, ...] = ("naswot", "synflow", "az_expressivity", "az_progressivity", "az_trainability")
    num_checked: int = 100

    def __post_init__(self) -> None:
        object.__setattr__(self, "untrained", tuple(self.untrained))
        check_least(MIN_NETWORKS, "combination.", num_reference=self.num_reference, num_checked=self.num_checked)


@dataclass(frozen=True)
class RetrainedTruth:
    """True accuracies are found by retraining some of the networks that were scored.

    Args:
        number: networks to retrain, spread evenly over the ranking.
        trainer: how each is trained.
        retrain: likewise.
        num_seeds: trainings of each; their mean is its truth.
    """

    number: int
    trainer: TrainSettings
    retrain: RetrainSettings = field(default_factory=RetrainSettings)
    num_seeds: int = 1


@dataclass(frozen=True)
class SearchSettings:
    """One search, under one set of limits or several.

    Args:
        strategy: what proposes candidates.
        costs: the sets of limits; where latency comes from is that of the first.
        limited: the cost in which they differ: "macs", "params" or "latency_ms".
        evaluation: how candidates are scored.
        predictor: learns from few scored candidates and is asked by the strategy in place of the supernet.
        prediction: how it learns.
        references: networks known from elsewhere to compare with.
        truth: true accuracies to judge the ranking by, or how to find some.
        ranking: how it is judged.
        score: what candidates are ranked by: "inherited" weights, or all witnesses "combined".
        combination: how these are combined.
        seed: of all that is drawn.
        config: plain values kept with every subnet (how to load its data again).
    """

    strategy: Strategy
    costs: Sequence[CostSettings] = (CostSettings(),)
    limited: str = "macs"
    evaluation: EvaluationSettings = EvaluationSettings()
    predictor: Predictor | None = None
    prediction: PredictionSettings = PredictionSettings()
    references: Sequence[Reference] = ()
    truth: Truth | RetrainedTruth | None = None
    ranking: RankingSettings = RankingSettings()
    score: str = "inherited"
    combination: CombinationSettings = CombinationSettings()
    seed: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ValueError(f"score is {' or '.join(map(repr, SCORES))}, not {self.score!r}")
