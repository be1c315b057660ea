"""Distributions of rows of columns of several kinds, given known entries or codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, stdtr

from skbae.energies.components._categories import CategoricalColumns
from skbae.energies.components._counts import (
    BinomialColumns,
    ExponentialColumns,
    PoissonColumns,
)
from skbae.energies.components._noise import NoisyFamily
from skbae.energies.components._product import ProductFamily
from skbae.energies.components._student import StudentComponents
from skbae.energies.mixture._completion import ConditionalRows, mixture_quantiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.components._noise import Box
    from skbae.energies.mixture._components import Workspace

# Counts up to so many standard deviations above the mean are looked at for quantiles.
_FAR = 12.0
# Steps of a bisection.
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

    @property
    def _box(self) -> Box | None:
        family = self.bound.family
        return family.box if isinstance(family, NoisyFamily) else None

    def _factors(self) -> Iterator[tuple[Any, Any, NDArray[np.intp]]]:
        """Give the families of columns, their parameters, and the columns."""
        family, params = self.bound.family, self.bound.components
        if isinstance(family, NoisyFamily):
            family = family.inner
        if isinstance(family, ProductFamily):
            yield from zip(family.families, params.parts, family.columns, strict=True)
        else:
            yield family, params, np.arange(family.n_features)

    def _with_noise(self, of_components: Array, noise: Array) -> Array:
        """Return what components (S, K, V) have, and noise (V,) after them, (cells, V)."""
        if self._box is None:
            return of_components.reshape(-1, of_components.shape[-1])
        shape = (len(of_components), 1, of_components.shape[-1])
        both = np.concatenate([of_components, np.broadcast_to(noise, shape)], axis=1)
        return both.reshape(-1, shape[-1])

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
            possible = _possible(family, values[:, None], position)[:, 0]
            found = np.zeros((len(self.X), len(values)))
            found[:, possible] = self._marginal(
                family, params, int(position[0]), column, values[possible]
            )
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
        box = self._box
        support = _support(family, params, position)
        if support is not None:
            if box is not None and box.upper[column] > support[-1]:
                support = np.arange(box.upper[column] + 1.0)
            chances = self._marginal(family, params, position, column, support)
            cumulative = np.cumsum(chances, axis=1)
            # what rounding leaves of the total must not move the last quantile beyond the support
            index = (cumulative < probability * cumulative[:, -1:]).sum(axis=1)
            return support[np.minimum(index, len(support) - 1)]
        found = np.zeros(len(self.X))
        for part, workspace, log_weights in self._chunks():
            rows = np.flatnonzero(np.isnan(self.X[part, column]))
            if not len(rows):
                continue
            weights = np.exp(log_weights[:, rows])
            means = self._means(workspace)[:, column][:, rows]
            own = self._kernel.variances(workspace, self.temperature)
            scales = np.sqrt(own.reshape(-1, *own.shape[2:])[:, column][:, rows])
            if box is None and _is_gaussian(family):
                values = mixture_quantiles(weights, means, scales, probability)
            else:
                values = self._bisected(
                    family, params, position, column, weights, means, scales, probability
                )
            found[part.start + rows] = values
        return found

    def _bisected(
        self,
        family: Any,
        params: Any,
        position: int,
        column: int,
        weights: Array,
        means: Array,
        scales: Array,
        probability: float,
    ) -> Array:
        """Return quantiles (n,) of a column that has a density, for cells of such weights (J, n).

        Means and scales of cells are used for Gaussian components alone.
        """
        shape = (*self.bound.absent.shape, means.shape[1])
        own = slice(None) if self._box is None else slice(-1)

        def of_cells(values: Array) -> Array:
            """Return the cells of components alone, (S, K, n)."""
            return values.reshape(shape)[:, own]

        centre = params.means[..., position]
        if isinstance(family, ExponentialColumns):
            spread = centre
        elif isinstance(family, StudentComponents):
            shapes = family.gaussian.shape
            widths = np.sqrt(shapes.diagonal(shapes.covariances(params.factors)))
            spread = np.broadcast_to(widths, params.means.shape)[..., position]
        else:
            spread = of_cells(scales)

        def chance_below(x: Array) -> Array:
            if isinstance(family, ExponentialColumns):
                below = -np.expm1(-np.maximum(x, 0.0) / params.means[..., position, None])
            elif isinstance(family, StudentComponents):
                below = stdtr(
                    params.degrees[..., None], (x - centre[..., None]) / spread[..., None]
                )
            else:
                below = ndtr((x - of_cells(means)) / of_cells(scales))
            if self._box is not None:
                low, high = self._box.lower[column], self._box.upper[column]
                noise = np.clip((x - low) / (high - low), 0.0, 1.0)
                noise = np.broadcast_to(noise, (len(below), 1, len(x)))
                below = np.concatenate([below, noise], axis=1)
            return (weights * below.reshape(weights.shape)).sum(axis=0)

        unit = float(spread.max())
        low = np.full(shape[-1], float(centre.min()) - unit)
        high = np.full(shape[-1], float(centre.max()) + unit)
        width = high - low
        for _ in range(_STEPS):  # until the quantile lies between
            short, long = chance_below(low) > probability, chance_below(high) < probability
            if not (short | long).any():
                break
            low, high = np.where(short, low - width, low), np.where(long, high + width, high)
            width = 2 * width
        for _ in range(_STEPS):
            middle = 0.5 * (low + high)
            less = chance_below(middle) < probability
            low, high = np.where(less, middle, low), np.where(less, high, middle)
        return 0.5 * (low + high)

    def _marginal(
        self, family: Any, params: Any, position: int, column: int, values: Array
    ) -> Array:
        """Return probabilities (N, V) of values of a column of which no entry is known."""
        chances = np.exp(family.column_log_probabilities(params, position, values))
        noise = np.zeros(len(values))
        if self._box is not None:
            inside = (values >= self._box.lower[column]) & (values <= self._box.upper[column])
            noise = np.where(inside, np.exp(-self._box.log_volumes[column]), 0.0)
        of_cells = self._with_noise(chances, noise)
        found = np.empty((len(self.X), len(values)))
        for part, _, log_weights in self._chunks():
            found[part] = np.exp(log_weights).T @ of_cells
        return found

    def log_density(self, X: Array) -> Array:
        """Return the log density of the missing entries of each row, (..., N).

        Parameters
        ----------
        X : array-like of shape (..., N, D)
            Values of the missing entries; of known entries only those of the distribution count.
            What cannot be (a fraction of a count, an unknown category) has minus infinity.
        """
        impossible = np.zeros(X.shape, dtype=bool)
        for family, _, columns in self._factors():
            own = X[..., columns]
            impossible[..., columns] = ~_possible(family, own, np.arange(len(columns)))
        impossible &= self.missing & ~np.isnan(X)
        # any value that can be serves in the place of one that cannot
        found = super().log_density(np.where(impossible, np.nan, X))
        return np.where(impossible.any(axis=-1), -np.inf, found)

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


def _is_gaussian(family: Any) -> bool:
    return not isinstance(family, (ExponentialColumns, StudentComponents))


def _possible(family: Any, X: Array, positions: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which entries of columns (..., D), at these positions of a family, can be."""
    if isinstance(family, ExponentialColumns):
        return np.asarray(X >= 0)
    if isinstance(family, CategoricalColumns):
        most = np.asarray(family.n_categories)[positions] - 1.0
    elif isinstance(family, BinomialColumns):
        most = family.trials[positions]
    elif isinstance(family, PoissonColumns):
        most = np.full(len(positions), np.inf)
    else:
        return np.ones(X.shape, dtype=bool)
    return (X >= 0) & (most >= X) & (np.floor(X) == X)


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
