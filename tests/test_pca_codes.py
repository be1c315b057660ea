"""What fitted PCA says of codes and rows: its distributions and its density."""

from __future__ import annotations

import numpy as np
import pytest
from _oracles import finite_differences
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris

from skbae import BayesianPCAAutoEncoder
from skbae.model_selection import hmaxemax_scorer

IRIS = load_iris().data


def model(n_components=2, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianPCAAutoEncoder(n_components, **settings)


# -- codes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("whiten", [False, True])
def test_encode_is_the_posterior(temperature, whiten):
    """Conditioning the joint normal of code and row, with the codes' covariance heated."""
    fitted = model(2, temperature=temperature, whiten=whiten).fit(IRIS)
    s2, u = fitted.noise_variance_, fitted.components_
    lengths = np.sqrt(np.maximum(1 / fitted.component_precisions_ - s2, 0))
    units = np.sqrt(fitted.explained_variance_ * 150 / 149) if whiten else np.ones(2)
    loadings = u.T * lengths
    inverse = np.linalg.inv(loadings @ loadings.T + s2 * np.eye(4))
    mean = (IRIS - fitted.mean_) @ inverse @ loadings * lengths / units
    covariance = temperature * (np.eye(2) - loadings.T @ inverse @ loadings)
    covariance = covariance * np.outer(lengths, lengths) / np.outer(units, units)
    code = fitted.encode(IRIS)
    np.testing.assert_allclose(code.mean, mean, atol=1e-9)
    np.testing.assert_allclose(code.mean, fitted.transform(IRIS), atol=1e-9)
    np.testing.assert_allclose(code.covariance, np.stack([covariance] * 150), atol=1e-9)
    np.testing.assert_allclose(code.variance, np.diagonal(code.covariance, axis1=1, axis2=2))
    if np.all(np.diag(covariance) > 0):
        entropy = multivariate_normal(np.zeros(2), covariance).entropy()
        np.testing.assert_allclose(code.entropy(), entropy, rtol=1e-9)
    n = 4000
    draws = code.sample(n, random_state=0)
    assert draws.shape == (n, 150, 2)
    error = np.sqrt(code.variance / n)
    assert np.all(np.abs(draws.mean(axis=0) - code.mean) <= 5 * error + 1e-12)
    pooled = draws - code.mean
    pooled = pooled.reshape(-1, 2)
    bound = 5 * 2 * np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)) / len(pooled))
    assert np.all(np.abs(pooled.T @ pooled / len(pooled) - covariance) <= bound + 1e-12)


@pytest.mark.parametrize("whiten", [False, True])
def test_moments_of_decoded_rows_equal_those_of_draws(whiten):
    fitted = model(2, whiten=whiten).fit(IRIS)
    given = fitted.decode(fitted.transform(IRIS[:9]))
    np.testing.assert_allclose(given.mean, fitted.inverse_transform(fitted.transform(IRIS[:9])))
    np.testing.assert_allclose(given.variance, fitted.noise_variance_)
    again = fitted.decode(fitted.encode(IRIS[:9]))
    spread = fitted.noise_variance_ * np.eye(4)
    along = 1 - fitted.noise_variance_ * fitted.component_precisions_
    spread += fitted.noise_variance_ * (fitted.components_.T * along) @ fitted.components_
    np.testing.assert_allclose(again.covariance, np.stack([spread] * 9), atol=1e-12)
    np.testing.assert_allclose(again.variance, np.tile(np.diag(spread), (9, 1)), atol=1e-12)
    X = np.random.default_rng(0).standard_normal((5, 9, 4)) + IRIS[:9]
    for rows, covariance in ((again, spread), (given, fitted.noise_variance_ * np.eye(4))):
        for row in (0, 8):
            normal = multivariate_normal(rows.mean[row], covariance)
            np.testing.assert_allclose(rows.log_density(X)[:, row], normal.logpdf(X[:, row]))
            np.testing.assert_allclose(rows.entropy()[row], normal.entropy(), rtol=1e-9)
    n = 4000
    draws = again.sample(n, random_state=1)
    assert draws.shape == (n, 9, 4)
    assert np.all(np.abs(draws.mean(axis=0) - again.mean) < 5 * np.sqrt(again.variance / n))
    assert np.all(np.abs(draws.var(axis=0) / again.variance - 1) < 5 * np.sqrt(2 / n))


def test_codes_and_rows_of_another_size_raise():
    fitted = model(2).fit(IRIS)
    for method in (fitted.inverse_transform, fitted.decode):
        with pytest.raises(ValueError, match=r"Z must have 2 columns.*got 3"):
            method(np.ones((4, 3)))
    assert not hasattr(fitted, "predict")


# -- the density -----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_sample_has_the_moments_of_the_model(temperature):
    fitted, n = model(2, temperature=temperature).fit(IRIS), 40_000
    X, codes = fitted.sample(n, random_state=0)
    covariance = fitted.get_covariance()
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert np.all(np.abs(np.cov(X.T) - covariance) < 5 * 2 * scale / np.sqrt(n))
    residual = X - fitted.inverse_transform(codes)
    assert abs((residual**2).mean() / fitted.noise_variance_ - 1) < 5 * np.sqrt(2 / residual.size)


@pytest.mark.parametrize("variance", [0.01, 1.0])
def test_denoise_is_the_conditional_mean_and_obeys_tweedie(variance):
    fitted = model(2).fit(IRIS)
    covariance, deviations = fitted.get_covariance(), IRIS - fitted.mean_
    noisy = covariance + variance * np.eye(4)
    clean = fitted.mean_ + deviations @ np.linalg.solve(noisy, covariance)
    np.testing.assert_allclose(fitted.denoise(IRIS, variance), clean, atol=1e-10)
    gradient = finite_differences(multivariate_normal(fitted.mean_, noisy).logpdf, IRIS)
    np.testing.assert_allclose(IRIS + variance * gradient, clean, atol=1e-7)


def test_methods_that_need_a_density_raise_at_zero_temperature():
    fitted = model(2, temperature=0).fit(IRIS)
    assert hmaxemax_scorer(fitted, IRIS) == -np.inf
    for method in (
        lambda: fitted.sample(3),
        lambda: fitted.denoise(IRIS, 0.1),
        fitted.get_covariance,
        fitted.get_precision,
    ):
        with pytest.raises(ValueError, match=r"needs a density.*temperature=1"):
            method()
    assert np.isfinite(hmaxemax_scorer(model(0, temperature=0).fit(IRIS), IRIS))
