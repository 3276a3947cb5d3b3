"""Candidates scored without training anything, each of them once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from oneshot.arch import Arch
from oneshot.evaluation import Score
from oneshot.pipeline.candidate_costs import CandidateCosts, describe_cost
from oneshot.pipeline.drawing import generator_for
from oneshot.runs import Store
from oneshot.training_free import TrainingFreeScores

Values = NDArray[np.float64]
_NOT_TRAINED = Score(math.nan, math.nan, 0)


class Ranker(Protocol):
    """Makes what candidates are compared by of their training-free scores."""

    @property
    def name(self) -> str:
        """What the ranking is called."""

    def __call__(self, archs: Sequence[Arch], values: Mapping[str, Values]) -> Values:
        """``(num_archs,)`` or ``(num_archs, num_entries)``, compared entry by entry, higher is better, of architectures and their
        scores by name.
        """


class ListedScores:
    """The first of several scores ranks, the others break its ties in their order."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    @property
    def name(self) -> str:
        return self._names[0]

    def __call__(self, archs: Sequence[Arch], values: Mapping[str, Values]) -> Values:
        return np.stack([values[name] for name in self._names], axis=1)


class UntrainedCandidates:
    """Training-free scores of the networks of a space, remembered across a stop.

    Args:
        scorer: gives them.
        store: remembers them, with what networks cost.
        rank: makes of them what candidates are compared by; may be set later, but before anything is compared.
        seed: of all that is drawn for the search.
    """

    def __init__(
        self,
        scorer: TrainingFreeScores,
        costs: CandidateCosts,
        store: Store[Arch, Score],
        rank: Ranker,
        seed: int,
    ) -> None:
        self.scorer, self.store, self.rank, self.seed = scorer, store, rank, seed
        self.space = scorer.space
        self._costs = costs

    @property
    def known(self) -> Mapping[Arch, Score]:
        """All candidates so far, in the order in which they were asked for; nothing is known of their accuracy and loss."""
        return self.store.scores

    @property
    def way(self) -> str:
        """What ranks, in words."""
        return self.rank.name

    @property
    def metric(self) -> str:
        """What candidates are compared by."""
        return self.rank.name

    def generator(self, purpose: str) -> np.random.Generator:
        """The randomness of one part of a search, by its seed."""
        return generator_for(purpose, self.seed)

    def score_all(
        self,
        archs: Sequence[Arch],
        source: str,
        with_latency: bool = False,
        scored: Callable[[Arch], object] = lambda arch: None,
    ) -> list[tuple[float, ...]]:
        """The keys to compare ``archs`` by, higher is better; those are scored that are not on record.

        Args:
            source: what the record calls them.
            scored: called with each.
        """
        for arch in archs:
            if arch not in self.known:
                self.values_of(arch)
                cost = self._costs.table.cost(arch)
                latency = self._costs.latency(arch) if with_latency else self._costs.known_latency(arch)
                self.store.record(source, arch, _NOT_TRAINED, cost.macs, cost.params, latency)
            scored(arch)
        self.store.arrange(archs)
        return self.keys(archs)

    def values_of(self, arch: Arch) -> dict[str, float]:
        """The scores of one architecture by name, from the record or computed now and recorded."""
        kept = {name: self.store.value(arch, name) for name in self.scorer.names}
        known = {name: value for name, value in kept.items() if value is not None}
        if len(known) < len(kept):
            known = self.scorer(arch)
            for name, value in known.items():
                self.store.add_value(arch, name, value)
        return known

    def values(self, archs: Sequence[Arch]) -> dict[str, Values]:
        """``(num_archs,)`` for each score, NaN made minus infinity."""
        rows = [self.values_of(arch) for arch in archs]
        columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in self.scorer.names}
        return {name: np.where(np.isnan(column), -math.inf, column) for name, column in columns.items()}

    def keys(self, archs: Sequence[Arch]) -> list[tuple[float, ...]]:
        """What the search compares scored candidates by, higher is better."""
        if not archs:
            return []
        found = self.rank(archs, self.values(archs)).reshape(len(archs), -1)
        return [tuple(row) for row in np.where(np.isnan(found), -math.inf, found).tolist()]

    def ranked(self, archs: Iterable[Arch]) -> list[Arch]:
        """Scored candidates by their keys, the best first."""
        listed = list(archs)
        keys = dict(zip(listed, self.keys(listed), strict=True))
        return sorted(listed, key=keys.__getitem__, reverse=True)

    def keep_ranking(self) -> None:
        """Records what all candidates are compared by, where that is none of their scores but made of them."""
        if self.way in self.scorer.names:
            return
        archs = list(self.known)
        for arch, (value, *_) in zip(archs, self.keys(archs), strict=True):
            self.store.add_value(arch, self.way, value)

    def describe(self, arch: Arch) -> str:
        """One line about a scored candidate."""
        cost = self._costs.table.cost(arch)
        ((value, *_),) = self.keys([arch])
        return f"{self.way} {value:.6g}, {describe_cost(cost, self._costs.known_latency(arch))}"
