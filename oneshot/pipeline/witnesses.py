"""All that can be asked about networks that nobody has trained alone: counts, scores of untrained networks, a supernet."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.evaluation import Panel, Witness
from oneshot.predictors import RidgePredictor, explained_variance
from oneshot.processes import count, shared_out
from oneshot.progress import progress
from oneshot.spaces.coding import Codes, Coding

log = logging.getLogger(__name__)
Values = NDArray[np.float64]

MACS, PARAMS, INHERITED, ADDED = "MACs", "parameters", "inherited weights", "what options add"
SIZE, SUPERNET = "size", "supernet"
MIN_NETWORKS = 50  # random ones: the standard error of a correlation between 50 without relation is 0.14
_SHARED = 8  # networks that a process scores between two exchanges
# Scores of untrained networks that look at the same thing.
_FAMILIES = {
    "naswot": "activation patterns",
    "swap": "activation patterns",
    "regularised_swap": "activation patterns",
    "synflow": "signal",
    "num_params": SIZE,
    "macs": SIZE,
    "az_expressivity": "features",
    "az_progressivity": "features",
    "az_trainability": "features",
}


class Untrained(Protocol):
    """Scores of untrained networks."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def scores(self, archs: Sequence[Arch]) -> Iterator[tuple[Arch, dict[str, float]]]: ...


class Remembered(Protocol):
    """Where values of witnesses are kept across a stop."""

    def value(self, key: Arch, name: str) -> float | None: ...

    def add_value(self, key: Arch, name: str, value: float) -> None: ...


@dataclass(frozen=True)
class Measured:
    """How far witnesses agree with themselves.

    Attributes:
        halves: the correlation of inherited losses on both halves of the held-out images, stepped up to all of them; None where
            it was not measured.
        checkpoints: the correlation of the inherited losses by the last two checkpoints; None where there is one.
        draws: of each score of untrained networks, the correlation of two draws of weights and images.
    """

    halves: float | None
    checkpoints: float | None
    draws: Mapping[str, float]

    @property
    def inherited(self) -> float:
        """The reliability of inherited weights."""
        return (1.0 if self.halves is None else self.halves) * (1.0 if self.checkpoints is None else self.checkpoints)


class Witnesses:
    """What every witness says of architectures, as a column of numbers each, higher is better.

    Args:
        coding: of the space.
        costs: MACs and parameters are always witnesses.
        untrained: scores of untrained networks.
        remembered: where these are kept.
        inherited: the inherited losses of scored networks, turned so that higher is better; with them, what each option adds to
            them is a witness too, once ``learn`` was called.
    """

    def __init__(
        self,
        coding: Coding,
        costs: CostTable,
        untrained: Untrained | None = None,
        remembered: Remembered | None = None,
        inherited: Callable[[Sequence[Arch]], Values] | None = None,
    ) -> None:
        self.coding, self.costs = coding, costs
        self._untrained, self._remembered, self._inherited = untrained, remembered, inherited
        self._known: dict[Arch, dict[str, float]] = {}
        self._added: RidgePredictor | None = None
        self._share = 0.0  # of the variance of inherited losses that options explain

    @property
    def untrained(self) -> tuple[str, ...]:
        """The names of the scores of untrained networks."""
        return () if self._untrained is None else self._untrained.names

    @property
    def names(self) -> tuple[str, ...]:
        """Of the witnesses, in the order of the columns; MACs are the first."""
        supernet = () if self._inherited is None else (INHERITED, ADDED)
        return (MACS, PARAMS, *self.untrained, *supernet)

    def learn(self, archs: Sequence[Arch]) -> None:
        """Finds out what each option adds to the inherited losses of ``archs``, which are random ones."""
        if self._inherited is None:
            return
        losses = self._inherited(archs)
        known = np.isfinite(losses)
        features = self.coding.one_hot(self.coding.encode(archs))[known]
        if known.sum() < 2:
            return
        self._added = RidgePredictor()
        self._added.fit(features, losses[known])
        self._share = max(0.0, explained_variance(RidgePredictor(), features, losses[known]))

    def values(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """``(num_archs, num_witnesses)``; NaN where a witness has nothing to say."""
        codes = self.coding.encode(archs)
        columns = list(self.costs.costs_of(codes).astype(np.float64).T)
        if self.untrained:
            self.ask(archs)
            columns += [np.array([self._known[arch][name] for arch in archs]) for name in self.untrained]
        if self._inherited is not None:
            added = np.full(len(archs), np.nan)
            if self._added is not None:
                added = self._added.predict(self.coding.one_hot(codes))
            columns += [self._inherited(archs), added]
        return np.stack(columns, axis=1).reshape(len(archs), len(self.names))

    def quick(self, codes: Codes) -> NDArray[np.float64]:
        """As ``values``, of thousands a second: only what needs no network, NaN for the rest."""
        found = np.full((len(codes), len(self.names)), np.nan)
        found[:, :2] = self.costs.costs_of(codes)
        if self._added is not None:
            found[:, self.names.index(ADDED)] = self._added.predict(self.coding.one_hot(codes))
        return found

    def panel(self, archs: Sequence[Arch], measured: Measured) -> Panel:
        """The witnesses weighed by what they say of ``archs``, random networks."""
        reliability = {INHERITED: measured.inherited, ADDED: self._share, **measured.draws}
        families = {MACS: SIZE, PARAMS: SIZE, INHERITED: SUPERNET, ADDED: SUPERNET}
        found = [
            Witness(name, families.get(name) or _FAMILIES.get(name, name), reliability.get(name, 1.0))
            for name in self.names
        ]
        return Panel(found, self.values(archs))

    def ask(self, archs: Sequence[Arch]) -> int:
        """Scores untrained networks that were not scored before; returns how many."""
        if self._untrained is None or not self.untrained:
            return 0
        unknown = []
        for arch in dict.fromkeys(archs):
            if arch in self._known:
                continue
            kept = {} if self._remembered is None else {n: self._remembered.value(arch, n) for n in self.untrained}
            if kept and all(value is not None for value in kept.values()):
                self._known[arch] = {name: math.nan if value is None else value for name, value in kept.items()}
            else:
                unknown.append(arch)
        found = _scored(self._untrained, unknown)
        for arch, values in progress(log, "untrained", "network", iterable=found, total=len(unknown)):
            self._known[arch] = values
            if self._remembered is not None:
                for name, value in values.items():
                    self._remembered.add_value(arch, name, value)
        return len(unknown)


def _scored(untrained: Untrained, archs: Sequence[Arch]) -> Iterator[tuple[Arch, dict[str, float]]]:
    """Different architectures with their scores, which several processes share out in small parts."""
    if count() == 1:
        yield from untrained.scores(archs)
        return
    size = _SHARED * count()
    for start in range(0, len(archs), size):
        part = archs[start : start + size]
        yield from zip(part, shared_out(part, lambda own: [values for _, values in untrained.scores(own)]), strict=True)


def draw_agreement(witnesses: Witnesses, other: Untrained, archs: Sequence[Arch]) -> dict[str, float]:
    """How far each score of untrained networks agrees with ``other``, another draw of weights and images, on ``archs``."""
    own = witnesses.values(archs)
    found = _scored(other, archs)
    drawn = dict(progress(log, "another draw", "network", iterable=found, total=len(archs)))
    columns = {name: own[:, witnesses.names.index(name)] for name in witnesses.untrained}
    return {name: rank_agreement(column, [drawn[arch][name] for arch in archs]) for name, column in columns.items()}


def rank_agreement(first: Sequence[float] | Values, second: Sequence[float] | Values) -> float:
    """Spearman's rho over the pairs that are finite, at least 0; 1 where nothing can disagree."""
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < 2 or not np.ptp(one[known]) or not np.ptp(other[known]):
        return 1.0
    return max(0.0, float(spearmanr(one[known], other[known]).statistic))


def plain(measured: Measured) -> dict[str, Any]:
    """As JSON holds it."""
    return {"halves": measured.halves, "checkpoints": measured.checkpoints, "draws": dict(measured.draws)}
