"""Rows of which only the entries that are not zero are kept."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from skbae._types import Array


class SparseRows:
    """Rows (N, D) in compressed form; as an array, where a kernel takes them as one.

    Parameters
    ----------
    data : sparse matrix or array of shape (N, D)

    Examples
    --------
    >>> X = SparseRows(np.array([[0.0, 2.0], [1.0, 0.0]]))
    >>> len(X), X.shape, X @ np.ones((2, 1))
    (2, (2, 2), array([[2.],
           [1.]]))
    >>> np.asarray(X[1:])
    array([[1., 0.]])
    """

    def __init__(self, data: Any) -> None:
        csr = csr_array(data)
        if not csr.has_canonical_format:  # columns in order, each once
            csr = csr.copy()
            csr.sum_duplicates()
        self.csr = csr

    @classmethod
    def _derived(cls, csr: csr_array) -> SparseRows:
        """Return rows of which the entries are known to be in order."""
        csr.has_canonical_format = True
        return cls(csr)

    @property
    def shape(self) -> tuple[int, int]:
        """``(N, D)``."""
        return self.csr.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the entries."""
        return self.csr.dtype

    def __len__(self) -> int:
        return int(self.csr.shape[0])

    def __getitem__(self, index: slice | NDArray[Any]) -> SparseRows:
        return self._derived(self.csr[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.csr.toarray(), dtype=dtype)

    def __matmul__(self, vectors: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.csr @ vectors)

    def transposed_product(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Return ``X' vectors`` for vectors (N, b)."""
        return np.asarray(self.csr.T @ vectors)

    def astype(self, dtype: DTypeLike, copy: bool = True) -> SparseRows:
        """Return the rows with entries of another type."""
        return self if self.dtype == dtype else self._derived(self.csr.astype(dtype))

    @cached_property
    def squares(self) -> SparseRows:
        """Rows of the squared entries."""
        squared = self.csr.copy()
        squared.data = np.square(squared.data, dtype=np.float64)
        return self._derived(squared)

    @cached_property
    def square_lengths(self) -> Array:
        """Sums of squares of the rows, (N,)."""
        return np.asarray(self.squares.csr.sum(axis=1)).ravel()

    def extremes(self) -> tuple[Array, Array]:
        """Return the least and the largest entry of each column."""
        low, high = self.csr.min(axis=0), self.csr.max(axis=0)
        return low.toarray().ravel(), high.toarray().ravel()

    def projection(self, factors: Array) -> Array:
        """Return ``X factors``, entry by entry in the order of columns: equal rows, equal bits."""
        rows = np.repeat(np.arange(len(self)), np.diff(self.csr.indptr))
        terms = self.csr.data.astype(np.float64) * factors[self.csr.indices]
        return np.asarray(np.bincount(rows, terms, minlength=len(self)), np.float64)
