"""A fitted BayesianGMMAutoEncoder against independent answers: scores, shapes, criteria."""

from __future__ import annotations

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES, SHARED_WITH_SKLEARN, each_categorical
from _oracles import (
    codes,
    gaussian_mixture_joint,
    hmax,
    tilted,
)
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture

from skbae import BayesianGMMAutoEncoder

K, D = 3, 4
each_kind = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


@pytest.fixture(scope="module")
def X():
    return load_iris().data


def model(n_components=K, **settings):
    settings = {"model_temperature": 0, "random_state": 0, "max_iter": 1000, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings)


# -- scores and codes ----------------------------------------------------------------------------


@each_categorical
def test_scores_and_codes_from_the_fitted_attributes(instance, X):
    """The definition, computed independently: softmax(H / T) and T logsumexp(H / T)."""
    fitted = instance.make(K, max_iter=1000).fit(X)
    joint, T = instance.joint(fitted, X), instance.temperature
    np.testing.assert_allclose(fitted.predict_proba(X), codes(joint, T), atol=1e-9)
    np.testing.assert_allclose(fitted.score_samples(X), hmax(joint, T), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(fitted.predict(X), joint.argmax(axis=1))
    np.testing.assert_array_equal(fitted.transform(X)[:, :K], fitted.predict_proba(X))
    np.testing.assert_allclose(fitted.score(X), hmax(joint, T).mean(), rtol=1e-9)
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    expected = np.average(hmax(joint, T), weights=weights)
    np.testing.assert_allclose(fitted.score(X, sample_weight=weights), expected, rtol=1e-9)


@each_categorical
def test_hmaxe_and_lower_bound_equal_their_definitions(instance, X):
    fitted = instance.make(K, max_iter=1000).fit(X)
    values = hmax(instance.joint(fitted, X), instance.temperature)
    np.testing.assert_allclose(fitted.hmaxe_, values.mean(), rtol=1e-9)
    assert fitted.hmaxemax_ == fitted.hmaxe_ == fitted.internal_energy_
    assert fitted.hmaxemax_error_ == 0
    objective = tilted(values, None, instance.settings.get("tilt", 0.0))
    np.testing.assert_allclose(fitted.lower_bound_, objective, rtol=1e-9)
    assert fitted.lower_bounds_[-1] == fitted.lower_bound_
    assert fitted.converged_
    assert 1 <= fitted.n_iter_ == len(fitted.lower_bounds_) - 1
    assert not hasattr(fitted, "sampling_")
    assert not hasattr(fitted, "log_evidence_")


def test_codes_far_from_all_components_are_still_probabilities(X):
    for temperature in (0, 0.3, 1, 3):
        fitted = model(temperature=temperature).fit(X)
        far = np.full((2, D), 1e5)
        proba = fitted.predict_proba(far)
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        joint = gaussian_mixture_joint(fitted, far)
        np.testing.assert_allclose(fitted.score_samples(far), hmax(joint, temperature), rtol=1e-9)


def test_temperature_is_that_of_the_fit(X):
    """A later set_params waits for the next fit."""
    fitted = model(temperature=1).fit(X)
    proba, score = fitted.predict_proba(X), fitted.score(X)
    fitted.set_params(temperature=0, covariance_type="diag", n_components=7, equal_weights=True)
    np.testing.assert_array_equal(fitted.predict_proba(X), proba)
    assert fitted.score(X) == score
    assert fitted.sample(3)[0].shape == (3, D)
    assert np.isin(fitted.set_params(n_components=3).fit(X).predict_proba(X), (0, 1)).all()


# -- shapes and attributes -----------------------------------------------------------------------


@each_kind
def test_shapes_of_fitted_attributes(kind, X):
    fitted = model(covariance_type=kind).fit(X)
    shape = {
        "full": (K, D, D),
        "tied": (D, D),
        "diag": (K, D),
        "spherical": (K,),
        "tied_diag": (D,),
        "tied_spherical": (),
    }[kind]
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        assert np.shape(getattr(fitted, name)) == shape, name
    assert fitted.weights_.shape == (K,)
    assert fitted.means_.shape == (K, D)
    assert fitted.models_.weights.shape == (1, K)
    assert fitted.models_.means.shape == (1, K, D)
    assert fitted.models_.covariances.shape == (1, *shape)
    np.testing.assert_array_equal(fitted.models_.means[0], fitted.means_)
    np.testing.assert_array_equal(fitted.models_.weights[0], fitted.weights_)
    np.testing.assert_array_equal(fitted.models_.covariances[0], fitted.covariances_)
    np.testing.assert_allclose(fitted.weights_.sum(), 1, rtol=1e-14)
    assert fitted.n_features_in_ == D
    assert fitted.transform(X).shape == (len(X), K)
    assert fitted.inverse_transform(np.eye(K)).shape == (K, D)


@each_kind
def test_covariances_precisions_and_factors_belong_together(kind, X):
    fitted = model(covariance_type=kind).fit(X)
    covariances, precisions, factors = (
        np.asarray(getattr(fitted, name))
        for name in ("covariances_", "precisions_", "precisions_cholesky_")
    )
    if kind in ("full", "tied"):
        identity = np.broadcast_to(np.eye(D), covariances.shape)
        np.testing.assert_allclose(covariances @ precisions, identity, atol=1e-9)
        product = factors @ np.swapaxes(factors, -1, -2)
        np.testing.assert_allclose(product, precisions, rtol=1e-9)
        np.testing.assert_array_equal(factors, np.triu(factors))
    else:
        np.testing.assert_allclose(covariances * precisions, 1, rtol=1e-12)
        np.testing.assert_allclose(factors**2, precisions, rtol=1e-12)


@pytest.mark.parametrize("kind", ["tied", "tied_diag", "tied_spherical"])
def test_shared_covariance_is_the_mean_within_groups(kind, X):
    """Tied kinds at T = 0: the pooled scatter around the means of the groups."""
    fitted = model(covariance_type=kind, temperature=0, reg_covar=0, tol=1e-12).fit(X)
    deviations = X - fitted.means_[fitted.predict(X)]
    pooled = deviations.T @ deviations / len(X)
    expected = {
        "tied": pooled,
        "tied_diag": np.diag(pooled),
        "tied_spherical": np.trace(pooled) / D,
    }[kind]
    np.testing.assert_allclose(fitted.covariances_, expected, rtol=1e-9)


def test_one_component_is_the_gaussian_of_the_data(X):
    fitted = model(1, reg_covar=0).fit(X)
    np.testing.assert_allclose(fitted.means_[0], X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(fitted.covariances_[0], np.cov(X.T, bias=True), rtol=1e-10)
    assert fitted.weights_.tolist() == [1.0]


# -- criteria ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHARED_WITH_SKLEARN)
def test_criteria_equal_scikit_learn(kind, X):
    theirs = GaussianMixture(K, covariance_type=kind, random_state=0, max_iter=1000).fit(X)
    ours = model(
        covariance_type=kind,
        weights_init=theirs.weights_,
        means_init=theirs.means_,
        precisions_init=theirs.precisions_,
        max_iter=0,
    ).fit(X)
    np.testing.assert_allclose(ours.bic(X), theirs.bic(X), rtol=1e-9)
    np.testing.assert_allclose(ours.aic(X), theirs.aic(X), rtol=1e-9)


def test_bic_and_aic_count_free_parameters(X):
    """Tied kinds and equal weights have no counterpart in scikit-learn; and T = 1 always."""
    n = len(X)
    for kind, n_covariance in {"tied_diag": D, "tied_spherical": 1}.items():
        for equal in (False, True):
            fitted = model(covariance_type=kind, equal_weights=equal, temperature=0).fit(X)
            n_parameters = K * D + n_covariance + (0 if equal else K - 1)
            log_density = hmax(gaussian_mixture_joint(fitted, X), 1.0).sum()
            np.testing.assert_allclose(fitted.aic(X), 2 * n_parameters - 2 * log_density)
            expected = n_parameters * np.log(n) - 2 * log_density
            np.testing.assert_allclose(fitted.bic(X), expected)
