"""Log evidence of Gaussian mixtures of one column by sampling models: plain NumPy.

It shares nothing with the package, nor with ``_collapsed_oracle.py``, whose paths over allocations
fail where components overlap so much that allocations are hardly ever the same. Here the
components of rows are summed out, and what is left are 3K - 1 numbers: the logs of weights (but for
the last, to which they relate), the means and the log precisions. Two estimates:

importance         of a mixture of t distributions that is fitted to draws, with labels in all
                   orders, and a share of the prior, so that ratios are bounded;
empty components   Nobile's identity (2004, Annals of Statistics 32): the posterior probability
                   that a component has no rows is, but for a known factor, the evidence of one
                   component less over that of K. Averaged over models of Gibbs chains, where it
                   is a product over rows.

Chains start at the prior. The first is right even if they have not met, if all modes are among
their draws; the second is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from math import lgamma, log, pi

import numpy as np
from _collapsed_oracle import pooled
from scipy.special import gammaln, logsumexp

_DOF, _PRIOR_SHARE = 4.0, 0.05
_CHUNK = 1000


@dataclass(frozen=True)
class Column:
    """Rows (N,) and prior; models are (S, 3, K): log weights, means, log precisions."""

    x: np.ndarray
    n_components: int
    scale: float
    mean: float
    concentration: float = 1.0
    strength: float = 0.01
    dof: float = 3.0

    def draw_prior(self, n, rng):
        return self.draw_posterior(*np.zeros((3, n, self.n_components)), rng)

    def draw_posterior(self, counts, sums, squares, rng):
        """Draw models (S, 3, K) given the moments of the rows of each component (S, K)."""
        weights = rng.gamma(self.concentration + counts)
        strength = self.strength + counts
        mean = (self.strength * self.mean + sums) / strength
        scatter = squares + self.strength * self.mean**2 - strength * mean**2
        rate = (self.scale + np.maximum(scatter, 0)) / 2
        precisions = rng.gamma((self.dof + counts) / 2) / rate
        means = mean + rng.standard_normal(mean.shape) / np.sqrt(strength * precisions)
        log_weights = np.log(weights / weights.sum(axis=1, keepdims=True))
        return np.stack([log_weights, means, np.log(precisions)], axis=1)

    def log_prior(self, models):
        """Return log densities (S,) in coordinates: the Jacobian is counted."""
        (log_weights, means, logs), K = np.moveaxis(models, 1, 0), self.n_components
        shape, rate, precisions = self.dof / 2, self.scale / 2, np.exp(logs)
        found = shape * (log(rate) + logs) - rate * precisions - lgamma(shape)
        found += (log(self.strength / (2 * pi)) + logs) / 2
        found -= self.strength * precisions * (means - self.mean) ** 2 / 2
        found += self.concentration * log_weights - lgamma(self.concentration)
        return found.sum(axis=1) + lgamma(K * self.concentration)

    def log_joint(self, models):
        """Return log p(x, component) (S, K, N)."""
        log_weights, means, logs = np.moveaxis(models, 1, 0)[..., None]
        return log_weights + (logs - log(2 * pi) - np.exp(logs) * (self.x - means) ** 2) / 2

    def log_likelihood(self, models):
        chunks = np.array_split(models, max(1, len(models) // _CHUNK))
        return np.concatenate([
            logsumexp(self.log_joint(chunk), axis=1).sum(axis=1) for chunk in chunks
        ])  # fmt: skip


def coordinates(models, order):
    """Return coordinates (S, 3K - 1) of models with components in such an order."""
    log_weights, means, logs = np.moveaxis(models[:, :, order], 1, 0)
    return np.concatenate([log_weights[:, :-1] - log_weights[:, -1:], means, logs], axis=1)


def models_at(points):
    """Return models (S, 3, K) with such coordinates (S, 3K - 1)."""
    K = (points.shape[1] + 1) // 3
    ratios = np.pad(points[:, : K - 1], [(0, 0), (0, 1)])
    log_weights = ratios - logsumexp(ratios, axis=1, keepdims=True)
    return np.stack([log_weights, points[:, K - 1 : 2 * K - 1], points[:, 2 * K - 1 :]], axis=1)


# -- chains ----------------------------------------------------------------------------------------


def gibbs(problem, n_chains, n_sweeps, rng, *, every=50):
    """Return draws of the posterior, and the probability that a component is empty.

    The latter is the mean over models of ``prod_rows p(the row is of other components)``. The first
    fifth of the sweeps does not count.
    """
    x, K = problem.x, problem.n_components
    models, kept, empty = problem.draw_prior(n_chains, rng), [], []
    powers = np.stack([np.ones_like(x), x, x**2], axis=1)
    for sweep in range(n_sweeps):
        shares = problem.log_joint(models)
        shares = np.exp(shares - shares.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        if sweep >= n_sweeps // 5:
            with np.errstate(divide="ignore"):
                others = np.log1p(-np.minimum(shares, 1)).sum(axis=2)
            empty.append(np.exp(others).mean())
            if sweep % every == 0:
                kept.append(models)
        uniform = rng.random((n_chains, 1, len(x)))
        labels = (uniform > shares.cumsum(axis=1)[:, :-1]).sum(axis=1)
        member = (labels[:, None] == np.arange(K)[:, None]).astype(float)
        models = problem.draw_posterior(*np.moveaxis(member @ powers, 2, 0), rng)
    return np.concatenate(kept), float(np.mean(empty))


def log_ratio(problem, log_empty):
    """Return the log evidence less that of one component less, by Nobile's identity."""
    K, n, alpha = problem.n_components, len(problem.x), problem.concentration
    known = lgamma(K * alpha + n) - lgamma(K * alpha)
    known -= lgamma((K - 1) * alpha + n) - lgamma((K - 1) * alpha)
    return -known - log_empty


# -- importance ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MixtureOfT:
    """Shares (M,), centres (M, P) and scales (M, P, P) of t distributions."""

    shares: np.ndarray
    centres: np.ndarray
    scales: np.ndarray

    def log_densities(self, points):
        """Return log densities with shares, and squared distances, (S, M)."""
        size = points.shape[1]
        roots = np.linalg.cholesky(self.scales)
        squares = np.empty((len(points), len(self.shares)))
        for m, inverse in enumerate(np.linalg.inv(roots)):
            squares[:, m] = (((points - self.centres[m]) @ inverse.T) ** 2).sum(axis=1)
        logs = np.log(self.shares) - np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
        logs += gammaln((_DOF + size) / 2) - gammaln(_DOF / 2) - size / 2 * log(_DOF * pi)
        return logs - (_DOF + size) / 2 * np.log1p(squares / _DOF), squares

    def draw(self, n, rng):
        which = rng.choice(len(self.shares), size=n, p=self.shares)
        normal = rng.standard_normal((n, 1, self.centres.shape[1]))
        steps = (normal @ np.linalg.cholesky(self.scales)[which].swapaxes(1, 2))[:, 0]
        return self.centres[which] + steps / np.sqrt(rng.chisquare(_DOF, size=(n, 1)) / _DOF)


def fitted(points, n_components, rng, n_steps=15):
    """Return a mixture of t distributions fitted to points (S, P) by EM, without small ones."""
    n, size = points.shape
    centres = points[rng.choice(n, n_components, replace=False)]
    scales = np.repeat(np.cov(points.T)[None] / 4, n_components, axis=0)
    q = MixtureOfT(np.full(n_components, 1 / n_components), centres, scales)
    for _ in range(n_steps):
        logs, squares = q.log_densities(points)
        shares = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
        large = shares.sum(axis=0) > 3 * size
        shares, pulls = shares[:, large], (shares * (_DOF + size) / (_DOF + squares))[:, large]
        totals = shares.sum(axis=0)
        centres = pulls.T @ points / pulls.sum(axis=0)[:, None]
        scales = np.empty((len(totals), size, size))
        for m, centre in enumerate(centres):
            deviations = points - centre
            scales[m] = (pulls[:, m] * deviations.T) @ deviations / totals[m]
        q = MixtureOfT(totals / totals.sum(), centres, scales + 1e-3 * np.eye(size))
    return q


def importance(problem, draws, n, rng, *, n_fitted=20_000):
    """Return the log evidence by n draws of a mixture of t distributions fitted to posterior draws.

    They are fitted with components in the order of their means; the proposal is the average over
    all orders, of which one does for drawing, since all else is the same in each.
    """
    K = problem.n_components
    some = draws[rng.choice(len(draws), min(n_fitted, len(draws)), replace=False)]
    in_order = np.take_along_axis(some, some[:, 1:2].argsort(axis=2), axis=2)
    points = coordinates(in_order, np.arange(K))
    q = fitted(points, min(30 * K, len(points) // (10 * points.shape[1])), rng)
    models = models_at(q.draw(n, rng))
    of_prior = rng.random(n) < _PRIOR_SHARE
    models[of_prior] = problem.draw_prior(of_prior.sum(), rng)
    logs = np.full(n, -np.inf)
    for order in permutations(range(K)):
        found = q.log_densities(coordinates(models, list(order)))[0]
        logs = np.logaddexp(logs, logsumexp(found, axis=1) - lgamma(K + 1))
    prior = problem.log_prior(models)
    proposal = np.logaddexp(log(1 - _PRIOR_SHARE) + logs, log(_PRIOR_SHARE) + prior)
    return logsumexp(problem.log_likelihood(models) + prior - proposal) - log(n)


def estimates(problem, rng, *, n_groups=8, n_chains=100, n_sweeps=6000, n_draws=10_000):
    """Return both estimates, name -> (log evidence, error), by groups that share nothing.

    The second adds to the evidence of one component less, which importance tells.
    """
    smaller = replace(problem, n_components=problem.n_components - 1)
    direct, below, empties = [], [], []
    for _ in range(n_groups):
        draws, empty = gibbs(problem, n_chains, n_sweeps, rng)
        direct.append(importance(problem, draws, n_draws, rng))
        empties.append(log(empty))
        draws, _ = gibbs(smaller, n_chains, n_sweeps // 2, rng)
        below.append(importance(smaller, draws, n_draws, rng))
    value, error = pooled(np.array(below))
    empty, doubt = pooled(np.array(empties))
    return {
        "importance": pooled(np.array(direct)),
        "empty components": (value + log_ratio(problem, empty), float(np.hypot(error, doubt))),
    }
