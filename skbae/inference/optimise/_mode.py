"""The best model: the mode of ``prior(m) exp((N / tau) F(m))``, F the (tilted) mean of ``Hmax_T``.

One function serves all families: with a conjugate prior it runs expectation maximisation including
the prior, whose steps have a closed form; otherwise L-BFGS in the energy's coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize

from skbae._types import ArrayRecord, EMResult
from skbae.energies._capabilities import ConjugateEnergy, GradientEnergy
from skbae.inference.optimise._em import Ascent, expectation_maximisation

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.inference._objective import Objective
    from skbae.inference.optimise._backtracking import Proposals

# Change of the log density, relative to its size, at which L-BFGS stops: 1e7 rounding units.
_RELATIVE_TOL = 1e7 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class ModeResult(ArrayRecord):
    """Modes found from S starts.

    Attributes
    ----------
    params : ArrayRecord
        S models.
    hmaxe, objective : ndarrays of shape (S,)
        The plain mean ``Hmaxe_T`` and the tilted one, F.
    log_target : ndarray of shape (S,)
        ``log prior + (N / tau) F``, as from ``Objective.log_targets``.
    converged : ndarray of bool of shape (S,)
    """

    params: Any
    hmaxe: Array
    objective: Array
    log_target: Array
    converged: NDArray[np.bool_]


def best_start(objective: Objective, params: Any, model_temperature: float) -> Any:
    """Return the model of highest density among S models."""
    best = int(np.argmax(objective.log_targets(params, model_temperature)))
    return params.take(np.array([best]))


def find_mode(
    objective: Objective,
    starts: Any,
    model_temperature: float,
    *,
    tol: float | None = None,
    max_iter: int | None = None,
) -> ModeResult:
    """Return the mode reached from each start, by steps that never decrease the density.

    Parameters
    ----------
    objective : Objective
        F, of a ConjugateEnergy or a GradientEnergy. The mode depends on the coordinates in which
        the density is taken, which the energy defines: see ``log_mode_measure`` and
        ``log_prior_at``.
    starts : ArrayRecord
        S models.
    model_temperature : float
        tau, positive.
    tol : float or None, default=None
        For conjugate energies, a start has converged when a step changes F by less (default 1e-6);
        for others, when it changes the log density by less, relative to its size (default 2.2e-9).
    max_iter : int or None, default=None
        Largest number of steps; 200 for conjugate energies, 500 for others.

    Returns
    -------
    ModeResult

    Raises
    ------
    TypeError
        If the energy has neither capability.
    ValueError
        If `model_temperature` is not positive.
    """
    if isinstance(objective.energy, ConjugateEnergy):
        tol = 1e-6 if tol is None else tol
        max_iter = 200 if max_iter is None else max_iter
        return _by_expectation_maximisation(objective, starts, model_temperature, tol, max_iter)
    tol = _RELATIVE_TOL if tol is None else tol
    max_iter = 500 if max_iter is None else max_iter
    return _by_lbfgs(objective, starts, model_temperature, tol, max_iter)


class PosteriorAscent(Ascent):
    """The log density of models, over its power of the mean of ``Hmax_T``."""

    def __init__(self, objective: Objective, model_temperature: float) -> None:
        super().__init__(objective)
        self.energy = objective.require(ConjugateEnergy, "finding the mode")
        self.power, self.model_temperature = objective.power(model_temperature), model_temperature

    def propose(self, params: Any, statistics: Any, steps: Array | None) -> Proposals:
        sound = np.ones(params.n_models, dtype=bool)
        if steps is None:
            return self.energy.maximise_posterior(statistics, self.model_temperature), sound
        temperature = self.objective.temperature
        for step in np.unique(steps):
            index = np.flatnonzero(steps == step)
            own, given = params.take(index), statistics.take(index)
            try:
                proposal = self._step(own, given, steps[index], temperature)
            except ValueError:
                if step <= 1:
                    raise
                sound[index] = False  # a leap too far
            else:
                params = params.put(index, proposal)
        return params, sound

    def _step(self, params: Any, statistics: Any, steps: Array, temperature: float) -> Any:
        """Return models after steps of one length."""
        energy, length = self.energy, float(steps[0])
        if length <= 1:
            # A fraction s of the full step: the statistics that the model expects of itself, which
            # it maximises, are added with (1 - s) / s times the weight of the rows and the prior.
            mixed = energy.interpolate(params, statistics, steps, temperature)
            return energy.maximise_posterior(mixed, length * self.model_temperature)
        # a leap goes on in the direction of models that a full step leads to
        full = energy.maximise_posterior(statistics, self.model_temperature)
        reached = energy.interpolate(full, statistics, np.zeros(len(steps)), temperature)
        beyond = energy.interpolate(params, reached, steps, temperature)
        return energy.maximise(beyond, params, temperature)

    def value(self, params: Any, statistics: Any) -> Array:
        log_prior = self.energy.log_prior(params) + self.energy.log_mode_measure(params)
        return np.asarray(log_prior / self.power + statistics.objective)


def _by_expectation_maximisation(
    objective: Objective, params: Any, model_temperature: float, tol: float, max_iter: int
) -> ModeResult:
    """Maximise from all starts at once by expectation maximisation, until all have converged."""
    found = expectation_maximisation(
        objective,
        params,
        tol=tol,
        max_iter=max_iter,
        dtype=np.float64,
        ascent=PosteriorAscent(objective, model_temperature),
    )
    log_prior = objective.require(ConjugateEnergy, "finding the mode").log_prior(found.params)
    log_target = log_prior + objective.power(model_temperature) * found.objective
    return ModeResult(found.params, found.hmaxe, found.objective, log_target, found.converged)


def find_maximum(
    objective: Objective,
    starts: Any,
    *,
    tol: float = 1e-3,
    max_iter: int = 100,
    on_step: Callable[[int, float], bool] | None = None,
) -> EMResult:
    """Maximise F without a prior by gradients, from one start after the other.

    Parameters
    ----------
    objective : Objective
        Of a GradientEnergy.
    starts : ArrayRecord
        S models.
    tol : float, default=1e-3
        A start has converged when a step gains less than a hundredth of this, in nats a row.
    max_iter : int, default=100
        Largest number of steps of each start.
    on_step : callable or None, default=None
        Called with the number of the step, over all starts, and F; returning true stops the run.

    Returns
    -------
    EMResult
        Its history has F before and after each step, of each start; those of fewer steps end with
        NaN.

    Raises
    ------
    TypeError
        If the energy lacks the capability.
    """
    energy = objective.require(GradientEnergy, "finding the maximum")
    # L-BFGS stops when a step gains less than ftol times the larger of |F| and 1
    options = {"maxiter": max_iter, "ftol": max(tol / 100, 1e-3 * _RELATIVE_TOL)}
    climbs: list[_Climb] = []
    converged: list[bool] = []
    for theta in energy.unconstrain(starts):
        climb = _Climb(objective, theta, on_step, sum(each.n_steps for each in climbs))
        climbs.append(climb)
        converged.append(max_iter > 0 and climb.run(options))
        if climb.stopped:
            break
    longest = max(climb.n_steps for climb in climbs)
    history = np.full((longest + 1, len(climbs)), np.nan)
    for number, climb in enumerate(climbs):
        history[: climb.n_steps + 1, number] = climb.trace
    params = energy.constrain(np.stack([climb.theta for climb in climbs]))
    statistics = objective.expect(params)
    return EMResult(
        params,
        statistics.objective,
        statistics.hmaxe,
        list(history),
        np.array([climb.n_steps for climb in climbs], dtype=np.intp),
        np.array(converged),
    )


class _Climb:
    """The way of L-BFGS from one start, with F before and after each step."""

    def __init__(
        self,
        objective: Objective,
        theta: Array,
        on_step: Callable[[int, float], bool] | None,
        n_earlier: int,
    ) -> None:
        self.objective, self.theta, self.stopped = objective, theta, False
        self.on_step, self.n_earlier = on_step, n_earlier
        self.trace = [self._value(theta)]

    @property
    def n_steps(self) -> int:
        """Number of steps made."""
        return len(self.trace) - 1

    def _value(self, theta: Array) -> float:
        return float(self.objective.value_and_gradient(theta[None])[0][0])

    def run(self, options: dict[str, Any]) -> bool:
        """Climb; return whether it has converged."""
        latest: dict[bytes, float] = {}

        def negative(theta: Array) -> tuple[float, Array]:
            value, gradient = self.objective.value_and_gradient(theta[None])
            latest[theta.tobytes()] = float(value[0])
            return -float(value[0]), -gradient[0]

        def follow(theta: Array) -> None:
            key, self.theta = theta.tobytes(), theta.copy()
            self.trace.append(latest[key] if key in latest else self._value(theta))
            latest.clear()
            number = self.n_earlier + self.n_steps
            if self.on_step is not None and self.on_step(number, self.trace[-1]):
                self.stopped = True
                raise StopIteration

        try:
            found = minimize(
                negative, self.theta, jac=True, method="L-BFGS-B", options=options, callback=follow
            )
        except StopIteration:  # which only some versions of scipy handle
            return False
        return bool(found.success) and not self.stopped


def _by_lbfgs(
    objective: Objective, params: Any, model_temperature: float, tol: float, max_iter: int
) -> ModeResult:
    """Maximise from one start after the other, by L-BFGS."""
    energy = objective.require(GradientEnergy, "finding the mode")
    power = objective.power(model_temperature)

    def negative_density(theta: Array) -> tuple[float, Array]:
        log_prior, prior_gradient = objective.prior(theta[None])
        value, gradient = objective.value_and_gradient(theta[None])
        return float(-log_prior[0] - power * value[0]), -(prior_gradient + power * gradient)[0]

    options = {"maxiter": max_iter, "ftol": tol}
    found = [
        minimize(negative_density, theta, jac=True, method="L-BFGS-B", options=options)
        for theta in energy.unconstrain(params)
    ]
    modes = energy.constrain(np.stack([each.x for each in found]))
    statistics = objective.expect(modes)
    log_target = -np.array([each.fun for each in found])
    converged = np.array([bool(each.success) for each in found])
    return ModeResult(modes, statistics.hmaxe, statistics.objective, log_target, converged)
