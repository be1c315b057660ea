"""Where the search for the modes of a sampled Gaussian mixture starts, at any temperatures.

Where fewer components describe the rows as well (at high model temperatures, in particular), most
of ``p(m)`` is on models in which some components have no rows. So there are fits of 1, ..., K
components, each completed by empty ones. Such fits miss modes that k-means does not see, so
allocations of rows to components are searched too, with the components integrated out at the model
temperature, by searches that never talk. A mode to which a single start, or a single search, has
led is a sign that there may be more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skbae.energies.gaussian._components import GaussianParameters
from skbae.energies.mixture._energy import MixtureParameters
from skbae.estimators.gmm._fit import starts
from skbae.estimators.gmm._settings import relative_floor
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.sample._allocation_modes import each_found_twice
from skbae.inference.sample._allocation_search import search
from skbae.inference.sample._mode_search import ModeStarts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Rows
    from skbae.energies.gaussian._mixture import BayesianGaussianMixture
    from skbae.estimators.gmm._settings import GaussianMixtureForm, GaussianMixtureSettings
    from skbae.inference.passes._rows import RowRunner
    from skbae.inference.sample._allocation_modes import Pool

# Tolerance and iterations of the fits from which modes are searched.
_TOL, _MAX_ITER = 1e-5, 100
# Searches for allocations are made until two have found each mode within so many nats of the best,
# at most so many, for so many rows at most.
_NEAR, _MAX_SEARCHES, _MAX_ROWS = 5.0, 4, 2000
# So many of the modes that a search found are starts, if they are so many nats worse than the best
# at most.
_MOST, _FAR = 8, 20.0


def sampling_starts(
    settings: GaussianMixtureSettings,
    with_prior: BayesianGaussianMixture,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
) -> ModeStarts:
    """Return fits by expectation maximisation, and the best modes of searches for allocations."""
    n_components, form = settings.n_components, settings.form(rows.X.shape[1])
    n_starts = max(settings.plans.mode_starts(len(rows.X)), settings.n_init)
    # k-means leads many starts to the same groups of rows, and so would given values
    init = "k-means++" if settings.init_params == "kmeans" else settings.init_params
    own = replace(
        settings, init_params=init, weights_init=None, means_init=None, precisions_init=None
    )
    # all weights equal leave no component without rows
    fewest = n_components if form.equal_weights else 1
    fits, empty = [], []
    for size in range(n_components, fewest - 1, -1):
        floor = np.maximum(settings.floor(rows), relative_floor(rows, size))
        smaller = replace(own, n_components=size)
        energy = smaller.form(rows.X.shape[1]).energy(floor)
        from_means = starts(smaller, energy, rows, rng, runner, n_starts if size > 1 else 1)
        objective = Objective(energy, rows, runner, settings.temperature, settings.tilt)
        found = expectation_maximisation(objective, from_means, tol=_TOL, max_iter=_MAX_ITER)
        sound = found.params.take(np.isfinite(found.objective))
        fits.append(_with_empty_components(sound, form))
        empty.append(np.tile(np.arange(n_components) >= size, (sound.n_models, 1)))
    n_fits = sum(len(part) for part in empty)
    origins = [np.arange(n_fits)]
    if n_components > 1 and len(rows.X) <= _MAX_ROWS:
        for number, (models, without_rows) in enumerate(_searched(settings, with_prior, rows, rng)):
            fits.append(models)
            empty.append(without_rows & (not form.equal_weights))
            origins.append(np.full(len(without_rows), n_fits + number))
    return ModeStarts(
        MixtureParameters.concatenate(fits), np.concatenate(empty), np.concatenate(origins)
    )


def _searched(
    settings: GaussianMixtureSettings,
    energy: BayesianGaussianMixture,
    rows: Rows,
    rng: np.random.Generator,
) -> list[tuple[MixtureParameters, NDArray[np.bool_]]]:
    """Return models of the best allocations of each search, and which components are empty."""
    tau = settings.model_temperature
    mixture = energy.collapse(np.asarray(rows.X, dtype=np.float64), tau)
    plan = settings.plans.mode_search(len(rows.X))
    pools: list[Pool] = []
    while len(pools) < 2 or (len(pools) < _MAX_SEARCHES and not each_found_twice(pools, _NEAR)):
        pools.append(search(mixture, plan, np.random.default_rng(rng.integers(2**63))))
    best = max(pool.log_mass[0] for pool in pools)
    found = []
    for pool in pools:
        labels = pool.labels[pool.log_mass > best - _FAR][:_MOST]
        if not len(labels):
            continue
        counts, sums = mixture.sums(labels)
        order = np.argsort(-counts, axis=1, kind="stable")
        counts = np.take_along_axis(counts, order, axis=1)
        sums = np.take_along_axis(sums, order[..., None], axis=1)
        allocated = energy.allocated(counts / mixture.heat, mixture.moments(sums))
        models = energy.maximise_posterior(allocated, tau)
        weights = np.where(counts > 0, models.weights, 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        if energy.equal_weights:
            weights = models.weights
        found.append((MixtureParameters(weights, models.components), counts == 0))
    return found


def _with_empty_components(
    params: MixtureParameters, form: GaussianMixtureForm
) -> MixtureParameters:
    """Return models completed to K components by copies of the first, with weight zero."""
    size, components = params.weights.shape[1], params.components
    order = np.where(np.arange(form.n_components) < size, np.arange(form.n_components), 0)
    weights = np.where(np.arange(form.n_components) < size, params.weights[:, order], 0.0)
    factors = components.factors if form.tied else components.factors[:, order]
    return MixtureParameters(weights, GaussianParameters(components.means[:, order], factors))
