"""Starts and fitted attributes of mixtures of PCA: parts of BayesianMixturePCAAutoEncoder.fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies.mixture._completion import ConditionalRows
from skbae.energies.mixture._energy import MixtureParameters
from skbae.energies.mixture_pca._components import (
    PCAComponents,
    PCAMixture,
    models_from_assignment,
    n_directions,
    nearest_mean_components,
    orthonormal_rows,
)
from skbae.energies.mixture_pca._prior import PCAFamilyWithPrior, PCAMixtureWithPrior
from skbae.estimators._mixture import initial_means
from skbae.estimators.mixture_pca._settings import PCAMixtureForm, PCAMixtureSettings
from skbae.estimators.pca._fit import best_model, mean_variance
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.passes._filled import filled_rows
from skbae.inference.passes._principal_axes import (
    choose_solver,
    layout_of,
    leading_axes,
    rows_with_covariance,
)
from skbae.inference.passes._rows import make_rows
from skbae.inference.passes._starting_points import distinct_rows

if TYPE_CHECKING:
    from skbae._types import Array, Rows
    from skbae.inference.passes._rows import RowRunner


# Smallest noise variance of a component, relative to the mean variance of a feature; it keeps
# components from collapsing onto few rows. A single component has all rows and needs no such bound.
NOISE_FLOOR = 1e-6
# Passes by which the subspace of each initial group of rows is found.
_PASSES_TO_START = 2
# Tables of so few distinct rows have many modes, and fits cost next to nothing: so many more starts
# have means at random rows, unless their means and directions are more numbers.
_FEW_ROWS, _STARTS_AT_ROWS, _MOST_NUMBERS = 20, 30, 1_000_000


@dataclass(frozen=True)
class PCAMixtureModels(ArrayRecord):
    """Kept models: the fitted attributes with a leading axis S, components in matching order.

    Attributes
    ----------
    weights : ndarray of shape (S, K)
    means : ndarray of shape (S, K, D)
    components : ndarray of shape (S, K, d, D)
    component_precisions : ndarray of shape (S, K, d)
    noise_variance : ndarray of shape (S, K), or (S,) where it is tied
    explained_variance : ndarray of shape (S, K, d)
    """

    weights: Array
    means: Array
    components: Array
    component_precisions: Array
    noise_variance: Array
    explained_variance: Array


# -- energies --------------------------------------------------------------------------------------


def form_for(settings: PCAMixtureSettings, rows: Rows) -> PCAMixtureForm:
    """Return the form of models of these rows."""
    floor = 0.0 if settings.n_components == 1 else NOISE_FLOOR * mean_variance(rows)
    return settings.form(rows.X.shape[1], floor)


def energy_with_prior(settings: PCAMixtureSettings, rows: Rows) -> PCAMixtureWithPrior:
    """Return the mixture with its prior; parameters given as None are computed from the rows."""
    family = PCAFamilyWithPrior(
        settings.n_components,
        settings.n_latent,
        rows.X.shape[1],
        settings.tied_noise,
        settings.prior.completed(mean_variance(rows), settings.n_latent, rows.centre),
    )
    concentration = np.full(settings.n_components, settings.weight_concentration_prior)
    return PCAMixtureWithPrior(family, concentration, settings.equal_weights)


# -- starts ----------------------------------------------------------------------------------------


def starts(
    settings: PCAMixtureSettings,
    energy: PCAMixture,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
    n_starts: int,
) -> MixtureParameters:
    """Return models that fit the groups of rows nearest to initial means."""
    family = energy.family
    # searches for modes fit fewer components than the settings say
    settings = replace(settings, n_components=energy.n_components)
    means = initial_means(settings, rows, rng, runner, n_starts)
    variance, shape = mean_variance(rows), means.shape[:2]
    q = family.n_latent + n_directions(family.n_latent, family.n_features)
    # initial directions are random and ignore the rows, so that the order of the rows has no effect
    basis = orthonormal_rows(rng.standard_normal((*shape, q, family.n_features)))
    weights = np.full(shape, 1 / energy.n_components)
    for _ in range(_PASSES_TO_START):
        components = nearest_mean_components(family, means, variance, basis)
        assigned = MixtureParameters(weights, components)
        kernel = energy.expectation(assigned, rows.frame, np.float64, 0.0, 0.0)
        statistics = runner.reduce(kernel, rows)
        best = family.maximise(
            statistics.counts, statistics.moments, components, settings.temperature
        )
        basis = best.basis
    # of a distinct row, so that a common factor of all weights, or giving all rows twice, makes no
    # difference
    unit = rows.total / len(distinct_rows(rows)[0])
    return models_from_assignment(energy, statistics, assigned, settings.temperature, unit)


def starts_of_fit(
    settings: PCAMixtureSettings,
    energy: PCAMixture,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
) -> MixtureParameters:
    """Return the starts of a single fit: as the settings say, and more where rows are few."""
    models = starts(settings, energy, rows, rng, runner, settings.n_init)
    family = energy.family
    size = family.n_latent + n_directions(family.n_latent, family.n_features)
    numbers = energy.n_components * (1 + size) * family.n_features
    n_more = min(_STARTS_AT_ROWS, _MOST_NUMBERS // numbers)
    many = len(distinct_rows(rows)[0]) > _FEW_ROWS
    if many or not n_more or settings.annealing is not None:
        return models
    at_rows = replace(settings, init_params="random_from_data")
    more = starts(at_rows, energy, rows, rng, runner, n_more)
    return MixtureParameters.concatenate([models, more])


def starts_with_gaps(
    settings: PCAMixtureSettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
) -> MixtureParameters:
    """Return models that fit rows in which missing entries are filled in."""
    filled = rows_filled(rows)
    if settings.n_components == 1:
        models = closed_form(settings, filled, runner, rng)
    else:
        energy = form_for(settings, filled).energy()
        models = starts_of_fit(settings, energy, filled, rng, runner)
    own = models.components
    own = replace(own, directions=own.directions[:, :, :0])
    if settings.temperature == 0:
        return replace(models, components=own)
    # directions without a prior have no energy; melted ones would stay as they are
    least = 0.1 / np.broadcast_to(own.noise, own.means.shape[:2])[..., None]
    precisions = np.clip(own.precisions, 1e-6 * least, 9.0 * least)
    return replace(models, components=replace(own, precisions=precisions))


def rows_drawn(
    settings: PCAMixtureSettings, rows: Rows, rng: np.random.Generator, runner: RowRunner
) -> Rows:
    """Return distinct rows in which missing entries are drawn from a fit to the known ones."""
    settings = replace(settings, temperature=1.0, tilt=0.0, n_init=1, annealing=None)
    energy = form_for(settings, rows).energy().of_incomplete_rows()
    start = starts_with_gaps(settings, rows, rng, runner)
    best = int(np.argmax(Objective(energy, rows, runner, 1.0).expect(start).objective))
    fit = expectation_maximisation(
        Objective(energy, rows, runner, 1.0), start.take(slice(best, best + 1))
    )
    X, weights = distinct_rows(rows)
    bound = energy.bind(fit.params, rows.frame, np.float64)
    return make_rows(ConditionalRows(X, bound, 1.0).sample(1, rng)[0], weights)


def rows_filled(rows: Rows) -> Rows:
    """Return distinct rows in which missing entries are filled in."""
    X, weights = distinct_rows(rows)
    return make_rows(filled_rows(X, weights), weights)


def closed_form(
    settings: PCAMixtureSettings, rows: Rows, runner: RowRunner, rng: np.random.Generator
) -> MixtureParameters:
    """Return the best model of a single component without tilt, which is that of PCA."""
    mean_variance(rows)  # raises where it is zero
    n_rows, n_features = rows.X.shape
    solver = choose_solver(n_rows, n_features, settings.n_latent, layout_of(rows.X))
    if solver == "covariance_eigh":
        rows = rows_with_covariance(rows.X, rows.weights, runner)
    spectrum = leading_axes(rows, runner, rng, solver, settings.n_latent)
    best, _ = best_model(spectrum, settings.temperature)
    components = PCAComponents(
        best.means[:, None],
        best.components[:, None],
        best.precisions[:, None],
        best.noise[:, None],
        best.components[:, None, :0],
    )
    return continued(MixtureParameters(np.ones((1, 1)), components), rng)


def continued(fitted: MixtureParameters, rng: np.random.Generator) -> MixtureParameters:
    """Return a fitted model as a start, with random directions in which subspaces may turn."""
    own = fitted.components
    n_components, n_latent, n_features = own.components.shape[1:]
    shape = (n_components, n_directions(n_latent, n_features), n_features)
    more = np.concatenate([own.components[0], rng.standard_normal(shape)], axis=1)
    directions = orthonormal_rows(more)[None, :, n_latent:]
    return replace(fitted, components=replace(own, directions=directions))


# -- results ---------------------------------------------------------------------------------------


def in_units(params: MixtureParameters, unit: float) -> MixtureParameters:
    """Return the same models of rows in other units."""
    return replace(params, components=params.components.in_units(unit))


def as_models(
    energy: PCAMixture,
    params: MixtureParameters,
    rows: Rows,
    runner: RowRunner,
    temperature: float,
) -> PCAMixtureModels:
    """Return models in the form of ``models_``; explained variances take a pass over the rows."""
    components = params.components
    kernel = energy.expectation(params, rows.frame, np.float64, temperature, 0.0)
    statistics = runner.reduce(kernel, rows)
    explained = energy.family.explained_variance(statistics.counts, statistics.moments, components)
    noise = components.noise
    return PCAMixtureModels(
        params.weights,
        components.means,
        components.components,
        components.precisions,
        noise[:, 0] if energy.family.tied_noise else noise,
        explained,
    )


def as_parameters(models: PCAMixtureModels) -> MixtureParameters:
    """Return the energy's parameters of models: the inverse of :func:`as_models`."""
    noise = models.noise_variance
    components = PCAComponents(
        models.means,
        models.components,
        models.component_precisions,
        noise[:, None] if noise.ndim == 1 else noise,
        models.components[:, :, :0],
    )
    return MixtureParameters(models.weights, components)


def reference_attributes(models: PCAMixtureModels) -> dict[str, Any]:
    """Return the fitted attributes of the one reference model."""
    return {
        "weights_": models.weights[0],
        "means_": models.means[0],
        "components_": models.components[0],
        "component_precisions_": models.component_precisions[0],
        "noise_variance_": models.noise_variance[0],
        "explained_variance_": models.explained_variance[0],
    }
