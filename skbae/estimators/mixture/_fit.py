"""Starts, energies and fitted attributes: parts of BayesianMixtureAutoEncoder.fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from skbae.energies.components._noise import Box
from skbae.energies.gaussian._mixture import BayesianGaussianMixture
from skbae.energies.mixture._completion import ConditionalRows
from skbae.energies.mixture._conjugate import SmoothConjugateMixture
from skbae.energies.mixture._coordinates import SmoothMixture
from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters
from skbae.estimators._checks import check_shape
from skbae.estimators._mixture import best_means, of_rows, random_codes
from skbae.estimators.gmm._fit import starts as gaussian_starts
from skbae.estimators.mixture._gaussian import Gaussian
from skbae.estimators.mixture._settings import with_noise
from skbae.inference.passes._rows import make_rows
from skbae.inference.passes._starting_points import MAX_DISTINCT, distinct_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.energies.mixture._conjugate import ConjugateMixture
    from skbae.estimators.mixture._settings import ComponentMixtureSettings
    from skbae.estimators.mixture._table import Table
    from skbae.inference.passes._rows import RowRunner

# Searches for modes on rows with gaps, at most.
_MOST_SEARCHES = 5
# Where rows may be far out, the share of rows that have no part in a start, those with the largest
# distance to the neighbour of this number, among so many rows.
_FAR_SHARE, _NEIGHBOURS, _MOST_NEIGHBOURS = 0.1, 5, 2000


def noise_box(settings: ComponentMixtureSettings, table: Table, rows: Rows) -> Box | None:
    """Return the box of the noise, if there is any."""
    if settings.noise is None:
        return None
    size = table.n_features
    lower, upper, whole = np.empty(size), np.empty(size), np.zeros(size, dtype=bool)
    for block, own in table.each(rows):
        found = block.component._box(own.X, block.place)
        lower[block.columns], upper[block.columns], whole[block.columns] = found
    for name, bound in (("lower", lower), ("upper", upper)):
        given = getattr(settings.noise, name)
        if given is not None:
            bound[:] = check_shape(f"{name} of noise", given, (size,), "(n_features,)")
    for block in table.blocks:
        for number, column in enumerate(block.columns):
            if upper[column] < lower[column] or ((upper == lower)[column] and not whole[column]):
                raise ValueError(
                    f"noise needs a box, and {block.place.column(number)} lies between "
                    f"{lower[column]:g} and {upper[column]:g}; drop the column, or give lower and "
                    "upper of noise"
                )
    return Box(lower, upper, np.log(upper - lower + whole), whole)


def plain_energy(
    settings: ComponentMixtureSettings, table: Table, rows: Rows, box: Box | None = None
) -> MixtureEnergy[Any]:
    """Return the energy with the floors of a fit to rows, without a prior."""
    factors = [
        block.component._fitting(settings.n_components, block.place, own, settings)
        for block, own in table.each(rows)
    ]
    return MixtureEnergy(with_noise(table.family(factors), box), settings.equal_weights)


def energy_with_prior(
    settings: ComponentMixtureSettings,
    table: Table,
    rows: Rows,
    runner: RowRunner,
    box: Box | None = None,
) -> ConjugateMixture | SmoothMixture:
    """Return the mixture with its prior; parameters given as None are computed from the rows."""
    factors = [
        block.component._with_prior(settings.n_components, block.place, prior)
        for block, prior in zip(table.blocks, settings.priors(table, rows, runner), strict=True)
    ]
    family = with_noise(table.family(factors), box)
    kind: Any = SmoothConjugateMixture
    if box is not None or not all(block.component._conjugate for block in table.blocks):
        kind = SmoothMixture
    elif type(table.alone) is Gaussian:
        kind = BayesianGaussianMixture
    concentration = np.full(family.n_components, settings.weight_concentration_prior)
    return of_rows(kind(family, concentration, settings.equal_weights), rows)


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
    same scale; the components of each block of columns fit the rows with these codes. Where rows
    may be far out, those that are far from all others have no part in this, and count as noise.
    """
    if type(table.alone) is Gaussian and settings.noise is None:
        own = table.alone.as_mixture(settings)
        return gaussian_starts(own, energy, rows, rng, runner, n_starts)
    X, weights = distinct_rows(rows, max(MAX_DISTINCT, 4 * settings.n_components))
    distinct = make_rows(X, weights)
    blocks = list(table.each(distinct))
    coordinates = np.concatenate(
        [block.component._coordinates(own.X, own) for block, own in blocks], axis=1
    )
    robust = settings.noise is not None or any(block.component._robust for block in table.blocks)
    near = _near_others(coordinates) if robust else np.ones(len(X), dtype=bool)
    codes = np.zeros((n_starts, settings.n_components, len(X)))
    if settings.init_params == "random":
        shape = np.ones(int(near.sum()))
        codes[..., near] = random_codes(shape, settings.n_components, n_starts, rng)
    else:
        codes[..., near] = _nearest(settings, coordinates[near], weights[near], rng, n_starts)
    family = energy.family.inner if settings.noise is not None else energy.family
    factors = [family] if table.alone is not None else family.families
    found = [
        block.component._start(factor, own.X, weights, codes, own, settings)
        for (block, own), factor in zip(blocks, factors, strict=True)
    ]
    components = found[0] if table.alone is not None else table.joined(found)
    # a group without rows has the weight of one
    unit = rows.total / len(X)
    counts = np.maximum(codes @ weights, unit)
    if settings.noise is not None:
        noise = np.full((n_starts, 1), max(weights[~near].sum(), unit))
        counts = np.concatenate([counts, noise], axis=1)
    if settings.equal_weights:
        counts = np.ones_like(counts)
    return MixtureParameters(counts / counts.sum(axis=1, keepdims=True), components)


def _near_others(coordinates: Array) -> NDArray[np.bool_]:
    """Return which rows (n, F) are not among those farthest from others.

    By the distance to a near one of at most so many rows that are looked at.
    """
    n = len(coordinates)
    some = coordinates[:: max(1, n // _MOST_NEIGHBOURS)]
    number = min(len(some) - 1, _NEIGHBOURS)
    if number < 1:
        return np.ones(n, dtype=bool)
    middle, scale = np.median(some, axis=0), np.subtract(*np.quantile(some, [0.75, 0.25], axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    tree = NearestNeighbors(n_neighbors=number + 1).fit((some - middle) / scale)
    distances = tree.kneighbors((coordinates - middle) / scale)[0][:, -1]
    return np.asarray(distances <= np.quantile(distances, 1 - _FAR_SHARE))


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
