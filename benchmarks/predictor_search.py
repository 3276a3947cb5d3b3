"""Times searches of 10,000 architectures by a predictor and a cost table: ``python benchmarks/predictor_search.py --repeats 9``.

Once-for-All's MobileNetV3 space as published, under a limit of 200M MACs unless --max_macs says otherwise; the predictor is a
random multilayer perceptron of the published size, since its speed does not depend on its weights. One CPU thread.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from numpy.typing import NDArray

from oneshot.costs import CostTable
from oneshot.predictors.mlp import perceptron
from oneshot.search import NSGA2, Evolution, Problem, Strategy
from oneshot.spaces import OFAMobileNetV3
from oneshot.spaces.coding import Codes, Coding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--max_macs", type=float, default=200e6)
    options = parser.parse_args()
    torch.set_num_threads(1)

    space = OFAMobileNetV3(resolutions=(224,))
    coding, table = Coding(space), CostTable(space)
    network = perceptron(len(coding.columns), (400, 400, 400), torch.Generator().manual_seed(0))

    def score(codes: Codes) -> NDArray[np.float64]:
        with torch.inference_mode():
            predicted: NDArray[np.float64] = network(torch.from_numpy(coding.one_hot(codes)))[:, 0].double().numpy()
            return predicted

    space.network(space.smallest)  # imports timm

    started = time.perf_counter()
    table.costs_of(coding.encode([space.smallest]))
    print(f"first use of the cost table: {time.perf_counter() - started:.2f} s")
    started = time.perf_counter()
    table.costs_of(coding.sample(10_000, np.random.default_rng(0)))
    print(f"10,000 random architectures, entries that were missing included: {time.perf_counter() - started:.2f} s")

    strategies: dict[str, Strategy] = {
        "evolution": Evolution(population=100, num_parents=25, num_mutations=50, num_crossovers=50, generations=100),
        "nsga2": NSGA2(population=100, generations=100),
    }
    for name, strategy in strategies.items():
        seconds = []
        for seed in range(options.repeats + 1):
            problem = Problem(coding, score, table.functions, {"macs": options.max_macs})
            started = time.perf_counter()
            result = strategy.search(problem, np.random.default_rng(seed))
            seconds.append(time.perf_counter() - started)
            assert (result.costs["macs"] <= options.max_macs).all()
        # The first one still enters missing costs.
        first, *rest = seconds
        low, middle, high = min(rest), statistics.median(rest), max(rest)
        print(
            f"{name}: {len(result):,} evaluations in {middle:.3f} s ({low:.3f} to {high:.3f} over {len(rest)} repeats, "
            f"the first {first:.3f})"
        )


if __name__ == "__main__":
    main()
