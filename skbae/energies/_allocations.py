"""Allocations: codes of all rows at once, with the models integrated out.

An *allocation* says which component each row came from. Given a conjugate prior, ``p(X, z)``, the
integral over all models of ``prior(m) exp(sum of H(x, m, z) / T)``, has a closed form for every
allocation z, and so have the probabilities of one row's component given those of all other rows.
Samplers of allocations and estimates of the evidence need only these two.

Everything here holds S allocations of N rows side by side. Labels have the shape (S, N); their
one-hot form, *memberships*, has (S, K, N).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from skbae._types import Array, ArrayRecord

Labels = NDArray[np.intp]


@dataclass(frozen=True)
class Allocations(ArrayRecord):
    """S allocations, with their sums, densities and leave-one-out probabilities.

    Attributes
    ----------
    labels : ndarray of int of shape (S, N)
    counts : ndarray of shape (S, K)
        Times the heat.
    sums : ndarray of shape (S, K, F)
        Times the heat.
    preferences : ndarray of shape (S, K, N)
        Log probabilities of a row's component given all other rows', up to a constant that
        depends on the allocation and the row.
    log_joint : ndarray of shape (S,)
        ``log p(X, z)``.
    """

    labels: Labels
    counts: Array
    sums: Array
    preferences: Array
    log_joint: Array


class CollapsedModel(ABC):
    """A mixture of given rows with its models integrated out.

    Attributes
    ----------
    n_rows : int
        N; a row of integer weight w stands here w times.
    n_components : int
        K.
    heat : float
        ``1 / T``, the weight of every row.
    standard_rows : ndarray of shape (N, D)
        The rows in coordinates in which a component's standard deviations are about one under its
        prior. Searches cluster and split these.
    columns : ndarray of shape (N, D)
        The rows in the given units, up to a shift. Where columns have few distinct values, searches
        split components by these values.
    """

    n_rows: int
    n_components: int
    heat: float
    standard_rows: Array
    columns: Array

    @abstractmethod
    def sums(self, labels: Labels) -> tuple[Array, Array]:
        """Return counts (S, K) and sums (S, K, F) of allocations (S, N), times the heat."""

    @abstractmethod
    def moments(self, sums: Array) -> Any:
        """Return the components' moments for given sums, without the factor of heat."""

    @abstractmethod
    def log_joint(self, labels: Labels) -> Array:
        """Return ``log p(X, z)`` of allocations (S, N): (S,)."""

    @abstractmethod
    def visit(self, labels: Labels) -> Allocations:
        """Return allocations (S, N) with their preferences and joint density."""

    @abstractmethod
    def take_rows(self, index: NDArray[np.intp]) -> CollapsedModel:
        """Return the mixture of some of the rows, with the same prior."""

    def log_multiplicity(self, counts: Array) -> Array:
        """Return the log number of relabellings that make different allocations, (S,).

        Components without rows are interchangeable and count once: ``K! / (empty)!``.
        """
        used = (counts > 0).sum(axis=1)
        n = self.n_components
        return gammaln(n + 1) - gammaln(n - used + 1)

    def log_mass(self, allocations: Allocations) -> Array:
        """Return the log of the joint density of allocations, summed over relabellings, (S,)."""
        return allocations.log_joint + self.log_multiplicity(allocations.counts)
