"""Limits, best so far and the Pareto front against references too simple to be wrong."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneshot.report import Candidate
from oneshot.report.selection import METRICS, best_so_far, pareto_front, within_limits

# Few distinct values, so that ties occur.
numbers = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, math.nan])
candidate_lists = st.lists(
    st.builds(
        Candidate,
        arch=st.just({}),
        accuracy=numbers,
        loss=numbers,
        macs=st.integers(1, 6),
        params=st.integers(1, 6),
        latency_ms=st.none() | st.sampled_from([1.0, 2.0]),
    ),
    min_size=1,
    max_size=12,
)
CANDIDATE = Candidate({}, accuracy=0.5, loss=1.0, macs=10, params=4, latency_ms=None)


def score(candidate: Candidate, metric: str) -> float:
    value = candidate.accuracy if metric == "accuracy" else -candidate.loss
    return -math.inf if math.isnan(value) else value


@given(candidate_lists, st.sampled_from(METRICS), st.integers(0, 7))
def test_best_so_far_is_the_best_of_every_prefix(candidates, metric, limit):
    history = best_so_far(candidates, metric, {"max_macs": limit})
    for evaluations, best in enumerate(history, start=1):
        prefix = candidates[:evaluations]
        allowed = [c for c in prefix if c.macs <= limit and score(c, metric) > -math.inf]
        if not allowed:
            assert best is None
        else:
            assert score(candidates[best], metric) == max(score(c, metric) for c in allowed)
            assert candidates[best].macs <= limit
            assert best < evaluations
    scores = [score(candidates[best], metric) for best in history if best is not None]
    assert scores == sorted(scores)


@given(candidate_lists, st.sampled_from(METRICS), st.sampled_from(["macs", "params", "latency_ms"]))
def test_front_is_what_no_candidate_dominates(candidates, metric, cost):
    def price(candidate: Candidate) -> float:
        return getattr(candidate, cost)

    able = [i for i, c in enumerate(candidates) if price(c) is not None and score(c, metric) > -math.inf]

    def beaten(i: int, j: int) -> bool:
        one, two = candidates[i], candidates[j]
        no_worse = price(two) <= price(one) and score(two, metric) >= score(one, metric)
        same = price(two) == price(one) and score(two, metric) == score(one, metric)
        return no_worse and (not same or j < i)

    expected = {i for i in able if not any(beaten(i, j) for j in able)}
    front = pareto_front(candidates, cost, metric, {})
    assert set(front) == expected
    assert [price(candidates[i]) for i in front] == sorted(price(candidates[i]) for i in front)


def test_front_keeps_to_the_limits_unless_nothing_does():
    cheap, dear = CANDIDATE, replace(CANDIDATE, macs=20, accuracy=0.9)
    assert pareto_front([cheap, dear], "macs", "accuracy", {"max_macs": 10}) == [0]
    assert pareto_front([cheap, dear], "macs", "accuracy", {"max_macs": 1}) == [0, 1]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, True),
        ({"max_macs": 10}, True),
        ({"max_macs": 9}, False),
        ({"min_accuracy": 0.5, "max_params": 4}, True),
        ({"min_accuracy": 0.51}, False),
        ({"max_latency_ms": 1e9}, False),
        ({"max_depth": 1, "budget": 0}, True),
    ],
)
def test_limits(limits, expected):
    assert within_limits(CANDIDATE, limits) is expected


def test_a_metric_that_is_not_a_number_meets_no_limit():
    assert not within_limits(replace(CANDIDATE, accuracy=math.nan), {"min_accuracy": 0.0})
