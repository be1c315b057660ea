"""Modes of a mixture's posterior over allocations: what tells them apart, and a pool of the best.

Two allocations are the same mode if few rows differ under the best matching of labels.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from skbae._types import Array
from skbae.energies._allocations import CollapsedModel, Labels
from skbae.inference.evidence._visited import canonical_labels
from skbae.operators._labels import one_hot

# Allocations that differ in at most this share of the rows, or in one row, are the same mode.
_SAME_MODE = 0.02
# An allocation close to a mode is kept as its variant if one of its components has less than the
# share _SAME_COMPONENT of its rows in common with the mode's component, and if its log mass is at
# most _VARIANTS_WITHIN nats below that of the best mode.
_SAME_COMPONENT, _VARIANTS_WITHIN, _MAX_VARIANTS = 0.5, 7.0, 8
# Up to so many components, trying all matchings of labels is quicker than solving for the best.
_FEW_COMPONENTS = 4


def matched_distances(labels: Labels, others: Labels, n_components: int) -> NDArray[np.intp]:
    """Return how many rows differ under the best matching of labels.

    Parameters
    ----------
    labels : ndarray of int of shape (N,)
    others : ndarray of int of shape (P, N)
    n_components : int

    Returns
    -------
    ndarray of int of shape (P,)

    Examples
    --------
    >>> others = np.array([[1, 1, 0, 0], [0, 1, 1, 1]])
    >>> matched_distances(np.array([0, 0, 1, 1]), others, 2).tolist()
    [0, 1]
    """
    return distances_between(labels[None], others, n_components)[0]


def distances_between(labels: Labels, others: Labels, n_components: int) -> NDArray[np.intp]:
    """Return the same for each of several allocations (S, N) and others (P, N), (S, P).

    Examples
    --------
    >>> others = np.array([[1, 1, 0, 0], [0, 1, 1, 1]])
    >>> distances_between(others[::-1], others, 2).tolist()
    [[1, 0], [0, 1]]
    """
    overlaps = _overlaps(labels, others, n_components)
    if n_components <= _FEW_COMPONENTS:
        # (K!, K, S, P)
        shared = overlaps[:, np.arange(n_components), :, _orders(n_components)]
        matched = shared.sum(axis=1).max(axis=0)
    else:
        matched = np.array(
            [
                [overlap[linear_sum_assignment(-overlap)].sum() for overlap in each]
                for each in overlaps.swapaxes(1, 2)
            ]
        ).reshape(len(labels), len(others))
    return labels.shape[1] - np.rint(matched).astype(np.intp)


@cache
def _orders(n_components: int) -> NDArray[np.intp]:
    """Return all orders of the components, (K!, K)."""
    return np.array(list(permutations(range(n_components))))


def _overlaps(labels: Labels, others: Labels, n_components: int) -> Array:
    """Return how many rows components of (S, N) and of other (P, N) labels share, (S, K, P, K)."""
    n_rows = labels.shape[1]
    ours = one_hot(labels, n_components).reshape(len(labels) * n_components, n_rows)
    theirs = one_hot(others, n_components).reshape(len(others) * n_components, n_rows)
    return (ours @ theirs.T).reshape(len(labels), n_components, len(others), n_components)


def share_components(labels: Labels, others: Labels, n_components: int) -> NDArray[np.bool_]:
    """Return which allocations share at least half of the rows of every component.

    Chains may fail to travel between allocations that differ in a component of few rows, even
    though few rows differ.

    Parameters
    ----------
    labels : ndarray of int of shape (N,)
    others : ndarray of int of shape (P, N)
    n_components : int

    Returns
    -------
    ndarray of bool of shape (P,)

    Examples
    --------
    >>> others = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])
    >>> share_components(np.array([0, 0, 0, 1, 1, 2]), others, 3).tolist()
    [False, False]
    """
    same = np.empty(len(others), dtype=bool)
    overlaps = _overlaps(labels[None], others, n_components)[0]
    for index, overlap in enumerate(overlaps.swapaxes(0, 1)):
        ours, theirs = linear_sum_assignment(-overlap)
        largest = np.maximum(overlap.sum(axis=1)[ours], overlap.sum(axis=0)[theirs])
        same[index] = np.all(overlap[ours, theirs] >= _SAME_COMPONENT * largest)
    return same


class Pool:
    """The best modes found so far, in decreasing order of their mass.

    Attributes
    ----------
    labels : ndarray of int of shape (P, N)
    log_mass : ndarray of shape (P,)
        ``log p(X, z)``, all relabellings together.
    variants : list of (Labels, float)
        Allocations close to a mode, but different in a small component, so that chains from the
        mode may fail to reach them.
    """

    def __init__(self, mixture: CollapsedModel, size: int) -> None:
        self.mixture, self.size = mixture, size
        self.radius = max(1, int(_SAME_MODE * mixture.n_rows))
        self.labels = np.empty((0, mixture.n_rows), dtype=np.intp)
        self.log_mass = np.empty(0)
        self.variants: list[tuple[Labels, float]] = []
        self._seen: set[bytes] = set()

    def add(self, labels: Labels, log_mass: Array) -> None:
        """Add allocations (S, N) of log mass (S,); for each mode the best one is kept."""
        keys = canonical_labels(labels, self.mixture.n_components)
        for index in np.argsort(-log_mass):
            full = len(self.log_mass) >= self.size
            if full and log_mass[index] <= self.log_mass[-1]:
                break
            # not by the mass: where rows are symmetric, different modes have the same
            key = keys[index].tobytes()
            if key in self._seen:
                continue
            self._seen.add(key)
            near = self.nearest(labels[index])
            if near is None:
                self._insert(labels[index], log_mass[index], None)
            elif log_mass[index] > self.log_mass[near]:
                replaced = self.labels[near], float(self.log_mass[near])
                self._insert(labels[index], log_mass[index], near)
                self._add_variant(*replaced, labels[index])
            else:
                self._add_variant(labels[index], float(log_mass[index]), self.labels[near])

    def _add_variant(self, labels: Labels, log_mass: float, mode: Labels) -> None:
        lowest = self.log_mass[0] - _VARIANTS_WITHIN
        if len(self.variants) == _MAX_VARIANTS:
            lowest = max(lowest, self.variants[-1][1])
        if log_mass <= lowest:
            return
        others = np.stack([mode, *(each for each, _ in self.variants)])
        if not share_components(labels, others, self.mixture.n_components).any():
            self.variants.append((labels, log_mass))
            self.variants.sort(key=lambda pair: -pair[1])
            lowest = self.log_mass[0] - _VARIANTS_WITHIN
            self.variants = [pair for pair in self.variants if pair[1] > lowest][:_MAX_VARIANTS]

    def nearest(self, labels: Labels, slack: int = 1) -> int | None:
        """Return the index of the best mode within `slack` radii of an allocation (N,), or None."""
        if not len(self.labels):
            return None
        distances = matched_distances(labels, self.labels, self.mixture.n_components)
        near = np.flatnonzero(distances <= slack * self.radius)
        return int(near[0]) if len(near) else None

    def has(self, labels: Labels, slack: int) -> NDArray[np.bool_]:
        """Return which of several allocations (S, N) are within `slack` radii of a mode, (S,)."""
        distances = distances_between(labels, self.labels, self.mixture.n_components)
        return np.any(distances <= slack * self.radius, axis=1)

    def _insert(self, labels: Labels, log_mass: float, instead: int | None) -> None:
        if instead is not None:
            self.labels = np.delete(self.labels, instead, axis=0)
            self.log_mass = np.delete(self.log_mass, instead)
        place = int(np.searchsorted(-self.log_mass, -log_mass))
        self.labels = np.insert(self.labels, place, labels, axis=0)[: self.size]
        self.log_mass = np.insert(self.log_mass, place, log_mass)[: self.size]


def each_found_twice(pools: list[Pool], near: float) -> bool:
    """Return whether each mode within so many nats of the best is in the pools of two searches."""
    best = max(pool.log_mass[0] for pool in pools)
    return all(
        any(other is not pool and other.nearest(labels) is not None for other in pools)
        for pool in pools
        for labels in pool.labels[pool.log_mass > best - near]
    )
