"""When to stop: an estimate of what further steps would gain, from the last gains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skbae._types import ArrayRecord

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array

# By how much of the last increase of the ratio of successive gains the ratio is taken to increase
# further: quick directions have died out before slow ones show.
_TREND = 2.0


@dataclass(frozen=True)
class Progress(ArrayRecord):
    """The last gains of S starts, and what further steps would gain by Aitken's method.

    Steps of expectation maximisation approach a maximum geometrically, often by little at a time:
    the last gain alone says nothing about how far there is to go. The ratio of the last two gains
    extrapolates them (Boehning et al. 1994). It increases while directions that converge quickly
    die out, so its own last increase is extrapolated too.

    Attributes
    ----------
    gain : ndarray of shape (S,)
        What the last step changed the objective by; NaN before the first.
    step : ndarray of shape (S,)
        Its length, as a fraction of a full step.
    ratio : ndarray of shape (S,)
        That of the last two gains, per full step; NaN before there are two.
    left : ndarray of shape (S,)
        Estimate of what all further steps together would change the objective by; infinity if gains
        do not become smaller.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.ones(1)
    >>> progress = Progress.begin(1)
    >>> for gain in (8.0, 4.0, 2.0, 1.0):
    ...     progress = progress.after(gain * one, one)
    >>> progress.left.item()  # 1/2 + 1/4 + ...
    1.0
    """

    gain: Array
    step: Array
    ratio: Array
    left: Array

    @classmethod
    def begin(cls, n_starts: int) -> Self:
        """Return the record before the first step."""
        unknown = np.full(n_starts, np.nan)
        return cls(unknown, np.ones(n_starts), unknown, np.full(n_starts, np.inf))

    def after(self, gain: Array, step: Array) -> Self:
        """Return the record after one more step of this gain and length."""
        # starts are few: numbers are quicker than arrays of few entries
        columns = (gain, step, self.gain, self.step, self.ratio)
        found = [_extrapolated(*row) for row in zip(*(x.tolist() for x in columns), strict=True)]
        ratio, left = np.array(found).reshape(-1, 2).T
        return type(self)(gain, step, ratio, left)

    def converged(self, objective: Array, tol: float, rounding: float) -> NDArray[np.bool_]:
        """Return which starts have converged, (S,).

        Parameters
        ----------
        objective : ndarray of shape (S,)
            The value reached.
        tol : float
            Both the last gain, per full step, and what is left must be smaller.
        rounding : float
            Relative rounding error of the objective: a gain no larger is none, whatever `tol`.
        """
        size = np.abs(self.gain)
        none = size <= rounding * np.abs(objective)
        return none | ((size / self.step < tol) & (self.left < tol))


def _extrapolated(
    gain: float, step: float, gain_before: float, step_before: float, ratio_before: float
) -> tuple[float, float]:
    """Return the ratio of two gains per full step, NaN if unknown, and what is left to gain."""
    if gain == 0:
        return math.nan, 0.0
    rate, before = abs(gain) / step, abs(gain_before) / step_before
    if not (0 < rate < before):  # nor where the gain before is unknown
        return (1.0 if rate >= before > 0 else math.nan), math.inf
    # gains are `step` and `step_before` apart, on average
    ratio = (rate / before) ** (2 / (step + step_before))
    if math.isnan(ratio_before):
        # two gains are little to go by: their ratio may be that of the quick directions only
        likely = math.sqrt(ratio)
    else:
        likely = ratio + _TREND * max(ratio - ratio_before, 0.0)
    factor = min(likely, 1.0) ** step
    return ratio, abs(gain) * factor / (1 - factor) if factor < 1 else math.inf
