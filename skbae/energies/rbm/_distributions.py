"""Distributions from ``encode`` and ``decode`` of a restricted Boltzmann machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from skbae.energies._distribution import DistributionWithDensity
from skbae.operators._enumeration import binary_states
from skbae.operators._tempered import tempered_logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


# Codes of up to _ENUMERATED_BITS bits are enumerated; of longer ones _DRAWN_CODES are drawn, with
# the same random numbers at each call.
_ENUMERATED_BITS = 10
_DRAWN_CODES = 512


def _bit_entropy(probabilities: Array) -> Array:
    p = np.asarray(probabilities, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = p * np.log(p) + (1 - p) * np.log1p(-p)
    return -np.where((p > 0) & (p < 1), terms, 0.0).sum(axis=-1)


@dataclass(frozen=True)
class BernoulliCodes(DistributionWithDensity):
    """Independent bits for each of N rows: codes, or binary features.

    Attributes
    ----------
    probabilities : ndarray of shape (N, d)

    Examples
    --------
    >>> import numpy as np
    >>> codes = BernoulliCodes(np.array([[0.5, 1.0]]))
    >>> codes.variance.tolist(), codes.entropy().round(4).tolist()
    ([[0.25, 0.0]], [0.6931])
    """

    probabilities: Array

    @property
    def mean(self) -> Array:
        """Expected bits, (N, d): the probabilities."""
        return self.probabilities

    @property
    def variance(self) -> Array:
        return self.probabilities * (1 - self.probabilities)

    @property
    def covariance(self) -> Array:
        """Covariance of the bits, (N, d, d): diagonal."""
        return self.variance[:, :, None] * np.eye(self.probabilities.shape[1])

    @property
    def mode(self) -> NDArray[np.intp]:
        """Most probable bits, (N, d)."""
        return (self.probabilities > 0.5).astype(np.intp)

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        draws = rng.random((n_samples, *self.probabilities.shape)) < self.probabilities
        return draws.astype(self.probabilities.dtype)

    def log_density(self, X: Array) -> Array:
        if not np.all((X == 0) | (X == 1)):
            raise ValueError("X must hold zeros and ones, which are what has a probability here")
        with np.errstate(divide="ignore"):
            on, off = np.log(self.probabilities), np.log1p(-self.probabilities)
        return np.where(X > 0.5, on, off).sum(axis=-1)

    def entropy(self) -> Array:
        return _bit_entropy(self.probabilities)


@dataclass(frozen=True)
class IndependentRows(DistributionWithDensity):
    """A normal distribution of independent features for each of N rows.

    Attributes
    ----------
    means : ndarray of shape (N, D)
    noise : float or ndarray of shape (D,)
        Variance of each feature, the same for all rows.
    """

    means: Array
    noise: float | Array

    @property
    def mean(self) -> Array:
        return self.means

    @property
    def variance(self) -> Array:
        return np.broadcast_to(self.noise, self.means.shape).copy()

    @property
    def covariance(self) -> Array:
        return self.variance[:, :, None] * np.eye(self.means.shape[1])

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        noise = rng.standard_normal((n_samples, *self.means.shape))
        return self.means + np.sqrt(self.noise) * noise

    def log_density(self, X: Array) -> Array:
        square = ((X - self.means) ** 2 / self.noise).sum(axis=-1)
        return -0.5 * (square + self._log_volume())

    def _log_volume(self) -> float:
        noise = np.broadcast_to(self.noise, self.means.shape[1:])
        return float(np.log(2 * np.pi * noise).sum())

    def entropy(self) -> Array:
        return np.full(len(self.means), 0.5 * (self.means.shape[1] + self._log_volume()))


@dataclass(frozen=True)
class ReconstructedRows(DistributionWithDensity):
    """The distribution of rows given the distribution of their codes, for each of N rows.

    A mixture over all codes. Where there is no closed form, codes of up to ten bits are enumerated;
    of longer ones 512 are drawn for each row, with the same random numbers at each call.

    Attributes
    ----------
    probabilities : ndarray of shape (N, d)
        Probabilities of the bits.
    weights : ndarray of shape (d, D)
    intercept : ndarray of shape (D,)
    noise : float, ndarray of shape (D,) or None
        Variance of real features; None for binary ones.
    """

    probabilities: Array
    weights: Array
    intercept: Array
    noise: float | Array | None

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.probabilities), len(self.intercept)

    def _codes(self, row: int) -> tuple[Array, Array]:
        """Return codes (M, d) of a row and their log weights (M,)."""
        p = np.asarray(self.probabilities[row], np.float64)
        if len(p) <= _ENUMERATED_BITS:
            codes = binary_states(len(p))
            with np.errstate(divide="ignore"):
                return codes, np.where(codes > 0.5, np.log(p), np.log1p(-p)).sum(axis=1)
        uniforms = np.random.default_rng(0).random((_DRAWN_CODES, len(p)))
        return (uniforms < p).astype(np.float64), np.full(_DRAWN_CODES, -np.log(_DRAWN_CODES))

    def _given(self, codes: Array) -> BernoulliCodes | IndependentRows:
        means = self.intercept + codes @ self.weights
        if self.noise is None:
            return BernoulliCodes(expit(means))
        return IndependentRows(means, self.noise)

    @property
    def mean(self) -> Array:
        if self.noise is not None:
            return self.intercept + self.probabilities @ self.weights
        means = np.empty((len(self.probabilities), len(self.intercept)))
        for row in range(len(means)):
            codes, log_weights = self._codes(row)
            means[row] = np.exp(log_weights) @ self._given(codes).mean
        return means

    @property
    def covariance(self) -> Array:
        if self.noise is not None:
            spread = self.probabilities * (1 - self.probabilities)
            between = np.einsum("nj,jd,je->nde", spread, self.weights, self.weights, optimize=True)
            return between + self.noise * np.eye(len(self.intercept))
        size = len(self.intercept)
        out = np.empty((len(self.probabilities), size, size))
        for row in range(len(out)):
            codes, log_weights = self._codes(row)
            shares, given = np.exp(log_weights), self._given(codes)
            deviations = given.mean - shares @ given.mean
            out[row] = (deviations * shares[:, None]).T @ deviations
            out[row] += np.diag(shares @ given.variance)
        return out

    @property
    def variance(self) -> Array:
        if self.noise is not None:
            spread = self.probabilities * (1 - self.probabilities)
            return spread @ self.weights**2 + self.noise
        mean = self.mean
        return mean * (1 - mean)

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        codes = BernoulliCodes(np.asarray(self.probabilities, np.float64)).sample(n_samples, rng)
        return self._given(codes).sample(1, rng)[0]

    def log_density(self, X: Array) -> Array:
        out = np.empty(X.shape[:-1])
        for row in range(len(self.probabilities)):
            codes, log_weights = self._codes(row)
            each = self._given(codes).log_density(X[..., row, None, :])
            out[..., row] = tempered_logsumexp(each + log_weights, 1.0)
        return out

    def entropy(self, n_samples: int = 200, random_state: Any = 0) -> Array:
        """Entropy in nats, (N,): minus the mean log density of draws, fixed by `random_state`."""
        return self._entropy_by_draws(n_samples, random_state)
