"""Evolutionary search as in Single Path One-Shot (Guo et al., ECCV 2020, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oneshot.checking import check_count, check_probability
from oneshot.search.history import Evaluated, History
from oneshot.search.problem import Problem
from oneshot.spaces.coding import Codes


@dataclass(frozen=True)
class Evolution:
    """Mutates and crosses the best architectures seen so far.

    The first generation is random. Every later one consists of ``num_mutations`` mutations and ``num_crossovers``
    crossovers of the ``num_parents`` best over all generations, filled with random architectures up to ``population``.
    As in the published code, children that are infeasible or were seen before are dropped, and each kind of child has
    ten tries for each one wanted. The defaults are the published ones.

    Args:
        population: architectures of one generation.
        num_parents: the best architectures from which children are made.
        num_mutations: children of one parent.
        num_crossovers: children of two parents.
        generations: with the random one.
        mutation_probability: that a mutation redraws a choice.

    Raises:
        ValueError: a number out of range, or more children than ``population``.
    """

    population: int = 50
    num_parents: int = 10
    num_mutations: int = 25
    num_crossovers: int = 25
    generations: int = 20
    mutation_probability: float = 0.1

    def __post_init__(self) -> None:
        check_count(1, "search.", population=self.population, num_parents=self.num_parents)
        check_count(0, "search.", num_mutations=self.num_mutations, num_crossovers=self.num_crossovers)
        check_count(1, "search.", generations=self.generations)
        check_probability("search.", mutation_probability=self.mutation_probability)
        if self.num_mutations + self.num_crossovers > self.population:
            raise ValueError(
                f"search.num_mutations + search.num_crossovers must be at most search.population, which is {self.population}, "
                f"got {self.num_mutations} + {self.num_crossovers}"
            )

    @property
    def budget(self) -> int:
        """``population`` times ``generations``."""
        return self.population * self.generations

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        """All generations, as ``Strategy.search``."""
        history = History(problem, self.budget, rng)
        parents = history.evaluated
        while len(found := history.evaluate(self.population)):
            parents = (Evaluated.join([parents, found]) if len(parents) else found).top(self.num_parents)
            self._breed(parents.codes, history, rng)
        return history.evaluated

    def _breed(self, parents: Codes, history: History, rng: np.random.Generator) -> None:
        problem = history.problem

        def mutation(count: int) -> Codes:
            return problem.mutate(parents[rng.integers(len(parents), size=count)], self.mutation_probability, rng)

        def crossover(count: int) -> Codes:
            first, second = parents[rng.integers(len(parents), size=(2, count))]
            return problem.crossover(first, second, rng)

        history.vary(mutation, self.num_mutations)
        history.vary(crossover, self.num_crossovers)
