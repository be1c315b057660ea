"""The best model by gradients, stopped by rows held out: exact, or by contrast with chains.

Where the objective and its gradient are exact, a quasi-Newton method climbs; where the partition
function is out of reach, persistent chains stand for the model (Tieleman 2008). Rows are merged and
put into an order of their own first, so that a row of weight two is two rows, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize

from skbae._types import Rows
from skbae.energies._base import require
from skbae.energies._capabilities import ContrastiveEnergy, GradientEnergy
from skbae.inference.passes._rows import make_rows
from skbae.inference.passes._starting_points import distinct_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae.inference._objective import Objective

    Array = NDArray[np.float64]

# Pairs of steps and gradients that the quasi-Newton method remembers.
_MEMORY = 20
# The contrast's rate falls linearly from the start to the end of its schedule.
_LAST_RATE = 0.01
_LEAST_STEPS = 10


@dataclass(frozen=True)
class Ascent:
    """Where a climb ended.

    Attributes
    ----------
    theta : ndarray of shape (P,)
        Coordinates of the best model met.
    history : list of float
        What was watched, after each step: the objective on rows held out, or on all rows.
    n_iter : int
    converged : bool
    chains : ndarray of shape (C, D) or None
        Persistent chains at the end.
    """

    theta: Array
    history: list[float]
    n_iter: int
    converged: bool
    chains: Array | None = None


def merged_rows(rows: Rows) -> Rows:
    """Return distinct rows in an order that is theirs, with merged weights."""
    return make_rows(*distinct_rows(rows, limit=len(rows.X)))


def hold_out(rows: Rows, fraction: float, rng: np.random.Generator) -> tuple[Rows, Rows | None]:
    """Split merged rows by weight; a row of weight w is w rows, each held out by chance.

    Parameters
    ----------
    rows : Rows
        From :func:`merged_rows`.
    fraction : float
        Expected share of the weight to hold out.
    rng : Generator

    Returns
    -------
    kept, held : Rows
        `held` is None where chance, on few rows, left one of the parts without any.
    """
    weights = np.ones(len(rows.X)) if rows.weights is None else rows.weights
    whole = np.floor(weights)
    held = rng.binomial(whole.astype(np.int64), fraction).astype(np.float64)
    held += (weights - whole) * (rng.random(len(weights)) < fraction)
    kept = weights - held
    if np.count_nonzero(held) < 2 or np.count_nonzero(kept) < 2:
        return rows, None
    return make_rows(rows.X[kept > 0], kept[kept > 0]), make_rows(rows.X[held > 0], held[held > 0])


class _Stop(Exception):
    """Ends a climb from within its callback, which older versions of SciPy offer no way to do."""


class Watch:
    """Remembers the best model, and says when waiting for a better one has been long enough."""

    def __init__(self, patience: int) -> None:
        self.patience, self.history = patience, []  # type: int, list[float]
        self.best, self.best_at = -np.inf, 0
        self.theta: Any = None

    def __call__(self, theta: Array, value: float) -> bool:
        """Record a model; return whether to stop."""
        self.history.append(value)
        if self.theta is None or value > self.best:
            self.theta, self.best, self.best_at = theta.copy(), value, len(self.history)
        return len(self.history) - self.best_at >= self.patience


def climb(
    objective: Objective,
    theta: Array,
    held: Rows | None,
    *,
    max_iter: int,
    tol: float,
    patience: int,
    enough: float = np.inf,
    on_step: Callable[[int, float], bool] | None = None,
) -> Ascent:
    """Climb the exact objective by a quasi-Newton method (L-BFGS).

    Parameters
    ----------
    objective : Objective
        Of a GradientEnergy; without a tilt.
    theta : ndarray of shape (P,)
    held : Rows or None
        Rows held out: the best model on these is returned, and the climb ends `patience` steps
        after it. None: the best on the objective's own rows.
    max_iter : int
    tol : float
        The climb has converged when no entry of the gradient is larger.
    patience : int
    enough : float
        The climb ends when the objective reaches this.
    on_step : callable or None
        Called with the number of the step and the objective; true stops.

    Returns
    -------
    Ascent
    """
    objective.require(GradientEnergy, "climbing by gradients")
    on_held = None if held is None else replace(objective, rows=held)
    watch = Watch(patience if held is not None else max_iter + 1)
    last: dict[str, Any] = {}

    def descent(theta: Array) -> tuple[float, Array]:
        values, gradient = objective.value_and_gradient(theta[None])
        last.update(theta=theta.copy(), objective=float(values[0]))
        value = float(-values[0])
        return (value if np.isfinite(value) else 1e300), -gradient[0]

    def on_iteration(theta: Array) -> None:
        if not np.array_equal(last["theta"], theta):
            descent(theta)
        reached, value = last["objective"], last["objective"]
        if on_held is not None:
            value = float(on_held.value_and_gradient(theta[None])[0][0])
        done = watch(theta, value) or reached >= enough
        stopped = on_step is not None and on_step(len(watch.history), reached)
        if done or stopped:
            last["converged"] = bool(done)
            raise _Stop

    try:
        found = minimize(
            descent,
            theta,
            jac=True,
            method="L-BFGS-B",
            callback=on_iteration,
            options={
                "maxiter": max_iter,
                "maxfun": 20 * max_iter + 20,
                "maxcor": _MEMORY,
                "gtol": tol,
                "ftol": 0.0,
            },
        )
        converged = found.status != 1
    except _Stop:
        converged = last["converged"]
    best = theta if watch.theta is None else watch.theta
    return Ascent(best, watch.history, len(watch.history), bool(converged))


def contrastive_ascent(
    energy: ContrastiveEnergy,
    theta: Array,
    chains: Array,
    rows: Rows,
    held: Rows | None,
    rng: np.random.Generator,
    *,
    temperature: float,
    rate: float,
    decay: bool,
    batch_size: int,
    max_iter: int,
    n_gibbs: int = 1,
    on_step: Callable[[int, float], bool] | None = None,
) -> Ascent:
    """Climb by the contrast of rows and persistent chains.

    Parameters
    ----------
    energy : ContrastiveEnergy
    theta : ndarray of shape (P,)
    chains : ndarray of shape (C, D)
    rows : Rows
        From :func:`merged_rows`; a batch is some of these, with their weights.
    held : Rows or None
        Rows held out, on which a proper score is watched: the best model on these is returned.
        None: the last.
    rng : Generator
    temperature : float
    rate : float
        At the start.
    decay : bool
        Whether the rate falls linearly, to almost nothing at the end.
    batch_size : int
    max_iter : int
        Passes over the rows, of at least ten steps: few distinct rows are passed over repeatedly.
    patience : int
        Passes without a better score before the climb ends.
    n_gibbs : int, default=1
        Gibbs steps of the chains before each step of the model.
    on_step : callable or None
        Called with the number of the pass and the score watched; true stops.

    Returns
    -------
    Ascent
    """
    require(energy, ContrastiveEnergy, "persistent contrastive divergence")
    weights = np.ones(len(rows.X)) if rows.weights is None else rows.weights
    n_batches = -(-len(rows.X) // batch_size)
    n_rounds = -(-_LEAST_STEPS // n_batches)
    typical = weights.sum() / n_batches
    watched = rows if held is None else held
    # the rate's schedule is run to its end: while the rate is high, scores say little
    watch = Watch(max_iter + 1)
    theta, step, stopped = theta.copy(), 0, False
    for epoch in range(1, max_iter + 1):
        batches = [
            batch
            for _ in range(n_rounds)
            for batch in np.array_split(rng.permutation(len(rows.X)), n_batches)
        ]
        for batch in batches:
            params = energy.at(theta)
            for _ in range(n_gibbs):
                chains = energy.advance(params, chains, rng)
            w = weights[batch]
            direction = energy.contrast(params, rows.X[batch], w, chains, temperature)
            left = 1 - step / (max_iter * n_rounds * n_batches) if decay else 1.0
            theta += rate * max(left, _LAST_RATE) * (w.sum() / typical) * direction
            step += 1
        if not np.isfinite(theta).all():
            raise ValueError(
                "the weights grew without bound: learning_rate_init is too large for these rows"
            )
        scores = energy.proper_score(energy.at(theta), watched.X)
        value = float(np.average(scores, weights=watched.weights))
        watch(theta, value)
        stopped = on_step is not None and on_step(epoch, value)
        if stopped:
            break
    best = watch.theta if held is not None and max_iter else theta
    return Ascent(best, watch.history, len(watch.history), not stopped, chains)
