"""Passes over rows in chunks and threads; results do not depend on the number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import ThreadpoolController

from skbae._types import Rows
from skbae.operators._gaps import has_gaps

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies._base import RowKernel

# Sums are computed within this many blocks of rows, and the sums of the blocks are added in order,
# so that rounding does not depend on the number of threads.
_N_BLOCKS = 16


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def row_threads() -> int:
    """Return the number of threads of a pass over rows: as many as BLAS would use.

    This follows scikit-learn's convention that low-level parallelism obeys ``OMP_NUM_THREADS`` and
    threadpoolctl (and so is one inside joblib's workers), while ``n_jobs`` governs whole fits.
    """
    blas = [lib for lib in _controller().lib_controllers if lib.user_api == "blas"]
    return max([lib.num_threads or 1 for lib in blas], default=1)


def make_rows(X: NDArray[Any], weights: Array | None) -> Rows:
    """Bundle validated rows with their total weight, centre and scale.

    Parameters
    ----------
    X : ndarray of shape (N, D)
        NaN where an entry is missing.
    weights : ndarray of shape (N,) or None
        Positive.

    Returns
    -------
    Rows
        The centre of a column without known entries is NaN.
    """
    total = float(len(X)) if weights is None else float(weights.sum())
    pilot = X[0].astype(np.float64)
    first, second = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    step = max(64, (1 << 17) // X.shape[1])
    scratch, ones = np.empty((min(step, len(X)), X.shape[1])), np.ones(step)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # overflow is found by the caller, since the result is not finite
        for start in range(0, len(X), step):
            chunk = X[start : start + step]
            deviations = np.subtract(chunk, pilot, out=scratch[: len(chunk)])
            w = (ones if weights is None else weights[start:])[: len(chunk)]
            first += w @ deviations
            second += w @ np.square(deviations, out=deviations)
        if np.isnan(first).any() and has_gaps(X):
            return _incomplete_rows(X, weights, total)
        shift = first / total
        variance = np.maximum(second / total - shift**2, 0.0)
    return Rows(X, weights, total, pilot + shift, np.sqrt(variance))


def _incomplete_rows(X: NDArray[Any], weights: Array | None, total: float) -> Rows:
    """Return rows of which some entries are missing, with moments of the known ones."""
    known = ~np.isnan(X)
    pilot = X[known.argmax(axis=0), np.arange(X.shape[1])].astype(np.float64)
    mass, first, second = np.zeros((3, X.shape[1]))
    step = max(64, (1 << 17) // X.shape[1])
    for start in range(0, len(X), step):
        own = known[start : start + step]
        deviations = np.where(own, X[start : start + step] - pilot, 0.0)
        w = np.ones(len(own)) if weights is None else weights[start : start + step]
        mass += w @ own
        first += w @ deviations
        second += w @ np.square(deviations, out=deviations)
    mass = np.where(mass > 0, mass, np.nan)
    shift = first / mass
    variance = np.maximum(second / mass - shift**2, 0.0)
    return Rows(X, weights, total, pilot + shift, np.sqrt(variance), incomplete=True)


def _take(spare: SimpleQueue[Any]) -> Any:
    try:
        return spare.get_nowait()
    except Empty:
        return None


class RowRunner:
    """Runs kernels over rows in several threads; use it as a context manager.

    Within it BLAS uses one thread, since the chunks already occupy the cores.

    Parameters
    ----------
    n_threads : int or None, default=None
        None stands for :func:`row_threads`.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = row_threads() if n_threads is None else n_threads
        self._pool: ThreadPoolExecutor | None = None
        self._kept: Any = None

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._stack.enter_context(_controller().limit(limits=1, user_api="blas"))
        return self

    def __exit__(self, *exc: object) -> None:
        self._kept = None
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._stack.close()

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.n_threads)
        return self._pool

    def reduce(
        self,
        kernel: RowKernel,
        rows: Rows,
        seed: np.random.SeedSequence | None = None,
    ) -> Any:
        """Return the statistics of all rows.

        Parameters
        ----------
        kernel : RowKernel
        rows : Rows
        seed : SeedSequence or None
            Seeds the generators of the blocks, for kernels that draw codes.
        """
        n_chunks = -(-len(rows.X) // kernel.chunk_rows)
        if n_chunks == 1:
            # a single chunk: features computed once are kept for all passes of a fit
            self._kept = kernel.workspace(len(rows.X), self._kept)
            accumulator = kernel.zero()
            rng = None if seed is None else np.random.Generator(np.random.SFC64(seed))
            kernel.accumulate(accumulator, rows.X, rows.weights, self._kept, rng)
            return kernel.finish(accumulator, rows.total)
        blocks = np.array_split(np.arange(n_chunks), min(_N_BLOCKS, n_chunks))
        seeds = [None] * len(blocks) if seed is None else seed.spawn(len(blocks))
        spare: SimpleQueue[Any] = SimpleQueue()

        def run(task: tuple[NDArray[np.intp], Any]) -> Any:
            block, block_seed = task
            workspace = _take(spare)
            if workspace is None:
                workspace = kernel.workspace(kernel.chunk_rows)
            rng = None if block_seed is None else np.random.Generator(np.random.SFC64(block_seed))
            accumulator = kernel.zero()
            for chunk in block:
                part = slice(chunk * kernel.chunk_rows, (chunk + 1) * kernel.chunk_rows)
                weights = None if rows.weights is None else rows.weights[part]
                kernel.accumulate(accumulator, rows.X[part], weights, workspace, rng)
            spare.put(workspace)
            return accumulator

        merged = None
        for accumulator in self._each(run, list(zip(blocks, seeds, strict=True))):
            merged = accumulator if merged is None else kernel.merge(merged, accumulator)
        return kernel.finish(merged, rows.total)

    def map(self, function: Callable[[NDArray[Any]], Any], X: NDArray[Any], chunk_rows: int) -> Any:
        """Apply `function` to chunks of rows and concatenate the results along the rows.

        Parameters
        ----------
        function : callable
            Takes (n, D); returns an array, or a tuple of arrays, with n rows.
        X : ndarray of shape (N, D)
        chunk_rows : int
        """
        chunks = [X[start : start + chunk_rows] for start in range(0, len(X), chunk_rows)]
        parts = list(self._each(function, chunks))
        if isinstance(parts[0], tuple):
            return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return np.concatenate(parts)

    def _each(self, function: Callable[[Any], Any], tasks: list[Any]) -> Any:
        if self.n_threads == 1 or len(tasks) == 1:
            return map(function, tasks)
        errors = np.geterr()  # threads have their own

        def guarded(task: Any) -> Any:
            with np.errstate(**errors):
                return function(task)

        return self._executor().map(guarded, tasks)
