"""Gaussian components integrated over their conjugate prior, for all rows and components at once.

In coordinates in which the prior's scale is the identity, the log integral over a component with
count n (times the heat), whose posterior has strength kappa, degrees of freedom nu and scale S, is,
for every shape of covariance,

    ``-(n D / 2) log pi + (D / 2) log(kappa_0 / kappa) + G(nu) - G(nu_0) - (nu / 2) log |S|``

where G is the log normaliser of the precision's prior. A row at distance
``q = (x - m)' S^-1 (x - m)`` that joins multiplies ``|S|`` by ``1 + kappa c / (kappa + c) q``, one
that leaves by ``1 - kappa c / (kappa - c) q``, c being the heat: one product of all components'
natural parameters with all rows' features gives q, and so the exact leave-one-out probabilities of
all rows. In that frame S is at least the identity, so that the product cannot lose digits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from skbae._types import Array
from skbae.energies._allocations import Labels
from skbae.energies.gaussian._components import GaussianMoments
from skbae.energies.gaussian._covariance import CovarianceShape, Diagonal, Full, Spherical
from skbae.energies.mixture._collapsed import CollapsedComponents
from skbae.operators._linalg import half_log_det, triangular_inverse

if TYPE_CHECKING:
    from skbae.energies.gaussian._normal_wishart import NormalWishart

# Smallest factor by which a row that leaves may multiply a determinant: less is rounding error.
_LEAST_SHARE = 1e-12
# Factors of a determinant that are multiplied before a logarithm is taken.
_FACTORS = 12


class _Rows:
    """Rows in the frame of the prior, and their features: quadratic ones, then the row."""

    def __init__(self, white: Array, quadratic: Array) -> None:
        self.white, self.n_quadratic = white, quadratic.shape[1]
        self.features = np.concatenate([quadratic, white], axis=1)
        ones = np.ones((len(white), 1))
        # what squared distances are products with
        self.transposed = np.ascontiguousarray(np.hstack([self.features, ones]).T)
        self.columns = np.ascontiguousarray(white.T)

    def take(self, index: NDArray[np.intp]) -> _Rows:
        return _Rows(self.white[index], self.features[index, : self.n_quadratic])


def _own(values: Array, labels: Labels) -> Array:
    """Return the values (S, K) or (S, K, N) of each row's own component, (S, N)."""
    if values.ndim == 2:
        return np.take_along_axis(values, labels, axis=1)
    return np.take_along_axis(values, labels[:, None], axis=1)[:, 0]


class _PriorFrame(ABC):
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
        self, factors: Array, means: Array, joining: Array, leaving: Array, rows: _Rows, own: Labels
    ) -> tuple[Array, Array]:
        """Return the log of the factor by which ``|S|`` of each component changes.

        Parameters
        ----------
        factors
            Of S x K scales.
        means : ndarray of shape (S, K, D)
        joining, leaving : ndarrays of shape (S, K)
            The factors of q when a row joins, and when it leaves.
        rows : _Rows
        own : ndarray of int of shape (S, N)
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
        self, factors: Array, means: Array, joining: Array, leaving: Array, rows: _Rows, own: Labels
    ) -> Array:
        """Return the log of the factor by which the shared ``|S|`` changes, (S, K, N).

        A row leaves its own component for another; `factors` are those of S x 1 scales, the
        other arguments those of :meth:`log_growth`.
        """


class _FullFrame(_PriorFrame):
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
        self._twice = np.where(self._upper[0] == self._upper[1], 1.0, 2.0)

    def whiten(self, rows: Array) -> Array:
        return rows @ self.inverse.T

    def squares(self, rows: Array) -> Array:
        return rows[..., self._upper[0]] * rows[..., self._upper[1]]

    def unwhiten_moments(self, first: Array, second: Array) -> tuple[Array, Array]:
        square = second.take(self._places, axis=-1)
        return first @ self.lower.T, self.lower @ square @ self.lower.T

    def log_gammas(self, dof: Array) -> Array:
        return gammaln(0.5 * (dof[..., None] - np.arange(self.n_features))).sum(axis=-1)

    def factorise(self, scales: Array) -> tuple[Array, Array]:
        square = scales.take(self._places, axis=-1)
        lower = np.linalg.cholesky(square)
        log_det = 2 * half_log_det(lower)
        return np.linalg.inv(square).astype(np.float64), log_det

    def _distances(self, inverse: Array, means: Array, rows: _Rows) -> Array:
        pulled = np.matmul(inverse, means[..., None])[..., 0]
        coefficients = np.concatenate(
            [
                inverse[..., self._upper[0], self._upper[1]] * self._twice,
                -2 * pulled,
                (pulled * means).sum(axis=-1)[..., None],
            ],
            axis=-1,
        )
        q = coefficients.reshape(-1, coefficients.shape[-1]) @ rows.transposed
        np.maximum(q, 0.0, out=q)
        return q.reshape(*means.shape[:2], -1)

    def log_growth(
        self,
        factors: Array,
        means: Array,
        joining: Array,
        leaving: Array,
        rows: _Rows,
        own: Labels,
    ) -> tuple[Array, Array]:
        return _growth_of(self._distances(factors, means, rows), joining, leaving, own)

    def log_shift(
        self,
        factors: Array,
        means: Array,
        joining: Array,
        leaving: Array,
        rows: _Rows,
        own: Labels,
    ) -> Array:
        inverse = factors[:, 0]  # (S, D, D)
        pulled = np.matmul(means, inverse)  # (S, K, D)
        pulled_rows = np.matmul(inverse, rows.columns)  # (S, D, N)
        square = np.einsum("dn,sdn->sn", rows.columns, pulled_rows)
        along = pulled @ rows.columns  # (S, K, N)
        gram = np.matmul(pulled, np.swapaxes(means, 1, 2))  # (S, K, K)
        q = square[:, None] - 2 * along + np.diagonal(gram, axis1=1, axis2=2)[..., None]
        np.maximum(q, 0.0, out=q)
        chains = np.arange(len(means))[:, None]
        of_own = np.swapaxes(gram[chains, own], 1, 2)  # (S, K, N)
        cross = square[:, None] - _own(along, own)[:, None] - along + of_own
        grow, shrink = joining[..., None], _own(leaving, own)[:, None]
        share = (1 - shrink * _own(q, own)[:, None]) * (1 + grow * q) + shrink * grow * cross**2
        return np.log(np.maximum(share, _LEAST_SHARE))


class _DiagonalFrame(_PriorFrame):
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
        rows: _Rows,
        own: Labels,
    ) -> tuple[Array, Array]:
        grown = np.zeros((*means.shape[:2], len(rows.white)))
        shrunk = np.zeros(own.shape)
        factor, own_factor = np.ones_like(grown), np.ones_like(shrunk)
        leave = _own(leaving, own)
        deviation = np.empty_like(grown)
        for d, column in enumerate(rows.columns):
            np.subtract(column, means[..., d, None], out=deviation)
            np.square(deviation, out=deviation)
            deviation /= factors[..., d, None]
            own_factor *= np.maximum(1 - leave * _own(deviation, own), _LEAST_SHARE)
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
        rows: _Rows,
        own: Labels,
    ) -> Array:
        value = np.zeros((*means.shape[:2], len(rows.white)))
        factor = np.ones_like(value)
        leave = _own(leaving, own)[:, None]
        for d, column in enumerate(rows.columns):
            square = (column - means[..., d, None]) ** 2
            change = joining[..., None] * square - leave * _own(square, own)[:, None]
            factor *= np.maximum(1 + change / factors[:, 0, d, None, None], _LEAST_SHARE)
            if (d + 1) % _FACTORS == 0 or d + 1 == self.n_features:
                value += np.log(factor)
                factor[...] = 1.0
        return value


class _SphericalFrame(_PriorFrame):
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

    def _squares(self, means: Array, rows: _Rows) -> Array:
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
        rows: _Rows,
        own: Labels,
    ) -> tuple[Array, Array]:
        return _growth_of(self._squares(means, rows) / factors, joining, leaving, own)

    def log_shift(
        self,
        factors: Array,
        means: Array,
        joining: Array,
        leaving: Array,
        rows: _Rows,
        own: Labels,
    ) -> Array:
        q = self._squares(means, rows)
        change = joining[..., None] * q - (_own(leaving, own) * _own(q, own))[:, None]
        return np.log(np.maximum(1 + change / factors, _LEAST_SHARE))


def _growth_of(q: Array, joining: Array, leaving: Array, own: Labels) -> tuple[Array, Array]:
    """Return ``log(1 + joining q)`` in place of q, and ``log(1 - leaving q)`` of own components."""
    shrunk = np.log(np.maximum(1 - _own(leaving, own) * _own(q, own), _LEAST_SHARE))
    q *= joining[..., None]
    q += 1
    return np.log(q, out=q), shrunk


_FRAMES: dict[type[CovarianceShape], type[_PriorFrame]] = {
    Full: _FullFrame,
    Diagonal: _DiagonalFrame,
    Spherical: _SphericalFrame,
}


def operations_per_row(shape: CovarianceShape) -> float:
    """Return the approximate number of operations for one row and one component."""
    return _FRAMES[type(shape)].operations(shape)


class CollapsedGaussians(CollapsedComponents):
    """Gaussian components of given rows, integrated over their normal-Wishart (or gamma) prior.

    Parameters
    ----------
    shape : CovarianceShape
    tied : bool
    prior : NormalWishart
        With S = 1; the same for all components.
    rows : ndarray of shape (N, D)
    centre : ndarray of shape (D,)
        Where rows are measured from.
    heat : float
        ``1 / T``.
    """

    def __init__(
        self,
        shape: CovarianceShape,
        tied: bool,
        prior: NormalWishart,
        rows: Array,
        centre: Array,
        heat: float,
    ) -> None:
        self.shape, self.tied, self.heat, self.centre = shape, tied, heat, centre
        self.n_components = prior.strength.shape[1]
        self.frame = _FRAMES[type(shape)](shape, prior.scale[0, 0])
        self.strength, self.dof = float(prior.strength[0, 0]), float(prior.dof[0, 0])
        self.location = self.frame.whiten(prior.location[0, 0] - centre)
        columns = np.asarray(rows, np.float64) - centre
        white = self.frame.whiten(columns)
        self._set(_Rows(white, self.frame.squares(white)), columns)

    def _set(self, rows: _Rows, columns: Array) -> None:
        self.rows, self.features, self.n_rows = rows, rows.features, len(rows.white)
        self.standard_rows, self.columns = rows.white, columns

    def take_rows(self, index: NDArray[np.intp]) -> CollapsedGaussians:
        part = copy(self)
        part._set(self.rows.take(index), self.columns[index])
        return part

    def _posterior(self, counts: Array, sums: Array) -> tuple[Array, Array, Array, Array]:
        """Return strength (S, K), mean (S, K, D), degrees (S, C) and scale (S, C, P)."""
        n_quadratic = self.rows.n_quadratic
        second, first = sums[..., :n_quadratic], sums[..., n_quadratic:]
        strength = self.strength + counts
        means = (self.strength * self.location + first) / strength[..., None]
        prior_square = self.strength * self.frame.squares(self.location)
        grown = second + prior_square - strength[..., None] * self.frame.squares(means)
        if self.tied:
            grown = grown.sum(axis=1, keepdims=True)
            counts = counts.sum(axis=1, keepdims=True)
        dof = self.dof + self.frame.degrees_per_row * counts
        return strength, means, dof, self.frame.identity + grown

    def _log_marginal(self, counts: Array, strength: Array, dof: Array, log_det: Array) -> Array:
        size = self.frame.n_features
        prior = self.frame.log_gammas(np.asarray(self.dof))
        of_means = 0.5 * size * np.log(self.strength / strength).sum(axis=1)
        of_precisions = (self.frame.log_gammas(dof) - prior - 0.5 * dof * log_det).sum(axis=1)
        total = counts.sum(axis=1)
        volume = 0.5 * size * np.log(np.pi) + self.frame.log_volume
        return of_means + of_precisions - total * volume

    def log_marginal(self, counts: Array, sums: Array) -> Array:
        strength, _, dof, scale = self._posterior(counts, sums)
        log_det = self.frame.factorise(scale)[1]
        return self._log_marginal(counts, strength, dof, log_det)

    def leave_one_out(
        self, counts: Array, sums: Array, labels: Labels, of_joining: Array, of_leaving: Array
    ) -> tuple[Array, Array]:
        frame, heat = self.frame, self.heat
        strength, means, dof, scale = self._posterior(counts, sums)
        factors, log_det = frame.factorise(scale)
        # a component without rows has no own rows, whose strength without one is then not asked for
        without = np.maximum(strength - heat, self.strength)
        joining, leaving = strength * heat / (strength + heat), strength * heat / without
        half = 0.5 * frame.n_features
        joins = of_joining + half * np.log(strength / (strength + heat))
        leaves = of_leaving + half * np.log(without / strength)
        step = frame.degrees_per_row * heat
        if self.tied:
            shift = frame.log_shift(factors, means, joining, leaving, self.rows, labels)
            shift *= -0.5 * dof[..., None]
            shift += joins[..., None]
            np.put_along_axis(shift, labels[:, None], _own(leaves, labels)[:, None], axis=1)
            return shift, self._log_marginal(counts, strength, dof, log_det)
        grown, shrunk = frame.log_growth(factors, means, joining, leaving, self.rows, labels)
        here = frame.log_gammas(dof)
        joins += frame.log_gammas(dof + step) - here - 0.5 * step * log_det
        less = np.maximum(dof - step, self.dof)
        leaves += here - frame.log_gammas(less) - 0.5 * step * log_det
        grown *= -0.5 * (dof + step)[..., None]
        grown += joins[..., None]
        own = _own(leaves, labels) + 0.5 * _own(less, labels) * shrunk
        np.put_along_axis(grown, labels[:, None], own[:, None], axis=1)
        return grown, self._log_marginal(counts, strength, dof, log_det)

    def moments(self, sums: Array) -> GaussianMoments:
        n_quadratic = self.rows.n_quadratic
        second = sums[..., :n_quadratic]
        if self.tied:
            second = second.sum(axis=1, keepdims=True)
        first, _ = self.frame.unwhiten_moments(sums[..., n_quadratic:], sums[..., :n_quadratic])
        _, second = self.frame.unwhiten_moments(sums[:, : second.shape[1], n_quadratic:], second)
        reference = np.broadcast_to(self.centre, first.shape)
        return GaussianMoments(first, second, reference)
