"""Sums over many columns of categories, looked up: columns are put together into few patterns.

The energy of a row of D categories is a sum of D logarithms, one of each column. Columns next to
each other are put together, as long as their categories have few patterns, and the sums of their
logarithms are computed for the patterns instead of for the rows. Energies of rows are then sums of
a few numbers that are looked up, and sums over rows are computed for each pattern first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from skbae.energies.components._columns import ColumnsKernel
from skbae.energies.mixture._components import Workspace, WorkspaceKey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.components._columns import IndependentColumns
    from skbae.energies.mixture._exponential import FeatureSums

# Most patterns of columns that are put together: tables of so many fit a core's cache.
_MOST_PATTERNS = 256
# Looking a pattern up takes as long as products with so many indicators, and with one more for so
# many components of all models: tables then leave the cache, and large products are faster.
_PRODUCTS, _COMPONENTS = 10, 16
# Chunks of fewer indicators than this gain too little to make up for tables that are computed anew
# for all parameters.
_FEWEST_INDICATORS = 1 << 16
# Whole numbers up to here are exact in single precision.
_EXACT_SINGLE = 1 << 24


@dataclass(frozen=True, eq=False)
class Patterns:
    """Groups of columns next to each other, and the patterns of their categories.

    A missing entry is one more category, which has no indicator.

    Attributes
    ----------
    sizes : ndarray of shape (D,)
        Numbers of categories.
    strides : ndarray of shape (D, G)
        Rows (n, D) times this are the numbers of the patterns within each group.
    first : ndarray of shape (G,)
        Number of the first pattern of each group among those of all groups.
    indicators : sparse matrix of shape (patterns, indicators)
        Which indicators a pattern has.
    """

    sizes: NDArray[Any]
    strides: NDArray[Any]
    first: NDArray[np.int32]
    indicators: csr_matrix

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return len(self.first)

    @property
    def n_indicators(self) -> int:
        """How many indicators all columns have."""
        return int(self.indicators.shape[1])

    @property
    def n_patterns(self) -> int:
        """How many patterns all groups have."""
        return int(self.indicators.shape[0])

    def limits(self, n_rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return numbers of categories and first patterns, repeated for rows: (n, D) and (n, G)."""
        first = self.first.astype(self.strides.dtype)
        return np.tile(self.sizes, (n_rows, 1)), np.tile(first, (n_rows, 1))

    def faster(self, n_components: int) -> bool:
        """Return whether looking up is faster for so many components of all models."""
        per_pattern = _PRODUCTS + n_components / _COMPONENTS
        return self.n_indicators >= per_pattern * self.n_groups

    def write(
        self, X: NDArray[Any], limits: tuple[NDArray[Any], NDArray[Any]], out: NDArray[np.int32]
    ) -> None:
        """Write the numbers of the rows' patterns into an array of shape (n, G).

        Entries that are no category count as missing, as where indicators are compared. The
        `limits` are those of n rows: arrays of the same shapes are several times faster than
        broadcasts along short rows.
        """
        sizes, first = limits
        with np.errstate(invalid="ignore"):
            whole = X.astype(sizes.dtype)
        known = whole == X
        known &= whole < sizes
        if not known.all():
            whole = np.where(known, whole, sizes)
        within = whole.astype(self.strides.dtype) @ self.strides
        np.add(within, first, out=out, casting="unsafe")


@lru_cache(maxsize=16)
def patterns_of(sizes: tuple[int, ...]) -> Patterns:
    """Return the patterns of columns with such numbers of categories."""
    groups: list[list[int]] = []
    n_own = 0  # patterns of the last group
    for column, size in enumerate(sizes):
        if groups and n_own * (size + 1) <= _MOST_PATTERNS:
            groups[-1].append(column)
            n_own *= size + 1
        else:
            groups.append([column])
            n_own = size + 1
    strides = np.zeros((len(sizes), len(groups)))
    first, rows, columns = [], [], []
    start = 0
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    for number, group in enumerate(groups):
        first.append(start)
        n_own = int(np.prod([sizes[column] + 1 for column in group]))
        stride = 1
        for column in group:
            strides[column, number] = stride
            values = np.arange(n_own) // stride % (sizes[column] + 1)
            known = np.flatnonzero(values < sizes[column])
            rows.append(start + known)
            columns.append(offsets[column] + values[known])
            stride *= sizes[column] + 1
        start += n_own
    places = (np.concatenate(rows), np.concatenate(columns))
    ones = np.ones(len(places[0]))
    # products in single precision are twice as fast, and exact for such numbers
    exact = np.float32 if start < _EXACT_SINGLE else np.float64
    return Patterns(
        np.array(sizes, dtype=np.min_scalar_type(max(sizes))),
        strides.astype(exact),
        np.array(first, dtype=np.int32),
        csr_matrix((ones, places), shape=(start, int(offsets[-1]))),
    )


class _Chunk:
    """The patterns of the rows of a chunk, as sparse matrices that share the numbers.

    Attributes
    ----------
    limits : tuple of ndarray
    numbers : ndarray of shape (n, G)
        Of the patterns; they are written anew for every chunk.
    of_rows, to_patterns : sparse matrices of shapes (n, patterns) and (patterns, n)
        One where a row has a pattern.
    """

    def __init__(self, patterns: Patterns, n_rows: int, dtype: Any) -> None:
        self.limits = patterns.limits(n_rows)
        self.numbers = np.zeros((n_rows, patterns.n_groups), np.int32)
        size = self.numbers.size
        ends = np.arange(0, size + 1, patterns.n_groups, dtype=np.int32)
        entries = (np.ones(size, dtype), self.numbers.reshape(-1), ends)
        self.of_rows = csr_matrix(entries, shape=(n_rows, patterns.n_patterns))
        self.to_patterns = csc_matrix(entries, shape=(patterns.n_patterns, n_rows))


class PatternKernel(ColumnsKernel):
    """The kernel of columns of categories, which looks patterns up.

    In chunks of few rows it multiplies indicators, as other kernels.
    """

    def __init__(
        self,
        family: IndependentColumns,
        patterns: Patterns,
        log_weights: Array,
        params: Any,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(family, log_weights, params, dtype)
        self.patterns = patterns
        self.numbers_per_row = (
            family.n_features + 2 * self.patterns.n_groups + 2 * len(self.natural)
        )

    @cached_property
    def _table(self) -> NDArray[Any]:
        """Sums of logarithms for each pattern, (patterns, S K), those of the first with weights."""
        logs = self.natural[:, : self.patterns.n_indicators].astype(np.float64, copy=False)
        table = self.patterns.indicators @ np.ascontiguousarray(logs.T)
        table[: self._n_first] += self.natural[:, -1]
        return table.astype(self.dtype, copy=False)

    @property
    def _n_first(self) -> int:
        """Number of patterns of the first group, of which every row has one."""
        first = self.patterns.first
        return int(first[1]) if len(first) > 1 else self.patterns.n_patterns

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        if n_rows * self.n_features < _FEWEST_INDICATORS:
            return super().workspace(n_rows, previous)
        key = WorkspaceKey("patterns", n_rows, self.n_features, self.dtype.str, owner=self.patterns)
        if previous is None or previous.key != key:
            previous = Workspace(key, patterns=None, energies=np.empty((0, n_rows)))
        if len(previous.arrays["energies"]) != len(self.natural):
            previous.arrays["energies"] = np.empty((len(self.natural), n_rows), self.dtype)
        return previous

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if "patterns" not in workspace.arrays:
            super().load(X, workspace)
        elif workspace.source is not X:
            n = len(X)
            chunk = workspace.arrays["patterns"]
            if chunk is None or len(chunk.numbers) != n:
                chunk = _Chunk(self.patterns, n, self.dtype)
                workspace.arrays["patterns"] = chunk
            self.patterns.write(X, chunk.limits, chunk.numbers)
            workspace.source, workspace.n = X, n

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        if "patterns" not in workspace.arrays:
            return super().energies(workspace)
        out = workspace.arrays["energies"][:, : workspace.n]
        np.copyto(out, (workspace.arrays["patterns"].of_rows @ self._table).T)
        return out.reshape(self.n_models, self.n_components, workspace.n), None

    def zero(self) -> list[Array]:
        # those of patterns of all models come last: S is the first axis of all sums
        return [
            *super().zero(),
            np.zeros((self.n_models, self.patterns.n_patterns, self.n_components)),
        ]

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        if "patterns" not in workspace.arrays:
            super().accumulate(sums, codes, row_weights, workspace)
            return
        flat = codes.reshape(len(self.natural), workspace.n).astype(self.dtype, copy=False)
        found = workspace.arrays["patterns"].to_patterns @ np.ascontiguousarray(flat.T)
        own = found.reshape(self.patterns.n_patterns, self.n_models, self.n_components)
        sums[1] += np.swapaxes(own, 0, 1)

    def moments(self, sums: list[Array]) -> tuple[Array, FeatureSums]:
        dense, of_patterns = sums
        if not of_patterns.any():
            return super().moments([dense])
        flat = np.swapaxes(of_patterns, 0, 1).reshape(self.patterns.n_patterns, -1)
        found = np.zeros_like(dense)
        found[:, : self.patterns.n_indicators] = (self.patterns.indicators.T @ flat).T
        found[:, -1] = flat[: self._n_first].sum(axis=0)
        return super().moments([dense + found])
