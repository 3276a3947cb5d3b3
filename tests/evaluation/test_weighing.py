"""What witnesses of known worth count."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_witnesses import drawn, normal_scores, tau
from scipy.stats import pearsonr

from oneshot.evaluation import ReferenceScale, Witness, combine, weigh

FAMILIES = [Witness(name, name) for name in ("a", "b", "c", "d", "e")]


def test_equally_good_witnesses_count_alike_and_their_mean_is_better_than_each() -> None:
    truth, scores = drawn([0.7] * 5)
    found = weigh(scores, FAMILIES)
    assert found.weights == pytest.approx([0.2] * 5, abs=0.045)
    combined = combine(scores, found.weights)
    # Five witnesses that correlate by r with the truth and err independently have a mean that does by r sqrt(5 / (1 + 4 r r)).
    assert pearsonr(combined, truth).statistic == pytest.approx(0.7 * np.sqrt(5 / (1 + 4 * 0.49)), abs=0.045)
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
    assert found.weights[:4] == pytest.approx([0.25] * 4, abs=0.045)


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


@pytest.mark.parametrize(("loading", "count"), [(0.7, 500), (0.9, 60)])
def test_two_families_that_agree_are_heard_among_noise(loading: float, count: int) -> None:
    """They correlate by 0.49 and 0.81, which so many networks prove; the mean of the others is mostly noise for each."""
    for seed in range(20):
        _, scores = drawn([loading, 0.0, loading, 0.0], count=count, seed=seed)
        rng = np.random.default_rng(seed)
        twin = normal_scores(scores[:, :1] + 0.3 * rng.normal(size=(count, 1)))
        found = weigh(np.column_stack([scores, twin]), [*FAMILIES[:4], Witness("twin", "a")])
        assert found.agreed
        assert found.weights == pytest.approx([0.25, 0, 0.5, 0, 0.25])
        assert np.isfinite(found.agreement).all()


@pytest.mark.parametrize("count", [60, 500])
def test_among_noise_nobody_agrees(count: int) -> None:
    found = [weigh(drawn([0.0] * 5, count=count, seed=seed)[1], FAMILIES) for seed in range(100)]
    assert sum(one.agreed for one in found) <= 5


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
    assert tau(combined[1:], truth[1:]) > 0.6


def test_what_cannot_be_weighed_is_refused() -> None:
    with pytest.raises(ValueError, match="3 witnesses for scores of shape"):
        weigh(drawn([0.5, 0.5])[1], FAMILIES[:3])


# Beyond size -----------------------------------------------------------------------------------------------------------

SIZED = [Witness("MACs", "size"), Witness("a", "a"), Witness("b", "b"), Witness("c", "c"), Witness("loss", "supernet")]


def sized(
    beyond: list[float], follows: float, count: int = 600, noise: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quality, which correlates by ``follows`` with size; size; scores of size and of witnesses that see more by ``beyond``."""
    rng = np.random.default_rng(3)
    size, rest = rng.normal(size=(2, count))
    quality = follows * size + np.sqrt(1 - follows**2) * rest
    seen = [size] + [follows * size + see * rest + noise * rng.normal(size=count) for see in beyond]
    return quality, size, normal_scores(np.stack(seen, axis=1))


def test_what_only_follows_size_has_no_say_beyond_it() -> None:
    """Their scores correlate with the others' by 0.5 and more, for size alone."""
    quality, _, scores = sized([0.6, 0, 0, 0.8], 0.6)
    assert np.corrcoef(scores.T)[0, 1:].min() > 0.5
    found = weigh(scores, SIZED)
    assert found.weights[2:4].tolist() == [0, 0]
    assert found.weights[4] > found.weights[1] > 0.1
    combined = combine(found.features(scores), found.weights)
    assert tau(combined, quality) > tau(scores.mean(axis=1), quality) + 0.05
    assert tau(combined, quality) > max(tau(column, quality) for column in scores.T)
    # Twice the size changes what is beyond it by nothing.
    assert np.abs(np.corrcoef(found.features(scores).T)[0, 1:]).max() < 1e-6


def test_one_witness_of_a_family_confirms_a_supernet_among_noise() -> None:
    """The other two of its family are noise and so is another family; among 60 networks each is proven once these are out."""
    families = [*SIZED[:2], Witness("b", "b"), *(Witness(name, "b") for name in "cd"), SIZED[4]]
    confirmed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        size, rest = rng.normal(size=(2, 60))
        noise = rng.normal(size=(60, 5))
        seen = np.array([0.0, 0.6, 0.0, 0.0, 0.8]) * rest[:, None] + 0.6 * size[:, None] + 0.5 * noise
        found = weigh(normal_scores(np.column_stack([size, seen])), families)
        confirmed += found.is_beyond_size and min(found.weights[[2, 5]]) > 0
    assert confirmed >= 36


def test_how_much_quality_follows_size_is_what_a_confirmed_supernet_says() -> None:
    of_size = []
    for follows in (0.3, 0.6, 0.9):
        quality, _, scores = sized([0.8, 0.8, 0.5, np.sqrt(1 - follows**2)], follows, noise=0.2)
        found = weigh(scores, SIZED)
        of_size.append(found.weights[0])
        assert tau(combine(found.features(scores), found.weights), quality) > 0.75
    assert of_size == sorted(of_size)
    assert of_size[2] > 2 * of_size[0]


def test_size_is_what_the_supernet_follows() -> None:
    _, size, scores = sized([0.6, 0.6, 0, 0.8], 0.7)
    rng = np.random.default_rng(9)
    wrong = ReferenceScale(rng.normal(size=len(size)))(rng.normal(size=len(size)))
    found = weigh(np.column_stack([wrong, scores]), [Witness("parameters", "size"), *SIZED])
    assert found.weights[0] < 0.05 < found.weights[1]


def test_without_a_supernet_that_others_confirm_families_have_one_vote() -> None:
    _, _, scores = sized([0.6, 0.6, 0.6, 0], 0.7)
    untrained = [*SIZED[:2], Witness("b", "a"), Witness("c", "c")]
    assert weigh(scores[:, :4], untrained).weights == pytest.approx([1 / 3, 1 / 6, 1 / 6, 1 / 3])
    rng = np.random.default_rng(0)
    scores[:, 4] = rng.normal(size=len(scores))
    found = weigh(scores, SIZED)
    assert found.weights.tolist() == [0.25, 0.25, 0.25, 0.25, 0]
    np.testing.assert_allclose(combine(found.features(scores), found.weights), scores[:, :4].mean(axis=1))


def test_loadings_are_spearmans() -> None:
    """Of three families a loading is the root of the product of its correlations over that of the others with each other."""
    from oneshot.evaluation.weighing import _loadings

    loadings = np.array([0.9, 0.6, 0.4])
    correlations = np.outer(loadings, loadings)
    np.fill_diagonal(correlations, 1.0)
    assert _loadings(correlations) == pytest.approx(loadings, abs=1e-4)
    correlations[0, 1] = correlations[1, 0] = 0.5
    expected = [np.sqrt(0.5 * 0.36 / 0.24), np.sqrt(0.5 * 0.24 / 0.36), np.sqrt(0.36 * 0.24 / 0.5)]
    assert _loadings(correlations) == pytest.approx(expected, abs=1e-4)
