"""Minibatch fits: the loop that all families share.

A model is a vector of coordinates here. A
:class:`~skbae.energies._capabilities.MinibatchObjective` computes the direction of a step from a
batch of rows; an :class:`Optimiser` makes the step (:class:`PlainSteps` here, Adam in
``_adam.py``); a :class:`MinibatchPlan` has the schedule of the learning rate and the stopping
rule. The direction may be a gradient, a contrast with persistent chains, or, for stepwise
expectation maximisation, the difference of the batch's statistics from those so far, with a rate
that falls.

A pass visits each *distinct* row once, in random order, and counts it with its weight. A row of
weight two gives exactly the result of the row repeated, since neither the order of the rows nor the
random numbers depend on repetitions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.inference.optimise._early_stopping import BestModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import FloatArray
    from skbae.energies._capabilities import MinibatchObjective

_STILL_IMPROVED = (
    "the objective still improved after max_iter={} passes; increase max_iter, tol or "
    "learning_rate_init, or set early_stopping=True"
)
# Share of the passes of cooling whose mean objectives tell whether it still improves at the end:
# whether they rose by more than this share of the rise since the first pass.
_LAST_SHARE, _SMALL_SHARE = 0.25, 0.02
# Smallest factor of a falling learning rate.
_LAST_RATE = 0.01

Schedule = Callable[[int, int], float]
"""Factor of the learning rate, given the index of a step (from 0) and the number of steps."""


class DivergedError(ValueError):
    """An objective or its parameters became NaN or infinite."""

    def __init__(self) -> None:
        super().__init__(
            "the objective or the parameters became NaN or infinite; decrease learning_rate_init"
        )


def constant_rate(step: int, n_steps: int) -> float:
    """Return 1."""
    return 1.0


def falling_rate(step: int, n_steps: int) -> float:
    """Return a factor that falls linearly from 1 to 0.01.

    Examples
    --------
    >>> [falling_rate(step, 4) for step in range(5)]
    [1.0, 0.75, 0.5, 0.25, 0.01]
    """
    return max(1 - step / n_steps, _LAST_RATE)


class Optimiser(ABC):
    """Moves coordinates along directions in which the objective increases.

    Attributes
    ----------
    theta : ndarray of shape (P,)
        Current coordinates.
    average : ndarray of shape (P,)
        Average of the coordinates over the steps; `theta` itself for optimisers that do not
        average.
    n_steps : int
        Steps made so far.
    """

    theta: FloatArray
    average: FloatArray
    n_steps: int

    @abstractmethod
    def ascend(self, direction: FloatArray, rate: float) -> None:
        """Make one step along `direction` (P,), which may be overwritten."""


class PlainSteps(Optimiser):
    """``theta += rate * direction``.

    Parameters
    ----------
    theta : ndarray of shape (P,)
        Initial coordinates; copied.
    """

    def __init__(self, theta: FloatArray) -> None:
        self.theta = self.average = theta.copy()
        self.n_steps = 0

    def ascend(self, direction: FloatArray, rate: float) -> None:
        """Make one step."""
        self.n_steps += 1
        self.theta += rate * direction


@dataclass(frozen=True)
class MinibatchPlan:
    """Batch size, learning rate and stopping rule of a fit.

    Attributes
    ----------
    batch_size : int
        Largest number of distinct rows in a step.
    max_passes : int
    rate : float
        Initial learning rate.
    schedule : callable
        See `Schedule`.
    tol : float
        Smallest improvement that counts.
    patience : int or None
        Stop when the mean objective of so many passes is no improvement over that of as many passes
        before (single passes are too noisy to compare); if rows are held out, after so many passes
        without a new best score. With None, all passes are made.
    least_steps : int
        Least number of steps of a pass; it goes over the rows repeatedly if they make fewer
        batches.
    cooling : float
        Share of the passes at the end in which the rate falls linearly to a hundredth, if no rows
        are held out. They begin when the objective levels off, or else so that they end at
        `max_passes`; the fit has converged if the objective levels off before they end.
    passes_before : int
        Passes that were made before with another plan, for the warning.
    first_score : float
        Score after the first of these.
    """

    batch_size: int
    max_passes: int
    rate: float
    schedule: Schedule = constant_rate
    tol: float = 0.0
    patience: int | None = None
    least_steps: int = 1
    cooling: float = 0.0
    passes_before: int = 0
    first_score: float = np.inf

    def steps_of_a_pass(self, n_rows: int) -> tuple[int, int]:
        """Return how often a pass goes over the rows, and how many steps it makes in all."""
        n_batches = -(-n_rows // self.batch_size)
        n_rounds = -(-self.least_steps // n_batches)
        return n_rounds, n_rounds * n_batches


@dataclass(frozen=True)
class MinibatchResult:
    """Result of a fit.

    Attributes
    ----------
    theta : ndarray of shape (P,)
        The coordinates with the best score of the rows held out. If none are held out: those at the
        end, averaged over the last steps if the optimiser averages (see :func:`settled`).
    objectives : list of float or None
        Mean of the batches' estimates of the objective in each pass; None if there are none.
    scores : list of float
        Score after each pass, on the rows held out; if none are, the estimate above, or else the
        score on the rows fitted to.
    converged : bool
        Whether the stopping rule applied, or all passes of a plan without one were made.
    stopped : bool
        Whether a callback stopped the fit.
    memory : object
        State after the last step, such as the persistent chains.
    warning : str
        Text of a ConvergenceWarning if the fit ended at `max_passes`, otherwise empty.
    """

    theta: FloatArray
    objectives: list[float | None]
    scores: list[float]
    converged: bool
    stopped: bool
    memory: Any
    warning: str

    @property
    def n_iter(self) -> int:
        """Passes made."""
        return len(self.scores)


def batches(
    n_rows: int, batch_size: int, rng: np.random.Generator, n_rounds: int = 1
) -> list[NDArray[np.intp]]:
    """Return the rows of a pass in random order and in batches of nearly equal size.

    Parameters
    ----------
    n_rows, batch_size : int
    rng : Generator
    n_rounds : int, default=1
        How often the pass goes over the rows, each time in a new random order.

    Returns
    -------
    list of ndarray of int
        Indices of rows; a single batch has the rows in their own order.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sorted(len(batch) for batch in batches(10, 4, rng))
    [3, 3, 4]
    >>> [batch.tolist() for batch in batches(3, 4, rng)]
    [[0, 1, 2]]
    """
    n_batches = -(-n_rows // batch_size)
    if n_batches * n_rounds == 1:
        return [np.arange(n_rows)]
    rounds = [np.array_split(rng.permutation(n_rows), n_batches) for _ in range(n_rounds)]
    return [batch for each in rounds for batch in each]


def one_pass(
    objective: MinibatchObjective,
    optimiser: Optimiser,
    plan: MinibatchPlan,
    rng: np.random.Generator,
    memory: Any = None,
    share: float = 1.0,
) -> tuple[float | None, Any]:
    """Make one pass over the rows.

    Parameters
    ----------
    objective, optimiser, plan, rng, memory
        As for :func:`fit_minibatches`.
    share : float, default=1.0
        Factor of the learning rate, beside the plan's schedule.

    Returns
    -------
    value : float or None
        Mean of the batches' estimates of the objective, None if there are none.
    memory : object
        State after the last step.

    Raises
    ------
    DivergedError
        If an estimate, or the parameters at the end, are not finite.
    """
    n_rounds, n_steps = plan.steps_of_a_pass(objective.n_rows)
    total: float | None = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # what diverges is found below
        for index in batches(objective.n_rows, plan.batch_size, rng, n_rounds):
            step = objective.step(optimiser.theta, index, memory, rng)
            memory = step.memory
            if step.value is None:
                total = None
            elif not np.isfinite(step.value):
                raise DivergedError
            elif total is not None:
                total += step.value * len(index)
            factor = plan.schedule(optimiser.n_steps, plan.max_passes * n_steps)
            optimiser.ascend(step.direction, plan.rate * factor * share)
            objective.constrain(optimiser.theta)
    if not np.isfinite(optimiser.theta).all():
        raise DivergedError
    return None if total is None else total / (n_rounds * objective.n_rows), memory


def settled(
    objective: MinibatchObjective,
    optimiser: Optimiser,
    objectives: list[float | None],
    plan: MinibatchPlan,
    rng: np.random.Generator,
    memory: Any = None,
) -> FloatArray:
    """Return the averaged coordinates, or the last ones if averaging made the objective worse.

    The average should have a higher objective than the first of the steps that it averages. It does
    not if the steps went from one mode to another; then the better of average and end is returned.

    Parameters
    ----------
    objective, optimiser, plan, rng, memory
        As for :func:`fit_minibatches`.
    objectives : list of float or None
        Mean objective of each pass.

    Returns
    -------
    ndarray of shape (P,)
    """
    estimates = [value for value in objectives if value is not None]
    if optimiser.average is optimiser.theta or not estimates:
        return optimiser.average
    seed = int(rng.integers(2**32))

    def value(theta: FloatArray) -> float:
        same = np.random.default_rng(seed)
        total = 0.0
        for index in batches(objective.n_rows, plan.batch_size, same):
            estimate = objective.step(theta, index, memory, same).value
            assert estimate is not None  # since the passes had estimates
            total += estimate * len(index)
        return total / objective.n_rows

    reached = value(optimiser.average)
    began = 2 * len(estimates) // 3
    if reached >= float(np.mean(estimates[max(began - 1, 0) : began + 2])):
        return optimiser.average
    return optimiser.theta if value(optimiser.theta) > reached else optimiser.average


def _levelled_off(scores: list[float], n_passes: int | None, tol: float) -> bool:
    """Return whether the mean score of the last passes is no better than of those before."""
    if n_passes is None or len(scores) < 2 * n_passes:
        return False
    before = np.mean(scores[-2 * n_passes : -n_passes])
    return bool(np.mean(scores[-n_passes:]) <= before + tol)


class Cooling:
    """Decides after each pass whether to go on, and at which share of the learning rate.

    Parameters
    ----------
    plan : MinibatchPlan

    Attributes
    ----------
    share : float
        Factor of the rate of the next pass.
    converged : bool
        Whether the objective has levelled off: before the rate falls, or, up to a small share of
        all that it rose, at the end.

    Examples
    --------
    >>> plan = MinibatchPlan(1, 10, 0.1, patience=2, cooling=0.4)
    >>> cooling, scores, shares = Cooling(plan), [], []
    >>> for number in range(10):
    ...     shares.append(round(cooling.share, 3))
    ...     scores.append(0.0)
    ...     if cooling.ends(scores):
    ...         break
    >>> shares
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.667, 0.333]
    """

    def __init__(self, plan: MinibatchPlan) -> None:
        self.plan = plan
        self.share, self.converged = 1.0, False
        self._first = self._n_passes = 0

    def ends(self, scores: list[float]) -> bool:
        """Return whether the fit ends after the passes with these scores."""
        plan, made = self.plan, len(scores)
        left = plan.max_passes - made
        if not self._n_passes:
            self.converged = _levelled_off(scores, plan.patience, plan.tol)
            if not plan.cooling:
                return self.converged
            usual = int(np.ceil(plan.cooling / (1 - plan.cooling) * made))
            if not self.converged and left > usual:
                return False
            self._first, self._n_passes = made, min(usual, left)
        done = made - self._first
        self.share = max(1 - done / max(self._n_passes, 1), _LAST_RATE)
        if done < self._n_passes:
            return False
        last = max(1, int(_LAST_SHARE * self._n_passes))
        first = min(plan.first_score, scores[0])
        rise = max(float(np.mean(scores[-last:])) - first, 0.0)
        enough = plan.tol + _SMALL_SHARE * rise
        self.converged = self.converged or _levelled_off(scores, last, enough)
        return True


def fit_minibatches(
    objective: MinibatchObjective,
    optimiser: Optimiser,
    plan: MinibatchPlan,
    rng: np.random.Generator,
    *,
    held: MinibatchObjective | None = None,
    memory: Any = None,
    on_pass: Callable[[int, float], bool] | None = None,
) -> MinibatchResult:
    """Make passes over the rows until the stopping rule of the plan applies.

    Parameters
    ----------
    objective : MinibatchObjective
        The objective on the rows to fit to.
    optimiser : Optimiser
        At the initial coordinates; it is changed by the fit.
    plan : MinibatchPlan
    rng : Generator
    held : MinibatchObjective or None
        The objective on rows held out; its score decides which pass is the best, and when to stop.
    memory : object
        State that is carried from step to step, such as persistent chains.
    on_pass : callable or None
        Called with the number of a pass (from 1) and its score; returning true stops the fit.

    Returns
    -------
    MinibatchResult

    Raises
    ------
    DivergedError
        If the objective or the parameters are not finite.
    """
    objectives: list[float | None] = []
    scores: list[float] = []
    best, cooling = BestModel(plan.patience, plan.tol), Cooling(plan)
    levelled_off = stopped = False
    for number in range(1, plan.max_passes + 1):
        value, memory = one_pass(objective, optimiser, plan, rng, memory, cooling.share)
        score = value
        if held is not None or score is None:
            score = (objective if held is None else held).score(optimiser.average)
        objectives.append(value)
        scores.append(score)
        ends = levelled_off = best.update(optimiser.average, score)
        if held is None:
            ends, levelled_off = cooling.ends(scores), cooling.converged
        stopped = on_pass is not None and on_pass(number, score)
        if stopped or ends:
            break
    theta = best.theta if held is not None else None
    if theta is None:
        theta = settled(objective, optimiser, objectives, plan, rng, memory)
    theta = theta.copy()
    objective.constrain(theta)  # an average may be a little outside
    if not np.isfinite(theta).all():
        raise DivergedError
    converged = bool(levelled_off or (plan.patience is None and not stopped))
    warning = (
        "" if converged or stopped else _STILL_IMPROVED.format(plan.passes_before + plan.max_passes)
    )
    return MinibatchResult(theta, objectives, scores, converged, bool(stopped), memory, warning)
