r"""Gaussian components in unconstrained coordinates, in which their conjugate prior is standard.

Let ``F`` be the factor of the prior's expected precision per degree of freedom, ``F F' =
inverse(scale)``. A component with mean ``mu`` and precision factor ``U`` has the coordinates

* ``nu = F' (mu - location)``, its mean, standardised by the prior's scale;
* of ``B = F^-1 U``, the logarithms of the diagonal and, if there are any, the entries above it.

A priori (Bartlett 1933) the diagonal's squares are independent chi-squares, the entries above it
standard normal, and ``nu`` given ``B`` is ``N(0, inverse(strength B B'))``: that is the density in
the coordinates, up to the logarithms' Jacobian. Since the prior's scale usually follows the
covariance of the data, these coordinates also remove most of the correlation between features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from skbae.energies.gaussian._components import GaussianParameters
from skbae.energies.gaussian._covariance import Diagonal, Full, Spherical
from skbae.energies.mixture._components import GradientComponentFamily
from skbae.operators._constants import LOG_2PI
from skbae.operators._draws import log_gamma_draws
from skbae.operators._linalg import triangular_inverse
from skbae.operators._small_matrices import products, times_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.gaussian._components import GaussianMoments
    from skbae.energies.gaussian._covariance import CovarianceShape
    from skbae.energies.gaussian._normal_wishart import NormalWishart


class FactorCoordinates(ABC):
    """Coordinates of precision factors of one shape: `n_logs` logarithms, then other entries.

    Arrays called `factors` have shape (S, C) + tail, coordinates (S, C, `n_coordinates`).
    """

    n_logs: int
    """Number of coordinates that are logarithms of the factor's diagonal."""
    n_coordinates: int
    log_det_slope: float
    """Derivative of half the log determinant of the precision by one of the logarithms."""

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features

    @abstractmethod
    def degrees(self, dof: Array) -> Array:
        """Return degrees of freedom (C, n_logs) of the diagonal's squares under the prior."""

    @abstractmethod
    def factors(self, coordinates: Array) -> Array:
        """Return the factors."""

    @abstractmethod
    def coordinates(self, factors: Array) -> Array:
        """Return the coordinates of factors: the inverse of :meth:`factors`."""

    @abstractmethod
    def chain(self, factors: Array, gradient: Array) -> Array:
        """Return the gradient in the coordinates, given that in the factors."""

    @abstractmethod
    def compose(self, outer: Array, factors: Array) -> Array:
        """Return products of factors, ``F B``."""

    @abstractmethod
    def divide(self, outer: Array, factors: Array) -> Array:
        """Return ``F^-1 U``."""

    @abstractmethod
    def apply_transposed(self, factors: Array, vectors: Array) -> Array:
        """Return ``F' v`` for vectors (S, K, D)."""

    @abstractmethod
    def solve_transposed(self, factors: Array, vectors: Array) -> Array:
        """Return ``F'^-1 v`` for vectors (S, K, D)."""

    @abstractmethod
    def solve(self, factors: Array, vectors: Array) -> Array:
        """Return ``F^-1 v`` for vectors (S, K, D)."""

    @abstractmethod
    def frame_moments(self, factors: Array, moments: Array) -> Array:
        """Return the moments of ``F' x`` from those of x."""

    @abstractmethod
    def moment_times(self, moments: Array, factors: Array) -> Array:
        """Return ``M B``, minus the gradient of ``-tr(B' M B) / 2`` in the factors."""


class FullCoordinates(FactorCoordinates):
    """Upper triangular factors."""

    log_det_slope = 1.0

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.n_logs = n_features
        self._diagonal = np.arange(n_features)
        self._above = np.triu_indices(n_features, 1)
        self.n_coordinates = n_features + len(self._above[0])

    def degrees(self, dof: Array) -> Array:
        # the last row of an upper factor corresponds to the first row of the usual, lower factor
        return dof[..., None] - self._diagonal[::-1]

    def _place(self, diagonal: Array, above: Array) -> Array:
        matrix = np.zeros((*diagonal.shape, self.n_features))
        matrix[..., self._diagonal, self._diagonal] = diagonal
        matrix[..., self._above[0], self._above[1]] = above
        return matrix

    def _parts(self, matrix: Array) -> tuple[Array, Array]:
        diagonal = matrix[..., self._diagonal, self._diagonal]
        return diagonal, matrix[..., self._above[0], self._above[1]]

    def factors(self, coordinates: Array) -> Array:
        return self._place(np.exp(coordinates[..., : self.n_logs]), coordinates[..., self.n_logs :])

    def coordinates(self, factors: Array) -> Array:
        diagonal, above = self._parts(factors)
        return np.concatenate([np.log(diagonal), above], axis=-1)

    def chain(self, factors: Array, gradient: Array) -> Array:
        diagonal, above = self._parts(gradient)
        return np.concatenate([diagonal * self._parts(factors)[0], above], axis=-1)

    def compose(self, outer: Array, factors: Array) -> Array:
        return products(outer, factors)

    def divide(self, outer: Array, factors: Array) -> Array:
        lower = triangular_inverse(np.swapaxes(outer, -1, -2))
        return products(np.swapaxes(lower, -1, -2), factors)

    def apply_transposed(self, factors: Array, vectors: Array) -> Array:
        return times_matrix(vectors, factors)

    def solve_transposed(self, factors: Array, vectors: Array) -> Array:
        lower = triangular_inverse(np.swapaxes(factors, -1, -2))
        return np.matmul(lower, vectors[..., None])[..., 0]

    def solve(self, factors: Array, vectors: Array) -> Array:
        lower = triangular_inverse(np.swapaxes(factors, -1, -2))
        return np.matmul(vectors[..., None, :], lower)[..., 0, :]

    def frame_moments(self, factors: Array, moments: Array) -> Array:
        return products(np.swapaxes(factors, -1, -2), products(moments, factors))

    def moment_times(self, moments: Array, factors: Array) -> Array:
        return products(moments, factors)


class DiagonalCoordinates(FactorCoordinates):
    """Factors that are one inverse standard deviation for each feature."""

    log_det_slope = 1.0

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.n_logs = self.n_coordinates = n_features

    def degrees(self, dof: Array) -> Array:
        return np.repeat(dof[..., None], self.n_logs, axis=-1)

    def factors(self, coordinates: Array) -> Array:
        return np.exp(coordinates)

    def coordinates(self, factors: Array) -> Array:
        return np.log(factors)

    def chain(self, factors: Array, gradient: Array) -> Array:
        return gradient * factors

    def compose(self, outer: Array, factors: Array) -> Array:
        return outer * factors

    def divide(self, outer: Array, factors: Array) -> Array:
        return factors / outer

    def apply_transposed(self, factors: Array, vectors: Array) -> Array:
        return factors * vectors

    def solve_transposed(self, factors: Array, vectors: Array) -> Array:
        return vectors / factors

    def solve(self, factors: Array, vectors: Array) -> Array:
        return self.solve_transposed(factors, vectors)

    def frame_moments(self, factors: Array, moments: Array) -> Array:
        return factors**2 * moments

    def moment_times(self, moments: Array, factors: Array) -> Array:
        return moments * factors


class SphericalCoordinates(DiagonalCoordinates):
    """Factors that are one inverse standard deviation for all features."""

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.n_logs = self.n_coordinates = 1
        self.log_det_slope = float(n_features)

    def factors(self, coordinates: Array) -> Array:
        return np.exp(coordinates[..., 0])

    def coordinates(self, factors: Array) -> Array:
        return np.log(factors)[..., None]

    def chain(self, factors: Array, gradient: Array) -> Array:
        return (gradient * factors)[..., None]

    def apply_transposed(self, factors: Array, vectors: Array) -> Array:
        return factors[..., None] * vectors

    def solve_transposed(self, factors: Array, vectors: Array) -> Array:
        return vectors / factors[..., None]


_COORDINATES: dict[type[CovarianceShape], type[FactorCoordinates]] = {
    Full: FullCoordinates,
    Diagonal: DiagonalCoordinates,
    Spherical: SphericalCoordinates,
}


class GaussianCoordinates(GradientComponentFamily):
    """The gradient capability of Gaussian components with a NormalWishart prior.

    A mixin of classes with the attributes ``shape``, ``n_components``, ``n_features``, ``tied`` and
    ``prior``. The coordinates are the standardised means (K, D), then those of the factors, C each.
    """

    shape: CovarianceShape
    prior: NormalWishart
    tied: bool

    @cached_property
    def _coordinates(self) -> FactorCoordinates:
        return _COORDINATES[type(self.shape)](self.n_features)

    @cached_property
    def _frame_factor(self) -> Array:
        return self.shape.factorise(self.prior.scale)

    def coordinate_kinds(self) -> NDArray[np.intp]:
        n_covariances = 1 if self.tied else self.n_components
        means = np.tile(np.arange(self.n_features), self.n_components)
        factors = self.n_features + np.arange(self._coordinates.n_coordinates)
        return np.concatenate([means, np.tile(factors, n_covariances)])

    def _split(self, theta: Array) -> tuple[Array, Array]:
        """Return standardised means (S, K, D) and the factors' coordinates (S, C, Q)."""
        n_means = self.n_components * self.n_features
        means = theta[:, :n_means].reshape(-1, self.n_components, self.n_features)
        n_covariances = 1 if self.tied else self.n_components
        return means, theta[:, n_means:].reshape(len(theta), n_covariances, -1)

    def _join(self, means: Array, coordinates: Array) -> Array:
        n_models = len(means)
        parts = [means.reshape(n_models, -1), coordinates.reshape(n_models, -1)]
        return np.concatenate(parts, axis=1)

    def _pool(self, values: Array) -> Array:
        """Return values summed over components if these share one precision."""
        return values.sum(axis=1, keepdims=True) if self.tied else values

    def unconstrain(self, params: GaussianParameters) -> Array:
        coordinates, frame = self._coordinates, self._frame_factor
        means = coordinates.apply_transposed(frame, params.means - self.prior.location)
        factors = coordinates.divide(frame, params.factors)
        return self._join(means, coordinates.coordinates(factors))

    def constrain(self, theta: Array) -> GaussianParameters:
        coordinates, frame = self._coordinates, self._frame_factor
        means, entries = self._split(theta)
        factors = coordinates.compose(frame, coordinates.factors(entries))
        location = self.prior.location + coordinates.solve_transposed(frame, means)
        return GaussianParameters(location, factors)

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        coordinates, strength = self._coordinates, self.prior.strength
        means, entries = self._split(theta)
        logs, above = entries[..., : coordinates.n_logs], entries[..., coordinates.n_logs :]
        degrees = coordinates.degrees(self.prior.dof)
        squares = np.exp(2 * logs)
        half = 0.5 * degrees
        # chi-squares in the coordinate b = log(square) / 2
        density = half * (2 * logs) - 0.5 * squares - half * np.log(2) - gammaln(half) + np.log(2)
        log_prior = density.sum(axis=(1, 2)) - 0.5 * (above**2 + LOG_2PI).sum(axis=(1, 2))
        # normal means given the precisions
        factors = coordinates.factors(entries)
        half_log_det = coordinates.log_det_slope * logs.sum(axis=-1)
        pull = -strength[..., None] * self.shape.apply_precision(factors, means)
        constant = 0.5 * self.n_features * (np.log(strength) - LOG_2PI)
        terms = constant + half_log_det + 0.5 * np.einsum("skd,skd->sk", pull, means)
        log_prior = log_prior + terms.sum(axis=1)

        moments = self._pool(self.shape.lift(strength) * self.shape.moment(means))
        ones = self._pool(np.ones(means.shape[:2]))
        gradient = self._factor_gradient(factors, ones, moments)
        gradient[..., : coordinates.n_logs] += degrees - squares
        gradient[..., coordinates.n_logs :] -= above
        return log_prior, self._join(pull, gradient)

    def _factor_gradient(self, factors: Array, counts: Array, moments: Array) -> Array:
        """Return the gradient of ``counts log det(B) - tr(B' M B) / 2`` in the coordinates."""
        coordinates = self._coordinates
        gradient = -coordinates.chain(factors, coordinates.moment_times(moments, factors))
        gradient[..., : coordinates.n_logs] += counts[..., None] * coordinates.log_det_slope
        return gradient

    def energy_gradient(
        self, theta: Array, counts: Array, moments: GaussianMoments, temperature: float
    ) -> Array:
        coordinates, frame = self._coordinates, self._frame_factor
        means, entries = self._split(theta)
        factors = coordinates.factors(entries)
        reference = coordinates.apply_transposed(frame, moments.reference - self.prior.location)
        first = coordinates.apply_transposed(frame, moments.first)
        second = coordinates.frame_moments(frame, moments.second)
        offset = means - reference  # of the mean from the reference of the moments
        pull = self.shape.apply_precision(factors, first - counts[..., None] * offset)
        shift = self.shape.lift(counts) * self.shape.moment(offset)
        scatter = second + self._pool(shift - self.shape.cross_moment(first, offset))
        gradient = self._factor_gradient(factors, self._pool(counts), scatter)
        return self._join(pull, gradient)

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        coordinates, prior = self._coordinates, self.prior
        degrees = coordinates.degrees(prior.dof)
        half = np.broadcast_to(0.5 * degrees, (n_models, *degrees.shape[1:]))
        logs = 0.5 * (np.log(2) + log_gamma_draws(half, rng))
        n_above = coordinates.n_coordinates - coordinates.n_logs
        above = rng.standard_normal((*logs.shape[:2], n_above))
        entries = np.concatenate([logs, above], axis=-1)
        noise = rng.standard_normal((n_models, self.n_components, self.n_features))
        means = coordinates.solve_transposed(coordinates.factors(entries), noise)
        return self._join(means / np.sqrt(prior.strength)[..., None], entries)
