"""Expectation maximisation at any temperature and tilt, several starts side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, EMResult
from skbae.energies._base import StatisticsEnergy

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae.inference._objective import Objective

# A step is halved this often before a start is taken to have converged.
_MAX_HALVINGS = 30
# With a positive tilt, steps that overshoot to and fro gain little each: a start has converged only
# when a step this many times shorter gains little too.
_CONFIRMATION = 8


def expectation_maximisation(
    objective: Objective,
    params: Any,
    *,
    tol: float = 1e-3,
    max_iter: int = 100,
    dtype: Any = None,
    on_iteration: Callable[[int, float], bool] | None = None,
) -> EMResult:
    """Maximise the (tilted) mean of ``Hmax_T``.

    Each iteration is a pass over the rows (codes at `temperature`, rows reweighted by
    ``exp(-t Hmax)``) and a maximisation. Without a tilt, or with a tilt below zero, the full step
    never descends: the objective is minorised by the expected energy. With a positive tilt the
    full step overshoots (its slope is ``-t`` on a Gaussian), so a step of ``1 / (1 + t)`` of the
    way is tried first and halved while the objective falls.

    Parameters
    ----------
    objective : Objective
        Of a StatisticsEnergy.
    params : ArrayRecord
        S starts.
    tol : float
        A start has converged when the objective changes by less.
    max_iter : int
        Largest number of steps of each start.
    dtype : dtype or None
        Precision that products may have; None for that of the rows. Starts much wider than what
        they become need float64: their first sums cancel.
    on_iteration : callable or None
        Called with the number of the iteration and the best objective so far; returning true
        stops the run.

    Returns
    -------
    EMResult

    Raises
    ------
    TypeError
        If the energy lacks the capability.
    ValueError
        If no start has a maximum to step to (collapsed components), from ``energy.maximise``.
        A start that collapses while others live on gets an objective of minus infinity.
    """
    energy = objective.require(StatisticsEnergy, "expectation maximisation")
    n_starts, tilt = params.n_models, objective.tilt
    dtype = objective.rows.X.dtype if dtype is None else dtype

    def expect(models: Any) -> Any:
        return objective.expect(models, dtype)

    first_step = 1.0 / (1.0 + max(tilt, 0.0))
    statistics = expect(params)
    values, hmaxe = statistics.objective.copy(), statistics.hmaxe.copy()
    history = [values.copy()]
    n_iter = np.zeros(n_starts, dtype=np.intp)
    converged = np.zeros(n_starts, dtype=bool)
    active = np.arange(n_starts)
    previous = np.full(n_starts, -np.inf)
    step, confirmed = np.full(n_starts, first_step), np.full(n_starts, tilt < 0)

    for iteration in range(1, max_iter + 1):
        if dtype != np.float64:
            _, sound = _maximise_each(energy, statistics, params.take(active))
            if not sound.all():
                # sums in single precision have cancelled: these data need double from here on
                dtype = np.float64
                statistics = expect(params.take(active))
        if tilt == 0:
            # as scikit-learn does: the step is taken, then the change that led to it is judged
            proposal, sound = _maximise_each(energy, statistics, params.take(active))
            if not sound.all():
                failed, active = active[~sound], active[sound]
                values[failed] = -np.inf
                if not len(active):
                    if converged.any():
                        break
                    energy.maximise(statistics, params.take(failed))  # raises, and says why
                proposal = proposal.take(sound)
            done = np.abs(values[active] - previous[active]) < tol
            previous[active] = values[active]
            proposed = expect(proposal)
        else:
            proposal, proposed = _backtrack(
                energy, expect, params.take(active), statistics, step[active]
            )
            change = np.abs(proposed.objective - values[active])
            small = (change < tol) | (change == 0)
            done = small & confirmed[active]
            step[active[small & ~confirmed[active]]] /= _CONFIRMATION
            confirmed[active] = small | (tilt < 0)
        params = params.put(active, proposal)
        values[active], hmaxe[active] = proposed.objective, proposed.hmaxe
        history.append(values.copy())
        n_iter[active] = iteration
        converged[active[done]] = True
        statistics = proposed.take(~done)
        active = active[~done]
        stop = on_iteration is not None and on_iteration(iteration, float(values.max()))
        if stop or not len(active):
            break
    return EMResult(params, values, hmaxe, history, n_iter, converged)


def _maximise_each(
    energy: StatisticsEnergy, statistics: Any, params: Any
) -> tuple[Any, NDArray[np.bool_]]:
    """Return maximising models and which of them exist; the others stay as in `params`.

    One start that collapses must not take the others with it.
    """
    sound = np.ones(params.n_models, dtype=bool)
    try:
        return energy.maximise(statistics, params), sound
    except ValueError:
        for index in range(params.n_models):
            one = np.array([index])
            try:
                maximum = energy.maximise(statistics.take(one), params.take(one))
            except ValueError:
                sound[index] = False
            else:
                params = params.put(one, maximum)
    return params, sound


def _backtrack(
    energy: StatisticsEnergy,
    expect: Callable[[Any], Any],
    params: Any,
    statistics: Any,
    step: Array,
) -> tuple[Any, Any]:
    """Return models no worse than `params`, and their statistics.

    The path leads from the statistics that the models expect of themselves to those of the pass;
    maximising along it is an ascent direction, so some step is short enough.
    """
    n_models = params.n_models
    step = step.copy()
    accepted, accepted_statistics = params, statistics
    pending = np.arange(n_models)
    for _ in range(_MAX_HALVINGS):
        target = statistics.take(pending)
        path = energy.interpolate(params.take(pending), target, step[pending])
        proposal, sound = _maximise_each(energy, path, params.take(pending))
        proposed = expect(proposal)
        better = sound & (proposed.objective >= target.objective)
        accepted = accepted.put(pending[better], proposal.take(better))
        accepted_statistics = accepted_statistics.put(pending[better], proposed.take(better))
        pending = pending[~better]
        if not len(pending):
            break
        step[pending] /= 2
    return accepted, accepted_statistics
