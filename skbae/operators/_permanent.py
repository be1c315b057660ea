"""Permanents: sums over the ways to match labels."""

from __future__ import annotations

from itertools import permutations
from math import factorial
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.operators._constants import LEAST_EXPONENTS

if TYPE_CHECKING:
    from skbae._types import Array


# Largest number of entries of the table of subsets, and of matrices at once: few enough for caches.
_TABLE, _MATRICES = 1 << 21, 4096
# Logarithm of a number far above the smallest normal float64, and a stand-in for that of zero.
_SAFE, _LOWEST = -600.0, -1e300
_LEAST = LEAST_EXPONENTS[np.dtype(np.float64)]
# Up to this size the terms, one for each permutation, are fewer than the entries of matrices, and
# each is a sum of logarithms, in which nothing underflows.
_FEW_TERMS = 3


def log_permanent(log_matrices: Array, table_size: int = _TABLE) -> Array:
    """Return ``log sum over permutations p of prod_k exp(L[k, p(k)])``.

    A recursion over subsets of columns: row by row, the ways to match the first rows with each
    subset, in ``O(2^K K)`` and with positive terms only. Of matrices of at most three columns, all
    terms are added.

    Parameters
    ----------
    log_matrices : ndarray of shape (K, K, ...)
        Logarithms, one matrix for each entry of the trailing axes; ``-inf`` stands for zero.
    table_size : int
        Largest number of entries of the table of subsets; the matrices are divided accordingly.

    Returns
    -------
    ndarray of shape (...)

    Examples
    --------
    >>> import numpy as np
    >>> round(float(np.exp(log_permanent(np.log([[1.0, 2.0], [3.0, 4.0]])))), 10)
    10.0
    """
    size = len(log_matrices)
    batch = log_matrices.shape[2:]
    flat = log_matrices.reshape(size, size, -1)
    if size == 1:
        return flat[0, 0].reshape(batch)
    out = np.empty(flat.shape[-1])
    step = max(1, min(_MATRICES, len(out), table_size >> size))
    # memory is asked for once, which otherwise takes longer than the arithmetic
    if size <= _FEW_TERMS:
        terms = np.empty((factorial(size), step))
        for start in range(0, len(out), step):
            part = slice(start, start + step)
            out[part] = _sum_of_terms(flat[..., part], terms)
        return out.reshape(batch)
    table = np.empty(((1 << size) + 1, step))
    matrices = np.empty((size, size, step))
    with np.errstate(divide="ignore", under="ignore"):
        for start in range(0, len(out), step):
            part = slice(start, start + step)
            out[part] = _chunk(flat[..., part], table, matrices)
    return out.reshape(batch)


def _sum_of_terms(logs: Array, terms: Array) -> Array:
    """Return log permanents (M,), given memory for the logarithms of the K! terms."""
    terms = terms[:, : logs.shape[-1]]
    for term, order in zip(terms, permutations(range(len(logs))), strict=True):
        np.add(logs[0, order[0]], logs[1, order[1]], out=term)
        for row in range(2, len(logs)):
            term += logs[row, order[row]]
    peak = terms.max(axis=0)
    terms -= np.maximum(peak, _LOWEST)
    np.maximum(terms, _LEAST, out=terms)
    np.exp(terms, out=terms)
    return np.log(terms.sum(axis=0)) + peak


def _chunk(logs: Array, table: Array, matrices: Array) -> Array:
    """Return log permanents (M,), given memory for the table and for scaled matrices."""
    rows = np.maximum(logs.max(axis=1), _LOWEST)
    scaled = np.subtract(logs, rows[:, None], out=matrices[..., : logs.shape[-1]])
    np.maximum(scaled, _LEAST, out=scaled)
    np.exp(scaled, out=scaled)
    result = np.log(_subset_recursion(scaled, table))
    # below _SAFE terms may have lost digits by underflow; above it, terms that underflow are
    # negligible
    lost = np.flatnonzero(~(result > _SAFE))
    if len(lost):
        result[lost] = _scaled_by_columns(logs[..., lost] - rows[:, None, lost], table)
    return result + rows.sum(axis=0)


def _scaled_by_columns(logs: Array, table: Array) -> Array:
    """Return log permanents (M,) of matrices whose columns differ in size, too."""
    columns = np.maximum(logs.max(axis=0), _LOWEST)
    scaled = logs - columns
    result = np.log(_subset_recursion(np.exp(np.maximum(scaled, _LEAST)), table))
    lost = np.flatnonzero(~(result > _SAFE))
    if len(lost):
        result[lost] = _log_subset_recursion(scaled[..., lost])
    return result + columns.sum(axis=0)


def _subset_recursion(matrices: Array, table: Array) -> Array:
    """Return permanents, given a table (2^K + 1, M) to work in: a line a subset, and one more."""
    size, n = len(matrices), matrices.shape[-1]
    table = table[:, :n]
    term = table[-1]
    for mask in range(1, 1 << size):
        row, total = mask.bit_count() - 1, table[mask]
        columns = [j for j in range(size) if mask >> j & 1]
        if row == 0:
            total[...] = matrices[0, columns[0]]
            continue
        np.multiply(table[mask ^ (1 << columns[0])], matrices[row, columns[0]], out=total)
        for j in columns[1:]:
            np.multiply(table[mask ^ (1 << j)], matrices[row, j], out=term)
            total += term
    return table[(1 << size) - 1]


def _log_subset_recursion(logs: Array) -> Array:
    """Return log permanents by sums of logarithms, for matrices whose permanent underflows."""
    size = len(logs)
    table: list[Any] = [None] * (1 << size)
    for mask in range(1, 1 << size):
        row = mask.bit_count() - 1
        terms = []
        for j in range(size):
            if mask >> j & 1:
                before = table[mask ^ (1 << j)]
                terms.append(logs[row, j] if before is None else before + logs[row, j])
        table[mask] = np.logaddexp.reduce(terms, axis=0)
    return table[-1]
