"""Searches for modes that are repeated until independent ones agree on the best mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.inference.sample._allocation_children import tied_columns
from skbae.inference.sample._allocation_modes import Pool, matched_distances
from skbae.inference.sample._allocation_search import search

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skbae.energies._allocations import CollapsedModel
    from skbae.inference.sample._allocation_plan import AllocationPlan
    from skbae.inference.sample._allocation_search import SearchPlan

# Searches agree if the log masses of their best modes differ by less, in nats.
_SAME_HEIGHT = 3.0
# With at least so many components, three searches must agree instead of two.
_MANY_COMPONENTS = 8
# Beyond so many tied columns, each asks for so many more searches.
_FEW_TIED, _FOR_TIED = 2, 2


def searches_needed(n_components: int) -> int:
    """Return how many independent searches must agree."""
    return 1 if n_components == 1 else 3 if n_components >= _MANY_COMPONENTS else 2


def searches_to_make(mixture: CollapsedModel, most: int) -> int:
    """Return how many searches to make in all, of which some must agree: at most `most` for ties.

    Components may be constant in tied columns, in as many combinations as there are subsets of
    these. Then two thirds of all searches may end at the same wrong mode.
    """
    needed = searches_needed(mixture.n_components)
    if needed == 1:
        return 1
    n_tied = len(tied_columns(mixture.columns))
    return max(needed, min(most, needed + _FOR_TIED * (n_tied - _FEW_TIED)))


def pools_agree(first: Pool, second: Pool) -> bool:
    """Return whether two searches have found the same best mode.

    The best of one is among the modes of the other, and neither has found anything better.
    """
    if abs(first.log_mass[0] - second.log_mass[0]) >= _SAME_HEIGHT:
        return False
    n_components = first.mixture.n_components
    radius = max(2, round(0.025 * first.mixture.n_rows))
    for own, other in ((first, second), (second, first)):
        distances = matched_distances(own.labels[0], other.labels, n_components)
        close = np.abs(other.log_mass - own.log_mass[0]) < _SAME_HEIGHT
        if np.any((distances <= radius) & close):
            return True
    return False


def pools_differ(first: Pool, second: Pool) -> bool:
    """Return whether one of two searches has found a mode near the best that the other has not."""
    lowest = max(first.log_mass[0], second.log_mass[0]) - _SAME_HEIGHT
    return any(
        other.nearest(labels, slack=2) is None
        for own, other in ((first, second), (second, first))
        for labels in own.labels[own.log_mass > lowest]
    )


def search_until_agreed(
    mixture: CollapsedModel,
    plan: AllocationPlan,
    rng: np.random.Generator,
    searcher: Callable[[CollapsedModel, SearchPlan, np.random.Generator], Pool] = search,
    on_stage: Callable[[str], None] | None = None,
    known: Sequence[Pool] = (),
) -> tuple[list[Pool], list[str]]:
    """Search independently until enough searches have found the same best mode.

    More are made where many columns are tied: see :func:`searches_to_make`. If these differ in
    other modes of about the same height, each has missed some, and all may have missed the best:
    one more search is made.

    Parameters
    ----------
    mixture : CollapsedModel
    plan : AllocationPlan
    rng : Generator
        Each search has a generator of its own, drawn from this one.
    searcher : callable
        Makes one search.
    on_stage : callable or None, default=None
        Called with a line of text before each search.
    known : sequence of Pool
        What is known already, each like the result of a search; at least one more search is made.

    Returns
    -------
    pools : list of Pool
        The best first.
    doubts : list of str
    """
    needed = searches_needed(mixture.n_components)
    fewest = searches_to_make(mixture, plan.max_tied_searches)
    most = max(fewest, plan.max_searches)
    pools = list(known)
    while True:
        if on_stage is not None:
            last = max(most, len(pools) + 1)
            on_stage(f"search {len(pools) + 1} for modes, of {fewest} to {last}")
        generator = np.random.default_rng(rng.integers(2**63))
        pools.append(searcher(mixture, plan.search, generator))
        pools.sort(key=lambda pool: -pool.log_mass[0])
        if len(pools) < fewest:
            continue
        agreeing = sum(pool is pools[0] or pools_agree(pools[0], pool) for pool in pools)
        if agreeing >= needed:
            if len(pools) > fewest or not any(pools_differ(pools[0], each) for each in pools[1:]):
                return pools, []
            continue
        if len(pools) >= most:
            best = ", ".join(f"{pool.log_mass[0]:.1f}" for pool in pools)
            doubt = f"independent searches found different best modes (log densities {best})"
            return pools, [doubt]
