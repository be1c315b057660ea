"""Starts, energies and fitted attributes: parts of BayesianMixtureAutoEncoder.fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.gaussian._mixture import BayesianGaussianMixture
from skbae.energies.mixture._completion import ConditionalRows
from skbae.energies.mixture._conjugate import SmoothConjugateMixture
from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters
from skbae.estimators._mixture import best_means, of_rows, random_codes
from skbae.estimators.gmm._fit import starts as gaussian_starts
from skbae.estimators.mixture._gaussian import Gaussian
from skbae.inference.passes._rows import make_rows
from skbae.inference.passes._starting_points import MAX_DISTINCT, distinct_rows

if TYPE_CHECKING:
    from skbae._types import Array, Rows
    from skbae.energies.mixture._conjugate import ConjugateMixture
    from skbae.estimators.mixture._settings import ComponentMixtureSettings
    from skbae.estimators.mixture._table import Table
    from skbae.inference.passes._rows import RowRunner

# Searches for modes on rows with gaps, at most.
_MOST_SEARCHES = 5


def plain_energy(
    settings: ComponentMixtureSettings, table: Table, rows: Rows
) -> MixtureEnergy[Any]:
    """Return the energy with the floors of a fit to rows, without a prior."""
    factors = [
        block.component._fitting(settings.n_components, block.place, own, settings)
        for block, own in table.each(rows)
    ]
    return MixtureEnergy(table.family(factors), settings.equal_weights)


def energy_with_prior(
    settings: ComponentMixtureSettings, table: Table, rows: Rows, runner: RowRunner
) -> ConjugateMixture:
    """Return the mixture with its prior; parameters given as None are computed from the rows."""
    factors = [
        block.component._with_prior(settings.n_components, block.place, prior)
        for block, prior in zip(table.blocks, settings.priors(table, rows, runner), strict=True)
    ]
    gaussian = isinstance(table.alone, Gaussian)
    kind: Any = BayesianGaussianMixture if gaussian else SmoothConjugateMixture
    concentration = np.full(settings.n_components, settings.weight_concentration_prior)
    return of_rows(kind(table.family(factors), concentration, settings.equal_weights), rows)


def starts(
    settings: ComponentMixtureSettings,
    table: Table,
    energy: MixtureEnergy[Any],
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
    n_starts: int,
) -> MixtureParameters:
    """Return models to start from, given codes that are chosen from the rows.

    Codes are those of groups of rows in coordinates in which columns of all kinds have about the
    same scale; the components of each block of columns fit the rows with these codes.
    """
    if isinstance(table.alone, Gaussian):
        own = table.alone.as_mixture(settings)
        return gaussian_starts(own, energy, rows, rng, runner, n_starts)
    X, weights = distinct_rows(rows, max(MAX_DISTINCT, 4 * settings.n_components))
    distinct = make_rows(X, weights)
    blocks = list(table.each(distinct))
    if settings.init_params == "random":
        codes = random_codes(np.ones(len(X)), settings.n_components, n_starts, rng)
    else:
        coordinates = [block.component._coordinates(own.X, own) for block, own in blocks]
        codes = _nearest(settings, np.concatenate(coordinates, axis=1), weights, rng, n_starts)
    family = energy.family
    factors = [family] if table.alone is not None else family.families
    found = [
        block.component._start(factor, own.X, weights, codes, own, settings)
        for (block, own), factor in zip(blocks, factors, strict=True)
    ]
    components = found[0] if table.alone is not None else table.joined(found)
    if settings.equal_weights:
        shares = np.full(codes.shape[:2], 1 / settings.n_components)
    else:
        # a group without rows has the weight of one
        counts = np.maximum(codes @ weights, rows.total / len(X))
        shares = counts / counts.sum(axis=1, keepdims=True)
    return MixtureParameters(shares, components)


def _nearest(
    settings: ComponentMixtureSettings,
    coordinates: Array,
    weights: Array,
    rng: np.random.Generator,
    n_starts: int,
) -> Array:
    """Return hard codes (S, K, n) of the groups of rows nearest to initial means."""
    n_components = settings.n_components
    choose = best_means(settings.init_params)
    codes = np.zeros((n_starts, n_components, len(coordinates)))
    for s in range(n_starts):
        means = choose(coordinates, weights, n_components, rng)
        squares = (means**2).sum(axis=1)[:, None] - 2 * means @ coordinates.T
        codes[s, squares.argmin(axis=0), np.arange(len(coordinates))] = 1
    return codes


def search_rows(
    energy: MixtureEnergy[Any], rows: Rows, models: MixtureParameters, rng: np.random.Generator
) -> list[Rows]:
    """Return sets of rows whose missing entries are drawn from a mixture of fitted models."""
    bound = energy.bind(models, rows.frame, np.float64)
    drawn = ConditionalRows(rows.X.astype(np.float64), bound, 1.0).sample(_MOST_SEARCHES, rng)
    return [make_rows(each, rows.weights) for each in drawn]
