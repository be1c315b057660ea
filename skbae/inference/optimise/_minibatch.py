"""Fits that look at a batch of rows at a time: the loop that all of them share.

A model is a vector of coordinates here. A
:class:`~skbae.energies._capabilities.MinibatchObjective` gives the direction in which a batch of
rows moves it; an :class:`Optimiser` makes the step (:class:`PlainSteps` here, Adam in
``_adam.py``); a :class:`MinibatchPlan` has the schedule of the learning rate and the rule for
stopping. The direction may be a gradient, a contrast with persistent chains, or, for stepwise
expectation maximisation, the difference of the batch's statistics from those so far, with a rate
that falls.

A pass visits each *distinct* row once, in random order, and lets it count by its weight: a row of
weight two is two rows, to the last bit, since neither the order nor the noise of a step depends on
how often a row came.
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
# Share of the first rate below which a falling rate does not fall.
_LAST_RATE = 0.01

Schedule = Callable[[int, int], float]
"""Factor of the learning rate, given the number of a step, from 0, and of all steps."""


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
    """Return a factor that falls linearly from 1 to almost nothing.

    Examples
    --------
    >>> [falling_rate(step, 4) for step in range(5)]
    [1.0, 0.75, 0.5, 0.25, 0.01]
    """
    return max(1 - step / n_steps, _LAST_RATE)


class Optimiser(ABC):
    """Makes steps along directions of ascent.

    Attributes
    ----------
    theta : ndarray of shape (P,)
        Where it is.
    average : ndarray of shape (P,)
        An average of where it has been; `theta` itself for those that form none.
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
        Where to begin; copied.
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
    """How a fit goes on, and when it ends.

    Attributes
    ----------
    batch_size : int
        Distinct rows of a step, at most.
    max_passes : int
    rate : float
        Of learning, at the start.
    schedule : callable
        See `Schedule`.
    tol : float
        What counts as an improvement.
    patience : int or None
        Stop when so many passes, on average, are no improvement over as many before (single ones
        are too noisy to compare); where rows are held out: when none of so many was the best. None:
        run the schedule to its end.
    least_steps : int
        Steps of a pass, at least: fewer batches than that are passed over repeatedly.
    """

    batch_size: int
    max_passes: int
    rate: float
    schedule: Schedule = constant_rate
    tol: float = 0.0
    patience: int | None = None
    least_steps: int = 1

    def steps_of_a_pass(self, n_rows: int) -> tuple[int, int]:
        """Return how often a pass goes over so many rows, and how many steps it makes in all."""
        n_batches = -(-n_rows // self.batch_size)
        n_rounds = -(-self.least_steps // n_batches)
        return n_rounds, n_rounds * n_batches


@dataclass(frozen=True)
class MinibatchResult:
    """Where a fit ended.

    Attributes
    ----------
    theta : ndarray of shape (P,)
        At the best pass for the rows held out. Where none were: at the end, averaged over the last
        steps if the optimiser averages (see :func:`settled`).
    objectives : list of float or None
        Mean of the batches' estimates in each pass; None where batches give none.
    scores : list of float
        What models were judged by after each pass: their score on rows held out; without these the
        estimate above, or else the score of the rows fitted to.
    converged : bool
        Whether there was no more improvement, or a schedule was run to its end.
    stopped : bool
        Whether a callback ended it.
    memory : object
        Of the last step.
    shortfall : str
        What to warn the user of: that the fit ended at its limit. Empty otherwise.
    """

    theta: FloatArray
    objectives: list[float | None]
    scores: list[float]
    converged: bool
    stopped: bool
    memory: Any
    shortfall: str

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
        How often the pass goes over the rows, each time in another order.

    Returns
    -------
    list of ndarray of int
        If it is a single one, with the rows in their own order.

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
) -> tuple[float | None, Any]:
    """Visit all rows.

    Parameters
    ----------
    objective, optimiser, plan, rng, memory
        As for :func:`fit_minibatches`.

    Returns
    -------
    value : float or None
        Mean of the batches' estimates of the objective, if they give any.
    memory : object
        Of the last step.

    Raises
    ------
    DivergedError
        If an estimate, or the parameters at the end, are not finite.
    """
    n_rounds, n_steps = plan.steps_of_a_pass(objective.n_rows)
    total: float | None = 0.0
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
        optimiser.ascend(step.direction, plan.rate * factor)
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
    """Return the average of the path, or its end if there is none or it is no good.

    The average should be better than where the steps that it is made of began. It is not where the
    path crossed from one valley to another meanwhile.

    Parameters
    ----------
    objective, optimiser, plan, rng, memory
        As for :func:`fit_minibatches`.
    objectives : list of float or None
        Of the passes.

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
            assert estimate is not None  # as the passes had estimates
            total += estimate * len(index)
        return total / objective.n_rows

    reached = value(optimiser.average)
    began = 2 * len(estimates) // 3
    if reached >= float(np.mean(estimates[max(began - 1, 0) : began + 2])):
        return optimiser.average
    return optimiser.theta if value(optimiser.theta) > reached else optimiser.average


def _levelled_off(scores: list[float], plan: MinibatchPlan) -> bool:
    """Return whether the last passes are, on average, no improvement over those before."""
    if plan.patience is None or len(scores) < 2 * plan.patience:
        return False
    before = np.mean(scores[-2 * plan.patience : -plan.patience])
    return bool(np.mean(scores[-plan.patience :]) <= before + plan.tol)


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
    """Make passes until nothing improves, or the plan ends.

    Parameters
    ----------
    objective : MinibatchObjective
        Of the rows to fit to.
    optimiser : Optimiser
        Stands where the fit begins, and is moved.
    plan : MinibatchPlan
    rng : Generator
    held : MinibatchObjective or None
        Of rows held out, whose score decides which pass is the best, and when to stop.
    memory : object
        What the first step has of those before it, such as states of chains.
    on_pass : callable or None
        Given the number of a pass (from 1) and its score; true means stop.

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
    best = BestModel(plan.patience, plan.tol)
    levelled_off = stopped = False
    for number in range(1, plan.max_passes + 1):
        value, memory = one_pass(objective, optimiser, plan, rng, memory)
        score = value
        if held is not None or score is None:
            score = (objective if held is None else held).score(optimiser.average)
        objectives.append(value)
        scores.append(score)
        levelled_off = best.update(optimiser.average, score)
        if held is None:
            levelled_off = _levelled_off(scores, plan)
        stopped = on_pass is not None and on_pass(number, score)
        if stopped or levelled_off:
            break
    theta = best.theta if held is not None else None
    if theta is None:
        theta = settled(objective, optimiser, objectives, plan, rng, memory)
    if not np.isfinite(theta).all():
        raise DivergedError
    converged = bool(levelled_off or (plan.patience is None and not stopped))
    shortfall = "" if converged or stopped else _STILL_IMPROVED.format(plan.max_passes)
    return MinibatchResult(
        theta.copy(), objectives, scores, converged, bool(stopped), memory, shortfall
    )
