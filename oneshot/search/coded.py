"""Searches over codes: what is searched where scores and costs are functions of whole populations, and what comes out."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from oneshot.arch import Arch
from oneshot.search.limits import check_limits
from oneshot.search.pareto import pareto_front
from oneshot.search.problem import Problem
from oneshot.spaces.coding import Codes, Coding

Values = NDArray[np.float64]
"""``(num_archs,)``"""

_MIN_ACCEPTANCE = 0.05  # from which random architectures are drawn until they are feasible
_NUM_STEPS = 20  # of the random walk from a repaired architecture
_STEP_CHOICES = 2  # that one step redraws on average


class CodedProblem:
    """Architectures within ``limits``, as ``Problem``, with functions that take all codes of a population at once.

    Args:
        coding: of the space.
        score: ``(num_archs,)``, higher is better; a NaN counts as minus infinity. Each architecture is scored once.
        costs: ``(num_archs,)`` for each name. They should be quick: infeasible architectures are asked for as well.
        limits: upper bounds by name of cost.
        cost: the cost that ``NSGA2`` minimises, and by which every strategy breaks ties.

    Raises:
        ValueError: a limit that is not a positive number; any method: a name that ``costs`` does not give.
    """

    def __init__(
        self,
        coding: Coding,
        score: Callable[[Codes], Values],
        costs: Callable[[Codes], Mapping[str, Values]],
        limits: Mapping[str, float] | None = None,
        cost: str = "macs",
    ) -> None:
        check_limits(limits or {})
        self.coding = coding
        self.limits = dict(limits or {})
        self.cost = cost
        self._score = score
        self._costs = costs

    def score(self, codes: Codes) -> Values:
        """The scores of ``codes``, without NaN."""
        scores = np.asarray(self._score(codes), dtype=np.float64)
        assert scores.shape == (len(codes),), f"scores of shape {scores.shape} for {len(codes)} architectures"
        return np.where(np.isnan(scores), -math.inf, scores)

    def costs(self, codes: Codes) -> dict[str, Values]:
        """The limited costs of ``codes`` and the cost named ``cost``."""
        values = self._costs(codes)
        if not values.keys() >= {*self.limits, self.cost}:
            self._listed.check()  # raises, with the nearest name
        return {name: np.asarray(values[name], dtype=np.float64) for name in dict.fromkeys((*self.limits, self.cost))}

    def feasible(self, costs: Mapping[str, Values], count: int) -> NDArray[np.bool_]:
        """``(count,)``: which of as many architectures with these costs meet every limit."""
        met = np.ones(count, dtype=np.bool_)
        for name, limit in self.limits.items():
            met &= costs[name] <= limit
        return met

    def check(self) -> None:
        """As ``Problem.check``."""
        self._listed.check()

    # Feasible architectures ------------------------------------------------------------------------------------------

    def sample(self, count: int, rng: np.random.Generator) -> Codes:
        """``count`` random feasible architectures, not all of them different.

        They are uniform where the limits leave at least a few percent of the space. Elsewhere they are random
        architectures that were repaired and then walked at random through feasible ones.

        Raises:
            ValueError: as ``check``.
        """
        kept = [np.empty((0, len(self.coding.num_options)), dtype=np.int16)]
        wanted, tries = count, 100 * count
        rate = self._acceptance
        while rate >= _MIN_ACCEPTANCE and wanted > 0 and tries > 0:
            drawn = self.coding.sample(min(tries, math.ceil(1.1 * wanted / rate) + 4), rng)
            tries -= len(drawn)
            kept.append(drawn[self._meets(drawn)][:wanted])
            wanted -= len(kept[-1])
        if wanted > 0:
            kept.append(self._wander(self.repair(self.coding.sample(wanted, rng), rng), rng))
        return np.concatenate(kept)

    def repair(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """``codes`` with choices, in a random order, set as in a feasible architecture until every limit is met.

        Halving the order finds the number of choices: between one that does not suffice and one that does.

        Raises:
            ValueError: as ``check``.
        """
        repaired = codes.copy()
        wrong = np.flatnonzero(~self._meets(codes))
        if not len(wrong):
            return repaired
        start, end = codes[wrong], np.broadcast_to(self._example, (len(wrong), codes.shape[1]))
        rank = rng.permuted(np.broadcast_to(np.arange(codes.shape[1]), start.shape), axis=1)
        too_few, enough = np.zeros(len(wrong), dtype=np.int64), np.full(len(wrong), codes.shape[1])
        repaired[wrong] = end
        while (open_ := enough - too_few > 1).any():
            middle = (too_few + enough) // 2
            mixed = self.coding.mix(start, end, rank < middle[:, None], rng)
            met = self._meets(mixed)
            repaired[wrong[open_ & met]] = mixed[open_ & met]
            enough = np.where(open_ & met, middle, enough)
            too_few = np.where(open_ & ~met, middle, too_few)
        return repaired

    def _wander(self, codes: Codes, rng: np.random.Generator) -> Codes:
        """The ends of random walks through feasible architectures."""
        probability = min(1.0, _STEP_CHOICES / max(1, codes.shape[1]))
        for _ in range(_NUM_STEPS):
            changed = self.coding.mutate(codes, probability, rng)
            codes = np.where(self._meets(changed)[:, None], changed, codes)
        return codes

    def _meets(self, codes: Codes) -> NDArray[np.bool_]:
        return self.feasible(self.costs(codes), len(codes)) if self.limits else np.ones(len(codes), dtype=np.bool_)

    @functools.cached_property
    def _acceptance(self) -> float:
        """The part of random architectures that is feasible, judged once and whatever was sampled before."""
        return float(self._meets(self.coding.sample(100, np.random.default_rng(0))).mean())

    @functools.cached_property
    def _example(self) -> Codes:
        """A feasible architecture."""
        self._listed.check()
        return self.coding.encode([self._listed.example])

    @functools.cached_property
    def _listed(self) -> Problem:
        """The same problem for one architecture at a time, which finds the first feasible one, or explains why there is none."""

        def costs(arch: Arch) -> dict[str, float]:
            return {name: float(values[0]) for name, values in self._costs(self.coding.encode([arch])).items()}

        return Problem(self.coding.space, lambda archs: [], costs, self.limits, self.cost)


@dataclass(frozen=True)
class CodedResult:
    """All architectures that a search evaluated, each once, in that order.

    Attributes:
        codes: ``(num_archs, num_choices)``
        scores: ``(num_archs,)``
        costs: ``(num_archs,)`` by name: those limited, and the one minimised.
        cost: the name of the latter.
        best: index of the highest score; of equal ones that with the lowest cost, then the first.
    """

    codes: Codes
    scores: Values
    costs: Mapping[str, Values]
    cost: str
    best: int

    def front(self) -> list[int]:
        """Indices of the trade-off between score and ``cost``, as ``pareto_front``."""
        return pareto_front(self.scores.tolist(), self.costs[self.cost].tolist())


class CodedStrategy(Protocol):
    """A strategy that also searches over codes."""

    @property
    def budget(self) -> int:
        """As ``Strategy.budget``."""
        ...

    def search_coded(self, problem: CodedProblem, rng: np.random.Generator) -> CodedResult:
        """As ``Strategy.search``, and with the same settings; depends on nothing but ``problem`` and the generator's seed.

        Raises:
            ValueError: no architecture meets the limits of ``problem``.
        """
        ...
