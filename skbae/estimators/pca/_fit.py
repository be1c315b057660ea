"""Closed form, sampling and fitted attributes of PCA: parts of BayesianPCAAutoEncoder.fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies.pca._energy import PCAEnergy, PCAParameters, optimum
from skbae.energies.pca._prior import (
    BayesianPCAEnergy,
    Loadings,
    PCAModeEnergy,
    RowMoments,
)
from skbae.estimators._sampling import run_charted
from skbae.estimators.pca._settings import PCASettings, most_axes
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.optimise._mode import best_start, find_mode
from skbae.inference.passes._principal_axes import Spectrum, leading_axes

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array, EMResult, Rows, SamplingRun
    from skbae.inference.passes._principal_axes import RowsWithCovariance
    from skbae.inference.passes._rows import RowRunner


# The search for the mode starts from the optimum at this temperature if T is lower.
_COLDEST_START = 0.1
# With fewer rows (divided by tau) sampling starts from the prior. In the charts of PCA the lengths
# of loadings are normal scores, so that the posterior is close to normal from few rows on.
_FEW_ROWS = 4.0


@dataclass(frozen=True)
class PCAModels(ArrayRecord):
    """Kept models: the fitted attributes with a leading axis S.

    Components are in the order of their variance in each model, with the reference's signs.

    Attributes
    ----------
    components : ndarray of shape (S, d, D)
    mean : ndarray of shape (S, D)
    noise_variance : ndarray of shape (S,)
    explained_variance : ndarray of shape (S, d)
    component_precisions : ndarray of shape (S, d)
    """

    components: Array
    mean: Array
    noise_variance: Array
    explained_variance: Array
    component_precisions: Array


# -- rows ------------------------------------------------------------------------------------------


def mean_variance(rows: Rows) -> float:
    """Return the mean variance of a feature; raise ValueError if it is zero."""
    variance = float(np.mean(rows.scale**2))
    if variance == 0:
        raise ValueError(
            "all rows of X are equal: the variance of X, and so of the noise, would be zero"
        )
    return variance


def n_for_share(variances: Array, total_variance: float, share: float) -> int:
    """Return how many axes explain more than a share of the variance, as in scikit-learn's PCA."""
    reached = np.cumsum(variances) / total_variance
    return min(int(np.searchsorted(reached, share, side="right")) + 1, len(variances))


# -- one best model --------------------------------------------------------------------------------


def best_model(spectrum: Spectrum, temperature: float) -> tuple[PCAParameters, float]:
    """Return the best model, which has a closed form, and its ``Hmaxe_T``."""
    params, hmaxe = optimum(
        spectrum.mean[None],
        spectrum.axes[None],
        spectrum.variances[None],
        np.array([spectrum.total_variance]),
        temperature,
    )
    return params, float(hmaxe[0])


def find_spectrum(
    settings: PCASettings, rows: Rows, runner: RowRunner, rng: np.random.Generator, solver: str
) -> Spectrum:
    """Return the leading axes: a given number, or those that explain a given share of variance."""
    n_components = most_axes(rows.X) if settings.number is None else settings.number
    spectrum = leading_axes(rows, runner, rng, solver, n_components)
    if settings.share is None:
        return spectrum
    return spectrum.take(n_for_share(spectrum.variances, spectrum.total_variance, settings.share))


def tilted_model(
    settings: PCASettings,
    start: PCAParameters,
    rows: RowsWithCovariance,
    runner: RowRunner,
    on_iteration: Callable[[int, float], bool],
) -> EMResult:
    """Maximise the tilted mean of ``Hmax_T``, starting from the optimum of the plain mean."""
    n_components, n_features = start.components.shape[1:]
    energy = PCAEnergy(n_components, n_features, settings.temperature)
    return expectation_maximisation(
        Objective(energy, rows, runner, settings.temperature, settings.tilt),
        start,
        tol=settings.tol,
        max_iter=settings.max_iter,
        on_iteration=on_iteration,
    )


# -- sampled models --------------------------------------------------------------------------------


def row_moments(rows: RowsWithCovariance) -> RowMoments:
    """Return the mean of the rows, and their variances along their principal axes."""
    values, vectors = np.linalg.eigh(rows.covariance)
    return RowMoments(
        rows.centre,
        np.ascontiguousarray(vectors[:, ::-1]),
        np.maximum(values[::-1], 0.0),
        rows.total,
    )


def energy_with_prior(
    settings: PCASettings,
    moments: RowMoments,
    n_components: int,
    kind: type[BayesianPCAEnergy] = BayesianPCAEnergy,
) -> BayesianPCAEnergy:
    """Return PCA with its prior; parameters given as None are computed from the rows."""
    variance = float(moments.variances.mean())
    prior = settings.prior.completed(variance, n_components, moments.mean)
    return kind(n_components, prior, moments, settings.temperature)


def start_near_mode(energy: BayesianPCAEnergy) -> Loadings:
    """Return a model near the mode: the optimum at tau = 0, moved inside its domain.

    Melted directions, whose loadings would be zero, get small loadings; at T = 0, where loadings
    would be infinite, the optimum at a small temperature is taken.
    """
    moments, n_components = energy.moments, energy.n_components
    axes, variances = moments.axes.T[:n_components], moments.variances[:n_components]
    spectrum = Spectrum(moments.mean, axes, variances, float(moments.variances.sum()))
    model, _ = best_model(spectrum, max(energy.temperature, _COLDEST_START))
    noise = np.maximum(model.noise, 1e-3 * variances.max(initial=0.0))
    precisions = np.minimum(model.precisions, 1.0 / (1.1 * noise[:, None]))
    return energy.from_pca(PCAParameters(model.means, model.components, precisions, noise))


def sample_models(
    settings: PCASettings,
    energy: BayesianPCAEnergy,
    runner: RowRunner,
    rng: np.random.Generator,
    on_step: Callable[[int, float], bool],
) -> SamplingRun:
    """Draw models from ``p(m)``."""
    return run_charted(
        Objective(energy, energy.moments.as_one_row(), runner, energy.temperature),
        start_near_mode(energy),
        np.zeros((1, 1), dtype=bool),
        rng,
        settings,
        on_step,
        few_rows=_FEW_ROWS,
    )


def reference_model(
    settings: PCASettings, energy: BayesianPCAEnergy, run: SamplingRun, runner: RowRunner
) -> tuple[PCAParameters, float]:
    """Return the mode of ``p(m)`` found from the best known model, and its ``Hmaxe_T``."""
    mode_energy = energy_with_prior(
        settings, energy.moments, energy.n_components, kind=PCAModeEnergy
    )
    objective = Objective(mode_energy, energy.moments.as_one_row(), runner, energy.temperature)
    mode, tau = start_near_mode(energy), settings.model_temperature
    # first from a start that does not depend on the draws, then from the best draw if it is higher
    for others in ([], [run.params]):
        start = best_start(objective, Loadings.concatenate([mode, *others]), tau)
        found = find_mode(objective, start, tau)
        mode = found.params
    return energy.as_pca(mode), float(found.hmaxe[0])


# -- results ---------------------------------------------------------------------------------------


def variance_along(components: Array, covariance: Array) -> Array:
    """Return the variance of the rows along components (S, d, D), (S, d)."""
    return np.einsum("sde,sde->sd", components @ covariance, components)


def as_models(params: PCAParameters, explained: Array, reference: PCAParameters) -> PCAModels:
    """Return models in the form of ``models_``, with the signs of the reference's components."""
    agreement = np.einsum("sde,de->sd", params.components, reference.components[0])
    signs = np.where(agreement < 0, -1.0, 1.0)
    components = params.components * signs[..., None]
    return PCAModels(components, params.means, params.noise, explained, params.precisions)


def as_parameters(models: PCAModels) -> PCAParameters:
    """Return the energy's parameters of models: the inverse of :func:`as_models`."""
    return PCAParameters(
        models.mean, models.components, models.component_precisions, models.noise_variance
    )


def reference_attributes(models: PCAModels, rows: Rows) -> dict[str, Any]:
    """Return the fitted attributes of the one reference model."""
    explained = models.explained_variance[0]
    return {
        "components_": models.components[0],
        "mean_": models.mean[0],
        "noise_variance_": float(models.noise_variance[0]),
        "explained_variance_": explained,
        "explained_variance_ratio_": explained / float((rows.scale**2).sum()),
        "singular_values_": np.sqrt(rows.total * explained),
        "component_precisions_": models.component_precisions[0],
        "n_components_": models.components.shape[1],
    }
