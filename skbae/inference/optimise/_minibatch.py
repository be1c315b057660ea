"""Ascent by batches of rows, for objectives whose every evaluation is itself an estimate.

A pass visits each *distinct* row once, in random order, and lets it count by its weight: a row of
weight two is two rows, to the last bit, since neither the order nor the noise of a step depends on
how often a row came.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.inference.optimise._adam import Adam

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from skbae._types import FloatArray


class DivergedError(ArithmeticError):
    """The objective left the finite numbers."""


class BatchObjective(ABC):
    """A mean over rows of something that can be estimated batch by batch."""

    n_rows: int
    """Distinct rows, M."""

    @abstractmethod
    def estimate(
        self, theta: FloatArray, index: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[float, FloatArray]:
        """Return an estimate of the mean, and its gradient (which the caller may overwrite).

        Parameters
        ----------
        theta : ndarray of shape (P,)
        index : ndarray of int
            The rows to look at, to stand for all.
        rng : Generator
        """

    @abstractmethod
    def constrain(self, theta: FloatArray) -> None:
        """Move parameters that went out of bounds back to them, in place."""


@dataclass(frozen=True)
class AscentPlan:
    """How to climb.

    Attributes
    ----------
    batch_size : int
        Distinct rows of a step, at most.
    max_passes : int
    rate : float
        Step size of Adam.
    tol : float
        What counts as an improvement.
    patience : int
        Stop when so many passes, on average, are no improvement over as many before (single ones
        are too noisy to compare); where rows are held out: when none of so many was the best.
    """

    batch_size: int
    max_passes: int
    rate: float
    tol: float
    patience: int


@dataclass(frozen=True)
class AscentResult:
    """Where an ascent ended.

    Attributes
    ----------
    theta : ndarray of shape (P,)
        Averaged over the last steps (see :func:`settled`); where rows were held out, at the best
        pass for them.
    objectives : list of float
        Mean of the batches of each pass.
    held_out : list of float
        Score of the rows held out after each pass, if there are any.
    converged : bool
    state : dict
        Of Adam, to go on from.
    """

    theta: FloatArray
    objectives: list[float]
    held_out: list[float]
    converged: bool
    state: dict[str, Any]


def batches(n_rows: int, batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of one pass, in random order and in batches of nearly equal size.

    Rows that fit into one batch keep their order.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sorted(len(batch) for batch in batches(10, 4, rng))
    [3, 3, 4]
    >>> [batch.tolist() for batch in batches(3, 4, rng)]
    [[0, 1, 2]]
    """
    n_batches = -(-n_rows // batch_size)
    order = np.arange(n_rows) if n_batches == 1 else rng.permutation(n_rows)
    yield from np.array_split(order, n_batches)


def one_pass(
    objective: BatchObjective, adam: Adam, batch_size: int, rate: float, rng: np.random.Generator
) -> float:
    """Visit all rows once; return the mean of the batches' estimates.

    Raises
    ------
    DivergedError
    """
    total = 0.0
    for index in batches(objective.n_rows, batch_size, rng):
        value, gradient = objective.estimate(adam.theta, index, rng)
        if not np.isfinite(value):
            raise DivergedError
        total += value * len(index)
        adam.ascend(gradient, rate)
        objective.constrain(adam.theta)
    return total / objective.n_rows


def settled(
    objective: BatchObjective,
    adam: Adam,
    objectives: list[float],
    batch_size: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the average of the path, or its end if the average is no good.

    The average should be better than where the steps that it is made of began. It is not where the
    path crossed from one valley to another meanwhile.

    Parameters
    ----------
    objective, adam, batch_size, rng
        As for :func:`ascend`.
    objectives : list of float
        Of the passes.
    """
    seed = int(rng.integers(2**32))

    def value(theta: FloatArray) -> float:
        same = np.random.default_rng(seed)
        total = 0.0
        for index in batches(objective.n_rows, batch_size, same):
            total += objective.estimate(theta, index, same)[0] * len(index)
        return total / objective.n_rows

    reached = value(adam.average)
    began = 2 * len(objectives) // 3
    if reached >= float(np.mean(objectives[max(began - 1, 0) : began + 2])):
        return adam.average
    return adam.theta if value(adam.theta) > reached else adam.average


def _levelled_off(objectives: list[float], plan: AscentPlan) -> bool:
    if len(objectives) < 2 * plan.patience:
        return False
    before = np.mean(objectives[-2 * plan.patience : -plan.patience])
    return bool(np.mean(objectives[-plan.patience :]) <= before + plan.tol)


def ascend(
    objective: BatchObjective,
    adam: Adam,
    plan: AscentPlan,
    rng: np.random.Generator,
    *,
    on_pass: Callable[[int, float], bool],
    held_out: Callable[[FloatArray], float] | None = None,
) -> AscentResult:
    """Climb until nothing improves.

    Parameters
    ----------
    objective : BatchObjective
    adam : Adam
        Where to begin.
    plan : AscentPlan
    rng : Generator
    on_pass : callable
        Given the number of a pass (from 1) and its objective; true means stop.
    held_out : callable or None
        Score of parameters on rows that are not climbed on; then its best pass is returned, and
        decides when to stop.

    Returns
    -------
    AscentResult

    Raises
    ------
    DivergedError
        If the objective is not finite.
    """
    objectives: list[float] = []
    scores: list[float] = []
    best, best_theta, waited, converged = -np.inf, adam.average.copy(), 0, False
    for number in range(1, plan.max_passes + 1):
        objectives.append(one_pass(objective, adam, plan.batch_size, plan.rate, rng))
        judged = objectives[-1]
        if held_out is not None:
            judged = held_out(adam.average)
            scores.append(judged)
        waited = 0 if judged > best + plan.tol else waited + 1
        if judged > best:
            best = judged
            if held_out is not None:
                best_theta = adam.average.copy()
        stop = on_pass(number, judged)
        lost_patience = held_out is not None and waited >= plan.patience
        converged = lost_patience or (held_out is None and _levelled_off(objectives, plan))
        if stop or converged:
            break
    theta = best_theta
    if held_out is None:
        theta = settled(objective, adam, objectives, plan.batch_size, rng)
    if not np.isfinite(theta).all():
        raise DivergedError
    return AscentResult(theta.copy(), objectives, scores, converged, adam.state())
