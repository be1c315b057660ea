"""Loadings without their rotation, their prior, and the moments of rows that PCA uses.

The model depends on loadings W (D, d) through ``W W'`` alone, which does not change if W is rotated
on the right. One rotation makes W lower trapezoidal with a positive diagonal. If the entries of W
are independent standard normal, so are those of the rotated loadings below the diagonal, and the
squares on the diagonal are chi-squared with d, d - 1, ..., 1 degrees of freedom (Bartlett 1933).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from skbae._types import ArrayRecord, Rows

if TYPE_CHECKING:
    from skbae._types import Array


@dataclass(frozen=True)
class Loadings(ArrayRecord):
    """Models in the rows' principal axes.

    ``loadings`` (S, D, d) are lower trapezoidal, ``offset`` (S, D) is the rows' mean minus the
    model's, ``noise`` (S,) is the variance s2.
    """

    loadings: Array
    offset: Array
    noise: Array


@dataclass(frozen=True)
class PCAPrior:
    """``W_ij ~ N(0, w)``, ``mu ~ N(mean, m I)``, ``s2 ~ InvGamma(shape, scale)``.

    Attributes
    ----------
    component_variance : float
        w.
    mean : ndarray of shape (D,)
    mean_variance : float
        m.
    noise_shape, noise_scale : float
    """

    component_variance: float
    mean: Array
    mean_variance: float
    noise_shape: float
    noise_scale: float


@dataclass(frozen=True)
class RowMoments:
    """Moments of the rows that PCA uses.

    Attributes
    ----------
    mean : ndarray of shape (D,)
    axes : ndarray of shape (D, R)
        Principal axes, in columns; those without variance may be left out.
    variances : ndarray of shape (R,)
        Along the axes.
    total : float
        Sum of the weights.
    """

    mean: Array
    axes: Array
    variances: Array
    total: float

    def as_one_row(self) -> Rows:
        """Return one row, the mean, with the weight of all rows, for samplers that take rows."""
        scale = np.zeros(len(self.mean))
        scale[: len(self.variances)] = np.sqrt(np.maximum(self.variances, 0.0))
        return Rows(self.mean[None], None, self.total, self.mean, scale)

    def whole(self) -> RowMoments:
        """Return the same along as many axes as there are features."""
        n_features, n_axes = self.axes.shape
        if n_axes == n_features:
            return self
        variances = np.zeros(n_features)
        variances[:n_axes] = self.variances
        axes = complete_axes(self.axes, n_features - n_axes)
        return RowMoments(self.mean, axes, variances, self.total)

    def variance_along(self, components: Array) -> Array:
        """Return the variance of the rows along components (S, d, D), (S, d)."""
        return np.matmul(components, self.axes) ** 2 @ self.variances

    @property
    def mean_variance(self) -> float:
        """Mean variance of a feature."""
        return float(self.variances.sum()) / len(self.mean)


def turn_lower(loadings: Array) -> Array:
    """Return loadings (..., D, d) rotated on the right to be lower trapezoidal.

    By Gram-Schmidt orthogonalisation of the first d rows, vectorised over the batch.

    Examples
    --------
    >>> turn_lower(np.array([[3.0, 4.0], [7.0, 1.0], [5.0, 0.0]])).round(12).tolist()
    [[5.0, 0.0], [5.0, 5.0], [3.0, 4.0]]
    """
    n_codes = loadings.shape[-1]
    if n_codes == 0:
        return loadings
    if n_codes == 1:
        sign = np.where(loadings[..., :1, :] < 0, -1.0, 1.0)
        return loadings * sign
    turn = np.empty((*loadings.shape[:-2], n_codes, n_codes))
    for i in range(n_codes):
        row = loadings[..., i, :]
        for _ in range(2):  # repeated once, for rows that are nearly linearly dependent
            for j in range(i):
                row = row - (row * turn[..., j, :]).sum(axis=-1, keepdims=True) * turn[..., j, :]
        length = np.sqrt((row * row).sum(axis=-1, keepdims=True))
        turn[..., i, :] = row / np.maximum(length, np.finfo(np.float64).tiny)
    turned = np.matmul(loadings, np.swapaxes(turn, -1, -2))
    upper = np.triu_indices(n_codes, 1)
    turned[..., upper[0], upper[1]] = 0.0
    return turned


def log_density_of_diagonal(logs: Array) -> tuple[Array, Array]:
    """Return the log density of the log diagonal (..., d) of rotated standard normal loadings.

    Returns
    -------
    log_density : ndarray of shape (...)
    gradient : ndarray of shape (..., d)

    Examples
    --------
    >>> from scipy.stats import chi
    >>> logs = np.array([0.3, -0.2])
    >>> expected = (chi(df=[2, 1]).logpdf(np.exp(logs)) + logs).sum()
    >>> bool(np.isclose(log_density_of_diagonal(logs)[0], expected))
    True
    """
    degrees = logs.shape[-1] - np.arange(logs.shape[-1])
    squares = np.exp(2 * logs)
    value = degrees * logs - 0.5 * squares + (1 - 0.5 * degrees) * np.log(2)
    return (value - gammaln(0.5 * degrees)).sum(axis=-1), degrees - squares


def complete_axes(axes: Array, n_more: int) -> Array:
    """Return orthonormal axes (D, R) in columns with more of them appended.

    Examples
    --------
    >>> axes = complete_axes(np.array([[0.6], [0.8]]), 1)
    >>> bool(np.allclose(axes.T @ axes, np.eye(2)))
    True
    """
    n_features, n_axes = axes.shape
    found = np.zeros((n_features, n_axes + n_more))
    found[:, :n_axes] = axes
    left = 1.0 - (axes**2).sum(axis=1)
    for column in range(n_axes, n_axes + n_more):
        # the unit vector with the smallest projection on the axes
        start = int(np.argmax(left))
        vector = np.zeros(n_features)
        vector[start] = 1.0
        before = found[:, :column]
        for _ in range(2):
            vector -= before @ (before.T @ vector)
        found[:, column] = vector / np.sqrt(vector @ vector)
        left -= found[:, column] ** 2
    return found
