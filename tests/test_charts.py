"""Local coordinates, and the normal densities fitted in them."""

from __future__ import annotations

import numpy as np
import pytest
from _pca_problems import bayesian_pca, flat_rows
from _subspaces import mixture
from scipy.special import logsumexp

from skbae.energies.mixture_pca import _charts as mixture_pca_charts
from skbae.energies.pca._loadings import turn_lower
from skbae.energies.pca._prior import PCAPrior
from skbae.inference.sample import _normal_fits
from skbae.inference.sample._normal_fits import NormalFits

PRIOR = PCAPrior(0.9, np.array([0.3, -0.2, 0.1]), 4.0, 1.5, 0.5)
# K, d, tied noise, equal weights
KINDS = [(2, 1, False, False), (2, 2, True, False), (3, 1, False, True), (1, 3, False, False)]
KINDS += [(2, 0, True, True)]


def charted(n_components, n_latent, tied, equal, n_charts=3):
    energy = mixture(n_components, n_latent, tied, equal, PRIOR)
    models = energy.constrain(energy.draw_prior_coordinates(n_charts, np.random.default_rng(0)))
    return energy, energy.charts(models, 5.0)


def prior_moments(energy, charts):
    """Return means and variances of a chart's coordinates over draws of the prior."""
    models = prior_models(energy, charts, 4000, np.random.default_rng(9))
    blocks, _, shared, _ = charts.take([0]).locate(models)
    local = np.concatenate([*(blocks[0, b, :, b] for b in range(charts.n_blocks)), shared], axis=1)
    return local.mean(axis=0), local.var(axis=0)


def wide_fits(energy, charts, seed=1, scale=0.6):
    """Return one normal density a chart, about the prior but each elsewhere and narrower."""
    rng = np.random.default_rng(seed)
    means, variances = prior_moments(energy, charts)
    means = means + 0.3 * rng.standard_normal((charts.n_charts, len(means)))
    covariances = np.stack([np.diag(scale**2 * variances)] * charts.n_charts)
    # blocks that are not diagonal: turn two coordinates of the first into each other
    covariances[:, 0, 1] = covariances[:, 1, 0] = 0.2 * np.sqrt(
        covariances[:, 0, 0] * covariances[:, 1, 1]
    )
    return NormalFits.from_covariances(charts, means, covariances)


def prior_models(energy, charts, n, rng):
    """Draw models from the prior, the sum of gamma variables as the charts would have it."""
    theta = energy.draw_prior_coordinates(n, rng)
    if getattr(charts, "has_weights", False):
        shares = theta[:, : charts.n_blocks]
        total = np.log(rng.gamma(energy.concentration.sum() + 5.0, size=(n, 1)))
        shares += total - logsumexp(shares, axis=1, keepdims=True)
    return theta


@pytest.mark.parametrize("n_codes", [1, 2, 4])
def test_rotated_loadings_are_lower_trapezoidal(n_codes):
    loadings = np.random.default_rng(0).standard_normal((5, 6, n_codes))
    lower = turn_lower(loadings)
    upper = np.triu_indices(n_codes, 1)
    assert not lower[:, upper[0], upper[1]].any()
    assert np.all(np.diagonal(lower, axis1=1, axis2=2) > 0)
    outer = np.matmul(loadings, np.swapaxes(loadings, 1, 2))
    np.testing.assert_allclose(np.matmul(lower, np.swapaxes(lower, 1, 2)), outer, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_coordinates_of_a_model_give_the_model_back(kind):
    energy, charts = charted(*kind)
    rng = np.random.default_rng(2)
    means, variances = prior_moments(energy, charts)
    local = means + np.sqrt(variances) * rng.standard_normal((3, 4, len(means)))
    blocks, log_priors, shared, rest = charts.locate(charts.theta_at(local))
    value = charts.log_prior(local)[0]
    for j, n in np.ndindex(3, 4):
        model = 4 * j + n
        own = [blocks[j, b, model, b] for b in range(charts.n_blocks)]
        np.testing.assert_allclose(np.r_[np.concatenate(own), shared[model]], local[j, n], 1e-7)
        total = sum(log_priors[j, b, model, b] for b in range(charts.n_blocks)) + rest[model]
        np.testing.assert_allclose(total, value[j, n], rtol=1e-9)
    one = charts.take([1])
    np.testing.assert_array_equal(one.theta_at(local[1:2]), charts.theta_at(local)[4:8])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_charts_equal_finite_differences(kind):
    energy, charts = charted(*kind)
    rng = np.random.default_rng(3)
    means, variances = prior_moments(energy, charts)
    local = means + np.sqrt(variances) * rng.standard_normal((3, 2, len(means)))
    mix = rng.standard_normal(energy.draw_prior_coordinates(1, rng).shape[1])

    def some_function(at):
        return (np.sin(charts.theta_at(at)) @ mix).reshape(3, 2)

    pulled = charts.pull_back(local, np.cos(charts.theta_at(local)) * mix)
    of_prior = charts.log_prior(local)[1]
    for index, shift in enumerate(1e-6 * np.eye(len(means))):
        slope = (some_function(local + shift) - some_function(local - shift)) / 2e-6
        np.testing.assert_allclose(pulled[..., index], slope, rtol=1e-5, atol=1e-7)
        slope = (charts.log_prior(local + shift)[0] - charts.log_prior(local - shift)[0]) / 2e-6
        np.testing.assert_allclose(of_prior[..., index], slope, rtol=1e-5, atol=1e-7)


def mean_ratio(energy, charts, n=40_000):
    """Return the mean over the prior of densities relative to it, and its standard error."""
    models = prior_models(energy, charts, n, np.random.default_rng(4))
    ratios = np.exp(wide_fits(energy, charts).log_ratio(models))
    return ratios.mean(), ratios.std() / np.sqrt(n)


@pytest.mark.parametrize("kind", KINDS)
def test_fits_are_densities_relative_to_the_prior(kind):
    """Their mean over the prior is one, whatever their charts, and labels count once."""
    mean, error = mean_ratio(*charted(*kind))
    assert error < 0.1
    assert abs(mean - 1) < 5 * error


def test_pca_fits_are_densities():
    energy = bayesian_pca(flat_rows(12), 1)
    models = energy.constrain(energy.draw_prior_coordinates(2, np.random.default_rng(0)))
    mean, error = mean_ratio(energy, energy.charts(models, 12.0))
    assert error < 0.1
    assert abs(mean - 1) < 5 * error


def test_charts_without_the_jacobian_are_not_normalised(monkeypatch):
    honest = mixture_pca_charts.log_density_of_diagonal

    def forgetful(logs):
        value, gradient = honest(logs)
        return value - logs.sum(axis=-1), gradient - 1

    monkeypatch.setattr(mixture_pca_charts, "log_density_of_diagonal", forgetful)
    mean, error = mean_ratio(*charted(2, 1, False, False))
    assert abs(mean - 1) > 10 * error


def test_without_relabelling_fits_are_not_normalised(monkeypatch):
    monkeypatch.setattr(_normal_fits, "gammaln", lambda n: 0.0)
    mean, error = mean_ratio(*charted(2, 1, False, False))
    assert abs(mean - 1) > 10 * error


def test_fitted_densities_are_equal_for_all_labellings():
    energy, charts = charted(3, 1, False, False)
    models = prior_models(energy, charts, 5, np.random.default_rng(5))
    params = energy.constrain(models)
    order = np.tile([2, 0, 1], (5, 1))
    turned = energy.unconstrain(energy.permute(params, order))
    shares = models[:, :3][:, [2, 0, 1]]
    turned[:, :3] = shares
    fits = wide_fits(energy, charts)
    np.testing.assert_allclose(fits.log_ratios(turned), fits.log_ratios(models), rtol=1e-9)


def test_pull_back_equals_finite_differences_and_one_labelling_bounds_the_density():
    energy, charts = charted(2, 2, True, False)
    fits = wide_fits(energy, charts, scale=0.2)
    standard = np.random.default_rng(6).standard_normal((3, 50, fits.n_coordinates))
    local = fits.from_standard(standard)
    gradient = np.random.default_rng(7).standard_normal(local.shape)
    pulled = fits.pull_back(gradient)
    for index, shift in enumerate(1e-5 * np.eye(fits.n_coordinates)):
        change = (
            (fits.from_standard(standard + shift) - fits.from_standard(standard - shift)) * gradient
        ).sum(2)
        np.testing.assert_allclose(pulled[..., index], change / 2e-5, rtol=1e-6, atol=1e-8)
    own = fits.own_log_ratio(standard)
    all_labels = np.einsum("jnj->jn", fits.log_ratios(charts.theta_at(local)).reshape(3, 50, 3))
    # with all labels a fit has its own density at least, less log 2! for sharing it
    assert np.all(all_labels >= own - np.log(2) - 1e-9)
    assert np.any(all_labels < own + 1e-6)
