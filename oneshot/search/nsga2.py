"""Multi-objective search with NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 2002, Section III)."""

from __future__ import annotations

import functools
import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oneshot.arch import Arch
from oneshot.search.history import History
from oneshot.search.pareto import crowding_distance, non_dominated_sort
from oneshot.search.problem import Problem
from oneshot.search.validation import check_count, check_probability


@dataclass(frozen=True)
class NSGA2:
    """Spreads the search over the trade-off between the first entry of the score and ``Problem.cost``.

    The first generation is random. Parents are drawn by binary tournaments, crossed and mutated; the best
    ``population`` of parents and children survive, by front and then by crowding distance. Infeasible children are
    repaired, children seen before are dropped, and random architectures take their place where ten tries for each child
    wanted do not suffice.

    Args:
        population: architectures that survive, and children of one generation.
        generations: with the random one.
        mutation_probability: that a choice of a child is redrawn.
        crossover_probability: that a child has two parents rather than one.

    Raises:
        ValueError: a number out of range.
    """

    population: int = 50
    generations: int = 20
    mutation_probability: float = 0.1
    crossover_probability: float = 0.9

    def __post_init__(self) -> None:
        check_count("population", self.population)
        check_count("generations", self.generations)
        check_probability("mutation_probability", self.mutation_probability)
        check_probability("crossover_probability", self.crossover_probability)

    @property
    def budget(self) -> int:
        """``population`` times ``generations``."""
        return self.population * self.generations

    def search(self, problem: Problem, rng: random.Random) -> Arch:
        """The best architecture of all generations, as ``Strategy.search``.

        ``pareto_front`` over ``Problem.evaluated`` gives the trade-off.
        """
        history = History(problem)
        survivors = _Ranked([], np.empty(0, np.int64), np.empty(0))
        for _ in range(self.generations):
            children: list[Arch] = []
            if survivors.archs:
                history.vary(functools.partial(self._child, problem, survivors, rng), self.population, children)
            history.fill(children, self.population, rng)
            if not children:
                break
            history.evaluate(children)
            survivors = _survive(history, survivors.archs + children, self.population)
        return history.best()

    def _child(self, problem: Problem, parents: _Ranked, rng: random.Random) -> Arch | None:
        child = parents.tournament(rng)
        if rng.random() < self.crossover_probability:
            child = problem.space.crossover(child, parents.tournament(rng), rng)
        child = problem.space.mutate(child, rng, self.mutation_probability)
        return child if problem.feasible(child) else problem.repair(child, rng)


@dataclass(frozen=True)
class _Ranked:
    """Architectures with their front and the crowding distance within it."""

    archs: list[Arch]
    fronts: NDArray[np.int64]
    crowding: NDArray[np.float64]

    def tournament(self, rng: random.Random) -> Arch:
        """The better of two random ones by Deb's crowded-comparison operator."""
        pair = [rng.randrange(len(self.archs)) for _ in range(2)]
        return self.archs[min(pair, key=lambda index: (self.fronts[index], -self.crowding[index]))]


def _survive(history: History, archs: list[Arch], number: int) -> _Ranked:
    """The ``number`` best of ``archs`` by front, then by crowding distance."""
    scores = [history.scores[arch][0] for arch in archs]
    costs = [history.problem.cost_of(arch) for arch in archs]
    objectives = np.column_stack([_clipped(scores), -_clipped(costs)])
    fronts = non_dominated_sort(objectives)
    crowding = np.empty(len(archs))
    for front in range(fronts.max() + 1):
        crowding[fronts == front] = crowding_distance(objectives[fronts == front])
    kept = np.lexsort((-crowding, fronts))[:number]
    return _Ranked([archs[index] for index in kept], fronts[kept], crowding[kept])


def _clipped(values: list[float]) -> NDArray[np.float64]:
    """``values`` with the nearest finite one for an infinity: the distance of two infinities is not a number."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    return np.clip(values, min(finite), max(finite))
