"""The mean of the rows and the leading principal axes, by the fastest of several solvers.

With more rows than features the covariance of the features is formed, with more features than rows
the products of rows (the Gram matrix); if both are many and few axes are needed, a Krylov space of
the covariance needs neither matrix. All solvers make passes over centred chunks: X is not copied,
weights and threads work as in other passes, and no digits are lost for rows far from the origin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import eigh, svd
from scipy.sparse.linalg import LinearOperator, eigsh

from skbae._types import Rows
from skbae.energies._base import RowKernel, chunk_rows
from skbae.inference.passes._sources import RowSource, SparseTable, rows_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.inference.passes._rows import RowRunner


SOLVERS = ("auto", "full", "covariance_eigh", "gram", "arpack", "randomized")

# How rows are kept, and the solvers that serve: some need whole columns.
ARRAY, TABLE, SPARSE = "array in memory", "table that is read piece by piece", "sparse matrix"
SOLVERS_OF = {
    ARRAY: SOLVERS,
    TABLE: ("auto", "covariance_eigh", "arpack", "randomized"),
    SPARSE: ("auto", "covariance_eigh", "gram", "arpack", "randomized"),
}

# Up to this many rows or features, decomposing their matrix is faster than a Krylov space.
_SMALL = 640
# Directions of a block of a Krylov space in addition to the number of components.
_OVERSAMPLE = 10
# The space is large enough when all axes satisfy ``|C u - lam u| <= _RESIDUAL * lam_1``.
_RESIDUAL = 1e-7
# Largest number of blocks; and the number after which the search ends early if the relative
# residual is still above _HOPELESS, as for variances that are nearly equal.
_MAX_BLOCKS = 24
_PATIENCE = 8
_HOPELESS = 1e-2
# Numbers in a chunk of products of sparse rows with vectors.
_SPARSE_NUMBERS = 1 << 22
# Means up to this many standard deviations from the centre of products cost at most one digit.
_NEAR = 3.0


@dataclass(frozen=True)
class Spectrum:
    """Leading principal axes of the rows.

    Attributes
    ----------
    mean : ndarray of shape (D,)
    axes : ndarray of shape (d, D)
        Orthonormal, with arbitrary signs.
    variances : ndarray of shape (d,)
        Along the axes, with divisor N, decreasing.
    total_variance : float
        Trace of the covariance.
    """

    mean: Array
    axes: Array
    variances: Array
    total_variance: float

    def take(self, n_components: int) -> Spectrum:
        """Return the first axes only."""
        part = slice(None, n_components)
        return replace(self, axes=self.axes[part], variances=self.variances[part])


@dataclass(frozen=True)
class RowsWithCovariance(Rows):
    """Rows together with their covariance (D, D), with divisor N."""

    covariance: Array


# -- passes ----------------------------------------------------------------------------------------


class _CentredPass(RowKernel):
    """A pass over chunks from which a centre is subtracted, in double precision.

    With a centre of zero, float64 chunks are not copied.
    """

    def __init__(self, centre: Array, numbers_per_row: int = 0) -> None:
        self.centre, self.shifts = centre, bool(centre.any())
        self.chunk_rows = chunk_rows(len(centre) + numbers_per_row)

    def workspace(self, n_rows: int, previous: Any = None) -> Any:
        return np.empty((n_rows, len(self.centre)))

    def load(self, X: NDArray[Any], workspace: Any) -> Array:
        """Return deviations from the centre."""
        if self.shifts or X.dtype != np.float64:
            return np.subtract(X, self.centre, out=workspace[: len(X)])
        return X

    def merge(self, accumulator: Any, other: Any) -> Any:
        for mine, theirs in zip(accumulator, other, strict=True):
            mine += theirs
        return accumulator


class _CovariancePass(_CentredPass):
    """Sums of deviations (D,) and of their products (D, D)."""

    def zero(self) -> Any:
        size = len(self.centre)
        return np.zeros(size), np.zeros((size, size))

    def accumulate(
        self,
        accumulator: Any,
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        first, second = accumulator
        # after an overflow the result is not finite, and the fit raises ValueError
        with np.errstate(over="ignore", invalid="ignore"):
            deviations = self.load(X, workspace)
            roots = np.ones(len(X)) if weights is None else np.sqrt(weights)
            if weights is not None:  # X' X with one and the same matrix takes BLAS half the work
                deviations = np.multiply(deviations, roots[:, None], out=workspace[: len(X)])
            first += roots @ deviations
            second += deviations.T @ deviations

    def finish(self, accumulator: Any, total: float) -> tuple[Array, Array]:
        first, second = accumulator
        shift = first / total
        with np.errstate(over="ignore", invalid="ignore"):
            covariance = second / total - np.multiply.outer(shift, shift)
        return self.centre + shift, covariance


class _ProductPass(_CentredPass):
    """The covariance times a block of vectors (D, b)."""

    def __init__(self, rows: Rows, vectors: Array) -> None:
        near = _is_near(rows.centre, rows.scale)
        super().__init__(np.zeros_like(rows.centre) if near else rows.centre, vectors.shape[1])
        self.shift = rows.centre - self.centre
        self.vectors = vectors

    def zero(self) -> Any:
        return (np.zeros_like(self.vectors),)

    def accumulate(
        self,
        accumulator: Any,
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        deviations = self.load(X, workspace)
        along = deviations @ self.vectors
        if weights is not None:
            along *= weights[:, None]
        accumulator[0][...] += deviations.T @ along

    def finish(self, accumulator: Any, total: float) -> Array:
        return accumulator[0] / total - np.multiply.outer(self.shift, self.shift @ self.vectors)


class _SparseCovariancePass(_CovariancePass):
    """The same of sparse rows, about zero."""

    def accumulate(
        self,
        accumulator: Any,
        X: Any,
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        first, second = accumulator
        csr = X.csr.astype(np.float64)
        weighted = csr if weights is None else csr.multiply(weights[:, None]).tocsr()
        with np.errstate(over="ignore", invalid="ignore"):
            first += np.asarray(weighted.sum(axis=0)).ravel()
            second += (csr.T @ weighted).toarray()

    def workspace(self, n_rows: int, previous: Any = None) -> Any:
        return None


class _SparseProductPass(_ProductPass):
    """The covariance of sparse rows times a block of vectors, without centred rows.

    The mean is subtracted from products with rows, which loses no more digits than a mean has.
    """

    def __init__(self, rows: Rows, vectors: Array) -> None:
        super().__init__(rows, vectors)
        self.mean, self.shift = rows.centre, np.zeros_like(rows.centre)
        self.chunk_rows = max(_SPARSE_NUMBERS // vectors.shape[1], 1)

    def workspace(self, n_rows: int, previous: Any = None) -> Any:
        return None

    def accumulate(
        self,
        accumulator: Any,
        X: Any,
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        along = X @ self.vectors - self.mean @ self.vectors
        if weights is not None:
            along *= weights[:, None]
        accumulator[0][...] += X.transposed_product(along)
        accumulator[0][...] -= np.multiply.outer(self.mean, along.sum(axis=0))


def _product_pass(rows: Rows, vectors: Array) -> _ProductPass:
    """Return the pass that multiplies the covariance with vectors (D, b)."""
    kind = _SparseProductPass if isinstance(rows.X, SparseTable) else _ProductPass
    return kind(rows, vectors)


def _is_near(mean: Array, scale: Array) -> bool:
    """Return whether products may be centred at zero for data with this mean."""
    return bool(np.all(np.abs(mean) <= _NEAR * scale))


def _centred_columns(columns: NDArray[Any], roots: Array) -> Array:
    """Return columns (c, N) minus their weighted means, times the roots of the rows' weights."""
    deviations = columns - columns[:, :1].astype(np.float64)
    deviations -= (deviations @ roots**2 / (roots @ roots))[:, None]
    deviations *= roots
    return deviations


class _GramPass(RowKernel):
    """Products of rows with each other, (N, N), summed over chunks of the *columns* of X."""

    def __init__(self, roots: Array) -> None:
        self.roots = roots
        self.chunk_rows = chunk_rows(2 * len(roots))

    def workspace(self, n_rows: int, previous: Any = None) -> Any:
        return None

    def zero(self) -> Any:
        return np.zeros((len(self.roots), len(self.roots)))

    def accumulate(
        self,
        accumulator: Any,
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        deviations = _centred_columns(X, self.roots)
        accumulator += deviations.T @ deviations

    def merge(self, accumulator: Any, other: Any) -> Any:
        accumulator += other
        return accumulator

    def finish(self, accumulator: Any, total: float) -> Any:
        return accumulator


# -- solvers ---------------------------------------------------------------------------------------


def layout_of(X: Any) -> str:
    """Return how rows are kept, a key of `SOLVERS_OF`."""
    if isinstance(X, SparseTable):
        return SPARSE
    return TABLE if isinstance(X, RowSource) else ARRAY


def choose_solver(
    n_rows: int, n_features: int, n_components: int | None, layout: str = ARRAY
) -> str:
    """Return the fastest solver, one of `SOLVERS`.

    Parameters
    ----------
    n_rows, n_features : int
    n_components : int or None
        None stands for the whole spectrum.
    layout : str
        How rows are kept: a key of `SOLVERS_OF`.

    Examples
    --------
    >>> choose_solver(100_000, 50, 10), choose_solver(300, 10_000, 10)
    ('covariance_eigh', 'gram')
    >>> choose_solver(5000, 2000, 10), choose_solver(5000, 2000, None)
    ('randomized', 'covariance_eigh')
    """
    exact = "gram" if n_rows < n_features and layout != TABLE else "covariance_eigh"
    size = n_features if layout == TABLE else min(n_rows, n_features)
    few = n_components is not None and 10 * (n_components + _OVERSAMPLE) < size
    if not (few and size > _SMALL):
        return exact
    # one vector after the other, of which a few are kept, where products are cheap
    return "arpack" if layout == SPARSE else "randomized"


def rows_with_covariance(X: Any, weights: Array | None, runner: RowRunner) -> RowsWithCovariance:
    """Return validated rows with their mean, scale and covariance.

    Parameters
    ----------
    X : ndarray of shape (N, D) or RowSource
    weights : ndarray of shape (N,) or None
    runner : RowRunner
    """
    total = float(len(X)) if weights is None else float(weights.sum())
    if isinstance(X, SparseTable):
        zero = np.zeros(X.shape[1])
        mean, covariance = runner.reduce(
            _SparseCovariancePass(zero), Rows(X, weights, total, zero, zero)
        )
        scale = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
        return RowsWithCovariance(X, weights, total, mean, scale, covariance)
    # an approximate mean suffices as centre; zero, where it is close enough, saves a copy
    some = rows_at(X, np.arange(0, len(X), max(len(X) // 64, 1))).astype(np.float64)
    centre = some.mean(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        if _is_near(centre, some.std(axis=0)):
            centre = np.zeros_like(centre)
    for _ in range(2):
        rows = Rows(X, weights, total, centre, np.ones_like(centre))
        mean, covariance = runner.reduce(_CovariancePass(centre), rows)
        scale = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
        if _is_near(mean - centre, 3 * scale):
            break
        centre = mean
    return RowsWithCovariance(X, weights, total, mean, scale, covariance)


def leading_axes(
    rows: Rows, runner: RowRunner, rng: np.random.Generator, solver: str, n_components: int
) -> Spectrum:
    """Return the leading principal axes of the rows.

    Parameters
    ----------
    rows : Rows
        With their covariance for ``"covariance_eigh"``.
    runner : RowRunner
    rng : Generator
        For the random start of the Krylov space.
    solver : str
        One of `SOLVERS`, ``"auto"`` excepted.
    n_components : int
        At most min(N, D).
    """
    spectrum = _SOLVERS[solver](rows, runner, rng, n_components)
    # variances below the rounding error of the largest one are set to zero
    level = max(rows.X.shape) * np.finfo(np.float64).eps
    variances = spectrum.variances
    floor = level * variances.max(initial=0.0)
    return replace(spectrum, variances=np.where(variances > floor, variances, 0.0))


def _by_covariance(rows: Any, runner: Any, rng: Any, n_components: int) -> Spectrum:
    covariance = rows.covariance
    total = float(np.trace(covariance))
    values, vectors = _largest(covariance, n_components)
    return Spectrum(rows.centre, np.ascontiguousarray(vectors.T), values, total)


def _by_gram(rows: Rows, runner: RowRunner, rng: Any, n_components: int) -> Spectrum:
    roots = np.ones(len(rows.X)) if rows.weights is None else np.sqrt(rows.weights)
    if isinstance(rows.X, SparseTable):
        return _by_sparse_gram(rows, rows.X, roots, n_components)
    kernel = _GramPass(roots)
    columns = rows.X.T
    products = runner.reduce(kernel, replace(rows, X=columns, weights=None))
    values, vectors = _largest(products, n_components)
    turned = runner.map(
        lambda chunk: _centred_columns(chunk, roots) @ vectors, columns, kernel.chunk_rows
    )
    # orthonormal already, except for rounding and for axes of zero variance
    axes = np.linalg.qr(turned)[0].T if n_components else turned.T
    total = float(np.trace(products)) / rows.total
    return Spectrum(rows.centre, np.ascontiguousarray(axes), values / rows.total, total)


def _by_sparse_gram(rows: Rows, table: SparseTable, roots: Array, n_components: int) -> Spectrum:
    """Subtract the mean from products of rows, and of the axes with rows."""
    csr, mean = table.rows.csr.astype(np.float64), rows.centre
    along = csr @ mean
    products = (csr @ csr.T).toarray() - along[:, None] - along + mean @ mean
    products *= roots[:, None] * roots
    values, vectors = _largest(products, n_components)
    turned = roots[:, None] * vectors
    axes = csr.T @ turned - np.multiply.outer(mean, turned.sum(axis=0))
    axes = np.linalg.qr(axes)[0].T if n_components else axes.T
    total = float(np.trace(products)) / rows.total
    return Spectrum(mean, np.ascontiguousarray(axes), values / rows.total, total)


def _by_arpack(
    rows: Rows, runner: RowRunner, rng: np.random.Generator, n_components: int
) -> Spectrum:
    """Find the leading axes by products of the covariance with single vectors, few of them kept.

    Variances are in units of their total, so that no square of theirs overflows. The start does
    not depend on the rows.
    """
    size, total = len(rows.centre), float((rows.scale**2).sum())
    if n_components >= min(rows.X.shape):
        raise ValueError(
            "svd_solver='arpack' finds fewer components than the smaller of n_samples and "
            f"n_features, {min(rows.X.shape)}; got n_components={n_components}"
        )
    start = rng.standard_normal(size)
    if not n_components:
        return Spectrum(rows.centre, np.zeros((0, size)), np.zeros(0), total)

    def times_covariance(vector: Array) -> Array:
        return runner.reduce(_product_pass(rows, vector.reshape(-1, 1)), rows)[:, 0] / total

    operator = LinearOperator((size, size), matvec=times_covariance, dtype=np.float64)
    values, vectors = eigsh(operator, k=n_components, v0=start)
    axes = np.linalg.qr(vectors[:, ::-1])[0].T
    return Spectrum(
        rows.centre, np.ascontiguousarray(axes), np.maximum(values[::-1], 0.0) * total, total
    )


def _by_svd(rows: Rows, runner: Any, rng: Any, n_components: int) -> Spectrum:
    deviations = rows.X - rows.centre
    if rows.weights is not None:
        deviations *= np.sqrt(rows.weights)[:, None]
    _, singular, axes = svd(deviations, full_matrices=False, overwrite_a=True, check_finite=False)
    variances = singular**2 / rows.total
    spectrum = Spectrum(rows.centre, axes, variances, float(variances.sum()))
    return spectrum.take(n_components)


def _by_krylov(
    rows: Rows, runner: RowRunner, rng: np.random.Generator, n_components: int
) -> Spectrum:
    """Block Lanczos with full orthogonalisation (Golub and Underwood 1977), from a random start.

    The start does not depend on the rows, so that neither their order nor their repetition changes
    the result. Variances are in units of their total, so that no square of theirs overflows.
    """
    size, total = len(rows.centre), float((rows.scale**2).sum())
    width = min(n_components + _OVERSAMPLE, size)
    basis = block = np.linalg.qr(rng.standard_normal((size, width)))[0]
    projected = np.zeros((0, 0))
    while True:
        moved = runner.reduce(_product_pass(rows, block), rows) / total
        along = basis.T @ moved
        rest = moved - basis @ along
        again = basis.T @ rest
        rest -= basis @ again
        along += again
        projected = _bordered(projected, along)
        values, vectors = _largest(projected, n_components)
        following, upper = np.linalg.qr(rest)
        residuals = np.linalg.norm(upper @ vectors[-block.shape[1] :], axis=0)
        error = residuals.max(initial=0.0) / values.max(initial=1e-300)
        n_blocks, left = basis.shape[1] // width, size - basis.shape[1]
        full = n_blocks == _MAX_BLOCKS or left == 0
        if error <= _RESIDUAL or full or (n_blocks >= _PATIENCE and error > _HOPELESS):
            break
        # where the residual vanished, qr returned arbitrary directions: make these orthogonal too
        for _ in range(2):
            following = np.linalg.qr(following - basis @ (basis.T @ following))[0]
        block = following[:, :left]
        basis = np.concatenate([basis, block], axis=1)
    return Spectrum(rows.centre, (basis @ vectors).T, values * total, total)


def _bordered(projected: Array, along: Array) -> Array:
    """Return the symmetric matrix with the columns of the last block (k, b) appended."""
    size, width = along.shape
    grown = np.empty((size, size))
    grown[: size - width, : size - width] = projected
    grown[:, size - width :] = along
    grown[size - width :] = along.T
    grown[size - width :, size - width :] = 0.5 * (along[-width:] + along[-width:].T)
    return grown


def _largest(matrix: Array, n: int) -> tuple[Array, Array]:
    """Return the n largest eigenvalues, decreasing and not negative, and vectors in columns."""
    size = len(matrix)
    if n == 0:
        return np.zeros(0), np.zeros((size, 0))
    part = None if n == size else [size - n, size - 1]
    values, vectors = eigh(matrix, subset_by_index=part, check_finite=False)
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]


_SOLVERS = {
    "full": _by_svd,
    "covariance_eigh": _by_covariance,
    "gram": _by_gram,
    "arpack": _by_arpack,
    "randomized": _by_krylov,
}
