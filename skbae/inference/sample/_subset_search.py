"""Starts for long data: a search over the allocations of some of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from skbae.energies._capabilities import CollapsibleEnergy
from skbae.inference._objective import Objective
from skbae.inference.sample._allocation_search import SearchPlan, search

# Rows whose allocations are searched: as many as one component needs this often, within bounds.
_ROWS_A_NUMBER, _FEWEST_ROWS, _MOST_ROWS = 4.0, 300, 1500
_PLAN = SearchPlan(n_starts=24, n_children=24, patience=2, max_generations=12, pool_size=4)


def models_by_subset_search(objective: Objective, rng: np.random.Generator) -> Any:
    """Return models given the best allocations of a random part of the rows.

    Parameters
    ----------
    objective : Objective
        Of a CollapsibleEnergy.
    rng : Generator

    Returns
    -------
    ArrayRecord
        A few models, the best allocation's first: modes of their conditionals given that many rows,
        to be improved on all rows.
    """
    energy = objective.require(CollapsibleEnergy, "searching for allocations")
    rows = objective.rows
    size = energy.allocation_size() * _ROWS_A_NUMBER
    n = min(len(rows.X), int(np.clip(size, _FEWEST_ROWS, _MOST_ROWS)))
    weights = None if rows.weights is None else rows.weights / rows.total
    chosen = rng.choice(len(rows.X), n, replace=rows.weights is not None, p=weights)
    mixture = energy.collapse(
        np.asarray(rows.X[np.sort(chosen)], dtype=np.float64), objective.temperature
    )
    pool = search(mixture, _PLAN, rng)
    counts, sums = mixture.sums(pool.labels)
    statistics = energy.allocated(counts / mixture.heat, mixture.moments(sums))
    return energy.maximise_posterior(statistics, objective.temperature)
