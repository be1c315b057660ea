"""Sampling mixtures on many rows: Gibbs chains that start at the modes found on some of the rows.

With many rows a search over the allocations of all of them costs too much, and modes that are lower
than the best are negligible. So searches look at some of the rows, and their modes are improved on
all rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._capabilities import CollapsibleEnergy
from skbae.inference.optimise._mode import find_mode
from skbae.inference.passes._sources import rows_at
from skbae.inference.sample._allocation_search import SearchPlan, search
from skbae.inference.sample._allocation_starts import starting_labels
from skbae.inference.sample._gibbs import sample_conjugate

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import SamplingRun
    from skbae.inference._objective import Objective
    from skbae.inference.sample._gibbs import GibbsPlan

# Number of rows that are searched: a multiple of the numbers that an allocation's sums take up,
# within bounds.
_ROWS_A_NUMBER, _FEWEST_ROWS, _MOST_ROWS = 4.0, 300, 1500
_PLAN = SearchPlan(n_starts=24, n_children=24, patience=2, max_generations=12, pool_size=4)
# Chains start at modes whose log density is at most this many nats below the best one's.
_WINDOW = 20.0
# Largest difference of the log densities of the modes that independent searches lead to.
_SAME_MODE = 10.0


def models_by_subset_search(
    objective: Objective,
    rng: np.random.Generator,
    plan: SearchPlan = _PLAN,
    n_dispersed: int = 0,
) -> Any:
    """Return models given the best allocations of a random part of the rows.

    Parameters
    ----------
    objective : Objective
        Of a CollapsibleEnergy.
    rng : Generator
    plan : SearchPlan
    n_dispersed : int, default=0
        How many models, at the end, are given allocations that no search has touched.

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
        np.asarray(rows_at(rows.X, np.sort(chosen)), dtype=np.float64), objective.temperature
    )
    labels = search(mixture, plan, rng).labels
    if n_dispersed:
        others = starting_labels(mixture.columns, mixture.n_components, n_dispersed, rng)
        labels = np.concatenate([labels, others])
    counts, sums = mixture.sums(labels)
    statistics = energy.allocated(counts / mixture.heat, mixture.moments(sums))
    return energy.maximise_posterior(statistics, objective.temperature)


def chain_starts(
    objective: Objective,
    fitted: Any,
    n_chains: int,
    rng: np.random.Generator,
) -> tuple[Any, list[str]]:
    """Return models for chains on many rows to start from, and reasons for doubt.

    The starts are the best modes that fits and two searches on some of the rows lead to: with many
    rows other modes are lighter by far more than their width. The searches are independent, so that
    it counts against a result if they lead to modes of different height.

    Parameters
    ----------
    objective : Objective
        Of a CollapsibleEnergy.
    fitted : ArrayRecord
        Fits to begin with.
    n_chains : int
    rng : Generator

    Returns
    -------
    starts : ArrayRecord
    doubts : list of str
    """
    searched = [models_by_subset_search(objective, rng) for _ in range(2)]
    parts = [*searched, fitted]
    joined = type(fitted).concatenate(parts)
    source = np.repeat(np.arange(len(parts)), [part.n_models for part in parts])
    settings: dict[str, Any] = {"tol": 1e-4, "max_iter": 30}
    found = find_mode(objective, joined, objective.temperature, **settings)
    leading = []
    for number in range(len(parts)):
        own = np.flatnonzero(source == number)
        leading.append(own[int(np.argmax(found.log_target[own]))])
    best = found.params.take(np.array(leading))
    found = find_mode(objective, best, objective.temperature, tol=1e-6, max_iter=300)
    heights = found.log_target[: len(searched)]
    doubts = []
    if np.ptp(heights) > _SAME_MODE:
        listed = ", ".join(f"{value:.1f}" for value in heights)
        doubts = [f"independent searches lead to modes of different log density ({listed})"]
    good = np.flatnonzero(found.log_target >= found.log_target.max() - _WINDOW)
    return found.params.take(np.resize(good, n_chains)), doubts


def sample_many_rows(
    objective: Objective,
    fitted: Any,
    rng: np.random.Generator,
    *,
    n_chains: int,
    plan: GibbsPlan,
    on_step: Callable[[int, float], bool] | None = None,
) -> SamplingRun:
    """Sample at T = tau by Gibbs chains that start at the modes found on some of the rows.

    Parameters
    ----------
    objective : Objective
        Of a CollapsibleEnergy.
    fitted : ArrayRecord
        Fits from which modes are searched besides.
    rng : Generator
    n_chains : int
    plan : GibbsPlan
    on_step : callable or None
        See :func:`~skbae.inference.sample._gibbs.sample_conjugate`.

    Returns
    -------
    SamplingRun
        With a doubt if independent searches lead to modes of different height.
    """
    starts, doubts = chain_starts(objective, fitted, n_chains, rng)
    run = sample_conjugate(objective, starts, rng, plan=plan, on_step=on_step)
    return replace(run, doubts=(*run.doubts, *doubts))
