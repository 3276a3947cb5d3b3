"""Rank correlation against scipy, brute force, and what is known of NAS-Bench-Macro's table."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from oneshot.evaluation import RankCorrelation, random_order, rank_correlation

# Few different values, so that ties occur.
small = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=6)


@pytest.fixture(scope="module")
def table(shared_data: Path) -> dict[str, np.ndarray]:
    rows = json.loads((shared_data / "nas-bench-macro_cifar10.json").read_text()).values()
    return {name: np.array([row[name] for row in rows], dtype=float) for name in ("mean_acc", "flops", "params")}


# Against a published table ---------------------------------------------------------------------------------------------


def test_counting_macs_and_parameters_on_nas_bench_macro(table: dict[str, np.ndarray]) -> None:
    """Figures of 6,561 networks, computed elsewhere: what a ranking has to beat there."""
    macs, params = (rank_correlation(table[name], table["mean_acc"], num_resamples=20) for name in ("flops", "params"))
    assert macs.num_candidates == params.num_candidates == 6561
    assert macs.tau.value == pytest.approx(0.556, abs=5e-4)
    assert params.tau.value == pytest.approx(0.218, abs=5e-4)
    assert macs.top_tau == pytest.approx(0.341, abs=5e-4)
    best = np.sort(table["mean_acc"])[::-1]
    # The largest network has the most MACs and the most parameters.
    largest = table["mean_acc"][table["flops"].argmax()]
    assert macs.first[1].best == largest
    assert macs.first[1].best_rank == list(best).index(largest) + 1
    assert macs.regret == pytest.approx(best[0] - largest)


def test_it_is_quick(table: dict[str, np.ndarray]) -> None:
    started = time.process_time()
    rank_correlation(table["flops"], table["mean_acc"])
    assert time.process_time() - started < 20


def test_random_order_is_the_mean_of_shuffles(table: dict[str, np.ndarray]) -> None:
    truth = table["mean_acc"]
    expected = random_order(truth)
    rng = np.random.default_rng(0)
    shuffled = [rank_correlation(rng.permutation(len(truth)), truth, num_resamples=2) for _ in range(60)]
    taus = [found.tau.value for found in shuffled]
    assert abs(np.mean(taus)) < 0.004
    assert sum(expected.tau.low <= tau <= expected.tau.high for tau in taus) >= 52
    assert sum(expected.spearman.low <= s.spearman.value <= expected.spearman.high for s in shuffled) >= 52
    for share in (0.01, 0.05, 0.1):
        assert np.mean([found.precision[share] for found in shuffled]) == pytest.approx(share, rel=0.3)
        assert expected.precision[share] == pytest.approx(share, rel=0.01)
    for count in (10, 100):
        for name in ("best", "mean"):
            values = [getattr(found.first[count], name) for found in shuffled]
            assert getattr(expected.first[count], name) == pytest.approx(np.mean(values), abs=4 * np.std(values) / 7)
        ranks = [found.first[count].best_rank for found in shuffled]
        # The least of n numbers drawn from 1 to N is (N + 1) / (n + 1) on average; a few networks share a rank.
        assert expected.first[count].best_rank == pytest.approx(6562 / (count + 1), rel=0.02)
        assert np.mean(ranks) == pytest.approx(expected.first[count].best_rank, rel=0.6)
    assert expected.regret == pytest.approx(truth.max() - truth.mean())


# Against brute force -----------------------------------------------------------------------------------------------------


def brute(scores: list[int], truth: list[int], number: int) -> tuple[float, float, float, float]:
    """Precision, best, its rank and the mean of the first ``number``, averaged over every order of the tied."""
    everyone = range(len(scores))
    orders = [
        o for o in itertools.permutations(everyone) if all(scores[a] >= scores[b] for a, b in itertools.pairwise(o))
    ]
    ideals = [
        o for o in itertools.permutations(everyone) if all(truth[a] >= truth[b] for a, b in itertools.pairwise(o))
    ]
    heads = [order[:number] for order in orders]
    precision = np.mean([len({*head} & {*ideal[:number]}) / number for head in heads for ideal in ideals])
    best = [max(truth[i] for i in head) for head in heads]
    ranks = [1 + sum(value > found for value in truth) for found in best]
    return (
        float(precision),
        float(np.mean(best)),
        float(np.mean(ranks)),
        float(np.mean([truth[i] for h in heads for i in h])),
    )


@settings(max_examples=60)
@given(small)
def test_ties_are_averaged_over_all_orders(pairs: list[tuple[int, int]]) -> None:
    scores, truth = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = rank_correlation(scores, truth, num_resamples=2)
    precision, best, rank, mean = brute(scores, truth, 1)
    assert found.precision[0.1] == pytest.approx(precision)
    assert found.first[1].best == pytest.approx(best)
    assert found.first[1].best_rank == pytest.approx(rank)
    assert found.first[1].mean == pytest.approx(mean)
    assert found.regret == pytest.approx(max(truth) - mean)


@pytest.mark.parametrize("seed", range(8))
def test_the_first_ten_with_ties_at_the_edge(seed: int) -> None:
    """Of twelve candidates, of which the last five in the ranking are tied."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 9, size=12)
    scores = np.array([9, 9, 8, 7, 6, 6, 5, 1, 1, 1, 1, 1])
    found = rank_correlation(scores, truth, num_resamples=2).first[10]
    heads = [[*range(7), *rest] for rest in itertools.combinations(range(7, 12), 3)]
    best = [truth[head].max() for head in heads]
    assert found.best == pytest.approx(np.mean(best))
    assert found.best_rank == pytest.approx(np.mean([1 + (truth > value).sum() for value in best]))
    assert found.mean == pytest.approx(np.mean([truth[head] for head in heads]))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-1, 1)), min_size=2, max_size=60))
def test_correlations_are_those_of_scipy(pairs: list[tuple[int, float]]) -> None:
    scores, truth = map(np.array, zip(*pairs, strict=True))
    found = rank_correlation(scores, truth, num_resamples=2)
    if np.ptp(scores) == 0 or np.ptp(truth) == 0:
        assert found.tau.value == found.spearman.value == 0.0
    else:
        assert found.tau.value == pytest.approx(kendalltau(scores, truth).statistic)
        assert found.spearman.value == pytest.approx(spearmanr(scores, truth).statistic)


def test_the_interval_is_the_bootstraps() -> None:
    """Against resampling by hand, and it holds the correlation of the whole population about as often as it says."""
    rng = np.random.default_rng(1)
    held, theory = 0, 2 / math.pi * math.asin(0.6)  # Kendall's tau of normal variables with a correlation of 0.6
    for trial in range(25):
        truth = rng.normal(size=120)
        scores = 0.6 * truth + 0.8 * rng.normal(size=120)
        found = rank_correlation(scores, truth, num_resamples=100, seed=trial).tau
        held += found.low <= theory <= found.high
        assert found.low < found.value < found.high
    assert 20 <= held <= 25
    draws = np.random.default_rng(trial)
    taus = []
    for _ in range(100):
        drawn = draws.integers(120, size=120)
        taus.append(kendalltau(scores[drawn], truth[drawn]).statistic)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(taus, (0.025, 0.975))))


# Ends ----------------------------------------------------------------------------------------------------------------


def test_a_perfect_ranking_and_its_reverse() -> None:
    truth = np.arange(500) / 500
    perfect, reverse = rank_correlation(truth**3, truth), rank_correlation(-truth, truth)
    assert (perfect.tau.value, perfect.spearman.value, perfect.top_tau, perfect.regret) == pytest.approx((1, 1, 1, 0))
    assert (reverse.tau.value, reverse.spearman.value, reverse.top_tau) == pytest.approx((-1, -1, -1))
    assert set(perfect.precision.values()) == {1.0}
    assert set(reverse.precision.values()) == {0.0}
    assert [perfect.first[count].best_rank for count in (1, 10, 100)] == [1, 1, 1]
    assert [reverse.first[count].best_rank for count in (1, 10, 100)] == [500, 491, 401]
    assert reverse.regret == pytest.approx(499 / 500)


def test_only_what_there_is_enough_of() -> None:
    few = rank_correlation([3, 1, 2], [0.1, 0.2, 0.3])
    assert list(few.first) == [1]
    assert few.top_tau is None
    assert list(rank_correlation(range(99), range(99)).first) == [1, 10]


def test_a_score_that_is_not_a_number_is_ranked_last() -> None:
    with_nan = rank_correlation([math.nan, 1.0, 2.0, -math.inf], [0.1, 0.5, 0.9, 0.2])
    assert with_nan == rank_correlation([-5, 1.0, 2.0, -5], [0.1, 0.5, 0.9, 0.2])


def test_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(2, 50))
    found: list[RankCorrelation] = [rank_correlation(scores, truth, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0].tau.low != found[2].tau.low


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([1.0], [1.0], "a ranking has at least 2 candidates, not 1"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], r"two lists of equal length, not of shapes \(2,\) and \(3,\)"),
        ([1.0, 2.0], [1.0, math.nan], "true values are finite, not nan"),
        ([[1.0, 2.0]], [[1.0, 2.0]], "two lists of equal length"),
    ],
)
def test_what_is_no_ranking_is_refused(scores: list[float], truth: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rank_correlation(scores, truth)


def test_no_resamples_are_refused() -> None:
    with pytest.raises(ValueError, match="num_resamples is at least 2, not 1"):
        rank_correlation([1, 2], [1, 2], num_resamples=1)
