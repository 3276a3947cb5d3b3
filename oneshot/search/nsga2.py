"""Multi-objective search with NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 2002, Section III)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oneshot.checking import check_count, check_probability
from oneshot.pareto import crowded_order
from oneshot.search.history import Evaluated, History
from oneshot.search.problem import Problem, Values
from oneshot.spaces.coding import Codes


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
        check_count(1, "search.", population=self.population, generations=self.generations)
        check_probability(
            "search.", mutation_probability=self.mutation_probability, crossover_probability=self.crossover_probability
        )

    @property
    def budget(self) -> int:
        """``population`` times ``generations``."""
        return self.population * self.generations

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        """All generations, as ``Strategy.search``; their ``front`` is the trade-off."""
        history = History(problem, self.budget, rng)
        survivors = history.evaluated
        while len(found := history.evaluate(self.population)):
            ranked = Evaluated.join([survivors, found]) if len(survivors) else found
            survivors = ranked[_best_first(ranked, self.population)[: self.population]]
            history.vary(functools.partial(self._children, problem, survivors.codes, rng), self.population)
        return history.evaluated

    def _children(self, problem: Problem, parents: Codes, rng: np.random.Generator, count: int) -> Codes:
        # The better of two random ones, once for each parent; they are ordered from the best.
        first, second = parents[rng.integers(len(parents), size=(2, 2, count)).min(axis=0)]
        crossed = rng.random(count) < self.crossover_probability
        children = np.where(crossed[:, None], problem.crossover(first, second, rng), first)
        return problem.repair(problem.mutate(children, self.mutation_probability, rng), rng)


def _best_first(evaluated: Evaluated, number: int) -> NDArray[np.int64]:
    scores, costs = _clipped(evaluated.scores[:, 0]), _clipped(evaluated.costs[evaluated.cost])
    return crowded_order(np.column_stack([scores, -costs]), number)


def _clipped(values: Values) -> Values:
    """``values`` with the nearest finite one for an infinity: the distance of two infinities is not a number."""
    finite = values[np.isfinite(values)]
    return np.clip(values, finite.min(), finite.max()) if len(finite) else np.zeros_like(values)
