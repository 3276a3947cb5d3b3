"""Witnesses of known worth: what they count, and what their combination is worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, norm, pearsonr

from oneshot.evaluation import ReferenceScale, Witness, combine, learn_weights, spearman_brown, weigh

FAMILIES = [Witness(name, name) for name in ("a", "b", "c", "d", "e")]


def drawn(loadings: list[float], count: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The truth of networks, and witnesses that correlate with it by ``loadings`` and err independently; as normal scores."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=count)
    load = np.array(loadings)
    values = truth[:, None] * load + rng.normal(size=(count, len(load))) * np.sqrt(1 - load**2)
    return truth, np.stack([ReferenceScale(column)(column) for column in values.T], axis=1)


def tau(first: np.ndarray, second: np.ndarray) -> float:
    return float(kendalltau(first, second).statistic)


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


# Weights ---------------------------------------------------------------------------------------------------------------


def test_equally_good_witnesses_count_alike_and_their_mean_is_better_than_each() -> None:
    truth, scores = drawn([0.7] * 5)
    found = weigh(scores, FAMILIES)
    assert found.weights == pytest.approx([0.2] * 5, abs=0.03)
    combined = combine(scores, found.weights)
    # Five witnesses that correlate by r with the truth and err independently have a mean that does by r sqrt(5 / (1 + 4 r r)).
    assert pearsonr(combined, truth).statistic == pytest.approx(0.7 * np.sqrt(5 / (1 + 4 * 0.49)), abs=0.03)
    assert tau(combined, truth) > max(tau(column, truth) for column in scores.T) + 0.1


def test_noise_among_good_witnesses_has_no_say() -> None:
    truth, scores = drawn([0.7, 0.7, 0.7, 0.7, 0.0])
    found = weigh(scores, FAMILIES)
    assert found.weights[4] == 0
    assert tau(combine(scores, found.weights), truth) > tau(scores.mean(axis=1), truth) + 0.02


def test_a_witness_that_says_the_opposite_has_no_say() -> None:
    _, scores = drawn([0.8, 0.8, 0.8, 0.8, -0.8])
    found = weigh(scores, FAMILIES)
    assert found.weights[4] == 0
    assert found.agreement[4] < -0.5
    assert found.weights[:4] == pytest.approx([0.25] * 4, abs=0.03)


def test_witnesses_of_one_family_do_not_vouch_for_one_another() -> None:
    truth, scores = drawn([0.7, 0.7, 0.7, 0.0])
    twins = np.column_stack([scores, scores[:, 3]])
    names = [*FAMILIES[:3], Witness("inherited", "supernet"), Witness("predicted", "supernet")]
    assert weigh(twins, names).weights[3:].tolist() == [0, 0]
    assert weigh(twins, FAMILIES).weights[3:].min() > 0.05  # as if they were independent
    assert tau(combine(twins, weigh(twins, names).weights), truth) > 0.5


def test_weights_follow_reliability() -> None:
    _, scores = drawn([0.7] * 5)
    half = [*FAMILIES[:4], Witness("e", "e", 0.5)]
    assert weigh(scores, half).weights[4] == pytest.approx(1 / 9, abs=0.01)
    assert weigh(scores, [*FAMILIES[:4], Witness("e", "e", 0.0)]).weights[4] == 0


def test_few_networks_prove_little() -> None:
    """A correlation of 0.3 among 40 networks may be chance."""
    rng = np.random.default_rng(0)
    first, rest = rng.normal(size=(2, 4000))
    second = 0.35 * first + np.sqrt(1 - 0.35**2) * rest
    scores = np.stack([ReferenceScale(values)(values) for values in (first, second)], axis=1)
    assert weigh(scores, FAMILIES[:2]).agreed
    assert not weigh(scores[:40], FAMILIES[:2]).agreed


def test_where_nobody_agrees_the_anchor_decides_alone() -> None:
    _, scores = drawn([0.0] * 5)
    found = weigh(scores, FAMILIES, anchor=2)
    assert not found.agreed
    assert found.weights.tolist() == [0, 0, 1, 0, 0]
    _, two = drawn([0.9, -0.9])
    assert weigh(two, FAMILIES[:2]).weights.tolist() == [1, 0]


def test_a_constant_witness_and_missing_values() -> None:
    truth, scores = drawn([0.7, 0.7, 0.7, 0.7])
    with_constant = np.column_stack([scores, np.zeros(len(scores))])
    found = weigh(with_constant, FAMILIES)
    assert found.weights[4] == 0
    scores[::3, 1] = np.nan
    scores[0] = np.nan
    found = weigh(scores, FAMILIES[:4])
    combined = combine(scores, found.weights)
    assert combined[0] == -np.inf
    weights = found.weights[[0, 2, 3]]
    assert combined[3] == pytest.approx(scores[3, [0, 2, 3]] @ weights / weights.sum())
    assert tau(combined[1:], truth[1:]) > 0.6


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


def test_what_cannot_be_weighed_is_refused() -> None:
    _, scores = drawn([0.5, 0.5])
    with pytest.raises(ValueError, match="at least 8 true values, not 7"):
        learn_weights(scores[:7], np.arange(7.0), [0.5, 0.5])
    with pytest.raises(ValueError, match="3 witnesses for scores of shape"):
        weigh(scores, FAMILIES[:3])
    with pytest.raises(ValueError, match=r"between 0 and 1, not at 1\.5"):
        Witness("a", "a", 1.5)
