"""Expectation maximisation at any temperature and tilt, several starts side by side."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, ArrayRecord, EMResult
from skbae.energies._base import StatisticsEnergy
from skbae.inference.optimise._backtracking import Proposals, backtrack
from skbae.inference.optimise._course import Course

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import DTypeLike, NDArray

    from skbae.inference._objective import Objective

# Relative rounding error of an objective whose energies have this precision; errors of rows in
# single precision average out.
_ROUNDING = {np.dtype(np.float64): 4e-15, np.dtype(np.float32): 1e-8}
# A fit is continued if its objective is the same up to this relative difference.
_SAME_OBJECTIVE = 1e-9


class Ascent(ABC):
    """What is maximised, and the steps that maximise it.

    Attributes
    ----------
    objective : Objective
    backtracks : bool
        Whether a step may lower the value, so that shorter ones are tried.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, self.backtracks = objective, objective.tilt != 0

    @abstractmethod
    def propose(self, params: Any, statistics: Any, steps: Array | None) -> Proposals:
        """Return the models after steps, and which of them exist.

        `steps` are their lengths, in full steps, (S,); None stands for full steps.
        """

    @abstractmethod
    def value(self, params: Any, statistics: Any) -> Array:
        """Return what is maximised, (S,), in nats a row."""


class ObjectiveAscent(Ascent):
    """The (tilted) mean of ``Hmax_T``."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective)
        self.energy = objective.require(StatisticsEnergy, "expectation maximisation")

    def propose(self, params: Any, statistics: Any, steps: Array | None) -> Proposals:
        sound = np.ones(params.n_models, dtype=bool)
        try:
            return self._step(params, statistics, steps), sound
        except ValueError:
            # some have collapsed: each alone, and those that have stay as they are
            for index in range(len(sound)):
                one = np.array([index])
                length = None if steps is None else steps[one]
                try:
                    maximum = self._step(params.take(one), statistics.take(one), length)
                except ValueError:
                    sound[index] = False
                else:
                    params = params.put(one, maximum)
        return params, sound

    def _step(self, params: Any, statistics: Any, steps: Array | None) -> Any:
        energy, temperature = self.energy, self.objective.temperature
        if steps is not None:
            leaps = np.flatnonzero(steps > 1)
            if len(leaps) and not energy.exact_moments:
                # a leap goes on in the direction of models that a full step leads to
                own, given = params.take(leaps), statistics.take(leaps)
                full, none = energy.maximise(given, own, temperature), np.zeros(len(leaps))
                reached = energy.interpolate(full, given, none, temperature)
                statistics = statistics.put(leaps, reached)
            statistics = energy.interpolate(params, statistics, steps, temperature)
        return energy.maximise(statistics, params, temperature)

    def value(self, params: Any, statistics: Any) -> Array:
        return np.asarray(statistics.objective)


@dataclass(frozen=True)
class EMState(ArrayRecord):
    """State of expectation maximisation from S starts.

    Attributes
    ----------
    params, statistics : ArrayRecord
        S models, and the statistics of the pass made with them.
    value : ndarray of shape (S,)
    course : Course
    """

    params: Any
    statistics: Any
    value: Array
    course: Course


def expectation_maximisation(
    objective: Objective,
    params: Any,
    *,
    tol: float = 1e-3,
    max_iter: int = 100,
    dtype: DTypeLike | None = None,
    earlier: Sequence[float] = (),
    on_iteration: Callable[[int, float], bool] | None = None,
    ascent: Ascent | None = None,
) -> EMResult:
    """Maximise the (tilted) mean of ``Hmax_T``.

    Each iteration is a pass over the rows (codes at the temperature, rows reweighted by
    ``exp(-t Hmax)``) and a maximisation, with backtracking if there is a tilt; the objective never
    decreases. Where steps gain little, some are made longer.

    Parameters
    ----------
    objective : Objective
        Of a StatisticsEnergy.
    params : ArrayRecord
        S starts.
    tol : float
        A start has converged when all further steps together are estimated to gain much less: see
        :class:`~skbae.inference.optimise._course.Course`. A step that changes nothing has converged
        whatever `tol`. With 0 no step is made longer.
    max_iter : int
        Largest number of steps of each start.
    dtype : dtype or None
        Precision of the products; None for that of the rows. Starts with much larger variances than
        the fit need float64, since their first sums cancel.
    earlier : sequence of float, default=()
        The objectives of a fit that this one continues, if there was one: if it made a single step,
        this counts in the decision whether the first step here has converged.
    on_iteration : callable or None
        Called with the number of the iteration and the best objective so far; returning true
        stops the run.
    ascent : Ascent or None, default=None
        Another function to maximise.

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
    ascent = ObjectiveAscent(objective) if ascent is None else ascent
    energy = objective.require(StatisticsEnergy, "expectation maximisation")
    precision = objective.rows.X.dtype if dtype is None else dtype
    state = em_init(ascent, params, precision, earlier)
    values, hmaxe = state.statistics.objective, state.statistics.hmaxe
    history = [values]
    n_iter = np.zeros(len(values), dtype=np.intp)
    converged = np.zeros(len(values), dtype=bool)
    active = np.arange(len(values))
    # with a negative tilt, components may shrink onto one row, until energies of others overflow
    shrinking = _may_overflow if objective.tilt < 0 else nullcontext
    for iteration in range(1, max_iter + 1):
        with shrinking():
            new, done, alive, precision = em_step(ascent, state, precision, tol)
        if not alive.all():
            values = values.copy()
            values[active[~alive]] = -np.inf
            active = active[alive]
            if not len(active):
                if converged.any():
                    break
                energy.maximise(
                    new.statistics, new.params, objective.temperature
                )  # raises, with the reason
        if len(active) == len(values):
            params, values, hmaxe = new.params, new.statistics.objective, new.statistics.hmaxe
        else:
            params, values, hmaxe = params.put(active, new.params), values.copy(), hmaxe.copy()
            values[active], hmaxe[active] = new.statistics.objective, new.statistics.hmaxe
        history.append(values)
        n_iter[active] = iteration
        if done.any():
            converged[active[done]] = True
            new, active = new.take(~done), active[~done]
        state = new
        stop = on_iteration is not None and on_iteration(iteration, float(values.max()))
        if stop or not len(active):
            break
    else:
        converged[active] = state.course.would_stop(tol)
    # with arrays in the same order as after pickling, which the last digits of products depend on
    params = params.put(np.arange(len(values)), params)
    return EMResult(params, values, hmaxe, history, n_iter, converged)


def em_init(
    ascent: Ascent, params: Any, precision: DTypeLike, earlier: Sequence[float] = ()
) -> EMState:
    """Return the state before the first step from S models.

    Raises
    ------
    ValueError
        If the objective of a model is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        statistics = ascent.objective.expect(params, precision)
    if not np.isfinite(statistics.objective).all():
        raise ValueError(
            "the start gives a row no finite energy under any component: initial values are too "
            "far from X, or in other units"
        )
    value, gain = ascent.value(params, statistics), math.nan
    # of other rows, or at another temperature, the fit has another objective
    if len(earlier) == 2 and np.allclose(value, earlier[-1], rtol=_SAME_OBJECTIVE, atol=0):
        gain = earlier[1] - earlier[0]
    course = Course.begin(len(value), ascent.objective.tilt, gain)
    return EMState(params, statistics, value, course)


def em_step(
    ascent: Ascent, state: EMState, precision: DTypeLike, tol: float
) -> tuple[EMState, NDArray[np.bool_], NDArray[np.bool_], DTypeLike]:
    """Make one step of all starts.

    Parameters
    ----------
    ascent : Ascent
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
    leaps = bool(state.course.leaping.any())
    # leaps may lead to models under which energies overflow: these are not kept
    overflow = _may_overflow if leaps else nullcontext

    def expect(params: Any) -> Any:
        with overflow():
            return ascent.objective.expect(params, precision)

    course = state.course
    steps = course.steps if leaps or ascent.objective.tilt > 0 else None
    with overflow():
        params, sound = ascent.propose(state.params, state.statistics, steps)
    if precision != np.float64 and not (sound | course.leaping).all():
        precision = np.float64
        state = replace(state, statistics=expect(state.params))
        params, sound = ascent.propose(state.params, state.statistics, steps)
    alive = sound | (course.leaping | ascent.backtracks)
    if not alive.all():
        if not alive.any():
            return state, alive, alive, precision
        state, params, sound = state.take(alive), params.take(alive), sound[alive]
        course = state.course
    statistics = expect(params)
    value = ascent.value(params, statistics)
    gains = [
        new - old if exists else -math.inf
        for new, old, exists in zip(
            value.tolist(), state.value.tolist(), sound.tolist(), strict=True
        )
    ]
    leaping = course.leaping.tolist()
    lower = [
        index
        for index, gain in enumerate(gains)
        if not gain >= 0 and (leaping[index] or ascent.backtracks)
    ]
    if lower:
        back = np.array(lower)
        old = _shorter(ascent, state.take(back), expect)
        params, statistics = params.put(back, old.params), statistics.put(back, old.statistics)
        value = value.copy()
        value[back] = old.value
        # a leap that is not made counts by what it would have gained
        for index in lower:
            if not leaping[index]:
                gains[index] = float(value[index] - state.value[index])
    error = _ROUNDING[np.dtype(precision)]
    done, course = course.after(gains, [error * abs(each) for each in value.tolist()], tol)
    return EMState(params, statistics, value, course), np.array(done), alive, precision


def _may_overflow() -> np.errstate:
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def _shorter(ascent: Ascent, state: EMState, expect: Callable[[Any], Any]) -> EMState:
    """Return the state after shorter steps than those that lower the value, and without leaps."""
    plain = np.flatnonzero(~state.course.leaping)
    if not (len(plain) and ascent.backtracks):
        return state
    old = state.take(plain)
    params, statistics = backtrack(
        ascent.propose, expect, ascent.value, old.params, old.statistics, old.course.steps / 2
    )
    value = ascent.value(params, statistics)
    return state.put(plain, EMState(params, statistics, value, old.course))
