"""Expectation maximisation at any temperature and tilt, several starts side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, ArrayRecord, EMResult
from skbae.energies._base import StatisticsEnergy
from skbae.inference.optimise._backtracking import Proposals, StepLengths, backtrack
from skbae.inference.optimise._stopping import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import DTypeLike, NDArray

    from skbae.inference._objective import Objective

# Relative rounding error of an objective whose energies have this precision; errors of rows in
# single precision average out.
_ROUNDING = {np.dtype(np.float64): 4e-15, np.dtype(np.float32): 1e-8}
# A fit is continued if its objective is the same up to this relative difference.
_SAME_OBJECTIVE = 1e-9


@dataclass(frozen=True)
class EMState(ArrayRecord):
    """State of expectation maximisation from S starts.

    Attributes
    ----------
    params, statistics : ArrayRecord
        S models, and the statistics of the pass made with them.
    progress : Progress
    lengths : StepLengths
        Of full steps unless the tilt is positive.
    """

    params: Any
    statistics: Any
    progress: Progress
    lengths: StepLengths


def expectation_maximisation(
    objective: Objective,
    params: Any,
    *,
    tol: float = 1e-3,
    max_iter: int = 100,
    dtype: DTypeLike | None = None,
    earlier: Sequence[float] = (),
    on_iteration: Callable[[int, float], bool] | None = None,
) -> EMResult:
    """Maximise the (tilted) mean of ``Hmax_T``.

    Each iteration is a pass over the rows (codes at the temperature, rows reweighted by
    ``exp(-t Hmax)``) and a maximisation, with backtracking if there is a tilt; the objective never
    decreases.

    Parameters
    ----------
    objective : Objective
        Of a StatisticsEnergy.
    params : ArrayRecord
        S starts.
    tol : float
        A start has converged when a step changes the objective by less, and all further steps
        together are estimated to do so too: see
        :class:`~skbae.inference.optimise._stopping.Progress`. A step that changes nothing has
        converged whatever `tol`.
    max_iter : int
        Largest number of steps of each start.
    dtype : dtype or None
        Precision of the products; None for that of the rows. Starts with much larger variances than
        the fit need float64, since their first sums cancel.
    earlier : sequence of float, default=()
        The objectives of a fit that this one continues, if there was one: its last step counts in
        the decision whether the first step here has converged.
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
        If the objective of a start is not finite; if the components of all starts have collapsed,
        from ``energy.maximise``. If only some
        starts collapse, their objective is set to minus infinity.
    """
    energy = objective.require(StatisticsEnergy, "expectation maximisation")
    precision = objective.rows.X.dtype if dtype is None else dtype
    state = em_init(objective, params, precision, earlier)
    values, hmaxe = state.statistics.objective.copy(), state.statistics.hmaxe.copy()
    history = [values.copy()]
    n_iter = np.zeros(len(values), dtype=np.intp)
    converged = np.zeros(len(values), dtype=bool)
    active = np.arange(len(values))
    for iteration in range(1, max_iter + 1):
        new, done, alive, precision = em_step(objective, state, precision, tol)
        if not alive.all():
            values[active[~alive]] = -np.inf
            active = active[alive]
            if not len(active):
                if converged.any():
                    break
                energy.maximise(
                    new.statistics, new.params, objective.temperature
                )  # raises, with the reason
        params = params.put(active, new.params)
        values[active], hmaxe[active] = new.statistics.objective, new.statistics.hmaxe
        history.append(values.copy())
        n_iter[active] = iteration
        converged[active[done]] = True
        state, active = (new.take(~done), active[~done]) if done.any() else (new, active)
        stop = on_iteration is not None and on_iteration(iteration, float(values.max()))
        if stop or not len(active):
            break
    return EMResult(params, values, hmaxe, history, n_iter, converged)


def em_init(
    objective: Objective, params: Any, precision: DTypeLike, earlier: Sequence[float] = ()
) -> EMState:
    """Return the state before the first step from S models.

    Raises
    ------
    ValueError
        If the objective of a model is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        statistics = objective.expect(params, precision)
    if not np.isfinite(statistics.objective).all():
        raise ValueError(
            "the start gives a row no finite energy under any component: initial values are too "
            "far from X, or in other units"
        )
    lengths = StepLengths.begin(params.n_models, objective.tilt)
    progress = Progress.begin(params.n_models)
    if len(earlier) > 1:
        # of other rows, or at another temperature, the fit has another objective
        same = np.isclose(statistics.objective, earlier[-1], rtol=_SAME_OBJECTIVE, atol=0)
        for older, newer in pairwise(earlier[-3:]):
            progress = progress.after(np.where(same, newer - older, np.nan), progress.step)
    return EMState(params, statistics, progress, lengths)


def em_step(
    objective: Objective, state: EMState, precision: DTypeLike, tol: float
) -> tuple[EMState, NDArray[np.bool_], NDArray[np.bool_], DTypeLike]:
    """Make one step of all starts.

    Parameters
    ----------
    objective : Objective
        Of a StatisticsEnergy.
    state : EMState
        S starts.
    precision : dtype
    tol : float

    Returns
    -------
    state : EMState
        Of the starts that have not collapsed; unchanged if all have.
    converged : ndarray of bool
        Which of these have converged.
    alive : ndarray of bool of shape (S,)
        False for starts that have collapsed.
    precision : dtype
        float64 for all further steps if sums in float32 have cancelled.
    """
    energy = objective.require(StatisticsEnergy, "expectation maximisation")

    def propose(params: Any, statistics: Any, steps: Array) -> Proposals:
        if objective.tilt:
            statistics = energy.interpolate(params, statistics, steps, objective.temperature)
        return _maximise_each(energy, statistics, params, objective.temperature)

    def expect(params: Any) -> Any:
        return objective.expect(params, precision)

    first = propose(state.params, state.statistics, state.lengths.steps)
    if precision != np.float64 and not first[1].all():
        precision = np.float64
        state = replace(state, statistics=expect(state.params))
        first = propose(state.params, state.statistics, state.lengths.steps)
    if objective.tilt == 0:
        params, alive = first
        if not alive.any():
            return state, alive, alive, precision
        if not alive.all():
            state, params = state.take(alive), params.take(alive)
        statistics = expect(params)
    else:
        params, statistics = backtrack(
            propose,
            expect,
            _objective_of,
            state.params,
            state.statistics,
            state.lengths.steps,
            first,
        )
        alive = np.ones(len(state.lengths.steps), dtype=bool)
    change = statistics.objective - state.statistics.objective
    progress = state.progress.after(change, state.lengths.steps)
    rounding = _ROUNDING[np.dtype(precision)]
    done = progress.converged(statistics.objective, tol, rounding)
    lengths = state.lengths
    if objective.tilt > 0:
        done, lengths = lengths.after(change, change / lengths.steps < tol, done)
        # a shortened step between longer ones says nothing about the course of these
        aside = np.flatnonzero(lengths.steps > state.lengths.steps)
        progress = progress.put(aside, state.progress.take(aside))
    return EMState(params, statistics, progress, lengths), done, alive, precision


def _objective_of(params: Any, statistics: Any) -> Array:
    """Return the objective, which must not decrease."""
    return np.asarray(statistics.objective)


def _maximise_each(
    energy: StatisticsEnergy, statistics: Any, params: Any, temperature: float
) -> tuple[Any, NDArray[np.bool_]]:
    """Return maximising models and which of them exist; the others stay as in `params`.

    If one start collapses, the maximisation is repeated for each start alone.
    """
    sound = np.ones(params.n_models, dtype=bool)
    try:
        return energy.maximise(statistics, params, temperature), sound
    except ValueError:
        for index in range(params.n_models):
            one = np.array([index])
            try:
                maximum = energy.maximise(statistics.take(one), params.take(one), temperature)
            except ValueError:
                sound[index] = False
            else:
                params = params.put(one, maximum)
    return params, sound
