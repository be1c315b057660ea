"""Distributions from ``encode`` and ``decode`` of mixtures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._base import require
from skbae.energies._distribution import Distribution, DistributionWithDensity
from skbae.energies.mixture._components import DecodableFamily
from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters
from skbae.operators._draws import categorical_draws
from skbae.operators._linalg import half_log_det
from skbae.operators._tempered import tempered_logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame
    from skbae.energies.mixture._components import ComponentFamily


@dataclass(frozen=True)
class CategoricalCodes(Distribution):
    """One categorical distribution over K components for each of N rows; codes are one-hot.

    Attributes
    ----------
    probabilities : ndarray of shape (N, K)

    Examples
    --------
    >>> import numpy as np
    >>> codes = CategoricalCodes(np.array([[0.25, 0.75], [1.0, 0.0]]))
    >>> codes.variance.tolist()
    [[0.1875, 0.1875], [0.0, 0.0]]
    >>> codes.sample(3, random_state=0).shape
    (3, 2, 2)
    """

    probabilities: Array

    @property
    def mean(self) -> Array:
        """Expected one-hot code, (N, K): the probabilities."""
        return self.probabilities

    @property
    def variance(self) -> Array:
        return self.probabilities * (1 - self.probabilities)

    @property
    def covariance(self) -> Array:
        diagonal = self.probabilities[:, :, None] * np.eye(self.probabilities.shape[1])
        return diagonal - self.probabilities[:, :, None] * self.probabilities[:, None]

    @property
    def mode(self) -> NDArray[np.intp]:
        """Most probable component, (N,)."""
        return np.argmax(self.probabilities, axis=1)

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        labels = categorical_draws(np.asarray(self.probabilities, np.float64), n_samples, rng)
        return np.eye(self.probabilities.shape[1], dtype=self.probabilities.dtype)[labels]

    def entropy(self) -> Array:
        safe = np.where(self.probabilities > 0, self.probabilities, 1.0)
        return -(safe * np.log(safe)).sum(axis=1)


@dataclass(frozen=True)
class GaussianMixtureRows(DistributionWithDensity):
    """A Gaussian mixture for each of N rows, over the same K components.

    Attributes
    ----------
    probabilities : ndarray of shape (N, K)
        Weights of the components in each row's mixture.
    means : ndarray of shape (K, D)
    covariances : ndarray of shape (K, D, D)

    Examples
    --------
    >>> import numpy as np
    >>> rows = GaussianMixtureRows(
    ...     np.array([[0.5, 0.5]]), np.array([[-1.0], [1.0]]), np.ones((2, 1, 1)))
    >>> rows.mean.tolist(), rows.variance.tolist()
    ([[0.0]], [[2.0]])
    """

    probabilities: Array
    means: Array
    covariances: Array

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.probabilities), self.means.shape[1]

    @property
    def mean(self) -> Array:
        return self.probabilities @ self.means

    @property
    def variance(self) -> Array:
        within = self.probabilities @ np.diagonal(self.covariances, axis1=1, axis2=2)
        deviations = self.means - self.mean[:, None]
        return within + np.einsum("nk,nkd->nd", self.probabilities, deviations**2)

    @property
    def covariance(self) -> Array:
        within = np.einsum("nk,kde->nde", self.probabilities, self.covariances)
        deviations = self.means - self.mean[:, None]
        between = np.einsum(
            "nk,nkd,nke->nde", self.probabilities, deviations, deviations, optimize=True
        )
        return within + between

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        labels = categorical_draws(self.probabilities, n_samples, rng)
        out = rng.standard_normal((*labels.shape, self.means.shape[1]))
        lower = np.linalg.cholesky(self.covariances)
        for k in range(len(self.means)):
            chosen = labels == k
            out[chosen] = self.means[k] + out[chosen] @ lower[k].T
        return out

    def log_density(self, X: Array) -> Array:
        lower = np.linalg.cholesky(self.covariances)
        terms = np.empty((*X.shape[:-1], len(self.means)))
        with np.errstate(divide="ignore"):
            log_probabilities = np.log(self.probabilities)
        for k, (mean, factor) in enumerate(zip(self.means, lower, strict=True)):
            flat = (X - mean).reshape(-1, X.shape[-1])
            white = np.linalg.solve(factor, flat.T)
            square = np.einsum("dn,dn->n", white, white).reshape(X.shape[:-1])
            log_det = 2 * half_log_det(factor) + len(mean) * np.log(2 * np.pi)
            terms[..., k] = -0.5 * (square + log_det) + log_probabilities[:, k]
        return tempered_logsumexp(terms, 1.0)

    def entropy(self, n_samples: int = 1000, random_state: Any = 0) -> Array:
        """Entropy in nats, (N,).

        Exact for rows with a single component; otherwise minus the mean log density over
        `n_samples` draws (determined by `random_state`).
        """
        single = np.max(self.probabilities, axis=1) == 1
        log_det = np.linalg.slogdet(2 * np.pi * np.e * self.covariances)[1]
        exact = 0.5 * log_det[np.argmax(self.probabilities, axis=1)]
        if single.all():
            return exact
        mixed = GaussianMixtureRows(self.probabilities[~single], self.means, self.covariances)
        exact[~single] = mixed._entropy_by_draws(n_samples, random_state)
        return exact


class MixtureRows(DistributionWithDensity):
    """A mixture of one model's components for each of N rows.

    Parameters
    ----------
    family : ComponentFamily
        A DecodableFamily, for moments.
    components : ArrayRecord
        Of one model.
    probabilities : ndarray of shape (N, K)
        Weights of the components in each row's mixture.
    frame : Frame
    """

    def __init__(
        self, family: ComponentFamily, components: Any, probabilities: Array, frame: Frame
    ) -> None:
        self.family, self.components = family, components
        self.probabilities, self.frame = probabilities, frame

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.probabilities), len(self.frame.centre)

    def _moments(self) -> tuple[Array, Array]:
        family = require(self.family, DecodableFamily, "the expectation of rows given codes")
        means, covariances = family.row_moments(self.components)
        return means[0], covariances[0]

    def _as_gaussian(self) -> GaussianMixtureRows:
        """Return a mixture with the same moments."""
        return GaussianMixtureRows(self.probabilities, *self._moments())

    @property
    def mean(self) -> Array:
        return self._as_gaussian().mean

    @property
    def variance(self) -> Array:
        return self._as_gaussian().variance

    @property
    def covariance(self) -> Array:
        return self._as_gaussian().covariance

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        labels = categorical_draws(self.probabilities, n_samples, rng)
        flat = labels.ravel()
        rows = self.family.draw(self.components, np.zeros_like(flat), flat, rng)
        return np.asarray(rows, dtype=np.float64).reshape(*labels.shape, -1)

    def log_density(self, X: Array) -> Array:
        n = self.probabilities.shape[1]
        energy = MixtureEnergy(self.family, equal_weights=True)
        equal = MixtureParameters(np.full((1, n), 1 / n), self.components)
        flat = np.ascontiguousarray(np.reshape(X, (-1, X.shape[-1])))
        of_components = energy.bind(equal, self.frame, np.float64).joint(flat)[0] + np.log(n)
        with np.errstate(divide="ignore"):
            weights = np.log(self.probabilities)
        terms = of_components.T.reshape(*X.shape[:-1], n) + weights
        return tempered_logsumexp(terms, 1.0)

    def entropy(self, n_samples: int = 1000, random_state: Any = 0) -> Array:
        """Entropy in nats, (N,): minus the mean log density over `n_samples` draws."""
        return self._entropy_by_draws(n_samples, random_state)
