"""Rows of a dask array: a sum over rows is one task for each block, and a tree of sums.

dask itself is imported only where there is such an array. Blocks stay where they are; what travels
is a kernel, with the parameters of the models, to the workers, and its sums back. The tree does
not depend on the workers, so that neither does rounding.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.inference.passes._rows import ONE_BLAS_THREAD
from skbae.inference.passes._sources import (
    RowSource,
    accumulate_block,
    check_entries,
    chunks_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies._base import RowKernel

# Sums that a task of the tree adds up.
_BRANCHES = 8


def is_dask(X: Any) -> bool:
    """Return whether X is an array of dask, without importing it.

    Examples
    --------
    >>> is_dask(np.ones(2))
    False
    """
    kind = type(X)
    return kind.__module__.split(".")[0] == "dask" and kind.__name__ == "Array"


class DaskRows(RowSource):
    """Rows in the blocks of a dask array.

    Parameters
    ----------
    X : dask.array.Array of shape (N, D)
    """

    def __init__(self, X: Any) -> None:
        if X.ndim != 2:
            raise ValueError(
                f"X must have two dimensions, got a dask array of shape {X.shape}; reshape it"
            )
        single = X.dtype == np.float32
        self.dtype = np.dtype(np.float32 if single else np.float64)
        X = X.astype(self.dtype)
        self.array = X if X.numblocks[1] == 1 else X.rechunk({1: -1})
        self.shape = X.shape
        self._weights: tuple[Any, list[Any]] = (None, [])

    def kept(self, allow_missing: bool) -> DaskRows:
        """Return the rows computed once, checked, and kept by the workers.

        Raises
        ------
        ValueError
            If the sizes of blocks are not known.
        """
        import dask

        if any(np.isnan(size) for size in self.shape):
            raise ValueError(
                f"X is a dask array of unknown size, {self.shape}; call X.compute_chunk_sizes() "
                "first, which counts the rows of each block"
            )
        starts = np.cumsum([0, *self.array.chunks[0]])
        blocks = [
            dask.delayed(_checked, pure=False)(block, int(start), allow_missing)
            for block, start in zip(self.array.to_delayed().ravel(), starts, strict=False)
        ]
        return self._of_blocks(blocks, self.array.chunks[0])

    def _of_blocks(self, blocks: list[Any], sizes: Any) -> DaskRows:
        import dask.array

        parts = [
            dask.array.from_delayed(block, (size, self.shape[1]), self.dtype)
            for block, size in zip(blocks, sizes, strict=True)
            if size
        ]
        return DaskRows(dask.array.concatenate(parts).persist())

    def chunks(self, start: int, stop: int, size: int) -> Iterator[Any]:
        for first in range(start, stop, size):
            yield self.array[first : min(first + size, stop)].compute()

    def at(self, index: NDArray[np.intp]) -> NDArray[Any]:
        return _aligned(self.array[index].compute())

    def where(self, kept: NDArray[np.bool_]) -> RowSource:
        import dask

        masks = np.split(kept, np.cumsum(self.array.chunks[0])[:-1])
        blocks = [
            dask.delayed(_chosen, pure=False)(block, mask)
            for block, mask in zip(self.array.to_delayed().ravel(), masks, strict=True)
        ]
        return self._of_blocks(blocks, [int(mask.sum()) for mask in masks])

    def accumulate(
        self,
        kernel: RowKernel,
        weights: Array | None,
        seed: np.random.SeedSequence | None,
        each: Callable[..., Any],
        n_blocks: int,
    ) -> Any:
        import dask

        blocks = list(self.array.to_delayed().ravel())
        seeds = [None] * len(blocks) if seed is None else seed.spawn(len(blocks))
        own = self._blocks_of(weights, len(blocks))
        shipped = dask.delayed(kernel, pure=False, traverse=False)
        block_sums, add = (dask.delayed(task, pure=False) for task in (_block_sums, _added))
        parts = [block_sums(shipped, *task) for task in zip(blocks, own, seeds, strict=True)]
        while len(parts) > 1:
            groups = range(0, len(parts), _BRANCHES)
            parts = [add(shipped, parts[first : first + _BRANCHES]) for first in groups]
        return deepcopy(parts[0].compute())  # aligned

    def _blocks_of(self, weights: Array | None, n_blocks: int) -> list[Any]:
        """Return the weights of each block, which are sent once."""
        import dask.array

        if weights is None:
            return [None] * n_blocks
        if self._weights[0] is not weights:
            sent = dask.array.from_array(weights, chunks=(self.array.chunks[0],)).persist()
            self._weights = (weights, list(sent.to_delayed().ravel()))
        return self._weights[1]

    def map(self, function: Callable[[Any], NDArray[Any]], out: Any, n_bytes: int) -> Any:
        """Return the lazy dask array of what a function returns for each row."""
        if out is not None:
            raise ValueError(
                "out must be None where X is a dask array, whose results are lazy; store them with "
                "dask.array.store"
            )
        # one row tells the shape and type of the result, and whether X fits the estimator
        example = np.asarray(function(np.zeros((1, self.shape[1]), self.dtype)))
        task = partial(_mapped, function, example[:0])
        tail = example.shape[1:]
        if not tail:
            return self.array.map_blocks(task, drop_axis=1, dtype=example.dtype, meta=example[:0])
        chunks = (self.array.chunks[0], *((size,) for size in tail))
        return self.array.map_blocks(task, chunks=chunks, dtype=example.dtype, meta=example[:0])


# -- tasks -----------------------------------------------------------------------------------------


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array, in a place in memory that is a multiple of the size of its entries."""
    return np.require(array, requirements=["A", "C"])


def _checked(rows: NDArray[Any], start: int, allow_missing: bool) -> NDArray[Any]:
    rows = np.ascontiguousarray(rows)
    check_entries(rows, start, allow_missing)
    return rows


def _chosen(rows: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    return rows[mask]


def _block_sums(
    kernel: RowKernel,
    X: NDArray[Any],
    weights: Array | None,
    seed: np.random.SeedSequence | None,
) -> Any:
    X, kernel = _aligned(X), deepcopy(kernel)
    weights = None if weights is None else _aligned(weights)
    with ONE_BLAS_THREAD:  # tasks already occupy the cores
        workspace = kernel.workspace(kernel.chunk_rows)
        chunks = chunks_of(X, 0, len(X), kernel.chunk_rows)
        return accumulate_block(kernel, chunks, weights, seed, workspace)


def _added(kernel: RowKernel, parts: list[Any]) -> Any:
    # what tasks return is left as it is: it may be needed again
    total, *rest = deepcopy(parts)
    for part in rest:
        total = kernel.merge(total, part)
    return total


def _mapped(function: Callable[..., Any], empty: NDArray[Any], X: NDArray[Any]) -> NDArray[Any]:
    with ONE_BLAS_THREAD:  # tasks already occupy the cores
        return np.asarray(function(_aligned(X))) if len(X) else empty
