"""Mixtures with their models integrated out, for components with a conjugate prior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln

from skbae._types import Array
from skbae.energies._allocations import Allocations, CollapsedModel, Labels
from skbae.operators._labels import one_hot

if TYPE_CHECKING:
    from numpy.typing import NDArray


class CollapsedComponents(ABC):
    """The components of a mixture of given rows, integrated over their conjugate prior.

    Attributes
    ----------
    n_rows : int
        N; a row of integer weight w stands here w times.
    n_components : int
        K.
    heat : float
        ``1 / T``, the weight of every row.
    features : ndarray of shape (N, F)
        What a row adds to the sums of its component.
    standard_rows, columns : ndarrays of shape (N, D)
        See :class:`~skbae.energies._allocations.CollapsedModel`.
    """

    n_rows: int
    n_components: int
    heat: float
    features: Array
    standard_rows: Array
    columns: Array

    @abstractmethod
    def log_marginal(self, counts: Array, sums: Array) -> Array:
        """Return the log integral of the rows' density given their components, (S,).

        Parameters
        ----------
        counts : ndarray of shape (S, K)
            Rows of each component, times the heat.
        sums : ndarray of shape (S, K, F)
            Features of each component's rows, added, times the heat.
        """

    @abstractmethod
    def leave_one_out(
        self, counts: Array, sums: Array, labels: Labels, of_joining: Array, of_leaving: Array
    ) -> tuple[Array, Array]:
        """Return leave-one-out log probabilities of each row's component, and the log marginal.

        Parameters
        ----------
        counts, sums
            As in :meth:`log_marginal`.
        labels : ndarray of int of shape (S, N)
            The allocations that counts and sums belong to.
        of_joining, of_leaving : ndarrays of shape (S, K)
            Logarithms to add for components that a row is not in, and for its own: the part of the
            weights.

        Returns
        -------
        preferences : ndarray of shape (S, K, N)
            Log probabilities of a row's component given all other rows', up to a constant that
            depends on the allocation and the row.
        log_marginal : ndarray of shape (S,)
        """

    @abstractmethod
    def take_rows(self, index: NDArray[np.intp]) -> CollapsedComponents:
        """Return the same components of some of the rows."""

    @abstractmethod
    def moments(self, sums: Array) -> Any:
        """Return the sums (S, K, F), without the heat, as the moments of the component family."""


class CollapsedMixture(CollapsedModel):
    """Components and weights integrated out.

    Parameters
    ----------
    components : CollapsedComponents
    concentration : ndarray of shape (K,)
        Of the weights' Dirichlet prior; all entries alike.
    equal_weights : bool
    """

    def __init__(
        self, components: CollapsedComponents, concentration: Array, equal_weights: bool
    ) -> None:
        self.components, self.concentration = components, concentration
        self.equal_weights = equal_weights
        self.n_components, self.n_rows = components.n_components, components.n_rows
        self.heat, self.standard_rows = components.heat, components.standard_rows
        self.columns = components.columns

    def take_rows(self, index: NDArray[np.intp]) -> CollapsedMixture:
        return CollapsedMixture(
            self.components.take_rows(index), self.concentration, self.equal_weights
        )

    def sums(self, labels: Labels) -> tuple[Array, Array]:
        n_chains, n = len(labels), self.n_components
        memberships = one_hot(labels, n)
        counts = memberships.sum(axis=2)
        flat = memberships.reshape(n_chains * n, -1) @ self.components.features
        return counts * self.heat, flat.reshape(n_chains, n, -1) * self.heat

    def log_weights_marginal(self, counts: Array) -> Array:
        """Return the log probability of allocations with such counts (S, K), labels given: (S,)."""
        if self.equal_weights:
            return -counts.sum(axis=1) * np.log(self.n_components)
        concentration = self.concentration
        total = concentration.sum()
        value = (gammaln(concentration + counts) - gammaln(concentration)).sum(axis=1)
        return value + gammaln(total) - gammaln(total + counts.sum(axis=1))

    def _weight_preferences(self, counts: Array) -> tuple[Array, Array]:
        """Return the weights' part of leave-one-out probabilities: joining, and in the own one."""
        if self.equal_weights:
            return np.zeros_like(counts), np.zeros_like(counts)
        base, heat = self.concentration + counts, self.heat
        if heat == 1:
            own = np.maximum(base - 1, np.finfo(float).tiny)
            return np.log(base), np.log(own)
        without = np.maximum(base - heat, self.concentration)
        return gammaln(base + heat) - gammaln(base), gammaln(without + heat) - gammaln(without)

    def log_joint(self, labels: Labels) -> Array:
        counts, sums = self.sums(labels)
        return self.components.log_marginal(counts, sums) + self.log_weights_marginal(counts)

    def visit(self, labels: Labels) -> Allocations:
        counts, sums = self.sums(labels)
        joining, leaving = self._weight_preferences(counts)
        preferences, log_marginal = self.components.leave_one_out(
            counts, sums, labels, joining, leaving
        )
        log_joint = log_marginal + self.log_weights_marginal(counts)
        return Allocations(labels, counts, sums, preferences, log_joint)

    def moments(self, sums: Array) -> Any:
        return self.components.moments(sums / self.heat)
