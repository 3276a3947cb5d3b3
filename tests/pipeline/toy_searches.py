"""The strategies of searches of toys, and the order of what they find."""

from __future__ import annotations

from oneshot.search import NSGA2, Evolution, RandomSearch, Strategy

STRATEGIES: dict[str, Strategy] = {
    "random": RandomSearch(num_samples=8, batch_size=3),
    "evolution": Evolution(population=4, num_parents=2, num_mutations=2, num_crossovers=2, generations=3),
    "nsga2": NSGA2(population=4, generations=3),
}


def key_of(row: dict[str, str]) -> tuple[float, float]:
    return float(row["accuracy"]), -float(row["loss"])
