"""Three shapes of a Gaussian's covariance: full, diagonal, spherical.

All functions that depend on the shape are here, behind one interface. Whether all components share
one covariance is not part of the shape, but the length of the axis C (K, or 1 if tied). Precisions
are stored as Cholesky factors, as in scikit-learn: for ``full`` an upper triangular ``U`` with
``precision = U U'``, otherwise inverse standard deviations.

A *moment* of this shape is the part of ``x x'`` that the log density depends on: all of it, its
diagonal, or its trace.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.operators._linalg import half_log_det, triangular_inverse
from skbae.operators._small_matrices import matrix_times, products, times_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


# Squared pivots of a Cholesky factor below this times D times the variance are rounding errors.
_PIVOT_TOLERANCE = 4 * float(np.finfo(np.float64).eps)


class CovarianceShape(ABC):
    """Functions of the shape; arrays called `factors` have shape (S, C) + `tail`."""

    name: str

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features

    @property
    @abstractmethod
    def tail(self) -> tuple[int, ...]:
        """Shape of one covariance: (D, D), (D,) or ()."""

    @property
    @abstractmethod
    def n_quadratic(self) -> int:
        """Number of quadratic features of a row."""

    @property
    @abstractmethod
    def n_free(self) -> int:
        """Number of free parameters of one covariance."""

    @abstractmethod
    def write_quadratic(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the quadratic features of `x`, (D, n), into `out`, (n_quadratic, n)."""

    @abstractmethod
    def quadratic_coefficients(self, factors: Array) -> Array:
        """Return ``-x' P x / 2`` as coefficients of the quadratic features: (S, C, n_quadratic)."""

    @abstractmethod
    def unpack(self, sums: Array) -> Array:
        """Turn sums of quadratic features, (..., n_quadratic), into moments, (...) + tail."""

    @abstractmethod
    def pack(self, moments: Array) -> Array:
        """Return packed moments; their product with the coefficients is ``-tr(P M) / 2``."""

    @abstractmethod
    def apply_precision(self, factors: Array, vectors: Array) -> Array:
        """Return ``P v`` for vectors of shape (S, C or K, D)."""

    @abstractmethod
    def whiten(self, deviations: Array, factor: Array) -> Array:
        """Return rows ``d' U`` for deviations (n, D) and a single factor."""

    @abstractmethod
    def colour(self, noise: Array, factor: Array) -> Array:
        """Return noise (n, D) transformed to have the covariance of the factor."""

    @abstractmethod
    def half_log_det(self, factors: Array) -> Array:
        """Return half the log determinant of the precisions, (S, C)."""

    @abstractmethod
    def magnitude(self, factors: Array, reach: Array) -> Array:
        """Bound the sum of absolute terms of ``x' P x`` for ``|x_i| <= reach_i``, (S, K, D)."""

    @abstractmethod
    def moment(self, vectors: Array) -> Array:
        """Return the moment of single vectors (..., D): shape (...) + tail."""

    @abstractmethod
    def cross_moment(self, first: Array, second: Array) -> Array:
        """Return the moment of ``a + b`` minus those of a and of b, (...) + tail."""

    @abstractmethod
    def covariance_gradient(self, factors: Array, counts: Array, scatter: Array) -> Array:
        """Return the gradient of ``counts log det(P) / 2 - tr(P scatter) / 2`` in covariances.

        Of shape (S, C) + tail; that of a matrix is symmetric, so that its product with a symmetric
        change, summed over all entries, is what the change makes.
        """

    @abstractmethod
    def sum_moment(self, deviations: Array, weights: Array) -> Array:
        """Return the moment of deviations (n, D), weighted: shape tail."""

    @abstractmethod
    def from_scatter(self, scatter: Array, counts: Array, floor: Array | float) -> Array:
        """Return the covariances ``scatter / counts + floor``, (S, C) + tail.

        The floor is a number, or one for each feature, (D,), of which spherical covariances take
        the mean.
        """

    @abstractmethod
    def to_moment(self, covariances: Array, floor: Array | float) -> Array:
        """Return the scatter of which :meth:`from_scatter` with count one gives the covariances."""

    @abstractmethod
    def smallest_ratio(self, covariances: Array, floor: Array, of: NDArray[np.bool_]) -> Array:
        """Return the smallest variance in any direction, relative to that of a floor.

        Parameters
        ----------
        covariances : ndarray of shape (C,) + tail
        floor : ndarray of shape (D,)
            Positive.
        of : ndarray of bool of shape (D,)
            The features that count.

        Returns
        -------
        ndarray of shape (C,)
        """

    @abstractmethod
    def factorise(self, covariances: Array) -> Array:
        """Return the factors of covariances; raise LinAlgError if one is singular."""

    @abstractmethod
    def factorise_precision(self, precisions: Array) -> Array:
        """Return the factors of precisions; raise LinAlgError if one is singular."""

    @abstractmethod
    def covariances(self, factors: Array) -> Array:
        """Return the covariances that belong to factors."""

    @abstractmethod
    def precisions(self, factors: Array) -> Array:
        """Return the precisions that belong to factors."""

    @abstractmethod
    def expand(self, covariances: Array) -> Array:
        """Return (..., D, D) matrices."""

    @abstractmethod
    def diagonal(self, covariances: Array) -> Array:
        """Return the variances (..., D) in covariances of shape (...) + tail."""

    @abstractmethod
    def isotropic(self, variances: Array) -> Array:
        """Return covariances that are these multiples (...) of the identity."""

    def lift(self, values: Array) -> Array:
        """Add trailing axes so that values (...) multiply arrays of shape (...) + tail."""
        return values.reshape(values.shape + (1,) * len(self.tail))


class Full(CovarianceShape):
    """Any positive definite matrix."""

    name = "full"

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        # one diagonal after the other: of so many rows, so far from the main one
        rows = np.concatenate([np.arange(n_features - offset) for offset in range(n_features)])
        columns = rows + np.repeat(np.arange(n_features), np.arange(n_features, 0, -1))
        # where the entries of the upper triangle are in a matrix, and where those of a matrix are
        # among them
        self._upper = rows * n_features + columns
        self._places = np.empty((n_features, n_features), dtype=np.intp)
        self._places[rows, columns] = self._places[columns, rows] = np.arange(len(rows))
        self._signs = np.where(rows == columns, -0.5, -1.0)

    @property
    def tail(self) -> tuple[int, ...]:
        return (self.n_features, self.n_features)

    @property
    def n_quadratic(self) -> int:
        return self.n_features * (self.n_features + 1) // 2

    @property
    def n_free(self) -> int:
        return self.n_quadratic

    def write_quadratic(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        start = 0
        for offset in range(self.n_features):
            stop = start + self.n_features - offset
            np.multiply(x[: self.n_features - offset], x[offset:], out=out[start:stop])
            start = stop

    def quadratic_coefficients(self, factors: Array) -> Array:
        return self.pack(self.precisions(factors)) * self._signs

    def unpack(self, sums: Array) -> Array:
        return sums.take(self._places, axis=-1)

    def pack(self, moments: Array) -> Array:
        return moments.reshape(*moments.shape[:-2], -1).take(self._upper, axis=-1)

    def apply_precision(self, factors: Array, vectors: Array) -> Array:
        return matrix_times(factors, times_matrix(vectors, factors))

    def whiten(self, deviations: Array, factor: Array) -> Array:
        return deviations @ factor

    def colour(self, noise: Array, factor: Array) -> Array:
        return noise @ triangular_inverse(factor.T).T

    def half_log_det(self, factors: Array) -> Array:
        return half_log_det(factors)

    def magnitude(self, factors: Array, reach: Array) -> Array:
        size = np.abs(self.precisions(factors))
        return np.matmul(np.matmul(reach[..., None, :], size), reach[..., None])[..., 0, 0]

    def moment(self, vectors: Array) -> Array:
        return vectors[..., :, None] * vectors[..., None, :]

    def cross_moment(self, first: Array, second: Array) -> Array:
        outer = first[..., :, None] * second[..., None, :]
        return outer + outer.swapaxes(-1, -2)

    def covariance_gradient(self, factors: Array, counts: Array, scatter: Array) -> Array:
        # U (U'SU - counts) U' / 2, in which nothing cancels but what is small at a fit
        white = np.matmul(factors.swapaxes(-1, -2), np.matmul(scatter, factors))
        white = white - counts[..., None, None] * np.eye(self.n_features)
        return 0.5 * np.matmul(np.matmul(factors, white), factors.swapaxes(-1, -2))

    def sum_moment(self, deviations: Array, weights: Array) -> Array:
        return deviations.T @ (deviations * weights[:, None])

    def from_scatter(self, scatter: Array, counts: Array, floor: Array | float) -> Array:
        covariances = np.divide(scatter, self.lift(counts), order="C")
        flat = covariances.reshape(*covariances.shape[:-2], -1)  # a view
        flat[..., :: self.n_features + 1] += floor
        return covariances

    def smallest_ratio(self, covariances: Array, floor: Array, of: NDArray[np.bool_]) -> Array:
        chosen, own = covariances[..., of, :][..., :, of], np.sqrt(floor[of])
        return np.asarray(np.linalg.eigvalsh(chosen / own[:, None] / own)[..., 0])

    def to_moment(self, covariances: Array, floor: Array | float) -> Array:
        return covariances - floor * np.eye(self.n_features)

    def factorise(self, covariances: Array) -> Array:
        lower = np.linalg.cholesky(covariances)
        # cholesky may succeed with a pivot that is a rounding error: the covariance is singular
        # then
        pivots = lower.diagonal(axis1=-2, axis2=-1) ** 2
        variances = covariances.diagonal(axis1=-2, axis2=-1)
        if (pivots < _PIVOT_TOLERANCE * self.n_features * variances).any():
            raise np.linalg.LinAlgError("a covariance is singular to rounding error")
        return np.swapaxes(triangular_inverse(np.asarray(lower, np.float64)), -1, -2)

    def factorise_precision(self, precisions: Array) -> Array:
        # the upper factor U with P = U U' is the lower factor of P with rows and columns reversed
        flipped = np.linalg.cholesky(precisions[..., ::-1, ::-1])
        return np.ascontiguousarray(flipped[..., ::-1, ::-1])

    def covariances(self, factors: Array) -> Array:
        lower = triangular_inverse(factors.swapaxes(-1, -2))
        return np.matmul(lower, lower.swapaxes(-1, -2))

    def precisions(self, factors: Array) -> Array:
        return products(factors, factors.swapaxes(-1, -2))

    def expand(self, covariances: Array) -> Array:
        return covariances

    def diagonal(self, covariances: Array) -> Array:
        return covariances.diagonal(axis1=-2, axis2=-1)

    def isotropic(self, variances: Array) -> Array:
        return variances[..., None, None] * np.eye(self.n_features)


class _Elementwise(CovarianceShape):
    """Base of diagonal and spherical covariances: factors are inverse standard deviations."""

    def factorise(self, covariances: Array) -> Array:
        if not np.all(covariances > 0):
            raise np.linalg.LinAlgError("a variance is not positive")
        return 1.0 / np.sqrt(covariances)

    def factorise_precision(self, precisions: Array) -> Array:
        if not np.all(precisions > 0):
            raise np.linalg.LinAlgError("a precision is not positive")
        return np.sqrt(precisions)

    def covariances(self, factors: Array) -> Array:
        return 1.0 / factors**2

    def precisions(self, factors: Array) -> Array:
        return factors**2

    def whiten(self, deviations: Array, factor: Array) -> Array:
        return deviations * factor

    def colour(self, noise: Array, factor: Array) -> Array:
        return noise / factor

    def from_scatter(self, scatter: Array, counts: Array, floor: Array | float) -> Array:
        return scatter / self.lift(counts) / self._degrees + self._one_for_each(floor)

    def to_moment(self, covariances: Array, floor: Array | float) -> Array:
        return (covariances - self._one_for_each(floor)) * self._degrees

    @abstractmethod
    def _one_for_each(self, floor: Array | float) -> Array | float:
        """Return what a floor adds to each variance of one covariance."""

    def smallest_ratio(self, covariances: Array, floor: Array, of: NDArray[np.bool_]) -> Array:
        ratios = (covariances / self._one_for_each(floor)).reshape(len(covariances), -1)
        return np.asarray((ratios[:, of] if self.tail else ratios).min(axis=1))

    def covariance_gradient(self, factors: Array, counts: Array, scatter: Array) -> Array:
        precisions = factors**2
        degrees = self._degrees * self.lift(counts)
        return 0.5 * precisions * (precisions * scatter - degrees)

    @property
    @abstractmethod
    def _degrees(self) -> int:
        """Number of squares that the moment of one row sums."""


class Diagonal(_Elementwise):
    """One variance for each feature."""

    name = "diag"
    _degrees = 1

    @property
    def tail(self) -> tuple[int, ...]:
        return (self.n_features,)

    @property
    def n_quadratic(self) -> int:
        return self.n_features

    @property
    def n_free(self) -> int:
        return self.n_features

    def write_quadratic(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        np.multiply(x, x, out=out)

    def quadratic_coefficients(self, factors: Array) -> Array:
        return -0.5 * factors**2

    def unpack(self, sums: Array) -> Array:
        return sums

    def pack(self, moments: Array) -> Array:
        return moments

    def apply_precision(self, factors: Array, vectors: Array) -> Array:
        return factors**2 * vectors

    def half_log_det(self, factors: Array) -> Array:
        return np.log(factors).sum(axis=-1)

    def magnitude(self, factors: Array, reach: Array) -> Array:
        return ((factors * reach) ** 2).sum(axis=-1)

    def _one_for_each(self, floor: Array | float) -> Array | float:
        return floor

    def moment(self, vectors: Array) -> Array:
        return vectors**2

    def cross_moment(self, first: Array, second: Array) -> Array:
        return 2 * first * second

    def sum_moment(self, deviations: Array, weights: Array) -> Array:
        return weights @ deviations**2

    def expand(self, covariances: Array) -> Array:
        return covariances[..., :, None] * np.eye(self.n_features)

    def diagonal(self, covariances: Array) -> Array:
        return covariances

    def isotropic(self, variances: Array) -> Array:
        return np.broadcast_to(variances[..., None], (*variances.shape, self.n_features)).copy()


class Spherical(_Elementwise):
    """One variance for all features."""

    name = "spherical"

    @property
    def _degrees(self) -> int:
        return self.n_features

    @property
    def tail(self) -> tuple[int, ...]:
        return ()

    @property
    def n_quadratic(self) -> int:
        return 1

    @property
    def n_free(self) -> int:
        return 1

    def write_quadratic(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        np.einsum("dn,dn->n", x, x, out=out[0])

    def quadratic_coefficients(self, factors: Array) -> Array:
        return -0.5 * factors[..., None] ** 2

    def unpack(self, sums: Array) -> Array:
        return sums[..., 0]

    def pack(self, moments: Array) -> Array:
        return moments[..., None]

    def apply_precision(self, factors: Array, vectors: Array) -> Array:
        return factors[..., None] ** 2 * vectors

    def half_log_det(self, factors: Array) -> Array:
        return self.n_features * np.log(factors)

    def magnitude(self, factors: Array, reach: Array) -> Array:
        return factors**2 * (reach**2).sum(axis=-1)

    def _one_for_each(self, floor: Array | float) -> Array | float:
        return float(np.mean(floor))

    def moment(self, vectors: Array) -> Array:
        return (vectors**2).sum(axis=-1)

    def cross_moment(self, first: Array, second: Array) -> Array:
        return 2 * (first * second).sum(axis=-1)

    def sum_moment(self, deviations: Array, weights: Array) -> Array:
        return weights @ np.einsum("nd,nd->n", deviations, deviations)

    def expand(self, covariances: Array) -> Array:
        return covariances[..., None, None] * np.eye(self.n_features)

    def diagonal(self, covariances: Array) -> Array:
        return np.broadcast_to(covariances[..., None], (*covariances.shape, self.n_features))

    def isotropic(self, variances: Array) -> Array:
        return variances


COVARIANCE_TYPES: dict[str, tuple[type[CovarianceShape], bool]] = {
    "full": (Full, False),
    "tied": (Full, True),
    "diag": (Diagonal, False),
    "spherical": (Spherical, False),
    "tied_diag": (Diagonal, True),
    "tied_spherical": (Spherical, True),
}
"""Public names: the shape, and whether all components share one covariance."""


@lru_cache(maxsize=16)
def covariance_shape(covariance_type: str, n_features: int) -> CovarianceShape:
    """Return the shape of one covariance of a type, a key of :data:`COVARIANCE_TYPES`."""
    return COVARIANCE_TYPES[covariance_type][0](n_features)
