"""The best model by the quasi-Newton method L-BFGS, for an exact objective and gradient.

A fit may be stopped early by the objective on rows held out.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from skbae.energies._capabilities import GradientEnergy
from skbae.inference.optimise._early_stopping import BestModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array, Rows
    from skbae.energies._base import RowKernel
    from skbae.inference._objective import Objective

# Number of pairs of steps and gradients from which L-BFGS approximates the Hessian.
_MEMORY = 20
# Stands for plus infinity in the loss that L-BFGS minimises.
_WORST = 1e300


@dataclass(frozen=True)
class LBFGSResult:
    """Result of a fit.

    Attributes
    ----------
    theta : ndarray of shape (P,)
        Coordinates of the best model.
    objective, score : float
        Objective of that model on the rows fitted to, and on the rows held out (the same value if
        none are).
    scores : list of float
        After each step, the objective on the rows held out, or on all rows if none are.
    converged : bool
    warning : str
        Text of a ConvergenceWarning if the fit ended at `max_iter`, otherwise empty.
    """

    theta: Array
    objective: float
    score: float
    scores: list[float]
    converged: bool
    warning: str

    @property
    def n_iter(self) -> int:
        """Steps made."""
        return len(self.scores)


@dataclass(frozen=True)
class _Evaluation:
    """The objective at a model, and the kernel of the pass over rows by which it was computed.

    The kernel holds what is costly and the same for all rows, such as the sum over all states of a
    machine; it is used again for the rows held out.
    """

    theta: Array
    objective: float
    gradient: Array
    kernel: RowKernel


def _evaluate(objective: Objective, energy: GradientEnergy, theta: Array) -> _Evaluation:
    """Return the objective at theta (P,); ``-inf`` with gradient zero where it is not finite."""
    rows = objective.rows
    with np.errstate(all="ignore"):
        params = energy.constrain(theta[None])
        kernel = objective.kernel(params)
        statistics = objective.runner.reduce(kernel, rows)
        gradient = energy.objective_gradient(
            theta[None], params, statistics, rows.total, objective.temperature
        )[0]
        value = float(statistics.objective[0])
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        value, gradient = -np.inf, np.zeros_like(gradient)
    return _Evaluation(theta.copy(), value, gradient, kernel)


def ascend_lbfgs(
    evaluate: Callable[[Array], tuple[float, Array]],
    theta: Array,
    max_iter: int,
    lower: Array,
    on_step: Callable[[int, Array, float], bool],
) -> None:
    """Make steps that increase a function of coordinates.

    Parameters
    ----------
    evaluate : callable
        Returns the value at coordinates (P,), ``-inf`` where there is none, and the gradient.
    theta : ndarray of shape (P,)
        Initial coordinates.
    max_iter : int
    lower : ndarray of shape (P,)
        Bounds of the coordinates.
    on_step : callable
        Called after each step with its number (from 1), the coordinates and the value; true stops.

    Examples
    --------
    >>> import numpy as np
    >>> seen = []
    >>> ascend_lbfgs(
    ...     lambda x: (float(-((x - 3) ** 2).sum()), -2 * (x - 3)), np.zeros(1), 10,
    ...     np.full(1, -np.inf), lambda number, x, value: bool(seen.append(round(float(x[0]), 6))))
    >>> seen[-1]
    3.0
    """
    last: dict[bytes, float] = {}

    def descent(at: Array) -> tuple[float, Array]:
        value, gradient = evaluate(at)
        last.clear()
        last[at.tobytes()] = value
        return (-value if np.isfinite(value) else _WORST), -gradient

    number = 0

    def after_step(at: Array) -> None:
        nonlocal number
        number += 1
        value = last.get(at.tobytes())
        if on_step(number, at, evaluate(at)[0] if value is None else value):
            raise _Stop

    options = {"maxiter": max_iter, "maxfun": 20 * max_iter + 20, "maxcor": _MEMORY, "ftol": 0.0}
    bounds = [(low if np.isfinite(low) else None, None) for low in lower]
    with suppress(_Stop):
        minimize(
            descent,
            theta,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            callback=after_step,
            options=options,
        )


class _Stop(Exception):
    """Ends a fit from within the callback; older versions of SciPy have no other way."""


class _Steps:
    """The loss for L-BFGS, and the callback after each step, which may stop the fit."""

    def __init__(
        self,
        objective: Objective,
        held: Rows | None,
        patience: int,
        enough: float,
        on_step: Callable[[int, float], bool] | None,
    ) -> None:
        self.objective, self.held, self.enough, self.on_step = objective, held, enough, on_step
        self.energy = objective.require(GradientEnergy, "maximising by gradients")
        self.best = BestModel(None if held is None else patience)
        self.scores: list[float] = []
        self.last: _Evaluation | None = None
        self.reached: _Evaluation | None = None  # at the best model
        self.satisfied = self.stopped = False

    def evaluate(self, theta: Array) -> _Evaluation:
        """Return the objective at theta (P,)."""
        return _evaluate(self.objective, self.energy, theta)

    def score(self, evaluation: _Evaluation) -> float:
        """Return the objective on the rows held out, or on all rows if none are."""
        if self.held is None:
            return evaluation.objective
        with np.errstate(all="ignore"):
            statistics = self.objective.runner.reduce(evaluation.kernel, self.held)
            value = float(statistics.objective[0])
        return value if np.isfinite(value) else -np.inf

    def descent(self, theta: Array) -> tuple[float, Array]:
        """Return minus the objective and its gradient."""
        self.last = self.evaluate(theta)
        loss = -self.last.objective
        return (loss if np.isfinite(loss) else _WORST), -self.last.gradient

    def after_step(self, theta: Array) -> None:
        """Record a model; end the fit if a stopping rule or the callback says so."""
        if self.last is None or not np.array_equal(self.last.theta, theta):
            self.last = self.evaluate(theta)
        score = self.score(self.last)
        if self.reached is None or score > self.best.score:
            self.reached = self.last
        self.scores.append(score)
        out_of_patience = self.best.update(theta, score)
        self.satisfied = out_of_patience or self.last.objective >= self.enough
        if self.on_step is not None:
            self.stopped = bool(self.on_step(len(self.scores), self.last.objective))
        if self.satisfied or self.stopped:
            raise _Stop


def maximise_lbfgs(
    objective: Objective,
    theta: Array,
    held: Rows | None,
    *,
    max_iter: int,
    tol: float,
    patience: int,
    enough: float = np.inf,
    on_step: Callable[[int, float], bool] | None = None,
) -> LBFGSResult:
    """Maximise an objective.

    Parameters
    ----------
    objective : Objective
        Of a GradientEnergy.
    theta : ndarray of shape (P,)
        Initial coordinates.
    held : Rows or None
        Rows held out: the model that is best on these is returned, and the fit ends `patience`
        steps after it. With None, the model that is best on the rows of the objective.
    max_iter : int
        With 0 the start is returned.
    tol : float
        The fit has converged when no entry of the gradient is larger than this.
    patience : int
    enough : float, default=inf
        The fit ends when the objective reaches this value.
    on_step : callable or None
        Called with the number of the step and the objective; true stops.

    Returns
    -------
    LBFGSResult

    Raises
    ------
    TypeError
        If the energy lacks the capability.
    """
    steps = _Steps(objective, held, patience, enough, on_step)
    if max_iter == 0:  # SciPy would make a step all the same
        start = steps.evaluate(theta)
        return LBFGSResult(start.theta, start.objective, steps.score(start), [], False, "")
    options = {
        "maxiter": max_iter,
        "maxfun": 20 * max_iter + 20,
        "maxcor": _MEMORY,
        "gtol": tol,
        "ftol": 0.0,
    }
    try:
        found = minimize(
            steps.descent,
            theta,
            jac=True,
            method="L-BFGS-B",
            callback=steps.after_step,
            options=options,
        )
        converged = found.status != 1
    except _Stop:
        converged = steps.satisfied
    warning = ""
    if not (converged or steps.stopped) and max_iter:
        warning = (
            f"the gradient is still above tol={tol:g} after max_iter={max_iter} steps; increase "
            "max_iter or tol"
        )
    reached = steps.reached or steps.evaluate(theta)
    score = steps.score(reached)
    return LBFGSResult(
        reached.theta, reached.objective, score, steps.scores, bool(converged), warning
    )
