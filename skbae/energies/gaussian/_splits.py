"""Splits of Gaussian components: scores in means and covariances, and the two halves.

With whitened deviations y, a mean that moves by ``S^(1/2) a`` has the score ``y'a``, and a
covariance that changes to ``S^(1/2) exp(sqrt(2) e) S^(1/2)`` has ``(y'e y - tr e) / sqrt(2)``. In a
and the entries of e the expected curvature is minus one.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from skbae.energies.gaussian._covariance import Diagonal, Full, Spherical
from skbae.energies.mixture._splits import SplitScores

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.energies.gaussian._covariance import CovarianceShape


class MeanScores(SplitScores):
    """Scores in the mean alone, for components that share a covariance."""

    def __init__(self, white: Array) -> None:
        self.white = white
        self.n_rows, self.n_features = white.shape
        self.n_coordinates = self.n_features

    def along(self, direction: Array) -> Array:
        return self.white @ direction

    def weighted(self, shares: Array) -> Array:
        return shares @ self.white

    def reach(self, critical: float) -> float:
        # the rows' standard deviation along the direction
        return float(np.sqrt(max(critical, 1.0)))


class CovarianceScores(MeanScores):
    """Scores in the mean and the covariance, whose coordinates come after the mean's."""

    n_own: int
    """Number of coordinates of the covariance."""

    def __init__(self, white: Array) -> None:
        super().__init__(white)
        self.n_coordinates = self.n_features + self.n_own

    @abstractmethod
    def along_own(self, direction: Array) -> Array:
        """Return products with a change of the covariance, (n,)."""

    @abstractmethod
    def weighted_own(self, shares: Array) -> Array:
        """Return weighted sums of the scores in the covariance."""

    @abstractmethod
    def moved_factor(self, factor: Array, direction: Array) -> Array:
        """Return the precision factor of the covariance that has moved along a direction."""

    def reach(self, critical: float) -> float:
        return 1.0

    def along(self, direction: Array) -> Array:
        own = self.along_own(direction[self.n_features :])
        return super().along(direction[: self.n_features]) + own

    def weighted(self, shares: Array) -> Array:
        return np.concatenate([super().weighted(shares), self.weighted_own(shares)])


class FullScores(CovarianceScores):
    """Symmetric e, all of whose entries are coordinates."""

    def __init__(self, white: Array) -> None:
        self.n_own = white.shape[1] ** 2
        super().__init__(white)

    def along_own(self, direction: Array) -> Array:
        e = direction.reshape(self.n_features, self.n_features)
        quadratic = np.einsum("nd,nd->n", self.white @ e, self.white)
        return (quadratic - np.trace(e)) / np.sqrt(2)

    def weighted_own(self, shares: Array) -> Array:
        scatter = (self.white * shares[:, None]).T @ self.white
        return (scatter - shares.sum() * np.eye(self.n_features)).ravel() / np.sqrt(2)

    def moved_factor(self, factor: Array, direction: Array) -> Array:
        e = direction.reshape(factor.shape)
        values, vectors = np.linalg.eigh(0.5 * (e + e.T))
        # P = U exp(-sqrt(2) e) U' has the upper factor of a QR decomposition
        half = (factor @ vectors) * np.exp(-values / np.sqrt(2))
        reversed_factor: Array = np.linalg.qr(half[::-1].T)[1]
        upper = reversed_factor.T[::-1, ::-1]
        return upper * np.sign(np.diagonal(upper))


class DiagonalScores(CovarianceScores):
    """One coordinate for each feature."""

    def __init__(self, white: Array) -> None:
        self.n_own = white.shape[1]
        super().__init__(white)

    def along_own(self, direction: Array) -> Array:
        return (self.white**2 - 1.0) @ direction / np.sqrt(2)

    def weighted_own(self, shares: Array) -> Array:
        return shares @ (self.white**2 - 1.0) / np.sqrt(2)

    def moved_factor(self, factor: Array, direction: Array) -> Array:
        return factor * np.exp(-direction / np.sqrt(2))


class SphericalScores(CovarianceScores):
    """One coordinate for all features, ``e = direction / sqrt(D)``."""

    n_own = 1

    def __init__(self, white: Array) -> None:
        super().__init__(white)
        square = np.einsum("nd,nd->n", white, white)
        self.own = (square - self.n_features) / np.sqrt(2 * self.n_features)

    def along_own(self, direction: Array) -> Array:
        return self.own * direction[0]

    def weighted_own(self, shares: Array) -> Array:
        return np.array([shares @ self.own])

    def moved_factor(self, factor: Array, direction: Array) -> Array:
        return factor * np.exp(-direction[0] / np.sqrt(2 * self.n_features))


SCORES: dict[type[CovarianceShape], type[CovarianceScores]] = {
    Full: FullScores,
    Diagonal: DiagonalScores,
    Spherical: SphericalScores,
}
