"""Rows whose missing entries are filled in, where fits of rows with gaps start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.operators._gaps import Gaps
from skbae.operators._small_matrices import inverses

if TYPE_CHECKING:
    from skbae._types import Array

# Steps of the fit of one normal distribution; columns above which entries are filled with means.
_STEPS, _MOST_COLUMNS = 10, 100
# Rows of a chunk.
_CHUNK = 1024
# What is added to the correlations, so that they have an inverse.
_RIDGE = 1e-3


def filled_rows(X: Array, weights: Array) -> Array:
    """Return rows with missing entries replaced by their expectation under one normal distribution.

    The distribution is fitted to the rows by a few steps of expectation maximisation. Of very many
    columns, entries are replaced by the mean of their column.

    Parameters
    ----------
    X : ndarray of shape (M, D)
        NaN where an entry is missing; each column has a known entry.
    weights : ndarray of shape (M,)
        Positive.

    Returns
    -------
    ndarray of shape (M, D)

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0], [3.0, np.nan]])
    >>> bool(abs(filled_rows(X, np.ones(4))[3, 1] - 6.0) < 0.3)
    True
    """
    known = ~np.isnan(X)
    mass = weights @ known
    centre = weights @ np.where(known, X, 0.0) / mass
    scale = np.sqrt(weights @ np.where(known, X - centre, 0.0) ** 2 / mass)
    scale[scale == 0] = 1.0
    if X.shape[1] > _MOST_COLUMNS:
        return np.where(known, X, centre)
    standard = (X - centre) / scale
    starts = range(0, len(X), _CHUNK)
    chunks = [(Gaps(standard[i : i + _CHUNK]), weights[i : i + _CHUNK]) for i in starts]
    size = X.shape[1]
    mean, covariance = np.zeros(size), np.eye(size)
    parts: list[Array] = []
    for _ in range(_STEPS):
        precision = np.asarray(np.linalg.inv(covariance + _RIDGE * np.eye(size)), np.float64)
        first, second = np.zeros(size), np.zeros((size, size))
        parts = []
        for gaps, share in chunks:
            rows, spread = _completed(gaps, share, mean, precision)
            weighted = rows * share
            first += weighted.sum(axis=1)
            second += weighted @ rows.T + spread
            parts.append(rows)
        mean = first / weights.sum()
        covariance = second / weights.sum() - np.outer(mean, mean)
    filled = centre + scale * np.concatenate(parts, axis=1).T
    return np.where(known, X, filled)


def _completed(gaps: Gaps, weights: Array, mean: Array, precision: Array) -> tuple[Array, Array]:
    """Return expected rows (D, n), and the sum of covariances of their missing entries, (D, D)."""
    size = len(mean)
    deviations = (gaps.filled - mean[:, None]) * gaps.observed
    pull = precision @ deviations
    spread = np.zeros(size * size)
    for group in gaps.groups:
        index = group.columns[:, None] * size + group.columns
        own, _ = inverses(precision.ravel()[index])
        steps = -np.einsum("ijr,jr->ir", group.to_rows(own), pull.ravel()[group.cells])
        deviations.ravel()[group.cells] = steps
        values = group.to_patterns(weights[group.rows]) * own
        spread += np.bincount(index.ravel(), values.ravel(), minlength=size * size)
    return deviations + mean[:, None], spread.reshape(size, size)
