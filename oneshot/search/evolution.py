"""Evolutionary search as in Single Path One-Shot (Guo et al., ECCV 2020, Algorithm 1)."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from oneshot.arch import Arch
from oneshot.search.coded import CodedProblem, CodedResult
from oneshot.search.coded_history import Batch, CodedHistory, Evaluated
from oneshot.search.history import History
from oneshot.search.problem import Problem
from oneshot.search.validation import check_count, check_probability
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
        check_count("population", self.population)
        check_count("num_parents", self.num_parents)
        check_count("num_mutations", self.num_mutations, at_least=0)
        check_count("num_crossovers", self.num_crossovers, at_least=0)
        check_count("generations", self.generations)
        check_probability("mutation_probability", self.mutation_probability)
        if self.num_mutations + self.num_crossovers > self.population:
            raise ValueError(
                f"num_mutations + num_crossovers must be at most the population of {self.population}, "
                f"got {self.num_mutations} + {self.num_crossovers}"
            )

    @property
    def budget(self) -> int:
        """``population`` times ``generations``."""
        return self.population * self.generations

    def search(self, problem: Problem, rng: random.Random) -> Arch:
        """The best architecture of all generations, as ``Strategy.search``."""
        history = History(problem)
        for _ in range(self.generations):
            batch: list[Arch] = []
            if history.scores:
                self._breed(history, batch, rng)
            history.fill(batch, self.population, rng)
            if not batch:
                break
            history.evaluate(batch)
        return history.best()

    def search_coded(self, problem: CodedProblem, rng: np.random.Generator) -> CodedResult:
        """The same search over codes, as ``CodedStrategy.search_coded``."""
        history = CodedHistory(problem)
        parents: Evaluated | None = None
        for _ in range(self.generations):
            batch = Batch()
            if parents is not None:
                self._breed_coded(history, parents.codes, batch, rng)
            history.fill(batch, self.population, rng)
            if not len(batch):
                break
            found = history.evaluate(batch)
            ranked = found if parents is None else Evaluated.join([parents, found])
            # Stable: of equal ones the first evaluated.
            parents = ranked[np.argsort(-ranked.scores, kind="stable")[: self.num_parents]]
        return history.result()

    def _breed_coded(self, history: CodedHistory, parents: Codes, batch: Batch, rng: np.random.Generator) -> None:
        coding = history.problem.coding

        def mutation(count: int) -> Codes:
            return coding.mutate(parents[rng.integers(len(parents), size=count)], self.mutation_probability, rng)

        def crossover(count: int) -> Codes:
            first, second = parents[rng.integers(len(parents), size=(2, count))]
            return coding.crossover(first, second, rng)

        history.vary(mutation, self.num_mutations, batch)
        history.vary(crossover, self.num_crossovers, batch)

    def _breed(self, history: History, batch: list[Arch], rng: random.Random) -> None:
        space, parents = history.problem.space, history.top(self.num_parents)

        def mutation() -> Arch:
            return space.mutate(rng.choice(parents), rng, self.mutation_probability)

        def crossover() -> Arch:
            return space.crossover(rng.choice(parents), rng.choice(parents), rng)

        history.vary(mutation, self.num_mutations, batch)
        history.vary(crossover, self.num_crossovers, batch)
