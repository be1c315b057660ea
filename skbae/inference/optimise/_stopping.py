"""When to stop: an estimate of what further steps would gain, from the last gains."""

from __future__ import annotations

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
        size = np.abs(gain)
        with np.errstate(divide="ignore"):
            rate, before = np.log(size / step), np.log(np.abs(self.gain) / self.step)
        known = np.isfinite(rate) & np.isfinite(before)
        # the ratio per full step, at most 1: gains are `step` and `self.step` apart, on average
        growth = np.subtract(rate, before, out=np.full_like(rate, np.nan), where=known)
        ratio = np.exp(np.minimum(2 * growth / (step + self.step), 0.0))
        trend = ratio + _TREND * np.maximum(ratio - self.ratio, 0.0)
        # two gains are little to go by: their ratio may be that of the quick directions only
        likely = np.where(np.isnan(self.ratio), np.sqrt(ratio), trend)
        falls = known & (likely < 1)
        factor = np.where(falls, likely, 0.5) ** step
        left = np.where(falls, size * factor / (1 - factor), np.inf)
        return type(self)(gain, step, ratio, np.where(size > 0, left, 0.0))

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
