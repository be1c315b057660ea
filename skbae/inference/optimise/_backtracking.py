"""Backtracking: steps are shortened until the objective does not decrease.

With a positive tilt t, the full step of expectation maximisation overshoots: on a Gaussian the map
has slope ``-t``. So a fraction ``1 / (1 + t)`` of it is tried first, and halved while the objective
decreases. With t <= 0 the expected energy is a lower bound that touches the objective, so that the
full step never decreases it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array

# After this many halvings of its step a start counts as converged.
_MAX_HALVINGS = 30
# Factor by which a step is shortened to see whether longer ones overshoot.
_CONFIRMATION = 8

Proposals = tuple[Any, "NDArray[np.bool_]"]
Propose = Callable[[Any, Any, "Array"], Proposals]


@dataclass(frozen=True)
class StepLengths(ArrayRecord):
    """Fractions of the full step that S starts try first, and whether these overshoot.

    With a positive tilt, steps to and fro gain little and do not become smaller. So where a step
    gains little, the next is shortened by `_CONFIRMATION`: if it gains less, the longer steps do
    not overshoot and are taken again, else they stay short.

    Attributes
    ----------
    steps : ndarray of shape (S,)
    confirming : ndarray of bool of shape (S,)
        Whether the step before gained little, so that this one is shortened.
    claimed : ndarray of bool of shape (S,)
        Whether the start has converged unless the step before overshoots.
    compared : ndarray of bool of shape (S,)
        Whether it is known if steps overshoot, so that only a start that is done confirms again.
    gain : ndarray of shape (S,)
        Of the step before.
    """

    steps: Array
    confirming: NDArray[np.bool_]
    claimed: NDArray[np.bool_]
    compared: NDArray[np.bool_]
    gain: Array

    @classmethod
    def begin(cls, n_models: int, tilt: float) -> Self:
        """Return the lengths of first steps."""
        no = np.zeros(n_models, dtype=bool)
        steps = np.full(n_models, 1.0 / (1.0 + max(tilt, 0.0)))
        return cls(steps, no, no, no, np.full(n_models, np.inf))

    def after(
        self, gain: Array, small: NDArray[np.bool_], done: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], Self]:
        """Return which starts have converged, and the lengths of the next steps.

        Parameters
        ----------
        gain : ndarray of shape (S,)
            What the last step raised the value by.
        small : ndarray of bool of shape (S,)
            Whether that is so little that steps may go to and fro.
        done : ndarray of bool of shape (S,)
            Whether the start has converged unless they do.
        """
        overshoots = self.confirming & (gain > self.gain)
        converged = self.confirming & (done | (self.claimed & ~overshoots))
        # rounding decides about shorter steps
        converged |= self.steps < 0.5**_MAX_HALVINGS
        restored = self.confirming & ~converged & ~overshoots
        compared = self.compared | self.confirming
        confirming = ~self.confirming & (done | (small & ~compared))
        steps = np.where(restored, self.steps * _CONFIRMATION, self.steps)
        steps = np.where(confirming, steps / _CONFIRMATION, steps)
        return converged, type(self)(steps, confirming, confirming & done, compared, gain)


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
