"""Distributions from ``encode`` and ``decode`` of mixtures of PCA.

The code (k, z) is written as one vector of length ``K (1 + d)``: the component, one-hot, then the d
coordinates of each component in data units, zero for all components but k. Its mean is
``[r_1..r_K | r_1 y_1 .. r_K y_K]``, and decoding is linear in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._distribution import Distribution, DistributionWithDensity
from skbae.energies.mixture._distributions import CategoricalCodes
from skbae.operators._tempered import tempered_logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


_LOG_2PIE = float(np.log(2 * np.pi * math.e))
# Variances below this fraction of the largest are rounding errors.
_DEGENERATE = 1e-14


def linear_code(probabilities: Array, coordinates: Array) -> Array:
    """Return ``[r | r y]`` of shape (N, K (1 + d)) from r (N, K) and y (N, K, d).

    Examples
    --------
    >>> linear_code(np.array([[0.25, 0.75]]), np.array([[[4.0], [8.0]]])).tolist()
    [[0.25, 0.75, 1.0, 6.0]]
    """
    n_rows, n_components, n_latent = coordinates.shape
    weighted = probabilities[..., None] * coordinates
    weighted = weighted.reshape(n_rows, n_components * n_latent)
    return np.concatenate([probabilities, weighted], axis=1)


def split_code(Z: Array, n_components: int, n_latent: int) -> tuple[Array, Array]:
    """Return r and y of a linear code; coordinates of components of probability 0 are 0."""
    probabilities, weighted = Z[:, :n_components], Z[:, n_components:]
    weighted = weighted.reshape(len(Z), n_components, n_latent)
    safe = np.where(probabilities > 0, probabilities, 1.0)[..., None]
    return probabilities, np.where(probabilities[..., None] > 0, weighted / safe, 0.0)


@dataclass(frozen=True)
class SubspaceCodes(Distribution):
    """The distribution of each row's code (k, z): k categorical, then z normal given k.

    Attributes
    ----------
    probabilities : ndarray of shape (N, K)
    coordinates : ndarray of shape (N, K, d)
        Expected coordinates under each component, in data units along its directions.
    spread : ndarray of shape (K, d) or (N, K, d, d)
        Variances of the coordinates, the same for all rows; or, where entries are missing, the
        covariances of each row's.

    Examples
    --------
    >>> codes = SubspaceCodes(np.array([[0.5, 0.5]]), np.array([[[2.0], [0.0]]]), np.ones((2, 1)))
    >>> codes.mean.tolist(), codes.variance.tolist()
    ([[0.5, 0.5, 1.0, 0.0]], [[0.25, 0.25, 1.5, 0.5]])
    >>> codes.sample(3, random_state=0).shape
    (3, 1, 4)
    """

    probabilities: Array
    coordinates: Array
    spread: Array

    @property
    def mean(self) -> Array:
        """Expected linear code, (N, K (1 + d))."""
        return linear_code(self.probabilities, self.coordinates)

    @property
    def covariances(self) -> Array:
        """Covariances of the coordinates given the component, (1, K, d, d) or (N, K, d, d)."""
        return _covariances(self.spread)

    @property
    def variance(self) -> Array:
        share = self.probabilities[..., None]
        # squares of single precision may exceed its range
        variance = share * np.diagonal(self.covariances, axis1=2, axis2=3)
        variance = variance + share * (1 - share) * np.square(self.coordinates, dtype=np.float64)
        own = self.probabilities * (1 - self.probabilities)
        size = variance[0].size
        return np.concatenate([own, variance.reshape(len(own), size)], axis=1)

    @property
    def covariance(self) -> Array:
        n_rows, n_components, n_latent = self.coordinates.shape
        # second moments of (1, y_k) for each component k, weighted by its probability
        own = np.concatenate([np.ones((n_rows, n_components, 1)), self.coordinates], axis=2)
        blocks = own[..., :, None] * own[..., None, :]
        blocks[..., 1:, 1:] += self.covariances
        blocks *= self.probabilities[..., None, None]
        mean = np.asarray(self.mean, np.float64)
        found = -mean[:, :, None] * mean[:, None]
        for k, at in enumerate(_places(n_components, n_latent)):
            found[:, at[:, None], at] += blocks[:, k]
        return found

    @property
    def mode(self) -> NDArray[np.intp]:
        """Most probable component, (N,)."""
        return np.argmax(self.probabilities, axis=1)

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        picked = CategoricalCodes(self.probabilities).sample(n_samples, rng)
        noise = rng.standard_normal((n_samples, *self.coordinates.shape))
        if self.spread.ndim == 2:
            steps = noise * np.sqrt(self.spread)
        else:
            steps = np.matmul(_roots(self.spread), noise[..., None])[..., 0]
        drawn = self.coordinates + steps
        drawn *= picked[..., None]
        n_coordinates = self.coordinates[0].size
        drawn = drawn.reshape(*picked.shape[:2], n_coordinates)
        return np.concatenate([picked, drawn.astype(picked.dtype, copy=False)], axis=2)

    def entropy(self) -> Array:
        """Return the entropy in nats, (N,): of the component, plus the expected one of coordinates.

        Coordinates of zero variance (all at T = 0; melted ones) are constants and contribute
        nothing.
        """
        values = _variances(self.spread)
        free = values > _DEGENERATE * values.max(axis=-1, keepdims=True, initial=0.0)
        own = np.where(free, 0.5 * (_LOG_2PIE + np.log(np.where(free, values, 1.0))), 0.0)
        within = (self.probabilities * own.sum(axis=2)).sum(axis=1)
        return CategoricalCodes(self.probabilities).entropy() + within


def _covariances(spread: Array) -> Array:
    """Return covariances with an axis of rows, (1, K, d, d) or (N, K, d, d)."""
    if spread.ndim == 4:
        return spread
    return spread[None, :, :, None] * np.eye(spread.shape[1])


def _roots(covariances: Array) -> Array:
    """Return matrices whose products with their transposes are covariances (..., d, d)."""
    values, vectors = np.linalg.eigh(covariances)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :])


def _variances(spread: Array) -> Array:
    """Return the variances along the axes of the covariances, (1, K, d) or (N, K, d)."""
    if spread.ndim == 2:
        return spread[None]
    return np.maximum(np.linalg.eigvalsh(spread), 0.0)


def _places(n_components: int, n_latent: int) -> NDArray[np.intp]:
    """Return where (1, y_k) of each component is in the linear code, (K, 1 + d)."""
    ones = np.arange(n_components)[:, None]
    codes = n_components + np.arange(n_components * n_latent).reshape(n_components, n_latent)
    return np.concatenate([ones, codes], axis=1)


@dataclass(frozen=True)
class SubspaceRows(DistributionWithDensity):
    """A mixture of Gaussians for each of N rows, with means in the subspaces of the components.

    Component k of row n has mean ``means_k + coordinates_nk @ components_k`` and covariance
    ``noise_k I + components_k' C components_k``, with the covariance C of the coordinates.

    Attributes
    ----------
    probabilities : ndarray of shape (N, K)
    coordinates : ndarray of shape (N, K, d)
    means : ndarray of shape (K, D)
    components : ndarray of shape (K, d, D)
    spread : ndarray of shape (K, d) or (N, K, d, d)
        As of :class:`SubspaceCodes`.
    noise : ndarray of shape (K,)

    Examples
    --------
    >>> rows = SubspaceRows(np.ones((1, 1)), np.full((1, 1, 1), 3.0), np.zeros((1, 2)),
    ...                     np.array([[[1.0, 0.0]]]), np.array([[2.0]]), np.array([0.5]))
    >>> rows.mean.tolist(), rows.variance.tolist()
    ([[3.0, 0.0]], [[2.5, 0.5]])
    """

    probabilities: Array
    coordinates: Array
    means: Array
    components: Array
    spread: Array
    noise: Array

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.probabilities), self.means.shape[1]

    def _centres(self) -> Array:
        """Return the components' means of each row, (N, K, D)."""
        return self.means + np.einsum("nki,kid->nkd", self.coordinates, self.components)

    @property
    def _covariances(self) -> Array:
        """Covariances of the components, (1, K, D, D) or (N, K, D, D)."""
        scaled = np.matmul(_covariances(self.spread), self.components)
        within = np.matmul(np.swapaxes(self.components, 1, 2), scaled)
        return within + self.noise[:, None, None] * np.eye(self.means.shape[1])

    @property
    def mean(self) -> Array:
        weighted = self.probabilities[..., None] * self.coordinates
        along = np.einsum("nki,kid->nd", weighted, self.components, optimize=True)
        return self.probabilities @ self.means + along

    @property
    def variance(self) -> Array:
        scaled = np.matmul(_covariances(self.spread), self.components)
        own = np.einsum("kid,nkid->nkd", self.components, scaled) + self.noise[:, None]
        own = own + (self._centres() - self.mean[:, None]) ** 2
        return np.einsum("nk,nkd->nd", self.probabilities, own)

    @property
    def covariance(self) -> Array:
        shares = self.probabilities[..., None, None]
        within = (
            np.einsum("nk,kde->nde", self.probabilities, self._covariances[0])
            if self.spread.ndim == 2
            else (shares * self._covariances).sum(axis=1)
        )
        deviations = self._centres() - self.mean[:, None]
        weighted = self.probabilities[..., None] * deviations
        return within + np.matmul(np.swapaxes(weighted, 1, 2), deviations)

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        picked = CategoricalCodes(self.probabilities).sample(n_samples, rng).argmax(axis=2)
        out = rng.standard_normal((*picked.shape, self.means.shape[1]))
        out *= np.sqrt(self.noise)[picked][..., None]
        shared = self.spread.ndim == 2
        roots = np.sqrt(self.spread) if shared else _roots(self.spread)
        for k, components in enumerate(self.components):
            chosen = picked == k
            rows = np.nonzero(chosen)[1]
            along = self.coordinates[rows, k]
            noise = rng.standard_normal(along.shape)
            if shared:
                along = along + noise * roots[k]
            else:
                along = along + np.matmul(roots[rows, k], noise[..., None])[..., 0]
            out[chosen] += self.means[k] + along @ components
        return out

    def log_density(self, X: Array) -> Array:
        terms = np.empty((*X.shape[:-1], len(self.means)))
        centres, size = self._centres(), self.means.shape[1]
        with np.errstate(divide="ignore"):
            log_probabilities = np.log(self.probabilities)
        values, vectors = np.linalg.eigh(_covariances(self.spread))
        for k, components in enumerate(self.components):
            deviations = X - centres[:, k]
            variances = np.maximum(values[:, k], 0.0) + self.noise[k]
            coordinates = np.matmul((deviations @ components.T)[..., None, :], vectors[:, k])
            square = np.einsum("...d,...d->...", deviations, deviations) / self.noise[k]
            gain = 1.0 / variances - 1.0 / self.noise[k]
            square += (coordinates[..., 0, :] ** 2 * gain).sum(axis=-1)
            log_det = np.log(variances).sum(axis=-1)
            log_det = log_det + (size - len(components)) * np.log(self.noise[k])
            constant = log_det + size * np.log(2 * np.pi)
            terms[..., k] = log_probabilities[:, k] - 0.5 * (square + constant)
        return tempered_logsumexp(terms, 1.0)

    def entropy(self, n_samples: int = 1000, random_state: Any = 0) -> Array:
        """Entropy in nats, (N,).

        Exact for rows with a single component; otherwise minus the mean log density over
        `n_samples` draws (determined by `random_state`).
        """
        size, d = self.means.shape[1], self.components.shape[1]
        log_det = np.log(_variances(self.spread) + self.noise[:, None]).sum(axis=2)
        log_det = log_det + (size - d) * np.log(self.noise)
        largest = self.probabilities.argmax(axis=1)
        log_det = np.broadcast_to(log_det, self.probabilities.shape)
        exact = 0.5 * (size * _LOG_2PIE + log_det[np.arange(len(largest)), largest])
        mixed = self.probabilities.max(axis=1) < 1
        if mixed.any():
            part = SubspaceRows(
                self.probabilities[mixed],
                self.coordinates[mixed],
                self.means,
                self.components,
                self.spread if self.spread.ndim == 2 else self.spread[mixed],
                self.noise,
            )
            exact[mixed] = part._entropy_by_draws(n_samples, random_state)
        return exact
