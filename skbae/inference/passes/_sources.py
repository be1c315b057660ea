"""Where rows come from: arrays in memory, and tables that are read piece by piece.

All that fits need of a table is a sum over its rows, a :class:`~skbae.energies._base.RowKernel`.
:func:`accumulate` is the one place that reads the rows of a sum, whatever holds them.

Anything with ``shape``, ``dtype`` and ``__getitem__`` by slices of rows is a table on disk: memory
maps, datasets of h5py, arrays of zarr. It is read in order, in pieces of some megabytes (at least
as many rows as its own ``chunks``, where it has them), one piece for each thread, and every piece
is checked as it is read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse

from skbae.energies._base import RowKernel
from skbae.operators._gaps import has_gaps
from skbae.operators._sparse import SparseRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from skbae._types import Array

# Sums are computed within this many blocks of rows, and the sums of the blocks are added in order,
# so that rounding does not depend on the number of threads.
N_BLOCKS = 16
# Bytes of a piece that is read at once, and the most that a table's own chunks make of it.
_PIECE, _LARGEST_PIECE = 8 << 20, 64 << 20
# Numbers of sparse rows that are put into an array to start from, and rows at least.
_DENSE, _FEWEST = 1 << 22, 64


# -- sources ---------------------------------------------------------------------------------------


class RowSource(ABC):
    """A table whose rows are not an array in memory.

    Attributes
    ----------
    shape : tuple of int
        ``(N, D)``.
    dtype : dtype
        Of the rows that are read.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def chunks(self, start: int, stop: int, size: int) -> Iterator[Any]:
        """Yield the rows from `start` to `stop`, in order, in chunks of `size` rows."""

    @abstractmethod
    def at(self, index: NDArray[np.intp]) -> NDArray[Any]:
        """Return a few rows by their numbers."""

    @abstractmethod
    def where(self, kept: NDArray[np.bool_]) -> RowSource:
        """Return the table of the rows that a mask selects."""

    def most_rows(self, limit: int) -> int:
        """Return how many rows may be put into an array, up to a limit."""
        return limit

    def piece_rows(self, n_bytes: int) -> int:
        """Return how many rows take so many bytes, at least one."""
        return max(n_bytes // max(self.shape[1] * self.dtype.itemsize, 1), 1)

    def map(self, function: Callable[[Any], NDArray[Any]], out: Any, n_bytes: int) -> Any:
        """Return what a function returns for each row, applied to one piece after the other.

        Parameters
        ----------
        function : callable
            Takes rows; returns an array with an entry or a row for each.
        out : array or None
            What results are written into, if it is given.
        n_bytes : int
            Size of a piece.
        """
        if not len(self):
            return function(np.empty(self.shape, self.dtype))
        size, start = self.piece_rows(n_bytes), 0
        for piece in self.chunks(0, len(self), size):
            found = function(piece)
            shape = (len(self), *found.shape[1:])
            if out is None:
                out = np.empty(shape, found.dtype)
            elif start == 0:
                check_out(out, shape)
            out[start : start + len(piece)] = found
            start += len(piece)
        return out

    def accumulate(
        self,
        kernel: RowKernel,
        weights: Array | None,
        seed: np.random.SeedSequence | None,
        each: Callable[..., Any],
        n_blocks: int,
    ) -> Any:
        """Return the accumulator of a kernel after all rows."""
        return _accumulate_here(kernel, self, weights, seed, each, n_blocks)


def check_out(out: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `out` is an array of this shape."""
    if getattr(out, "shape", None) != shape:
        raise ValueError(
            f"out must be an array of shape {shape}, got {type(out).__name__} of shape "
            f"{getattr(out, 'shape', None)}"
        )


class TableOnDisk(RowSource):
    """Rows that are read as they are needed, by slices.

    Parameters
    ----------
    data : object
        With ``shape``, ``dtype`` and ``__getitem__`` by slices of rows.
    allow_missing : bool
        Whether NaN means that an entry is missing; otherwise it is refused.

    Raises
    ------
    OSError
        When rows are read and this fails; the message says which.
    ValueError
        When rows are read that are infinite, NaN without `allow_missing`, or not as many as they
        should be.
    """

    def __init__(self, data: Any, allow_missing: bool) -> None:
        self._data, self._allow_missing, self._lock = data, allow_missing, Lock()
        n_rows, n_features = data.shape
        self.shape = (int(n_rows), int(n_features))
        single = np.dtype(data.dtype) == np.float32
        self.dtype = np.dtype(np.float32 if single else np.float64)
        own = getattr(data, "chunks", None)
        at_once = int(own[0]) if isinstance(own, tuple) and own else 1
        at_once = min(at_once, self.piece_rows(_LARGEST_PIECE))
        self._piece_rows = max(self.piece_rows(_PIECE), at_once)

    def with_missing(self, allowed: bool) -> TableOnDisk:
        """Return the table in which NaN is allowed or not."""
        return TableOnDisk(self._data, allowed)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows, checked."""
        try:
            with self._lock:
                rows = np.asarray(self._data[start:stop])
            rows = rows.astype(self.dtype, copy=False)
        except Exception as error:
            raise OSError(
                f"rows {start} to {stop - 1} of X could not be read: {type(error).__name__}: "
                f"{error}"
            ) from error
        if rows.shape != (stop - start, self.shape[1]):
            raise ValueError(
                f"rows {start} to {stop - 1} of X were read as an array of shape {rows.shape}, and "
                f"X says that its shape is {self.shape}"
            )
        check_entries(rows, start, self._allow_missing)
        return rows

    def chunks(self, start: int, stop: int, size: int) -> Iterator[Any]:
        at_once = max(self._piece_rows // size, 1) * size
        for first in range(start, stop, at_once):
            piece = self.read(first, min(first + at_once, stop))
            yield from _slices(piece, 0, len(piece), size)

    def at(self, index: NDArray[np.intp]) -> NDArray[Any]:
        return np.concatenate([self.read(int(i), int(i) + 1) for i in index])

    def where(self, kept: NDArray[np.bool_]) -> RowSource:
        return _SomeRows(self, np.flatnonzero(kept))


def check_entries(rows: NDArray[Any], start: int, allow_missing: bool) -> None:
    """Raise ValueError if an entry is infinite, or NaN without `allow_missing`; say which.

    `start` is the number of the first of the rows.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(rows.sum()):
            return
    bad = np.isinf(rows) if allow_missing else ~np.isfinite(rows)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        what = "NaN" if np.isnan(rows[row, column]) else "infinity"
        raise ValueError(f"Input X contains {what}, in row {start + row} and column {column}.")


class SparseTable(RowSource):
    """Sparse rows, in chunks that are sparse.

    Parameters
    ----------
    rows : SparseRows
        Finite.
    """

    def __init__(self, rows: SparseRows) -> None:
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __getitem__(self, index: slice) -> SparseTable:
        return SparseTable(self.rows[index])

    def chunks(self, start: int, stop: int, size: int) -> Iterator[Any]:
        if stop - start <= min(size, len(self)) == len(self):
            yield self.rows  # with what has been computed from them
        else:
            yield from _slices(self.rows, start, stop, size)

    def at(self, index: NDArray[np.intp]) -> NDArray[Any]:
        return np.asarray(self.rows[index])

    def where(self, kept: NDArray[np.bool_]) -> RowSource:
        return SparseTable(self.rows[kept])

    def most_rows(self, limit: int) -> int:
        return min(limit, max(_FEWEST, _DENSE // self.shape[1]))

    def piece_rows(self, n_bytes: int) -> int:
        return max(n_bytes * len(self) // (16 * max(self.rows.csr.nnz, len(self))), 1)


class _SomeRows(RowSource):
    """The rows of a table with given numbers, in order."""

    def __init__(self, table: TableOnDisk, index: NDArray[np.intp]) -> None:
        self._table, self._index = table, index
        self.shape, self.dtype = (len(index), table.shape[1]), table.dtype

    def chunks(self, start: int, stop: int, size: int) -> Iterator[Any]:
        for first in range(start, stop, size):
            own = self._index[first : min(first + size, stop)]
            begin = int(own[0])
            # a gap between the numbers may be long
            whole = self._table.chunks(begin, int(own[-1]) + 1, size)
            parts, offset = [], begin
            for chunk in whole:
                within = own[(own >= offset) & (own < offset + len(chunk))] - offset
                parts.append(chunk[within])
                offset += len(chunk)
            yield np.concatenate(parts)

    def at(self, index: NDArray[np.intp]) -> NDArray[Any]:
        return self._table.at(self._index[index])

    def where(self, kept: NDArray[np.bool_]) -> RowSource:
        return _SomeRows(self._table, self._index[kept])


def is_table_on_disk(X: Any) -> bool:
    """Return whether X is read by slices: a memory map, or no array but with what reading needs.

    Examples
    --------
    >>> is_table_on_disk(np.ones((2, 2))), is_table_on_disk([[1.0]])
    (False, False)
    """
    if isinstance(X, np.ndarray):
        return isinstance(X, np.memmap) and X.ndim == 2
    shape = None if issparse(X) else getattr(X, "shape", None)
    if not (isinstance(shape, tuple) and len(shape) == 2 and hasattr(X, "__getitem__")):
        return False
    try:  # of arrays of other libraries, and of data frames, this is no dtype
        kind = np.dtype(X.dtype).kind
    except (AttributeError, TypeError):
        return False
    return kind in "fiub"


# -- sums over rows --------------------------------------------------------------------------------


def accumulate(
    kernel: RowKernel,
    X: Any,
    weights: Array | None = None,
    seed: np.random.SeedSequence | None = None,
    each: Callable[..., Any] = map,
    n_blocks: int = 1,
    kept: list[Any] | None = None,
) -> Any:
    """Return the accumulator of a kernel after all rows.

    Parameters
    ----------
    kernel : RowKernel
    X : ndarray of shape (N, D) or RowSource
    weights : ndarray of shape (N,) or None
    seed : SeedSequence or None
        Seeds the generators of the blocks, for kernels that draw codes.
    each : callable
        Applies a function to every block, as ``map``, for instance in threads.
    n_blocks : int
    kept : list or None, default=None
        Workspaces of earlier sums over rows in memory, which are used again, and are replaced by
        those of this one.
    """
    if isinstance(X, RowSource):
        return X.accumulate(kernel, weights, seed, each, n_blocks)
    return _accumulate_here(kernel, X, weights, seed, each, n_blocks, kept)


def fold(kernel: RowKernel, X: Any, weights: Array | None = None, total: float = 0.0) -> Any:
    """Return the statistics of a kernel, computed in one thread."""
    return kernel.finish(accumulate(kernel, X, weights), total)


def _accumulate_here(
    kernel: RowKernel,
    X: Any,
    weights: Array | None,
    seed: np.random.SeedSequence | None,
    each: Callable[..., Any],
    n_blocks: int,
    kept: list[Any] | None = None,
) -> Any:
    earlier = [] if kept is None else kept
    size = kernel.chunk_rows
    n_chunks = -(-len(X) // size)
    blocks = np.array_split(np.arange(n_chunks), min(n_blocks, n_chunks))
    seeds = [None] * len(blocks) if seed is None else seed.spawn(len(blocks))
    spare: list[Any] = []

    def run(task: tuple[NDArray[np.intp], Any]) -> Any:
        block, block_seed = task
        start, stop = int(block[0]) * size, min((int(block[-1]) + 1) * size, len(X))
        try:
            workspace = spare.pop()
        except IndexError:
            workspace = kernel.workspace(size, _popped(earlier))
        own = None if weights is None else weights[start:stop]
        found = accumulate_block(
            kernel, chunks_of(X, start, stop, size), own, block_seed, workspace
        )
        spare.append(workspace)
        return found

    merged = None
    for accumulator in each(run, list(zip(blocks, seeds, strict=True))):
        merged = accumulator if merged is None else kernel.merge(merged, accumulator)
    earlier[:] = spare
    return merged


def _popped(workspaces: list[Any]) -> Any:
    try:
        return workspaces.pop()
    except IndexError:
        return None


def accumulate_block(
    kernel: RowKernel,
    chunks: Iterator[Any],
    weights: Array | None,
    seed: np.random.SeedSequence | None,
    workspace: Any,
) -> Any:
    """Return the accumulator of a kernel after the chunks of one block of rows."""
    rng = None if seed is None else np.random.Generator(np.random.SFC64(seed))
    accumulator, start = kernel.zero(), 0
    for chunk in chunks:
        own = None if weights is None else weights[start : start + len(chunk)]
        kernel.accumulate(accumulator, chunk, own, workspace, rng)
        start += len(chunk)
    return accumulator


def chunks_of(X: Any, start: int, stop: int, size: int) -> Iterator[Any]:
    """Yield the rows of X from `start` to `stop`, in order, in chunks of `size` rows."""
    return (
        X.chunks(start, stop, size) if isinstance(X, RowSource) else _slices(X, start, stop, size)
    )


def _slices(X: Any, start: int, stop: int, size: int) -> Iterator[Any]:
    for first in range(start, stop, size):
        yield X[first : min(first + size, stop)]


def rows_at(X: Any, index: NDArray[np.intp]) -> NDArray[Any]:
    """Return a few rows of X by their numbers."""
    return X.at(index) if isinstance(X, RowSource) else X[index]


def rows_where(X: Any, kept: NDArray[np.bool_]) -> Any:
    """Return the rows of X that a mask selects."""
    return X.where(kept) if isinstance(X, RowSource) else X[kept]


class Fold(RowKernel):
    """Arrays computed from each chunk, and added up.

    Parameters
    ----------
    function : callable
        ``function(X, weights)`` returns a tuple of arrays for a chunk.
    chunk_rows : int
    combine : callable, default=numpy.add
        Takes what was found so far, and what was found in a chunk.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Any, ...]],
        chunk_rows: int,
        combine: Callable[[Any, Any], Any] = np.add,
    ) -> None:
        self.function, self.chunk_rows, self.combine = function, chunk_rows, combine

    def workspace(self, n_rows: int, previous: Any = None) -> Any:
        return None

    def zero(self) -> list[Any]:
        return []

    def accumulate(
        self,
        accumulator: list[Any],
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        self.merge(accumulator, list(self.function(X, weights)))

    def merge(self, accumulator: list[Any], other: list[Any]) -> list[Any]:
        if accumulator:
            other = [self.combine(*pair) for pair in zip(accumulator, other, strict=True)]
        accumulator[:] = other
        return accumulator

    def finish(self, accumulator: list[Any], total: float) -> list[Any]:
        return accumulator


class Collect(Fold):
    """Arrays computed from each chunk, one entry for each of some rows, and put together."""

    def __init__(self, function: Callable[..., tuple[Any, ...]], chunk_rows: int) -> None:
        super().__init__(function, chunk_rows)

    def accumulate(
        self,
        accumulator: list[Any],
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        accumulator.append(self.function(X, weights))

    def merge(self, accumulator: list[Any], other: list[Any]) -> list[Any]:
        accumulator += other
        return accumulator

    def finish(self, accumulator: list[Any], total: float) -> list[Any]:
        return [np.concatenate(arrays) for arrays in zip(*accumulator, strict=True)]


def chunk_of(n_features: int, most: int = 1 << 16) -> int:
    """Return the number of rows of a chunk for what is computed once, of about a megabyte."""
    return min(most, max(64, (1 << 17) // max(n_features, 1)))


def has_missing(X: Any) -> bool:
    """Return whether an entry of X is NaN, chunk by chunk."""
    (found,) = fold(Fold(_missing, chunk_of(X.shape[1]), np.maximum), X)
    return bool(found)


def _missing(X: NDArray[Any], weights: Array | None) -> tuple[Any]:
    return (np.float64(has_gaps(X)),)


def extremes(X: Any, columns: NDArray[np.intp] | None = None) -> tuple[Array, Array]:
    """Return the least and the largest known entry of each column, or of some, chunk by chunk."""

    def function(chunk: NDArray[Any], weights: Array | None) -> tuple[Any, Any]:
        if isinstance(chunk, SparseRows):
            low, high = chunk.extremes()
            return (-low, high) if columns is None else (-low[columns], high[columns])
        own = chunk if columns is None else chunk[:, columns]
        return -np.fmin.reduce(own, axis=0), np.fmax.reduce(own, axis=0)

    least, largest = fold(Fold(function, chunk_of(X.shape[1]), np.fmax), X)
    return -least, largest
