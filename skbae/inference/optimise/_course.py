"""The course of expectation maximisation: how long the next steps are, and when to stop.

Steps of expectation maximisation approach a maximum geometrically, often by little at a time, and
near a saddle by less and less before they gain more and more: what the last ones gained says little
about what is left. So where plain steps gain little, every second step is a *leap*, many times as
long. Along a direction in which steps shrink by a factor ``1 - u``, the ratio of what a leap gains
to what the plain step before it gained tells u: the slower the direction, the more, and a leap that
gains in proportion to its length shows no sign of a maximum. A leap that would lower the objective
is not made, but tells as much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skbae._types import ArrayRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array

# Leaps are made where a plain step gains less than this, in nats a row.
_LITTLE = 3e-3
# Length of the first leap, in plain steps; bounds of all; by how much the next may be longer.
_FIRST, _SHORTEST, _LONGEST, _LONGER = 8.0, 3.0, 1e4, 2.0
# By how much it is shorter after one that led too far for any conclusion.
_TOO_LONG = 4.0
# A start has converged when its last step, and by the last leap all further ones together, gain
# less than this share of the tolerance. It is small because of saddles, which are left at a rate
# that can't be seen before other directions have died out.
_SHARE = 0.01
# The same share where the number of steps leaves no room for a leap.
_SHARE_WITHOUT_LEAPS = 0.1
# The last leap counts if the last plain step gained at least one over this of the one before it.
_FADED = 30.0


class _Start(NamedTuple):
    """The course of one start: see :class:`Course`."""

    leaping: bool
    base: float
    leap: float
    gain: float
    rate: float
    tested: float


@dataclass(frozen=True)
class Course(ArrayRecord):
    """The course of S starts.

    Attributes
    ----------
    leaping : ndarray of bool of shape (S,)
        Whether the next step is a leap.
    base : ndarray of shape (S,)
        Length of a plain step, as a fraction of a full one.
    leap : ndarray of shape (S,)
        Length of the next leap, in plain steps.
    gain : ndarray of shape (S,)
        What the last plain step raised the objective by; NaN if unknown.
    rate : ndarray of shape (S,)
        The share u of the way to the maximum that a plain step makes in the slowest direction, by
        the last leap; NaN if unknown.
    tested : ndarray of shape (S,)
        What the plain step before the last leap gained; infinity without a leap that tells.

    Examples
    --------
    Steps that halve the distance from the maximum of a parabola, ``1 - x^2``, from ``x = 0.02``:

    >>> import numpy as np
    >>> x, course, done = 0.02, Course.begin(1, 0.0), False
    >>> lengths = []
    >>> while not done:
    ...     length = course.steps.item()
    ...     new = x - length * x / 2
    ...     gain = x**2 - new**2
    ...     (done,), course = course.after([gain], [0.0], 1e-3)
    ...     x = new if gain > 0 else x
    ...     lengths.append(length)
    >>> lengths
    [1.0, 8.0, 1.0, 3.0, 1.0]
    """

    leaping: NDArray[np.bool_]
    base: Array
    leap: Array
    gain: Array
    rate: Array
    tested: Array

    @classmethod
    def begin(cls, n_models: int, tilt: float, gain: float = math.nan) -> Self:
        """Return the course before the first step.

        With a positive tilt t the full step overshoots, on a Gaussian by the slope ``-t``: plain
        steps are shorter.
        """
        start = _Start(False, 1.0 / (1.0 + max(tilt, 0.0)), _FIRST, gain, math.nan, math.inf)
        return cls(*(np.full(n_models, value) for value in start))

    @property
    def steps(self) -> Array:
        """Lengths of the next steps, (S,)."""
        return np.where(self.leaping, self.leap * self.base, self.base)

    def after(
        self, gains: Sequence[float], rounding: Sequence[float], tol: float
    ) -> tuple[list[bool], Self]:
        """Return which starts have converged, and the course after one more step.

        Parameters
        ----------
        gains : sequence of S floats
            What the step raised the objective by, or, of a leap that is not made, would have raised
            it by.
        rounding : sequence of S floats
            Rounding errors of gains: a step that gains no more has converged, whatever `tol` (a
            leap may lead over the top, and only counts where the step before gained little, too).
        tol : float
            With 0, all steps are plain.
        """
        # starts are few: numbers are quicker than arrays of few entries
        columns = (self.leaping, self.base, self.leap, self.gain, self.rate, self.tested)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        done, found = [], []
        for row, gain, error in zip(rows, gains, rounding, strict=True):
            start = _Start(*row)
            take = _after_leap if start.leaping else _after_plain_step
            converged, start = take(start, gain, tol)
            none = abs(gain) <= error and not (row[0] and row[3] > _FADED * error)
            done.append(converged or none)
            found.append(start)
        return done, type(self)(*map(np.array, zip(*found, strict=True)))

    def would_stop(self, tol: float) -> NDArray[np.bool_]:
        """Return which starts seem to have converged where there is no room for a leap, (S,).

        This is Aitken's estimate, from the gains of two plain steps.
        """
        columns = (self.leaping, self.gain, self.rate)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        found = [due and _left(gain, rate) < _SHARE_WITHOUT_LEAPS * tol for due, gain, rate in rows]
        return np.array(found, dtype=bool)


def _after_plain_step(start: _Start, gain: float, tol: float) -> tuple[bool, _Start]:
    """Return whether a start has converged, and its course after a plain step."""
    if gain <= 0:  # a floor of variances may lower the objective
        return gain > -_SHARE * tol, start._replace(gain=gain, rate=math.nan, tested=math.inf)
    if gain >= _LITTLE or tol == 0:
        return False, start._replace(gain=gain, rate=math.nan, tested=math.inf)
    if start.tested == math.inf:
        return False, start._replace(leaping=True, gain=gain, rate=_rate_of_steps(start.gain, gain))
    recent = start.tested < _FADED * max(gain, _SHARE * tol)
    converged = recent and _left(gain, start.rate) < _SHARE * tol
    return converged, start._replace(leaping=True, gain=gain)


def _rate_of_steps(before: float, gain: float) -> float:
    """Return the rate that the last two gains show, if they are of successive plain steps."""
    return 1.0 - math.sqrt(gain / before) if gain < before else math.nan


def _after_leap(start: _Start, gain: float, tol: float) -> tuple[bool, _Start]:
    """Return whether a start has converged, and its course after a leap, or one not made."""
    before, length = start.gain, start.leap
    start = start._replace(leaping=False, gain=math.nan, rate=math.nan, tested=math.inf)
    if not gain > -math.inf:
        return False, start._replace(leap=max(length / _TOO_LONG, _SHORTEST))
    relative, longest = gain / before, min(length * _LONGER, _LONGEST)
    if relative >= length:
        return False, start._replace(leap=longest)
    rate = _rate(relative, length)
    if rate > 1:
        if start.base < 1:  # with a tilt: plain steps overshoot
            return False, start._replace(base=start.base / rate)
        if length > _SHORTEST:  # no parabola: the leap led too far
            return False, start._replace(leap=max(length / _TOO_LONG, _SHORTEST))
    wanted = min(max(1 / rate, _SHORTEST), longest)
    start = start._replace(leap=wanted, rate=rate, tested=before)
    return gain <= 0 and _left(before, rate) < _SHARE * tol, start


def _left(gain: float, rate: float) -> float:
    """Return the larger of the last gain and what further steps gain at a rate."""
    if not rate > 0:  # nor known
        return math.inf
    rate = min(rate, 1.0)
    return gain * max(1.0, (1 - rate) ** 2 / (rate * (2 - rate)))


def _rate(relative: float, length: float) -> float:
    """Return the smallest rate u in [0, 2] at which a leap gains so much, relative to a step.

    By steps the distance from the maximum of a parabola becomes ``1 - u`` times as large, by a
    leap of length a ``1 - a u`` times; a step from distance one gains ``u (2 - u)``, and a leap
    after it ``(1 - u)^2 a u (2 - a u)``.
    """

    def gained(u: float) -> float:
        return (1 - u) ** 2 * length * (2 - length * u) / (2 - u)

    low, high = 0.0, 0.25 / length
    lowest = (math.inf, 1.0)
    while high < 1 and gained(high) > relative:
        lowest = min(lowest, (gained(high), high))
        low, high = high, 1.25 * high
    if high >= 1:
        if relative > 2 * lowest[0]:
            return lowest[1]
        low, high = 1.0, 2.0 - 1e-9
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if gained(middle) > relative else (low, middle)
    return (low + high) / 2
