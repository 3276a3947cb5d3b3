"""Evolution as published, NSGA-II on a trade-off, and both against random search."""

import statistics

import numpy as np
import pytest
from search_toys import Layers, Toy, feasible, run, share

from oneshot.arch import Arch
from oneshot.search import NSGA2, Evolution, RandomSearch, Strategy, pareto_front
from oneshot.spaces.coding import Codes


class Watched(Toy):
    """Records the first parents of every child that is mutated or crossed."""

    def __init__(self, space: Layers) -> None:
        super().__init__(space)
        self.mutations: dict[Arch, Arch] = {}
        self.crossovers: dict[Arch, tuple[Arch, Arch]] = {}
        self.probabilities: set[float] = set()

    def mutate(self, codes: Codes, probability: float, rng: np.random.Generator) -> Codes:
        children = super().mutate(codes, probability, rng)
        for child, parent in zip(self.decode(children), self.decode(codes), strict=True):
            self.mutations.setdefault(child, parent)
        self.probabilities.add(probability)
        return children

    def crossover(self, first: Codes, second: Codes, rng: np.random.Generator) -> Codes:
        children = super().crossover(first, second, rng)
        for child, *parents in zip(self.decode(children), self.decode(first), self.decode(second), strict=True):
            self.crossovers.setdefault(child, (parents[0], parents[1]))
        return children


@pytest.mark.parametrize(("num_mutations", "num_crossovers"), [(25, 25), (10, 30), (0, 20), (5, 0)])
def test_a_generation_has_the_published_proportions(num_mutations: int, num_crossovers: int) -> None:
    problem = Watched(Layers(20, 4))
    strategy = Evolution(num_mutations=num_mutations, num_crossovers=num_crossovers, generations=4)
    evaluated = run(strategy, problem).evaluated
    seen: list[Arch] = []
    assert [len(batch) for batch in problem.batches] == [50] * 4
    for batch in problem.batches:
        # The parents are the ten best over everything seen, not over the last generation.
        parents = sorted(seen, key=evaluated.__getitem__, reverse=True)[:10]
        mutated, crossed = batch[:num_mutations], batch[num_mutations : num_mutations + num_crossovers]
        others = batch[num_mutations + num_crossovers :]
        if seen:
            assert all(problem.mutations[arch] in parents for arch in mutated)
            assert all(set(problem.crossovers[arch]) <= set(parents) for arch in crossed)
            # Of children that were drawn beyond those wanted, none is taken.
            drawn = sum(arch in problem.mutations or arch in problem.crossovers for arch in others)
            assert drawn == 0
        seen += batch
    assert problem.probabilities == ({0.1} if num_mutations else set())


def test_the_defaults_are_the_published_ones() -> None:
    """Published search.py: population 50, 10 selected, 25 mutations and 25 crossovers, probability 0.1, 20 epochs."""
    assert Evolution() == Evolution(50, 10, 25, 25, 20, 0.1)
    assert Evolution().budget == 1000


def test_mutations_stay_near_their_parent() -> None:
    problem = Watched(Layers(20, 4))
    run(Evolution(num_mutations=50, num_crossovers=0, generations=10), problem)
    pairs = [(child, parent) for child, parent in problem.mutations.items() if child != parent]
    changed = [sum(child[name] != parent[name] for name in child) for child, parent in pairs]
    # 20 choices redrawn with probability 0.1 to one of 3 other options of 4: 1.5 on average, 1.9 of those that changed.
    assert 1.6 < statistics.mean(changed) < 2.2


@pytest.mark.parametrize("seed", range(4))
def test_evolution_finds_the_optimum_of_an_enumerable_space(seed: int) -> None:
    space = Layers(8, 3)
    problem = Toy(space, seed, {"macs": share(Toy(space, seed).macs, space, 0.4)})
    possible = [arch for arch in space.enumerate() if feasible(problem, arch)]
    done = run(Evolution(generations=20), problem, seed)
    assert problem.accuracy(done.best) == max(map(problem.accuracy, possible))
    assert len(done.evaluated) < len(possible) or len(possible) < 1000


def test_the_front_of_nsga2_is_that_of_all_architectures() -> None:
    problem = Toy(Layers(8, 3))
    archs = list(problem.space.enumerate())
    scores, macs = [problem.accuracy(arch) for arch in archs], [problem.macs(arch) for arch in archs]
    exact = {(scores[index], macs[index]) for index in pareto_front(scores, macs)}
    shares = []
    for strategy in (NSGA2(60, 40), RandomSearch(2400, 60)):
        done = run(strategy, problem)
        front = problem.decode(done.found.codes[done.found.front()])
        found = {(problem.accuracy(arch), problem.macs(arch)) for arch in front}
        shares.append(len(exact & found) / len(exact))
    assert shares[0] > 0.9
    assert shares[0] > shares[1] + 0.2


@pytest.mark.parametrize(
    "strategy", [Evolution(20, 5, 10, 10, 10), NSGA2(20, 10)], ids=lambda strategy: type(strategy).__name__
)
@pytest.mark.parametrize("limit", [None, 0.4])
def test_it_beats_random_search(strategy: Strategy, limit: float | None) -> None:
    baseline = RandomSearch(strategy.budget, 20)
    found: list[float] = []
    drawn: list[float] = []
    for seed in range(5):
        space = Layers(16, 4)
        toy = Toy(space, seed)
        limits = None if limit is None else {"macs": share(toy.macs, space, limit)}
        for searcher, scores in ((strategy, found), (baseline, drawn)):
            problem = Toy(space, seed, limits)
            low, high = problem.accuracy.range(space)
            scores.append((problem.accuracy(run(searcher, problem, seed).best) - low) / (high - low))
    assert statistics.mean(found) > statistics.mean(drawn) + 0.05


def test_nsga2_finds_a_better_trade_off_than_the_others() -> None:
    areas: dict[str, list[float]] = {"nsga2": [], "evolution": [], "random": []}
    for seed in range(6):
        strategies: list[Strategy] = [NSGA2(20, 10), Evolution(20, 5, 10, 10, 10), RandomSearch(200, 20)]
        for (_, values), strategy in zip(areas.items(), strategies, strict=True):
            problem = Toy(Layers(16, 4), seed)
            values.append(_area(problem, list(run(strategy, problem, seed).evaluated)))
    assert statistics.mean(areas["nsga2"]) > 1.1 * statistics.mean(areas["random"])
    assert statistics.mean(areas["nsga2"]) > 1.04 * statistics.mean(areas["evolution"])


def test_nsga2_repairs_its_children() -> None:
    """Random architectures are drawn only where no children are found."""

    class Counted(Toy):
        num_samples = 0

        def sample(self, count: int, rng: np.random.Generator) -> Codes:
            self.num_samples += count if self.batches else 0  # of the later generations
            return super().sample(count, rng)

    space = Layers(16, 4)
    limits = {"macs": share(Toy(space).macs, space, 0.1), "params": share(Toy(space).params, space, 0.4)}
    problem = Counted(space, limits=limits)
    assert len(run(NSGA2(20, 4), problem).evaluated) == 80
    assert problem.num_samples < 5


def test_nsga2_minimises_the_cost_it_is_given() -> None:
    costs: dict[str, list[int]] = {"macs": [], "params": []}
    for name, lowest in costs.items():
        for seed in range(4):
            problem = Toy(Layers(16, 4), seed, cost=name)
            lowest.append(min(map(problem.params, run(NSGA2(20, 10), problem, seed).evaluated)))
    assert statistics.mean(costs["params"]) < statistics.mean(costs["macs"])


def _area(problem: Toy, archs: list[Arch]) -> float:
    """The part of the rectangle of all possible scores and costs that the front dominates (the hypervolume)."""
    (worst, best), (cheapest, dearest) = problem.accuracy.range(problem.space), problem.macs.range(problem.space)
    scores, costs = [problem.accuracy(arch) for arch in archs], [problem.macs(arch) for arch in archs]
    area, reached = 0.0, float(worst)
    for index in pareto_front(scores, costs):
        area += (scores[index] - reached) * (dearest - costs[index])
        reached = scores[index]
    return area / ((best - worst) * (dearest - cheapest))
