"""Which entries of a chunk of rows are missing: the one place that reads NaN.

An entry is known or missing. (An entry of which only a bound is known would be a third case:
kernels ask this module for what they know of an entry, and never look for NaN themselves.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.operators._sparse import SparseRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


def has_gaps(X: NDArray[Any] | SparseRows) -> bool:
    """Return whether an entry is missing, at the cost of a sum.

    Examples
    --------
    >>> has_gaps(np.ones((2, 2))), has_gaps(np.array([[1.0, np.nan]]))
    (False, True)
    """
    if isinstance(X, SparseRows):
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        total = X.sum()
    return bool(np.isnan(total)) and bool(np.isnan(X).any())


@dataclass(frozen=True)
class GapGroup:
    """Rows of a chunk that miss the same number m > 0 of entries, sorted by which they miss.

    Attributes
    ----------
    rows : ndarray of int of shape (R,)
        Numbers within the chunk.
    columns : ndarray of int of shape (m, U)
        The missing columns of each of U patterns, ascending.
    first : ndarray of int of shape (U,)
        Where the rows of each pattern begin.
    pattern : ndarray of int of shape (R,) or None
        The pattern of each row; None where each row has its own.
    cells : ndarray of int of shape (m, R)
        Positions of the missing entries in the chunk's flattened (D, n).
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    first: NDArray[np.intp]
    pattern: NDArray[np.intp] | None
    cells: NDArray[np.intp]

    def to_rows(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values of patterns (..., U) for each row, (..., R)."""
        return values if self.pattern is None else values[..., self.pattern]

    def to_patterns(self, values: Array) -> Array:
        """Return sums of values of rows (..., R) over the rows of each pattern, (..., U)."""
        return values if self.pattern is None else np.add.reduceat(values, self.first, axis=-1)


class Gaps:
    """Known and missing entries of a chunk of rows.

    Parameters
    ----------
    X : ndarray of shape (n, D)
        NaN where an entry is missing.

    Attributes
    ----------
    missing : ndarray of bool of shape (D, n)
    observed : ndarray of shape (D, n)
        1 where an entry is known, 0 where it is missing.
    filled : ndarray of shape (D, n)
        The rows, with zeros for missing entries.
    """

    def __init__(self, X: NDArray[Any]) -> None:
        rows = np.ascontiguousarray(X.T, dtype=np.float64)
        self.missing = np.isnan(rows)
        self.observed = (~self.missing).astype(np.float64)
        self.filled = np.where(self.missing, 0.0, rows)
        self._groups: list[GapGroup] | None = None

    @property
    def groups(self) -> list[GapGroup]:
        """The rows with gaps, by how many entries they miss."""
        if self._groups is None:
            self._groups = list(self._grouped())
        return self._groups

    def _grouped(self) -> Any:
        n_rows = self.missing.shape[1]
        numbers = self.missing.sum(axis=0)
        for m in np.unique(numbers[numbers > 0]):
            rows = np.flatnonzero(numbers == m)
            # column numbers in ascending order, row by row
            own = np.nonzero(self.missing[:, rows].T)[1].reshape(len(rows), m)
            order = np.lexsort(own.T[::-1])
            rows, own = rows[order], own[order]
            new = np.ones(len(rows), dtype=bool)
            new[1:] = np.any(own[1:] != own[:-1], axis=1)
            first = np.flatnonzero(new)
            pattern = None if len(first) == len(rows) else np.cumsum(new) - 1
            columns = np.ascontiguousarray(own.T)
            yield GapGroup(rows, columns[:, first], first, pattern, columns * n_rows + rows)
