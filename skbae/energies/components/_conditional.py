"""Distributions of rows of columns of several kinds, given known entries or codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.components._categories import CategoricalColumns
from skbae.energies.components._counts import (
    BinomialColumns,
    ExponentialColumns,
    PoissonColumns,
)
from skbae.energies.components._product import ProductFamily
from skbae.energies.mixture._completion import ConditionalRows, mixture_quantiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.mixture._components import Workspace

# Counts up to so many standard deviations above the mean are looked at for quantiles.
_FAR = 12.0
# Bisections of the quantiles of waiting times.
_STEPS = 80


@dataclass(frozen=True)
class ConditionalTable(ConditionalRows):
    """Rows given their known entries, of which each component has columns of several kinds.

    Categories are numbered. Of these, ``mean`` has the expected number, which means something for
    two categories only: see :meth:`probabilities` and :meth:`most_probable`.

    Attributes
    ----------
    X : ndarray of shape (N, D)
        NaN where an entry is missing.
    bound : BoundMixture
    temperature : float
    given : ndarray of shape (N, K) or None
        Probabilities of the components, if these are given instead of known entries.
    """

    given: Array | None = None

    def _chunks(self, n_rows: int | None = None) -> Iterator[tuple[slice, Workspace, Array]]:
        for part, workspace, log_weights in super()._chunks(n_rows):
            if self.given is None:
                yield part, workspace, log_weights
                continue
            with np.errstate(divide="ignore"):
                logs = np.log(self.given[part].T)
            yield part, workspace, logs

    def _factors(self) -> Iterator[tuple[Any, Any, NDArray[np.intp]]]:
        """Give the families of columns, their parameters, and the columns."""
        family, params = self.bound.family, self.bound.components
        if isinstance(family, ProductFamily):
            yield from zip(family.families, params.parts, family.columns, strict=True)
        else:
            yield family, params, np.arange(family.n_features)

    def probabilities(self, column: int, values: Any) -> Array:
        """Return the probabilities of values of a column of categories or counts, (N, V).

        Parameters
        ----------
        column : int
        values : array-like of shape (V,)
            Numbers of categories, or counts.

        Returns
        -------
        ndarray of shape (N, V)
            Known entries have one value, of probability 1.
        """
        values = np.asarray(values, dtype=np.float64)
        for family, params, columns in self._factors():
            position = np.flatnonzero(columns == column)
            if not len(position):
                continue
            if not hasattr(family, "column_log_probabilities"):
                break
            found = self._marginal(family, params, int(position[0]), values)
            known = ~np.isnan(self.X[:, column])
            found[known] = self.X[known, column, None] == values
            return found
        raise ValueError(
            f"column {column} has a density, so that its values have no probabilities; see "
            "log_density, quantile and interval"
        )

    def most_probable(self) -> Array:
        """Return rows with missing entries filled in: the most probable category, or the mean."""
        found = self.mean
        for family, _, columns in self._factors():
            if isinstance(family, CategoricalColumns):
                for column, size in zip(columns, family.n_categories, strict=True):
                    best = self.probabilities(int(column), np.arange(size)).argmax(axis=1)
                    found[:, column] = np.where(np.isnan(self.X[:, column]), best, found[:, column])
        return found

    def quantile(self, probability: float) -> Array:
        if not 0 < probability < 1:
            raise ValueError(f"probability must be between 0 and 1, got {probability!r}")
        found = np.array(self.X, dtype=np.float64)
        for family, params, columns in self._factors():
            for position, column in enumerate(columns):
                missing = np.isnan(self.X[:, column])
                if missing.any():
                    values = self._quantiles(family, params, position, int(column), probability)
                    found[missing, column] = values[missing]
        return found

    def _quantiles(
        self, family: Any, params: Any, position: int, column: int, probability: float
    ) -> Array:
        """Return the quantiles of one column's entries, (N,), as if all were missing."""
        support = _support(family, params, position)
        if support is not None:
            chances = self._marginal(family, params, position, support)
            cumulative = np.cumsum(chances, axis=1)
            # what rounding leaves of the total must not move the last quantile beyond the support
            index = (cumulative < probability * cumulative[:, -1:]).sum(axis=1)
            return support[np.minimum(index, len(support) - 1)]
        if isinstance(family, ExponentialColumns):
            return self._exponential_quantiles(params.means[..., position].ravel(), probability)
        found = np.empty(len(self.X))
        for part, workspace, log_weights in self._chunks():
            means = self._means(workspace)[:, column]
            own = self._kernel.variances(workspace, self.temperature)
            scales = np.sqrt(own.reshape(-1, *own.shape[2:])[:, column])
            rows = np.isnan(self.X[part, column])
            values = np.zeros(len(rows))
            if rows.any():
                values[rows] = mixture_quantiles(
                    np.exp(log_weights[:, rows]), means[:, rows], scales[:, rows], probability
                )
            found[part] = values
        return found

    def _marginal(self, family: Any, params: Any, position: int, values: Array) -> Array:
        """Return probabilities (N, V) of values of a column of which no entry is known."""
        logs = family.column_log_probabilities(params, position, values)
        of_cells = np.exp(logs).reshape(-1, len(values))
        found = np.empty((len(self.X), len(values)))
        for part, _, log_weights in self._chunks():
            found[part] = np.exp(log_weights).T @ of_cells
        return found

    def _exponential_quantiles(self, means: Array, probability: float) -> Array:
        weights = np.empty((len(self.X), len(means)))
        for part, _, log_weights in self._chunks():
            weights[part] = np.exp(log_weights).T
        edge = -np.log1p(-probability)
        low, high = np.full(len(weights), edge * means.min()), np.full(len(weights), 0.0)
        high += edge * means.max()
        for _ in range(_STEPS):
            middle = 0.5 * (low + high)
            below = (weights * -np.expm1(-middle[:, None] / means)).sum(axis=1) < probability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return 0.5 * (low + high)

    def entropy(self, n_samples: int = 1000, random_state: Any = 0) -> Array:
        """Entropy in nats of the missing entries, (N,).

        Minus the mean log density over `n_samples` draws (determined by `random_state`); densities
        of columns of categories and counts are probabilities.
        """
        some = self.missing.any(axis=1)
        entropy = np.zeros(len(self.X))
        if some.any():
            given = None if self.given is None else self.given[some]
            own = ConditionalTable(self.X[some], self.bound, self.temperature, given)
            entropy[some] = own._entropy_by_draws(n_samples, random_state)
        return entropy


def _support(family: Any, params: Any, position: int) -> Array | None:
    """Return the values of a column of categories or counts that have any probability."""
    if isinstance(family, CategoricalColumns):
        return np.arange(float(family.n_categories[position]))
    if isinstance(family, BinomialColumns):
        return np.arange(family.trials[position] + 1.0)
    if isinstance(family, PoissonColumns):
        largest = float(params.means[..., position].max())
        return np.arange(np.ceil(largest + _FAR * (np.sqrt(largest) + 1.0)) + 1.0)
    return None
