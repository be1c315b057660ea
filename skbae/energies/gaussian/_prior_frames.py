"""Rows, and scales of components, in the frame in which the prior's scale is the identity.

A scale's determinant changes by a known factor when a row joins or leaves: see
``gaussian/_collapsed.py``. Each shape of covariance has its own way to all factors at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from skbae._types import Array
from skbae.energies._allocations import Labels
from skbae.energies.gaussian._covariance import CovarianceShape, Diagonal, Full, Spherical
from skbae.operators._linalg import half_log_det, triangular_inverse
from skbae.operators._small_matrices import inverses

# Smallest factor by which a row that leaves may multiply a determinant: less is rounding error.
_LEAST_SHARE = 1e-12
# Up to so many features, sums are taken to the units of the data by one product.
_FEW_FEATURES = 8
# Factors of a determinant that are multiplied before a logarithm is taken.
_FACTORS = 12


class FramedRows:
    """Rows in the frame of the prior, and their features: quadratic ones, then the row."""

    def __init__(self, white: Array, quadratic: Array) -> None:
        self.white, self.n_quadratic = white, quadratic.shape[1]
        self.features = np.concatenate([quadratic, white], axis=1)
        ones = np.ones((len(white), 1))
        # what squared distances are products with
        self.transposed = np.ascontiguousarray(np.hstack([self.features, ones]).T)
        self.columns = np.ascontiguousarray(white.T)

    def take(self, index: NDArray[np.intp]) -> FramedRows:
        return FramedRows(self.white[index], self.features[index, : self.n_quadratic])


class OwnComponents:
    """Where the values of each row's own component are in arrays (S, K) and (S, K, N).

    Parameters
    ----------
    labels : ndarray of int of shape (S, N)
    n_components : int
    """

    def __init__(self, labels: Labels, n_components: int) -> None:
        n_chains, n_rows = self.shape = labels.shape
        self.labels = labels
        self._pairs = labels + n_components * np.arange(n_chains)[:, None]
        self._entries = self._pairs * n_rows + np.arange(n_rows)

    def of(self, values: Array) -> Array:
        """Return the values (S, K) or (S, K, N) of own components, (S, N)."""
        return values.take(self._pairs if values.ndim == 2 else self._entries)

    def put(self, values: Array, new: Array) -> None:
        """Replace the values (S, K, N) of own components by new ones (S, N)."""
        values.put(self._entries, new)


class PriorFrame(ABC):
    """A shape of covariance in the frame where the prior's scale is the identity.

    Scales (S, C, P) are held as sums of quadratic features are.
    """

    def __init__(self, shape: CovarianceShape, scale: Array) -> None:
        self.shape, self.scale, self.n_features = shape, scale, shape.n_features

    degrees_per_row: int
    identity: Array
    """The prior's scale in the frame, (P,)."""
    log_volume: float
    """Half the log determinant of the prior's scale as a D x D matrix."""

    @staticmethod
    def operations(shape: CovarianceShape) -> float:
        """Return the approximate number of operations for one row and one component."""
        return shape.n_quadratic + shape.n_features + 20.0

    @abstractmethod
    def whiten(self, rows: Array) -> Array:
        """Return rows (..., D) in the frame."""

    @abstractmethod
    def squares(self, rows: Array) -> Array:
        """Return the quadratic features of rows (..., D), (..., P)."""

    @abstractmethod
    def unwhiten_moments(self, first: Array, second: Array) -> tuple[Array, Array]:
        """Return sums of rows and of their squares in the units of the data."""

    @abstractmethod
    def log_gammas(self, dof: Array) -> Array:
        """Return the log normaliser G of the precision's density."""

    @abstractmethod
    def factorise(self, scales: Array) -> tuple[Array, Array]:
        """Return what :meth:`log_growth` needs of scales, and their log determinants (S, C)."""

    @abstractmethod
    def log_growth(
        self,
        factors: Array,
        means: Array,
        joining: Array,
        leaving: Array,
        rows: FramedRows,
        own: OwnComponents,
    ) -> tuple[Array, Array]:
        """Return the log of the factor by which ``|S|`` of each component changes.

        Parameters
        ----------
        factors
            Of S x K scales.
        means : ndarray of shape (S, K, D)
        joining, leaving : ndarrays of shape (S, K)
            The factors of q when a row joins, and when it leaves.
        rows : FramedRows
        own : OwnComponents
            Each row's component.

        Returns
        -------
        grown : ndarray of shape (S, K, N)
            When a row joins.
        shrunk : ndarray of shape (S, N)
            When it leaves its own component.
        """

    @abstractmethod
    def log_shift(
        self,
        factors: Array,
        means: Array,
        joining: Array,
        leaving: Array,
        rows: FramedRows,
        own: OwnComponents,
    ) -> Array:
        """Return the log of the factor by which the shared ``|S|`` changes, (S, K, N).

        A row leaves its own component for another; `factors` are those of S x 1 scales, the
        other arguments those of :meth:`log_growth`.
        """


class _FullFrame(PriorFrame):
    degrees_per_row = 1

    def __init__(self, shape: CovarianceShape, scale: Array) -> None:
        super().__init__(shape, scale)
        self.lower: Array = np.linalg.cholesky(scale).astype(np.float64)
        self.inverse = triangular_inverse(self.lower)
        self.log_volume = float(half_log_det(self.lower))
        self._upper = np.triu_indices(self.n_features)
        # where the entries of a matrix are among those of its upper triangle
        self._places = np.empty((self.n_features, self.n_features), dtype=np.intp)
        self._places[self._upper] = self._places[self._upper[::-1]] = np.arange(len(self._upper[0]))
        self.identity = np.eye(self.n_features)[self._upper]
        self._unwhitening: Array | None = None
        if self.n_features <= _FEW_FEATURES:
            units = np.eye(len(self.identity)).take(self._places, axis=-1)
            self._unwhitening = (self.lower @ units @ self.lower.T).reshape(len(units), -1)
        self._twice = np.where(self._upper[0] == self._upper[1], 1.0, 2.0)

    def whiten(self, rows: Array) -> Array:
        return rows @ self.inverse.T

    def squares(self, rows: Array) -> Array:
        return rows[..., self._upper[0]] * rows[..., self._upper[1]]

    def unwhiten_moments(self, first: Array, second: Array) -> tuple[Array, Array]:
        if self._unwhitening is not None:
            square = second @ self._unwhitening
            return first @ self.lower.T, square.reshape(*second.shape[:-1], *self.lower.shape)
        square = second.take(self._places, axis=-1)
        return first @ self.lower.T, self.lower @ square @ self.lower.T

    def log_gammas(self, dof: Array) -> Array:
        return gammaln(0.5 * (dof[..., None] - np.arange(self.n_features))).sum(axis=-1)

    def factorise(self, scales: Array) -> tuple[Array, Array]:
        """Return inverses, (D, D, S C), and log determinants."""
        packed = np.ascontiguousarray(scales.reshape(-1, scales.shape[-1]).T)
        inverse, log_det = inverses(packed.take(self._places, axis=0))
        return inverse, log_det.reshape(scales.shape[:-1])

    def _distances(self, inverse: Array, means: Array, rows: FramedRows) -> Array:
        size, n_quadratic = self.n_features, rows.n_quadratic
        columns = means.reshape(-1, size).T
        coefficients = np.empty((len(rows.transposed), columns.shape[1]))
        np.multiply(inverse[self._upper], self._twice[:, None], out=coefficients[:n_quadratic])
        pulled = np.einsum("ijn,jn->in", inverse, columns)
        np.multiply(pulled, -2.0, out=coefficients[n_quadratic:-1])
        np.einsum("in,in->n", pulled, columns, out=coefficients[-1])
        q = coefficients.T @ rows.transposed
        np.maximum(q, 0.0, out=q)
        return q.reshape(*means.shape[:2], -1)

    def log_growth(
        self,
        factors: Array,
        means: Array,
        joining: Array,
        leaving: Array,
        rows: FramedRows,
        own: OwnComponents,
    ) -> tuple[Array, Array]:
        return _growth_of(self._distances(factors, means, rows), joining, leaving, own)

    def log_shift(
        self,
        factors: Array,
        means: Array,
        joining: Array,
        leaving: Array,
        rows: FramedRows,
        own: OwnComponents,
    ) -> Array:
        inverse = np.moveaxis(factors, -1, 0)  # (S, D, D)
        pulled = np.matmul(means, inverse)  # (S, K, D)
        pulled_rows = np.matmul(inverse, rows.columns)  # (S, D, N)
        square = np.einsum("dn,sdn->sn", rows.columns, pulled_rows)
        along = pulled @ rows.columns  # (S, K, N)
        gram = np.matmul(pulled, np.swapaxes(means, 1, 2))  # (S, K, K)
        q = square[:, None] - 2 * along + np.diagonal(gram, axis1=1, axis2=2)[..., None]
        np.maximum(q, 0.0, out=q)
        chains = np.arange(len(means))[:, None]
        of_own = np.swapaxes(gram[chains, own.labels], 1, 2)  # (S, K, N)
        cross = square[:, None] - own.of(along)[:, None] - along + of_own
        grow, shrink = joining[..., None], own.of(leaving)[:, None]
        share = (1 - shrink * own.of(q)[:, None]) * (1 + grow * q) + shrink * grow * cross**2
        return np.log(np.maximum(share, _LEAST_SHARE))


class _DiagonalFrame(PriorFrame):
    degrees_per_row = 1

    @staticmethod
    def operations(shape: CovarianceShape) -> float:
        # a determinant is a product over features, formed element by element
        return 8.0 * shape.n_features + 20.0

    def __init__(self, shape: CovarianceShape, scale: Array) -> None:
        super().__init__(shape, scale)
        self.deviation = np.sqrt(scale)
        self.log_volume = float(np.log(self.deviation).sum())
        self.identity = np.ones(self.n_features)

    def whiten(self, rows: Array) -> Array:
        return rows / self.deviation

    def squares(self, rows: Array) -> Array:
        return rows**2

    def unwhiten_moments(self, first: Array, second: Array) -> tuple[Array, Array]:
        return first * self.deviation, second * self.scale

    def log_gammas(self, dof: Array) -> Array:
        return self.n_features * gammaln(0.5 * dof)

    def factorise(self, scales: Array) -> tuple[Array, Array]:
        return scales, np.log(scales).sum(axis=-1)

    def log_growth(
        self,
        factors: Array,
        means: Array,
        joining: Array,
        leaving: Array,
        rows: FramedRows,
        own: OwnComponents,
    ) -> tuple[Array, Array]:
        grown = np.zeros((*means.shape[:2], len(rows.white)))
        shrunk = np.zeros(own.shape)
        factor, own_factor = np.ones_like(grown), np.ones_like(shrunk)
        leave = own.of(leaving)
        deviation = np.empty_like(grown)
        for d, column in enumerate(rows.columns):
            np.subtract(column, means[..., d, None], out=deviation)
            np.square(deviation, out=deviation)
            deviation /= factors[..., d, None]
            own_factor *= np.maximum(1 - leave * own.of(deviation), _LEAST_SHARE)
            deviation *= joining[..., None]
            deviation += 1
            factor *= deviation
            if (d + 1) % _FACTORS == 0 or d + 1 == self.n_features:
                grown += np.log(factor)
                shrunk += np.log(own_factor)
                factor[...], own_factor[...] = 1.0, 1.0
        return grown, shrunk

    def log_shift(
        self,
        factors: Array,
        means: Array,
        joining: Array,
        leaving: Array,
        rows: FramedRows,
        own: OwnComponents,
    ) -> Array:
        value = np.zeros((*means.shape[:2], len(rows.white)))
        factor = np.ones_like(value)
        leave = own.of(leaving)[:, None]
        for d, column in enumerate(rows.columns):
            square = (column - means[..., d, None]) ** 2
            change = joining[..., None] * square - leave * own.of(square)[:, None]
            factor *= np.maximum(1 + change / factors[:, 0, d, None, None], _LEAST_SHARE)
            if (d + 1) % _FACTORS == 0 or d + 1 == self.n_features:
                value += np.log(factor)
                factor[...] = 1.0
        return value


class _SphericalFrame(PriorFrame):
    def __init__(self, shape: CovarianceShape, scale: Array) -> None:
        super().__init__(shape, scale)
        self.degrees_per_row = self.n_features
        self.deviation = float(np.sqrt(scale))
        self.log_volume = self.n_features * float(np.log(self.deviation))
        self.identity = np.ones(1)

    def whiten(self, rows: Array) -> Array:
        return rows / self.deviation

    def squares(self, rows: Array) -> Array:
        return np.einsum("...d,...d->...", rows, rows)[..., None]

    def unwhiten_moments(self, first: Array, second: Array) -> tuple[Array, Array]:
        return first * self.deviation, second[..., 0] * self.scale

    def log_gammas(self, dof: Array) -> Array:
        return gammaln(0.5 * dof)

    def factorise(self, scales: Array) -> tuple[Array, Array]:
        return scales, np.log(scales[..., 0])

    def _squares(self, means: Array, rows: FramedRows) -> Array:
        """Return squared distances (S, K, N)."""
        ones = np.ones((*means.shape[:2], 1))
        square = np.einsum("skd,skd->sk", means, means)[..., None]
        coefficients = np.concatenate([ones, -2 * means, square], axis=-1)
        q = coefficients.reshape(-1, coefficients.shape[-1]) @ rows.transposed
        np.maximum(q, 0.0, out=q)
        return q.reshape(*means.shape[:2], -1)

    def log_growth(
        self,
        factors: Array,
        means: Array,
        joining: Array,
        leaving: Array,
        rows: FramedRows,
        own: OwnComponents,
    ) -> tuple[Array, Array]:
        return _growth_of(self._squares(means, rows) / factors, joining, leaving, own)

    def log_shift(
        self,
        factors: Array,
        means: Array,
        joining: Array,
        leaving: Array,
        rows: FramedRows,
        own: OwnComponents,
    ) -> Array:
        q = self._squares(means, rows)
        change = joining[..., None] * q - (own.of(leaving) * own.of(q))[:, None]
        return np.log(np.maximum(1 + change / factors, _LEAST_SHARE))


def _growth_of(q: Array, joining: Array, leaving: Array, own: OwnComponents) -> tuple[Array, Array]:
    """Return ``log(1 + joining q)`` in place of q, and ``log(1 - leaving q)`` of own components."""
    shrunk = np.log(np.maximum(1 - own.of(leaving) * own.of(q), _LEAST_SHARE))
    q *= joining[..., None]
    q += 1
    return np.log(q, out=q), shrunk


FRAMES: dict[type[CovarianceShape], type[PriorFrame]] = {
    Full: _FullFrame,
    Diagonal: _DiagonalFrame,
    Spherical: _SphericalFrame,
}
