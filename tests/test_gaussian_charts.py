"""Local coordinates of Gaussian mixtures, and sampling from modes in them."""

from __future__ import annotations

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES
from scipy.special import logsumexp
from sklearn.datasets import load_iris

from skbae import BayesianGMMAutoEncoder
from skbae.energies.gaussian._mixture import conjugate_gaussian_mixture
from skbae.inference.sample._normal_fits import NormalFits

D, K = 3, 2
POWER = 5.0
A = np.random.default_rng(5).standard_normal((D, D))
FULL = A @ A.T + np.eye(D)
COVARIANCE_PRIORS = {
    "full": FULL,
    "tied": FULL,
    "diag": np.diag(FULL),
    "tied_diag": np.diag(FULL),
    "spherical": np.array(1.5),
    "tied_spherical": np.array(1.5),
}
KINDS = [(kind, equal) for kind in COVARIANCE_TYPES for equal in (False, True)]


def charted(kind, equal, n_charts=3):
    energy = conjugate_gaussian_mixture(
        K,
        D,
        kind,
        equal,
        0.0,
        concentration=1.5,
        mean_precision=0.7,
        mean=np.array([0.3, -0.2, 0.1]),
        degrees_of_freedom=6.0,
        covariance=COVARIANCE_PRIORS[kind],
        centre=np.zeros(D),
    )
    models = energy.constrain(energy.draw_prior_coordinates(n_charts, np.random.default_rng(1)))
    return energy, energy.charts(models, POWER)


def points(charts, seed=2):
    rng = np.random.default_rng(seed)
    n_charts, size = charts.centres.shape
    return charts.centres[:, None] + 0.5 * rng.standard_normal((n_charts, 4, size))


@pytest.mark.parametrize("kind", KINDS)
def test_coordinates_of_a_model_give_the_model_back(kind):
    _, charts = charted(*kind)
    local = points(charts)
    blocks, log_priors, shared, rest = charts.locate(charts.theta_at(local))
    value = charts.log_prior(local)[0]
    for j, n in np.ndindex(3, 4):
        model = 4 * j + n
        own = [blocks[j, b, model, b] for b in range(K)]
        np.testing.assert_allclose(np.r_[np.concatenate(own), shared[model]], local[j, n], 1e-9)
        total = sum(log_priors[j, b, model, b] for b in range(K)) + rest[model]
        np.testing.assert_allclose(total, value[j, n], rtol=1e-9)
    one = charts.take([1])
    np.testing.assert_allclose(one.theta_at(local[1:2]), charts.theta_at(local)[4:8], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_charts_equal_finite_differences(kind):
    _, charts = charted(*kind)
    local = points(charts)
    mix = np.random.default_rng(3).standard_normal(charts.theta_at(local).shape[1])

    def some_function(at):
        return (np.sin(charts.theta_at(at)) @ mix).reshape(3, 4)

    pulled = charts.pull_back(local, np.cos(charts.theta_at(local)) * mix)
    of_prior = charts.log_prior(local)[1]
    for index, shift in enumerate(1e-6 * np.eye(local.shape[2])):
        slope = (some_function(local + shift) - some_function(local - shift)) / 2e-6
        np.testing.assert_allclose(pulled[..., index], slope, rtol=1e-5, atol=1e-6)
        slope = (charts.log_prior(local + shift)[0] - charts.log_prior(local - shift)[0]) / 2e-6
        np.testing.assert_allclose(of_prior[..., index], slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_fits_are_densities_relative_to_the_prior(kind):
    """Their mean over the prior is one, whatever their charts, and labels count once."""
    energy, charts = charted(*kind)
    n = 40_000
    theta = energy.draw_prior_coordinates(n, np.random.default_rng(4))
    if charts.has_weights:  # the sum of gamma variables as the charts would have it
        total = np.random.default_rng(5).gamma(energy.concentration.sum() + POWER, size=(n, 1))
        shares = theta[:, :K]
        shares += np.log(total) - logsumexp(shares, axis=1, keepdims=True)
    for chart in (0, 2):
        one = charts.take([chart])
        blocks, _, shared, _ = one.locate(theta)
        local = np.concatenate([*(blocks[0, b, :, b] for b in range(K)), shared], axis=1)
        covariance = np.diag(0.36 * local.var(axis=0))
        fit = NormalFits.from_covariances(one, local.mean(axis=0)[None], covariance[None])
        ratios = np.exp(fit.log_ratio(theta))
        error = ratios.std() / np.sqrt(n)
        assert error < 0.1
        assert abs(ratios.mean() - 1) < 4 * error


def test_sampling_from_modes_just_beside_the_temperature_of_codes_finds_the_same_evidence():
    """At T = tau another sampler serves, through allocations; here it is that of modes."""
    X = load_iris().data
    through_codes = BayesianGMMAutoEncoder(2, random_state=0).fit(X)
    from_modes = BayesianGMMAutoEncoder(2, model_temperature=1 + 1e-7, random_state=0).fit(X)
    assert from_modes.sampling_.method == "modes"
    assert from_modes.sampling_.status == "ok"
    error = np.hypot(from_modes.sampling_.log_evidence_error, 0.003)
    assert error < 0.05
    assert abs(from_modes.log_evidence_ - through_codes.log_evidence_) < 4 * error
    assert abs(from_modes.internal_energy_ - through_codes.internal_energy_) < 0.01


def test_one_component_needs_no_other_sampler_at_other_temperatures():
    X = load_iris().data
    hot = BayesianGMMAutoEncoder(1, temperature=0.5, model_temperature=3.0, random_state=0).fit(X)
    same = BayesianGMMAutoEncoder(1, temperature=3.0, random_state=0).fit(X)
    assert hot.sampling_.method == same.sampling_.method
    np.testing.assert_allclose(hot.log_evidence_, same.log_evidence_, rtol=1e-12)
