"""Multi-objective search with NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 2002, Section III)."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oneshot.arch import Arch
from oneshot.search.coded import CodedProblem, CodedResult, Values
from oneshot.search.coded_history import Batch, CodedHistory, Evaluated
from oneshot.search.history import History
from oneshot.search.pareto import crowded_order
from oneshot.search.problem import Problem
from oneshot.search.validation import check_count, check_probability
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
        survivors: list[Arch] = []
        for _ in range(self.generations):
            children: list[Arch] = []
            if survivors:
                history.vary(functools.partial(self._child, problem, survivors, rng), self.population, children)
            history.fill(children, self.population, rng)
            if not children:
                break
            history.evaluate(children)
            survivors = _best_first(history, survivors + children)[: self.population]
        return history.best()

    def search_coded(self, problem: CodedProblem, rng: np.random.Generator) -> CodedResult:
        """The same search over codes, as ``CodedStrategy.search_coded``; ``CodedResult.front`` gives the trade-off."""
        history = CodedHistory(problem)
        survivors: Evaluated | None = None
        for _ in range(self.generations):
            batch = Batch()
            if survivors is not None:
                history.vary(functools.partial(self._children, problem, survivors.codes, rng), self.population, batch)
            history.fill(batch, self.population, rng)
            if not len(batch):
                break
            found = history.evaluate(batch)
            ranked = found if survivors is None else Evaluated.join([survivors, found])
            order = _crowded_order(ranked.scores, ranked.costs[problem.cost], self.population)
            survivors = ranked[order[: self.population]]
        return history.result()

    def _children(self, problem: CodedProblem, parents: Codes, rng: np.random.Generator, count: int) -> Codes:
        # The better of two random ones, once for each parent; they are ordered from the best.
        first, second = parents[rng.integers(len(parents), size=(2, 2, count)).min(axis=0)]
        crossed = rng.random(count) < self.crossover_probability
        children = np.where(crossed[:, None], problem.coding.crossover(first, second, rng), first)
        return problem.repair(problem.coding.mutate(children, self.mutation_probability, rng), rng)

    def _child(self, problem: Problem, parents: list[Arch], rng: random.Random) -> Arch | None:
        child = _tournament(parents, rng)
        if rng.random() < self.crossover_probability:
            child = problem.space.crossover(child, _tournament(parents, rng), rng)
        child = problem.space.mutate(child, rng, self.mutation_probability)
        return child if problem.feasible(child) else problem.repair(child, rng)


def _tournament(best_first: list[Arch], rng: random.Random) -> Arch:
    """The better of two random ones."""
    return best_first[min(rng.randrange(len(best_first)), rng.randrange(len(best_first)))]


def _best_first(history: History, archs: list[Arch]) -> list[Arch]:
    scores = [history.scores[arch][0] for arch in archs]
    costs = [history.problem.cost_of(arch) for arch in archs]
    return [archs[index] for index in _crowded_order(np.array(scores), np.array(costs), len(archs))]


def _crowded_order(scores: Values, costs: Values, number: int) -> NDArray[np.int64]:
    return crowded_order(np.column_stack([_clipped(scores), -_clipped(costs)]), number)


def _clipped(values: Values) -> Values:
    """``values`` with the nearest finite one for an infinity: the distance of two infinities is not a number."""
    finite = values[np.isfinite(values)]
    return np.clip(values, finite.min(), finite.max()) if len(finite) else np.zeros_like(values)
