"""Inverses and factors of many small positive definite matrices, side by side.

Matrices have the shape (..., m, m, n): the last axis counts them, so that every operation runs over
contiguous numbers, which for small m is several times faster than one matrix after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skbae._types import Array

# Above this size, LAPACK on one matrix after the other is faster.
_SMALL = 24
# Up to this size, products of matrices are faster side by side.
_FEW = 4


def inverses(matrices: Array) -> tuple[Array, Array]:
    """Return the inverses and the log determinants of positive definite matrices.

    Parameters
    ----------
    matrices : ndarray of shape (..., m, m, n)
        May be overwritten.

    Returns
    -------
    inverses : ndarray of shape (..., m, m, n)
    log_det : ndarray of shape (..., n)
        NaN where a matrix is not positive definite.

    Examples
    --------
    >>> found, log_det = inverses(np.array([[4.0, 2.0], [2.0, 3.0]])[..., None])
    >>> found[..., 0].tolist(), float(np.exp(log_det[0]).round(12))
    ([[0.375, -0.25], [-0.25, 0.5]], 8.0)
    """
    size = matrices.shape[-2]
    if size > _SMALL:
        return _by_lapack(matrices)
    pivots = np.empty((*matrices.shape[:-3], size, matrices.shape[-1]))
    if size == 1:
        pivots[...] = matrices[..., 0, :, :]
        return 1.0 / matrices, _log_of(pivots)
    for k in range(size):
        # a step of Gauss-Jordan elimination, which needs no pivoting here
        pivot = matrices[..., k, k, :]
        pivots[..., k, :] = pivot
        row = matrices[..., k, :, :] / pivot[..., None, :]
        row[..., k, :] = 1.0 / pivot
        column = matrices[..., :, k, :].copy()
        column[..., k, :] = 0.0
        matrices[..., :, k, :] = 0.0
        matrices -= column[..., :, None, :] * row[..., None, :, :]
        matrices[..., k, :, :] = row
    return matrices, _log_of(pivots)


def last(matrices: Array) -> Array:
    """Return matrices (..., m, m) as an array (m, m, n), contiguous along n."""
    size = matrices.shape[-1]
    flat = matrices.reshape(-1, size * size)
    return np.ascontiguousarray(flat.T).reshape(size, size, -1)


def first(matrices: Array) -> Array:
    """Return matrices (m, m, n) as an array (n, m, m)."""
    size = len(matrices)
    return np.ascontiguousarray(matrices.reshape(size * size, -1).T).reshape(-1, size, size)


def products(left: Array, right: Array) -> Array:
    """Return the products of matrices (..., m, m), whose other axes broadcast.

    Examples
    --------
    >>> left, right = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> products(left, right).tolist()
    [[2.0, 1.0], [4.0, 3.0]]
    """
    size = left.shape[-1]
    if size > _FEW:
        return np.matmul(left, right)
    if left.shape != right.shape:
        left, right = np.broadcast_arrays(left, right)
    one, other = last(left), last(right)
    out = one[:, 0, None] * other[0]
    for k in range(1, size):
        out += one[:, k, None] * other[k]
    return first(out).reshape(left.shape)


def times_matrix(vectors: Array, matrices: Array) -> Array:
    """Return ``v' M`` for vectors (..., m) and matrices (..., m, m), whose other axes broadcast.

    Examples
    --------
    >>> times_matrix(np.array([1.0, 2.0]), np.array([[1.0, 0.0], [3.0, 1.0]])).tolist()
    [7.0, 2.0]
    """
    if vectors.shape[-1] > _FEW:
        return np.matmul(vectors[..., None, :], matrices)[..., 0, :]
    return np.einsum("...i,...ij->...j", vectors, matrices)


def matrix_times(matrices: Array, vectors: Array) -> Array:
    """Return ``M v`` for matrices (..., m, m) and vectors (..., m), whose other axes broadcast.

    Examples
    --------
    >>> matrix_times(np.array([[1.0, 0.0], [3.0, 1.0]]), np.array([1.0, 2.0])).tolist()
    [1.0, 5.0]
    """
    return times_matrix(vectors, matrices.swapaxes(-1, -2))


def solve_transposed(lower: Array, upper: Array) -> Array:
    """Return the upper triangular ``L'^-1 B`` for triangular L and B, all (m, m, n).

    Parameters
    ----------
    lower, upper : ndarray of shape (m, m, n)
        L, lower triangular, and B, upper triangular.

    Examples
    --------
    >>> lower, upper = np.array([[2.0, 0.0], [1.0, 4.0]]), np.array([[2.0, 3.0], [0.0, 4.0]])
    >>> solve_transposed(lower[..., None], upper[..., None])[..., 0].tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    size = len(lower)
    out = upper.copy()
    for i in reversed(range(size)):
        for k in range(i + 1, size):
            out[i, k:] -= lower[k, i] * out[k, k:]
        out[i, i:] /= lower[i, i]
    return out


def _log_of(pivots: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(pivots).sum(axis=-2)


def _by_lapack(matrices: Array) -> tuple[Array, Array]:
    first = np.moveaxis(matrices, -1, -3)
    sign, log_det = np.linalg.slogdet(first)
    found = np.moveaxis(np.asarray(np.linalg.inv(first), np.float64), -3, -1)
    return found, np.where(sign > 0, log_det, np.nan)


def lower_factors(matrices: Array) -> Array:
    """Return lower triangular L with ``L L'`` the matrices (..., m, m, n).

    Examples
    --------
    >>> lower_factors(np.array([[4.0, 2.0], [2.0, 3.0]])[..., None])[..., 0].round(4).tolist()
    [[2.0, 0.0], [1.0, 1.4142]]
    """
    size = matrices.shape[-2]
    if size > _SMALL:
        first = np.moveaxis(matrices, -1, -3)
        return np.moveaxis(np.asarray(np.linalg.cholesky(first), np.float64), -3, -1)
    lower = np.zeros_like(matrices)
    for k in range(size):
        own = lower[..., k, :k, :]
        left = matrices[..., k:, k, :] - np.einsum(
            "...ijn,...jn->...in", lower[..., k:, :k, :], own
        )
        lower[..., k:, k, :] = left / np.sqrt(left[..., :1, :])
    return lower
