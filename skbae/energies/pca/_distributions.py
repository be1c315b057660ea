"""Distributions from ``encode`` and ``decode`` of PCA.

A code is given in data units along the orthonormal components of one reference model. Of several
models, each has its own posterior of the point ``W z + mu`` behind a row; in the reference's
coordinates these are normal distributions of which each is as probable as any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._distribution import Distribution, DistributionWithDensity
from skbae.operators._sparse import SparseRows
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.pca._energy import PCAParameters


_LOG_2PI = float(np.log(2 * np.pi))
# Variances below this fraction of the largest are rounding errors.
_DEGENERATE = 1e-14


def posterior_codes(
    X: NDArray[Any], params: PCAParameters, mean: Array, components: Array, temperature: float
) -> tuple[Array, Array]:
    """Return ``p_T(z | x, m)`` of S models, in the coordinates of a reference.

    A model's own code has mean ``(1 - s2 p_i) u_i' (x - mu)`` and variance ``T s2 (1 - s2 p_i)``
    along its components; the point it stands for is projected on those of the reference.

    Parameters
    ----------
    X : ndarray of shape (N, D) or SparseRows
    params : PCAParameters
        S models.
    mean : ndarray of shape (D,)
    components : ndarray of shape (d, D)
        Of the reference.
    temperature : float

    Returns
    -------
    coordinates : ndarray of shape (S, N, d)
    covariances : ndarray of shape (S, d, d)
    """
    shrink = np.maximum(params.shrink, 0.0)
    turned = np.matmul(components, np.swapaxes(params.components, 1, 2))  # (S, d, own d)
    encoders = np.matmul(turned * shrink[:, None], params.components)
    spread = temperature * params.noise[:, None] * shrink
    covariances = np.matmul(turned * spread[:, None], np.swapaxes(turned, 1, 2))
    offset = params.means - mean
    shift = offset @ components.T - np.einsum("sde,se->sd", encoders, offset)
    if isinstance(X, SparseRows):
        shift = shift - encoders @ mean
        flat = X @ encoders.reshape(-1, X.shape[1]).T
        coordinates = np.moveaxis(flat.reshape(len(X), *shift.shape), 0, 1) + shift[:, None]
    else:
        coordinates = np.matmul(X - mean, np.swapaxes(encoders, 1, 2)) + shift[:, None]
    return coordinates, covariances


@dataclass(frozen=True)
class GaussianCodes(Distribution):
    """The distribution of each row's code: normal, or a mixture of S equally probable normals.

    Attributes
    ----------
    coordinates : ndarray of shape (S, N, d)
        Expected codes under each of S models.
    covariances : ndarray of shape (S, d, d) or (S, N, d, d)
        Their covariances: the same for all rows, or, where entries are missing, by row.

    Examples
    --------
    >>> codes = GaussianCodes(np.array([[[1.0]], [[3.0]]]), np.array([[[0.5]], [[0.5]]]))
    >>> codes.mean.tolist(), codes.variance.tolist(), codes.covariance.tolist()
    ([[2.0]], [[1.5]], [[[1.5]]])
    >>> codes.sample(3, random_state=0).shape
    (3, 1, 1)
    """

    coordinates: Array
    covariances: Array

    @property
    def by_row(self) -> Array:
        """The covariances with an axis of rows, (S, 1, d, d) or (S, N, d, d)."""
        shared = self.covariances.ndim == 3
        return self.covariances[:, None] if shared else self.covariances

    @property
    def mean(self) -> Array:
        return self.coordinates.mean(axis=0)

    @property
    def variance(self) -> Array:
        within = np.diagonal(self.by_row.mean(axis=0), axis1=1, axis2=2)
        return within + self.coordinates.var(axis=0)

    @property
    def covariance(self) -> Array:
        """Covariance of each row's code, (N, d, d): within models and between them."""
        deviations = np.moveaxis(self.coordinates - self.mean, 0, 1)  # (N, S, d)
        between = np.matmul(np.swapaxes(deviations, 1, 2), deviations)
        return self.by_row.mean(axis=0) + between / len(self.coordinates)

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        n_models, n_rows, size = self.coordinates.shape
        models = rng.integers(n_models, size=(n_samples, n_rows))
        values, vectors = np.linalg.eigh(self.by_row)
        roots = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
        drawn = rng.standard_normal((n_samples, n_rows, size))
        for model, own in enumerate(roots):
            chosen = models == model
            rows = np.nonzero(chosen)[1]
            if len(own) == 1:
                steps = drawn[chosen] @ own[0].T
            else:
                steps = np.matmul(own[rows], drawn[chosen][..., None])[..., 0]
            drawn[chosen] = steps + self.coordinates[model][rows]
        return drawn.astype(self.coordinates.dtype, copy=False)

    def entropy(self) -> Array:
        """Entropy in nats, (N,).

        Exact for a single model; for several, that of the normal distribution with the same
        covariance, which is an upper bound. Directions without any variance (all of them at T = 0
        with one model; melted ones) are constants and count for nothing.
        """
        n_models, n_rows = self.coordinates.shape[:2]
        covariances = self.by_row[0] if n_models == 1 else self.covariance
        return np.broadcast_to(_normal_entropy(np.linalg.eigvalsh(covariances)), n_rows).copy()


def _normal_entropy(variances: NDArray[Any]) -> Array:
    """Return the entropy of normals with variances (..., d) along their axes."""
    free = variances > _DEGENERATE * variances.max(axis=-1, keepdims=True, initial=0.0)
    logs = np.log(np.where(free, variances, 1.0))
    return 0.5 * np.where(free, 1 + _LOG_2PI + logs, 0.0).sum(axis=-1)


@dataclass(frozen=True)
class GaussianRows(DistributionWithDensity):
    """The distribution of a row for each of N codes: normal, with the decoded code as mean.

    With a distribution of codes, theirs and the noise add up.

    Attributes
    ----------
    codes : GaussianCodes
        In data units; without variance for given codes.
    means : ndarray of shape (D,)
        Where the code zero is.
    components : ndarray of shape (d, D)
        Orthonormal.
    noise : float
        Variance s2 of each feature about the point.

    Examples
    --------
    >>> codes = GaussianCodes(np.full((1, 1, 1), 3.0), np.full((1, 1, 1), 2.0))
    >>> rows = GaussianRows(codes, np.zeros(2), np.array([[1.0, 0.0]]), 0.5)
    >>> rows.mean.tolist(), rows.variance.tolist()
    ([[3.0, 0.0]], [[2.5, 0.5]])
    """

    codes: GaussianCodes
    means: Array
    components: Array
    noise: float

    @property
    def mean(self) -> Array:
        return self.means + self.codes.mean @ self.components

    @property
    def variance(self) -> Array:
        along = np.matmul(self.codes.covariance, self.components)
        return np.einsum("nie,ie->ne", along, self.components) + self.noise

    @property
    def covariance(self) -> Array:
        along = np.matmul(self.codes.covariance, self.components)
        return np.matmul(self.components.T, along) + self.noise * np.eye(len(self.means))

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        points = self.means + self.codes.sample(n_samples, rng) @ self.components
        return points + np.sqrt(self.noise) * rng.standard_normal(points.shape)

    def log_density(self, X: Array) -> Array:
        size, d = len(self.means), len(self.components)
        deviations = X - self.means
        coordinates = deviations @ self.components.T
        residual = deviations - coordinates @ self.components
        constant = -0.5 * (size * _LOG_2PI + (size - d) * np.log(self.noise))
        outside = constant - 0.5 * np.einsum("...d,...d->...", residual, residual) / self.noise
        terms = []
        values, vectors = np.linalg.eigh(self.codes.by_row)
        for centre, variances, axes in zip(self.codes.coordinates, values, vectors, strict=True):
            spread = np.maximum(variances, 0.0) + self.noise
            along = coordinates - centre
            if len(axes) == 1:
                along = along @ axes[0]
            else:
                along = np.matmul(along[..., None, :], axes)[..., 0, :]
            square = (along**2 / spread).sum(axis=-1)
            terms.append(outside - 0.5 * (square + np.log(spread).sum(axis=-1)))
        return log_mean_exp(np.stack(terms))

    def entropy(self) -> Array:
        """Entropy in nats, (N,); for codes of several models an upper bound, as theirs."""
        size, d = len(self.means), len(self.components)
        n_models, n_rows = self.codes.coordinates.shape[:2]
        covariances = self.codes.by_row[0] if n_models == 1 else self.codes.covariance
        variances = np.maximum(np.linalg.eigvalsh(covariances), 0.0) + self.noise
        logs = np.log(variances).sum(axis=-1) + (size - d) * np.log(self.noise)
        own = 0.5 * (size * (1 + _LOG_2PI) + logs)
        return np.broadcast_to(own, n_rows).copy()
