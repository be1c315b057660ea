"""Log evidence of Gaussian mixtures with full covariances by letting rows come one by one: NumPy.

Given the first rows, models are drawn from their posterior, by enumeration of allocations. They are
weighed by the density of each further row; whenever weights have become uneven, models are drawn
anew in proportion, and whenever rows have grown by some share, all are moved by Gibbs sweeps with
the rows that have come (Chopin 2002, Biometrika 89). The average of estimates, not of their logs,
is the evidence, whatever the number of models.

It shares nothing with the package, nor with ``_collapsed_oracle.py``: where components overlap so
much that no two chains visit the same allocation, paths over allocations fail, and this does not.
It does in many columns, where first rows say little about further ones.
"""

from __future__ import annotations

from math import log, pi

import numpy as np
from _mixture_oracles import enumerated_log_joints
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

_EVEN, _GROWTH, _CHUNK = 0.6, 1.03, 2000
# Rows whose allocations are enumerated at the start.
_N_FIRST = 5


class Mixture:
    """Prior of K components; models are log weights (S, K), means, and roots of precisions.

    ``precision = root @ root.T``, with lower triangular roots (S, K, D, D).
    """

    def __init__(self, prior):
        self.prior, self.n_components = prior, prior.n_components
        self.scale, self.mean = np.asarray(prior.covariance), np.asarray(prior.mean)
        self.strength, self.dof = prior.mean_precision, prior.degrees_of_freedom
        self.size = len(self.mean)

    def draw(self, counts, sums, squares, rng):
        """Draw models given the moments of the rows of each component, (S, K, ...)."""
        weights = rng.gamma(self.prior.concentration + counts)
        strength = self.strength + counts
        mean = (self.strength * self.mean + sums) / strength[..., None]
        scatter = self.scale + squares + self.strength * np.outer(self.mean, self.mean)
        scatter = scatter - strength[..., None, None] * mean[..., None] * mean[..., None, :]
        # of the inverse scatter; a triangular matrix of normals and chi (Bartlett 1933)
        root = np.linalg.cholesky(np.linalg.inv(scatter))
        random = np.tril(rng.standard_normal(root.shape), -1)
        for d in range(self.size):
            random[..., d, d] = np.sqrt(2 * rng.gamma((self.dof + counts - d) / 2))
        root = root @ random
        step = rng.standard_normal((*mean.shape, 1)) / np.sqrt(strength)[..., None, None]
        mean = mean + np.linalg.solve(root.swapaxes(-1, -2), step)[..., 0]
        return np.log(weights / weights.sum(axis=1, keepdims=True)), mean, root

    def draw_exactly(self, X, n, rng):
        """Return the log evidence of a few rows, and n draws of the posterior."""
        allocations, log_joints = enumerated_log_joints(X, self.prior)
        value = logsumexp(log_joints)
        drawn = rng.choice(len(log_joints), size=n, p=np.exp(log_joints - value))
        return float(value), self.draw_given(allocations[drawn], X, rng)

    def draw_given(self, labels, X, rng):
        """Draw models given the components (S, N) of rows (N, D)."""
        member = (labels[:, None] == np.arange(self.n_components)[:, None]).astype(float)
        products = (X[:, :, None] * X[:, None, :]).reshape(len(X), -1)
        squares = (member @ products).reshape(*member.shape[:2], self.size, self.size)
        return self.draw(member.sum(axis=2), member @ X, squares, rng)

    def log_joint(self, models, X):
        """Return log p(x, component), (S, K, N)."""
        log_weights, means, roots = models
        away = roots.swapaxes(-1, -2) @ (X.T - means[..., None])
        logs = log_weights + np.log(np.diagonal(roots, axis1=-2, axis2=-1)).sum(axis=-1)
        return (logs - self.size / 2 * log(2 * pi))[..., None] - (away**2).sum(axis=-2) / 2

    def sweep(self, models, X, rng):
        """Redraw the rows' components, then the models."""
        log_joint = self.log_joint(models, X)
        labels = (log_joint - np.log(rng.exponential(size=log_joint.shape))).argmax(axis=1)
        return self.draw_given(labels, X, rng)


@threadpool_limits.wrap(limits=1)
def log_evidence(mixture, X, n_models, rng, n_sweeps=3):
    """Return an estimate of the log evidence, with rows in random order."""
    X = X[rng.permutation(len(X))]
    first = min(len(X), _N_FIRST)
    total, models = mixture.draw_exactly(X[:first], n_models, rng)
    log_weights, refreshed = np.zeros(n_models), first
    for n in range(first + 1, len(X) + 1):
        log_weights += logsumexp(mixture.log_joint(models, X[n - 1 : n])[..., 0], axis=1)
        weights = np.exp(log_weights - logsumexp(log_weights))
        if n == len(X) or 1 / (weights**2).sum() < _EVEN * n_models:
            total += float(logsumexp(log_weights)) - log(n_models)
            places = (np.arange(n_models) + rng.random()) / n_models
            drawn = np.minimum(np.searchsorted(weights.cumsum(), places), n_models - 1)
            models, log_weights = _taken(models, drawn), np.zeros(n_models)
        if n > _GROWTH * refreshed:
            refreshed = n
            for _ in range(n_sweeps):
                models = _in_parts(mixture, models, X[:n], rng)
    return total


def _taken(models, index):
    return tuple(each[index] for each in models)


def _in_parts(mixture, models, X, rng):
    """Move models, not all at once: memory."""
    starts = range(0, len(models[0]), _CHUNK)
    moved = [mixture.sweep(_taken(models, slice(i, i + _CHUNK)), X, rng) for i in starts]
    return tuple(np.concatenate(each) for each in zip(*moved, strict=True))
