"""The best model by a quasi-Newton method (L-BFGS), where objective and gradient are exact.

A fit may be stopped by rows held out, see ``_early_stopping.py``.
"""

from __future__ import annotations

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

# Pairs of steps and gradients that the method remembers.
_MEMORY = 20
# What the method sees of an objective that is minus infinity.
_WORST = 1e300


@dataclass(frozen=True)
class LBFGSResult:
    """Where a fit ended.

    Attributes
    ----------
    theta : ndarray of shape (P,)
        Coordinates of the best model met.
    objective, score : float
        Of that model: on the rows fitted to, and on those held out; the same without these.
    scores : list of float
        After each step: the objective on the rows held out, or on all rows without these.
    converged : bool
    shortfall : str
        What to warn the user of: that the fit ended at its limit. Empty otherwise.
    """

    theta: Array
    objective: float
    score: float
    scores: list[float]
    converged: bool
    shortfall: str

    @property
    def n_iter(self) -> int:
        """Steps made."""
        return len(self.scores)


@dataclass(frozen=True)
class _Evaluation:
    """The objective at a model, and the pass over rows that gave it, which other rows may share.

    The pass holds what is costly and the same for all rows (the sum over all states of a machine).
    """

    theta: Array
    objective: float
    gradient: Array
    kernel: RowKernel


def _evaluate(objective: Objective, energy: GradientEnergy, theta: Array) -> _Evaluation:
    """Return the objective at theta (P,); ``-inf``, with no gradient, where it is not finite."""
    rows = objective.rows
    with np.errstate(all="ignore"):
        params = energy.constrain(theta[None])
        kernel = objective.kernel(params)
        statistics = objective.runner.reduce(kernel, rows)
        gradient = energy.objective_gradient(theta[None], params, statistics, rows.total)[0]
        value = float(statistics.objective[0])
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        value, gradient = -np.inf, np.zeros_like(gradient)
    return _Evaluation(theta.copy(), value, gradient, kernel)


class _Stop(Exception):
    """Ends a fit from within its callback, which older versions of SciPy offer no way to do."""


class _Steps:
    """What the method asks for: evaluations on its way, and whether to stop after a step."""

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
        """Return what a model is judged by: the objective on the rows held out, if there are."""
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
        """Take note of a model; end the fit if it has come far enough, or is to stop."""
        if self.last is None or not np.array_equal(self.last.theta, theta):
            self.last = self.evaluate(theta)
        score = self.score(self.last)
        if self.reached is None or score > self.best.score:
            self.reached = self.last
        self.scores.append(score)
        lost_patience = self.best.update(theta, score)
        self.satisfied = lost_patience or self.last.objective >= self.enough
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
        Where to begin.
    held : Rows or None
        Rows held out: the best model on these is returned, and the fit ends `patience` steps after
        it. None: the best on the objective's own rows.
    max_iter : int
    tol : float
        The fit has converged when no entry of the gradient is larger.
    patience : int
    enough : float, default=inf
        The fit ends when the objective reaches this.
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
    shortfall = ""
    if not (converged or steps.stopped) and max_iter:
        shortfall = (
            f"the gradient was still above tol={tol:g} after max_iter={max_iter} steps; increase "
            "max_iter or tol"
        )
    reached = steps.reached or steps.evaluate(theta)
    score = steps.score(reached)
    return LBFGSResult(
        reached.theta, reached.objective, score, steps.scores, bool(converged), shortfall
    )
