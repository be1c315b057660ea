"""Codes, densities and bad input of mixtures of PCA."""

from __future__ import annotations

import numpy as np
import pytest
from _oracles import denoise, finite_differences, subspaces
from _subspaces import (
    DIGITS,
    IRIS,
    TEMPERATURES,
    model,
)
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbae import BayesianMixturePCAAutoEncoder
from skbae.estimators.mixture_pca._settings import MAX_SAMPLED_COORDINATES
from skbae.model_selection import hmaxemax_scorer

# -- codes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("n_latent", [0, 1, 2])
def test_the_code_is_linear(temperature, n_latent):
    fitted = model(3, n_latent=n_latent, temperature=temperature).fit(IRIS)
    Z = fitted.transform(IRIS)
    assert Z.shape == (150, 3 * (1 + n_latent))
    assert fitted.get_feature_names_out()[0] == "bayesianmixturepcaautoencoder0"
    assert len(fitted.get_feature_names_out()) == Z.shape[1]
    proba = fitted.predict_proba(IRIS)
    noise = np.broadcast_to(fitted.noise_variance_, 3)
    expected = np.zeros(IRIS.shape)
    for k in range(3):
        y = (IRIS - fitted.means_[k]) @ fitted.components_[k].T
        y *= 1 - noise[k] * fitted.component_precisions_[k]
        np.testing.assert_allclose(
            Z[:, 3 + k * n_latent : 3 + (k + 1) * n_latent], proba[:, [k]] * y, atol=1e-9
        )
        expected += proba[:, [k]] * (fitted.means_[k] + y @ fitted.components_[k])
    np.testing.assert_allclose(fitted.inverse_transform(Z), expected, atol=1e-9)
    mixed = 0.3 * Z[:50] + 0.7 * Z[50:100]
    lines = 0.3 * expected[:50] + 0.7 * expected[50:100]
    np.testing.assert_allclose(fitted.inverse_transform(mixed), lines, atol=1e-9)
    np.testing.assert_allclose(fitted.decode(Z).mean, expected, atol=1e-9)
    np.testing.assert_allclose(fitted.decode(fitted.encode(IRIS)).mean, expected, atol=1e-9)


def test_encode_is_the_posterior():
    """Conditioning the joint normal of code and row, one component."""
    fitted = model(1, n_latent=2, tol=1e-12).fit(IRIS)
    s2, u = fitted.noise_variance_[0], fitted.components_[0]
    lengths = np.sqrt(1 / fitted.component_precisions_[0] - s2)
    loadings = u.T * lengths
    inverse = np.linalg.inv(loadings @ loadings.T + s2 * np.eye(4))
    mean = (IRIS - fitted.means_[0]) @ inverse @ loadings * lengths
    covariance = np.eye(2) - loadings.T @ inverse @ loadings
    covariance = covariance * np.outer(lengths, lengths)
    code = fitted.encode(IRIS)
    np.testing.assert_allclose(code.mean[:, 1:], mean, atol=1e-9)
    np.testing.assert_allclose(code.variance[0, 1:], np.diag(covariance), rtol=1e-9)
    entropy = multivariate_normal(np.zeros(2), covariance).entropy()
    np.testing.assert_allclose(code.entropy(), entropy, rtol=1e-9)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_draws_of_codes_have_their_moments(temperature):
    fitted = model(3, n_latent=1, temperature=temperature).fit(IRIS)
    code, n = fitted.encode(IRIS[45:60]), 4000
    draws = code.sample(n, random_state=0)
    assert draws.shape == (n, 15, 6)
    assert np.all(np.sort(draws[..., :3], axis=-1) == [0, 0, 1])
    error = np.sqrt(code.variance / n)
    assert np.all(np.abs(draws.mean(axis=0) - code.mean) <= 5 * error + 1e-12)
    spread = draws.var(axis=0)
    fourth = ((draws - draws.mean(axis=0)) ** 4).mean(axis=0)
    error = np.sqrt(np.maximum(fourth - spread**2, 0) / n)
    # coordinates of components that are drawn often enough to tell their own error
    seen = code.probabilities * n > 100
    assert seen.sum() >= 15
    off = np.abs(spread - code.variance) - 5 * error
    assert np.all(off[:, 3:][seen] <= 1e-9)


def test_moments_of_decoded_rows_equal_those_of_draws():
    fitted = model(3, n_latent=1, temperature=2.0).fit(IRIS)
    for rows in (
        fitted.decode(fitted.encode(IRIS[::10])),
        fitted.decode(fitted.transform(IRIS[::10])),
    ):
        n = 4000
        draws = rows.sample(n, random_state=1)
        assert draws.shape == (n, 15, 4)
        error = np.sqrt(rows.variance / n)
        assert np.all(np.abs(draws.mean(axis=0) - rows.mean) < 5 * error)
        np.testing.assert_allclose(
            np.diagonal(rows.covariance, axis1=1, axis2=2), rows.variance, rtol=1e-9
        )
        for row in (0, 7):
            sample = np.cov(draws[:, row].T)
            scale = np.sqrt(np.outer(rows.variance[row], rows.variance[row]))
            assert np.all(np.abs(sample - rows.covariance[row]) < 5 * 2 * scale / np.sqrt(n))
        # the density at draws, by the dense mixture
        noise = rows.noise
        log_density = []
        for k in range(3):
            covariance = noise[k] * np.eye(4)
            covariance += (rows.components[k].T * rows.spread[k]) @ rows.components[k]
            centre = rows.means[k] + rows.coordinates[7, k] @ rows.components[k]
            normal = multivariate_normal(centre, covariance)
            log_density.append(np.log(rows.probabilities[7, k]) + normal.logpdf(draws[:, 7]))
        np.testing.assert_allclose(
            rows.log_density(draws)[:, 7], logsumexp(log_density, axis=0), rtol=1e-9
        )
        surprise = -rows.log_density(draws)
        error = surprise.std(axis=0) * np.sqrt(1 / n + 1 / 1000)
        assert np.all(np.abs(rows.entropy() - surprise.mean(axis=0)) < 5 * error)


def test_entropy_of_a_single_component_is_exact():
    fitted = model(1, n_latent=2).fit(IRIS)
    rows = fitted.decode(fitted.encode(IRIS[:2]))
    expected = multivariate_normal(np.zeros(4), rows.covariance[0]).entropy()
    np.testing.assert_allclose(rows.entropy(), expected, rtol=1e-12)


def test_invalid_codes_raise():
    fitted = model(2, n_latent=1).fit(IRIS)
    for method in (fitted.inverse_transform, fitted.decode):
        with pytest.raises(ValueError, match=r"Z must have 4 columns.*got 3"):
            method(np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"first 2 columns.*row sums from 2 to 2"):
        fitted.decode(np.ones((3, 4)))


# -- densities -----------------------------------------------------------------------------------


def dense_covariances(fitted):
    return np.linalg.inv(subspaces(fitted))


def test_sample_has_the_moments_of_the_model():
    fitted = model(3, n_latent=1).fit(IRIS)
    n = 40_000
    X, codes = fitted.sample(n, random_state=0)
    labels = codes[:, :3].argmax(axis=1)
    np.testing.assert_array_equal(codes[:, :3].sum(axis=1), 1)
    share = np.bincount(labels) / n
    weights = fitted.weights_
    assert np.all(np.abs(share - weights) < 5 * np.sqrt(weights * (1 - weights) / n))
    covariances = dense_covariances(fitted)
    # a code decodes to where its row is, up to the noise
    residual = X - fitted.inverse_transform(codes)
    for k in range(3):
        own = X[labels == k]
        scale = np.sqrt(np.outer(np.diag(covariances[k]), np.diag(covariances[k])))
        bound = 5 * 2 * scale / np.sqrt(len(own))
        assert np.all(np.abs(np.cov(own.T) - covariances[k]) < bound)
        size = residual[labels == k]
        s2 = fitted.noise_variance_[k]
        assert abs((size**2).mean() / s2 - 1) < 5 * np.sqrt(2 / size.size)


@pytest.mark.parametrize("variance", [0.01, 1.0])
def test_denoise_is_the_conditional_mean(variance):
    fitted = model(3, n_latent=2).fit(IRIS)
    expected = denoise(IRIS, fitted.weights_, fitted.means_, dense_covariances(fitted), variance)
    np.testing.assert_allclose(fitted.denoise(IRIS, variance), expected, atol=1e-9)


def test_denoise_equals_tweedies_identity():
    """``E[clean | noisy] = x + v grad log`` of the density with noise, by finite differences."""
    fitted, variance = model(2, n_latent=1).fit(IRIS), 0.3
    convolved = dense_covariances(fitted) + variance * np.eye(4)

    def log_density(rows):
        parts = [
            np.log(w) + multivariate_normal(m, c).logpdf(rows)
            for w, m, c in zip(fitted.weights_, fitted.means_, convolved, strict=True)
        ]
        return logsumexp(parts, axis=0)

    expected = IRIS + variance * finite_differences(log_density, IRIS)
    np.testing.assert_allclose(fitted.denoise(IRIS, variance), expected, atol=1e-7)


def test_methods_that_need_a_density_raise_at_zero_temperature():
    fitted = model(2, n_latent=1, temperature=0).fit(IRIS)
    assert hmaxemax_scorer(fitted, IRIS) == -np.inf
    for method in (
        lambda: fitted.sample(3),
        lambda: fitted.denoise(IRIS, 0.1),
        lambda: fitted.bic(IRIS),
        lambda: fitted.aic(IRIS),
    ):
        with pytest.raises(ValueError, match=r"needs a density.*temperature=1"):
            method()
    spheres = model(2, n_latent=0, temperature=0).fit(IRIS)
    assert np.isfinite(hmaxemax_scorer(spheres, IRIS))
    assert spheres.sample(3, 0)[1].shape == (3, 2)


@pytest.mark.parametrize(("n_components", "n_latent", "free"), [(1, 2, 4 + 7 + 1), (3, 1, 29)])
def test_bic_and_aic_count_free_parameters(n_components, n_latent, free):
    fitted = model(n_components, n_latent=n_latent).fit(IRIS)
    log_density = fitted.score_samples(IRIS).sum()
    np.testing.assert_allclose(fitted.aic(IRIS), -2 * log_density + 2 * free)
    np.testing.assert_allclose(fitted.bic(IRIS), -2 * log_density + np.log(150) * free)


def test_grid_search_by_held_out_density_finds_three_planes():
    """Three planar groups: held-out density selects three components of two dimensions."""
    rng = np.random.default_rng(6)
    frames = np.linalg.qr(rng.standard_normal((3, 8, 2)))[0]
    X = np.concatenate(
        [8 * rng.standard_normal(8) + 2 * rng.standard_normal((100, 2)) @ f.T for f in frames]
    )
    X += 0.3 * rng.standard_normal(X.shape)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), model(3, n_init=3)),
        {
            "bayesianmixturepcaautoencoder__n_components": [1, 3],
            "bayesianmixturepcaautoencoder__n_latent": [0, 1, 2],
        },
        scoring=hmaxemax_scorer,
        cv=KFold(3, shuffle=True, random_state=0),
        error_score="raise",
    ).fit(X)
    assert list(search.best_params_.values()) == [3, 2]


# -- bad input -----------------------------------------------------------------------------------

nan = float("nan")


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("n_latent", -1, ValueError, ">= 0"),
        ("n_latent", 1.5, TypeError, "integer"),
        ("n_latent", None, TypeError, "integer"),
        ("tied_noise", 1, TypeError, "True or False"),
        ("equal_weights", "no", TypeError, "True or False"),
        ("component_variance_prior", 0.0, ValueError, "> 0"),
        ("component_variance_prior", nan, ValueError, "None or a finite"),
        ("mean_precision_prior", None, TypeError, "number"),
        ("noise_shape_prior", 0, ValueError, "> 0"),
        ("noise_shape_prior", None, TypeError, "number"),
        ("noise_scale_prior", -1.0, ValueError, "> 0"),
        ("weight_concentration_prior", 0.0, ValueError, "> 0"),
        ("n_components", 0, ValueError, ">= 1"),
        ("temperature", -1.0, ValueError, ">= 0"),
        ("tilt", -1.0, ValueError, "> -1"),
        ("init_params", "clever", ValueError, "'k-means++'"),
    ],
)
def test_invalid_parameters_raise_with_name_value_and_allowed_values(name, value, error, message):
    """Before the data are looked at."""
    with pytest.raises(error, match=name) as caught:
        model(**{name: value}).fit(None)
    assert message in str(caught.value)
    assert repr(value) in str(caught.value)


def test_parameters_that_do_not_fit_the_data_raise():
    with pytest.raises(ValueError, match="n_latent must be at most n_features=4, got 5"):
        model(n_latent=5).fit(IRIS)
    with pytest.raises(ValueError, match=r"mean_prior.*\(n_features,\) = \(4,\), got \(3,\)"):
        model(mean_prior=np.zeros(3)).fit(IRIS)
    with pytest.raises(ValueError, match="n_components=11, n_samples=10"):
        model(11).fit(IRIS[:10])
    with pytest.raises(ValueError, match="all rows of X are equal"):
        model(1).fit(np.ones((5, 3)))


def test_too_many_parameters_to_sample_raise():
    with pytest.raises(ValueError, match=rf"{MAX_SAMPLED_COORDINATES}.*model_temperature=0"):
        BayesianMixturePCAAutoEncoder(8, n_latent=5, model_temperature=2.0).fit(DIGITS)
