"""Witnesses of known worth: what they count, and what their combination is worth."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_witnesses import drawn, tau
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, pearsonr

from oneshot.evaluation import ReferenceScale, Witness, combine, learn_weights, spearman_brown

# The scale -------------------------------------------------------------------------------------------------------------


def test_scores_are_van_der_waerdens() -> None:
    assert ReferenceScale([3.0, 1.0, 2.0])([1, 2, 3]) == pytest.approx(norm.ppf([0.25, 0.5, 0.75]))
    # The two that are tied share ranks 2 and 3.
    assert ReferenceScale([1, 5, 5, 9])([5]) == pytest.approx(norm.ppf([2.5 / 5]))


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20).filter(lambda values: np.ptp(values) > 1e-3),
    st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=20),
)
def test_a_higher_value_never_has_a_lower_score_nor_depends_on_company(
    reference: list[float], asked: list[float]
) -> None:
    scale = ReferenceScale(reference)
    scores = scale(np.sort(asked))
    assert (np.diff(scores) >= -1e-12).all()
    assert [float(scale([value])[0]) for value in np.sort(asked)] == scores.tolist()


def test_beyond_the_reference_order_stays_and_outliers_do_not_explode() -> None:
    scale = ReferenceScale(np.arange(100.0))
    beyond = scale([99, 100, 200, 1e9])
    assert (np.diff(beyond) > 0).all()
    assert beyond[-1] < 30
    assert scale([-1]) < scale([0])


def test_a_scale_knows_what_it_is_not_told() -> None:
    scale = ReferenceScale([1.0, np.nan, 2.0, np.inf])
    assert np.isnan(scale([np.nan, np.inf])).all()
    assert scale([-np.inf]) < scale([1.0])
    # Four of eight lack what the witness looks at: they share the lowest ranks.
    assert ReferenceScale([-np.inf] * 4 + [1, 2, 3, 4])([-np.inf]) == pytest.approx(norm.ppf([2.5 / 9]))
    constant = ReferenceScale([4.0, 4.0])
    assert constant.is_constant
    assert constant([4.0, 7.0]).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="at least 2 finite values, not of 1"):
        ReferenceScale([1.0, np.nan])


def test_the_stepped_up_reliability() -> None:
    """Both halves of a test, against a test of twice the length."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=20_000)
    first, second, other = (true + rng.normal(size=(3, 20_000)) * [[1.5], [1.5], [1.5 / np.sqrt(2)]])[:]
    halves = pearsonr(first, second).statistic
    assert spearman_brown(halves) == pytest.approx(pearsonr((first + second) / 2, other).statistic, abs=0.01)
    assert spearman_brown(-0.3) == 0


# Learned weights -------------------------------------------------------------------------------------------------------


def test_many_true_values_find_the_good_witness() -> None:
    truth, scores = drawn([0.95, 0.2, 0.2, 0.2])
    found = learn_weights(scores[:60], truth[:60], [0.25] * 4)
    assert found.weights[0] > 0.6
    assert found.error < found.unlearned_error < found.mean_error
    combined, equal = (combine(scores[60:], weights) for weights in (found.weights, [0.25] * 4))
    assert tau(combined, truth[60:]) > tau(equal, truth[60:]) + 0.1


@pytest.mark.parametrize("seed", range(5))
def test_few_true_values_do_not_spoil_good_weights(seed: int) -> None:
    truth, scores = drawn([0.8] * 5, seed=seed)
    found = learn_weights(scores[:8], truth[:8], [0.2] * 5)
    equal = tau(combine(scores[8:], [0.2] * 5), truth[8:])
    assert tau(combine(scores[8:], found.weights), truth[8:]) > equal - 0.08
    assert found.num_networks == 8


def test_no_learned_weight_is_negative() -> None:
    truth, scores = drawn([0.8, -0.8, 0.8])
    found = learn_weights(scores[:40], truth[:40], [1 / 3] * 3)
    assert (found.weights >= 0).all()
    assert found.weights[1] < 0.1


def test_the_middle_stands_for_what_nobody_says() -> None:
    scores = np.array([[1.0, np.nan, 3.0], [np.nan, 2.0, np.nan], [np.nan, np.nan, np.nan]])
    assert combine(scores, [0.5, 0.25, 0.25]).tolist() == [1.25, 0.5, -np.inf]
    assert combine(scores, [0.5, 0.0, 0.5]).tolist() == [2.0, -np.inf, -np.inf]


def test_what_cannot_be_learned_is_refused() -> None:
    _, scores = drawn([0.5, 0.5])
    with pytest.raises(ValueError, match="at least 8 true values, not 7"):
        learn_weights(scores[:7], np.arange(7.0), [0.5, 0.5])
    with pytest.raises(ValueError, match=r"between 0 and 1, not at 1\.5"):
        Witness("a", "a", 1.5)
