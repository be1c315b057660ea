"""Gaussian mixtures on rows with missing entries."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from _instances import COVARIANCE_TYPES
from _missing_oracles import conditional_mixture, em_step, marginal_joint, with_gaps
from _oracles import fitted_covariances
from scipy.special import logsumexp, softmax
from scipy.stats import norm
from sklearn.datasets import load_iris
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer

from skbae import BayesianGMMAutoEncoder, BayesianRBMAutoEncoder, BayesianVAEAutoEncoder
from skbae.energies.mixture._completion import mixture_quantiles
from skbae.energies.mixture._energy import MixtureEnergy
from skbae.operators._small_matrices import inverses, lower_factors

IRIS = load_iris().data
GAPPY = with_gaps(IRIS, 0.3)


def fitted(kind="full", X=GAPPY, **changes):
    settings = {"n_components": 3, "model_temperature": 0.0, "random_state": 0, **changes}
    return BayesianGMMAutoEncoder(covariance_type=kind, **settings).fit(X)


def joint_of(model, X):
    return marginal_joint(X, model.weights_, model.means_, fitted_covariances(model))


@pytest.fixture(scope="module", params=COVARIANCE_TYPES)
def model(request):
    return fitted(request.param)


@pytest.fixture(scope="module")
def rows():
    """Rows with all kinds of gaps, one row without any and one that is missing."""
    X = with_gaps(IRIS[::3], 0.4, seed=1)
    X[1] = np.nan
    return X


# -- scores and codes ------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_scores_and_codes_are_those_of_the_marginal_densities(model, rows, temperature):
    again = BayesianGMMAutoEncoder.from_parameters(
        model.weights_,
        model.means_,
        model.covariances_,
        covariance_type=model.covariance_type,
        temperature=temperature,
        model_temperature=0.0,
    )
    joint = joint_of(again, rows)
    hard = temperature == 0
    scores = joint.max(axis=1) if hard else temperature * logsumexp(joint / temperature, axis=1)
    np.testing.assert_allclose(again.score_samples(rows), scores, rtol=1e-9, atol=1e-9)
    codes = np.eye(3)[joint.argmax(axis=1)] if hard else softmax(joint / temperature, axis=1)
    np.testing.assert_allclose(again.transform(rows), codes, atol=1e-9)
    np.testing.assert_allclose(again.encode(rows).mean, codes, atol=1e-9)
    assert again.predict(rows).tolist() == joint.argmax(axis=1).tolist()


def test_a_missing_row_has_density_one_and_the_prior_code(model):
    empty = np.full((1, 4), np.nan)
    np.testing.assert_allclose(model.score_samples(empty), 0.0, atol=1e-9)
    np.testing.assert_allclose(model.predict_proba(empty)[0], model.weights_, rtol=1e-9)
    np.testing.assert_allclose(model.impute(empty)[0], model.weights_ @ model.means_, rtol=1e-9)


def test_the_gradient_is_that_of_differences_and_zero_at_gaps(model, rows):
    gradient, step = model.score_gradient(rows), 1e-5
    for column in range(rows.shape[1]):
        move = step * np.eye(rows.shape[1])[column]
        slope = (model.score_samples(rows + move) - model.score_samples(rows - move)) / (2 * step)
        slope[np.isnan(rows[:, column])] = 0.0
        np.testing.assert_allclose(gradient[:, column], slope, rtol=1e-5, atol=1e-5)


def test_float32_rows_have_float32_codes_and_imputations(model, rows):
    single = rows.astype(np.float32)
    assert model.transform(single).dtype == np.float32
    assert model.impute(single).dtype == np.float32
    np.testing.assert_allclose(model.score_samples(single), model.score_samples(rows), atol=1e-3)


def test_the_same_rows_without_gaps_have_the_same_scores(model):
    some = np.vstack([IRIS[:20], np.full((1, 4), np.nan)])
    np.testing.assert_allclose(
        model.score_samples(some)[:-1], model.score_samples(IRIS[:20]), rtol=1e-9
    )


# -- missing entries -------------------------------------------------------------------------------


def test_the_conditional_distribution_has_the_moments_of_regression(model, rows):
    means, covariances = conditional_mixture(
        rows, model.weights_, model.means_, fitted_covariances(model)
    )
    found = model.condition(rows)
    np.testing.assert_allclose(found.mean, means, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.covariance, covariances, rtol=1e-7, atol=1e-8)
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    np.testing.assert_allclose(found.variance, variances, rtol=1e-7, atol=1e-8)
    filled, known = model.impute(rows), ~np.isnan(rows)
    assert np.array_equal(filled[known], rows[known])
    np.testing.assert_array_equal(filled, found.mean)


def test_draws_of_missing_entries_have_their_moments_and_quantiles(model, rows):
    found, n_draws = model.condition(rows), 4000
    draws = found.sample(n_draws, random_state=0)
    gaps = np.isnan(rows)
    assert np.array_equal(draws[:, ~gaps], np.broadcast_to(rows[~gaps], (n_draws, (~gaps).sum())))
    errors = (draws.mean(axis=0) - found.mean)[gaps] / np.sqrt(found.variance[gaps] / n_draws)
    assert np.abs(errors).max() < 4.5
    lower, upper = found.interval(0.8)
    inside = ((draws >= lower) & (draws <= upper)).mean(axis=0)[gaps]
    assert np.abs(inside - 0.8).max() < 4.5 * np.sqrt(0.8 * 0.2 / n_draws)
    assert np.array_equal(lower[~gaps], rows[~gaps])


def test_the_density_of_missing_entries_is_that_of_the_row_by_that_of_what_is_known(model, rows):
    complete = IRIS[::3]
    found = model.condition(rows)
    both = model.score_samples(np.where(np.isnan(rows), complete, rows))
    expected = both - model.score_samples(rows)
    np.testing.assert_allclose(found.log_density(complete), expected, rtol=1e-7, atol=1e-8)


def test_entropies_of_one_component_are_those_of_a_normal_distribution(rows):
    model = fitted("full", n_components=1)
    found = model.condition(rows)
    for entropy, covariance, row in zip(found.entropy(), found.covariance, rows, strict=True):
        gaps = np.flatnonzero(np.isnan(row))
        own = covariance[np.ix_(gaps, gaps)]
        exact = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * own)[1] if len(gaps) else 0.0
        np.testing.assert_allclose(entropy, exact, rtol=1e-8, atol=1e-10)
    mixed = fitted("full").condition(rows)
    more = mixed.entropy(n_samples=4000, random_state=1)
    assert np.isfinite(more).all()
    assert more[~np.isnan(rows).any(axis=1)].max() == 0.0


def test_imputations_at_zero_temperature_follow_the_best_code(rows):
    model = fitted("full", temperature=0.0)
    best = joint_of(model, rows).argmax(axis=1)
    covariances = fitted_covariances(model)
    for row, k, found in zip(rows, best, model.impute(rows), strict=True):
        expected, _ = conditional_mixture(
            row[None], np.ones(1), model.means_[[k]], covariances[[k]]
        )
        np.testing.assert_allclose(found, expected[0], rtol=1e-8)


def test_denoising_completes_rows_given_their_noisy_entries(rows):
    model, variance = fitted("full"), 0.2
    noisy = fitted_covariances(model) + variance * np.eye(4)
    expected, _ = conditional_mixture(rows, model.weights_, model.means_, noisy)
    clean, gaps = model.denoise(rows, variance), np.isnan(rows)
    np.testing.assert_allclose(clean[gaps], expected[gaps], rtol=1e-8)
    assert np.isfinite(clean).all()


@pytest.mark.parametrize("probability", [0.001, 0.05, 0.5, 0.95])
def test_quantiles_of_mixtures_invert_the_distribution_function(probability):
    rng = np.random.default_rng(0)
    weights, means = rng.dirichlet(np.ones(4), 50).T, 10 * rng.normal(size=(4, 50))
    scales = rng.gamma(1.0, size=(4, 50))
    found = mixture_quantiles(weights, means, scales, probability)
    reached = (weights * norm.cdf(found, means, scales)).sum(axis=0)
    np.testing.assert_allclose(reached, probability, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 5, 30])
def test_small_matrices_are_inverted_and_factored_side_by_side(size):
    rng = np.random.default_rng(size)
    roots = rng.normal(size=(2, 3, size, size + 2))
    dense = np.matmul(roots, np.swapaxes(roots, -1, -2))  # (2, 3, m, m)
    matrices = np.moveaxis(dense, 1, -1).copy()
    lower = np.moveaxis(lower_factors(matrices), -1, 1)
    np.testing.assert_allclose(np.matmul(lower, np.swapaxes(lower, -1, -2)), dense, rtol=1e-8)
    assert np.array_equal(lower, np.tril(lower))
    found, log_det = inverses(matrices)
    np.testing.assert_allclose(np.moveaxis(found, -1, 1), np.linalg.inv(dense), rtol=1e-6)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(dense)[1], rtol=1e-8)


# -- fits ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*did not converge")
def test_a_step_expects_complete_rows():
    start = fitted("full", max_iter=3, tol=0.0)
    weights = np.random.default_rng(0).integers(1, 4, len(GAPPY)).astype(float)
    given = (start.weights_, start.means_, fitted_covariances(start))
    expected = em_step(GAPPY, weights, *given)
    model = BayesianGMMAutoEncoder(
        3,
        model_temperature=0.0,
        weights_init=start.weights_,
        means_init=start.means_,
        precisions_init=start.precisions_,
        max_iter=1,
        tol=0.0,
        reg_covar=0.0,
    )
    with pytest.warns(UserWarning, match="did not converge"):
        model.fit(GAPPY, sample_weight=weights)
    for found, wanted in zip(
        (model.weights_, model.means_, model.covariances_), expected, strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-7)


@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize("tilt", [0.0, 0.5, -0.1])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_objective_never_decreases(kind, temperature, tilt):
    model = fitted(
        kind,
        temperature=temperature,
        tilt=tilt,
        reg_covar=0.0,
        tol=0.0,
        max_iter=12,
        n_components=2,
    )
    steps = np.diff(model.lower_bounds_)
    assert steps.min() >= -1e-12
    assert steps.sum() > 1e-3
    joint = joint_of(model, GAPPY)
    hard = temperature == 0
    hmax = joint.max(axis=1) if hard else temperature * logsumexp(joint / temperature, axis=1)
    np.testing.assert_allclose(model.hmaxe_, hmax.mean(), rtol=1e-9)


@pytest.mark.parametrize("kind", ["diag", "tied_diag"])
def test_a_single_diagonal_component_has_the_moments_of_known_entries(kind):
    model = fitted(kind, n_components=1, tol=0.0, max_iter=300, reg_covar=0.0)
    np.testing.assert_allclose(model.means_[0], np.nanmean(GAPPY, axis=0), rtol=1e-6)
    found = np.diagonal(fitted_covariances(model)[0])
    np.testing.assert_allclose(found, np.nanvar(GAPPY, axis=0), rtol=1e-6)


@pytest.mark.parametrize("kind", ["full", "tied_diag"])
def test_missing_rows_change_nothing(kind):
    complete = fitted(kind, X=IRIS, tol=0.0, max_iter=500)
    more = np.vstack([IRIS, np.full((3, 4), np.nan)])
    start = {
        "weights_init": complete.weights_,
        "means_init": complete.means_,
        "precisions_init": complete.precisions_,
        "reg_covar": 0.0,
    }
    first = fitted(kind, X=IRIS, tol=0.0, max_iter=2000, **start)
    again = fitted(kind, X=more, tol=0.0, max_iter=2000, **start)
    np.testing.assert_allclose(again.means_, first.means_, rtol=1e-5)
    np.testing.assert_allclose(again.hmaxe_ * len(more), first.hmaxe_ * len(IRIS), rtol=1e-7)


def test_complete_rows_never_take_the_way_of_gaps(monkeypatch):
    def refuse(self):
        raise AssertionError("complete rows were treated as incomplete")

    model = fitted("full")
    monkeypatch.setattr(MixtureEnergy, "of_incomplete_rows", refuse)
    plain = fitted("full", X=IRIS)
    for method in ("transform", "score_samples", "score_gradient", "predict", "impute"):
        getattr(plain, method)(IRIS)
    with pytest.raises(AssertionError, match="treated as incomplete"):
        model.transform(GAPPY)
    assert np.array_equal(plain.impute(IRIS), IRIS)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_weighted_rows_equal_repeated_ones(kind):
    weights = np.random.default_rng(0).integers(0, 3, len(GAPPY))
    settings = {"n_components": 2, "model_temperature": 0.0, "random_state": 0}
    one = BayesianGMMAutoEncoder(covariance_type=kind, **settings).fit(GAPPY, sample_weight=weights)
    two = BayesianGMMAutoEncoder(covariance_type=kind, **settings)
    two.fit(np.repeat(GAPPY, weights, axis=0))
    np.testing.assert_allclose(one.means_, two.means_, rtol=1e-6)
    np.testing.assert_allclose(one.hmaxe_, two.hmaxe_, rtol=1e-8)


def two_groups(n_rows, seed):
    rng = np.random.default_rng(seed)
    mixing = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.5, 0.5]])
    return rng.normal(size=(n_rows, 3)) @ mixing.T + 4.0 * rng.integers(2, size=(n_rows, 1))


def test_parameters_are_near_those_of_complete_rows():
    X = two_groups(4000, 0)
    complete = fitted("full", X=X, n_components=2)
    gappy = fitted("full", X=with_gaps(X, 0.3), n_components=2)
    first, second = np.argsort(complete.means_[:, 0]), np.argsort(gappy.means_[:, 0])
    # a standard error of a mean is 0.02, and a third of the entries are gone
    np.testing.assert_allclose(gappy.means_[second], complete.means_[first], atol=0.08)
    np.testing.assert_allclose(gappy.covariances_[second], complete.covariances_[first], atol=0.12)
    np.testing.assert_allclose(gappy.weights_[second], complete.weights_[first], atol=0.02)


@pytest.mark.parametrize("kind", ["tied", "diag", "full"])
def test_fits_to_known_entries_are_better_than_fits_to_imputed_ones(kind):
    X, test = with_gaps(two_groups(600, 1), 0.3, seed=2), two_groups(600, 3)
    score = fitted(kind, X=X, n_components=2).score(test)
    for imputer in (SimpleImputer(), IterativeImputer(max_iter=50, random_state=0)):
        imputed = imputer.fit_transform(X)
        assert score > fitted(kind, X=imputed, n_components=2).score(test)


def test_intervals_cover_what_they_say_on_rows_of_the_model():
    X = two_groups(4000, 5)
    gappy = with_gaps(X, 0.3, seed=6)
    lower, upper = fitted("full", X=gappy, n_components=2).condition(gappy).interval(0.9)
    inside = ((lower <= X) & (upper >= X))[np.isnan(gappy)]
    assert 0.88 <= inside.mean() <= 0.92


def test_fits_to_float32_rows_are_those_to_float64():
    single = fitted("full", X=GAPPY.astype(np.float32), n_components=2)
    double = fitted("full", n_components=2)
    np.testing.assert_allclose(single.means_, double.means_, rtol=1e-3)
    np.testing.assert_allclose(single.hmaxe_, double.hmaxe_, rtol=1e-4)


def test_results_do_not_depend_on_the_number_of_threads():
    X = with_gaps(two_groups(5000, 7), 0.2)
    first, second = (fitted("full", X=X, n_components=2, n_jobs=n) for n in (1, 3))
    assert np.array_equal(first.means_, second.means_)


@pytest.mark.parametrize("init", ["k-means++", "random", "random_from_data"])
def test_all_starts_take_gaps(init):
    assert np.isfinite(fitted("full", init_params=init).hmaxe_)


def test_annealing_takes_gaps():
    assert np.isfinite(fitted("full", annealing="auto").hmaxe_)


def test_a_warm_start_goes_on_with_gaps():
    model = fitted("full", warm_start=True)
    before = model.hmaxe_
    assert model.fit(GAPPY).hmaxe_ >= before - 1e-9


def test_models_with_gaps_survive_pickling(rows):
    model = fitted("full")
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.impute(rows), model.impute(rows))


# -- refusals --------------------------------------------------------------------------------------


def test_a_column_without_known_entries_is_refused_by_name():
    X = pd.DataFrame(GAPPY, columns=["a", "b", "c", "d"]).assign(c=np.nan)
    with pytest.raises(ValueError, match="no known entry in column 'c'"):
        fitted("full", X=X)
    weights = np.isnan(GAPPY[:, 1]).astype(float)
    with pytest.raises(ValueError, match="no known entry in column 1"):
        BayesianGMMAutoEncoder(model_temperature=0.0).fit(GAPPY, sample_weight=weights)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_columns_that_are_never_known_together_are_refused_by_name(kind):
    X = GAPPY.copy()
    X[::2, 1], X[1::2, 3] = np.nan, np.nan
    with pytest.raises(ValueError, match=r"both column 1 and column 3.*covariance_type"):
        fitted(kind, X=X)
    assert np.isfinite(fitted("diag", X=X).hmaxe_)


def test_infinite_values_are_refused():
    X = GAPPY.copy()
    X[3, 2] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        fitted("full", X=X)
    with pytest.raises(ValueError, match="infinity"):
        fitted("full").score_samples(X)


def test_tags_say_who_takes_gaps():
    assert BayesianGMMAutoEncoder().__sklearn_tags__().input_tags.allow_nan
    for other in (BayesianRBMAutoEncoder, BayesianVAEAutoEncoder):
        assert not other().__sklearn_tags__().input_tags.allow_nan
        with pytest.raises(ValueError, match=f"NaN|{other.__name__}"):
            other().fit(GAPPY)


@pytest.mark.parametrize("level", [0.0, 1.0, -1])
def test_levels_of_intervals_are_checked(level):
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        fitted("full").condition(GAPPY).interval(level)


# -- sampled models --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:columns of X are left out")
def test_constant_columns_are_completed_by_their_value():
    X = np.column_stack([GAPPY[:, :2], np.full(len(GAPPY), 7.0), GAPPY[:, 3]])
    X[::3, 2] = np.nan
    model = BayesianGMMAutoEncoder(1, covariance_type="diag", random_state=0).fit(X)
    filled, found = model.impute(X), model.condition(X)
    assert (filled[:, 2] == 7.0).all()
    assert np.array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])
    lower, upper = found.interval(0.9)
    assert (lower[:, 2] == 7.0).all()
    assert (upper >= lower).all()
    assert found.sample(3, random_state=0).shape == (3, *X.shape)
    plain = BayesianGMMAutoEncoder(1, covariance_type="diag", random_state=0)
    others = plain.fit(X[:, [0, 1, 3]]).impute(X[:, [0, 1, 3]])
    np.testing.assert_allclose(filled[:, [0, 1, 3]], others, atol=0.05)


def test_columns_that_follow_from_others_are_refused_while_sampling():
    X = GAPPY.copy()
    X[:, 3] = 2.0 * X[:, 0] - X[:, 1]
    with pytest.raises(ValueError, match=r"affine functions of others \(3\)"):
        BayesianGMMAutoEncoder(1, random_state=0).fit(X)
