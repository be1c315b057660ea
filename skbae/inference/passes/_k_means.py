"""K-means on weighted rows that are all at hand, where fits of mixtures start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.inference.passes._starting_points import kmeans_plus_plus

if TYPE_CHECKING:
    from skbae._types import Array

# A step that reduces the sum of squares by less than this, relative to it, is the last.
_TOL = 1e-7
_MAX_STEPS = 100
# Rounding error of a score, relative to the largest square of a row.
_ROUNDING = 64 * float(np.finfo(np.float64).eps)
# Of how many runs the best is kept. A second one costs little beside a fit; one alone misses the
# grouping that most find about as often as scikit-learn's does. More runs on some of very many rows
# cost less than one on all.
_N_RUNS, _N_RUNS_ON_FEW = 2, 4
# Rows on which runs are compared, at least, and per centre.
_ENOUGH, _ENOUGH_PER_CENTRE = 2048, 100
# One row in so many is few.
_SPARSE = 4
# Relative difference of inertias that are the same up to the last steps.
_SAME = 1e-6


def best_k_means(X: Array, weights: Array, n: int, rng: np.random.Generator) -> Array:
    """Return the centres of the best of several runs from k-means++.

    Parameters
    ----------
    X : ndarray of shape (M, D)
        Distinct rows.
    weights : ndarray of shape (M,)
        Positive.
    n : int
        Number of centres.
    rng : Generator

    Returns
    -------
    ndarray of shape (n, D)
    """
    step = max(len(X) // max(_ENOUGH, _ENOUGH_PER_CENTRE * n), 1)
    some, own = X[::step], weights[::step]
    best, lowest = X[:0], np.inf
    for _ in range(_N_RUNS if step < _SPARSE else _N_RUNS_ON_FEW):
        centres, inertia = k_means(some, own, kmeans_plus_plus(some, own, n, rng))
        # of runs that end alike, the first, whatever the rounding
        if inertia < (1 - _SAME) * lowest:
            best, lowest = centres, inertia
    return best if step == 1 else k_means(X, weights, best)[0]


def k_means(X: Array, weights: Array, centres: Array) -> tuple[Array, float]:
    """Return the centres that Lloyd's algorithm leads to, and their inertia.

    This is expectation maximisation at T = 0 with equal weights and one common variance; as a
    function of its own it is several times faster on the few rows that fits start from.

    Parameters
    ----------
    X : ndarray of shape (M, D)
    weights : ndarray of shape (M,)
        Positive.
    centres : ndarray of shape (K, D)
        A centre to which no row is nearest stays where it is.

    Returns
    -------
    centres : ndarray of shape (K, D)
    inertia : float
        The weighted sum of squares of distances from the nearest centres, before the last step.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [9.0], [11.0]])
    >>> centres, inertia = k_means(X, np.ones(4), X[:2])
    >>> centres.ravel().tolist(), inertia
    ([0.5, 10.0], 2.5)
    """
    origin = weights @ X / weights.sum()
    features = np.empty((X.shape[1] + 1, len(X)))
    np.subtract(X.T, origin[:, None], out=features[:-1])
    features[-1] = 1.0
    sums = (weights * features).T
    squares = np.einsum("dn,dn->n", features[:-1], features[:-1])
    total, rounding = float(weights @ squares), _ROUNDING * float(squares.max())
    centres, numbers = centres - origin, np.arange(len(centres))[:, None]
    natural = np.empty((len(centres), len(features)))
    inertia = np.inf
    for _ in range(_MAX_STEPS):
        # the nearest centre has the largest <x, c> - |c|^2 / 2
        natural[:, :-1] = centres
        np.einsum("kd,kd->k", centres, centres, out=natural[:, -1])
        natural[:, -1] *= -0.5
        scores = natural @ features
        best = scores.max(axis=0)
        nearest = scores >= best - rounding
        before, inertia = inertia, total - 2.0 * float(weights @ best)
        if before - inertia <= _TOL * inertia:
            break
        if np.count_nonzero(nearest) > len(X):
            # of centres that are equally near, up to rounding, the first
            nearest = nearest.argmax(axis=0) == numbers
        found = nearest.astype(np.float64) @ sums
        taken = found[:, -1] > 0
        centres[taken] = found[taken, :-1] / found[taken, -1:]
    return centres + origin, inertia
