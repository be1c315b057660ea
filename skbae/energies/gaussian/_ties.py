"""Columns of few distinct values in which components have shrunk onto single values.

A density gains without limit from rows that are equal in a column. What a component gains there is
set by how narrow the prior allows it to be, which says nothing about the number of components.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skbae._types import Array, Rows

# A column has few distinct values if there are fewer than this part of the number of rows.
_FEW_VALUES = 0.2
# Standard deviation, in gaps between values, of a quantity that rounding has moved to these values:
# no component of what was rounded is narrower.
_OF_ROUNDING = 1 / np.sqrt(12.0)


def value_gaps(rows: Rows) -> Array:
    """Return the median gap between the distinct values of each column, 0 if there are many.

    Returns
    -------
    ndarray of shape (D,)
    """
    gaps = np.zeros(rows.X.shape[1])
    for j in range(len(gaps)):
        values = np.unique(rows.X[:, j])
        values = values[~np.isnan(values)]
        if 1 < len(values) <= max(2.0, _FEW_VALUES * len(rows.X)):
            gaps[j] = float(np.median(np.diff(values)))
    return gaps


def gains_from_ties(rows: Rows, counts: Array, precisions: Array) -> Array:
    """Return what ties in each column add to the log evidence, in nats, at least 0.

    Rows of a component with standard deviation sd, given the other columns, gain the logarithm of
    sd over that of rounding. Against evidences of the same rows with uniform noise in half a gap,
    this is within a factor of two or so where it is large.

    Parameters
    ----------
    rows : Rows
    counts : ndarray of shape (S, K)
        Expected number of rows of each component, for S models.
    precisions : ndarray of shape (S, K, D)
        Diagonal of each component's precision: one over the variance given the other columns.

    Returns
    -------
    ndarray of shape (D,)
        The mean over models.
    """
    gaps = value_gaps(rows)
    narrow = np.maximum(_OF_ROUNDING * gaps * np.sqrt(precisions), 1.0)
    return (counts[:, :, None] * np.log(narrow)).sum(axis=1).mean(axis=0)
