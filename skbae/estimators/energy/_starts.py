"""Models that fits of any energy start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._capabilities import (
    CollapsibleEnergy,
    ConjugateEnergy,
    GradientEnergy,
    StartableEnergy,
)
from skbae.energies.mixture._components import StartableFamily
from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters
from skbae.inference.passes._k_means import best_k_means
from skbae.inference.passes._starting_points import MAX_DISTINCT, distinct_rows
from skbae.operators._labels import one_hot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.energies._base import Energy
    from skbae.estimators.energy._settings import EnergySettings

# Share of a row's code that all components get alike at the start, so that none is without rows.
_SHARED = 0.1


def starting_models(
    settings: EnergySettings, energy: Energy, rows: Rows, rng: np.random.Generator
) -> Any:
    """Return models to start from: those given, from groups of rows, or from the prior.

    Raises
    ------
    TypeError
        If the energy has none of the capabilities that this takes; the message names them.
    """
    if settings.params_init is not None:
        return settings.params_init
    n = settings.n_init
    X, weights = distinct_rows(rows, MAX_DISTINCT)
    if isinstance(energy, StartableEnergy):
        return energy.starts(X, weights, n, rng)
    if isinstance(energy, MixtureEnergy) and isinstance(energy.family, StartableFamily):
        family = energy.family
        codes = _codes(settings, family.standard_rows(X), weights, energy.n_components, rng)
        soft = (1 - _SHARED) * codes + _SHARED / energy.n_components
        shares = (soft * weights).sum(axis=2)
        if energy.equal_weights:
            shares = np.ones_like(shares)
        components = family.start(X, soft * weights)
        return MixtureParameters(shares / shares.sum(axis=1, keepdims=True), components)
    if isinstance(energy, CollapsibleEnergy):
        temperature = settings.temperature or 1.0
        mixture = energy.collapse(X, temperature)
        codes = _codes(settings, mixture.standard_rows, weights, mixture.n_components, rng)
        counts, sums = mixture.sums(codes.argmax(axis=1))
        statistics = energy.allocated(counts * temperature, mixture.moments(sums))
        return energy.maximise_posterior(statistics, temperature)
    if isinstance(energy, ConjugateEnergy):
        return energy.draw_prior(n, rng)
    if isinstance(energy, GradientEnergy):
        return energy.constrain(energy.draw_prior_coordinates(n, rng))
    raise TypeError(
        "params_init must be given (models to start from), since "
        f"{type(energy).__name__} has none of the capabilities that make these: StartableEnergy, "
        "a mixture of a StartableFamily, ConjugateEnergy, GradientEnergy"
    )


def _codes(
    settings: EnergySettings, rows: Array, weights: Array, n_codes: int, rng: np.random.Generator
) -> Array:
    """Return the groups of standardised rows, one-hot (S, K, N)."""
    choose = _nearest_centres if settings.init_params == "kmeans" else _at_random
    labels = [choose(rows, weights, n_codes, rng) for _ in range(settings.n_init)]
    return np.asarray(one_hot(np.stack(labels), n_codes), dtype=np.float64)


def _nearest_centres(
    rows: Array, weights: Array, n_codes: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    if len(rows) <= n_codes:
        return np.arange(len(rows), dtype=np.intp)
    centres = best_k_means(rows, weights, n_codes, rng)
    away = np.square(centres).sum(axis=1) - 2 * rows @ centres.T
    return away.argmin(axis=1)


def _at_random(
    rows: Array, weights: Array, n_codes: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    return rng.integers(n_codes, size=len(rows))
