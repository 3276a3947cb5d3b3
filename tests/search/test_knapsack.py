"""The multiple-choice knapsack, against going through every architecture."""

import random

import numpy as np
import pytest
from search_toys import Layers, Stages, feasible, posed, run, stage_macs

from oneshot.arch import Arch
from oneshot.search import Knapsack
from oneshot.search.knapsack import Errors

SPACE = Stages(2)


def parts(seed: int = 0) -> Errors:
    rng = random.Random(seed)
    errors: dict[Arch, list[dict[Arch, float]]] = {}
    for size in (16, 24, 32):
        whole = SPACE.arch({**SPACE.largest, "resolution": size})
        for choice in SPACE.choices[1:]:
            archs = [SPACE.arch({**whole, choice.name: option}) for option in choice.options]
            errors.setdefault(whole, []).append({arch: 0.0 if arch == whole else rng.random() for arch in archs})
    return errors


def lost(errors: Errors, arch: Arch) -> float:
    (own,) = [(whole, known) for whole, known in errors.items() if whole["resolution"] == arch["resolution"]]
    whole, known = own
    singles = [SPACE.arch({**whole, name: arch[name]}) for name in arch if arch[name] != whole[name]]
    return sum(error for single in singles for part in known for key, error in part.items() if key == single)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_least_sum_of_every_size_under_every_limit(seed: int) -> None:
    errors, params = parts(seed), (lambda arch: float(len(arch)))
    limits = {"macs": 13_000.0, "params": 7.0}
    problem = posed(SPACE, lambda archs: [(0.0,) for _ in archs], {"macs": stage_macs, "params": params}, limits)
    done = run(Knapsack(num_samples=4, spread=0.0, errors=lambda: errors), problem)
    allowed = [arch for arch in SPACE.enumerate() if stage_macs(arch) <= 13_000 and params(arch) <= 7]
    least: dict[int, float] = {}
    for arch in allowed:
        size = arch.integer("resolution")
        least[size] = min(least.get(size, np.inf), lost(errors, arch))
    assert 2 <= len(least) == len(done.evaluated) <= 3
    assert all(feasible(problem, arch) for arch in done.evaluated)
    assert {arch.integer("resolution"): lost(errors, arch) for arch in done.evaluated} == pytest.approx(least)


def test_the_rest_is_nearly_as_good_and_of_the_two_best_sizes() -> None:
    errors = parts()
    score = {16: 0.5, 24: 0.9, 32: 0.7}
    problem = posed(
        SPACE,
        lambda archs: [(score[arch.integer("resolution")],) for arch in archs],
        {"macs": stage_macs},
        {"macs": 2e4},
    )
    strategy = Knapsack(num_samples=8, spread=1.0, errors=lambda: errors)
    done = run(strategy, problem, seed=1)
    found = list(done.evaluated)
    assert done.evaluated == run(strategy, problem, seed=1).evaluated
    assert [arch["resolution"] for arch in found[:3]] == [16, 24, 32]
    assert {arch["resolution"] for arch in found[3:]} <= {24, 32}
    assert len(found) == 8
    others = [arch for arch in SPACE.enumerate() if arch["resolution"] == 24 and stage_macs(arch) <= 2e4]
    mine = [lost(errors, arch) for arch in found if arch["resolution"] == 24]
    assert np.mean(mine) < np.quantile([lost(errors, arch) for arch in others], 0.25)
    assert len(run(Knapsack(num_samples=4, spread=0.0, errors=lambda: errors), problem).evaluated) == 3


def test_what_it_cannot_do_is_said() -> None:
    errors = parts()
    costs = {"macs": stage_macs, "latency_ms": stage_macs}
    free = posed(SPACE, lambda archs: [(0.0,) for _ in archs], costs)
    with pytest.raises(ValueError, match=r"chooses under a limit, such as cost\.max_macs=50%, and there is none"):
        run(Knapsack(errors=lambda: errors), free)
    timed = posed(
        SPACE, lambda archs: [(0.0,) for _ in archs], costs, {"latency_ms": 1e4}, guides={"latency_ms": "macs"}
    )
    with pytest.raises(ValueError, match=r"measured latencies do not say: give cost\.latency_table"):
        run(Knapsack(errors=lambda: errors), timed)
    limited = posed(Layers(2, 2), lambda archs: [(0.0,) for _ in archs], {"macs": lambda arch: 1.0}, {"macs": 2.0})
    sized = posed(SPACE, lambda archs: [(0.0,) for _ in archs], costs, {"macs": 1e4})
    with pytest.raises(ValueError, match=r"num_samples=2 is fewer than the 3 input sizes, .*: it is at least 3"):
        run(Knapsack(num_samples=2, errors=lambda: errors), sized)
    with pytest.raises(ValueError, match="the errors of a supernet's blocks: give it those"):
        run(Knapsack(), limited)
