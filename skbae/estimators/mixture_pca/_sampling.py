"""Sampling mixtures of PCA: from modes in charts, or, with many parameters, by chains over codes.

Charts serve any temperatures. Their cost grows with the square of the number of parameters, and at
T = tau chains over components and codes need only the rows' moments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.energies.mixture._collapsed import CollapsedMixture
from skbae.estimators._mixture_sampling import check_room_to_repeat
from skbae.estimators._sampling import run_charted
from skbae.estimators.mixture_pca._fit import rows_drawn
from skbae.estimators.mixture_pca._mode_starts import (
    collapsed_components,
    models_of,
    sampling_starts,
)
from skbae.inference.optimise._mode import find_mode
from skbae.inference.sample._allocation_modes import Pool
from skbae.inference.sample._allocation_search import refine, search
from skbae.inference.sample._pinned_chains import pinned_plan, sample_pinned
from skbae.inference.sample._search_agreement import pools_agree, searches_needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array, Rows, SamplingRun
    from skbae.energies._allocations import Labels
    from skbae.energies.mixture_pca._collapsed import CollapsedPCA
    from skbae.energies.mixture_pca._prior import PCAMixtureWithPrior
    from skbae.estimators.mixture_pca._settings import PCAMixtureSettings
    from skbae.inference._objective import Objective

# Searches see so many leading axes for each dimension of a component's code; their best modes are
# refined on as many axes as there are, but for the last.
_AXES, _ALL_AXES = 5, 100
_ROUNDS_ON_ALL_AXES = ((6, 0.5, 0.8), (10, 0.5, 0.9), (15, 1.0, 0.9))
# More searches than must agree.
_MORE_SEARCHES = 2
# Searches see so many rows at most; so many of their modes are then followed on all rows.
_MAX_ROWS, _FOLLOWED = 2000, 8
# Fits on all rows that differ by less in their log density (nats) are one.
_SAME_FIT = 1e-2


def repeated_rows(rows: Rows) -> Array | None:
    """Return rows of weight one, or None if weights are no whole numbers."""
    X = np.asarray(rows.X, dtype=np.float64)
    if rows.weights is None:
        return X
    times = np.rint(rows.weights)
    if not np.array_equal(times, rows.weights):
        return None
    check_room_to_repeat(rows)
    return np.repeat(X, times.astype(np.intp), axis=0)


def search_modes(
    settings: PCAMixtureSettings, energy: PCAMixtureWithPrior, X: Array, rng: np.random.Generator
) -> tuple[Pool, CollapsedPCA, list[str]]:
    """Return the modes of several searches, and a doubt if they do not agree about the best.

    The components are those that the modes' allocations are of.
    """
    n_components = energy.n_components
    n_axes = max(12, _AXES * energy.family.n_latent)
    leading, whole = (
        collapsed_components(energy, X, settings.temperature, settings.temperature, n)
        for n in (n_axes, _ALL_AXES)
    )
    prior = energy.concentration, energy.equal_weights
    on_leading, mixture = CollapsedMixture(leading, *prior), CollapsedMixture(whole, *prior)
    plan = settings.plans.mode_search(len(X))
    needed = searches_needed(n_components)
    pools: list[Pool] = []
    agreeing = 0
    while agreeing < needed and len(pools) < needed + _MORE_SEARCHES:
        own = np.random.default_rng(rng.integers(2**63))
        pool = Pool(mixture, plan.pool_size)
        labels = search(on_leading, plan, own).labels
        pool.add(*refine(mixture, labels, own, _ROUNDS_ON_ALL_AXES))
        pools.append(pool)
        pools.sort(key=lambda each: -each.log_mass[0])
        agreeing = sum(each is pools[0] or pools_agree(pools[0], each) for each in pools)
    heights = ", ".join(f"{pool.log_mass[0]:.1f}" for pool in pools)
    joined = pools[0]
    for other in pools[1:]:
        joined.add(other.labels, other.log_mass)
    doubt = f"independent searches found different best modes (log densities {heights})"
    return joined, whole, [doubt] if agreeing < needed else []


def _on_all_rows(
    objective: Objective,
    energy: PCAMixtureWithPrior,
    X: Array,
    pool: Pool,
    components: CollapsedPCA,
) -> tuple[Labels, Array]:
    """Return allocations (J, N) of all rows that modes of some rows lead to, with log densities."""
    mixture = CollapsedMixture(components, energy.concentration, energy.equal_weights)
    models, _ = models_of(energy, mixture, components, pool.labels[:_FOLLOWED])
    found = find_mode(objective, energy.canonical(models), objective.temperature)
    order = np.argsort(-found.log_target, kind="stable")
    kept = [order[0]]
    for index in order[1:]:
        if found.log_target[kept[-1]] - found.log_target[index] > _SAME_FIT:
            kept.append(index)
    models = found.params.take(np.array(kept))
    joint = energy.log_joint(models, X, objective.rows.frame, objective.temperature)
    return joint.argmax(axis=1), found.log_target[kept]


def sample_by_codes(
    objective: Objective,
    energy: PCAMixtureWithPrior,
    rng: np.random.Generator,
    settings: PCAMixtureSettings,
    on_step: Callable[[int, float], bool],
) -> SamplingRun:
    """Sample at T = tau, by chains that start in the best modes of searches over allocations."""
    X = repeated_rows(objective.rows)
    if X is None:
        raise ValueError(
            f"{settings.estimator}: with so many parameters models are sampled by codes drawn for "
            "each row, and sample_weight must be whole numbers; set model_temperature=0 to fit the "
            "single best model"
        )
    searched = X
    if len(X) > _MAX_ROWS:
        searched = X[np.sort(rng.choice(len(X), _MAX_ROWS, replace=False))]
    pool, components, doubts = search_modes(settings, energy, searched, rng)
    labels, log_mass = pool.labels, pool.log_mass
    if searched is not X:
        labels, log_mass = _on_all_rows(objective, energy, X, pool, components)
    family = energy.family
    n_numbers = family.n_features * (1 + family.n_latent)
    plan = pinned_plan(len(X) * energy.n_components, n_numbers, settings.n_models)
    return sample_pinned(
        objective,
        labels,
        log_mass,
        energy.n_components,
        rng,
        plan=plan,
        doubts=doubts,
        on_step=on_step,
    )


def sample_models(
    objective: Objective,
    energy: PCAMixtureWithPrior,
    rng: np.random.Generator,
    settings: PCAMixtureSettings,
    on_step: Callable[[int, float], bool],
) -> SamplingRun:
    """Draw from ``p(m)``: the one place that chooses a sampler."""
    rows = objective.rows
    if rows.incomplete:
        settings.check_can_sample_gaps(rows.X.shape[1])
        drawn = rows_drawn(settings, rows, rng, objective.runner)
        starts = sampling_starts(settings, drawn, rng, objective.runner)
        return run_charted(objective, starts, rng, settings, on_step)
    whole = rows.weights is None or repeated_rows(rows) is not None
    if settings.samples_codes(rows.X.shape[0], rows.X.shape[1], whole):
        return sample_by_codes(objective, energy, rng, settings, on_step)
    starts = settings.plans.starts_at(
        settings.model_temperature, lambda: sampling_starts(settings, rows, rng, objective.runner)
    )
    return run_charted(objective, starts, rng, settings, on_step)
