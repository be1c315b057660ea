"""Starting points that depend on the rows only through their weighted distribution.

The order of the rows must not matter, and a row of weight two must equal the row repeated. So rows
are put into a canonical order (by a fixed projection), equal ones are merged, and of very many rows
some are selected by a hash of their content.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Rows
from skbae.inference.passes._sources import Collect, RowSource, fold
from skbae.operators._gaps import has_gaps
from skbae.operators._sparse import SparseRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


# Distinct rows from which starting points are chosen: enough to contain rows of a component with a
# thousandth of the weight, and few enough to cost less than one pass over many rows.
MAX_DISTINCT = 1 << 14
# Rows that are looked at at once, and about how many numbers, at most.
_CHUNK, _NUMBERS = 1 << 16, 1 << 21
# What a missing entry adds to the projection of a row.
_MISSING = 0.6180339887


def distinct_rows(rows: Rows, limit: int = MAX_DISTINCT) -> tuple[Array, Array]:
    """Return distinct rows in canonical order, with their merged weights.

    Parameters
    ----------
    rows : Rows
    limit : int
        Approximate largest number of rows to return; their selection depends on their content only.

    Returns
    -------
    X : ndarray of shape (M, D), float64
    weights : ndarray of shape (M,)
    """
    if isinstance(rows.X, RowSource):
        limit = rows.X.most_rows(limit)
    known = rows.memo.get(("distinct rows", limit))
    if known is None:
        known = rows.memo["distinct rows", limit] = _distinct_rows(rows, limit)
    return known


def _distinct_rows(rows: Rows, limit: int) -> tuple[Array, Array]:
    fraction = min(limit / len(rows.X), 1.0)
    while True:
        X, weights, keys, others = _selected(rows, fraction)
        # many repeated rows leave too few distinct ones: select a larger fraction
        if fraction >= 1 or len(np.unique(keys)) >= limit // 2:
            break
        fraction = min(4 * fraction, 1.0)
    order = np.lexsort((others, keys))
    X, weights = X[order].astype(np.float64), weights[order]
    new = np.ones(len(X), dtype=bool)
    differ = X[1:] != X[:-1]
    if rows.incomplete:
        differ &= ~(np.isnan(X[1:]) & np.isnan(X[:-1]))
    new[1:] = np.any(differ, axis=1)
    group = np.cumsum(new) - 1
    return X[new], np.asarray(np.bincount(group, weights=weights), dtype=np.float64)


def count_distinct(X: Any) -> int:
    """Return the number of distinct rows, chunk by chunk, by two projections of each."""

    def keys(chunk: NDArray[Any], weights: Array | None) -> tuple[Array]:
        both = [_projection(chunk, which, True) for which in (0, 1)]
        return (np.stack(both, axis=1),)

    (found,) = fold(Collect(keys, max(256, _NUMBERS // X.shape[1])), X)
    return len(np.unique(found, axis=0))


def _selected(rows: Rows, fraction: float) -> list[NDArray[Any]]:
    """Return about a fraction of the rows, by their content, their weights and two projections.

    Chunk by chunk, so that rows may be on disk, and more than there is memory for.
    """
    incomplete = rows.incomplete

    def select(X: NDArray[Any], weights: Array | None) -> tuple[NDArray[Any], ...]:
        keys = _projection(X, 0, incomplete)
        weights = np.ones(len(X)) if weights is None else weights
        if fraction < 1:
            own = np.flatnonzero(_hash_uniform(keys) < fraction)
            X, weights, keys = X[own], weights[own], keys[own]
        return np.asarray(X), weights, keys, _projection(X, 1, incomplete)

    size = min(_CHUNK, max(256, _NUMBERS // rows.X.shape[1]))
    return fold(Collect(select, size), rows.X, rows.weights)


@cache
def _direction(n_features: int, which: int) -> Array:
    return np.random.default_rng(1015 + which).uniform(0.5, 1.0, (n_features,))


def _projection(X: NDArray[Any] | SparseRows, which: int, incomplete: bool) -> Array:
    """Project rows on a fixed direction, feature by feature, so that equal rows give equal bits."""
    if isinstance(X, SparseRows):
        return X.projection(_direction(X.shape[1], which)) + 0.0
    total = np.zeros(len(X))
    for feature, factor in enumerate(_direction(X.shape[1], which)):
        column = X[:, feature].astype(np.float64) * factor
        total += np.where(np.isnan(column), _MISSING, column) if incomplete else column
    return total + 0.0  # turns -0.0 into 0.0


def _hash_uniform(keys: Array) -> Array:
    """Return numbers in [0, 1) that are a fixed, scrambled function of the keys (splitmix64)."""
    bits = keys.view(np.uint64).copy()
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _draw(cumulative: Array, uniforms: Array) -> NDArray[np.intp]:
    """Invert the cumulative weights at uniform numbers."""
    index = np.searchsorted(cumulative, uniforms * cumulative[-1], side="right")
    return np.minimum(index, len(cumulative) - 1)


def shortest_intervals(X: Array, weights: Array, share: float) -> Array:
    """Return the width of the shortest interval of each column that holds a share of the weight.

    Where rows are in groups, it is that of the narrowest group with enough rows, however far the
    groups are from each other.

    Parameters
    ----------
    X : ndarray of shape (M, D)
    weights : ndarray of shape (M,)
    share : float
        Between 0 and 1.

    Returns
    -------
    ndarray of shape (D,)

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [2.0], [100.0], [100.5], [101.0]])
    >>> shortest_intervals(X, np.ones(6), 0.5).tolist()
    [1.0]
    """
    if has_gaps(X):
        return np.array([_of_known(column, weights, share) for column in X.T])
    needed = share * weights.sum()
    if np.all(weights == weights[0]):  # of any column the same: sorting alone is faster
        return _shortest(np.sort(X, axis=0), weights, needed)
    widths = np.empty(X.shape[1])
    for feature, column in enumerate(X.T):
        order = np.argsort(column, kind="stable")
        widths[feature] = _shortest(column[order], weights[order], needed)
    return widths


def _of_known(column: Array, weights: Array, share: float) -> float:
    known = ~np.isnan(column)
    return float(shortest_intervals(column[known, None], weights[known], share)[0])


def _shortest(values: Array, weights: Array, needed: float) -> Any:
    """Return the shortest intervals of ascending values (M,) or (M, D) that hold some weight."""
    mass = np.cumsum(weights)
    # the first row up to which each row's interval holds enough
    last = np.searchsorted(mass, mass - weights + needed * (1 - 1e-9))
    fits = last < len(values)
    return (values[last[fits]] - values[fits]).min(axis=0)


def random_rows(X: Array, weights: Array, n: int, rng: np.random.Generator) -> Array:
    """Draw n distinct rows one after the other, with probability proportional to weight.

    If there are fewer distinct rows than n, all are drawn and then some again.
    """
    remaining, chosen = weights.copy(), []
    for _ in range(n):
        if not remaining.any():
            remaining = weights.copy()
        index = _draw(np.cumsum(remaining), rng.random(1))[0]
        chosen.append(index)
        remaining[index] = 0
    return X[chosen]


def kmeans_plus_plus(X: Array, weights: Array, n: int, rng: np.random.Generator) -> Array:
    """Choose n rows far from each other (Arthur and Vassilvitskii 2007, greedy).

    Parameters
    ----------
    X : ndarray of shape (M, D)
        Distinct rows.
    weights : ndarray of shape (M,)
    n : int
    rng : Generator

    Returns
    -------
    ndarray of shape (n, D)
        Each the best of ``2 + log n`` candidates drawn with probability proportional to weight
        times squared distance from the rows chosen so far.
    """
    n_trials = 2 + int(np.log(n))
    X = X.astype(np.float64, copy=False)
    shifted = X - weights @ X / weights.sum()
    squares = np.einsum("nd,nd->n", shifted, shifted)
    first = _draw(np.cumsum(weights), rng.random(1))[0]
    chosen = [first]
    closest = _square_distances(shifted, squares, np.array([first]))[0]
    for _ in range(1, n):
        potential = np.cumsum(weights * closest)
        uniforms = rng.random(n_trials)
        if potential[-1] > 0:
            candidates = _draw(potential, uniforms)
        else:  # fewer distinct rows than components
            candidates = _draw(np.cumsum(weights), uniforms)
        distances = np.minimum(closest, _square_distances(shifted, squares, candidates))
        best = int(np.argmin(distances @ weights))
        chosen.append(candidates[best])
        closest = distances[best]
    return X[chosen]


def _square_distances(X: Array, squares: Array, index: NDArray[np.intp]) -> Array:
    distances = squares[index][:, None] - 2 * X[index] @ X.T + squares
    np.maximum(distances, 0, out=distances)
    distances[np.arange(len(index)), index] = 0
    return distances
