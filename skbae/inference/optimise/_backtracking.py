"""Backtracking: steps are shortened until the objective does not decrease.

With a positive tilt t, the full step of expectation maximisation overshoots: on a Gaussian the map
has slope ``-t``. So a fraction ``1 / (1 + t)`` of it is tried first, and halved while the objective
decreases. With t <= 0 the expected energy is a lower bound that touches the objective, so that the
full step never decreases it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array

# After this many halvings of its step a start counts as converged.
_MAX_HALVINGS = 30
# Steps that overshoot back and forth raise the objective little: a start has converged only if a
# step shortened by this factor raises it little too.
_CONFIRMATION = 8

Proposals = tuple[Any, "NDArray[np.bool_]"]
Propose = Callable[[Any, Any, "Array"], Proposals]


def first_steps(n_models: int, tilt: float) -> Array:
    """Return the fractions of the full step to try first, (S,)."""
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
        Given models, their statistics and fractions of the full step, returns new models and which
        of them exist. For small fractions the new models must be close to the old ones, and of
        higher value.
    expect : callable
        Returns the statistics of models.
    value : callable
        Given models and their statistics, returns the value that must not decrease, (S,).
    params, statistics : ArrayRecord
        S models, and the statistics of the pass made with them.
    steps : ndarray of shape (S,)
        Fractions of the full step to try first.
    first : tuple or None, default=None
        The result of `propose` for these steps, if it has been computed already.

    Returns
    -------
    params, statistics : ArrayRecord
        Models for which no step was short enough are returned unchanged.
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
    small: NDArray[np.bool_], steps: Array, confirmed: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], Array, NDArray[np.bool_]]:
    """Return which starts have converged, the next steps, and which of these are shortened.

    Parameters
    ----------
    small : ndarray of bool of shape (S,)
        Whether the value increased so little that the start may have converged.
    steps : ndarray of shape (S,)
        Fractions of the full step that were tried first.
    confirmed : ndarray of bool of shape (S,)
        Whether the step before was small too, so that this one was shortened.
    """
    shortened = np.where(small & ~confirmed, steps / _CONFIRMATION, steps)
    return small & confirmed, shortened, small
