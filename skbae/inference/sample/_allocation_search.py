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

from skbae._types import Array
from skbae.energies._allocations import CollapsedModel, Labels
from skbae.inference.sample import _collapsed
from skbae.inference.sample._allocation_children import Breeding
from skbae.inference.sample._allocation_modes import Pool, matched_distances
from skbae.inference.sample._allocation_starts import starting_labels

# Rounds of refinement: (number of redraws, share of the candidates that go on to the next round,
# share of the rows that a redraw concerns).
_ROUNDS_OF_STARTS = ((10, 0.5, 0.6), (12, 0.5, 0.8), (18, 1.0, 0.9))
_ROUNDS_OF_CHILDREN = ((4, 0.25, 0.6), (8, 0.3, 0.8), (15, 1.0, 0.9))
# Generations without progress that end a search, besides one for each column.
_FEWEST_IDLE = 2
# If this share of the refined starts are as high as the best, within the tolerance, and no column
# repeats its values, a search ends after so many generations without progress.
_EASY, _SHORT_PATIENCE = 0.2, 4


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
    pool_size: int = 24
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
    breeding = Breeding.of(mixture)
    # where columns may be constant in components, there are many modes
    patience = plan.patience * (2 if len(breeding.tied) else 1)
    as_high = float(np.mean(log_mass > log_mass.max() - plan.tolerance))
    if not len(breeding.repeated) and as_high >= _EASY:
        patience = min(patience, _SHORT_PATIENCE)
    idle = 0
    for _ in range(plan.max_generations):
        before, leader = pool.log_mass[0], pool.labels[0]
        children = breeding.generation(pool, plan.n_children, rng)
        pool.add(*refine(mixture, children, rng, _ROUNDS_OF_CHILDREN))
        gain = pool.log_mass[0] - before
        moved = gain > 0.5 and (
            matched_distances(leader, pool.labels[:1], n_components)[0] > pool.radius
        )
        idle = 0 if moved or gain > plan.tolerance else idle + 1
        if idle == patience:
            break
    return pool


def challenge(
    mixture: CollapsedModel, labels: Labels, n: int, size: int, rng: np.random.Generator
) -> Pool:
    """Return allocations that chains have come to, and refined children of them.

    Searches that missed a mode may have missed it in the same way. Chains go their own way, and
    what they find may be one step from where no search has been.

    Parameters
    ----------
    mixture : CollapsedModel
        Of two components or more.
    labels : ndarray of int of shape (S, N)
    n : int
        Number of children.
    size : int
        Modes to keep.
    rng : Generator
    """
    pool = Pool(mixture, size)
    pool.add(labels, mixture.log_mass(_collapsed.init(mixture, labels).allocations))
    children = Breeding.of(mixture).generation(pool, n, rng)
    pool.add(*refine(mixture, children, rng, _ROUNDS_OF_CHILDREN))
    return pool
