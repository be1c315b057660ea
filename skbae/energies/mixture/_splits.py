r"""Where components of a mixture split, as the temperature of the codes falls.

Let two copies of a component, with half its weight each, move apart by ``+v`` and ``-v`` in its
parameters. To second order the energy of its rows (with codes r) changes by

``sum_x r_x [v' H''(x) v + (v' g(x))^2 / T] / 2``,

where ``g`` and ``H''`` are the gradient and the curvature of the component's energy: the first term
is what both lose, being no longer the best, and the second what rows gain by choosing between them.
So the copies move apart if T is below the largest eigenvalue of ``sum r g g'`` relative to
``-sum r H''``: the component's *critical temperature*. For means alone, it is the largest
eigenvalue of the rows' scatter relative to the component's covariance; where covariances follow the
rows, gradients in these make it a condition on their fourth moments. A step of expectation
maximisation multiplies a small v by the critical temperature over T.

A family gives the gradients as *scores*, in coordinates in which the curvature is minus one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

if TYPE_CHECKING:
    from skbae._types import Array

# More coordinates than this are not written out as a matrix.
_FEW = 40
# Relative error of an eigenvector's direction at which the iteration ends.
_EIGENVECTOR_TOLERANCE = 1e-5


class SplitScores(ABC):
    """Gradients (n, P) of a component's energy of rows, as a linear map.

    Attributes
    ----------
    n_rows, n_coordinates : int
        n and P.
    """

    n_rows: int
    n_coordinates: int

    @abstractmethod
    def along(self, direction: Array) -> Array:
        """Return the scores' products with a direction (P,), (n,)."""

    @abstractmethod
    def weighted(self, shares: Array) -> Array:
        """Return the sum of scores weighted by shares (n,), (P,)."""

    def reach(self, critical: float) -> float:
        """Return how far along a direction of this critical temperature its two halves may be."""
        return 1.0


def critical_direction(scores: SplitScores, shares: Array) -> tuple[float, Array]:
    """Return the critical temperature of a component, and the direction in which it splits.

    Parameters
    ----------
    scores : SplitScores
    shares : ndarray of shape (n,)
        Codes of the rows.

    Returns
    -------
    temperature : float
        0 where there are no rows, or nothing that may split.
    direction : ndarray of shape (P,)
        Of length 1; its entry of largest size is positive.
    """
    size, total = scores.n_coordinates, float(shares.sum())
    if total <= 0 or size == 0:
        return 0.0, np.zeros(size)
    if size <= _FEW:
        table = np.stack([scores.along(each) for each in np.eye(size)], axis=1)
        values, vectors = np.linalg.eigh((table * shares[:, None]).T @ table / total)
        value, vector = float(values[-1]), vectors[:, -1]
    else:

        def second_moment(direction: Array) -> Array:
            return scores.weighted(shares * scores.along(direction.ravel())) / total

        operator = LinearOperator((size, size), matvec=second_moment, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(size)
        try:
            found, vectors = eigsh(operator, k=1, v0=start, tol=_EIGENVECTOR_TOLERANCE)
            value, vector = float(found[0]), vectors[:, 0]
        except ArpackNoConvergence:
            # leading eigenvalues are nearly equal: any direction among them will do
            vector = start / np.linalg.norm(start)
            for _ in range(100):
                moved = second_moment(vector)
                vector = moved / np.linalg.norm(moved)
            value = float(vector @ second_moment(vector))
    largest = vector[np.argmax(np.abs(vector))]
    return value, vector * (1.0 if largest >= 0 else -1.0)
