"""Columns of categories."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln

from skbae._types import Array, ArrayRecord
from skbae.energies.components._columns import (
    ColumnsKernel,
    IndependentColumns,
    concatenated_ranges,
)
from skbae.energies.components._patterns import PatternKernel, patterns_of
from skbae.operators._tempered import tempered_softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skbae._types import Frame
    from skbae.energies.mixture._exponential import FeatureConditional, FeatureSums

# Smallest probability of a category.
_INNER = 1e-12


@dataclass(frozen=True)
class Categories(ArrayRecord):
    """Probabilities of all columns' categories, one column after the other, (S, K, P)."""

    probabilities: Array


class CategoricalColumns(IndependentColumns):
    """Categories ``0, 1, ...`` of each column; their probabilities are Dirichlet a priori.

    The features are indicators of the categories, which a missing entry has none of.

    Parameters
    ----------
    n_components : int
    n_categories : sequence of int
        Of each column.
    concentration : float, default=0
        Of the prior, for each category; 0 for families without a prior.
    """

    by_column = True

    def __init__(
        self, n_components: int, n_categories: Sequence[int], concentration: float = 0.0
    ) -> None:
        self.n_components, self.n_features = n_components, len(n_categories)
        self.n_categories = np.asarray(n_categories, dtype=np.intp)
        self.blocks = concatenated_ranges([int(n) for n in n_categories])
        self.n_indicators = int(self.n_categories.sum())
        self._column = np.repeat(np.arange(self.n_features), self.n_categories)
        self._value = np.concatenate([np.arange(n) for n in n_categories]).astype(np.float64)
        self._starts = np.array([block[0] for block in self.blocks])
        self._last = np.array([block[-1] for block in self.blocks])
        # columns next to each other with the same number of categories
        edges = np.flatnonzero(np.diff(self.n_categories)) + 1
        ends = [0, *edges.tolist(), self.n_features]
        self._runs = [
            (first, last, int(self.n_categories[first])) for first, last in pairwise(ends)
        ]
        self._free = np.setdiff1d(np.arange(self.n_indicators), self._last)
        self.prior = np.concatenate([np.full(self.n_indicators, float(concentration)), [0.0]])

    def kernel(self, log_weights: Array, params: Any, frame: Frame, dtype: Any) -> ColumnsKernel:
        patterns = patterns_of(tuple(self.n_categories.tolist()))
        if patterns.faster(log_weights.size):
            return PatternKernel(self, patterns, log_weights, params, dtype)
        return super().kernel(log_weights, params, frame, dtype)

    def features(self, X: NDArray[Any]) -> Array:
        found = np.empty((self.n_indicators, len(X)))
        self.write_features(X, found)
        return found.T

    def write_features(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        rows = np.ascontiguousarray(np.asarray(X).T)
        for first, last, size in self._runs:
            own = out[self._starts[first] : self._starts[first] + (last - first) * size]
            values = np.arange(size, dtype=rows.dtype)[:, None]
            own.reshape(last - first, size, -1)[...] = rows[first:last, None] == values

    def totals(self, sums: Array) -> Array:
        """Return sums (..., P) over the categories of each column, for each category."""
        return np.add.reduceat(sums, self._starts, axis=-1)[..., self._column]

    def natural(self, params: Categories) -> Array:
        logs = np.log(params.probabilities)
        return np.concatenate([logs, np.zeros((*logs.shape[:2], 1))], axis=-1)

    def expected_features(self, params: Categories) -> Array:
        return params.probabilities

    def match_features(self, means: Array) -> Categories:
        return Categories(self._inner(means / self.totals(means)))

    def _inner(self, probabilities: Array) -> Array:
        """Return probabilities of at least the smallest that is allowed."""
        raised = np.maximum(probabilities, _INNER)
        return raised / self.totals(raised)

    def maximise(
        self, counts: Array, moments: FeatureSums, params: Categories, temperature: float
    ) -> Categories:
        known = self.totals(moments.features)
        alive = known > 0
        found = self._inner(moments.features / np.where(alive, known, 1.0))
        return Categories(np.where(alive, found, params.probabilities))

    def column_features(self, column: int) -> NDArray[np.intp]:
        return self.blocks[column]

    def column_normaliser(self, column: Any, statistics: Array) -> Array:
        return gammaln(statistics).sum(axis=-1) - gammaln(statistics.sum(axis=-1))

    def log_normaliser(self, statistics: Array) -> Array:
        sums = statistics[..., :-1]
        totals = np.add.reduceat(sums, self._starts, axis=-1)
        return gammaln(sums).sum(axis=-1) - gammaln(totals).sum(axis=-1)

    def draw_statistics(self, statistics: Array, rng: np.random.Generator) -> Categories:
        gammas = np.maximum(rng.standard_gamma(statistics[..., :-1]), np.finfo(float).tiny)
        return Categories(self._inner(gammas / self.totals(gammas)))

    def mode(self, conditional: FeatureConditional) -> Categories:
        sums = conditional.statistics[..., :-1]
        return Categories(self._inner(sums / self.totals(sums)))

    def column_means(self, params: Categories) -> Array:
        return np.add.reduceat(params.probabilities * self._value, self._starts, axis=-1)

    def column_variances(self, params: Categories) -> Array:
        squares = np.add.reduceat(params.probabilities * self._value**2, self._starts, axis=-1)
        return squares - self.column_means(params) ** 2

    def column_log_probabilities(self, params: Categories, column: int, values: Array) -> Array:
        own = params.probabilities[..., self.blocks[column]]
        return np.log(own[..., values.astype(np.intp)])

    def typical(self, frame: Frame, n_models: int) -> Categories:
        even = 1.0 / self.n_categories[self._column]
        return Categories(
            np.broadcast_to(even, (n_models, self.n_components, self.n_indicators)).copy()
        )

    def draw(
        self,
        params: Categories,
        models: NDArray[np.intp],
        labels: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        found = np.empty((len(labels), self.n_features))
        for column, block in enumerate(self.blocks):
            cumulative = np.cumsum(params.probabilities[..., block], axis=-1)[models, labels]
            position = rng.random(len(labels)) * cumulative[:, -1]
            drawn = (position[:, None] >= cumulative).sum(axis=1)
            found[:, column] = np.minimum(drawn, len(block) - 1)
        return found

    def n_parameters(self) -> int:
        return self.n_components * (self.n_indicators - self.n_features)

    # -- coordinates: logarithms of ratios to the last category's probability --------------------

    def coordinate_kinds(self) -> NDArray[np.intp]:
        return np.tile(np.arange(len(self._free)), self.n_components)

    def unconstrain(self, params: Categories) -> Array:
        logs = np.log(params.probabilities)
        theta = (logs - logs[..., self._last][..., self._column])[..., self._free]
        return theta.reshape(len(logs), -1)

    def constrain(self, theta: Array) -> Categories:
        logits = np.zeros((len(theta), self.n_components, self.n_indicators))
        logits[..., self._free] = theta.reshape(len(theta), self.n_components, -1)
        found = np.empty_like(logits)
        for block in self.blocks:
            found[..., block] = tempered_softmax(logits[..., block], 1.0, axis=-1)
        return Categories(self._inner(found))

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        probabilities = self.constrain(theta).probabilities
        sums = self.prior[:-1]
        value = (np.log(probabilities) @ sums).sum(axis=1)
        value -= self.n_components * self.log_normaliser(self.prior)
        gradient = sums - self.totals(sums) * probabilities
        return value, gradient[..., self._free].reshape(theta.shape)

    def energy_gradient(
        self, theta: Array, counts: Array, moments: FeatureSums, temperature: float
    ) -> Array:
        sums, probabilities = moments.features, self.constrain(theta).probabilities
        gradient = sums - self.totals(sums) * probabilities
        return gradient[..., self._free].reshape(theta.shape)

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        return self.unconstrain(self.draw_prior(n_models, rng))
