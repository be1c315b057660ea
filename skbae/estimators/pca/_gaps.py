"""PCA of rows with missing entries: the start of a fit, and sampled models.

PCA is the mixture of PCA with one component. That one's energy integrates missing entries out, at
any temperatures, and models are sampled from the modes of its posterior. A step takes a pass over
the rows, since known entries are not told by a mean and a covariance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skbae.energies.mixture._energy import MixtureParameters
from skbae.energies.mixture_pca._components import PCAComponents
from skbae.energies.mixture_pca._prior import PCAFamilyWithPrior, PCAMixtureWithPrior
from skbae.energies.pca._energy import PCAParameters
from skbae.energies.pca._incomplete import IncompletePCAEnergy
from skbae.estimators._sampling import run_charted
from skbae.estimators.pca._fit import best_model, find_spectrum, mean_variance
from skbae.estimators.pca._settings import largest_candidate
from skbae.estimators.pca._units import (
    known_per_row,
    prior_in_units,
    rows_in_units,
    run_from_units,
    unit_of,
)
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.optimise._mode import best_start, find_mode
from skbae.inference.passes._filled import filled_rows
from skbae.inference.passes._principal_axes import rows_with_covariance
from skbae.inference.passes._starting_points import distinct_rows
from skbae.inference.sample._mode_search import ModeStarts

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from skbae._types import Array, Rows, SamplingRun
    from skbae.estimators._progress import Steps
    from skbae.estimators.pca._settings import PCASettings
    from skbae.inference.passes._rows import RowRunner

# Least noise of a start from rows with filled entries, in units of the mean variance.
_LEAST_NOISE = 1e-3
# Directions without a prior have no energy, and melted ones would stay as they are: ranges of the
# prior precisions of a start, in units of those of the noise.
_PRECISIONS = (1e-7, 0.9)
# A search for the best dimension ends after so many dimensions in a row whose log evidence is so
# many nats below the largest.
_PATIENCE, _HOPELESS = 2, 10.0


@dataclass(frozen=True)
class SampledModels:
    """Draws of PCA of rows with missing entries, in the units of the rows.

    Attributes
    ----------
    run : SamplingRun
    params : PCAParameters
        The kept draws.
    reference : PCAParameters
        The mode that the best of them leads to.
    hmaxe : float
        Of the reference.
    """

    run: SamplingRun
    params: PCAParameters
    reference: PCAParameters
    hmaxe: float


def start_with_gaps(
    settings: PCASettings, rows: Rows, runner: RowRunner, rng: np.random.Generator
) -> PCAParameters:
    """Return the best model of rows in which missing entries are filled in."""
    X, weights = distinct_rows(rows)
    filled = rows_with_covariance(filled_rows(X, weights), weights, runner)
    spectrum = find_spectrum(settings, filled, runner, rng, "covariance_eigh")
    model, _ = best_model(spectrum, settings.temperature)
    # filled entries vary too little: codes that have melted among them may not have melted
    noise = np.maximum(model.noise, _LEAST_NOISE * spectrum.total_variance / len(spectrum.mean))
    ceiling = 0.9 / noise[:, None]
    return PCAParameters(
        model.means, model.components, np.minimum(model.precisions, ceiling), noise
    )


def explained_variance(
    rows: Rows, runner: RowRunner, params: PCAParameters, temperature: float
) -> Array:
    """Return the variances of rows along the components, (S, d), as their codes tell."""
    energy = IncompletePCAEnergy(*params.components.shape[1:])
    statistics = Objective(energy, rows, runner, temperature).expect(params)
    return energy.explained_variance(statistics, params)


def sample_with_gaps(
    settings: PCASettings,
    rows: Rows,
    runner: RowRunner,
    rng: np.random.Generator,
    open_progress: Callable[[], AbstractContextManager[Steps]],
) -> SampledModels:
    """Draw models of the given dimension, or of that with the largest evidence."""
    unit = unit_of(mean_variance(rows))
    scaled = rows_in_units(rows, unit)
    own = replace(settings, prior=prior_in_units(settings.prior, unit))
    best: tuple[SamplingRun, PCAMixtureWithPrior] | None = None
    since = 0
    if settings.number is not None:
        settings.check_can_sample_gaps(settings.number, rows.X.shape[1])
    for number in _dimensions(settings, rows):
        one = replace(own, n_components=number)
        energy, start = _energy_and_start(one, scaled, runner, rng)
        objective = Objective(energy, scaled, runner, settings.temperature)
        starts = ModeStarts.independent(start, np.zeros((1, 1), dtype=bool))
        with open_progress() as step:
            run = run_charted(objective, starts, rng, one, step)
        behind = -np.inf if best is None else _evidence(best[0]) - _evidence(run)
        since = since + 1 if behind > _HOPELESS else 0
        if behind < 0:
            best = run, energy
        if step.stopped or since >= _PATIENCE:
            break
    assert best is not None  # there is always a dimension to try
    run, energy = best
    if step.stopped and settings.by_evidence:
        run = replace(run, stopped=True)
    objective = Objective(energy, scaled, runner, settings.temperature)
    tau = settings.model_temperature
    mode = find_mode(objective, best_start(objective, run.params, tau), tau)
    draws, reference = (
        _of_mixture(energy.canonical(params)).in_units(1 / unit)
        for params in (run.params, mode.params)
    )
    n_known = known_per_row(rows)
    return SampledModels(
        run_from_units(run, unit, n_known, rows.total / tau),
        draws,
        reference,
        float(mode.hmaxe[0]) - n_known * float(np.log(unit)),
    )


def _evidence(run: SamplingRun) -> float:
    return float(run.log_evidence.mean())


def _dimensions(settings: PCASettings, rows: Rows) -> list[int | float | str | None]:
    """Return what to try as the number of components, in order."""
    if settings.by_evidence:
        return list(range(largest_candidate(*rows.X.shape) + 1))
    return [settings.n_components]


def _energy_and_start(
    settings: PCASettings, rows: Rows, runner: RowRunner, rng: np.random.Generator
) -> tuple[PCAMixtureWithPrior, MixtureParameters]:
    """Return PCA with its prior, as a mixture of one component, and its best fit."""
    model = start_with_gaps(settings, rows, runner, rng)
    n_components, n_features = model.components.shape[1:]
    settings.check_can_sample_gaps(n_components, n_features)
    plain = IncompletePCAEnergy(n_components, n_features)
    model = expectation_maximisation(Objective(plain, rows, runner, 1.0), _free(model)).params
    prior = settings.prior.completed(mean_variance(rows), n_components, rows.centre)
    family = PCAFamilyWithPrior(1, n_components, n_features, False, prior)
    energy = PCAMixtureWithPrior(family, np.ones(1)).of_incomplete_rows()
    own = _free(model)
    components = PCAComponents(
        own.means[:, None],
        own.components[:, None],
        own.precisions[:, None],
        own.noise[:, None],
        own.components[:, None, :0],
    )
    return energy, MixtureParameters(np.ones((1, 1)), components)


def _free(model: PCAParameters) -> PCAParameters:
    """Return a model of which no direction is without a prior, or has melted."""
    low, high = (bound / model.noise[:, None] for bound in _PRECISIONS)
    return replace(model, precisions=np.clip(model.precisions, low, high))


def _of_mixture(params: MixtureParameters) -> PCAParameters:
    own = params.components
    return PCAParameters(
        own.means[:, 0], own.components[:, 0], own.precisions[:, 0], own.noise[:, 0]
    )
