"""Sampled PCA and mixtures of PCA on rows with missing entries."""

from __future__ import annotations

import numpy as np
import pytest
from _calibration import CRITICAL, p_values
from _missing_oracles import conditional_mixture, marginal_joint, with_gaps
from scipy.special import logsumexp
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV

from skbae import BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder
from skbae.energies.mixture_pca._prior import PCAFamilyWithPrior, PCAMixtureWithPrior
from skbae.energies.pca._loadings import PCAPrior
from skbae.inference._objective import Objective
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.model_selection import InSample, evidence_scorer

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


# -- PCA -------------------------------------------------------------------------------------------

FULL_PRIOR = {**PRIOR, "component_variance_prior": 1.0, "noise_scale_prior": 1.0}


def fitted_pca(n_components, X, **settings):
    return BayesianPCAAutoEncoder(n_components, **{"random_state": 0, **settings}).fit(X)


def integrated_log_evidence(rows, temperature, model_temperature, n_points=101):
    """Return the log evidence of one component of two columns, by a sum over a grid.

    Given the loadings and the noise, ``Hmax_T`` of known entries is quadratic in the mean, which is
    integrated in closed form; its definition is that of design.md, with known columns only.
    """
    T, tau = temperature, model_temperature
    axis = np.linspace(-7.0, 7.0, n_points)
    logs = np.linspace(-5.0, 6.0, n_points)
    first, second, log_noise = np.meshgrid(axis[n_points // 2 :], axis, logs, indexing="ij")
    noise = np.exp(log_noise)
    log_prior = -0.5 * (first**2 + second**2) - np.log(2 * np.pi)
    log_prior += -2.0 * log_noise - 1.0 / noise  # shape 2, scale 1, over the log of the noise
    covariance = T * np.stack([first**2 + noise, first * second, first * second, second**2 + noise])
    # precision and linear term of the mean, whose prior has as mean zero
    spread = np.nanvar(rows, axis=0).mean()
    precision = np.zeros((3, *noise.shape))  # entries 00, 01, 11
    precision[[0, 2]] = 1.0 / spread
    linear, value = np.zeros((2, *noise.shape)), log_prior - np.log(spread)
    for row in rows:
        known = np.flatnonzero(~np.isnan(row))
        size = len(known)
        value += (-0.5 * size * np.log(2 * np.pi * noise)) / tau
        value += 0.5 * T * size / tau * np.log(2 * np.pi * noise * T)
        if size == 1:
            j = known[0]
            own = 1.0 / covariance[3 * j]
            log_det = np.log(covariance[3 * j])
            precision[2 * j] += T / tau * own
            linear[j] += T / tau * own * row[j]
            square = own * row[j] ** 2
        else:
            det = covariance[0] * covariance[3] - covariance[1] ** 2
            inverse = np.stack([covariance[3], -covariance[1], covariance[0]]) / det
            log_det = np.log(det)
            precision += T / tau * inverse
            pulled = np.stack(
                [
                    inverse[0] * row[0] + inverse[1] * row[1],
                    inverse[1] * row[0] + inverse[2] * row[1],
                ]
            )
            linear += T / tau * pulled
            square = row[0] * pulled[0] + row[1] * pulled[1]
        value -= 0.5 * T / tau * (size * np.log(2 * np.pi) + log_det + square)
    det = precision[0] * precision[2] - precision[1] ** 2
    square = precision[2] * linear[0] ** 2 + precision[0] * linear[1] ** 2
    square = (square - 2 * precision[1] * linear[0] * linear[1]) / det
    value += 0.5 * square - 0.5 * np.log(det)
    weights = np.ones(first.shape)
    weights[0] = 0.5  # the grid is symmetric about the first loading's zero
    cell = (axis[1] - axis[0]) ** 2 * (logs[1] - logs[0])
    return logsumexp(value, b=2 * weights * cell)


def test_the_integral_is_the_mean_over_the_prior():
    exact, error = prior_average(ROWS, 1, 1)
    assert abs(integrated_log_evidence(ROWS, 1.0, 1.0) - exact) < 4 * error
    coarse = integrated_log_evidence(ROWS, 0.5, 1.5, 71)
    assert abs(integrated_log_evidence(ROWS, 0.5, 1.5) - coarse) < 1e-3


@pytest.mark.parametrize(
    ("temperature", "model_temperature"),
    [(1.0, 1.0), (2.0, 2.0)]
    + [
        pytest.param(*each, marks=pytest.mark.slow) for each in ((0.5, 0.5), (1.0, 3.0), (0.0, 1.0))
    ],
)
def test_evidences_of_pca_are_those_of_quadrature(temperature, model_temperature):
    settings = {"temperature": temperature, "model_temperature": model_temperature}
    exact = integrated_log_evidence(ROWS, max(temperature, 1e-9), model_temperature)
    rows = np.vstack([ROWS, [[np.nan, np.nan]]])
    model = BayesianPCAAutoEncoder(1, random_state=0, **FULL_PRIOR, **settings).fit(rows)
    assert model.sampling_.status == "ok", model.sampling_.reasons
    tolerance = 4 * np.hypot(0.005, model.sampling_.log_evidence_error)
    assert abs(model.log_evidence_ - exact) < tolerance
    n_over_tau = len(rows) / model_temperature
    np.testing.assert_allclose(model.log_evidence_, n_over_tau * model.hmaxemax_)


def test_pca_is_a_mixture_of_one_component():
    one, other = fitted_pca(2, GAPPY), fitted(1, 2, GAPPY)
    assert one.sampling_.status == other.sampling_.status == "ok"
    error = np.hypot(one.sampling_.log_evidence_error, other.sampling_.log_evidence_error)
    assert abs(one.log_evidence_ - other.log_evidence_) < 4 * error
    for name in ("mean_", "noise_variance_"):
        theirs = getattr(other, name.replace("mean_", "means_"))[0]
        np.testing.assert_allclose(getattr(one, name), theirs, rtol=0.02)


def test_rows_without_known_entries_change_nothing_but_the_sampler():
    """Complete rows are sampled through their moments, and rows with gaps one by one."""
    X = load_iris().data
    complete = fitted_pca(2, X)
    more = fitted_pca(2, np.vstack([X, np.full((10, 4), np.nan)]))
    assert complete.sampling_.method != more.sampling_.method
    assert complete.sampling_.status == more.sampling_.status == "ok"
    error = np.hypot(complete.sampling_.log_evidence_error, more.sampling_.log_evidence_error)
    assert abs(complete.log_evidence_ - more.log_evidence_) < 4 * error
    np.testing.assert_allclose(complete.hmaxe_ * 150, more.hmaxe_ * 160, rtol=1e-4)
    np.testing.assert_allclose(complete.components_, more.components_, atol=1e-3)
    np.testing.assert_allclose(
        complete.internal_energy_ * 150, more.internal_energy_ * 160, atol=0.5
    )


def test_predictions_of_sampled_pca_are_averages_over_its_models():
    model = fitted_pca(2, GAPPY, n_models=20)
    kept, rows = model.models_, GAPPY[:12].copy()
    rows[3] = np.nan
    covariances = []
    for s in range(20):
        axes = kept.components[s]
        lengths = 1 / kept.component_precisions[s] - kept.noise_variance[s]
        covariances.append((axes.T * lengths) @ axes + kept.noise_variance[s] * np.eye(4))
    shares = np.full(20, 1 / 20)
    joint = marginal_joint(rows, shares, kept.mean, covariances)
    np.testing.assert_allclose(model.score_samples(rows), logsumexp(joint, axis=1), atol=1e-9)
    mean, covariance = conditional_mixture(rows, shares, kept.mean, covariances)
    found = model.condition(rows)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-6)
    np.testing.assert_allclose(model.impute(rows), mean, rtol=1e-6)
    decoded = model.decode(model.encode(rows))
    assert decoded.mean.shape == rows.shape
    known = ~np.isnan(rows)
    assert np.abs(decoded.mean - rows)[known].mean() < 0.2
    assert model.explained_variance_.shape == (2,)


def test_the_dimension_and_models_are_chosen_by_evidence_with_gaps():
    chosen = fitted_pca("evidence", GAPPY)
    by_hand = [fitted_pca(d, GAPPY).log_evidence_ for d in (1, 2, 3)]
    assert chosen.n_components_ == 1 + int(np.argmax(by_hand))
    assert abs(chosen.log_evidence_ - max(by_hand)) < 0.3
    search = GridSearchCV(
        BayesianPCAAutoEncoder(random_state=0),
        {"n_components": [0, 3]},
        scoring=evidence_scorer,
        cv=InSample(),
        error_score="raise",
    )
    assert search.fit(GAPPY).best_params_ == {"n_components": 3}


def test_too_many_parameters_of_pca_are_refused():
    X = with_gaps(np.random.default_rng(0).normal(size=(60, 120)), 0.1)
    with pytest.raises(ValueError, match="can be sampled on rows with missing entries"):
        fitted_pca(10, X)


# -- calibration -----------------------------------------------------------------------------------

N_DRAWS = 19


def drawn_sets(n_sets, n_rows, seed):
    """Give loadings, mean and noise drawn from the prior, rows with gaps, and the settings."""
    rng = np.random.default_rng(seed)
    for number in range(n_sets):
        loadings, mean = rng.normal(size=(3, 1)), np.sqrt(2.0) * rng.normal(size=3)
        noise = 1.0 / rng.gamma(3.0)
        rows = mean + rng.normal(size=(n_rows, 1)) @ loadings.T
        rows += np.sqrt(noise) * rng.normal(size=rows.shape)
        gappy = with_gaps(rows, 0.3, seed=1000 * seed + number)
        settings = {
            "component_variance_prior": 1.0,
            "mean_prior": np.zeros(3),
            "noise_shape_prior": 3.0,
            "noise_scale_prior": 1.0,
            "n_models": N_DRAWS,
            "random_state": number,
        }
        yield loadings @ loadings.T, mean, noise, gappy, settings


def ranks(n_sets, seed, filled=False, n_rows=20):
    """Return ranks of what is true among draws, (n_sets, n_statistics), as numbers in (0, 1)."""
    rng, found = np.random.default_rng(seed), []
    for outer, mean, noise, rows, settings in drawn_sets(n_sets, n_rows, seed):
        X = SimpleImputer().fit_transform(rows) if filled else rows
        # the variance of the prior of the mean is 2, whatever the rows
        precision = np.nanvar(X, axis=0).mean() / 2.0
        model = BayesianPCAAutoEncoder(1, mean_precision_prior=precision, **settings).fit(X)
        kept = model.models_
        lengths = 1 / kept.component_precisions[:, 0] - kept.noise_variance
        axes = kept.components[:, 0]
        draws = np.column_stack(
            [kept.noise_variance, lengths, lengths * axes[:, 0] * axes[:, 1], kept.mean[:, 2]]
        )
        truth = noise, np.trace(outer), outer[0, 1], mean[2]
        found.append((draws < truth).sum(axis=0))
    return (np.array(found) + rng.random((n_sets, 1))) / (N_DRAWS + 1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_sets", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_ranks_among_draws_of_pca_are_uniform_with_gaps(n_sets):
    assert p_values(ranks(n_sets, seed=1)).min() > CRITICAL


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_ranks_of_rows_filled_with_means_are_not_uniform():
    assert p_values(ranks(40, seed=1, filled=True)).min() < CRITICAL / 10
