"""Inverses and determinants of batches of triangular matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg.lapack import dtrtri

if TYPE_CHECKING:
    from skbae._types import Array, FloatArray


# Up to this size a loop over columns, vectorised over the batch, is faster than one over the batch.
_COLUMNWISE_LIMIT = 12
# but not if matrices are fewer than so many times their size
_FEW = 3


def triangular_inverse(lower: Array) -> Array:
    """Invert lower triangular matrices.

    Parameters
    ----------
    lower : ndarray of shape (..., D, D)
        Lower triangular, with a non-zero diagonal.

    Returns
    -------
    ndarray of shape (..., D, D)
        The inverses, with exact zeros above the diagonal.

    Examples
    --------
    >>> import numpy as np
    >>> triangular_inverse(np.array([[2.0, 0.0], [1.0, 4.0]])).tolist()
    [[0.5, 0.0], [-0.125, 0.25]]
    """
    size = lower.shape[-1]
    batch = lower.reshape(-1, size, size)
    inverse = np.zeros_like(batch)
    if size <= _COLUMNWISE_LIMIT and len(batch) > _FEW * size:
        for i in range(size):
            pivot = 1.0 / batch[:, i, i]
            inverse[:, i, i] = pivot
            if i:
                row = np.matmul(batch[:, i : i + 1, :i], inverse[:, :i, :i])[:, 0]
                inverse[:, i, :i] = -pivot[:, None] * row
    else:
        for matrix, out in zip(batch, inverse, strict=True):
            # dtrtri reads Fortran order: the transpose of a lower factor is an upper one
            out[...] = dtrtri(matrix.T, lower=0)[0].T
    return inverse.reshape(lower.shape)


def half_log_det(factors: FloatArray) -> Array:
    """Return the log of the determinant of triangular matrices, half that of the matrices factored.

    The diagonals are copied before the logarithm: for a strided view NumPy chooses between two
    logarithms, which differ in the last bit, by where the result happens to lie in memory.

    Parameters
    ----------
    factors : ndarray of shape (..., D, D)
        Triangular, with a positive diagonal.

    Returns
    -------
    ndarray of shape (...)

    Examples
    --------
    >>> import numpy as np
    >>> half_log_det(np.array([[2.0, 0.0], [1.0, 0.5]])).item()
    0.0
    """
    diagonal = factors.diagonal(axis1=-2, axis2=-1).copy()
    return np.asarray(np.log(diagonal, out=diagonal).sum(axis=-1))
