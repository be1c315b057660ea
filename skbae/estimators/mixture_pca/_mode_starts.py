"""Where the search for the modes of a sampled mixture of PCA starts.

Fits by expectation maximisation lead to modes of high likelihood with large groups of rows, and
miss others: modes where the prior matters, or that k-means does not see. So allocations of rows to
components are searched too, with the components' parameters integrated out
(``energies/mixture_pca/_collapsed.py``), by two searches that never talk. A mode to which a single
start, or a single search, has led is a sign that there may be more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skbae.energies.mixture._collapsed import CollapsedMixture
from skbae.energies.mixture._energy import MixtureParameters
from skbae.energies.mixture_pca._collapsed import CollapsedPCA
from skbae.energies.mixture_pca._components import PCAComponents
from skbae.energies.mixture_pca._prior import PCAMixtureWithPrior
from skbae.estimators.mixture_pca._fit import NOISE_FLOOR, energy_with_prior, form_for, starts
from skbae.estimators.mixture_pca._settings import PCAMixtureForm, PCAMixtureSettings
from skbae.estimators.pca._fit import mean_variance
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.sample._allocation_modes import each_found_twice
from skbae.inference.sample._allocation_search import search
from skbae.inference.sample._mode_search import ModeStarts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.inference.passes._rows import RowRunner
    from skbae.inference.sample._allocation_modes import Pool

# Tolerance and iterations of the fits from which modes are searched.
_TOL, _MAX_ITER = 1e-5, 100
# Searches for allocations are made until two have found each mode within so many nats of the best,
# at most so many; they see so many rows at most, and so many leading axes of these.
_NEAR, _MAX_SEARCHES, _MAX_ROWS, _MAX_AXES = 5.0, 4, 2000, 12
# Modes that a search found are no starts if they are so many nats worse than the best.
_FAR = 20.0


def sampling_starts(
    settings: PCAMixtureSettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
) -> ModeStarts:
    """Return fits by expectation maximisation, and the best modes of searches for allocations.

    Where fewer components fit the rows equally well, most of the posterior of K components is on
    models in which some components have no rows. So the fits have 1, ..., K components, each
    completed by empty components. A search finds such allocations by itself.
    """
    n_components, form = settings.n_components, form_for(settings, rows)
    n_starts = max(settings.plans.mode_starts(len(rows.X)), settings.n_init)
    fits, empty = [], []
    floor = NOISE_FLOOR * mean_variance(rows)
    # k-means leads many starts to the same groups of rows
    diverse = settings
    if settings.init_params == "kmeans":
        diverse = replace(settings, init_params="k-means++")
    for size in range(n_components, 0, -1):
        smaller = replace(form, n_components=size, noise_floor=floor if size > 1 else 0.0)
        energy = smaller.energy()
        from_means = starts(diverse, energy, rows, rng, runner, n_starts if size > 1 else 1)
        n_at_rows = settings.plans.row_starts(len(rows.X))
        if size > 1 and n_at_rows:
            at_rows = replace(settings, init_params="random_from_data")
            more = starts(at_rows, energy, rows, rng, runner, n_at_rows)
            from_means = MixtureParameters.concatenate([from_means, more])
        found = expectation_maximisation(
            Objective(energy, rows, runner, settings.temperature, settings.tilt),
            from_means,
            tol=_TOL,
            max_iter=_MAX_ITER,
        )
        sound = found.params.take(np.isfinite(found.objective))
        fits.append(_with_empty_components(sound, form))
        beyond = np.arange(n_components) >= size
        empty.append(np.tile(beyond, (sound.n_models, 1)))
    n_fits = sum(len(part) for part in empty)
    origins = [np.arange(n_fits)]
    if n_components > 1:
        energy = energy_with_prior(settings, rows)
        for number, (models, without_rows) in enumerate(_searched(settings, energy, rows, rng)):
            fits.append(models)
            empty.append(without_rows)
            origins.append(np.full(len(without_rows), n_fits + number))
    return ModeStarts(
        MixtureParameters.concatenate(fits), np.concatenate(empty), np.concatenate(origins)
    )


def collapsed_components(
    energy: PCAMixtureWithPrior,
    X: Array,
    temperature: float,
    model_temperature: float,
    most_axes: int = _MAX_AXES,
) -> CollapsedPCA:
    """Return the components of rows (N, D), on their leading axes, integrated over their prior."""
    family = energy.family
    centre = X.mean(axis=0)
    n_axes = min(max(most_axes, 2 * family.n_latent), *X.shape)
    axes = np.linalg.svd(X - centre, full_matrices=False)[2][:n_axes]
    return CollapsedPCA(
        family.n_components,
        family.n_latent,
        family.prior,
        temperature,
        1.0 / model_temperature,
        X,
        axes,
        centre,
    )


def _searched(
    settings: PCAMixtureSettings,
    energy: PCAMixtureWithPrior,
    rows: Rows,
    rng: np.random.Generator,
) -> list[tuple[MixtureParameters, NDArray[np.bool_]]]:
    """Return models of the best allocations of each search, and which components are empty."""
    X = np.asarray(rows.X, dtype=np.float64)
    if len(X) > _MAX_ROWS:
        X = X[np.sort(rng.choice(len(X), _MAX_ROWS, replace=False))]
    components = collapsed_components(energy, X, settings.temperature, settings.model_temperature)
    mixture = CollapsedMixture(components, energy.concentration, energy.equal_weights)
    plan = settings.plans.mode_search(mixture.n_rows)
    pools: list[Pool] = []
    while len(pools) < 2 or (len(pools) < _MAX_SEARCHES and not each_found_twice(pools, _NEAR)):
        pools.append(search(mixture, plan, np.random.default_rng(rng.integers(2**63))))
    best = max(pool.log_mass[0] for pool in pools)
    found = [pool.labels[pool.log_mass > best - _FAR] for pool in pools]
    return [models_of(energy, mixture, components, labels) for labels in found if len(labels)]


def models_of(
    energy: PCAMixtureWithPrior,
    mixture: CollapsedMixture,
    collapsed: CollapsedPCA,
    labels: NDArray[np.intp],
) -> tuple[MixtureParameters, NDArray[np.bool_]]:
    """Return a model (S,) of each allocation (S, N), and which components have no rows (S, K).

    Components are in falling order of their rows. Those without are copies of the first.
    """
    counts, sums = mixture.sums(labels)
    order = np.argsort(-counts, axis=1, kind="stable")
    counts = np.take_along_axis(counts, order, axis=1)
    order = np.where(counts > 0, order, order[:, :1])
    sums = np.take_along_axis(sums, order[..., None], axis=1)
    weights = counts / counts.sum(axis=1, keepdims=True)
    if energy.equal_weights:
        weights = np.full(counts.shape, 1 / energy.n_components)
    used = np.take_along_axis(counts, np.where(counts > 0, np.arange(counts.shape[1]), 0), axis=1)
    components = collapsed.components(used, sums)
    if energy.family.tied_noise:
        noise = (weights * components.noise).sum(axis=1, keepdims=True)
        ceiling = 1 / noise[..., None]
        precisions = np.minimum(components.precisions, ceiling)
        components = replace(components, noise=noise, precisions=precisions)
    return MixtureParameters(weights, components), counts == 0


def _with_empty_components(params: MixtureParameters, form: PCAMixtureForm) -> MixtureParameters:
    """Return models completed to K components by copies of the first, with weight zero."""
    n_components, size = form.n_components, params.weights.shape[1]
    order = np.where(np.arange(n_components) < size, np.arange(n_components), 0)
    own = params.components
    weights = np.where(np.arange(n_components) < size, params.weights[:, order], 0.0)
    return MixtureParameters(
        np.full_like(weights, 1 / n_components) if form.equal_weights else weights,
        PCAComponents(
            own.means[:, order],
            own.components[:, order],
            own.precisions[:, order],
            own.noise if form.tied_noise else own.noise[:, order],
            own.directions[:, order, :0],
        ),
    )
