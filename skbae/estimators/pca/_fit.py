"""Closed form, sampling and fitted attributes of PCA: parts of BayesianPCAAutoEncoder.fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln

from skbae._types import ArrayRecord
from skbae.energies.pca._eigenbasis import PCAInEigenbasis
from skbae.energies.pca._energy import NOISE_FLOOR, PCAEnergy, PCAParameters, optimum
from skbae.energies.pca._prior import (
    BayesianPCAEnergy,
    Loadings,
    PCAModeEnergy,
    RowMoments,
)
from skbae.estimators._sampling import run_charted, run_tempered, tell_total
from skbae.estimators.pca._settings import (
    MAX_SAMPLED_COORDINATES,
    PCASettings,
    can_nest,
    most_axes,
)
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.optimise._mode import best_start, find_mode
from skbae.inference.passes._principal_axes import (
    RowsWithCovariance,
    Spectrum,
    choose_solver,
    leading_axes,
)
from skbae.inference.sample._mode_search import ModeStarts
from skbae.inference.sample._nested import doubts_of_shape, sample_nested

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array, EMResult, Rows, SamplingRun
    from skbae.energies.pca._loadings import PCAPrior
    from skbae.estimators._stream import Stream
    from skbae.inference.passes._rows import RowRunner


# The search for the mode starts from the optimum at this temperature if T is lower.
_COLDEST_START = 0.1
# With fewer rows (divided by tau) sampling starts from the prior
# where the eigenbasis does not serve.
_FEW_ROWS = 4.0
# The same where this visits other model temperatures on its way.
_FEW_ROWS_OF_CURVES = 40.0
# Steps from the proposal in the rows' eigenbasis to the posterior, with those at the end, beyond
# which that sampler is not believed, and the least effective share of its first draws: where
# directions of nearly equal strength mix with the noise, frames are proposed far from the
# posterior, and populations may agree on a wrong answer.
_MOST_STEPS, _LEAST_SHARE = 5, 0.1
_FAR = (
    "directions of nearly equal strength mix with the noise, and the sampler proposes models far "
    "from the posterior"
)


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


def least_noise(rows: Rows) -> float:
    """Return a variance of the noise that is about zero, next to the variance of the rows."""
    # its floor is relative to the largest variance, which may be a few times that of all rows
    return 100 * NOISE_FLOOR * len(rows.scale) * mean_variance(rows)


def n_for_share(variances: Array, total_variance: float, share: float) -> int:
    """Return how many axes explain more than a share of the variance, as in scikit-learn's PCA."""
    reached = np.cumsum(variances) / total_variance
    return min(int(np.searchsorted(reached, share, side="right")) + 1, len(variances))


def minka_dimension(variances: Array, total: float) -> int:
    """Return the number of components of the largest evidence by Minka's Laplace approximation.

    Minka, T. P. (2000). Automatic choice of dimensionality for PCA. Equations 77 to 79.

    Parameters
    ----------
    variances : ndarray of shape (D,)
        Of the rows, decreasing.
    total : float
        Number of rows N.

    Examples
    --------
    >>> minka_dimension(np.array([10.0, 1.1, 1.0, 0.9]), 100.0)
    1
    """
    size = len(variances)
    if size < 2:
        return size
    lam = np.maximum(variances / variances[0], 0.0)
    tiny = 1e-15
    best, dimension = -np.inf, 0
    angles = 0.5 * (size - np.arange(size))
    log_areas = gammaln(angles) - angles * np.log(np.pi)
    for k in range(1, size):
        if lam[k - 1] < tiny:
            break
        rest = max(float(lam[k:].mean()), tiny)
        model = np.where(np.arange(size) < k, np.maximum(lam, tiny), rest)
        n_turns = size * k - k * (k + 1) / 2
        value = -k * np.log(2) + log_areas[:k].sum()
        value -= 0.5 * total * (np.log(lam[:k]).sum() + (size - k) * np.log(rest))
        value += 0.5 * (n_turns + k) * np.log(2 * np.pi) - 0.5 * k * np.log(total)
        rows, columns = np.triu_indices(size, 1)
        own = rows < k
        rows, columns = rows[own], columns[own]
        gaps = (lam[rows] - lam[columns]) * (1 / model[columns] - 1 / model[rows])
        value -= 0.5 * (np.log(np.maximum(gaps, tiny)) + np.log(total)).sum()
        if value > best:
            best, dimension = value, k
    return dimension


def moments_of_stream(stream: Stream, covariance: Array) -> RowsWithCovariance:
    """Return the mean and covariance of all rows of a stream; none of the rows is kept."""
    scale = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    shape = stream.n_rows, len(scale)
    none = np.broadcast_to(np.nan, shape)
    return RowsWithCovariance(none, None, stream.seen, stream.frame.centre, scale, covariance)


def covariance_of_model(models: PCAModels, total_variance: float) -> Array:
    """Return the covariance of rows to which a model was fitted, as far as the model tells it.

    What the components leave of the total variance is divided equally among other directions.
    """
    components, explained = models.components[0], models.explained_variance[0]
    n_components, size = components.shape
    rest = max(total_variance - float(explained.sum()), 0.0) / max(size - n_components, 1)
    scaled = components.T * (explained - rest)
    return np.asarray(scaled @ components + rest * np.eye(size))


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
    if settings.by_mle:
        return spectrum.take(minka_dimension(spectrum.variances, rows.total))
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
    energy = PCAEnergy(n_components, n_features)
    found = expectation_maximisation(
        Objective(energy, rows, runner, settings.temperature, settings.tilt),
        start,
        tol=settings.tol,
        max_iter=settings.max_iter,
        on_iteration=on_iteration,
    )
    return without_collapsed(found, attrgetter("noise"), start, least_noise(rows), settings)


def without_collapsed(
    found: EMResult,
    noise: Callable[[Any], Array],
    starts: Any,
    least: float,
    settings: Any,
) -> EMResult:
    """Return a result in which models that a negative tilt has made collapse are the worst.

    Such a tilt gives all weight to the few rows of largest density, which grows without limit as
    the noise goes to zero.

    Parameters
    ----------
    found : EMResult
        Of S models.
    noise : callable
        ``noise(params)`` is the variance of the noise, (S, ...).
    starts : ArrayRecord
        The models that the fit started from. Those without noise before are no better without
        a tilt.
    least : float
        Noise is about zero below this.
    settings : Settings

    Raises
    ------
    ValueError
        If all models have collapsed.
    """
    if settings.tilt >= 0:
        return found

    def collapsed(params: Any) -> Any:
        return (noise(params) <= least).reshape(params.n_models, -1).any(axis=1)

    lost = collapsed(found.params) & ~collapsed(starts)
    if lost.all():
        raise ValueError(
            f"with tilt={settings.tilt:g} the noise goes to zero around few rows, where the "
            "objective has no maximum; choose a tilt closer to 0, or fewer components"
        )
    return replace(found, objective=np.where(lost, -np.inf, found.objective))


# -- sampled models --------------------------------------------------------------------------------


def needs_covariance(n_rows: int, n_features: int, layout: str) -> bool:
    """Return whether the covariance of the features is the short way to the rows' moments."""
    return choose_solver(n_rows, n_features, None, layout) == "covariance_eigh"


def row_moments(rows: Rows, runner: RowRunner, rng: np.random.Generator) -> RowMoments:
    """Return what PCA sees of the rows: moments in the principal axes of their span."""
    if isinstance(rows, RowsWithCovariance):
        values, vectors = np.linalg.eigh(rows.covariance)
        axes, variances = np.ascontiguousarray(vectors[:, ::-1]), np.maximum(values[::-1], 0.0)
    else:
        n_axes = min(len(rows.X), len(rows.centre))
        spectrum = leading_axes(rows, runner, rng, "gram", n_axes)
        spectrum = spectrum.take(int((spectrum.variances > 0).sum()))
        axes, variances = np.ascontiguousarray(spectrum.axes.T), spectrum.variances
    return RowMoments(rows.centre, axes, variances, rows.total)


def prior_for(settings: PCASettings, moments: RowMoments, n_components: int) -> PCAPrior:
    """Return the prior, in which None has been replaced by what the data say."""
    return settings.prior.completed(moments.mean_variance, n_components, moments.mean)


def nested_posterior(
    settings: PCASettings, moments: RowMoments, n_components: int
) -> PCAInEigenbasis:
    """Return ``p(m)`` in the eigenbasis of the rows."""
    prior = prior_for(settings, moments, n_components)
    power = moments.total / settings.model_temperature
    return PCAInEigenbasis(n_components, prior, moments, settings.temperature, power)


def energy_with_prior(
    settings: PCASettings,
    moments: RowMoments,
    n_components: int,
    kind: type[BayesianPCAEnergy] = BayesianPCAEnergy,
) -> BayesianPCAEnergy:
    """Return PCA with its prior as an energy, in coordinates without rotations."""
    prior = prior_for(settings, moments, n_components)
    return kind(n_components, prior, moments)


def start_near_mode(energy: BayesianPCAEnergy, temperature: float) -> Loadings:
    """Return a model near the mode: the optimum at tau = 0, moved inside its domain.

    Melted directions, whose loadings would be zero, get small loadings; at T = 0, where loadings
    would be infinite, the optimum at a small temperature is taken.
    """
    moments, n_components = energy.moments, energy.n_components
    axes, variances = moments.axes.T[:n_components], moments.variances[:n_components]
    spectrum = Spectrum(moments.mean, axes, variances, float(moments.variances.sum()))
    model, _ = best_model(spectrum, max(temperature, _COLDEST_START))
    noise = np.maximum(model.noise, 1e-3 * variances.max(initial=0.0))
    precisions = np.minimum(model.precisions, 1.0 / (1.1 * noise[:, None]))
    return energy.from_pca(PCAParameters(model.means, model.components, precisions, noise))


def sample_models(
    settings: PCASettings,
    moments: RowMoments,
    n_components: int,
    runner: RowRunner,
    rng: np.random.Generator,
    on_step: Callable[[int, float], bool],
) -> SamplingRun:
    """Draw from ``p(m)``: the one place that chooses a sampler.

    Returns
    -------
    SamplingRun
        Its params are PCAParameters.
    """
    n_features, n_axes = len(moments.mean), len(moments.variances)
    size = PCAEnergy(n_components, n_features).n_parameters()
    nested = settings.plans.nested
    if nested is not None and can_nest(n_components, n_axes, n_features):
        posterior = nested_posterior(settings, moments, n_components)
        tell_total(on_step, nested(1, settings.n_models).n_steps)
        run = sample_nested(posterior, rng, settings.n_models, on_step, nested)
        doubts = _doubts_of_reach(run, _MOST_STEPS * nested(1, settings.n_models).n_moves)
        if run.stopped or not doubts:
            return run
        if size > MAX_SAMPLED_COORDINATES:
            return replace(run, doubts=(*run.doubts, *doubts))
    energy = energy_with_prior(settings, moments.whole(), n_components)
    objective = Objective(energy, energy.moments.as_one_row(), runner, settings.temperature)
    shared = settings.plans.shared
    power = objective.power(settings.model_temperature)
    if shared is not None and shared.hotter and power < _FEW_ROWS_OF_CURVES:
        run = run_tempered(objective, rng, settings, on_step)
        return replace(run, params=energy.as_pca(run.params))
    run = run_charted(
        objective,
        ModeStarts.independent(
            start_near_mode(energy, settings.temperature), np.zeros((1, 1), dtype=bool)
        ),
        rng,
        settings,
        on_step,
        few_rows=_FEW_ROWS,
    )
    return replace(run, params=energy.as_pca(run.params))


def _doubts_of_reach(run: SamplingRun, most_sweeps: int) -> list[str]:
    """Return why proposals in the eigenbasis may not have reached all of the posterior."""
    doubts = []
    if run.n_sweeps > most_sweeps or run.first_share < _LEAST_SHARE:
        doubts.append(_FAR)
    return doubts + doubts_of_shape(run)


def reference_model(
    settings: PCASettings, moments: RowMoments, run: SamplingRun, runner: RowRunner
) -> tuple[PCAParameters, float]:
    """Return the mode of ``p(m)`` that the best model known leads to, and its ``Hmaxe_T``."""
    n_components, tau = run.params.components.shape[1], settings.model_temperature
    seen = nested_posterior(settings, moments, n_components).seen
    energy = energy_with_prior(settings, seen, n_components, kind=PCAModeEnergy)
    objective = Objective(energy, seen.as_one_row(), runner, settings.temperature)
    mode = start_near_mode(energy, settings.temperature)
    # first from where no draw decides; then from the best draw, should that be higher still
    for others in ([], [energy.from_pca(run.params)]):
        start = best_start(objective, Loadings.concatenate([mode, *others]), tau)
        found = find_mode(objective, start, tau)
        mode = found.params
    return energy.as_pca(mode), float(found.hmaxe[0])


# -- results ---------------------------------------------------------------------------------------


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
