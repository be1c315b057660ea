"""Nobile's identity: empty components tie the evidences of mixtures of neighbouring sizes.

Let the K components of a mixture have the same prior each, and their weights a symmetric Dirichlet
prior with concentration alpha (or be equal). An allocation that leaves component k without rows is
an allocation to the other K - 1 components, and k integrates out. So the allocations that leave k
empty have together the evidence ``Z_{K-1}`` of the smaller mixture, but for the normaliser of the
weights::

    P(no row in k | X) = c_K Z_{K-1} / Z_K,

    c_K = Gamma(K alpha) Gamma((K - 1) alpha + n) / (Gamma((K - 1) alpha) Gamma(K alpha + n))

where n is the number of rows over the temperature; with equal weights ``c_K = ((K - 1) / K)^n``
(Nobile 2004, Annals of Statistics 32; 2007, Statistics and Computing 17).

The left side is an average over draws of models, since given a model rows are independent:
``P(no row in k | X, m) = prod_i (1 - p(k | x_i, m))``. Where few draws have most of the average,
its standard error says little; but averages of probabilities have limits whatever these are
(Chernoff 1952). And not all components can be empty, so that the left side is at most
``(K - 1) / K``: a larger mixture's evidence is never far below the smaller one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array

# Chance that a probability is beyond one of its limits.
_MISSED = 1e-4
_N_BISECTIONS = 60


@dataclass(frozen=True)
class EmptyChance:
    """How probable it is that a given component of a mixture has no rows.

    Attributes
    ----------
    log_mean : float
        Log of the probability, averaged over draws.
    error : float
        Standard error of `log_mean`.
    log_limits : tuple of float
        Logs of a lower and an upper limit of the probability. Each is wrong with a chance of less
        than one in 10,000, however uneven the draws are.
    n_empty : float
        Independent draws with that component empty, on average. With few, `error` is a guess, and
        usually too small: draws without an empty component that nearly have one are more common,
        and do not tell how rare the others are.
    """

    log_mean: float
    error: float
    log_limits: tuple[float, float]
    n_empty: float


def log_empty_ratio(n_components: int, rows: float, concentration: float | None) -> float:
    """Return ``log c_K``, by which the chance of an empty component is the evidences' ratio.

    Parameters
    ----------
    n_components : int
        K, at least 2.
    rows : float
        Number of rows over the temperature.
    concentration : float or None
        alpha; None if all weights are equal.

    Examples
    --------
    Two components and three rows, all weights equally probable: one of the four numbers of rows
    that the first may have is zero.

    >>> round(float(np.exp(log_empty_ratio(2, 3.0, 1.0))), 6)
    0.25
    >>> round(float(np.exp(log_empty_ratio(2, 3.0, None))), 6)
    0.125
    """
    if concentration is None:
        return float(rows * np.log1p(-1 / n_components))
    more, fewer = n_components * concentration, (n_components - 1) * concentration
    return float(gammaln(more) - gammaln(fewer) + gammaln(fewer + rows) - gammaln(more + rows))


def log_chance_of_no_rows(log_f: Array, weights: Array | None = None) -> Array:
    """Return the log probability that each component of each model has none of the rows, (S, K).

    Parameters
    ----------
    log_f : ndarray of shape (S, K, n)
        ``H(x, m, k) / T``.
    weights : ndarray of shape (n,) or None, default=None
        A row of integer weight w counts as w rows.
    """
    others = np.empty_like(log_f)
    for k in range(log_f.shape[1]):
        others[:, k] = np.logaddexp.reduce(np.delete(log_f, k, axis=1), axis=1)
    others -= np.logaddexp.reduce(log_f, axis=1)[:, None]
    np.minimum(others, 0.0, out=others)
    return others.sum(axis=2) if weights is None else others @ weights


def empty_chance(log_chances: Array, n_independent: float) -> EmptyChance:
    """Return the mean of the chance that a component has no rows, its error and its limits.

    Parameters
    ----------
    log_chances : ndarray of shape (S, K)
        Given each of S draws of the models, as from :func:`log_chance_of_no_rows`. Components are
        alike, so that each of them tells the same.
    n_independent : float
        Independent draws that the S are worth.
    """
    n_draws, n_components = log_chances.shape
    n = min(n_independent, float(n_draws))
    each = log_mean_exp(log_chances, axis=1)
    log_mean = float(log_mean_exp(each))
    error = np.inf
    if np.isfinite(log_mean) and n_draws > 1:
        error = float(np.exp(each - log_mean).std(ddof=1) / np.sqrt(n))
    n_empty = n * float(np.exp(log_mean))
    log_low, log_high = chernoff_limits(log_mean, n)
    largest = float(np.log1p(-1 / n_components))
    return EmptyChance(log_mean, error, (log_low, min(log_high, largest)), n_empty)


def chernoff_limits(log_mean: float, n: float, missed: float = _MISSED) -> tuple[float, float]:
    """Return limits of the log expectation of numbers in [0, 1], given the mean of n of them.

    The smallest and the largest expectation q with which a mean this far off has a chance of at
    least `missed`, by Chernoff's bound ``exp(-n KL(mean, q))``, which holds whatever the
    distribution of the numbers is.

    Parameters
    ----------
    log_mean, n : float
    missed : float, default=1e-4

    Examples
    --------
    If a probability is zero in fifty draws, it is less than 0.17 on average. If it is 0.5 on
    average, its expectation is between 0.22 and 0.78, however uneven the draws may be.

    >>> [round(float(np.exp(limit)), 2) for limit in chernoff_limits(-np.inf, 50)]
    [0.0, 0.17]
    >>> [round(float(np.exp(limit)), 2) for limit in chernoff_limits(np.log(0.5), 50)]
    [0.22, 0.78]
    """
    allowed, mean = -np.log(missed) / n, float(np.exp(log_mean))

    def is_allowed(log_q: float) -> bool:
        off = mean * (log_mean - log_q) if mean > 0 else 0.0
        if mean < 1:
            with np.errstate(divide="ignore"):
                off += (1 - mean) * (np.log1p(-mean) - np.log1p(-np.exp(log_q)))
        return bool(off < allowed)

    low = -np.inf
    if mean * -np.log(np.finfo(float).tiny) > allowed:
        low = _bisect(is_allowed, log_mean, log_mean - (allowed + 1) / mean)
    high = 0.0 if mean == 1 else _bisect(is_allowed, max(log_mean, np.log(1e-300)), 0.0)
    return float(low), float(high)


def _bisect(is_allowed: Callable[[float], bool], inside: float, outside: float) -> float:
    """Return the end of what is allowed, just outside of it."""
    for _ in range(_N_BISECTIONS):
        middle = 0.5 * (inside + outside)
        inside, outside = (middle, outside) if is_allowed(middle) else (inside, middle)
    return outside
