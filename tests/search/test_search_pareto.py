"""Fronts against their definition, and crowding distances against the paper's loop."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oneshot.pareto import crowded_order, crowding_distance, non_dominated_sort
from oneshot.search import pareto_front

# Few different numbers, so that ties are common.
points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30)
matrices = st.integers(1, 3).flatmap(
    lambda width: arrays(
        np.float64, st.tuples(st.integers(1, 25), st.just(width)), elements=st.integers(-4, 4).map(float)
    )
)


def _dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(first, second, strict=True)) and first != second


def test_a_front_by_hand() -> None:
    scores = [0.90, 0.95, 0.80, 0.95, 0.85, 0.90, 0.70]
    costs = [5.0, 9.0, 2.0, 8.0, 6.0, 5.0, 2.0]
    assert pareto_front(scores, costs) == [2, 0, 3]


@given(points)
def test_the_front_is_what_nothing_dominates(pairs: list[tuple[int, int]]) -> None:
    front = pareto_front([score for score, _ in pairs], [cost for _, cost in pairs])
    gains = [(score, -cost) for score, cost in pairs]
    expected = [
        index
        for index, gain in enumerate(gains)
        if not any(_dominates(other, gain) for other in gains) and gain not in gains[:index]
    ]
    assert sorted(front) == expected
    assert [pairs[index][1] for index in front] == sorted(pairs[index][1] for index in front)


def test_failures_are_never_on_the_front() -> None:
    assert pareto_front([math.nan, 0.5, 0.9], [1.0, 2.0, math.nan]) == [1]
    assert pareto_front([], []) == []


def test_scores_and_costs_go_together() -> None:
    with pytest.raises(ValueError, match="a cost for every score, not 1 for 2"):
        pareto_front([1.0, 2.0], [1.0])


@given(matrices)
def test_fronts_are_peeled_off_one_by_one(objectives: np.ndarray) -> None:
    left = {index: tuple(row) for index, row in enumerate(objectives)}
    expected = np.full(len(objectives), -1)
    for front in range(len(objectives)):
        current = [index for index, row in left.items() if not any(_dominates(other, row) for other in left.values())]
        expected[current] = front
        left = {index: row for index, row in left.items() if index not in current}
    np.testing.assert_array_equal(non_dominated_sort(objectives), expected)


def test_crowding_by_hand() -> None:
    front = np.array([[0.0, 10.0], [1.0, 6.0], [4.0, 4.0], [5.0, 0.0]])
    # (4 - 0) / 5 + (10 - 4) / 10 and (5 - 1) / 5 + (6 - 0) / 10
    np.testing.assert_allclose(crowding_distance(front), [math.inf, 1.4, 1.4, math.inf])


@given(matrices)
def test_crowding_as_in_the_paper(objectives: np.ndarray) -> None:
    expected = [0.0] * len(objectives)
    for values in objectives.T:
        order = sorted(range(len(values)), key=values.__getitem__)
        expected[order[0]] = expected[order[-1]] = math.inf
        for before, index, after in zip(order, order[1:], order[2:], strict=False):
            if values[order[-1]] > values[order[0]]:
                expected[index] += (values[after] - values[before]) / (values[order[-1]] - values[order[0]])
    np.testing.assert_allclose(crowding_distance(objectives), expected)


def test_the_crowded_order_by_hand() -> None:
    first = [(0.0, 10.0), (10.0, 0.0), (5.0, 5.0), (6.0, 4.5), (1.0, 9.5)]
    # Distances of the inner ones, in tenths: 1 to 6 and 9.5 to 4.5; 5 to 10 and 5 to 0; 0 to 5 and 10 to 5. All 10.
    second = [(0.0, 9.0), (0.5, 8.9), (5.5, 4.0), (9.0, 0.0)]
    # The second is crowded: 0 to 5.5 and 9 to 4, against 0.5 to 9 and 8.9 to 0 of the third.
    objectives = np.array([second[1], *first, second[0], second[2], second[3]])
    assert crowded_order(objectives).tolist() == [1, 2, 3, 4, 5, 6, 8, 7, 0]


def test_the_crowded_go_last() -> None:
    line = np.array([0.0, 1.0, 1.1, 1.2, 5.0, 10.0])
    # The gaps around the inner ones are 1.1, 0.2, 3.9 and 8.8 wide.
    assert crowded_order(np.column_stack([line, -line])).tolist() == [0, 5, 4, 3, 1, 2]


def test_no_points_have_no_fronts() -> None:
    assert len(non_dominated_sort(np.empty((0, 2)))) == 0
