"""Searching for the heavy modes of a mixture over its allocations.

In more than a few dimensions Gibbs sampling does not leave the mode it starts in, and fits that
start from k-means find only modes close to its clusters. So this is a genetic search. The first
allocations are clusters of the rows in several coordinate systems, and random partitions, some with
fewer components. They are refined by redrawing every row's component with the models integrated
out. Then the best allocations have children, in which two components merge and another one splits;
children are refined too, the better ones with more redraws. Modes are kept in a pool, in which two
allocations are the same mode if few rows differ under the best matching of labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from skbae._types import Array
from skbae.energies._allocations import CollapsedModel, Labels
from skbae.inference.evidence._visited import canonical_labels
from skbae.inference.sample import _collapsed
from skbae.operators._labels import one_hot
from skbae.operators._linalg import triangular_inverse

# Rounds of refinement: (number of redraws, share of the candidates that go on to the next round,
# share of the rows that a redraw concerns).
_ROUNDS_OF_STARTS = ((10, 0.5, 0.6), (12, 0.5, 0.8), (18, 1.0, 0.9))
_ROUNDS_OF_CHILDREN = ((4, 0.25, 0.6), (8, 0.3, 0.8), (15, 1.0, 0.9))
# Parents are drawn from the pool with weights ``exp(-rank / _RANKS)``.
_RANKS = 4.0
# Share of the splits of a component that divide its rows by the values of one column.
_BY_COLUMN = 0.4
# Generations without progress that end a search, besides one for each column.
_FEWEST_IDLE = 2
# If this share of the refined starts are as high as the best, within the tolerance, and no column
# repeats its values, a search ends after so many generations without progress.
_EASY, _SHORT_PATIENCE = 0.2, 4
# Columns are tied if their commonest value has this share of the rows. Share of the children that
# lose rows by such values, and how many columns make a pattern at most.
_TIED, _BY_VALUES, _LONGEST_PATTERN = 0.2, 0.5, 4
# Columns may make patterns if their commonest value has this share of the rows. Of so many patterns
# drawn at random the more probable ones split a component.
_REPEATED, _PATTERNS = 0.1, 8
# Allocations that differ in at most this share of the rows, or in one row, are the same mode.
_SAME_MODE = 0.02
# An allocation close to a mode is kept as its variant if one of its components has less than the
# share _SAME_COMPONENT of its rows in common with the mode's component, and if its log mass is at
# most _VARIANTS_WITHIN nats below that of the best mode.
_SAME_COMPONENT, _VARIANTS_WITHIN, _MAX_VARIANTS = 0.5, 7.0, 8


@dataclass(frozen=True)
class SearchPlan:
    """Sizes of a search.

    Attributes
    ----------
    n_starts, n_children : int
        Allocations at the beginning, and in each generation.
    patience : int
        The search ends after so many generations in a row without progress, or twice as many where
        columns are tied.
    max_generations : int
    pool_size : int
        Modes to keep.
    tolerance : float
        Progress is an increase of the best log mass by more than so many nats, or another best
        mode.
    """

    n_starts: int = 64
    n_children: int = 64
    patience: int = 8
    max_generations: int = 60
    pool_size: int = 12
    tolerance: float = 3.0


def patience_for(n_columns: int, most: int) -> int:
    """Return how many generations without progress end a search of rows of so many columns.

    In few columns there are few ways to split a component, and starts find most modes.

    Examples
    --------
    >>> patience_for(1, 8), patience_for(13, 8)
    (3, 8)
    """
    return min(most, n_columns + _FEWEST_IDLE)


# -- modes ------------------------------------------------------------------------------------


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
    overlaps = _overlaps(labels, others, n_components)
    matched = [overlap[linear_sum_assignment(-overlap)].sum() for overlap in overlaps]
    return len(labels) - np.rint(matched).astype(np.intp)


def _overlaps(labels: Labels, others: Labels, n_components: int) -> Array:
    """Return the rows shared by components of others (P, N) and of an allocation, (P, K, K)."""
    ours = one_hot(labels[None], n_components)[0]
    theirs = one_hot(others, n_components).reshape(len(others) * n_components, -1)
    return (theirs @ ours.T).reshape(len(others), n_components, n_components)


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
    for index, overlap in enumerate(_overlaps(labels, others, n_components)):
        theirs, ours = linear_sum_assignment(-overlap)
        largest = np.maximum(overlap.sum(axis=1)[theirs], overlap.sum(axis=0)[ours])
        same[index] = np.all(overlap[theirs, ours] >= _SAME_COMPONENT * largest)
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

    def _insert(self, labels: Labels, log_mass: float, instead: int | None) -> None:
        if instead is not None:
            self.labels = np.delete(self.labels, instead, axis=0)
            self.log_mass = np.delete(self.log_mass, instead)
        place = int(np.searchsorted(-self.log_mass, -log_mass))
        self.labels = np.insert(self.labels, place, labels, axis=0)[: self.size]
        self.log_mass = np.insert(self.log_mass, place, log_mass)[: self.size]


# -- refinement -----------------------------------------------------------------------------


def refine(
    mixture: CollapsedModel,
    labels: Labels,
    rng: np.random.Generator,
    rounds: tuple[tuple[int, float, float], ...],
) -> tuple[Labels, Array]:
    """Redraw all rows' components several times, the better allocations more often.

    Parameters
    ----------
    mixture : CollapsedModel
    labels : ndarray of int of shape (S, N)
    rng : Generator
    rounds : tuple of (int, float, float)
        For each round the number of redraws, the share of the allocations that go on to the next
        round, and the share of the rows that a redraw concerns.

    Returns
    -------
    labels : ndarray of int of shape (S, N)
        The best allocation that each has passed through.
    log_mass : ndarray of shape (S,)
    """
    n = len(labels)
    state = _collapsed.init(mixture, labels)
    best, best_mass = labels.copy(), mixture.log_mass(state.allocations)
    active = np.arange(n)
    for n_redraws, share, block in rounds:
        for _ in range(n_redraws):
            state = _collapsed.redraw(mixture, state, rng, block)
            log_mass = mixture.log_mass(state.allocations)
            better = log_mass > best_mass[active]
            best_mass[active[better]] = log_mass[better]
            best[active[better]] = state.allocations.labels[better]
        n_left = max(2, round(share * len(active)))
        if n_left < len(active):
            chosen = np.argsort(-best_mass[active])[:n_left]
            active = active[chosen]
            state = _collapsed.init(mixture, best[active])
    return best, best_mass


# -- starts -----------------------------------------------------------------------------------


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
    centred = rows - rows.mean(axis=0)
    deviations = centred.std(axis=0)
    standard = centred / np.where(deviations > 0, deviations, 1.0)
    left, singular, _ = np.linalg.svd(standard, full_matrices=False)
    whole = singular > 1e-8 * max(singular[0], np.finfo(float).tiny)
    white = left[:, whole] * np.sqrt(len(rows))
    if not white.shape[1]:
        return rng.integers(n_components, size=(n, len(rows)))
    kinds = np.arange(n) % 4
    sizes = np.where(np.arange(n) % 8 < 4, n_components, rng.integers(1, n_components + 1, size=n))
    labels = np.empty((n, len(rows)), dtype=np.intp)
    few = (kinds == 2) | (np.arange(n) % 16 >= 8) & (kinds == 0)
    for kind, frame in enumerate((standard, white, white)):
        chosen = np.flatnonzero(kinds == kind)
        if not len(chosen):
            continue
        whole_frame = np.ones(frame.shape[1])
        emphasis = np.stack(
            [_few_axes(frame.shape[1], rng) if few[index] else whole_frame for index in chosen]
        )
        labels[chosen] = k_means_labels(frame, emphasis, sizes[chosen], rng)
    for index in np.flatnonzero(kinds == 3):
        labels[index] = rng.integers(sizes[index], size=len(rows))
    return labels


def _few_axes(n_axes: int, rng: np.random.Generator) -> Array:
    """Return a mask of one to four axes, either the leading ones or random ones."""
    n = int(rng.integers(1, min(n_axes, 4) + 1))
    mask = np.zeros(n_axes)
    mask[rng.permutation(n_axes)[:n] if rng.random() < 0.5 else np.arange(n)] = 1.0
    return mask


# -- children -------------------------------------------------------------------------------


def tied_columns(columns: Array, share: float = _TIED) -> NDArray[np.intp]:
    """Return the columns of (N, D) in which at least this share of the rows has the same value.

    Examples
    --------
    >>> tied_columns(np.array([[0.0, 1.0], [0.0, 2.0], [1.0, 3.0], [1.0, 4.0], [1.0, 5.0]]))
    array([0])
    """
    largest = [np.unique(column, return_counts=True)[1].max() for column in columns.T]
    return np.flatnonzero(np.array(largest) >= max(2, share * len(columns)))


def make_child(
    mixture: CollapsedModel,
    labels: Labels,
    tied: NDArray[np.intp],
    repeated: NDArray[np.intp],
    rng: np.random.Generator,
) -> Labels:
    """Return a child: two components merge and another splits, or one is purified.

    Parameters
    ----------
    mixture : CollapsedModel
    labels : ndarray of int of shape (N,)
    tied, repeated : ndarray of int
        Columns in which many rows have the same value, and those in which some have.
    rng : Generator
    """
    if len(tied) and rng.random() < _BY_VALUES:
        return purify(mixture, labels, tied, rng)
    return merge_and_split(mixture, labels, repeated, rng)


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
    """Return a child, in which a component has split into an empty one, or one freed by a merger.

    Parameters
    ----------
    mixture : CollapsedModel
    labels : ndarray of int of shape (N,)
    repeated : ndarray of int
        Columns in which some rows have the same value.
    rng : Generator
    """
    labels = labels.copy()
    counts = np.bincount(labels, minlength=mixture.n_components)
    used, empty = np.flatnonzero(counts), np.flatnonzero(counts == 0)
    if len(used) == 1 or (len(empty) and rng.random() < 0.5):
        if not len(empty):
            return labels
        free = int(empty[0])
    else:
        free = _merge(mixture, labels, used, rng)
    counts = np.bincount(labels, minlength=mixture.n_components)
    large = np.flatnonzero(counts >= 2)
    if not len(large):
        return labels
    weights = np.sqrt(counts[large])
    members = np.flatnonzero(labels == rng.choice(large, p=weights / weights.sum()))
    if rng.random() < _BY_COLUMN:
        if len(repeated) and rng.random() < 0.5:
            return _split_by_pattern(mixture, labels, members, free, repeated, rng)
        part = _part_by_column(mixture.columns[members], rng)
    else:
        part = _part_of(mixture.standard_rows[members], rng)
    labels[members[part]] = free
    return labels


def _merge(
    mixture: CollapsedModel, labels: Labels, used: NDArray[np.intp], rng: np.random.Generator
) -> int:
    """Give the rows of a random component to others, in place; return the emptied component."""
    free = int(rng.choice(used))
    members = labels == free
    others = used[used != free]
    if rng.random() < 0.2:  # at random, for refinement to sort
        labels[members] = rng.choice(others, int(members.sum()))
        return free
    merged = np.repeat(labels[None], len(others), axis=0)
    for index, other in enumerate(others):
        merged[index, members] = other
    value = mixture.log_joint(merged)
    labels[members] = rng.choice(others, p=_softmax(value))
    return free


def _softmax(value: Array) -> Array:
    """Return probabilities whose temperature follows the range of the log densities (S,)."""
    heat = max(2.0, 0.1 * (float(np.ptp(value)) + 1))
    chance = np.exp((value - value.max()) / heat)
    return chance / chance.sum()


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
    return split[rng.choice(len(split), p=_softmax(mixture.log_joint(split)))]


def _part_by_pattern(columns: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which of a component's rows (n, D) are equal to one of them in some columns."""
    n, size = columns.shape
    chosen = rng.permutation(size)[: int(rng.integers(1, min(size, _LONGEST_PATTERN) + 1))]
    return np.flatnonzero((columns[:, chosen] == columns[rng.integers(n), chosen]).all(axis=1))


def _part_by_column(columns: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return a component's rows (n, D) with the value of a random row in a column, or above it."""
    values = columns[:, rng.integers(columns.shape[1])]
    pivot = rng.choice(values)
    equal = np.flatnonzero(values == pivot)
    if 1 < len(equal) < len(values) and rng.random() < 0.5:
        return equal
    return np.flatnonzero(values > pivot)


def _part_of(rows: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return which of a component's rows (n, D) go to a new component."""
    n, size = rows.shape
    rows = rows - rows.mean(axis=0)
    if rng.random() < 0.6:  # whitened by the component's own covariance
        scatter = (rows.T @ rows + np.eye(size)) / (n + size)
        rows = rows @ triangular_inverse(np.linalg.cholesky(scatter).astype(np.float64)).T
    kind = rng.random()
    if kind < 0.35:  # the farthest rows
        typical = max(2.0, 0.15 * n)
        n_part = int(np.clip(rng.geometric(1 / typical), 1, max(1, n // 2)))
        return np.argsort(-(rows**2).sum(axis=1))[:n_part]
    if kind < 0.7:  # nearer to one of two centres
        first, second = rows[rng.choice(n, 2, replace=False)]
        for _ in range(4):
            nearer = ((rows - second) ** 2).sum(axis=1) < ((rows - first) ** 2).sum(axis=1)
            if not nearer.any() or nearer.all():
                break
            first, second = rows[~nearer].mean(axis=0), rows[nearer].mean(axis=0)
        return np.flatnonzero(nearer)
    if kind < 0.85:  # the neighbours of a row
        away = ((rows - rows[rng.integers(n)]) ** 2).sum(axis=1)
        return np.argsort(away)[: int(rng.integers(1, max(2, n // 2 + 1)))]
    along = rows @ rng.standard_normal(size)
    return np.flatnonzero(along > np.quantile(along, rng.uniform(0.3, 0.9)))


# -- the search -------------------------------------------------------------------------------


def search(mixture: CollapsedModel, plan: SearchPlan, rng: np.random.Generator) -> Pool:
    """Search for the allocations of highest density.

    Parameters
    ----------
    mixture : CollapsedModel
    plan : SearchPlan
    rng : Generator

    Returns
    -------
    Pool
    """
    n_components = mixture.n_components
    pool = Pool(mixture, plan.pool_size)
    if n_components == 1:
        labels = np.zeros((1, mixture.n_rows), dtype=np.intp)
        pool.add(labels, mixture.log_joint(labels))
        return pool
    starts = starting_labels(mixture.columns, n_components, plan.n_starts, rng)
    refined, log_mass = refine(mixture, starts, rng, _ROUNDS_OF_STARTS)
    pool.add(refined, log_mass)
    tied = tied_columns(mixture.columns)
    repeated = tied_columns(mixture.columns, _REPEATED)
    # where columns may be constant in components, there are many modes
    patience = plan.patience * (2 if len(tied) else 1)
    as_high = float(np.mean(log_mass > log_mass.max() - plan.tolerance))
    if not len(repeated) and as_high >= _EASY:
        patience = min(patience, _SHORT_PATIENCE)
    idle = 0
    for _ in range(plan.max_generations):
        before, leader = pool.log_mass[0], pool.labels[0]
        weights = np.exp(-np.arange(len(pool.labels)) / _RANKS)
        parents = rng.choice(len(pool.labels), plan.n_children, p=weights / weights.sum())
        children = np.stack(
            [make_child(mixture, pool.labels[parent], tied, repeated, rng) for parent in parents]
        )
        pool.add(*refine(mixture, children, rng, _ROUNDS_OF_CHILDREN))
        gain = pool.log_mass[0] - before
        moved = gain > 0.5 and (
            matched_distances(leader, pool.labels[:1], n_components)[0] > pool.radius
        )
        idle = 0 if moved or gain > plan.tolerance else idle + 1
        if idle == patience:
            break
    return pool
