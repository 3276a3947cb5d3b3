"""Candidates scored with a supernet's weights, each of them once."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from oneshot.arch import Arch
from oneshot.costs import Cost
from oneshot.evaluation import Evaluator, Score, SuccessiveHalving
from oneshot.pipeline.candidate_costs import CandidateCosts, describe_cost
from oneshot.pipeline.drawing import generator_for
from oneshot.pipeline.search_settings import EvaluationSettings
from oneshot.runs import Store

log = logging.getLogger(__name__)
Values = NDArray[np.float64]


def describe(score: Score, cost: Cost, latency: float | None = None) -> str:
    """A score and what it costs, in a line."""
    return f"accuracy {score.accuracy:.4f}, loss {score.loss:.4f}, {describe_cost(cost, latency)}"


class CandidateScores:
    """Scores of a supernet's subnets, remembered across a stop.

    Args:
        store: remembers them, with what they cost.
        seed: of all that is drawn for the search.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        costs: CandidateCosts,
        store: Store[Arch, Score],
        settings: EvaluationSettings,
        seed: int,
    ) -> None:
        self.evaluator, self.store, self.settings, self.seed = evaluator, store, settings, seed
        self.space = evaluator.supernet.space
        self._costs = costs
        self._halving: SuccessiveHalving | None = None
        self._decided: set[Arch] = set()  # those that halving has stopped or scored on all images
        if settings.halving_images is not None:
            self._halving = SuccessiveHalving(evaluator, settings.halving_images, self.key, store)
            if len(self._halving.rungs) == 1:
                held_out = self._halving.rungs[0]
                log.warning(
                    "evaluation.halving_images is no fewer than the %d held-out images: nothing is halved", held_out
                )

    @property
    def known(self) -> Mapping[Arch, Score]:
        """The scores of all candidates so far, in the order in which they were asked for."""
        return self.store.scores

    def generator(self, purpose: str) -> np.random.Generator:
        """The randomness of one part of a search, by its seed."""
        return generator_for(purpose, self.seed)

    def score_all(
        self,
        archs: Sequence[Arch],
        source: str,
        with_latency: bool = False,
        scored: Callable[[tuple[float, ...]], object] = lambda key: None,
    ) -> list[tuple[float, ...]]:
        """The keys to compare ``archs`` by, higher is better; those are evaluated that are not on record.

        Args:
            source: what the record calls them.
            scored: called with the key of each.
        """
        # The store may hold some of a batch that was stopped, whom halving has to see again to decide about the others.
        known = self.known if self._halving is None else self._decided
        unknown = [arch for arch in archs if arch not in known]
        for arch in archs:
            if arch in known:
                scored(self.key(self.known[arch]))
        for arch, found in (self._halving or self.evaluator).scores(unknown):
            if arch not in self.known:
                self._record(source, arch, found, with_latency)
            self._decided.add(arch)
            scored(self.key(found))
        self.store.arrange(archs)
        return self.keys(archs)

    def _record(self, source: str, arch: Arch, score: Score, with_latency: bool) -> None:
        if not math.isfinite(score.loss):
            log.warning(
                "the loss of %s is %s: its activations overflow, and it is ranked last", arch.to_json(), score.loss
            )
        cost = self._costs.table.cost(arch)
        latency = self._costs.latency(arch) if with_latency else self._costs.known_latency(arch)
        self.store.record(source, arch, score, cost.macs, cost.params, latency)

    def key(self, score: Score) -> tuple[float, ...]:
        """The measure that is ranked by, higher is better; the other one breaks ties. With successive halving, whoever was
        scored on more images comes first. A network whose loss is no finite number is last by either measure.
        """
        is_finite = math.isfinite(score.loss)
        accuracy, minus_loss = (score.accuracy, -score.loss) if is_finite else (-math.inf, -math.inf)
        ordered = (accuracy, minus_loss) if self.settings.metric == "accuracy" else (minus_loss, accuracy)
        return ordered if self.settings.halving_images is None else (score.num_images, *ordered)

    def keys(self, archs: Sequence[Arch]) -> list[tuple[float, ...]]:
        """What the search compares scored candidates by, higher is better."""
        return [self.key(self.known[arch]) for arch in archs]

    def combined(self, arch: Arch) -> float | None:
        """What other witnesses and the score of a candidate give together, where they rank."""
        return None

    def describe(self, arch: Arch) -> str:
        """One line about a scored candidate, with what all witnesses together give it where these rank."""
        combined = self.combined(arch)
        together = "" if combined is None else f"all witnesses {combined:.3f}, "
        known = self.known[arch], self._costs.table.cost(arch), self._costs.known_latency(arch)
        return f"{together}{describe(*known)}"

    def ranked(self, archs: Iterable[Arch]) -> list[Arch]:
        """Scored candidates by their keys, the best first."""
        listed = list(archs)
        keys = dict(zip(listed, self.keys(listed), strict=True))
        return sorted(listed, key=keys.__getitem__, reverse=True)

    def inherited(self, archs: Sequence[Arch]) -> Values:
        """``(num_archs,)``: the measure that is ranked by, higher is better; minus infinity for a loss that is no finite number,
        NaN for networks that were not scored.
        """
        known = [self.known.get(arch) for arch in archs]
        return np.array([math.nan if score is None else self.key(score)[-2] for score in known], dtype=np.float64)

    def is_whole(self, arch: Arch) -> bool:
        """Whether a scored candidate was scored on all held-out images."""
        return self.known[arch].num_images == len(self.evaluator.held_out.images)
