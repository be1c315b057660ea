"""The problem that inference solves: an energy on rows, at a temperature, with a tilt.

Everything in inference takes this one object. What tells algorithms apart (tolerances, plans,
callbacks) they take beside it, and so does the model temperature tau: one objective serves all of
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
    """A prior density and a value over coordinates theta, (S, P): what gradients are followed of.

    The density is ``prior(theta) exp(power * value(theta))``, for a power that the algorithm
    chooses.
    """

    @abstractmethod
    def prior(self, theta: Array) -> tuple[Array, Array]:
        """Return the log prior density, (S,), and its gradient, (S, P)."""

    @abstractmethod
    def value_and_gradient(self, theta: Array) -> tuple[Array, Array]:
        """Return the value, (S,), ``-inf`` where it is not finite, and its gradient, (S, P)."""

    def force(self, theta: Array) -> Array:
        """Return what particles follow on their way: the value's gradient, or close to it, (S, P).

        Any function of the position will do: moves end with the value itself.
        """
        return self.value_and_gradient(theta)[1]


@dataclass(frozen=True, eq=False)
class Objective(Target):
    """The (tilted) mean of ``Hmax_T`` over rows, as a function of models.

    Attributes
    ----------
    energy : Energy
        The family. What it must be capable of depends on what is asked of the objective.
    rows : Rows
    runner : RowRunner
        Makes the passes over the rows.
    temperature : float
        T, of codes.
    tilt : float, default=0.0
        t: 0 is the plain mean, t > 0 leans to the worst rows.

    Raises
    ------
    ValueError
        If the energy was made for another temperature.
    """

    energy: Energy
    rows: Rows
    runner: RowRunner
    temperature: float
    tilt: float = 0.0

    def __post_init__(self) -> None:
        made_for = self.energy.temperature
        if made_for is not None and made_for != self.temperature:
            raise ValueError(
                f"{type(self.energy).__name__} was made for temperature={made_for!r} and cannot "
                f"serve an objective at temperature={self.temperature!r}"
            )

    def require(self, capability: type[Capability], algorithm: str) -> Capability:
        """Return the energy, known to be capable of what an algorithm needs.

        Parameters
        ----------
        capability : type
            A subclass of Energy.
        algorithm : str
            How to name the algorithm in the error.

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
            Precision that products may have; None stands for double.

        Returns
        -------
        ArrayRecord
            With fields ``objective`` and ``hmaxe`` of shape (S,) among others.
        """
        return self.runner.reduce(self.kernel(params, dtype), self.rows)

    def kernel(self, params: Any, dtype: DTypeLike | None = None) -> RowKernel:
        """Return the pass of :meth:`expect`.

        It holds what depends on the models alone (the sum over all states of a machine), which
        passes over other rows may share.
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
        """Return ``N / tau``, what the objective is multiplied with in the density of models.

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
        energy = self.require(GradientEnergy, "a gradient")
        # draws far out overflow somewhere; what is not finite has no density. Products are in
        # double precision whatever the rows': leapfrog steps need an energy and its own gradient.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            params = energy.constrain(theta)
            statistics = self.expect(params)
            gradient = energy.objective_gradient(theta, params, statistics, self.rows.total)
            sound = np.isfinite(statistics.objective) & np.isfinite(gradient).all(axis=1)
        value = np.where(sound, statistics.objective, -np.inf)
        return value, np.where(sound[:, None], gradient, 0.0)
