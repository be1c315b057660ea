"""Columns of few distinct values in which a component has shrunk onto a single value.

A density gains without limit from rows that are equal in a column. What a component gains there is
set by how narrow the prior allows it to be, which says nothing about the number of components.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows

# A column has few distinct values if there are fewer than this part of the number of rows.
_FEW_VALUES = 0.2
# A component has shrunk onto a value if its standard deviation, given the other columns, is below
# this part of the median gap between values. Rounding a spread-out quantity to these values leaves
# a deviation of 0.29 gaps.
_SHRUNK = 0.2
# Rows that a component must have for its shrinking to matter.
_MIN_ROWS = 5.0


def value_gaps(rows: Rows) -> Array:
    """Return the median gap between the distinct values of each column, 0 if there are many.

    Returns
    -------
    ndarray of shape (D,)
    """
    gaps = np.zeros(rows.X.shape[1])
    for j in range(len(gaps)):
        values = np.unique(rows.X[:, j])
        if 1 < len(values) <= max(2.0, _FEW_VALUES * len(rows.X)):
            gaps[j] = float(np.median(np.diff(values)))
    return gaps


def shrunken_columns(rows: Rows, counts: Array, precisions: Array) -> NDArray[np.intp]:
    """Return the columns in which a component has shrunk onto one of few values.

    Parameters
    ----------
    rows : Rows
    counts : ndarray of shape (K,)
        Expected number of rows of each component.
    precisions : ndarray of shape (K, D)
        Diagonal of each component's precision: one over the variance given the other columns.

    Returns
    -------
    ndarray of int
    """
    deviations = 1 / np.sqrt(precisions)
    shrunk = deviations < _SHRUNK * value_gaps(rows)
    return np.flatnonzero(np.any(shrunk & (counts[:, None] >= _MIN_ROWS), axis=0))
