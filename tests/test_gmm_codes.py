"""What a Gaussian mixture makes of rows and of codes: both ways, draws, gradients, noise."""

from __future__ import annotations

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES, each_categorical, each_instance
from _oracles import (
    codes,
    denoise,
    finite_differences,
    fitted_covariances,
    gaussian_mixture_joint,
    joint_energies,
)
from scipy.special import logsumexp
from sklearn.datasets import load_iris

from skbae import BayesianGMMAutoEncoder

K, D = 3, 4
each_kind = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


@pytest.fixture(scope="module")
def X():
    return load_iris().data


def model(n_components=K, **settings):
    settings = {"model_temperature": 0, "random_state": 0, "max_iter": 1000, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings)


# -- encode and decode ---------------------------------------------------------------------------


@each_categorical
def test_encode_has_the_mean_mode_and_entropy_of_predict_proba(instance, X):
    fitted = instance.make(K, max_iter=1000).fit(X)
    proba, code = fitted.predict_proba(X), fitted.encode(X)
    np.testing.assert_array_equal(code.mean, fitted.transform(X))
    np.testing.assert_allclose(code.variance[:, :K], proba * (1 - proba), atol=1e-15)
    np.testing.assert_array_equal(code.mode, fitted.predict(X))
    entropy = -np.sum(proba * np.log(np.where(proba > 0, proba, 1)), axis=1)
    if code.mean.shape == proba.shape:
        np.testing.assert_allclose(code.entropy(), entropy, atol=1e-12)
    if instance.temperature == 0:
        np.testing.assert_array_equal(code.entropy(), 0)
        np.testing.assert_array_equal(code.variance, 0)


def test_encode_samples_have_the_frequencies(X):
    code = model(temperature=3).fit(X).encode(X)
    n = 4000
    draws = code.sample(n, random_state=0)
    assert draws.shape == (n, len(X), K)
    assert np.isin(draws, (0.0, 1.0)).all()
    np.testing.assert_array_equal(draws.sum(axis=-1), 1)
    error = np.sqrt(code.variance / n)
    assert code.variance.max() > 0.1, "codes too sharp to test frequencies"
    assert np.all(np.abs(draws.mean(axis=0) - code.mean) <= 5 * error + 1 / n)
    np.testing.assert_array_equal(draws, code.sample(n, random_state=0))
    assert not np.array_equal(draws, code.sample(n))


@each_kind
def test_decode_of_a_hard_code_is_a_component(kind, X):
    fitted = model(covariance_type=kind).fit(X)
    rows = fitted.decode(np.eye(K))
    covariances = fitted_covariances(fitted)
    np.testing.assert_allclose(rows.mean, fitted.means_, rtol=1e-13)
    np.testing.assert_allclose(rows.covariance, covariances, atol=1e-12)
    np.testing.assert_allclose(rows.variance, np.diagonal(covariances, axis1=1, axis2=2))
    expected = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariances)[1]
    np.testing.assert_allclose(rows.entropy(), expected, rtol=1e-10)


@each_kind
def test_decode_of_a_soft_code_is_a_mixture(kind, X):
    """Moments by the laws of total mean and covariance, and by draws."""
    fitted = model(covariance_type=kind).fit(X)
    Z = np.array([[0.5, 0.3, 0.2], [0.0, 0.9, 0.1]])
    rows, covariances = fitted.decode(Z), fitted_covariances(fitted)
    for row, z in enumerate(Z):
        mean = z @ fitted.means_
        second = sum(
            z[k] * (covariances[k] + np.outer(fitted.means_[k], fitted.means_[k])) for k in range(K)
        )
        np.testing.assert_allclose(rows.mean[row], mean, rtol=1e-12)
        covariance = second - np.outer(mean, mean)
        np.testing.assert_allclose(rows.covariance[row], covariance, atol=1e-10)
        np.testing.assert_allclose(rows.variance[row], np.diag(covariance), atol=1e-10)
    n = 20_000
    draws = rows.sample(n, random_state=0)
    assert draws.shape == (n, 2, D)
    error = draws.std(axis=0) / np.sqrt(n)
    assert np.all(np.abs(draws.mean(axis=0) - rows.mean) < 5 * error)
    for row, z in enumerate(Z):
        products = draws[:, row] - rows.mean[row]
        products = products[:, :, None] * products[:, None]
        error = products.std(axis=0) / np.sqrt(n)
        assert np.all(np.abs(products.mean(axis=0) - rows.covariance[row]) < 5 * error)
        with np.errstate(divide="ignore"):
            joint = joint_energies(draws[:5, row], z, fitted.means_, covariances)
        expected = logsumexp(joint, axis=1)
        np.testing.assert_allclose(rows.log_density(draws[:5])[:, row], expected, rtol=1e-9)


def test_entropy_of_a_soft_code_is_the_mean_surprise(X):
    fitted = model().fit(X)
    rows = fitted.decode([[0.5, 0.3, 0.2]])
    n = 20_000
    surprise = -rows.log_density(rows.sample(n, random_state=1))[:, 0]
    entropy = rows.entropy(n_samples=n)[0]
    assert abs(entropy - surprise.mean()) < 5 * surprise.std() * np.sqrt(2 / n)


def test_decode_reconstructs_what_encode_returned(X):
    fitted = model(temperature=3).fit(X)
    code = fitted.encode(X)
    rows = fitted.decode(code)
    np.testing.assert_allclose(rows.mean, fitted.inverse_transform(fitted.transform(X)))
    np.testing.assert_allclose(rows.mean, fitted.predict_proba(X) @ fitted.means_)
    np.testing.assert_array_equal(
        rows.probabilities, fitted.decode(code.probabilities).probabilities
    )


def test_inverse_transform_accepts_soft_and_hard_codes(X):
    fitted = model().fit(X)
    np.testing.assert_allclose(fitted.inverse_transform(np.eye(K)), fitted.means_)
    Z = np.random.default_rng(0).dirichlet(np.ones(K), size=7)
    np.testing.assert_allclose(fitted.inverse_transform(Z), Z @ fitted.means_)
    np.testing.assert_allclose(fitted.inverse_transform(Z.tolist()), Z @ fitted.means_)


# -- sampling rows -------------------------------------------------------------------------------


@each_kind
def test_sample_has_the_moments_of_the_components(kind, X):
    fitted = model(covariance_type=kind).fit(X)
    n = 30_000
    rows, labels = fitted.sample(n, random_state=0)
    assert rows.shape == (n, D)
    assert labels.shape == (n,)
    counts = np.bincount(labels, minlength=K)
    error = np.sqrt(fitted.weights_ * (1 - fitted.weights_) / n)
    assert np.all(np.abs(counts / n - fitted.weights_) < 5 * error)
    covariances = fitted_covariances(fitted)
    for k in range(K):
        own = rows[labels == k]
        scatter = np.sqrt(np.diag(covariances[k]) / len(own))
        assert np.all(np.abs(own.mean(axis=0) - fitted.means_[k]) < 5 * scatter)
        deviations = own - fitted.means_[k]
        products = deviations[:, :, None] * deviations[:, None]
        error = products.std(axis=0) / np.sqrt(len(own))
        assert np.all(np.abs(products.mean(axis=0) - covariances[k]) < 5 * error)


def test_sample_is_from_the_density_at_any_temperature(X):
    """Rows are drawn at T = 1: their mean log density is minus the entropy, both ways."""
    fitted = model(temperature=0).fit(X)
    n = 20_000
    rows, labels = fitted.sample(n, random_state=0)
    joint = gaussian_mixture_joint(fitted, rows)
    # given the row, the label has the probability of its code at T = 1
    share = codes(joint, 1.0)
    for k in range(K):
        error = np.sqrt((share[:, k] * (1 - share[:, k])).sum()) / n
        assert abs((labels == k).mean() - share[:, k].mean()) < 5 * error + 1e-12


def test_sample_differs_unless_seeded(X):
    fitted = model().fit(X)
    assert not np.array_equal(fitted.sample(5)[0], fitted.sample(5)[0])
    np.testing.assert_array_equal(
        fitted.sample(5, random_state=1)[0], fitted.sample(5, random_state=1)[0]
    )
    assert fitted.sample()[0].shape == (1, D)


# -- gradients and noise -------------------------------------------------------------------------


@each_instance
def test_score_gradient_equals_finite_differences(instance, X):
    fitted = instance.make(K, max_iter=1000).fit(X)
    rows = X[::5] + 0.01  # off the data, where nothing is special
    step = 1e-5
    # at T = 0, away from the kinks between two hard codes
    if instance.temperature == 0 and instance.joint is not None:
        top = np.sort(instance.joint(fitted, rows), axis=1)
        rows = rows[top[:, -1] - top[:, -2] > 0.1]
        assert len(rows) > 10
    expected = finite_differences(fitted.score_samples, rows, step)
    # central differences: rounding of the score, 1e-12, over the step; curvature times step^2
    scale = np.abs(expected).max()
    np.testing.assert_allclose(fitted.score_gradient(rows), expected, atol=1e-6 * max(scale, 1))


@each_kind
@pytest.mark.parametrize("variance", [1e-4, 0.3, 20.0])
def test_denoise_is_the_conditional_mean_and_obeys_tweedie(kind, variance, X):
    fitted = model(covariance_type=kind).fit(X)
    noisy = X + np.sqrt(variance) * np.random.default_rng(0).normal(size=X.shape)
    state = fitted.weights_, fitted.means_, fitted_covariances(fitted)
    clean = fitted.denoise(noisy, variance)
    np.testing.assert_allclose(clean, denoise(noisy, *state, variance), atol=1e-8)
    # Tweedie: the gradient of the log of the convolved density, by finite differences
    convolved = state[2] + variance * np.eye(D)

    def log_density(rows):
        return logsumexp(joint_energies(rows, state[0], state[1], convolved), axis=1)

    slope = finite_differences(log_density, noisy, 1e-5)
    np.testing.assert_allclose(clean, noisy + variance * slope, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 3.0])
def test_denoise_takes_the_density_at_temperature_one(temperature, X):
    fitted = model(temperature=temperature).fit(X)
    state = fitted.weights_, fitted.means_, fitted_covariances(fitted)
    np.testing.assert_allclose(fitted.denoise(X, 0.5), denoise(X, *state, 0.5), atol=1e-8)


def test_no_noise_changes_nothing_and_much_noise_leaves_the_mean(X):
    fitted = model().fit(X)
    np.testing.assert_array_equal(fitted.denoise(X, 0), X)
    mean = fitted.weights_ @ fitted.means_
    np.testing.assert_allclose(fitted.denoise(X, 1e9), np.tile(mean, (len(X), 1)), atol=1e-5)


def test_denoised_rows_are_closer_to_clean_ones_than_noisy_rows(X):
    """The point of it: the error falls below that of doing nothing, on fresh rows."""
    fitted = model().fit(X)
    clean = fitted.sample(2000, random_state=0)[0]
    noisy = clean + 0.5 * np.random.default_rng(1).normal(size=clean.shape)
    before = ((noisy - clean) ** 2).sum(axis=1)
    after = ((fitted.denoise(noisy, 0.25) - clean) ** 2).sum(axis=1)
    gain = before - after
    assert gain.mean() > 5 * gain.std() / np.sqrt(len(gain))
