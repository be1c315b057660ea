"""Adam (Kingma and Ba 2015) on one flat vector, with an average over its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.inference.optimise._minibatch import Optimiser

if TYPE_CHECKING:
    from typing import Self

    from skbae._types import FloatArray

# Decay rates of the averages of the gradient and of its square.
_FIRST, _SECOND = 0.9, 0.999
_EPSILON = 1e-8
# Largest number of coordinates that are moved at once.
_PART = 1 << 15
# Exponent of the weights in the average: about the last third of the steps has most of the weight.
_AVERAGING = 2.0


class Adam(Optimiser):
    """Steps scaled by moments of the gradient, and a weighted average of the coordinates.

    The average gives step t a weight that grows like ``t^2``: early steps count little, however
    long the run, and noise of the last steps averages out (Shamir and Zhang 2013).

    Parameters
    ----------
    theta : ndarray of shape (P,)
        Initial coordinates; copied.

    Attributes
    ----------
    theta, average : ndarrays of shape (P,)
    n_steps : int

    Examples
    --------
    >>> import numpy as np
    >>> adam = Adam(np.zeros(1))
    >>> for _ in range(2000):
    ...     adam.ascend(3.0 - adam.theta, 0.01)  # the gradient of -(theta - 3)^2 / 2
    >>> bool(abs(adam.average[0] - 3) < 0.1)
    True
    """

    def __init__(self, theta: FloatArray) -> None:
        self.theta = theta.copy()
        self.average = theta.copy()
        self.first = np.zeros_like(theta)
        self.second = np.zeros_like(theta)
        self._work = np.empty_like(theta[:_PART])
        self.n_steps = 0

    def ascend(self, direction: FloatArray, rate: float) -> None:
        """Make one step along the gradient `direction` (P,), which is overwritten."""
        self.n_steps += 1
        # in parts that a core's cache holds
        for start in range(0, len(self.theta), _PART):
            self._ascend(direction[start : start + _PART], rate, slice(start, start + _PART))

    def _ascend(self, gradient: FloatArray, rate: float, part: slice) -> None:
        theta, average = self.theta[part], self.average[part]
        first, second, work = self.first[part], self.second[part], self._work[: len(gradient)]
        kind = theta.dtype.type
        # sums with weights that fall by a factor, so that few operations are needed
        first *= kind(_FIRST)
        first += gradient
        second *= kind(_SECOND)
        gradient *= gradient
        second += gradient
        # their averages are first / of_first and second / of_second
        of_first = (1 - _FIRST**self.n_steps) / (1 - _FIRST)
        root = np.sqrt((1 - _SECOND**self.n_steps) / (1 - _SECOND))
        np.sqrt(second, out=work)
        work += kind(_EPSILON * root)
        np.divide(first, work, out=work)
        work *= kind(rate * root / of_first)
        theta += work
        share = (_AVERAGING + 1) / (_AVERAGING + self.n_steps)
        np.subtract(theta, average, out=work)
        work *= kind(share)
        average += work

    def state(self) -> dict[str, Any]:
        """Return the state for :meth:`resume`, as arrays and builtins."""
        names = ("theta", "average", "first", "second")
        return {**{name: getattr(self, name).copy() for name in names}, "n_steps": self.n_steps}

    @classmethod
    def resume(cls, state: dict[str, Any]) -> Self:
        """Return an optimiser that continues from a state."""
        adam = cls(state["theta"])
        for name in ("average", "first", "second"):
            getattr(adam, name)[...] = state[name]
        adam.n_steps = state["n_steps"]
        return adam
