"""Steps that never descend, along paths that begin as an ascent.

With a positive tilt t, the full step of expectation maximisation overshoots: on a Gaussian its
slope is ``-t``. So a share ``1 / (1 + t)`` of the way is tried first, and halved while the value
falls. Without a tilt, or with a tilt below zero, the expected energy minorises the objective, and
the full step never descends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array

# A step is halved this often before a start is taken to have converged.
_MAX_HALVINGS = 30
# Steps that overshoot to and fro gain little each: a start has converged only when a step this many
# times shorter gains little too.
_CONFIRMATION = 8

Proposals = tuple[Any, "NDArray[np.bool_]"]
Propose = Callable[[Any, Any, "Array"], Proposals]


def first_steps(n_models: int, tilt: float) -> Array:
    """Return the shares of the way to try first, (S,)."""
    return np.full(n_models, 1.0 / (1.0 + max(tilt, 0.0)))


def backtrack(
    propose: Propose,
    expect: Callable[[Any], Any],
    value: Callable[[Any, Any], Array],
    params: Any,
    statistics: Any,
    steps: Array,
    first: Proposals | None = None,
) -> tuple[Any, Any]:
    """Return models of no lower value than `params`, and their statistics.

    Parameters
    ----------
    propose : callable
        Given models, their statistics and the shares of the way to go, returns models and which of
        them exist. As the shares fall to zero it must lead back to the models, uphill.
    expect : callable
        Returns the statistics of models.
    value : callable
        Given models and their statistics, returns what must not fall, (S,).
    params, statistics : ArrayRecord
        S models, and the statistics of the pass made with them.
    steps : ndarray of shape (S,)
        Shares to try first.
    first : tuple or None, default=None
        What `propose` returns for these, where it is known already.

    Returns
    -------
    params, statistics : ArrayRecord
        Models for which no step is short enough stay what they were.
    """
    steps, reached = steps.copy(), value(params, statistics)
    accepted, accepted_statistics = params, statistics
    pending = np.arange(len(steps))
    for _ in range(_MAX_HALVINGS):
        if first is None:
            first = propose(params.take(pending), statistics.take(pending), steps[pending])
        proposal, sound = first
        proposed = expect(proposal)
        better = sound & (value(proposal, proposed) >= reached[pending])
        accepted = accepted.put(pending[better], proposal.take(better))
        accepted_statistics = accepted_statistics.put(pending[better], proposed.take(better))
        pending = pending[~better]
        if not len(pending):
            break
        steps[pending] /= 2
        first = None
    return accepted, accepted_statistics


def judge_steps(
    change: Array, tol: float, steps: Array, confirmed: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], Array, NDArray[np.bool_]]:
    """Return which starts have converged, the next steps to try, and which of them are confirmed.

    Parameters
    ----------
    change : ndarray of shape (S,)
        By how much the value rose.
    tol : float
    steps : ndarray of shape (S,)
        Shares tried first.
    confirmed : ndarray of bool of shape (S,)
        Whether the step before was short of `tol` already, so that this one was shortened.
    """
    small = (change < tol) | (change == 0)
    shortened = np.where(small & ~confirmed, steps / _CONFIRMATION, steps)
    return small & confirmed, shortened, small
