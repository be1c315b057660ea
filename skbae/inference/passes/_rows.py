"""Passes over rows in chunks and threads; results do not depend on the number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.sparsefuncs import mean_variance_axis
from threadpoolctl import ThreadpoolController

from skbae._types import Rows
from skbae.inference.passes._sources import (
    N_BLOCKS,
    Fold,
    SparseTable,
    accumulate,
    accumulate_block,
    chunk_of,
    fold,
    has_missing,
    rows_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies._base import RowKernel


_CREATION = Lock()


@cache
def _created() -> ThreadpoolController:
    return ThreadpoolController()


def _controller() -> ThreadpoolController:
    # threadpoolctl changes numbers of threads to find out whose they are: one at a time
    with _CREATION:
        return _created()


class _OneBlasThread:
    """Lets BLAS use one thread while any pass over rows needs it, in whatever thread of Python.

    The number is that of the whole process. If each pass restored what it had found, the last of
    several that run at the same time would restore the limit of another.
    """

    def __init__(self) -> None:
        self._lock, self._n_users = Lock(), 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_users:
                self._limit = _controller().limit(limits=1, user_api="blas")
            self._n_users += 1

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._n_users -= 1
            if not self._n_users:
                # threadpoolctl >= 3.8 lets only the thread that has set a limit change it
                _let_any_thread_set_limits()
                self._limit.restore_original_limits()
                _let_any_thread_set_limits()
                self._limit = None


def _let_any_thread_set_limits() -> None:
    for library in _controller().lib_controllers:
        clear = getattr(library, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)


ONE_BLAS_THREAD = _OneBlasThread()


def row_threads() -> int:
    """Return the number of threads of a pass over rows: as many as BLAS would use.

    This follows scikit-learn's convention that low-level parallelism obeys ``OMP_NUM_THREADS`` and
    threadpoolctl (and so is one inside joblib's workers), while ``n_jobs`` governs whole fits.
    """
    blas = [lib for lib in _controller().lib_controllers if lib.user_api == "blas"]
    return max([lib.num_threads or 1 for lib in blas], default=1)


def make_rows(X: Any, weights: Array | None) -> Rows:
    """Bundle validated rows with their total weight, centre and scale.

    Parameters
    ----------
    X : ndarray of shape (N, D) or RowSource
        NaN where an entry is missing.
    weights : ndarray of shape (N,) or None
        Positive.

    Returns
    -------
    Rows
        The centre of a column without known entries is NaN.
    """
    total = float(len(X)) if weights is None else float(weights.sum())
    if isinstance(X, SparseTable):
        csr = X.rows.csr.astype(np.float64)
        mean, variance = mean_variance_axis(csr, axis=0, weights=weights)
        return Rows(X, weights, total, mean, np.sqrt(variance))
    size = chunk_of(X.shape[1], len(X))
    pilot = rows_at(X, np.arange(1))[0].astype(np.float64)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # overflow is found by the caller, since the result is not finite
        first, second = fold(_MomentsPass(pilot, size), X, weights)
        if np.isnan(first).any() and has_missing(X):
            return _incomplete_rows(X, weights, total, size)
        shift = first / total
        variance = np.maximum(second / total - shift**2, 0.0)
    return Rows(X, weights, total, pilot + shift, np.sqrt(variance))


class _MomentsPass(Fold):
    """Sums of deviations from a pilot, and of their squares."""

    def __init__(self, pilot: Array, n_rows: int) -> None:
        super().__init__(self._sums, n_rows)
        self.pilot = pilot

    def workspace(self, n_rows: int, previous: Any = None) -> Any:
        return np.empty((n_rows, len(self.pilot))), np.ones(n_rows)

    def accumulate(
        self,
        accumulator: list[Any],
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        scratch, ones = (array[: len(X)] for array in workspace)
        found = self._sums(X, ones if weights is None else weights, scratch)
        self.merge(accumulator, list(found))

    def _sums(self, X: NDArray[Any], weights: Array, scratch: Array) -> tuple[Any, Any]:
        # threads and workers have error states of their own
        with np.errstate(over="ignore", invalid="ignore"):
            deviations = np.subtract(X, self.pilot, out=scratch)
            first = weights @ deviations
            return first, weights @ np.square(deviations, out=deviations)


def _incomplete_rows(X: Any, weights: Array | None, total: float, size: int) -> Rows:
    """Return rows of which some entries are missing, with moments of the known ones."""
    (pilot,) = fold(Fold(_first_known, size, _where_unknown), X)

    def sums(chunk: NDArray[Any], weights: Array | None) -> tuple[Array, Array, Array]:
        own = ~np.isnan(chunk)
        deviations = np.where(own, chunk - pilot, 0.0)
        w = np.ones(len(own)) if weights is None else weights
        first = w @ deviations
        return w @ own, first, w @ np.square(deviations, out=deviations)

    mass, first, second = fold(Fold(sums, size), X, weights)
    mass = np.where(mass > 0, mass, np.nan)
    shift = first / mass
    variance = np.maximum(second / mass - shift**2, 0.0)
    return Rows(X, weights, total, pilot + shift, np.sqrt(variance), incomplete=True)


def _first_known(X: NDArray[Any], weights: Array | None) -> tuple[Array]:
    known = ~np.isnan(X)
    return (X[known.argmax(axis=0), np.arange(X.shape[1])].astype(np.float64),)


def _where_unknown(found: Array, more: Array) -> Array:
    return np.where(np.isnan(found), more, found)


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
        self._spare: dict[type, list[Any]] = {}

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._stack.enter_context(ONE_BLAS_THREAD)
        return self

    def __exit__(self, *exc: object) -> None:
        self._kept = None
        self._spare.clear()
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
        if seed is None:
            kernel, rows = kernel.condensed(rows)
        if isinstance(rows.X, np.ndarray) and len(rows.X) <= kernel.chunk_rows:
            # a single chunk: features computed once are kept for all passes of a fit
            self._kept = kernel.workspace(len(rows.X), self._kept)
            accumulator = accumulate_block(kernel, iter([rows.X]), rows.weights, seed, self._kept)
        else:
            kept = self._spare.get(type(kernel), [])
            self._spare = {type(kernel): kept}
            accumulator = accumulate(kernel, rows.X, rows.weights, seed, self._each, N_BLOCKS, kept)
        return kernel.finish(accumulator, rows.total)

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
