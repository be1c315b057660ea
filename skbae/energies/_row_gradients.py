"""Energies that are written as a function of rows and coordinates, with its gradient."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, ArrayRecord
from skbae.energies._base import BoundEnergy, RowKernel, chunk_rows
from skbae.energies._capabilities import GradientEnergy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Frame


@dataclass(frozen=True)
class Coordinates(ArrayRecord):
    """Models that are their coordinates theta, (S, P)."""

    theta: Array


@dataclass(frozen=True)
class GradientStatistics(ArrayRecord):
    """The objectives of S models, (S,), and the gradient of the tilted one, (S, P)."""

    objective: Array
    hmaxe: Array
    gradient: Array


class RowGradientEnergy(GradientEnergy):
    """An energy given by ``Hmax_T`` of each row and its gradient in a model's coordinates.

    A subclass has the attributes ``n_features`` and ``n_coordinates``, and implements
    :meth:`hmax_and_gradient`, :meth:`log_prior_at`, :meth:`draw_prior_coordinates`, :meth:`draw`
    and :meth:`n_parameters`. Its models are :class:`Coordinates`; for others, override
    :meth:`constrain` and :meth:`unconstrain`.

    Attributes
    ----------
    n_coordinates : int
        P.

    Examples
    --------
    >>> import numpy as np
    >>> from skbae import EnergyAutoEncoder
    >>> class Location(RowGradientEnergy):  # normal rows of variance 1 around theta, itself normal
    ...     n_features = n_coordinates = 1
    ...     def hmax_and_gradient(self, theta, X, temperature):
    ...         away = X[:, 0] - theta
    ...         return -0.5 * (away**2 + np.log(2 * np.pi)), away[..., None]
    ...     def log_prior_at(self, theta):
    ...         return -0.5 * (theta[:, 0] ** 2 + np.log(2 * np.pi)), -theta
    ...     def draw_prior_coordinates(self, n_models, rng):
    ...         return rng.standard_normal((n_models, 1))
    ...     def draw(self, params, n_rows, rng):
    ...         models = rng.integers(params.n_models, size=n_rows)
    ...         return params.theta[models] + rng.standard_normal((n_rows, 1)), models
    ...     def n_parameters(self):
    ...         return 1
    >>> X = np.array([[1.0], [2.0], [3.0]])
    >>> model = EnergyAutoEncoder(Location(), model_temperature=0, tol=0).fit(X)
    >>> model.reference_.theta.round(4).tolist()
    [[2.0]]
    """

    n_coordinates: int

    @abstractmethod
    def hmax_and_gradient(
        self, theta: Array, X: NDArray[Any], temperature: float
    ) -> tuple[Array, Array]:
        """Return ``Hmax_T`` of S models on rows (n, D), of shape (S, n), and its gradient.

        The gradient, of shape (S, n, P), is that in the coordinates theta (S, P).
        """

    # -- derived methods -----------------------------------------------------------------------

    def bind(self, params: Any, frame: Frame, dtype: Any) -> BoundRows:
        return BoundRows(self, self.unconstrain(params))

    def expectation(
        self, params: Any, frame: Frame, dtype: Any, temperature: float, tilt: float
    ) -> GradientPass:
        return GradientPass(self, self.unconstrain(params), temperature, tilt)

    def coordinate_kinds(self) -> NDArray[np.intp]:
        return np.arange(self.n_coordinates)

    def unconstrain(self, params: Any) -> Array:
        return np.asarray(params.theta)

    def constrain(self, theta: Array) -> Any:
        return Coordinates(theta)

    def objective_gradient(
        self,
        theta: Array,
        params: Any,
        statistics: GradientStatistics,
        total: float,
        temperature: float,
    ) -> Array:
        return statistics.gradient


class BoundRows(BoundEnergy):
    """A :class:`RowGradientEnergy` at coordinates (S, P)."""

    def __init__(self, energy: RowGradientEnergy, theta: Array) -> None:
        self.energy, self.theta = energy, theta
        self.chunk_rows = chunk_rows(theta.size + len(theta))

    def hmax(self, X: NDArray[Any], temperature: float) -> Array:
        return np.asarray(self.energy.hmax_and_gradient(self.theta, X, temperature)[0])


@dataclass
class GradientSums:
    """Running sums of S models; those of a tilt are scaled by ``exp(-log_scale)``."""

    energy: Array  # (S,) sum of w Hmax
    mass: Array  # (S,) sum of w exp(-t Hmax)
    gradient: Array  # (S, P) sum of w exp(-t Hmax) times the gradient
    log_scale: Array  # (S,)


class GradientPass(RowKernel):
    """Sums of ``Hmax_T`` and of its gradient, of rows that a tilt weighs."""

    def __init__(
        self, energy: RowGradientEnergy, theta: Array, temperature: float, tilt: float
    ) -> None:
        self.energy, self.theta, self.temperature, self.tilt = energy, theta, temperature, tilt
        self.chunk_rows = chunk_rows(theta.size + len(theta))

    def workspace(self, n_rows: int, previous: Any = None) -> None:
        return None

    def zero(self) -> GradientSums:
        n = len(self.theta)
        scale = np.full(n, -np.inf if self.tilt else 0.0)
        return GradientSums(np.zeros(n), np.zeros(n), np.zeros(self.theta.shape), scale)

    def accumulate(
        self,
        accumulator: GradientSums,
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        hmax, gradient = self.energy.hmax_and_gradient(self.theta, X, self.temperature)
        own = np.ones(len(X)) if weights is None else weights
        exponents = -self.tilt * hmax
        if self.tilt:
            highest = np.maximum(accumulator.log_scale, exponents.max(axis=1))
            self._rescale(accumulator, highest)
        rows = own * np.exp(exponents - accumulator.log_scale[:, None])
        accumulator.energy += hmax @ own
        accumulator.mass += rows.sum(axis=1)
        accumulator.gradient += np.einsum("sn,snp->sp", rows, gradient)

    @staticmethod
    def _rescale(accumulator: GradientSums, log_scale: Array) -> None:
        factor = np.exp(accumulator.log_scale - log_scale)
        accumulator.mass *= factor
        accumulator.gradient *= factor[:, None]
        accumulator.log_scale = log_scale

    def merge(self, accumulator: GradientSums, other: GradientSums) -> GradientSums:
        if self.tilt:
            highest = np.maximum(accumulator.log_scale, other.log_scale)
            self._rescale(accumulator, highest)
            self._rescale(other, highest)
        accumulator.energy += other.energy
        accumulator.mass += other.mass
        accumulator.gradient += other.gradient
        return accumulator

    def finish(self, accumulator: GradientSums, total: float) -> GradientStatistics:
        hmaxe = objective = accumulator.energy / total
        if self.tilt:
            objective = -(np.log(accumulator.mass / total) + accumulator.log_scale) / self.tilt
        gradient = accumulator.gradient / accumulator.mass[:, None]
        return GradientStatistics(objective, hmaxe, gradient)
