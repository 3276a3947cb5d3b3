"""Evolution as published, NSGA-II on a trade-off, and both against random search."""

import random
import statistics

import pytest
from search_toys import Layers, Toy, share

from oneshot.arch import Arch
from oneshot.search import NSGA2, Evolution, RandomSearch, Strategy, pareto_front


class Watched(Layers):
    """Records the first parents of every child that is mutated or crossed."""

    def watch(self) -> None:
        self.mutations: dict[Arch, Arch] = {}
        self.crossovers: dict[Arch, tuple[Arch, Arch]] = {}
        self.probabilities: set[float] = set()

    def mutate(self, arch: Arch, rng: random.Random, probability: float = 0.1) -> Arch:
        child = super().mutate(arch, rng, probability)
        self.mutations.setdefault(child, arch)
        self.probabilities.add(probability)
        return child

    def crossover(self, first: Arch, second: Arch, rng: random.Random) -> Arch:
        child = super().crossover(first, second, rng)
        self.crossovers.setdefault(child, (first, second))
        return child


@pytest.mark.parametrize(("num_mutations", "num_crossovers"), [(25, 25), (10, 30), (0, 20), (5, 0)])
def test_a_generation_has_the_published_proportions(num_mutations: int, num_crossovers: int) -> None:
    space = Watched(20, 4)
    problem = Toy(space)
    strategy = Evolution(num_mutations=num_mutations, num_crossovers=num_crossovers, generations=4)
    seen: list[Arch] = []
    space.watch()
    strategy.search(problem, random.Random(0))
    assert [len(batch) for batch in problem.batches] == [50] * 4
    for batch in problem.batches:
        # The parents are the ten best over everything seen, not over the last generation.
        parents = sorted(seen, key=problem.evaluated.__getitem__, reverse=True)[:10]
        mutated, crossed = batch[:num_mutations], batch[num_mutations : num_mutations + num_crossovers]
        others = batch[num_mutations + num_crossovers :]
        if seen:
            assert all(space.mutations[arch] in parents for arch in mutated)
            assert all(set(space.crossovers[arch]) <= set(parents) for arch in crossed)
            # Children that equal a parent are drawn as well, and dropped.
            assert all(space.mutations.get(arch, arch) == arch for arch in others)
            assert all(arch in space.crossovers.get(arch, (arch,)) for arch in others)
        seen += batch
    assert space.probabilities == ({0.1} if num_mutations else set())


def test_the_defaults_are_the_published_ones() -> None:
    """Published search.py: population 50, 10 selected, 25 mutations and 25 crossovers, probability 0.1, 20 epochs."""
    assert Evolution() == Evolution(50, 10, 25, 25, 20, 0.1)
    assert Evolution().budget == 1000


def test_mutations_stay_near_their_parent() -> None:
    space = Watched(20, 4)
    space.watch()
    Evolution(num_mutations=50, num_crossovers=0, generations=10).search(Toy(space), random.Random(0))
    pairs = [(child, parent) for child, parent in space.mutations.items() if child != parent]
    changed = [sum(child[name] != parent[name] for name in child) for child, parent in pairs]
    # 20 choices redrawn with probability 0.1 to one of 3 other options of 4: 1.5 on average, 1.9 of those that changed.
    assert 1.6 < statistics.mean(changed) < 2.2


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
            searcher.search(problem, random.Random(seed))
            low, high = problem.accuracy.range(space)
            scores.append((problem.accuracy(max(problem.evaluated, key=problem.accuracy)) - low) / (high - low))
    assert statistics.mean(found) > statistics.mean(drawn) + 0.05


def test_nsga2_finds_a_better_trade_off_than_the_others() -> None:
    areas: dict[str, list[float]] = {"nsga2": [], "evolution": [], "random": []}
    for seed in range(6):
        strategies: list[Strategy] = [NSGA2(20, 10), Evolution(20, 5, 10, 10, 10), RandomSearch(200, 20)]
        for (_, values), strategy in zip(areas.items(), strategies, strict=True):
            problem = Toy(Layers(16, 4), seed)
            strategy.search(problem, random.Random(seed))
            values.append(_area(problem))
    assert statistics.mean(areas["nsga2"]) > 1.1 * statistics.mean(areas["random"])
    assert statistics.mean(areas["nsga2"]) > 1.04 * statistics.mean(areas["evolution"])


def test_nsga2_repairs_its_children() -> None:
    """Random architectures are drawn only where no children are found."""

    class Counted(Toy):
        num_samples = 0

        def sample(self, rng: random.Random) -> Arch:
            self.num_samples += 1
            return super().sample(rng)

    space = Layers(16, 4)
    limits = {"macs": share(Toy(space).macs, space, 0.1), "params": share(Toy(space).params, space, 0.4)}
    problem = Counted(space, limits=limits)
    NSGA2(20, 4).search(problem, random.Random(0))
    assert len(problem.evaluated) == 80
    assert problem.num_samples < 25


def test_nsga2_minimises_the_cost_it_is_given() -> None:
    costs: dict[str, list[int]] = {"macs": [], "params": []}
    for name, lowest in costs.items():
        for seed in range(4):
            problem = Toy(Layers(16, 4), seed, cost=name)
            NSGA2(20, 10).search(problem, random.Random(seed))
            lowest.append(min(map(problem.params, problem.evaluated)))
    assert statistics.mean(costs["params"]) < statistics.mean(costs["macs"])


def _area(problem: Toy) -> float:
    """The part of the rectangle of all possible scores and costs that the front dominates (the hypervolume)."""
    (worst, best), (cheapest, dearest) = problem.accuracy.range(problem.space), problem.macs.range(problem.space)
    archs = list(problem.evaluated)
    scores, costs = [problem.accuracy(arch) for arch in archs], [problem.macs(arch) for arch in archs]
    area, reached = 0.0, float(worst)
    for index in pareto_front(scores, costs):
        area += (scores[index] - reached) * (dearest - costs[index])
        reached = scores[index]
    return area / ((best - worst) * (dearest - cheapest))
