"""PCA and mixtures of PCA in other units and at their edges: no codes, no noise left, ties."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV

from skbae import BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder

IRIS = load_iris().data


def three_directions(n_rows=60, seed=0):
    rng = np.random.default_rng(seed)
    X = 2 * rng.standard_normal((n_rows, 3)) @ rng.standard_normal((3, 6))
    return X + 0.5 * rng.standard_normal(X.shape)


def assert_equivariant(one, X, scale, shift, places):
    """Compare a fit of X with one of X in other units: densities, attributes and codes."""
    other = clone(one).fit(scale * X + shift * X.std() * scale)
    assert one.components_.shape == other.components_.shape
    logs = X.shape[1] * np.log(scale)
    error = 1e-9
    if hasattr(one, "log_evidence_"):
        error = 5 * max(one.sampling_.log_evidence_error, 1e-9)
        assert one.sampling_.status == other.sampling_.status == "ok"
        assert abs(other.log_evidence_ + len(X) * logs - one.log_evidence_) < error
    np.testing.assert_allclose(other.hmaxe_ + logs, one.hmaxe_, atol=places)
    np.testing.assert_allclose(other.noise_variance_ / scale / scale, one.noise_variance_, rtol=0.2)
    ratio = other.explained_variance_ / scale / scale / one.explained_variance_
    np.testing.assert_allclose(ratio, 1, rtol=0.2)
    return one, other


PROPERTY = settings(max_examples=3, deadline=None)
SCALES = st.integers(-100, 100).map(lambda power: 10.0**power)
SHIFTS = st.sampled_from([0.0, 3.0, -1e4])


@cache
def chosen_by_evidence():
    return BayesianPCAAutoEncoder("evidence", random_state=0).fit(three_directions())


@PROPERTY
@given(SCALES, SHIFTS)
def test_the_choice_by_evidence_depends_on_no_units(scale, shift):
    one, other = assert_equivariant(chosen_by_evidence(), three_directions(), scale, shift, 1e-3)
    assert one.n_components_ == other.n_components_ == 3


@PROPERTY
@given(SCALES, SHIFTS, st.sampled_from([0.0, 0.5, 1.0]))
def test_best_models_depend_on_no_units(scale, shift, temperature):
    settings = {"temperature": temperature, "model_temperature": 0, "random_state": 0}
    X = three_directions()
    for number in (0, 2, None):
        one = BayesianPCAAutoEncoder(number, **settings).fit(X)
        assert_equivariant(one, X, scale, shift, 1e-6)
    one = BayesianMixturePCAAutoEncoder(2, **settings).fit(IRIS)
    assert_equivariant(one, IRIS, scale, shift, 1e-4)


@cache
def mixture_of_irises():
    return BayesianMixturePCAAutoEncoder(2, random_state=0).fit(IRIS[::2])


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_evidence_of_mixtures_of_pca_depends_on_no_units(scale):
    assert_equivariant(mixture_of_irises(), IRIS[::2], scale, 0.0, 1e-3)


@pytest.mark.parametrize("scale", [1e-148, 1e-120, 1e120, 1e150])
@pytest.mark.parametrize("solver", ["full", "covariance_eigh", "gram", "randomized"])
@pytest.mark.parametrize("wide", [False, True])
def test_no_solver_depends_on_units(scale, solver, wide):
    """A Krylov space compared residuals with 1e-300, and squares of variances overflowed."""
    X = np.random.default_rng(0).standard_normal((8, 30)) * np.r_[5.0, 3, np.ones(28)]
    X = X if wide else X.T
    one = BayesianPCAAutoEncoder(2, model_temperature=0, svd_solver=solver, random_state=0).fit(X)
    exact = PCA(2).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = BayesianPCAAutoEncoder(
            2, model_temperature=0, svd_solver=solver, random_state=0
        ).fit(scale * X)
        codes = other.transform(scale * X) / scale
    np.testing.assert_allclose(one.components_, exact.components_, atol=1e-6)
    np.testing.assert_allclose(other.components_, exact.components_, atol=1e-6)
    np.testing.assert_allclose(codes, one.transform(X), atol=1e-6)
    np.testing.assert_allclose(other.hmaxe_ + X.shape[1] * np.log(scale), one.hmaxe_, atol=1e-6)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (1e300, r"X is too large.*largest entry of column 0 is 7.9e\+300"),
        (1e152, r"X is too large.*largest entry of column 0 is 7.9e\+152.*may be 4.08e\+151"),
        ([1.0, 1.0, 1e200, 1.0], r"X is too large.*largest entry of column 2 is 6.9e\+200"),
        (1e-300, r"X is too small.*column 0 must be 1e-150 at least.*largest entry is 7.9e-300"),
        ([1.0, 1e-200, 1.0, 1.0], r"X is too small.*column 1 must be 1e-150 at least"),
    ],
)
@pytest.mark.parametrize("family", [BayesianPCAAutoEncoder, BayesianMixturePCAAutoEncoder])
def test_squares_out_of_range_are_refused_by_name(factors, message, family):
    for tau in (0, 1):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValueError, match=message):
                family(1, model_temperature=tau).fit(IRIS * factors)


def test_priors_are_in_the_units_of_the_data():
    given_prior = {
        "component_variance_prior": 0.7,
        "mean_prior": np.arange(4.0),
        "noise_scale_prior": 0.3,
        "random_state": 0,
    }
    scaled = {
        **given_prior,
        "component_variance_prior": 0.7e40,
        "mean_prior": 1e20 * np.arange(4.0),
        "noise_scale_prior": 0.3e40,
    }
    for kind in (BayesianPCAAutoEncoder, BayesianMixturePCAAutoEncoder):
        one, other = kind(1, **given_prior).fit(IRIS), kind(1, **scaled).fit(1e20 * IRIS)
        shifted = other.log_evidence_ + IRIS.size * np.log(1e20)
        assert abs(shifted - one.log_evidence_) < 0.1


# -- the number of components -------------------------------------------------------------------


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer, load_digits])
def test_minkas_estimate_is_that_of_scikit_learn(load):
    X = load().data
    ours = BayesianPCAAutoEncoder("mle", model_temperature=0).fit(X)
    assert ours.n_components_ == PCA("mle").fit(X).n_components_


def test_minkas_estimate_serves_sampled_models():
    fitted = BayesianPCAAutoEncoder("mle", random_state=0).fit(IRIS)
    assert fitted.n_components_ == PCA("mle").fit(IRIS).n_components_
    assert fitted.sampling_.status == "ok"


def test_minkas_estimate_needs_as_many_rows_as_features():
    with pytest.raises(ValueError, match="'mle' needs at least as many rows as features"):
        BayesianPCAAutoEncoder("mle", model_temperature=0).fit(IRIS[:3])


@pytest.mark.parametrize("settings", [{"model_temperature": 0}, {"random_state": 0}])
def test_without_components_codes_decode_to_the_mean(settings):
    fitted = BayesianPCAAutoEncoder(0, **settings).fit(IRIS)
    codes = fitted.transform(IRIS)
    assert codes.shape == (150, 0)
    expected = np.broadcast_to(fitted.mean_, IRIS.shape)
    np.testing.assert_array_equal(fitted.inverse_transform(codes), expected)
    np.testing.assert_array_equal(fitted.decode(codes).mean, expected)
    np.testing.assert_array_equal(fitted.decode(fitted.encode(IRIS)).mean, expected)


def test_a_search_by_reconstruction_has_a_number_for_no_components():
    from skbae.model_selection import reconstruction_scorer

    search = GridSearchCV(
        BayesianPCAAutoEncoder(model_temperature=0),
        {"n_components": [0, 1]},
        scoring=reconstruction_scorer,
        error_score="raise",
    ).fit(IRIS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_at_temperature_one_the_last_of_all_codes_is_zero():
    fitted = BayesianPCAAutoEncoder(temperature=1, model_temperature=0).fit(IRIS)
    fewer = BayesianPCAAutoEncoder(3, temperature=1, model_temperature=0).fit(IRIS)
    np.testing.assert_allclose(fitted.transform(IRIS)[:, 3], 0, atol=1e-12)
    np.testing.assert_allclose(fitted.score_samples(IRIS), fewer.score_samples(IRIS))


def test_scores_on_the_floor_of_the_noise_warn():
    X = np.random.default_rng(0).standard_normal((30, 2)) @ np.ones((2, 5)) + 1
    fitted = BayesianPCAAutoEncoder(2, temperature=0.5, model_temperature=0).fit(X)
    with pytest.warns(UserWarning, match="noise_variance_=.* is a floor"):
        fitted.score(X)
    noisy = BayesianPCAAutoEncoder(2, temperature=0.5, model_temperature=0).fit(IRIS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noisy.score(IRIS)


# -- tilt ---------------------------------------------------------------------------------------


def test_tilted_fits_of_collinear_rows_have_finite_singular_values():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((20, 1)) @ rng.standard_normal((1, 4)) + 1
        fitted = BayesianPCAAutoEncoder(2, model_temperature=0, tilt=0.5).fit(X)
        assert np.isfinite(fitted.singular_values_).all()


@pytest.mark.parametrize("family", ["pca", "mixture"])
def test_the_internal_energy_of_a_tilted_fit_is_the_plain_mean(family):
    settings = {"temperature": 0.5, "model_temperature": 0, "tilt": 0.5, "random_state": 0}
    X = three_directions()
    if family == "pca":
        fitted = BayesianPCAAutoEncoder(2, **settings).fit(X)
    else:
        fitted = BayesianMixturePCAAutoEncoder(2, n_latent=1, **settings).fit(X)
    values = fitted.score_samples(X)
    np.testing.assert_allclose(fitted.internal_energy_, values.mean(), rtol=1e-9)
    tilted = -np.log(np.exp(-0.5 * (values - values.min())).mean()) / 0.5 + values.min()
    np.testing.assert_allclose(fitted.lower_bound_, tilted, rtol=1e-9)
    if family == "pca":
        doubled = BayesianPCAAutoEncoder(2, **settings).fit(X, sample_weight=np.full(len(X), 2.0))
        np.testing.assert_allclose(doubled.score_samples(X), values, rtol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_converged_tilted_fits_are_within_their_tolerance_of_the_optimum(seed):
    X = np.random.default_rng(seed).standard_normal((50, 3)) * [2.0, 1.0, 0.5]
    settings = {"temperature": 0.5, "model_temperature": 0, "tilt": 0.5, "random_state": 0}
    fitted = BayesianPCAAutoEncoder(2, **settings).fit(X)
    exact = BayesianPCAAutoEncoder(2, tol=0, max_iter=20_000, **settings).fit(X)
    assert fitted.converged_
    assert exact.lower_bound_ - fitted.lower_bound_ < 1e-3


# -- a single component -------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_latent", [0, 2])
def test_a_single_component_is_pca_at_the_default_tolerance(temperature, n_latent):
    settings = {"temperature": temperature, "model_temperature": 0}
    X = load_digits().data[:400]
    mixture = BayesianMixturePCAAutoEncoder(1, n_latent=n_latent, **settings).fit(X)
    pca = BayesianPCAAutoEncoder(n_latent, **settings).fit(X)
    np.testing.assert_allclose(mixture.hmaxe_, pca.hmaxe_, atol=1e-6)


def test_one_column_and_centres_by_k_means():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = BayesianMixturePCAAutoEncoder(
            2, init_params="kmeans", model_temperature=0, random_state=0
        ).fit(IRIS[:, 2:3])
    np.testing.assert_allclose(np.sort(fitted.means_[:, 0]), [1.46, 4.91], atol=0.1)
