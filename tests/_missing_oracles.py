"""Brute-force answers for rows with missing entries, one row and one component at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import multivariate_normal


def with_gaps(X: Any, share: float, seed: int = 0) -> Any:
    """Return rows of which a share of all entries, chosen at random, is NaN; no column is empty."""
    X = np.array(X)
    gone = np.random.default_rng(seed).random(X.shape) < share
    gone[0] = False
    X[gone] = np.nan
    return X


def marginal_joint(X: Any, weights: Any, means: Any, covariances: Any) -> Any:
    """Return ``log w_k + log N(x_o; mu_o, S_oo)`` of the known entries o, (N, K)."""
    out = np.empty((len(X), len(weights)))
    for i, row in enumerate(X):
        known = np.flatnonzero(~np.isnan(row))
        for k, weight in enumerate(weights):
            out[i, k] = np.log(weight)
            if len(known):
                normal = multivariate_normal(means[k][known], covariances[k][np.ix_(known, known)])
                out[i, k] += normal.logpdf(row[known])
    return out


def conditional(row: Any, mean: Any, covariance: Any) -> tuple[Any, Any]:
    """Return the mean (D,) and covariance (D, D) of a row given its known entries."""
    known, gaps = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
    centre, spread = row.copy(), np.zeros(covariance.shape)
    slopes = np.zeros((len(gaps), len(known)))
    if len(known):
        own = covariance[np.ix_(known, known)]
        slopes = np.linalg.solve(own, covariance[np.ix_(known, gaps)]).T
    centre[gaps] = mean[gaps] + slopes @ (row[known] - mean[known])
    within = covariance[np.ix_(gaps, gaps)] - slopes @ covariance[np.ix_(known, gaps)]
    spread[np.ix_(gaps, gaps)] = within
    return centre, spread


def conditional_mixture(X: Any, weights: Any, means: Any, covariances: Any) -> tuple[Any, Any]:
    """Return the mean (N, D) and covariance (N, D, D) of rows given their known entries."""
    joint = marginal_joint(X, weights, means, covariances)
    centres, spreads = [], []
    for row, energies in zip(X, joint, strict=True):
        shares = np.exp(energies - energies.max())
        shares /= shares.sum()
        own = [conditional(row, *each) for each in zip(means, covariances, strict=True)]
        centre = sum(share * mean for share, (mean, _) in zip(shares, own, strict=True))
        spread = sum(
            share * (within + np.outer(mean - centre, mean - centre))
            for share, (mean, within) in zip(shares, own, strict=True)
        )
        centres.append(centre)
        spreads.append(spread)
    return np.array(centres), np.array(spreads)


def em_step(X: Any, row_weights: Any, weights: Any, means: Any, covariances: Any) -> Any:
    """Return weights, means and full covariances after a step at T = 1, from expected rows."""
    joint = marginal_joint(X, weights, means, covariances)
    codes = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None]) * row_weights[:, None]
    new_means, new_covariances = [], []
    for k in range(len(weights)):
        own = [conditional(row, means[k], covariances[k]) for row in X]
        rows = np.array([mean for mean, _ in own])
        centre = codes[:, k] @ rows / codes[:, k].sum()
        scatter = sum(
            share * (within + np.outer(row - centre, row - centre))
            for share, row, within in zip(codes[:, k], rows, (w for _, w in own), strict=True)
        )
        new_means.append(centre)
        new_covariances.append(scatter / codes[:, k].sum())
    counts = codes.sum(axis=0)
    return counts / counts.sum(), np.array(new_means), np.array(new_covariances)
