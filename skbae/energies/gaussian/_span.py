"""Gaussian mixtures on the columns that the others are affine functions of.

A column that is constant, or an affine function of earlier columns, has no density of its own: any
narrow prior of its variance decides what it counts. The density is that of the other columns, and
rows are completed by ``x = offset + z loadings'``, with z the columns that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Frame, Rows
from skbae.energies._distribution import DistributionWithDensity
from skbae.energies.gaussian._components import GaussianComponents, GaussianParameters
from skbae.energies.gaussian._covariance import Full
from skbae.energies.mixture._completion import ConditionalDistribution
from skbae.energies.mixture._distributions import GaussianMixtureRows
from skbae.energies.mixture._energy import BoundMixture, MixtureEnergy, MixtureParameters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies._base import DerivedKernel
    from skbae.energies._capabilities import Splits
    from skbae.energies.gaussian._covariance import CovarianceShape
    from skbae.energies.gaussian._mixture import GaussianMixtureEnergy
    from skbae.energies.mixture._completion import ConditionalRows

# A column is constant if its standard deviation is this small beside its largest entry, and an
# affine function of others if they leave this part of its variance.
_CONSTANT = 8 * float(np.finfo(np.float64).eps)
_DEPENDENT = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-9}


@dataclass(frozen=True)
class ColumnSpan:
    """Columns that are kept, and how the others follow from them.

    Attributes
    ----------
    kept : ndarray of int of shape (d,)
        Ascending.
    offset : ndarray of shape (D,)
        Zero for the kept columns.
    loadings : ndarray of shape (D, d)
        The identity for the kept columns, zero for constant ones.
    """

    kept: NDArray[np.intp]
    offset: Array
    loadings: Array

    @property
    def constant(self) -> NDArray[np.intp]:
        """The constant columns."""
        return np.flatnonzero(~self.loadings.any(axis=1))

    @property
    def dependent(self) -> NDArray[np.intp]:
        """The columns that are affine functions of kept ones."""
        left_out = np.setdiff1d(np.arange(len(self.offset)), self.kept)
        return np.setdiff1d(left_out, self.constant)

    def complete(self, rows: Array) -> Array:
        """Return rows or means (..., D) whose kept columns are (..., d)."""
        return self.offset + rows @ self.loadings.T

    def complete_covariances(self, shape: CovarianceShape, covariances: Array) -> Array:
        """Return covariances of all columns; a spherical one is that of the kept columns."""
        if shape.name == "full":
            return self.loadings @ covariances @ self.loadings.T
        if shape.name == "diag":
            return covariances @ np.square(self.loadings).T
        return covariances

    def embed_factors(self, shape: CovarianceShape, factors: Array) -> Array:
        """Return factors of precisions with zeros for the columns that are left out."""
        n_columns = len(self.offset)
        if shape.name == "full":
            out = np.zeros((*factors.shape[:-2], n_columns, n_columns))
            out[..., self.kept[:, None], self.kept] = factors
            return out
        if shape.name == "diag":
            out = np.zeros((*factors.shape[:-1], n_columns))
            out[..., self.kept] = factors
            return out
        return factors

    def restrict_factors(self, shape: CovarianceShape, factors: Array) -> Array:
        """Undo :meth:`embed_factors`."""
        if shape.name == "full":
            return factors[..., self.kept[:, None], self.kept]
        return factors[..., self.kept] if shape.name == "diag" else factors


def column_span(rows: Rows, dependent: bool) -> ColumnSpan | None:
    """Return which columns of the rows say something, or None if all do.

    Rows lie on a plane of one dimension less than there are distinct rows, whatever the columns
    are. Where this plane is all that they span, that a column is an affine function of several
    others says nothing about it, and only columns that repeat a single other one, up to a factor
    and a constant, are found.

    Parameters
    ----------
    rows : Rows
    dependent : bool
        Whether to look for columns that are affine functions of earlier ones.

    Returns
    -------
    ColumnSpan or None
        None also where no column varies. Of rows with missing entries, only columns whose known
        entries are all equal are found.
    """
    X = rows.X
    least, most = np.fmin.reduce(X, axis=0), np.fmax.reduce(X, axis=0)
    varies = columns_that_vary(least, most, rows.scale)
    if not varies.any():
        return None
    if rows.incomplete:
        return None if varies.all() else _without_constants(least, varies)
    kept = every = np.flatnonzero(varies)
    standard = np.zeros((0, len(kept)))
    if dependent:
        kept = _independent(rows, every)
        n_distinct = len(np.unique(X, axis=0)) if len(kept) < len(every) else len(X)
        if len(kept) < min(len(every), n_distinct - 1):
            standard = _regressed(rows, kept, np.setdiff1d(every, kept))
        elif len(kept) < len(every):
            kept, standard = _without_repeats(rows, every, n_distinct)
    if len(kept) == X.shape[1]:
        return None
    return _span(rows, kept, varies, standard)


def columns_that_vary(least: Array, most: Array, scale: Array) -> NDArray[np.bool_]:
    """Return which columns are not constant, given extremes and standard deviations, (D,)."""
    largest = np.maximum(np.abs(most), np.abs(least)).astype(np.float64)
    return np.asarray(scale > _CONSTANT * largest)


def _without_constants(values: NDArray[Any], varies: NDArray[np.bool_]) -> ColumnSpan:
    """Return the span without columns that have one value each."""
    kept = np.flatnonzero(varies)
    loadings = np.zeros((len(varies), len(kept)))
    loadings[kept, np.arange(len(kept))] = 1.0
    return ColumnSpan(kept, np.where(varies, 0.0, values.astype(np.float64)), loadings)


def dependent_columns(rows: Rows) -> NDArray[np.intp]:
    """Return columns of rows with gaps that are affine functions of others in all complete rows.

    There must be at least twice as many complete rows as columns to tell.
    """
    whole = rows.X[~np.isnan(rows.X).any(axis=1)]
    if len(whole) < 2 * rows.X.shape[1]:
        return np.zeros(0, dtype=np.intp)
    centre, scale = whole.mean(axis=0, dtype=np.float64), whole.std(axis=0, dtype=np.float64)
    found = column_span(Rows(whole, None, float(len(whole)), centre, scale), dependent=True)
    return np.zeros(0, dtype=np.intp) if found is None else found.dependent


def same_columns(first: ColumnSpan | None, second: ColumnSpan | None) -> bool:
    """Return whether two spans keep the same columns; None keeps all."""
    if first is None or second is None:
        return first is second
    return np.array_equal(first.kept, second.kept)


def _cross_products(rows: Rows, columns: NDArray[np.intp]) -> Array:
    """Return the correlations of columns, (D, D), computed from centred and scaled rows."""
    out = np.zeros((len(columns), len(columns)))
    step = max(64, (1 << 20) // len(columns))
    for start in range(0, len(rows.X), step):
        chunk = rows.X[start : start + step][:, columns].astype(np.float64)
        chunk = (chunk - rows.centre[columns]) / rows.scale[columns]
        weights = None if rows.weights is None else rows.weights[start : start + step, None]
        out += chunk.T @ (chunk if weights is None else weights * chunk)
    return out / rows.total


def _standardised(rows: Rows, columns: NDArray[np.intp]) -> Array:
    """Return columns (N, d) of mean zero and length one, with the rows' weights."""
    out = (rows.X[:, columns].astype(np.float64) - rows.centre[columns]) / rows.scale[columns]
    if rows.weights is not None:
        out *= np.sqrt(rows.weights)[:, None]
    return out / np.sqrt(rows.total)


def _tolerance(rows: Rows) -> float:
    return _DEPENDENT.get(rows.X.dtype, _DEPENDENT[np.dtype(np.float64)])


def _independent(rows: Rows, columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the columns that are no affine function of those before them.

    This is a Cholesky decomposition of the correlations, column by column, that skips the columns
    of which nothing is left; or, of fewer rows than columns, the same by orthogonalisation.
    """
    if len(rows.X) > len(columns):
        return columns[independent_of(_cross_products(rows, columns), rows.X.dtype)]
    left = _standardised(rows, columns)
    kept = []
    for j in range(len(columns)):
        own = left[:, j] @ left[:, j]
        if own <= _tolerance(rows):
            continue
        kept.append(columns[j])
        pivot = left[:, j] / np.sqrt(own)
        left -= np.outer(pivot, pivot @ left)
    return np.array(kept, dtype=np.intp)


def independent_of(correlations: Array, dtype: np.dtype[Any]) -> NDArray[np.intp]:
    """Return the columns that are no affine function of those before them, by correlations (D, D).

    Parameters
    ----------
    correlations : ndarray of shape (D, D)
    dtype : dtype
        Of the rows.
    """
    left, tolerance = correlations.copy(), _DEPENDENT.get(dtype, _DEPENDENT[np.dtype(np.float64)])
    kept = []
    for j in range(len(left)):
        if left[j, j] <= tolerance:
            continue
        kept.append(j)
        pivot = left[:, j] / np.sqrt(left[j, j])
        left -= np.outer(pivot, pivot)
    return np.array(kept, dtype=np.intp)


def _regressed(rows: Rows, kept: NDArray[np.intp], others: NDArray[np.intp]) -> Array:
    """Return coefficients (others, kept) of standardised columns that are functions of others."""
    correlations = _cross_products(rows, np.concatenate([kept, others]))
    n = len(kept)
    standard = np.linalg.solve(correlations[:n, :n], correlations[n:, :n].T).T
    negligible = np.abs(standard) < np.sqrt(_DEPENDENT[np.dtype(np.float64)])
    return np.where(negligible, 0.0, standard)


def _without_repeats(
    rows: Rows, columns: NDArray[np.intp], n_distinct: int
) -> tuple[NDArray[np.intp], Array]:
    """Return the columns that repeat no single earlier one, and coefficients of those that do.

    Of two distinct rows all columns repeat each other, which says nothing about them.
    """
    first, sign = np.arange(len(columns)), np.ones(len(columns))
    unit = _standardised(rows, columns)
    step = max(1, (1 << 20) // len(columns))
    for start in range(0, len(columns) if n_distinct > 2 else 0, step):
        block = np.arange(start, min(start + step, len(columns)))
        products = unit.T @ unit[:, block]
        same = 1 - products**2 <= _tolerance(rows)
        same &= np.arange(len(columns))[:, None] < block
        found = same.any(axis=0)
        first[block[found]] = same[:, found].argmax(axis=0)
        sign[block] = np.sign(products[first[block], np.arange(len(block))])
    is_kept = first == np.arange(len(columns))
    place = np.cumsum(is_kept) - 1
    standard = np.zeros((int((~is_kept).sum()), int(is_kept.sum())))
    standard[np.arange(len(standard)), place[first[~is_kept]]] = sign[~is_kept]
    return columns[is_kept], standard


def _span(
    rows: Rows, kept: NDArray[np.intp], varies: NDArray[np.bool_], standard: Array
) -> ColumnSpan:
    """Return the span, given coefficients of the standardised columns that are left out."""
    loadings = np.zeros((rows.X.shape[1], len(kept)))
    loadings[kept, np.arange(len(kept))] = 1.0
    others = np.setdiff1d(np.flatnonzero(varies), kept)
    loadings[others] = rows.scale[others, None] * standard / rows.scale[kept]
    offset = rows.centre - loadings @ rows.centre[kept]
    offset[kept] = 0.0
    offset[~varies] = rows.X[0, ~varies]
    return ColumnSpan(kept, offset, loadings)


class SpannedMixture(MixtureEnergy[GaussianComponents]):
    """A Gaussian mixture of some columns, as an energy of rows with all columns.

    The energy of a row is that of its kept columns, whatever the others are; drawn rows are
    completed. With noise of positive variance in every column, all columns have a density again:
    such parameters are those of a mixture of all columns.

    Parameters
    ----------
    inner : MixtureEnergy
        Of the kept columns.
    span : ColumnSpan
    incomplete : bool, default=False
        Whether rows may have missing entries, as those of `inner` may.
    """

    def __init__(
        self, inner: GaussianMixtureEnergy, span: ColumnSpan, incomplete: bool = False
    ) -> None:
        self.inner, self.span, self.incomplete = inner, span, incomplete
        super().__init__(inner.family, inner.equal_weights)
        self.n_features = len(span.offset)

    def bind(self, params: MixtureParameters, frame: Frame, dtype: Any) -> BoundMixture:
        if params.components.means.shape[-1] == self.n_features:
            return self._noisy().bind(params, frame, dtype)
        kept = self.span.kept
        bound = self.inner.bind(params, Frame(frame.centre[kept], frame.scale[kept]), dtype)
        return _SpannedBound(bound, self.span)

    def of_incomplete_rows(self) -> SpannedMixture:
        return SpannedMixture(self.inner.of_incomplete_rows(), self.span, incomplete=True)

    def gradient_kernel(
        self, params: MixtureParameters, frame: Frame, temperature: float
    ) -> DerivedKernel:
        raise self._refusal("the gradient")

    def critical_splits(
        self,
        params: MixtureParameters,
        X: Array,
        weights: Array | None,
        frame: Frame,
        temperature: float,
    ) -> Splits:
        raise self._refusal("a critical temperature")

    def _refusal(self, what: str) -> ValueError:
        left_out = np.setdiff1d(np.arange(self.n_features), self.span.kept)
        return ValueError(
            f"{what} needs a density of all columns, and columns {left_out.tolist()} have none, "
            "since they are constant or follow from others; fit without them"
        )

    def draw(
        self, params: MixtureParameters, n_rows: int, rng: np.random.Generator
    ) -> tuple[Array, NDArray[Any]]:
        rows, labels = self.inner.draw(params, n_rows, rng)
        return self.span.complete(rows), labels

    def convolve(self, params: MixtureParameters, variance: float) -> MixtureParameters:
        if variance == 0:
            return params
        inner, noisy = self.inner.family, self._noisy().family
        covariances = inner.shape.expand(inner.shape.covariances(params.components.factors))
        complete = self.span.loadings @ covariances @ self.span.loadings.T
        factors = noisy.shape.factorise(complete + variance * np.eye(self.n_features))
        means = self.span.complete(params.components.means)
        return MixtureParameters(params.weights, GaussianParameters(means, factors))

    def _noisy(self) -> GaussianMixtureEnergy:
        family = GaussianComponents(
            Full(self.n_features), self.n_components, self.inner.family.tied, 0.0
        )
        noisy = MixtureEnergy(family, self.equal_weights)
        return noisy.of_incomplete_rows() if self.incomplete else noisy


class _SpannedBound(BoundMixture):
    """The energy of the kept columns, evaluated on rows with all columns."""

    def __init__(self, bound: BoundMixture, span: ColumnSpan) -> None:
        super().__init__(bound.kernel, bound.absent, bound.family, bound.components)
        self.inner, self.span = bound, span

    def joint(self, X: NDArray[Any], temperature: float = 1.0) -> Array:
        return super().joint(np.ascontiguousarray(X[:, self.span.kept]), temperature)

    def hmax_gradient(self, X: NDArray[Any], temperature: float) -> tuple[Array, Array]:
        # the plain bound, since this one would select columns twice
        hmax, gradient = self.inner.hmax_gradient(
            np.ascontiguousarray(X[:, self.span.kept]), temperature
        )
        complete = np.zeros((*gradient.shape[:-1], X.shape[1]))
        complete[..., self.span.kept] = gradient
        return hmax, complete


@dataclass(frozen=True)
class CompletedRows(DistributionWithDensity):
    """Rows of all columns, of which only some have a density.

    Attributes
    ----------
    inner : GaussianMixtureRows
        Distribution of the kept columns. Densities and entropies are its own.
    span : ColumnSpan
    """

    inner: GaussianMixtureRows
    span: ColumnSpan

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.inner.probabilities), len(self.span.offset)

    @property
    def mean(self) -> Array:
        return self.span.complete(self.inner.mean)

    @property
    def variance(self) -> Array:
        return np.diagonal(self.covariance, axis1=1, axis2=2).copy()

    @property
    def covariance(self) -> Array:
        return self.span.loadings @ self.inner.covariance @ self.span.loadings.T

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        return self.span.complete(self.inner._draw(n_samples, rng))

    def log_density(self, X: Array) -> Array:
        return self.inner.log_density(X[..., self.span.kept])

    def entropy(self, n_samples: int = 1000, random_state: Any = 0) -> Array:
        """Entropy in nats of the kept columns, (N,); see GaussianMixtureRows."""
        return self.inner.entropy(n_samples, random_state)


@dataclass(frozen=True)
class CompletedConditional(ConditionalDistribution):
    """Rows of all columns given their known entries, of which only some columns have a density.

    What is known of a column without a density says nothing about the others.

    Attributes
    ----------
    X : ndarray of shape (N, D)
        NaN where an entry is missing.
    inner : ConditionalRows
        Distribution of the kept columns. Densities and entropies are its own.
    span : ColumnSpan
    """

    X: Array
    inner: ConditionalRows
    span: ColumnSpan

    def _or_known(self, values: Array) -> Array:
        return np.where(np.isnan(self.X), values, self.X)

    @property
    def mean(self) -> Array:
        return self._or_known(self.span.complete(self.inner.mean))

    @property
    def covariance(self) -> Array:
        complete = self.span.loadings @ self.inner.covariance @ self.span.loadings.T
        missing = np.isnan(self.X)
        return complete * (missing[:, :, None] & missing[:, None])

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        return self._or_known(self.span.complete(self.inner._draw(n_samples, rng)))

    def quantile(self, probability: float) -> Array:
        several = np.count_nonzero(self.span.loadings, axis=1) > 1
        if np.isnan(self.X[:, several]).any():
            raise ValueError(
                "quantiles of columns that are functions of several others are not available "
                f"(columns {np.flatnonzero(several).tolist()}); draw rows with sample instead"
            )
        upward = np.maximum(self.span.loadings, 0.0)
        found = self.span.offset + self.inner.quantile(probability) @ upward.T
        downward = self.span.loadings - upward
        if downward.any():
            found = found + self.inner.quantile(1.0 - probability) @ downward.T
        return self._or_known(found)

    def log_density(self, X: Array) -> Array:
        return self.inner.log_density(X[..., self.span.kept])

    def entropy(self, n_samples: int = 1000, random_state: Any = 0) -> Array:
        """Entropy in nats of the missing entries of kept columns, (N,)."""
        return self.inner.entropy(n_samples, random_state)
