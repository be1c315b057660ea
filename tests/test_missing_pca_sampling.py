"""Sampled mixtures of PCA on rows with missing entries."""

from __future__ import annotations

import numpy as np
import pytest
from _missing_oracles import with_gaps
from scipy.special import logsumexp
from sklearn.datasets import load_iris

from skbae import BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder
from skbae.energies.mixture_pca._prior import PCAFamilyWithPrior, PCAMixtureWithPrior
from skbae.energies.pca._loadings import PCAPrior
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner, make_rows

ROWS = np.array([[-1.0, -0.8], [np.nan, 0.5], [1.1, 0.7], [0.4, np.nan], [-0.6, -0.9]])
PRIOR = {"mean_prior": [0.0, 0.0], "mean_precision_prior": 1.0, "noise_shape_prior": 2.0}
GAPPY = with_gaps(load_iris().data, 0.2)


def fitted(n_components, n_latent, X, **settings):
    settings = {"random_state": 0, **settings}
    return BayesianMixturePCAAutoEncoder(n_components, n_latent=n_latent, **settings).fit(X)


def prior_average(rows, n_components, n_latent, n_draws=200_000, n_runs=4):
    """Return the log of the mean density of known entries over draws of the prior, and its error.

    Each known entry or pair of entries is normal given the model.
    """
    rng, runs = np.random.default_rng(0), []
    mean_scale = np.sqrt(np.nanvar(rows, axis=0).mean())
    for _ in range(n_runs):
        shape = (n_draws, n_components)
        loadings = rng.normal(size=(*shape, 2, n_latent)) / np.sqrt(max(n_latent, 1))
        means = mean_scale * rng.normal(size=(*shape, 2))
        noise = 1.0 / rng.gamma(2.0, size=shape)
        weights = rng.dirichlet(np.ones(n_components), n_draws)
        covariances = loadings @ np.swapaxes(loadings, 2, 3)
        covariances += noise[..., None, None] * np.eye(2)
        total = np.zeros(n_draws)
        for row in rows:
            known = ~np.isnan(row)
            deviation = row[known] - means[..., known]
            own = covariances[..., known, :][..., known]
            square = np.einsum(
                "...i,...i", deviation, np.linalg.solve(own, deviation[..., None])[..., 0]
            )
            log_det = np.linalg.slogdet(2 * np.pi * own)[1]
            total += logsumexp(-0.5 * (square + log_det), axis=1, b=weights)
        runs.append(logsumexp(total) - np.log(n_draws))
    return np.mean(runs), np.std(runs) / np.sqrt(n_runs - 1)


@pytest.mark.parametrize(
    ("n_components", "n_latent"), [(1, 1), (1, 0), pytest.param(2, 1, marks=pytest.mark.slow)]
)
def test_evidences_are_means_over_the_prior(n_components, n_latent):
    exact, error = prior_average(ROWS, n_components, n_latent)
    variance = 1.0 / max(n_latent, 1)
    settings = {**PRIOR, "component_variance_prior": variance, "noise_scale_prior": 1.0}
    model = fitted(n_components, n_latent, ROWS, **settings)
    assert model.sampling_.status == "ok", model.sampling_.reasons
    tolerance = 4 * np.hypot(error, model.sampling_.log_evidence_error)
    assert abs(model.log_evidence_ - exact) < tolerance + 0.01


def test_evidences_are_in_the_units_of_known_entries():
    one = fitted(1, 1, GAPPY)
    other = fitted(1, 1, 100.0 * GAPPY)
    assert one.sampling_.status == other.sampling_.status == "ok"
    n_known = (~np.isnan(GAPPY)).sum()
    shift = n_known * np.log(100.0)
    assert abs(other.log_evidence_ + shift - one.log_evidence_) < 0.2
    assert abs(other.hmaxe_ + shift / len(GAPPY) - one.hmaxe_) < 1e-4


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n_latent", [0, 1, 2])
def test_the_gradient_in_coordinates_is_that_of_differences(n_latent, tied):
    rng = np.random.default_rng(0)
    X = with_gaps(rng.normal(size=(30, 4)) + np.arange(4.0), 0.3)
    X[2] = np.nan
    prior = PCAPrior(1.0, np.ones(4), 4.0, 2.0, 1.0)
    family = PCAFamilyWithPrior(2, n_latent, 4, tied, prior)
    energy = PCAMixtureWithPrior(family, np.ones(2)).of_incomplete_rows()
    theta = energy.draw_prior_coordinates(2, rng)
    rows = make_rows(X, rng.uniform(0.5, 2.0, 30))
    with RowRunner(1) as runner:
        for temperature, tilt in ((0.5, 0.0), (1.0, 0.0), (2.0, 0.4)):
            objective = Objective(energy, rows, runner, temperature, tilt)
            gradient = objective.value_and_gradient(theta)[1]
            for j, move in enumerate(1e-5 * np.eye(theta.shape[1])):
                ends = (objective.value_and_gradient(theta + s * move)[0] for s in (1, -1))
                slope = np.subtract(*ends) / 2e-5
                np.testing.assert_allclose(gradient[:, j], slope, rtol=1e-5, atol=1e-6)


def test_sampled_models_complete_rows():
    model = fitted(2, 1, GAPPY)
    assert model.sampling_.status == "ok", model.sampling_.reasons
    assert fitted(1, 1, GAPPY).log_evidence_ < model.log_evidence_ - 50
    filled, gaps = model.impute(GAPPY), np.isnan(GAPPY)
    error = np.sqrt(np.mean((filled - load_iris().data)[gaps] ** 2))
    mean = np.sqrt(np.mean((np.nanmean(GAPPY, axis=0) - load_iris().data)[gaps] ** 2))
    assert error < 0.6 * mean
    lower, upper = model.condition(GAPPY).interval(0.9)
    inside = ((lower <= load_iris().data) & (load_iris().data <= upper))[gaps].mean()
    assert 0.8 < inside < 0.97
    assert np.isfinite(model.score_samples(GAPPY)).all()
    assert model.transform(GAPPY).shape == (150, 4)


def test_too_many_parameters_are_refused():
    X = with_gaps(np.random.default_rng(0).normal(size=(60, 120)), 0.1)
    with pytest.raises(ValueError, match="can be sampled on rows with missing entries"):
        fitted(3, 4, X)


def test_pca_is_sampled_on_complete_rows_only():
    with pytest.raises(ValueError, match="NaN"):
        BayesianPCAAutoEncoder(1).fit(GAPPY)
