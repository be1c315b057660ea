"""Backtracking: steps are shortened until the objective does not decrease.

With a positive tilt t, the full step of expectation maximisation overshoots: on a Gaussian the map
has slope ``-t``. So a fraction of it is tried first, and halved while the objective decreases. With
t <= 0 the expected energy is a lower bound that touches the objective, so that the full step never
decreases it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array

# After this many halvings of its step a start stays where it is.
_MAX_HALVINGS = 30

Proposals = tuple[Any, "NDArray[np.bool_]"]
Propose = Callable[[Any, Any, "Array"], Proposals]


def backtrack(
    propose: Propose,
    expect: Callable[[Any], Any],
    value: Callable[[Any, Any], Array],
    params: Any,
    statistics: Any,
    steps: Array,
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

    Returns
    -------
    params, statistics : ArrayRecord
        Models for which no step was short enough are returned unchanged.
    """
    steps, reached = steps.copy(), value(params, statistics)
    accepted, accepted_statistics = params, statistics
    pending = np.arange(len(steps))
    for _ in range(_MAX_HALVINGS):
        proposal, sound = propose(params.take(pending), statistics.take(pending), steps[pending])
        proposed = expect(proposal)
        better = sound & (value(proposal, proposed) >= reached[pending])
        accepted = accepted.put(pending[better], proposal.take(better))
        accepted_statistics = accepted_statistics.put(pending[better], proposed.take(better))
        pending = pending[~better]
        if not len(pending):
            break
        steps[pending] /= 2
    return accepted, accepted_statistics
