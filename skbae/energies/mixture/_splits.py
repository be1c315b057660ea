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
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

if TYPE_CHECKING:
    from skbae._types import Array

# Scores of more coordinates, and of more rows, are not written out as a table.
_FEW = 40
# Relative error of an eigenvector's direction at which the iteration ends.
_EIGENVECTOR_TOLERANCE = 1e-5
# Steps of the power method, where that iteration fails.
_POWER_STEPS = 100


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
    if min(size, scores.n_rows) <= _FEW:
        value, vector = _of_table(scores, shares / total)
    else:
        value, vector = _of_operator(scores, shares / total)
    largest = vector[np.argmax(np.abs(vector))]
    return value, vector * (1.0 if largest >= 0 else -1.0)


def _of_table(scores: SplitScores, shares: Array) -> tuple[float, Array]:
    """Return the leading eigenvalue and eigenvector, with the scores written out."""
    if scores.n_coordinates <= scores.n_rows:
        table = np.stack([scores.along(each) for each in np.eye(scores.n_coordinates)], axis=1)
    else:
        table = np.stack([scores.weighted(each) for each in np.eye(scores.n_rows)])
    _, singular, vectors = np.linalg.svd(np.sqrt(shares)[:, None] * table, full_matrices=False)
    return float(singular[0] ** 2), vectors[0]


def _of_operator(scores: SplitScores, shares: Array) -> tuple[float, Array]:
    """Return the leading eigenvalue and eigenvector, by products with directions alone."""
    size = scores.n_coordinates

    def second_moment(direction: Array) -> Array:
        return scores.weighted(shares * scores.along(direction.ravel()))

    vector = np.random.default_rng(0).standard_normal(size)
    operator = LinearOperator((size, size), matvec=second_moment, dtype=np.float64)
    try:
        found, vectors = eigsh(operator, k=1, v0=vector, tol=_EIGENVECTOR_TOLERANCE)
        return float(found[0]), vectors[:, 0]
    except ArpackError:
        # leading eigenvalues are nearly equal, so that any direction among them will do, or all
        # scores are zero
        vector = vector / np.linalg.norm(vector)
        for _ in range(_POWER_STEPS):
            moved = second_moment(vector)
            length = float(np.linalg.norm(moved))
            if length == 0:
                break
            vector = moved / length
        return float(vector @ second_moment(vector)), vector
