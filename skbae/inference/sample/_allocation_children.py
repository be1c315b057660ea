"""Children of an allocation: two components merge and another splits, or one is purified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dtrtri

from skbae._types import Array
from skbae.energies._allocations import CollapsedModel, Labels
from skbae.inference.sample._allocation_modes import Pool
from skbae.operators._labels import one_hot

# Parents are drawn from a pool with weights ``exp(-rank / _RANKS)``.
_RANKS = 4.0
# Share of the splits of a component that divide its rows by the values of one column.
_BY_COLUMN = 0.4
# Columns are tied if their commonest value has this share of the rows. Share of the children that
# lose rows by such values, and how many columns make a pattern at most.
_TIED, _BY_VALUES, _LONGEST_PATTERN = 0.2, 0.5, 4
# Columns may make patterns if their commonest value has this share of the rows. Of so many patterns
# drawn at random the more probable ones split a component.
_REPEATED, _PATTERNS = 0.1, 8
# Share of the mergers that give rows to other components at random.
_AT_RANDOM = 0.2
# Entries of the memberships of allocations whose mergers are compared at once.
_ENTRIES = 1 << 21


def tied_columns(columns: Array, share: float = _TIED) -> NDArray[np.intp]:
    """Return the columns of (N, D) in which at least this share of the rows has the same value.

    Examples
    --------
    >>> tied_columns(np.array([[0.0, 1.0], [0.0, 2.0], [1.0, 3.0], [1.0, 4.0], [1.0, 5.0]]))
    array([0])
    """
    largest = [np.unique(column, return_counts=True)[1].max() for column in columns.T]
    return np.flatnonzero(np.array(largest) >= max(2, share * len(columns)))


@dataclass(frozen=True)
class Breeding:
    """How children of allocations are made, given which columns repeat their values.

    Attributes
    ----------
    mixture : CollapsedModel
    tied, repeated : ndarray of int
        Columns in which many rows have the same value, and those in which some have.
    """

    mixture: CollapsedModel
    tied: NDArray[np.intp]
    repeated: NDArray[np.intp]

    @classmethod
    def of(cls, mixture: CollapsedModel) -> Breeding:
        """Return how children are made for a mixture of given rows."""
        columns = mixture.columns
        return cls(mixture, tied_columns(columns), tied_columns(columns, _REPEATED))

    def generation(self, pool: Pool, n: int, rng: np.random.Generator) -> Labels:
        """Return n children of a pool's modes, (n, N); better modes have more."""
        weights = np.exp(-np.arange(len(pool.labels)) / _RANKS)
        parents = rng.choice(len(pool.labels), n, p=weights / weights.sum())
        return self.children(pool.labels[parents], rng)

    def children(self, parents: Labels, rng: np.random.Generator) -> Labels:
        """Return a child of each of some allocations (n, N).

        Two components of it have merged and another has split, or one is purified.
        """
        children = parents.copy()
        purified = rng.random(len(parents)) < (_BY_VALUES if len(self.tied) else 0.0)
        for index in np.flatnonzero(purified):
            children[index] = purify(self.mixture, parents[index], self.tied, rng)
        others = np.flatnonzero(~purified)
        # few at once, since a merger is chosen among as many allocations as there are components
        step = max(1, _ENTRIES // (self.mixture.n_components**2 * self.mixture.n_rows))
        for start in range(0, len(others), step):
            part = others[start : start + step]
            children[part] = merge_and_split(self.mixture, parents[part], self.repeated, rng)
        return children


def purify(
    mixture: CollapsedModel, labels: Labels, tied: NDArray[np.intp], rng: np.random.Generator
) -> Labels:
    """Return a child in which a component loses the rows with rarer values in a column or two.

    A column that is constant in a component adds much to the density, but only once the last of
    the other rows has left, so that rows do not leave one by one.

    Parameters
    ----------
    mixture : CollapsedModel
    labels : ndarray of int of shape (N,)
    tied : ndarray of int
        Columns in which many rows have the same value.
    rng : Generator
    """
    labels = labels.copy()
    one = int(rng.choice(np.unique(labels)))
    members = np.flatnonzero(labels == one)
    values = mixture.columns[np.ix_(members, tied)]
    rare = np.empty(values.shape, dtype=bool)
    for index, column in enumerate(values.T):
        distinct, counts = np.unique(column, return_counts=True)
        rare[:, index] = column != distinct[np.argmax(counts)]
    n_rare = rare.sum(axis=0)
    mixed = np.flatnonzero(n_rare)
    if not len(mixed) or mixture.n_components == 1:
        return labels
    chance = 1.0 / n_rare[mixed]
    n_columns = min(len(mixed), int(rng.integers(1, 3)))
    chosen = rng.choice(mixed, n_columns, replace=False, p=chance / chance.sum())
    leaving = members[rare[:, chosen].any(axis=1)]
    others = np.delete(np.arange(mixture.n_components), one)
    alike = rng.random() < 0.5
    labels[leaving] = rng.choice(others, None if alike else len(leaving))
    return labels


def merge_and_split(
    mixture: CollapsedModel, labels: Labels, repeated: NDArray[np.intp], rng: np.random.Generator
) -> Labels:
    """Return children, in which a component has split into an empty one, or one freed by a merger.

    Parameters
    ----------
    mixture : CollapsedModel
    labels : ndarray of int of shape (n, N)
    repeated : ndarray of int
        Columns in which some rows have the same value.
    rng : Generator

    Returns
    -------
    ndarray of int of shape (n, N)
    """
    labels = labels.copy()
    counts = one_hot(labels, mixture.n_components).sum(axis=2)
    used = counts > 0
    n_used = used.sum(axis=1)
    has_empty = n_used < mixture.n_components
    merges = (n_used > 1) & (~has_empty | (rng.random(len(labels)) < 0.5))
    free = np.argmin(counts, axis=1)
    # a used component, all equally probable
    free[merges] = np.where(used, rng.random(used.shape), -1.0).argmax(axis=1)[merges]
    _merge(mixture, labels, used, free, np.flatnonzero(merges), rng)
    splitting = np.flatnonzero(merges | has_empty)
    counts = one_hot(labels[splitting], mixture.n_components).sum(axis=2)
    cumulative = np.cumsum(np.sqrt(counts) * (counts >= 2), axis=1)
    position = rng.random(len(splitting)) * cumulative[:, -1]
    chosen = (position[:, None] >= cumulative).sum(axis=1)
    for index, one in zip(
        splitting[cumulative[:, -1] > 0], chosen[cumulative[:, -1] > 0], strict=True
    ):
        _split(mixture, labels[index], int(one), int(free[index]), repeated, rng)
    return labels


def _merge(
    mixture: CollapsedModel,
    labels: Labels,
    used: NDArray[np.bool_],
    free: NDArray[np.intp],
    merging: NDArray[np.intp],
    rng: np.random.Generator,
) -> None:
    """Give the rows of the component to free to others, in place, in the allocations `merging`."""
    candidates, scored = [], []
    at_random = rng.random(len(merging)) < _AT_RANDOM
    for index, scatters in zip(merging.tolist(), at_random.tolist(), strict=True):
        members = np.flatnonzero(labels[index] == free[index])
        is_other = used[index].copy()
        is_other[free[index]] = False
        others = np.flatnonzero(is_other)
        if scatters:  # for refinement to sort
            labels[index, members] = others[rng.integers(len(others), size=len(members))]
            continue
        merged = np.repeat(labels[index, None], len(others), axis=0)
        merged[:, members] = others[:, None]
        candidates.append(merged)
        scored.append(index)
    if not candidates:
        return
    values = mixture.log_joint(np.concatenate(candidates))
    start = 0
    for index, merged in zip(scored, candidates, strict=True):
        weights = _heated(values[start : start + len(merged)])
        labels[index] = merged[_drawn(weights, rng)]
        start += len(merged)


def _split(
    mixture: CollapsedModel,
    labels: Labels,
    one: int,
    free: int,
    repeated: NDArray[np.intp],
    rng: np.random.Generator,
) -> None:
    """Give some rows of one component of an allocation (N,) to an empty one, in place."""
    members = np.flatnonzero(labels == one)
    if rng.random() < _BY_COLUMN:
        if len(repeated) and rng.random() < 0.5:
            labels[:] = _split_by_pattern(mixture, labels, members, free, repeated, rng)
            return
        part = _part_by_column(mixture.columns[members], rng)
    else:
        part = _part_of(mixture.standard_rows[members], rng)
    labels[members[part]] = free


def _heated(value: Array) -> Array:
    """Return weights whose temperature follows the range of the log densities (S,)."""
    highest = value.max()
    return np.exp((value - highest) / max(2.0, 0.1 * (float(highest - value.min()) + 1)))


def _drawn(weights: Array, rng: np.random.Generator) -> int:
    """Return an index, drawn in proportion to weights (S,)."""
    cumulative = np.cumsum(weights)
    index = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return min(int(index), len(weights) - 1)


def _split_by_pattern(
    mixture: CollapsedModel,
    labels: Labels,
    members: NDArray[np.intp],
    free: int,
    repeated: NDArray[np.intp],
    rng: np.random.Generator,
) -> Labels:
    """Return an allocation in which rows of a component that have a pattern go to a free one.

    Where a table is crossed by several factors, few of its patterns are modes.
    """
    rows = mixture.columns[np.ix_(members, repeated)]
    split = np.repeat(labels[None], _PATTERNS, axis=0)
    for child in split:
        child[members[_part_by_pattern(rows, rng)]] = free
    split = np.unique(split, axis=0)
    return split[_drawn(_heated(mixture.log_joint(split)), rng)]


def _part_by_pattern(columns: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which of a component's rows (n, D) are equal to one of them in some columns."""
    n, size = columns.shape
    chosen = rng.permutation(size)[: int(rng.integers(1, min(size, _LONGEST_PATTERN) + 1))]
    return np.flatnonzero((columns[:, chosen] == columns[rng.integers(n), chosen]).all(axis=1))


def _part_by_column(columns: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return a component's rows (n, D) with the value of a random row in a column, or above it."""
    values = columns[:, rng.integers(columns.shape[1])]
    pivot = values[rng.integers(len(values))]
    equal = np.flatnonzero(values == pivot)
    if 1 < len(equal) < len(values) and rng.random() < 0.5:
        return equal
    return np.flatnonzero(values > pivot)


def _part_of(rows: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which of a component's rows (n, D) go to a new component."""
    n, size = rows.shape
    rows = rows - rows.sum(axis=0) / n
    if rng.random() < 0.6:  # whitened by the component's own covariance
        scatter = (rows.T @ rows + np.eye(size)) / (n + size)
        rows = rows @ dtrtri(dpotrf(scatter, lower=1)[0], lower=1)[0].T
    kind = rng.random()
    if kind < 0.35:  # the farthest rows
        n_part = min(int(rng.geometric(1 / max(2.0, 0.15 * n))), max(1, n // 2))
        return np.argsort(-np.einsum("nd,nd->n", rows, rows))[:n_part]
    if kind < 0.7:  # nearer to one of two centres
        return np.flatnonzero(_nearer(rows, rng))
    if kind < 0.85:  # the neighbours of a row
        away = rows - rows[rng.integers(n)]
        order = np.argsort(np.einsum("nd,nd->n", away, away))
        return order[: int(rng.integers(1, max(2, n // 2 + 1)))]
    along = rows @ rng.standard_normal(size)
    return np.flatnonzero(along > np.sort(along)[int(rng.uniform(0.3, 0.9) * (n - 1))])


def _nearer(rows: Array, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which rows (n, D), of mean zero, belong to the second of two clusters, (n,)."""
    n = len(rows)
    one = int(rng.integers(n))
    other = (one + 1 + int(rng.integers(n - 1))) % n
    first, second = rows[one], rows[other]
    for _ in range(4):
        nearer = rows @ (second - first) > 0.5 * (second @ second - first @ first)
        n_nearer = int(np.count_nonzero(nearer))
        if not 0 < n_nearer < n:
            break
        total = nearer @ rows
        first, second = -total / (n - n_nearer), total / n_nearer
    return nearer
