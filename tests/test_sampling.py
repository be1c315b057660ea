"""Mixtures sampled at T = tau: evidence, draws and predictions against exact answers."""

from __future__ import annotations

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES
from _mixture_oracles import MixturePrior, enumerated_log_evidence
from _oracles import enumerated_log_evidence as second_enumeration
from scipy import stats
from scipy.special import logsumexp

from skbae import BayesianGMMAutoEncoder

TEMPERATURES = (0.5, 1.0, 2.0)


def make_prior(kind, n_components, n_features, **settings):
    """Return a prior that is no default, centred off the data."""
    shape = kind.removeprefix("tied_").replace("tied", "full")
    full = np.array([[1.5, 0.4], [0.4, 0.7]])[:n_features, :n_features]
    covariance = {"full": full, "diag": np.diag(full), "spherical": 0.9}[shape]
    settings = {
        "concentration": 1.7,
        "mean_precision": 0.15,
        "degrees_of_freedom": 3.3,
        **settings,
    }
    mean = np.array([0.4, -0.3])[:n_features]
    return MixturePrior(kind, n_components, mean, covariance, **settings)


def small_data(n_rows, n_features, seed=0):
    """Return two loose groups."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_rows, n_features)) + 2.5 * (np.arange(n_rows) % 2)[:, None]


def fit(prior, X, temperature=1.0, sample_weight=None, **settings):
    settings = {"random_state": 0, "temperature": temperature, **settings}
    model = BayesianGMMAutoEncoder(**prior.parameters, **settings)
    return model.fit(X, sample_weight=sample_weight)


# -- the oracle ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_enumeration_agrees_with_quadrature(kind, temperature):
    """One component, one feature: the likelihood to the power 1/T on a grid of (mu, log Lambda)."""
    prior, X = make_prior(kind, 1, 1, degrees_of_freedom=4.1), small_data(4, 1)
    mean, log_precision = np.meshgrid(np.linspace(-30, 30, 6001), np.linspace(-9, 5, 701))
    precision, sd = np.exp(log_precision), np.exp(-0.5 * log_precision)
    rate = np.ravel(prior.covariance)[0] / 2
    total = stats.gamma(prior.degrees_of_freedom / 2, scale=1 / rate).logpdf(precision)
    total += log_precision  # the Jacobian of log Lambda
    total += stats.norm(prior.mean[0], sd / np.sqrt(prior.mean_precision)).logpdf(mean)
    for x in X[:, 0]:
        total += stats.norm(mean, sd).logpdf(x) / temperature
    value = logsumexp(total) + np.log(0.01 * 0.02)
    np.testing.assert_allclose(enumerated_log_evidence(X, prior, temperature), value, atol=1e-3)


@pytest.mark.parametrize("n_features", [1, 2, 3])
def test_the_enumeration_agrees_with_predicting_row_after_row(n_features):
    """Full covariances at T = 1: each row is a multivariate t given those before it."""
    X = np.random.default_rng(1).normal(size=(6, n_features))
    mean, dof, strength = np.full(n_features, 0.3), n_features + 1.4, 0.4
    scale = 0.5 * np.eye(n_features) + 0.2
    prior = MixturePrior("full", 1, mean, scale, mean_precision=strength, degrees_of_freedom=dof)
    total = 0.0
    for row, n in zip(X, range(len(X)), strict=True):
        free = dof + n - n_features + 1
        weight = strength + n
        spread = scale * (weight + 1) / (weight * free)
        total += stats.multivariate_t(mean, spread, df=free).logpdf(row)
        scale = scale + weight / (weight + 1) * np.outer(row - mean, row - mean)
        mean = (weight * mean + row) / (weight + 1)
    np.testing.assert_allclose(enumerated_log_evidence(X, prior), total, rtol=1e-12)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("equal", [False, True])
def test_two_enumerations_agree(kind, equal):
    prior = make_prior(kind, 3, 2, equal_weights=equal)
    X = small_data(7, 2)
    other = second_enumeration(
        X,
        3,
        kind,
        concentration=prior.concentration,
        strength=prior.mean_precision,
        location=prior.mean,
        dof=prior.degrees_of_freedom,
        scale=prior.covariance,
        temperature=2.0,
        equal_weights=equal,
    )
    np.testing.assert_allclose(enumerated_log_evidence(X, prior, 2.0), other, rtol=1e-12)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_enumeration_agrees_with_an_average_over_the_prior(kind):
    """Two components, tied or not, and their weights: the mean likelihood of prior draws."""
    prior, X = make_prior(kind, 2, 2, mean_precision=0.8), small_data(3, 2) / 2
    rng = np.random.default_rng(0)
    values = []
    for _ in range(4000):
        weights, means, covariances = prior.draw(rng)
        joint = np.stack(
            [
                np.log(w) + stats.multivariate_normal(m, c).logpdf(X)
                for w, m, c in zip(weights, means, covariances, strict=True)
            ]
        )
        values.append(logsumexp(joint, axis=0).sum())
    likelihood = np.exp(values)
    error = likelihood.std() / np.sqrt(len(values))
    assert error < 0.1 * likelihood.mean()
    assert abs(likelihood.mean() - np.exp(enumerated_log_evidence(X, prior))) < 5 * error


# -- the evidence --------------------------------------------------------------------------------


def _cases():
    """All kinds, at three temperatures; features, components, weights and priors alternate."""
    cases = {}
    for i, kind in enumerate(COVARIANCE_TYPES):
        for j, temperature in enumerate(TEMPERATURES):
            n_features = 1 + (i + j) % 2
            n_components = 2 + (i + 2 * j) % 3 // 2
            settings = {
                "equal_weights": (i + j) % 4 == 3,
                "concentration": (0.5, 1.0, 3.0)[(i + j) % 3],
                "mean_precision": (0.05, 0.5)[(i + j // 2) % 2],
                "degrees_of_freedom": n_features + (0.5, 3.0)[j % 2],
            }
            prior = make_prior(kind, n_components, n_features, **settings)
            n_rows = 12 if n_components == 2 else 10
            name = f"{kind}-T{temperature}-D{n_features}-K{n_components}"
            cases[name] = prior, small_data(n_rows, n_features, i), temperature
    return cases


CASES = _cases()


@pytest.fixture(scope="module")
def enumerated():
    """Fit each case once: name -> (fitted, exact log evidence)."""
    cache = {}

    def get(name):
        if name not in cache:
            prior, X, temperature = CASES[name]
            exact = enumerated_log_evidence(X, prior, temperature)
            cache[name] = fit(prior, X, temperature), exact
        return cache[name]

    return get


@pytest.mark.parametrize("name", CASES)
def test_evidence_equals_enumeration(name, enumerated):
    fitted, exact = enumerated(name)
    _, X, temperature = CASES[name]
    assert fitted.sampling_.status == "ok", fitted.sampling_.reasons
    assert abs(fitted.log_evidence_ - exact) < 0.05
    # the same numbers in the other units
    sampling, scale = fitted.sampling_, temperature / len(X)
    assert fitted.log_evidence_ == sampling.log_evidence
    np.testing.assert_allclose(fitted.hmaxemax_, scale * fitted.log_evidence_, rtol=1e-12)
    np.testing.assert_allclose(fitted.hmaxemax_error_, scale * sampling.log_evidence_error)


def test_error_bars_of_the_evidence_cover(enumerated):
    z = []
    for name in CASES:
        fitted, exact = enumerated(name)
        z.append((fitted.log_evidence_ - exact) / fitted.sampling_.log_evidence_error)
    z = np.array(z)
    assert np.abs(z).max() < 5
    low, high = stats.chi2(len(z)).ppf([1e-6, 1 - 1e-6])
    assert low < (z**2).sum() < high
