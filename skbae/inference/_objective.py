"""The problem that inference solves: an energy on rows, at a temperature, with a tilt.

All algorithms of inference take this one object. Parameters of an algorithm (tolerances, plans,
callbacks) and the model temperature tau are arguments beside it: one objective belongs to all of
the densities ``prior(m) exp((N / tau) F(m))``, where F is ``Hmaxe_T`` or its tilted counterpart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, Rows
from skbae.energies._base import Capability, Energy, ExpectationEnergy, require
from skbae.energies._capabilities import ConjugateEnergy, GradientEnergy

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from skbae.energies._base import RowKernel
    from skbae.inference.passes._rows import RowRunner


class Target(ABC):
    """The density ``prior(theta) exp(power * value(theta))`` of coordinates theta, with gradients.

    The algorithm chooses the power.
    """

    @abstractmethod
    def prior(self, theta: Array) -> tuple[Array, Array]:
        """Return the log prior density, (S,), and its gradient, (S, P)."""

    @abstractmethod
    def value_and_gradient(self, theta: Array) -> tuple[Array, Array]:
        """Return the value, (S,), ``-inf`` where it is not finite, and its gradient, (S, P)."""

    def force(self, theta: Array) -> Array:
        """Return the gradient of the value, or an approximation of it, for leapfrog steps, (S, P).

        Any function of the position leaves the target invariant, since moves are accepted or
        rejected by the value itself.
        """
        return self.value_and_gradient(theta)[1]


@dataclass(frozen=True, eq=False)
class Objective(Target):
    """The (tilted) mean of ``Hmax_T`` over rows, as a function of models.

    Attributes
    ----------
    energy : Energy
        The family. Each method names the capability that it needs.
    rows : Rows
    runner : RowRunner
        Runs passes over the rows.
    temperature : float
        T, of codes.
    tilt : float, default=0.0
        t: 0 is the plain mean; t > 0 gives more weight to rows of low energy.
    """

    energy: Energy
    rows: Rows
    runner: RowRunner
    temperature: float
    tilt: float = 0.0

    def require(self, capability: type[Capability], algorithm: str) -> Capability:
        """Return the energy, checked to have the capability that an algorithm needs.

        Parameters
        ----------
        capability : type
            A subclass of Energy.
        algorithm : str
            Name of the algorithm, for the error message.

        Raises
        ------
        TypeError
            If the energy lacks the capability, naming the methods that are missing.
        """
        return require(self.energy, capability, algorithm)

    def expect(self, params: Any, dtype: DTypeLike | None = None) -> Any:
        """Return the statistics of the rows under codes ``p_T(z | x, m)``.

        Parameters
        ----------
        params : ArrayRecord
            S models.
        dtype : dtype or None, default=None
            Precision of the products; None stands for float64.

        Returns
        -------
        ArrayRecord
            With fields ``objective`` and ``hmaxe`` of shape (S,) among others.
        """
        return self.runner.reduce(self.kernel(params, dtype), self.rows)

    def kernel(self, params: Any, dtype: DTypeLike | None = None) -> RowKernel:
        """Return the kernel of the pass that :meth:`expect` makes.

        It holds what depends on the models alone, such as the sum over all states of a machine, so
        that passes over other rows can use it without computing it again.
        """
        energy = self.require(ExpectationEnergy, "a pass over the rows")
        precision = np.float64 if dtype is None else dtype
        return energy.expectation(params, self.rows.frame, precision, self.temperature, self.tilt)

    def sweep(self, params: Any, seed: np.random.SeedSequence) -> Any:
        """Return the statistics of the rows under codes drawn from ``p_T(z | x, m)``.

        Parameters
        ----------
        params : ArrayRecord
            S models.
        seed : SeedSequence
        """
        energy = self.require(ConjugateEnergy, "a sweep over the codes")
        kernel = energy.sweep(params, self.rows.frame, self.rows.X.dtype, self.temperature)
        return self.runner.reduce(kernel, self.rows, seed)

    def power(self, model_temperature: float) -> float:
        """Return ``N / tau``, the factor of the objective in the log density of models.

        Raises
        ------
        ValueError
            If `model_temperature` is not positive.
        """
        if not model_temperature > 0:
            raise ValueError(f"model_temperature must be positive, got {model_temperature!r}")
        return self.rows.total / model_temperature

    def log_targets(self, params: Any, model_temperature: float) -> Array:
        """Return ``log prior + (N / tau) F`` of S models, (S,).

        The prior's density is that of the parameters themselves where it is conjugate, and that of
        the energy's coordinates otherwise.
        """
        power = self.power(model_temperature)
        if isinstance(self.energy, ConjugateEnergy):
            return self.energy.log_prior(params) + power * self.expect(params).objective
        theta = self.require(GradientEnergy, "the density of models").unconstrain(params)
        return self.prior(theta)[0] + power * self.value_and_gradient(theta)[0]

    # -- in the energy's coordinates -----------------------------------------------------------

    def prior(self, theta: Array) -> tuple[Array, Array]:
        """Return the log prior density in the coordinates, (S,), and its gradient, (S, P)."""
        return self.require(GradientEnergy, "a prior in coordinates").log_prior_at(theta)

    def value_and_gradient(self, theta: Array) -> tuple[Array, Array]:
        """Return the (tilted) mean of ``Hmax_T``, (S,), and its gradient, (S, P).

        Where either is not finite the value is ``-inf`` and the gradient zero.
        """
        return self._gradient(theta, np.float64)

    def force(self, theta: Array) -> Array:
        """Return the gradient in the precision that the energy asks for, (S, P)."""
        dtype = self.require(GradientEnergy, "a gradient").force_dtype
        return self._gradient(theta, dtype)[1]

    def _gradient(self, theta: Array, dtype: DTypeLike) -> tuple[Array, Array]:
        energy = self.require(GradientEnergy, "a gradient")
        # models far from the data may overflow: they get the value -inf. Values are in double
        # precision even for float32 rows, since they say which moves are accepted.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            params = energy.constrain(theta)
            statistics = self.expect(params, dtype)
            gradient = energy.objective_gradient(
                theta, params, statistics, self.rows.total, self.temperature
            )
            sound = np.isfinite(statistics.objective) & np.isfinite(gradient).all(axis=1)
        value = np.where(sound, statistics.objective, -np.inf)
        return value, np.where(sound[:, None], gradient, 0.0)
