"""The oracles of sampled mixtures against each other."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES
from _mixture_oracles import (
    MixturePrior,
    allocation_log_joint,
    candidate_log_evidence,
    enumerated_log_evidence,
    enumerated_log_joints,
)
from _oracles import enumerated_log_evidence as second_enumeration
from _samplers import make_prior, small_data
from scipy import stats
from scipy.special import logsumexp

TEMPERATURES = (0.5, 1.0, 2.0)


# -- the oracle ----------------------------------------------------------------------------------


@cache  # in one dimension most kinds have the same prior
def log_evidence_by_quadrature(dof, covariance, location, mean_precision, temperature):
    mean, log_precision = np.meshgrid(np.linspace(-30, 30, 6001), np.linspace(-9, 5, 701))
    precision, sd = np.exp(log_precision), np.exp(-0.5 * log_precision)
    total = stats.gamma(dof / 2, scale=2 / covariance).logpdf(precision)
    total += log_precision  # the Jacobian of log Lambda
    total += stats.norm(location, sd / np.sqrt(mean_precision)).logpdf(mean)
    for x in small_data(4, 1)[:, 0]:
        total += stats.norm(mean, sd).logpdf(x) / temperature
    return logsumexp(total) + np.log(0.01 * 0.02)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_enumeration_agrees_with_quadrature(kind, temperature):
    """One component, one feature: the likelihood to the power 1/T on a grid of (mu, log Lambda)."""
    prior, X = make_prior(kind, 1, 1, degrees_of_freedom=4.1), small_data(4, 1)
    value = log_evidence_by_quadrature(
        prior.degrees_of_freedom,
        float(np.ravel(prior.covariance)[0]),
        float(prior.mean[0]),
        prior.mean_precision,
        temperature,
    )
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
    drawn = [prior.draw(rng) for _ in range(4000)]
    weights, means, covariances = (np.stack(each) for each in zip(*drawn, strict=True))
    deviations = X[:, None, None] - means
    squares = np.einsum("nski,skij,nskj->nsk", deviations, np.linalg.inv(covariances), deviations)
    densities = np.exp(-0.5 * squares) / np.sqrt(np.linalg.det(2 * np.pi * covariances))
    likelihood = (weights * densities).sum(axis=2).prod(axis=0)
    error = likelihood.std() / np.sqrt(len(likelihood))
    assert error < 0.1 * likelihood.mean()
    assert abs(likelihood.mean() - np.exp(enumerated_log_evidence(X, prior))) < 5 * error


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_one_allocation_is_as_in_the_enumeration(kind):
    prior, X = make_prior(kind, 3, 2), small_data(5, 2)
    labels, exact = enumerated_log_joints(X, prior, 2.0)
    for each, value in zip(labels[::7], exact[::7], strict=True):
        np.testing.assert_allclose(allocation_log_joint(X, each, prior, 2.0), value, rtol=1e-12)


@pytest.mark.parametrize(("kind", "temperature"), [("full", 0.5), ("full", 2.0), ("tied", 1.0)])
def test_the_slowest_sampler_agrees_with_the_enumeration(kind, temperature):
    prior, X = make_prior(kind, 2, 2), small_data(9, 2)
    value, error = candidate_log_evidence(X, prior, np.arange(9) % 2, temperature, 250)
    assert error < 0.2
    assert abs(value - enumerated_log_evidence(X, prior, temperature)) < 5 * error
