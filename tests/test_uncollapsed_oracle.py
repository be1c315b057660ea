"""The slow sampler of models that references of one column come from, against enumeration."""

from __future__ import annotations

import numpy as np
import pytest
from _mixture_oracles import MixturePrior, enumerated_log_evidence
from _uncollapsed_oracle import Column, MixtureOfT, coordinates, estimates, models_at
from scipy.special import logsumexp
from scipy.stats import dirichlet, gamma, multivariate_t, norm

X = np.array([1.0, 1.3, 2.9, 3.1, 7.0])
PRIOR = {"scale": 0.4, "mean": 3.0, "concentration": 1.3, "strength": 0.1, "dof": 3.5}
SHORT = {"n_groups": 8, "n_chains": 100, "n_sweeps": 600, "n_draws": 2000}


def exact(n_components):
    mean, scale = np.array([PRIOR["mean"]]), np.array([[PRIOR["scale"]]])
    more = PRIOR["concentration"], PRIOR["strength"], PRIOR["dof"]
    return enumerated_log_evidence(
        X[:, None], MixturePrior("full", n_components, mean, scale, *more)
    )


@pytest.mark.parametrize("n_components", [2, 3])
def test_both_estimates_meet_the_enumeration(n_components):
    found = estimates(Column(X, n_components, **PRIOR), np.random.default_rng(1), **SHORT)
    for name, (value, error) in found.items():
        assert error < 0.06, name
        assert abs(value - exact(n_components)) < 4 * error, (name, value, error)


class ForgottenJacobian(Column):
    """A density of weights, not of the logs of their ratios."""

    def log_prior(self, models):
        return super().log_prior(models) - models[:, 0].sum(axis=1)


class ConcentrationTwice(Column):
    """Chains whose weights count the prior's concentration twice."""

    def draw_posterior(self, counts, sums, squares, rng):
        models = super().draw_posterior(counts, sums, squares, rng)
        weights = rng.gamma(2 * self.concentration + counts)
        models[:, 0] = np.log(weights / weights.sum(axis=1, keepdims=True))
        return models


@pytest.mark.parametrize(
    ("mistaken", "name"),
    [(ForgottenJacobian, "importance"), (ConcentrationTwice, "empty components")],
)
def test_a_mistake_in_the_posterior_is_noticed(mistaken, name):
    found = estimates(mistaken(X, 3, **PRIOR), np.random.default_rng(1), **SHORT)
    value, error = found[name]
    assert abs(value - exact(3)) > 6 * error


def test_prior_and_likelihood_are_those_of_scipy():
    rng, column = np.random.default_rng(2), Column(X, 3, **PRIOR)
    models = column.draw_prior(6, rng)
    expected, likelihoods = [], []
    for log_weights, means, logs in models:
        weights, precisions = np.exp(log_weights), np.exp(logs)
        value = dirichlet.logpdf(weights, np.full(3, column.concentration)) + log_weights.sum()
        rate = column.scale / 2
        value += (gamma.logpdf(precisions, column.dof / 2, scale=1 / rate) + logs).sum()
        spread = (column.strength * precisions) ** -0.5
        expected.append(value + norm.logpdf(means, column.mean, spread).sum())
        rows = norm.logpdf(X[:, None], means, precisions**-0.5) + log_weights
        likelihoods.append(logsumexp(rows, axis=1).sum())
    np.testing.assert_allclose(column.log_prior(models), expected, rtol=1e-9)
    np.testing.assert_allclose(column.log_likelihood(models), likelihoods, rtol=1e-9)
    np.testing.assert_allclose(models_at(coordinates(models, [0, 1, 2])), models, atol=1e-9)
    np.testing.assert_allclose(
        models_at(coordinates(models, [2, 0, 1])), models[:, :, [2, 0, 1]], atol=1e-9
    )


def test_the_proposal_has_the_density_of_scipy_and_draws_from_it():
    scales = np.array([[[2.0, 0.5], [0.5, 1.0]], [[0.3, -0.1], [-0.1, 0.4]]])
    q = MixtureOfT(np.array([0.3, 0.7]), np.array([[0.0, 1.0], [3.0, -2.0]]), scales)
    points = q.draw(40_000, np.random.default_rng(3))
    expected = logsumexp(
        [
            np.log(share) + multivariate_t.logpdf(points[:50], centre, scale, df=4)
            for share, centre, scale in zip(q.shares, q.centres, q.scales, strict=True)
        ],
        axis=0,
    )
    found = logsumexp(q.log_densities(points)[0], axis=1)
    np.testing.assert_allclose(found[:50], expected, rtol=1e-9)
    # the mean of one density's ratio to another one's draws is one
    other = multivariate_t.logpdf(points, [1.5, -0.5], 2 * np.eye(2), df=4)
    ratios = np.exp(other - found)
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / np.sqrt(len(ratios))
