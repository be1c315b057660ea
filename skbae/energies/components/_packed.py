"""Rows of whole numbers, packed for many passes: patterns of columns, looked up in tables.

Bits, categories and counts have few values. Columns are put together into groups of few patterns,
the number of each row's pattern is computed once for all passes of a fit, and equal rows become
one, with their weight. With independent columns, ``exp(H / T)`` is a product over the groups: it is
computed for the patterns, and the codes of a row are products of a few numbers that are looked up,
without a logarithm or an exponential for each row and component. Sums over rows are added up for
the patterns, and turned into sums of features at the end.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.sparse import csc_matrix

from skbae.energies.mixture._components import PackedKernel
from skbae.energies.mixture._exponential import ExponentialComponents, FeatureSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows

# Most patterns of a group: tables of so many stay in a core's cache.
_MOST_PATTERNS = 1024
# Tables of fewer entries are not packed.
_FEWEST_ENTRIES = 1 << 16
# For each row and component, looking up and adding up a pattern takes as long as products with so
# many features, or as a softmax; computing a feature of a row takes as long as so many lookups.
_PRODUCTS, _FEATURES = 10, 2
# Rows are one where there are fewer than this share of distinct ones.
_DISTINCT = 0.9
# Numbers of rows up to here are exact in double precision.
_LARGEST_NUMBER = 2.0**53
# Rows that are read at once while they are packed.
_PIECE = 8192
# Bytes of the codes of a chunk, and rows of a chunk.
_CHUNK_BYTES, _FEWEST_ROWS, _MOST_ROWS = 1 << 23, 2048, 16384
# Sums of codes below this have lost digits: these chunks are computed by logarithms.
_TINY = 1e-280


class FeaturesOfColumns(ExponentialComponents):
    """Components whose columns are independent: each feature is of one column, the base a sum."""

    @abstractmethod
    def column_features(self, column: int) -> NDArray[np.intp]:
        """Return the numbers of a column's features."""


class _Features(NamedTuple):
    """Features of a group's columns: their numbers (Q,), and values for the patterns (P_g, Q).

    The base of the rows is the last.
    """

    numbers: NDArray[np.intp]
    values: Array


@dataclass(frozen=True, eq=False)
class Layout:
    """Which columns are put together, and what their patterns are.

    Attributes
    ----------
    groups : list of ndarray of int
        Columns next to each other.
    patterns : list of ndarray of shape (P_g, D)
        The entries of each pattern; NaN for missing ones, and for columns of other groups.
    features : dict
        What a family has computed for the patterns.
    """

    groups: list[NDArray[np.intp]]
    patterns: list[Array]
    features: dict[Any, list[_Features]] = field(default_factory=dict)

    def features_of(self, family: FeaturesOfColumns) -> list[_Features]:
        """Return features of the patterns of each group."""
        if family not in self.features:
            each = zip(self.groups, self.patterns, strict=True)
            self.features[family] = [_features(family, *group) for group in each]
        return self.features[family]


def _features(family: FeaturesOfColumns, columns: NDArray[np.intp], patterns: Array) -> _Features:
    own = np.concatenate([family.column_features(column) for column in columns.tolist()])
    features = family.features(patterns)
    values = np.empty((len(patterns), len(own) + 1))
    values[:, :-1] = features[:, own]
    values[:, -1] = family.base(patterns)
    return _Features(np.append(own, features.shape[1]), values)


class PackedRows:
    """Numbers of the patterns of rows; slices are chunks of them.

    Parameters
    ----------
    layout : Layout
    numbers : ndarray of int32 of shape (G, N)
    dtype : dtype
        Of the rows that were packed.
    """

    def __init__(self, layout: Layout, numbers: NDArray[np.int32], dtype: Any) -> None:
        self.layout, self.numbers, self.dtype = layout, numbers, np.dtype(dtype)
        self.shape = (numbers.shape[1], sum(len(group) for group in layout.groups))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> PackedRows:
        return PackedRows(self.layout, self.numbers[:, index], self.dtype)


# -- packing ---------------------------------------------------------------------------------------


def packed(rows: Rows, n_features: int, n_cells: int) -> Rows | None:
    """Return the rows packed, from the second call on; None if that is not possible or of no use.

    They are packed once. The first pass may be the only one, which packing would not make faster.

    Parameters
    ----------
    rows : Rows
    n_features : int
        Of a row: products with these are the alternative.
    n_cells : int
        Components of all models.
    """
    X = rows.X
    if not isinstance(X, np.ndarray) or X.size < _FEWEST_ENTRIES:
        return None
    if "columns" not in rows.memo:
        rows.memo["columns"] = False  # not looked at yet
        return None
    if rows.memo["columns"] is False:
        rows.memo["columns"] = _columns(X)
    columns = rows.memo["columns"]
    if columns is None or not _faster(len(columns.layout.groups), n_features, n_cells):
        return None
    if "packed" not in rows.memo:
        rows.memo["packed"] = _pack(rows, columns)
    found: Rows = rows.memo["packed"]
    return found


def _faster(n_groups: int, n_features: int, n_cells: int) -> bool:
    """Return whether lookups take less time than features, products and exponentials."""
    saved = 1 + n_features / _PRODUCTS - n_groups
    return saved * n_cells > -_FEATURES * n_features


class _Columns(NamedTuple):
    """How columns are packed: values of each, whether any is missing, and patterns' numbers."""

    values: NDArray[np.intp]
    gaps: bool
    layout: Layout
    strides: Array


def _columns(X: NDArray[Any]) -> _Columns | None:
    """Return how columns can be packed; None if they cannot."""
    sizes = _sizes(X)
    if sizes is None:
        return None
    values, gaps = sizes
    groups = _groups(values + gaps)
    strides = np.zeros((len(values), len(groups)))
    patterns = []
    for number, group in enumerate(groups):
        own = np.full((int(np.prod((values + gaps)[group])), len(values)), np.nan)
        stride = 1
        for column in group.tolist():
            size = int(values[column] + gaps[column])
            digits = np.arange(len(own)) // stride % size
            own[:, column] = np.where(digits < values[column], digits, np.nan)
            strides[column, number] = stride
            stride *= size
        patterns.append(own)
    return _Columns(values, bool(gaps.any()), Layout(groups, patterns), strides)


def _pack(rows: Rows, columns: _Columns) -> Rows:
    values, gaps, layout, strides = columns
    numbers = np.empty((len(layout.groups), len(rows.X)), np.int32)
    radix = np.cumprod([1.0, *(len(own) for own in layout.patterns)])
    whole = np.empty(len(rows.X)) if radix[-1] < _LARGEST_NUMBER else None
    for start in range(0, len(rows.X), _PIECE):
        piece = rows.X[start : start + _PIECE]
        if gaps:
            piece = np.where(np.isnan(piece), values, piece)
        own = piece @ strides
        numbers[:, start : start + _PIECE] = own.T
        if whole is not None:
            whole[start : start + _PIECE] = own @ radix[:-1]
    weights = rows.weights
    if whole is not None:
        numbers, weights = _distinct(numbers, whole, weights)
    return replace(rows, X=PackedRows(layout, numbers, rows.X.dtype), weights=weights)


def _sizes(X: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Return how many values each column has, from 0, and whether entries are missing (0 or 1).

    None if entries are not whole numbers from 0, or if columns have too many values.
    """
    largest, gaps = np.zeros(X.shape[1]), np.zeros(X.shape[1], bool)
    for start in range(0, len(X), _PIECE):
        piece = X[start : start + _PIECE]
        with np.errstate(invalid="ignore"):
            whole = piece.astype(np.int16)
        same = whole == piece
        if not same.all():
            missing = np.isnan(piece)
            if not (same | missing).all():
                return None
            whole[missing] = 0
            gaps |= missing.any(axis=0)
        if whole.min() < 0 or whole.max() >= _MOST_PATTERNS:
            return None
        np.maximum(largest, whole.max(axis=0), out=largest)
    return largest.astype(np.intp) + 1, gaps.astype(np.intp)


def _groups(sizes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return columns next to each other that have few patterns."""
    groups: list[list[int]] = []
    n_own = 0
    for column, size in enumerate(sizes.tolist()):
        if groups and n_own * size <= _MOST_PATTERNS:
            groups[-1].append(column)
            n_own *= size
        else:
            groups.append([column])
            n_own = size
    return [np.array(group, np.intp) for group in groups]


def _distinct(
    numbers: NDArray[np.int32], whole: Array, weights: Array | None
) -> tuple[NDArray[np.int32], Array | None]:
    """Return the distinct rows and their weights, if many are equal."""
    order = np.argsort(whole)
    whole = whole[order]
    first = np.flatnonzero(np.concatenate([[True], whole[1:] != whole[:-1]]))
    if len(first) > _DISTINCT * len(whole):
        return numbers, weights
    numbers = np.ascontiguousarray(numbers[:, order[first]])
    if weights is None:
        return numbers, np.diff(first, append=len(whole)).astype(np.float64)
    return numbers, np.add.reduceat(weights[order], first)


# -- passes ----------------------------------------------------------------------------------------


class _Scratch:
    """Arrays of one thread, and matrices (P_g, n) with an entry where a row has a pattern."""

    def __init__(self, n_models: int, n_rows: int, shapes: list[tuple[int, ...]]) -> None:
        self._shape = (n_models, n_rows, shapes)
        n_components = shapes[0][1]
        self._codes = np.empty((n_models, n_rows, n_components))
        self._factors = np.empty((n_rows, n_components))
        self._matrices: dict[int, list[csc_matrix]] = {}

    def fits(self, *shape: Any) -> bool:
        """Return whether the arrays are of this shape."""
        return self._shape == shape

    def begin(self, n: int) -> None:
        """Make the arrays those of n rows."""
        self.codes, self.factors = self._codes[:, :n], self._factors[:n]
        if n not in self._matrices:
            ones, ends = np.ones(n), np.arange(n + 1, dtype=np.int32)
            none = np.zeros(n, np.int32)
            self._matrices[n] = [
                csc_matrix((ones, none, ends), shape=(size, n)) for size, _ in self._shape[2]
            ]
        self.matrices = self._matrices[n]


class TableKernel(PackedKernel):
    """Codes and sums of packed rows of independent columns.

    Parameters
    ----------
    natural : ndarray of shape (S, K, P + 2)
        Coefficients of the features, of the base, and constants.
    family : FeaturesOfColumns
    layout : Layout
    absent : ndarray of bool of shape (S, K)
        Components of weight zero.
    temperature : float
        T, positive.
    """

    def __init__(
        self,
        natural: Array,
        family: FeaturesOfColumns,
        layout: Layout,
        absent: NDArray[np.bool_],
        temperature: float,
    ) -> None:
        self.temperature = temperature
        self.n_models, self.n_components, n_own = natural.shape
        self.n_features = n_own - 2
        self.features = layout.features_of(family)
        self._ones = np.ones(self.n_components)
        self.models = []  # for each, the logarithms and the tables (P_g, K), and the shift
        for own, missing in zip(natural, absent, strict=True):
            logs = [each.values @ own[:, each.numbers].T for each in self.features]
            logs[0] += np.where(missing, -np.inf, own[:, -1])
            largest = [each.max() for each in logs]
            tables = [
                np.exp((each - shift) / temperature)
                for each, shift in zip(logs, largest, strict=True)
            ]
            self.models.append((logs, tables, sum(largest)))
        rows = _CHUNK_BYTES // (8 * self.n_models * self.n_components)
        self.chunk_rows = int(min(max(rows, _FEWEST_ROWS), _MOST_ROWS))

    def workspace(self, n_rows: int, previous: Any) -> _Scratch:
        shape = (self.n_models, n_rows, [table.shape for table in self.models[0][1]])
        if isinstance(previous, _Scratch) and previous.fits(*shape):
            return previous
        return _Scratch(*shape)

    def codes(self, X: PackedRows, workspace: _Scratch) -> tuple[Array, Array]:
        workspace.begin(len(X))
        norm, hmax = np.empty((2, self.n_models, len(X)))
        for model, (logs, tables, shift) in enumerate(self.models):
            codes = workspace.codes[model]
            self._look_up(tables, X, codes, workspace.factors, np.multiply)
            np.matmul(codes, self._ones, out=norm[model])
            peak: Array | float = shift
            if norm[model].min() < _TINY:
                self._look_up(logs, X, codes, workspace.factors, np.add)
                largest = codes.max(axis=1)
                peak = largest
                codes -= largest[:, None]
                codes /= self.temperature
                np.exp(codes, out=codes)
                np.matmul(codes, self._ones, out=norm[model])
            np.log(norm[model], out=hmax[model])
            hmax[model] *= self.temperature
            hmax[model] += peak
        return norm, hmax

    @staticmethod
    def _look_up(
        tables: list[Array], X: PackedRows, out: Array, scratch: Array, join: np.ufunc
    ) -> None:
        """Join what the tables have for the patterns of each row, (n, K)."""
        for group, (table, numbers) in enumerate(zip(tables, X.numbers, strict=True)):
            # numbers are within the table: without this mode, the result is copied
            np.take(table, numbers, axis=0, out=scratch if group else out, mode="clip")
            if group:
                join(out, scratch, out=out)

    def zero(self) -> list[Array]:
        return [np.zeros((self.n_models, *table.shape)) for table in self.models[0][1]]

    def accumulate(
        self, sums: list[Array], factors: Array, X: PackedRows, workspace: _Scratch
    ) -> None:
        each = zip(sums, workspace.matrices, X.numbers, strict=True)
        for total, matrix, indices in each:
            matrix.indices = indices
            for own, codes, weights in zip(total, workspace.codes, factors, strict=True):
                matrix.data = weights
                own += matrix @ codes

    def moments(self, sums: list[Array]) -> tuple[Array, Any]:
        found = np.zeros((self.n_models, self.n_components, self.n_features + 1))
        for own, features in zip(sums, self.features, strict=True):
            for model, of_patterns in zip(found, own, strict=True):
                model[:, features.numbers] += (features.values.T @ of_patterns).T
        return sums[0].sum(axis=1), FeatureSums(found[..., :-1], found[..., -1])
