"""What every predictor promises, and what its check says of it."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from oneshot.predictors import GBDTPredictor, MLPPredictor, Predictor, RidgePredictor, explained_variance, fit_and_check
from oneshot.predictors.predictor import Features, Scores
from oneshot.spaces import NASBenchMacro
from oneshot.spaces.coding import Coding
from oneshot.statistics import bootstrap_pairs, kendall_tau

MAKERS: dict[str, Callable[[], Predictor]] = {
    "mlp": lambda: MLPPredictor(hidden=(32, 32), num_networks=2, epochs=60),
    "gbdt": lambda: GBDTPredictor(num_trees=100),
    "ridge": RidgePredictor,
}


def pairs(number: int, noise: float = 0.0, seed: int = 0) -> tuple[Features, Scores]:
    """Scores that are sums over options, about 90 with a spread of 1."""
    coding = Coding(NASBenchMacro())
    rng = np.random.default_rng(seed)
    features = coding.one_hot(coding.sample(number, rng))
    weights = np.random.default_rng(99).standard_normal(features.shape[1])
    return features, 90 + 0.4 * features @ weights + noise * rng.standard_normal(number)


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[], Predictor]:
    return MAKERS[request.param]


def test_it_learns_scores_on_their_own_scale(make: Callable[[], Predictor]) -> None:
    predictor = make()
    predictor.fit(*pairs(300))
    features, scores = pairs(200, seed=1)
    predicted = predictor.predict(features)
    assert predicted.shape == (200,)
    assert predicted.dtype == np.float64
    assert kendalltau(predicted, scores).statistic > 0.8
    assert np.sqrt(np.mean((predicted - scores) ** 2)) < 0.5 * scores.std()


def test_its_state_predicts_the_same(make: Callable[[], Predictor]) -> None:
    predictor, loaded, again = make(), make(), make()
    predictor.fit(*pairs(80))
    features, _ = pairs(50, seed=1)
    file = io.BytesIO()
    torch.save(predictor.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    np.testing.assert_array_equal(loaded.predict(features), predictor.predict(features))
    again.fit(*pairs(60, seed=3))
    again.fit(*pairs(80))
    np.testing.assert_array_equal(again.predict(features), predictor.predict(features))


def test_a_state_before_fitting_is_one_as_well(make: Callable[[], Predictor]) -> None:
    predictor = make()
    predictor.load_state_dict(make().state_dict())
    with pytest.raises(ValueError, match="has not been fitted"):
        predictor.predict(pairs(3)[0])


def test_fitting_leaves_torch_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    torch.set_num_threads(2)
    MLPPredictor(epochs=2).fit(*pairs(20))
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.rand(3), expected)


def test_seeds_differ() -> None:
    features, _ = pairs(50, seed=1)
    for kind in (MLPPredictor, GBDTPredictor):
        found = []
        for seed in (0, 1):
            predictor = kind(seed=seed)
            predictor.fit(*pairs(50))
            found.append(predictor.predict(features))
        assert (found[0] != found[1]).any()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_hardly_any_pairs_are_no_error(make: Callable[[], Predictor], number: int) -> None:
    predictor = make()
    predictor.fit(*pairs(number))
    assert np.isfinite(predictor.predict(pairs(5, seed=1)[0])).all()


def test_equal_scores_are_predicted(make: Callable[[], Predictor]) -> None:
    predictor = make()
    features, scores = pairs(40)
    predictor.fit(features, np.full_like(scores, 70.0))
    np.testing.assert_allclose(predictor.predict(features), 70.0, atol=1.0)


def test_what_cannot_be_learned_is_refused(make: Callable[[], Predictor]) -> None:
    features, scores = pairs(10)
    with pytest.raises(ValueError, match=r"^there are no pairs to learn from$"):
        make().fit(features[:0], scores[:0])
    with pytest.raises(ValueError, match=r"features of shape \(10, 24\) do not go with scores of shape \(9,\)"):
        make().fit(features, scores[:9])
    with pytest.raises(ValueError, match=r"^1 of 10 scores are not finite; leave those pairs out$"):
        make().fit(features, np.where(np.arange(10) == 3, -np.inf, scores))
    predictor = make()
    predictor.fit(features, scores)
    with pytest.raises(ValueError, match=r"takes 24 features, not an array of shape \(10, 23\)"):
        predictor.predict(features[:, :-1])


@pytest.mark.parametrize(
    ("make_wrong", "message"),
    [
        (lambda: MLPPredictor(num_networks=0), "num_networks must be a whole number of at least 1, got 0"),
        (lambda: MLPPredictor(hidden=(10, 0)), r"hidden layers have at least 1 unit, not \[10, 0\]"),
        (lambda: MLPPredictor(validation=1.0), "validation is a part of the pairs"),
        (lambda: GBDTPredictor(max_depth=0), "max_depth must be a whole number of at least 1, got 0"),
        (lambda: GBDTPredictor(subsample=0), "subsample is a part of the pairs"),
        (lambda: GBDTPredictor(lr=0), "lr is positive, not 0"),
        (lambda: MLPPredictor(lr=-1.0), "lr is positive and weight_decay not negative, they are -1.0 and 0.01"),
        (lambda: MLPPredictor(weight_decay=-1.0), "lr is positive and weight_decay not negative"),
        (lambda: MLPPredictor(patience=0), "patience must be a whole number of at least 1, got 0"),
        (lambda: RidgePredictor(penalties=()), "penalties are a list of positive numbers"),
        (lambda: RidgePredictor(penalties=3), "penalties are a list of positive numbers, not 3"),  # type: ignore[arg-type]
    ],
)
def test_numbers_out_of_range_are_refused(make_wrong: Callable[[], Predictor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_wrong()


def test_they_rank_a_published_benchmark(shared_data: Path) -> None:
    """NAS-Bench-Macro from 200 networks."""
    space = NASBenchMacro()
    table = json.loads((shared_data / "nas-bench-macro_cifar10.json").read_text())
    features = Coding(space).one_hot(Coding(space).encode(map(space.from_code, table)))
    scores = np.array([network["mean_acc"] for network in table.values()])
    order = np.random.default_rng(0).permutation(len(scores))
    train, rest = order[:200], order[200:]
    taus = {}
    for predictor in (MLPPredictor(), GBDTPredictor(), RidgePredictor()):
        predictor.fit(features[train], scores[train])
        taus[type(predictor)] = kendalltau(predictor.predict(features[rest]), scores[rest]).statistic
    assert min(taus.values()) > 0.75
    assert taus[MLPPredictor] > taus[RidgePredictor] + 0.03


# The check -----------------------------------------------------------------------------------------------------------


def test_a_good_predictor_is_trusted_and_fitted_to_all_pairs() -> None:
    features, scores = pairs(300, noise=0.1)
    predictor, whole = RidgePredictor(), RidgePredictor()
    report = fit_and_check(predictor, features, scores, holdout=0.25, seed=1)
    assert report.trusted
    assert (report.num_pairs, report.num_held_out) == (300, 75)
    assert 0.7 < report.tau_low < report.tau < report.tau_high <= 1
    assert 0.08 < report.rmse < 0.2 < report.baseline_rmse
    assert report.reason == (
        f"Kendall tau is {report.tau:.2f} ({report.tau_low:.2f} to {report.tau_high:.2f}) on 75 held-out pairs."
    )
    whole.fit(features, scores)
    np.testing.assert_array_equal(predictor.predict(features), whole.predict(features))
    assert fit_and_check(predictor, features, scores, holdout=0.25, seed=1) == report
    assert fit_and_check(predictor, features, scores, holdout=0.25, seed=2) != report


class Fixed:
    """Predicts what it is told to."""

    def __init__(self, predict: Callable[[Features], Scores]) -> None:
        self.predict = predict

    def fit(self, features: Features, scores: Scores) -> None: ...

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None: ...


def test_each_doubt_is_named() -> None:
    features, scores = pairs(300, noise=0.1)
    good = RidgePredictor()
    few = fit_and_check(good, features[:40], scores[:40])
    assert (few.trusted, few.num_held_out) == (False, 8)
    assert few.reason.startswith("Only 8 pairs were held out")
    noise = np.random.default_rng(0).standard_normal(300)
    random = fit_and_check(good, features, noise)
    assert not random.trusted
    assert "may be as low as" in random.reason
    assert random.tau_low < 0.3
    equal = fit_and_check(good, features, np.ones(300))
    assert not equal.trusted
    assert (equal.tau, equal.tau_low, equal.tau_high) == (0, 0, 0)
    assert "nothing to rank" in equal.reason
    flat = fit_and_check(Fixed(lambda features: np.zeros(len(features))), features, scores)
    assert flat.reason == "It predicts the same score for all held-out pairs."
    good.fit(features, scores)
    shifted = fit_and_check(Fixed(lambda features: good.predict(features) - 50), features, scores)
    assert shifted.tau > 0.8
    assert not shifted.trusted
    assert "no smaller than" in shifted.reason
    with pytest.raises(ValueError, match=r"^a predictor is checked with at least 5 pairs, not 4$"):
        fit_and_check(good, features[:4], scores[:4])
    with pytest.raises(ValueError, match=r"^holdout is a part of the pairs, between 0 and 1, not 1"):
        fit_and_check(good, features, scores, holdout=1.0)


def test_the_interval_is_that_of_plain_resampling() -> None:
    rng = np.random.default_rng(0)
    true = np.round(rng.standard_normal(40), 1)  # with ties
    predicted = np.round(true + rng.standard_normal(40), 1)
    found = bootstrap_pairs(kendall_tau, predicted, true, 1000, np.random.default_rng(1))
    assert found.value == pytest.approx(kendalltau(predicted, true).statistic)
    drawn = [rng.integers(40, size=40) for _ in range(1000)]
    expected = np.quantile([kendalltau(predicted[rows], true[rows]).statistic for rows in drawn], (0.025, 0.975))
    np.testing.assert_allclose((found.low, found.high), expected, atol=0.03)


def test_the_part_of_the_variance_that_options_explain() -> None:
    """Of a sum of options and noise of equal variance about half; of noise alone nothing."""
    rng = np.random.default_rng(0)
    features = rng.integers(0, 2, (600, 8)).astype(np.float32)
    added = features @ rng.normal(size=8)
    noise = rng.normal(size=600)
    assert explained_variance(RidgePredictor(), features, added) > 0.999
    assert explained_variance(RidgePredictor(), features, added / added.std() + noise) == pytest.approx(0.5, abs=0.05)
    assert explained_variance(RidgePredictor(), features, noise) == pytest.approx(0, abs=0.05)
    assert explained_variance(RidgePredictor(), features, np.ones(600)) == 0
    with pytest.raises(ValueError, match="at least 2 scores, not 1"):
        explained_variance(RidgePredictor(), features[:1], noise[:1])
