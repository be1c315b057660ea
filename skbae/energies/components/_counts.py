"""Columns of bits, of counts with and without a bound, and of waiting times."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import betaln, expit, gammaln

from skbae.energies.components._columns import MeanColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array

# Probabilities, and means relative to their scale, are kept so far from the boundary.
_INNER = 1e-12
# Logarithms of factorials up to here are looked up.
_MOST_IN_TABLE = 1 << 16
# Coordinates beyond this overflow.
_LARGEST_LOG = 700.0


@cache
def _log_factorials() -> Array:
    return gammaln(np.arange(_MOST_IN_TABLE) + 1.0)


def log_factorial(counts: NDArray[Any]) -> Array:
    """Return logarithms of factorials of whole numbers; 0 for NaN.

    Examples
    --------
    >>> log_factorial(np.array([0.0, 3.0, np.nan])).round(4).tolist()
    [0.0, 1.7918, 0.0]
    """
    counts = np.where(np.isnan(counts), 0.0, counts)
    if counts.size and counts.max() < _MOST_IN_TABLE and counts.min() >= 0:
        return _log_factorials()[counts.astype(np.intp)]
    return gammaln(counts + 1.0)


class BinomialColumns(MeanColumns):
    """Numbers of successes in given numbers of trials; bits, where there is one trial.

    Parameters
    ----------
    n_components, n_features : int
    trials : ndarray of shape (D,), default=1
    alpha, beta : float or ndarray of shape (D,), default=0
        Of the beta prior of the probability of success. Zeros for families without a prior.
    """

    def __init__(
        self,
        n_components: int,
        n_features: int,
        trials: Array | float = 1.0,
        alpha: Array | float = 0.0,
        beta: Array | float = 0.0,
        by_column: bool = True,
    ) -> None:
        self.trials = np.broadcast_to(np.asarray(trials, np.float64), n_features)
        self.bits = bool(np.all(self.trials == 1))
        self.has_base = not self.bits
        counts = (np.asarray(alpha, np.float64) + beta) / self.trials
        super().__init__(n_components, n_features, alpha, counts, by_column)

    def single_column(self, column: int) -> BinomialColumns:
        family = super().single_column(column)
        assert isinstance(family, BinomialColumns)
        family.trials = self.trials[column : column + 1]
        return family

    def base(self, X: NDArray[Any]) -> Array | float:
        if self.bits:
            return 0.0
        known = ~np.isnan(X)
        ways = log_factorial(np.where(known, self.trials, 0.0))
        ways = ways - log_factorial(X) - log_factorial(self.trials - X)
        return ways.sum(axis=1)

    def eta(self, means: Array) -> Array:
        return np.log(means) - np.log(self.trials - means)

    def psi(self, means: Array) -> Array:
        return -self.trials * np.log1p(-means / self.trials)

    def inner(self, means: Array) -> Array:
        return np.clip(means, _INNER * self.trials, (1 - _INNER) * self.trials)

    def normaliser(self, sums: Array, counts: Array, column: Any = slice(None)) -> Array:
        return betaln(sums, self.trials[column] * counts - sums)

    def draw_means(self, sums: Array, counts: Array, rng: np.random.Generator) -> Array:
        return self.trials * rng.beta(sums, self.trials * counts - sums)

    def variance_of(self, means: Array) -> Array:
        return means * (1 - means / self.trials)

    def draw_entries(self, means: Array, rng: np.random.Generator) -> Array:
        chances = means / self.trials
        return rng.binomial(self.trials.astype(np.int64), chances).astype(np.float64)

    def at(self, theta: Array) -> Array:
        return self.trials * expit(theta)

    def slope(self, means: Array) -> Array | float:
        return 1.0


class PoissonColumns(MeanColumns):
    """Counts, whose rates are ``Gamma(shape, rate)`` a priori: `prior_sums`, `prior_counts`."""

    def base(self, X: NDArray[Any]) -> Array:
        return -log_factorial(X).sum(axis=1)

    def eta(self, means: Array) -> Array:
        return np.log(means)

    def psi(self, means: Array) -> Array:
        return means

    def inner(self, means: Array) -> Array:
        return np.maximum(means, _INNER)

    def normaliser(self, sums: Array, counts: Array, column: Any = slice(None)) -> Array:
        return gammaln(sums) - sums * np.log(counts)

    def draw_means(self, sums: Array, counts: Array, rng: np.random.Generator) -> Array:
        return rng.standard_gamma(sums) / counts

    def variance_of(self, means: Array) -> Array:
        return means

    def draw_entries(self, means: Array, rng: np.random.Generator) -> Array:
        return rng.poisson(means).astype(np.float64)

    def at(self, theta: Array) -> Array:
        return np.exp(np.clip(theta, -_LARGEST_LOG, _LARGEST_LOG))


class ExponentialColumns(MeanColumns):
    """Positive numbers, exponentially distributed; rates are ``Gamma(shape, rate)`` a priori.

    The energy of a row is ``log(rate) - rate x``, so that the prior is worth ``shape - 1`` rows
    with the sum ``rate``. Means are at least `smallest`. Coordinates are logarithms of rates.
    """

    has_base = False
    smallest: Array | float = np.finfo(np.float64).tiny ** 0.5

    def eta(self, means: Array) -> Array:
        return -1.0 / means

    def psi(self, means: Array) -> Array:
        return np.log(means)

    def inner(self, means: Array) -> Array:
        return np.maximum(means, self.smallest)

    def normaliser(self, sums: Array, counts: Array, column: Any = slice(None)) -> Array:
        return gammaln(counts + 1.0) - (counts + 1.0) * np.log(sums)

    def draw_means(self, sums: Array, counts: Array, rng: np.random.Generator) -> Array:
        return sums / np.maximum(rng.standard_gamma(counts + 1.0), np.finfo(np.float64).tiny ** 0.5)

    def mode_means(self, sums: Array, counts: Array) -> Array:
        return sums / (counts + 1.0)

    def variance_of(self, means: Array) -> Array:
        return means**2

    def draw_entries(self, means: Array, rng: np.random.Generator) -> Array:
        return means * rng.standard_exponential(means.shape)

    def at(self, theta: Array) -> Array:
        return np.exp(np.clip(-theta, -_LARGEST_LOG, _LARGEST_LOG))

    def coordinate(self, means: Array) -> Array:
        return -np.log(means)

    def slope(self, means: Array) -> Array:
        return -1.0 / means

    def measure(self, means: Array) -> tuple[Array, float]:
        return -np.log(means), 1.0
