"""Sampling restricted Boltzmann machines: the evidence by a large sample of the prior."""

from __future__ import annotations

import numpy as np
import pytest
from _rbm_oracles import hmax, log_partition, prior_log_likelihoods

from skbae import BayesianRBMAutoEncoder
from skbae.model_selection import InSample, evidence_scorer, hmaxemax_scorer
from skbae.operators._tempered import log_mean_exp

X = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 0, 1], [0, 1, 0.0]])


def fit(**settings):
    settings = {"model_temperature": 1.0, "random_state": 0, "n_models": 50, **settings}
    return BayesianRBMAutoEncoder(2, **settings).fit(X)


def evidence_by_the_prior(n_draws, power=1.0, temperature=1.0, seed=0):
    """Return the log of the mean likelihood over prior draws, and its standard error."""
    values = power * prior_log_likelihoods(X, 2, n_draws, np.random.default_rng(seed), temperature)
    log_mean = log_mean_exp(values)
    weights = np.exp(values - log_mean)
    return log_mean, weights.std() / np.sqrt(n_draws)


@pytest.fixture(scope="module")
def sampled():
    return fit()


def agree(fitted, expected, error):
    gap = abs(fitted.log_evidence_ - expected)
    assert gap < 0.05
    assert gap < 5 * np.hypot(error, fitted.sampling_.log_evidence_error)
    assert fitted.sampling_.log_evidence_error < 0.05


def test_the_evidence_is_that_of_the_prior(sampled):
    agree(sampled, *evidence_by_the_prior(100_000))
    assert sampled.sampling_.status == "ok"
    np.testing.assert_allclose(sampled.hmaxemax_, sampled.log_evidence_ / len(X))


@pytest.mark.slow
def test_the_evidence_is_that_of_a_million_draws(sampled):
    agree(sampled, *evidence_by_the_prior(1_000_000))


@pytest.mark.parametrize(("temperature", "tau"), [(1.0, 3.0), (0.5, 0.5)])
def test_evidence_at_other_temperatures_is_that_of_prior_draws(temperature, tau):
    fitted = fit(temperature=temperature, model_temperature=tau)
    agree(fitted, *evidence_by_the_prior(100_000, 1 / tau, temperature))


def test_kept_models_are_normalised_and_averaged(sampled):
    models = sampled.models_
    assert models.components.shape == (50, 2, 3)
    densities = []
    for s in range(50):
        machine = (models.components[s], models.intercept_visible[s], models.intercept_hidden[s])
        log_z = log_partition(*machine)
        np.testing.assert_allclose(models.log_partition[s], log_z, rtol=1e-10)
        densities.append(hmax(X, 1.0, log_z, *machine))
    expected = log_mean_exp(np.array(densities))
    np.testing.assert_allclose(sampled.score_samples(X), expected, rtol=1e-8)
    reference = (sampled.components_, sampled.intercept_visible_, sampled.intercept_hidden_)
    log_z = log_partition(*reference)
    np.testing.assert_allclose(sampled.hmaxe_, hmax(X, 1.0, log_z, *reference).mean(), rtol=1e-8)
    assert sampled.hmaxe_ > sampled.internal_energy_


def test_draws_follow_the_average_density(sampled):
    rows, codes = sampled.sample(6000, random_state=0)
    assert codes.shape == (6000, 2)
    numbers = (rows @ [4, 2, 1]).astype(int)
    grid = (np.arange(8)[:, None] >> np.array([2, 1, 0])) & 1
    p = np.exp(sampled.score_samples(grid.astype(float)))
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-9)
    share = np.bincount(numbers, minlength=8) / 6000
    assert np.all(np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 6000))


def test_evidence_scorer_of_sampled_machines_equals_hmaxemax(sampled):
    train, test = next(InSample().split(X))
    assert len(train) == len(test) == len(X)
    np.testing.assert_allclose(evidence_scorer(sampled, X), sampled.hmaxemax_)
    assert np.isfinite(hmaxemax_scorer(sampled, X[:3]))


def test_gaussian_machines_are_sampled_too():
    """Evidence of one real feature and one hidden unit, by draws of the prior of scaled rows."""
    rows = np.array([[-1.2], [-0.8], [1.1], [0.9], [1.4]])
    fitted = BayesianRBMAutoEncoder(
        1,
        visible="gaussian",
        model_temperature=1.0,
        noise_shape_prior=3.0,
        noise_scale_prior=1.0,
        random_state=0,
    ).fit(rows)
    rng, n = np.random.default_rng(1), 400_000
    w, b, c = rng.standard_normal((3, n))
    s2 = (1.0 / rows.var()) / rng.gamma(3.0, 1.0, n)  # noise_scale_prior is in units of X
    odds = c + ((b + w) ** 2 - b**2) / (2 * s2)  # of h = 1
    log_p1, log_p0 = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    total = np.zeros(n)
    for x in (rows[:, 0] - rows.mean()) / rows.std():
        constant = -0.5 * np.log(2 * np.pi * s2) - np.log(rows.std())
        on = log_p1 - (x - b - w) ** 2 / (2 * s2)
        off = log_p0 - (x - b) ** 2 / (2 * s2)
        total += constant + np.logaddexp(on, off)
    log_mean = log_mean_exp(total)
    weights = np.exp(total - log_mean)
    agree(fitted, log_mean, weights.std() / np.sqrt(n))
