r"""Components whose columns are independent, each of an exponential family with a conjugate prior.

A column of an exponential family has the energy ``eta s(x) - Psi(eta) + h(x)``. A missing entry
drops out of the sum over columns. So a family counts the known entries of each column where some
are missing (or where priors are worth different numbers of rows): "known" is then a feature of the
column, with the coefficient ``-Psi``. Rows with gaps thus need no completion, neither to fit nor to
sample: they are rows of a larger exponential family.
"""

from __future__ import annotations

from abc import abstractmethod
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, ArrayRecord
from skbae.energies.components._packed import FeaturesOfColumns, TableKernel, packed
from skbae.energies.mixture._collapsed import CollapsedComponents
from skbae.energies.mixture._components import (
    CompletingKernel,
    GradientComponentFamily,
    IncompleteFamily,
    Workspace,
    WorkspaceKey,
)
from skbae.energies.mixture._exponential import (
    ConjugateExponentialComponents,
    ExponentialKernel,
    FeatureConditional,
    FeatureSums,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from numpy.typing import NDArray

    from skbae._types import Frame, Rows
    from skbae.energies._allocations import Labels
    from skbae.energies.mixture._components import PackedKernel

# Columns with so many distinct values in all are looked up by one product with their indicators.
_FEW_VALUES = 256
# With more components of all models, the time of a copy of the rows does not matter.
_FEW_COMPONENTS = 32


class ColumnsKernel(ExponentialKernel, CompletingKernel):
    """The kernel of independent columns, of which entries may be missing."""

    family: IndependentColumns

    def __init__(
        self,
        family: IndependentColumns,
        log_weights: Array,
        params: Any,
        dtype: Any = np.float64,
    ) -> None:
        super().__init__(family, log_weights, params, dtype)
        self.params = params

    def packed(
        self, rows: Rows, absent: NDArray[np.bool_], temperature: float
    ) -> tuple[PackedKernel, Rows] | None:
        found = packed(rows, self.n_features, absent.size)
        if found is None:
            return None
        return TableKernel(self.exact, self.family, found.X.layout, absent, temperature), found

    def _spread(self, of_components: Array, workspace: Workspace) -> Array:
        """Return what does not depend on known entries (S, K, D) for each row, (S, K, D, n)."""
        shape = (*of_components.shape, workspace.n)
        return np.broadcast_to(of_components[..., None], shape)

    def completed(self, workspace: Workspace) -> Array:
        rows = np.asarray(workspace.source, np.float64).T
        means = self._spread(self.family.column_means(self.params), workspace)
        return np.where(np.isnan(rows), means, rows)

    def variances(self, workspace: Workspace, temperature: float) -> Array:
        missing = np.isnan(np.asarray(workspace.source).T)
        own = self._spread(self.family.column_variances(self.params), workspace)
        return np.where(missing, own, 0.0)

    def covariances(self, workspace: Workspace, temperature: float) -> Array:
        variances = np.moveaxis(self.variances(workspace, temperature), 2, -1)
        size = variances.shape[-1]
        return np.moveaxis(variances[..., None] * np.eye(size), 2, -1)

    def draw(
        self,
        cells: NDArray[np.intp],
        workspace: Workspace,
        temperature: float,
        rng: np.random.Generator,
    ) -> Array:
        models, labels = np.divmod(cells, self.n_components)
        flat = self.family.draw(self.params, models.ravel(), labels.ravel(), rng)
        drawn = np.moveaxis(flat.reshape(*cells.shape, -1), -1, 1)
        rows = np.asarray(workspace.source, np.float64).T
        return np.where(np.isnan(rows), drawn, rows)

    def accumulate_drawn(
        self, sums: list[Array], codes: NDArray[Any], rows: Array, workspace: Workspace
    ) -> None:
        # missing entries have no part in the sums, so that nothing is gained by drawing them
        self.accumulate(sums, codes, None, workspace)

    def code_gradient(self, X: NDArray[Any], codes: Array) -> Array:
        raise ValueError(
            "gradients in x need rows of real numbers with normal components; columns have "
            f"{type(self.family).__name__}"
        )


class EntriesKernel(ColumnsKernel):
    """The kernel of complete columns whose features are the entries, which are not copied."""

    def workspace(self, n_rows: int, previous: Workspace | None = None) -> Workspace:
        n_energies = len(self.natural)
        key = WorkspaceKey("entries", n_rows, n_energies, self.dtype.str)
        if previous is None or previous.key != key:
            previous = Workspace(key, energies=np.empty((n_energies, n_rows), self.dtype))
        return previous

    def load(self, X: NDArray[Any], workspace: Workspace) -> None:
        if workspace.source is not X:
            workspace.arrays["rows"] = X.astype(self.dtype, copy=False)
            workspace.source, workspace.n = X, len(X)

    def energies(self, workspace: Workspace) -> tuple[NDArray[Any], NDArray[Any] | None]:
        out, rows = workspace.arrays["energies"][:, : workspace.n], workspace.arrays["rows"]
        eta = self.natural[:, : rows.shape[1]]
        if self.narrow:
            np.copyto(out, np.matmul(rows, eta.T).T)
        else:
            np.matmul(eta, rows.T, out=out)
        out += self.natural[:, -1:]
        return out.reshape(self.n_models, self.n_components, workspace.n), None

    def accumulate(
        self,
        sums: list[Array],
        codes: NDArray[Any],
        row_weights: NDArray[Any] | None,
        workspace: Workspace,
    ) -> None:
        rows = workspace.arrays["rows"]
        flat = codes.reshape(len(self.natural), workspace.n)
        sums[0][:, : rows.shape[1]] += flat @ rows
        sums[0][:, -1] += flat.sum(axis=1)


class IndependentColumns(
    FeaturesOfColumns,
    ConjugateExponentialComponents,
    GradientComponentFamily,
    IncompleteFamily,
):
    """Components whose D columns are independent.

    Features are those of the columns, one block after the other. `by_column` says whether the known
    entries of each column are counted.

    Attributes
    ----------
    n_components, n_features : int
    by_column : bool
    prior : ndarray of shape (P + 1,)
        Sums of features of the prior's pseudo-rows (of families with `by_column`), and last 0.
    """

    by_column: bool

    # -- what a family says of itself ---------------------------------------------------------

    @abstractmethod
    def column_normaliser(self, column: Any, statistics: Array) -> Array:
        """Return the log normaliser of a column's prior with such statistics (..., P_j), (...).

        `column` is its number, or numbers of the columns along the last axis of the result.
        """

    @abstractmethod
    def column_means(self, params: Any) -> Array:
        """Return the expected entries of the columns, (S, K, D)."""

    @abstractmethod
    def column_variances(self, params: Any) -> Array:
        """Return the variances of the columns' entries, (S, K, D)."""

    @abstractmethod
    def column_log_probabilities(self, params: Any, column: int, values: Array) -> Array:
        """Return log densities of values (V,) of one column, (S, K, V)."""

    @abstractmethod
    def typical(self, frame: Frame, n_models: int) -> Any:
        """Return S models all of whose components are about the mean of the rows."""

    # -- derived --------------------------------------------------------------------------------

    def kernel(self, log_weights: Array, params: Any, frame: Frame, dtype: Any) -> ColumnsKernel:
        return ColumnsKernel(self, log_weights, params, dtype)

    def of_incomplete_rows(self) -> Self:
        if self.by_column:
            return self
        family = copy(self)
        family.by_column = True
        return family

    def log_normaliser(self, statistics: Array) -> Array:
        total = np.zeros(statistics.shape[:-1])
        for column in range(self.n_features):
            total += self.column_normaliser(column, statistics[..., self.column_features(column)])
        return total

    def collapse(self, X: Array, heat: float) -> CollapsedColumns:  # type: ignore[override]
        return CollapsedColumns(self, X, heat)

    def log_mode_measure(self, params: Any) -> Array:
        return np.zeros(params.n_models)

    def scores(self, params: Any, counts: Array, moments: FeatureSums, temperature: float) -> Array:
        theta = self.unconstrain(params)
        energy = self.energy_gradient(theta, counts, moments, temperature)
        return self.log_prior_at(theta)[1] + energy / temperature


@dataclass(frozen=True)
class ColumnMeans(ArrayRecord):
    """Expected entries of S models' components, (S, K, D)."""

    means: Array


class MeanColumns(IndependentColumns):
    """Columns of one parameter each, the mean, whose feature is the entry itself.

    Parameters
    ----------
    n_components, n_features : int
    prior_sums, prior_counts : ndarray of shape (D,), optional
        Of the entries of the prior's pseudo-rows, and how many there are. Zeros for families
        without a prior.
    """

    has_base = True
    """Whether components share a part of the energy of a row."""

    def __init__(
        self,
        n_components: int,
        n_features: int,
        prior_sums: Array | float = 0.0,
        prior_counts: Array | float = 0.0,
        by_column: bool = True,
    ) -> None:
        self.n_components, self.n_features, self.by_column = n_components, n_features, by_column
        each = [np.broadcast_to(value, n_features) for value in (prior_sums, prior_counts)]
        self.prior = np.concatenate([*each, [0.0]])

    # -- what a family says of itself ---------------------------------------------------------

    @abstractmethod
    def eta(self, means: Array) -> Array:
        """Return natural parameters."""

    @abstractmethod
    def psi(self, means: Array) -> Array:
        """Return log partition functions."""

    @abstractmethod
    def inner(self, means: Array) -> Array:
        """Return means moved from the boundary of what is possible to next to it."""

    @abstractmethod
    def normaliser(self, sums: Array, counts: Array, column: Any = slice(None)) -> Array:
        """Return the log normaliser of the prior, for each entry of the arrays.

        `column` selects what differs between columns, along the last axis.
        """

    @abstractmethod
    def draw_means(self, sums: Array, counts: Array, rng: np.random.Generator) -> Array:
        """Draw means from such priors, (S, K, D)."""

    @abstractmethod
    def variance_of(self, means: Array) -> Array:
        """Return the variance of an entry."""

    @abstractmethod
    def draw_entries(self, means: Array, rng: np.random.Generator) -> Array:
        """Draw entries of given means (n, D)."""

    def mode_means(self, sums: Array, counts: Array) -> Array:
        """Return the mode of the prior in the coordinates of :meth:`at`."""
        return sums / counts

    # coordinates are natural parameters, unless a family says otherwise
    def at(self, theta: Array) -> Array:
        """Return the means at coordinates."""
        raise NotImplementedError

    def coordinate(self, means: Array) -> Array:
        """Return the coordinates of means."""
        return self.eta(means)

    def slope(self, means: Array) -> Array | float:
        """Return the derivative of natural parameters by coordinates."""
        return 1.0

    def measure(self, means: Array) -> tuple[Array | float, Array | float]:
        """Return the log of the slope's size and its derivative by the coordinate."""
        return 0.0, 0.0

    # -- derived --------------------------------------------------------------------------------

    def kernel(self, log_weights: Array, params: Any, frame: Frame, dtype: Any) -> ColumnsKernel:
        if self.by_column or self.has_base or log_weights.size > _FEW_COMPONENTS:
            return super().kernel(log_weights, params, frame, dtype)
        return EntriesKernel(self, log_weights, params, dtype)

    def features(self, X: NDArray[Any]) -> Array:
        if not self.by_column:
            return X
        X = np.asarray(X, np.float64)
        known = ~np.isnan(X)
        return np.concatenate([np.where(known, X, 0.0), known], axis=1)

    def natural(self, params: ColumnMeans) -> Array:
        eta, psi = self.eta(params.means), self.psi(params.means)
        if self.by_column:
            return np.concatenate([eta, -psi, np.zeros((*eta.shape[:2], 1))], axis=-1)
        return np.concatenate([eta, -psi.sum(axis=-1, keepdims=True)], axis=-1)

    def expected_features(self, params: ColumnMeans) -> Array:
        if not self.by_column:
            return params.means
        return np.concatenate([params.means, np.ones_like(params.means)], axis=-1)

    def match_features(self, means: Array) -> ColumnMeans:
        sums, known = self._parts(means, np.ones((*means.shape[:2], 1)))
        return ColumnMeans(self.inner(sums / known))

    def maximise(
        self, counts: Array, moments: FeatureSums, params: ColumnMeans, temperature: float
    ) -> ColumnMeans:
        sums, known = self._parts(moments.features, counts[..., None])
        alive = known > 0
        found = self.inner(sums / np.where(alive, known, 1.0))
        return ColumnMeans(np.where(alive, found, params.means))

    def _parts(self, features: Array, counts: Array) -> tuple[Array, Array]:
        """Return sums of entries and numbers of known ones, (..., D)."""
        sums = features[..., : self.n_features]
        if not self.by_column:
            return sums, np.broadcast_to(counts, sums.shape)
        return sums, features[..., self.n_features : 2 * self.n_features]

    def column_features(self, column: int) -> NDArray[np.intp]:
        if not self.by_column:
            return np.array([column])
        return np.array([column, self.n_features + column])

    def column_normaliser(self, column: Any, statistics: Array) -> Array:
        return self.normaliser(statistics[..., 0], statistics[..., 1], column)

    def log_normaliser(self, statistics: Array) -> Array:
        return self.normaliser(*self._parts(statistics, statistics[..., -1:])).sum(axis=-1)

    def draw_statistics(self, statistics: Array, rng: np.random.Generator) -> ColumnMeans:
        sums, counts = self._parts(statistics, statistics[..., -1:])
        return ColumnMeans(self.inner(self.draw_means(sums, counts, rng)))

    def mode(self, conditional: FeatureConditional) -> ColumnMeans:
        statistics = conditional.statistics
        parts = self._parts(statistics, statistics[..., -1:])
        return ColumnMeans(self.inner(self.mode_means(*parts)))

    def log_mode_measure(self, params: ColumnMeans) -> Array:
        value, _ = self.measure(params.means)
        return np.broadcast_to(value, params.means.shape).sum(axis=(1, 2))

    def column_means(self, params: ColumnMeans) -> Array:
        return params.means

    def column_variances(self, params: ColumnMeans) -> Array:
        return self.variance_of(params.means)

    def column_log_probabilities(self, params: ColumnMeans, column: int, values: Array) -> Array:
        alone = self.single_column(column)
        own = ColumnMeans(params.means[..., column, None])
        eta, psi = alone.eta(own.means), alone.psi(own.means)
        return eta * values - psi + np.broadcast_to(alone.base(values[:, None]), len(values))

    def single_column(self, column: int) -> MeanColumns:
        """Return the family of one of the columns."""
        family = copy(self)
        family.n_features = 1
        family.prior = self.prior[[column, self.n_features + column, -1]]
        return family

    def typical(self, frame: Frame, n_models: int) -> ColumnMeans:
        shape = (n_models, self.n_components, self.n_features)
        return ColumnMeans(np.broadcast_to(self.inner(frame.centre), shape).copy())

    def draw(
        self,
        params: ColumnMeans,
        models: NDArray[np.intp],
        labels: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        return self.draw_entries(params.means[models, labels], rng)

    def n_parameters(self) -> int:
        return self.n_components * self.n_features

    # -- coordinates ----------------------------------------------------------------------------

    def _shape(self, n_models: int) -> tuple[int, int, int]:
        return n_models, self.n_components, self.n_features

    def coordinate_kinds(self) -> NDArray[np.intp]:
        return np.tile(np.arange(self.n_features), self.n_components)

    def unconstrain(self, params: ColumnMeans) -> Array:
        return self.coordinate(params.means).reshape(len(params.means), -1)

    def constrain(self, theta: Array) -> ColumnMeans:
        return ColumnMeans(self.inner(self.at(theta.reshape(self._shape(len(theta))))))

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        means = self.constrain(theta).means
        sums, counts = self.prior[: self.n_features], self.prior[self.n_features : -1]
        log_size, of_size = self.measure(means)
        value = self.eta(means) * sums - counts * self.psi(means) + log_size
        value = (value - self.normaliser(sums, counts)).sum(axis=(1, 2))
        gradient = (sums - counts * means) * self.slope(means) + of_size
        return value, gradient.reshape(theta.shape)

    def energy_gradient(
        self, theta: Array, counts: Array, moments: FeatureSums, temperature: float
    ) -> Array:
        means = self.constrain(theta).means
        sums, known = self._parts(moments.features, counts[..., None])
        return ((sums - known * means) * self.slope(means)).reshape(theta.shape)

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        return self.unconstrain(self.draw_prior(n_models, rng))


class CollapsedColumns(CollapsedComponents):
    """Independent columns of given rows, integrated over their conjugate prior.

    What a row gains by joining a component is a sum over its columns, and depends on the entry
    alone: it is computed for the distinct values of each column, and looked up for the rows.

    Parameters
    ----------
    family : IndependentColumns
        With `by_column`.
    X : ndarray of shape (N, D)
        NaN where an entry is missing.
    heat : float
    """

    def __init__(self, family: IndependentColumns, X: Array, heat: float) -> None:
        self.family, self.rows, self.heat = family, X, heat
        self.n_components, self.n_rows = family.n_components, len(X)
        features = family.features(X)
        base = np.broadcast_to(family.base(X), len(X))
        self.features = np.concatenate([features, base[:, None]], axis=1)
        spread = features.std(axis=0)
        varies = spread > 0
        standard = (features - features.mean(axis=0)) / np.where(varies, spread, 1.0)
        self.standard_rows = standard[:, varies] if varies.any() else standard[:, :1]
        self.columns = features[:, varies] if varies.any() else features[:, :1]
        self._alike = _columns_alike(family, features)
        total = sum(alike.values.shape[0] * alike.values.shape[1] for alike in self._alike)
        self._indicators: Array | None = None
        if total <= _FEW_VALUES:
            self._indicators = np.concatenate([alike.indicators() for alike in self._alike])

    def take_rows(self, index: NDArray[np.intp]) -> CollapsedColumns:
        return CollapsedColumns(self.family, self.rows[index], self.heat)

    def moments(self, sums: Array) -> FeatureSums:
        return FeatureSums(sums[..., :-1], sums[..., -1])

    def log_marginal(self, counts: Array, sums: Array) -> Array:
        family = self.family
        rows = np.concatenate([sums[..., :-1], counts[..., None]], axis=-1)
        gain = family.log_normaliser(family.prior + rows) - family.log_normaliser(family.prior)
        return (gain + sums[..., -1]).sum(axis=1)

    def leave_one_out(
        self, counts: Array, sums: Array, labels: Labels, of_joining: Array, of_leaving: Array
    ) -> tuple[Array, Array]:
        joining, leaving = self._gains(sums[..., :-1])
        preferences = self._of_rows(joining)
        preferences += of_joining[..., None]
        index = labels[:, None]
        own = np.take_along_axis(self._of_rows(leaving), index, axis=1)
        own += np.take_along_axis(of_leaving, labels, axis=1)[:, None]
        np.put_along_axis(preferences, index, own, axis=1)
        return preferences, self.log_marginal(counts, sums)

    def _gains(self, sums: Array) -> tuple[list[Array], list[Array]]:
        """Return what each value of each column gains by joining, and in its own component.

        Arrays (S, K, V, C), one for each set of columns that are alike.
        """
        family, prior = self.family, self.family.prior
        joining, leaving = [], []
        for alike in self._alike:
            columns, own = alike.columns, alike.features
            statistics = prior[own] + sums[..., own]
            now = family.column_normaliser(columns, statistics)[:, :, None]
            rows = self.heat * alike.values
            more = statistics[:, :, None] + rows
            # no component has fewer rows than none, but for rounding; values that it has no row of
            # cannot leave it
            less = np.maximum(statistics[:, :, None] - rows, prior[own])
            with np.errstate(invalid="ignore", divide="ignore"):
                loss = now - family.column_normaliser(columns, less)
            joining.append(family.column_normaliser(columns, more) - now)
            leaving.append(np.where(np.isfinite(loss), loss, 0.0))
        return joining, leaving

    def _of_rows(self, gains: list[Array]) -> Array:
        """Return the sum over columns of the gains of each row's values, (S, K, N)."""
        shape = gains[0].shape[:2]
        if self._indicators is not None:
            flat = [own.reshape(*shape, -1) for own in gains]
            return np.concatenate(flat, axis=-1) @ self._indicators
        total = np.zeros((*shape, self.n_rows))
        for of_values, alike in zip(gains, self._alike, strict=True):
            for column, index in enumerate(alike.index):
                total += of_values[..., column][..., index]
        return total


@dataclass(frozen=True)
class _ColumnsAlike:
    """Columns with the same numbers of features and of distinct values.

    Attributes
    ----------
    columns : ndarray of int of shape (C,)
    features : ndarray of int of shape (C, Q)
    values : ndarray of shape (V, C, Q)
    index : ndarray of int of shape (C, N)
        Which value a row has.
    """

    columns: NDArray[np.intp]
    features: NDArray[np.intp]
    values: Array
    index: NDArray[np.intp]

    def indicators(self) -> Array:
        """Return which rows have which value of which column, (V C, N)."""
        which = np.arange(len(self.values))[:, None, None]
        return np.equal(self.index, which).astype(np.float64).reshape(-1, self.index.shape[1])


def _columns_alike(family: IndependentColumns, features: Array) -> list[_ColumnsAlike]:
    found: dict[tuple[int, ...], list[Any]] = {}
    for column in range(family.n_features):
        own = family.column_features(column)
        values, index = np.unique(features[:, own], axis=0, return_inverse=True)
        found.setdefault(values.shape, []).append((column, own, values, index.reshape(-1)))
    return [
        _ColumnsAlike(
            np.array([each[0] for each in group]),
            np.array([each[1] for each in group]),
            np.stack([each[2] for each in group], axis=1),
            np.array([each[3] for each in group]),
        )
        for group in found.values()
    ]


def concatenated_ranges(sizes: Sequence[int]) -> list[NDArray[np.intp]]:
    """Return consecutive ranges of such sizes.

    Examples
    --------
    >>> [each.tolist() for each in concatenated_ranges([2, 1])]
    [[0, 1], [2]]
    """
    ends = np.cumsum(sizes)
    return [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
