"""Allocations to start a search from: clusters in several coordinate systems, random partitions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skbae._types import Array
from skbae.energies._allocations import Labels
from skbae.operators._labels import one_hot


def k_means_labels(
    rows: Array,
    emphasis: Array,
    n_groups: NDArray[np.intp],
    rng: np.random.Generator,
    n_steps: int = 5,
) -> Labels:
    """Cluster rows by a few steps of k-means from k-means++ centres, S clusterings at once.

    Parameters
    ----------
    rows : ndarray of shape (N, D)
    emphasis : ndarray of shape (S, D)
        Factors of the columns, by clustering.
    n_groups : ndarray of int of shape (S,)
    rng : Generator
    n_steps : int, default=5

    Returns
    -------
    ndarray of int of shape (S, N)
    """
    n, most = len(emphasis), int(n_groups.max())
    squares = emphasis**2  # (S, D)
    rows_squared = squares @ (rows**2).T  # (S, N)
    chains = np.arange(n)

    def distances(centres: Array) -> Array:
        """Return squared distances (S, N) of rows from centres (S, D)."""
        weighted = squares * centres
        value = rows_squared - 2 * weighted @ rows.T
        return np.maximum(value + (weighted * centres).sum(axis=1)[:, None], 0.0)

    centres = np.empty((n, most, rows.shape[1]))
    centres[:, 0] = rows[rng.integers(len(rows), size=n)]
    nearest = distances(centres[:, 0])
    for k in range(1, most):
        cumulative = np.cumsum(nearest, axis=1)
        position = rng.random(n) * cumulative[:, -1]
        chosen = (cumulative < position[:, None]).sum(axis=1)
        centres[:, k] = rows[np.minimum(chosen, len(rows) - 1)]
        nearest = np.minimum(nearest, distances(centres[:, k]))
    absent = np.arange(most) >= n_groups[:, None]
    for step in range(n_steps + 1):
        away = np.stack([distances(centres[:, k]) for k in range(most)], axis=1)
        away[absent] = np.inf
        labels = away.argmin(axis=1)
        if step < n_steps:
            memberships = one_hot(labels, most)
            counts = memberships.sum(axis=2)
            sums = memberships.reshape(n * most, -1) @ rows
            means = sums.reshape(n, most, -1) / np.maximum(counts, 1)[..., None]
            centres = np.where((counts > 0)[..., None], means, centres)
    return labels[chains]


def starting_labels(rows: Array, n_components: int, n: int, rng: np.random.Generator) -> Labels:
    """Return allocations to start a search from, (n, N).

    A quarter each are clusters of the standardised rows (half of these in a few columns only),
    clusters of the whitened rows, clusters along a few principal axes, and random partitions. About
    half of all have fewer than K components.

    Parameters
    ----------
    rows : ndarray of shape (N, D)
    n_components : int
        K.
    n : int
    rng : Generator
    """
    kinds = np.arange(n) % 4
    sizes = np.where(np.arange(n) % 8 < 4, n_components, rng.integers(1, n_components + 1, size=n))
    few = (kinds == 2) | (np.arange(n) % 16 >= 8) & (kinds == 0)
    labels = _clusters_in_frames(rows, sizes, kinds, few, rng)
    for index in np.flatnonzero(kinds == 3):
        labels[index] = rng.integers(sizes[index], size=len(rows))
    return labels


def shared_cluster_labels(
    rows: Array, n_components: int, n: int, rng: np.random.Generator
) -> Labels:
    """Return allocations in which components share clusters, or are empty, (n, N).

    The rows of a cluster are divided at random among the components that share it: there are so
    many ways to do it that much of a diffuse posterior may be there, though each single allocation
    is far below the best one. No sequence of small steps need lead from one number of clusters, or
    of components that are not empty, to another. All pairs of these numbers take turns.

    Parameters
    ----------
    rows : ndarray of shape (N, D)
    n_components : int
        K.
    n : int
    rng : Generator

    Examples
    --------
    >>> rows = np.arange(6.0)[:, None]
    >>> labels = shared_cluster_labels(rows, 2, 3, np.random.default_rng(0))
    >>> sorted(len(np.unique(each)) for each in labels)
    [1, 2, 2]
    """
    pairs = [
        (size, filled) for filled in range(1, n_components + 1) for size in range(1, filled + 1)
    ]
    turns = (np.arange(n) + rng.integers(len(pairs))) % len(pairs)
    sizes, filled = np.array(pairs)[turns].T
    kinds = rng.integers(3, size=n)
    few = (kinds == 2) | (kinds == 0) & (rng.random(n) < 0.5)
    clusters = _clusters_in_frames(rows, sizes, kinds, few, rng)
    labels = np.empty_like(clusters)
    for index, (size, n_filled) in enumerate(zip(sizes, filled, strict=True)):
        hosts = np.concatenate([np.arange(size), rng.integers(size, size=n_filled - size)])
        shares = hosts == clusters[index][:, None]  # (N, filled)
        labels[index] = (shares * rng.random(shares.shape)).argmax(axis=1)
    return labels


def _clusters_in_frames(
    rows: Array,
    sizes: NDArray[np.intp],
    kinds: NDArray[np.intp],
    few: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Labels:
    """Return clusters (n, N) of standardised rows where the kind is 0, of whitened ones if 1 or 2.

    `few` marks those that look along a few axes only. Those of other kinds are one cluster.
    """
    centred = rows - rows.mean(axis=0)
    deviations = centred.std(axis=0)
    standard = centred / np.where(deviations > 0, deviations, 1.0)
    left, singular, _ = np.linalg.svd(standard, full_matrices=False)
    whole = singular > 1e-8 * max(singular[0], np.finfo(float).tiny)
    white = left[:, whole] * np.sqrt(len(rows))
    labels = np.zeros((len(sizes), len(rows)), dtype=np.intp)
    if not white.shape[1]:  # all rows are equal
        for index, size in enumerate(sizes):
            labels[index] = rng.integers(size, size=len(rows))
        return labels
    for kind, frame in enumerate((standard, white, white)):
        chosen = np.flatnonzero(kinds == kind)
        if not len(chosen):
            continue
        whole_frame = np.ones(frame.shape[1])
        emphasis = np.stack(
            [_few_axes(frame.shape[1], rng) if few[index] else whole_frame for index in chosen]
        )
        labels[chosen] = k_means_labels(frame, emphasis, sizes[chosen], rng)
    return labels


def _few_axes(n_axes: int, rng: np.random.Generator) -> Array:
    """Return a mask of one to four axes, either the leading ones or random ones."""
    n = int(rng.integers(1, min(n_axes, 4) + 1))
    mask = np.zeros(n_axes)
    mask[rng.permutation(n_axes)[:n] if rng.random() < 0.5 else np.arange(n)] = 1.0
    return mask
