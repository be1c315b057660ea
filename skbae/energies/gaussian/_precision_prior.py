"""Priors of precisions, one for each shape of covariance: Wishart, or gammas.

All have degrees of freedom and a scale of the shape of a covariance: a posterior's scale is that of
the prior plus the scatter of the rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from skbae.energies.gaussian._covariance import CovarianceShape, Diagonal, Full, Spherical
from skbae.operators._linalg import triangular_inverse
from skbae.operators._small_matrices import first, last, lower_factors, solve_transposed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array

# Up to so many features, matrices of all components at once are quicker than one after the other.
_SMALL = 8


class PrecisionPrior(ABC):
    """Distributions of precisions; `dof` is (S, C), `scale` is (S, C) + tail."""

    def __init__(self, shape: CovarianceShape) -> None:
        self.shape, self.n_features = shape, shape.n_features

    @property
    @abstractmethod
    def degrees_per_row(self) -> int:
        """Degrees of freedom that one row adds."""

    @abstractmethod
    def minimum_dof(self) -> float:
        """Return the largest degrees of freedom for which the prior is improper."""

    @abstractmethod
    def draw_factors(self, dof: Array, scale: Array, rng: np.random.Generator) -> Array:
        """Draw the factors of precisions, (S, C) + tail."""

    @abstractmethod
    def colour(self, factors: Array, noise: Array) -> Array:
        """Return noise (S, K, D) transformed to have the covariances of factors (S, C) + tail."""

    @abstractmethod
    def log_normaliser(self, dof: Array, scale: Array) -> Array:
        """Return the log of the constant by which the density integrates to one, (S, C)."""

    @abstractmethod
    def log_det_exponent(self, dof: Array) -> Array:
        """Return the exponent of ``|Lambda|^(1/2)`` in the density."""


class Wishart(PrecisionPrior):
    """``Lambda ~ Wishart(dof, inverse(scale))`` for full covariances."""

    degrees_per_row = 1

    def minimum_dof(self) -> float:
        return self.n_features - 1.0

    def draw_factors(self, dof: Array, scale: Array, rng: np.random.Generator) -> Array:
        # Bartlett's decomposition. Reversing rows and columns of the usual lower factor makes it
        # upper triangular and reverses its degrees of freedom.
        size = self.n_features
        diagonal = np.sqrt(2 * rng.standard_gamma(0.5 * (dof[..., None] - np.arange(size)[::-1])))
        if size == 1:
            return diagonal[..., None] / np.sqrt(scale)
        rows, columns = _above_diagonal(size)
        above = rng.standard_normal((*dof.shape, len(rows)))
        if size > _SMALL:
            bartlett = np.zeros(scale.shape)
            bartlett[..., rows, columns] = above
            bartlett[..., range(size), range(size)] = diagonal
            return np.matmul(self.shape.factorise(scale), bartlett)
        bartlett = np.zeros((size, size, dof.size))
        bartlett[rows, columns] = above.reshape(dof.size, -1).T
        bartlett[range(size), range(size)] = diagonal.reshape(dof.size, -1).T
        drawn = solve_transposed(lower_factors(last(scale)), bartlett)
        if not np.isfinite(drawn).all():
            raise np.linalg.LinAlgError("a scale of precisions is not positive definite")
        return first(drawn).reshape(scale.shape)

    def colour(self, factors: Array, noise: Array) -> Array:
        if self.n_features > _SMALL:
            lower = triangular_inverse(np.swapaxes(factors, -1, -2))
            return np.matmul(lower, noise[..., None])[..., 0]
        coloured = np.empty_like(noise)
        for i in range(self.n_features):
            own = noise[..., i]
            if i:
                own = own - np.einsum("...k,...k->...", factors[..., :i, i], coloured[..., :i])
            np.divide(own, factors[..., i, i], out=coloured[..., i])
        return coloured

    def log_normaliser(self, dof: Array, scale: Array) -> Array:
        size = self.n_features
        log_det = np.linalg.slogdet(scale)[1] if size > 1 else np.log(scale[..., 0, 0])
        offsets = 0.5 * np.arange(size)
        gammas = gammaln(0.5 * dof[..., None] - offsets).sum(axis=-1)
        constant = size * (size - 1) / 4 * np.log(np.pi)
        return 0.5 * dof * (log_det - size * np.log(2)) - gammas - constant

    def log_det_exponent(self, dof: Array) -> Array:
        return dof - self.n_features - 1


class IndependentGammas(PrecisionPrior):
    """``lambda_d ~ Gamma(dof / 2, rate scale_d / 2)`` for diagonal covariances."""

    degrees_per_row = 1

    def minimum_dof(self) -> float:
        return 0.0

    def draw_factors(self, dof: Array, scale: Array, rng: np.random.Generator) -> Array:
        half = 0.5 * np.broadcast_to(dof[..., None], scale.shape)
        return np.sqrt(2 * rng.standard_gamma(half) / scale)

    def colour(self, factors: Array, noise: Array) -> Array:
        return noise / factors

    def log_normaliser(self, dof: Array, scale: Array) -> Array:
        half = 0.5 * dof[..., None]
        return (half * np.log(0.5 * scale) - gammaln(half)).sum(axis=-1)

    def log_det_exponent(self, dof: Array) -> Array:
        return dof - 2


class SingleGamma(PrecisionPrior):
    """``lambda ~ Gamma(dof / 2, rate scale / 2)`` for spherical covariances."""

    @property
    def degrees_per_row(self) -> int:
        return self.n_features

    def minimum_dof(self) -> float:
        return 0.0

    def draw_factors(self, dof: Array, scale: Array, rng: np.random.Generator) -> Array:
        return np.sqrt(2 * rng.standard_gamma(0.5 * dof) / scale)

    def colour(self, factors: Array, noise: Array) -> Array:
        return noise / factors[..., None]

    def log_normaliser(self, dof: Array, scale: Array) -> Array:
        return 0.5 * dof * np.log(0.5 * scale) - gammaln(0.5 * dof)

    def log_det_exponent(self, dof: Array) -> Array:
        return (dof - 2) / self.n_features


@cache
def _above_diagonal(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows and columns of a matrix's entries above the diagonal."""
    return np.triu_indices(size, 1)


_KINDS: dict[type[CovarianceShape], type[PrecisionPrior]] = {
    Full: Wishart,
    Diagonal: IndependentGammas,
    Spherical: SingleGamma,
}


def precision_prior(shape: CovarianceShape) -> PrecisionPrior:
    """Return the prior that belongs to a shape of covariance."""
    return _KINDS[type(shape)](shape)
