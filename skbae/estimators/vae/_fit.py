"""Starts, fits and sampling of networks: parts of BayesianVAEAutoEncoder.fit."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae.energies.vae._energy import Architecture, VAEEnergy
from skbae.energies.vae._linear import best_per_feature, best_shared, encoder_of
from skbae.energies.vae._minibatch import TrainingOptions
from skbae.energies.vae._parameters import RowFrame, VAEParameters, in_units_of
from skbae.energies.vae._penalty import Penalty, Prior, Ridge
from skbae.energies.vae._posterior import fixed_noise
from skbae.estimators._sampling import warn_unless_ok, with_wbic
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators.vae._settings import noise_scale
from skbae.estimators.vae._target import VAETarget
from skbae.inference.evidence._verdict import assess
from skbae.inference.optimise._adam import Adam
from skbae.inference.optimise._early_stopping import hold_out
from skbae.inference.optimise._minibatch import (
    DivergedError,
    MinibatchPlan,
    MinibatchResult,
    fit_minibatches,
    one_pass,
)
from skbae.inference.passes._rows import make_rows
from skbae.inference.sample._langevin import sample_langevin
from skbae.operators._tempered import tilted_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import Array, FloatArray, Rows
    from skbae.energies.vae._decoder import Decoder
    from skbae.energies.vae._minibatch import VAEObjective
    from skbae.estimators.vae._settings import VAESettings
    from skbae.inference.passes._rows import RowRunner
    from skbae.inference.sample._langevin import LangevinPlan

# Unit of the codes at T = 0, where codes are the better the smaller they are; the prior of a code
# of order one then costs 5e-5 nats, and yet holds codes that networks hardly depend on.
_UNIT_AT_ZERO = 1e-2
# At T = 0 the best linear decoder has codes without length: this factor below the unit.
_SHORT = 1e3
# Rows that are scored at the end of a fit: as many as this work allows, which is rows times codes
# times parameters, but not fewer than some; the search for a code's mode takes as long as so many
# codes for each of its dimensions.
_SCORED_WORK, _LEAST_SCORED, _SEARCH_WORK = 12_000_000_000, 500, 20
# Largest intercept of a hidden unit at the start.
_BEND = 1.0
# Weights of the last layer relative to those usual, if a fit starts from a linear decoder.
_NEARLY_LINEAR = 0.3
# With at most so many distinct rows, this share is held out to ask whether a network overfits.
_FEW_ROWS, ASKED_SHARE = 2000, 0.2
# Factor of the penalty in the first passes, and their share of all.
LOOSE, _LOOSE_PASSES = 0.1, 0.4
# Largest number of passes as which quasi-Newton steps count, as a share of `max_iter`; draws of a
# code in these; and the most rows times draws times parameters for which they are made.
_REFINING_PASSES, N_REFINING, _REFINED_WORK = 1.0, 16, 100_000_000
# Share of the passes in which the learning rate falls.
_COOLING = 0.4
# Number of rows from whose codes searches for those of others start: as many as have so many
# entries, but not fewer or more than some; in more dimensions few rows are near the code of one of
# so few others.
_LANDMARK_ENTRIES, _LEAST_LANDMARKS, _MOST_LANDMARKS = 1 << 14, 64, 512
_MOST_DIMENSIONS = 4
# Least number of steps of a pass; it goes over few rows repeatedly.
_LEAST_STEPS = 10


@dataclass(frozen=True)
class NetworkDetails:
    """What the methods of a fitted estimator need beside its public attributes.

    Attributes
    ----------
    architecture : Architecture
    frame : RowFrame
        Of the rows of the first fit; `partial_fit` uses it too.
    n_score_samples : int
    noise_seed : int
        Seed of the draws by which rows are scored, the same for all rows.
    code_unit : float
        Unit of the codes that training computes with.
    log_level : float
        Logarithm of the noise variance that those of features are drawn to.
    optimizer : dict
        State of Adam, with which `partial_fit` continues.
    penalty_factor : float
        Of the ridge penalty of the settings.
    landmarks : ndarray of shape (K, d) or None
        Codes of some rows, see :class:`~skbae.energies.vae._energy.VAEEnergy`.
    """

    architecture: Architecture
    frame: RowFrame
    n_score_samples: int
    noise_seed: int
    code_unit: float
    log_level: float
    optimizer: dict[str, Any]
    penalty_factor: float = 1.0
    landmarks: Array | None = None


def uses_landmarks(settings: VAESettings) -> bool:
    """Return whether searches for codes start from those of other rows."""
    few = settings.n_components <= _MOST_DIMENSIONS
    return settings.temperature < 1 and few and not settings.samples


def landmark_rows(X: NDArray[Any]) -> NDArray[np.intp]:
    """Return the indices of some rows, evenly spaced in their order."""
    n_rows, n_features = X.shape
    several = np.clip(_LANDMARK_ENTRIES // n_features, _LEAST_LANDMARKS, _MOST_LANDMARKS)
    return np.linspace(0, n_rows - 1, min(int(several), n_rows)).round().astype(np.intp)


def landmarks_by_search(
    settings: VAESettings, energy: VAEEnergy, params: VAEParameters, rows: Rows
) -> Array | None:
    """Return the codes of some rows to which searches lead from the encoder's, if used."""
    if not uses_landmarks(settings):
        return None
    bound = energy.with_landmarks(None).bind(params, rows.frame, np.float64)
    return bound.codes(rows.X[landmark_rows(rows.X)], 0.0, 0).codes[:, 0]


def in_order_of_columns(rows: Rows) -> Rows:
    """Return the rows sorted by their columns, an order that does not depend on their units."""
    order = np.lexsort(rows.X.T[::-1])
    return make_rows(rows.X[order], None if rows.weights is None else rows.weights[order])


def frame_of(architecture: Architecture, rows: Rows) -> RowFrame:
    """Return the frame of distinct rows.

    Computed from distinct rows, so that weighted and repeated rows give equal digits.
    """
    return architecture.frame(rows.centre, rows.scale)


def noise_level(settings: VAESettings, frame: RowFrame, rows: Rows) -> float:
    """Return the logarithm of the noise variance of PCA of the scaled rows, 0 if not needed."""
    if not frame.scaled or settings.noise != "per_feature" or settings.samples:
        return 0.0
    found = best_shared(rows, frame, settings.n_components, settings.temperature)
    return float(found.log_noise[0])


def code_unit(settings: VAESettings) -> float:
    """Return the unit of the codes that training computes with; that of H if models are sampled."""
    if settings.samples:
        return 1.0
    return float(np.sqrt(settings.temperature)) or _UNIT_AT_ZERO


def first_parameters(
    settings: VAESettings,
    energy: VAEEnergy,
    rows: Rows,
    rng: np.random.Generator,
    nearly_linear: bool = True,
) -> VAEParameters:
    """Return initial parameters.

    Weights are random, intercepts those of the mean row, and codes have unit standard deviation.
    For rows of real numbers the networks are the sum of the best linear ones and random ones, which
    are small if it is to be `nearly_linear`.
    """
    decoder, encoder, unit = energy.decoder, energy.encoder, code_unit(settings)
    theta = np.zeros((1, decoder.n_parameters))
    theta[:, : decoder.network.n_parameters] = decoder.network.draw(rng)
    layers, _ = decoder.split(theta)
    mean = energy.frame.targets(energy.frame.centre[None])[0]
    layers[-1][1][...] = decoder.rows.first_intercepts(mean)
    phi = encoder.draw(rng)[None]
    encoder.layers(phi)[-1][0][:, :, settings.n_components :] = 0
    params = in_units_of(decoder, encoder, VAEParameters(theta, phi), 1 / unit)
    if not decoder.n_extra:
        return params
    linear = linear_parameters(settings, energy, rows, 0.0)
    for network, own, best in (
        (decoder.network, params.decoder, linear.decoder),
        (encoder, params.encoder, linear.encoder),
    ):
        of_random, of_best = network.layers(own), network.layers(best)
        size = _NEARLY_LINEAR if nearly_linear else 1.0
        random_part = size * of_random[-1][0] if network.skip_size else 0.0
        for hidden in list(of_random)[:-1]:
            # without intercepts all units would be odd functions of the codes, and curves that are
            # even have no gradient in them
            hidden[1][...] = rng.uniform(-_BEND, _BEND, hidden[1].shape)
        own[:, network.n_parameters :] = best[:, network.n_parameters :]
        of_random[-1][0][...] = random_part + of_best[-1][0]
        of_random[-1][1][...] = of_best[-1][1]
        if of_random.skip is not None:
            of_random.skip[...] = of_best.skip
    return params


def linear_parameters(
    settings: VAESettings, energy: VAEEnergy, rows: Rows, temperature: float
) -> VAEParameters:
    """Return the best linear decoder at T of rows of real numbers, and its exact encoder."""
    decoder, encoder, unit = energy.decoder, energy.encoder, code_unit(settings)
    d = settings.n_components
    if decoder.noise == "per_feature":
        share = settings.alpha / rows.total
        found = best_per_feature(rows, energy.frame, d, temperature, share)
    else:
        found = best_shared(rows, energy.frame, d, temperature)
    reading, log_deviation = encoder_of(found, temperature)
    theta, phi = np.zeros((1, decoder.n_parameters)), np.zeros((1, encoder.n_parameters))
    layers, log_noise = decoder.split(theta)
    (layers[-1][0] if layers.skip is None else layers.skip)[...] = found.weights
    log_noise[...] = found.log_noise[: decoder.n_extra]
    layers = encoder.layers(phi)
    (layers[-1][0] if layers.skip is None else layers.skip)[..., :d] = reading
    layers[-1][1][..., d:] = log_deviation
    return in_units_of(decoder, encoder, VAEParameters(theta, phi), 1 / unit)


def training_options(
    settings: VAESettings,
    decoder: Decoder,
    frame: RowFrame,
    score_seed: int,
    unit: float,
    log_level: float,
) -> TrainingOptions:
    """Return the options of the steps of a fit.

    Parameters
    ----------
    settings : VAESettings
        A single model has a ridge penalty; if models are sampled, the prior takes its place.
    decoder : Decoder
    frame : RowFrame
    score_seed : int
        Seed of the draws by which rows held out are scored.
    unit : float
        Of the codes that steps compute with.
    log_level : float
        Logarithm of the noise variance that those of features are drawn to.
    """
    alpha = settings.alpha
    # below T = 1 the noise variances keep their proportions, and nothing has to be drawn together
    n_rows = alpha if decoder.n_extra > 1 and settings.temperature >= 1 else 0.0
    penalty: Penalty = Ridge(decoder, alpha, n_rows, log_level)
    if settings.samples:
        unit_of_noise = frame.unit[: decoder.n_extra]
        scale = noise_scale(settings.noise_scale_prior, unit_of_noise) / unit_of_noise**2
        penalty = Prior(decoder, settings.weight_variance_prior, settings.noise_shape_prior, scale)
    weight = settings.model_temperature or 1.0
    # below T = 1 the likelihood of free variances has no maximum: features that codes copy
    tied = settings.temperature < 1 and not settings.samples and decoder.n_extra > 1
    return TrainingOptions(settings.n_importance_samples, penalty, weight, score_seed, unit, tied)


def fit_energy(
    settings: VAESettings,
    architecture: Architecture,
    frame: RowFrame,
    noise_seed: int,
    unit: float | None = None,
    log_level: float = 0.0,
) -> VAEEnergy:
    """Return the energy for a fit, with training options and the draws by which it is scored."""
    noise = fixed_noise(settings.n_score_samples, settings.n_components, noise_seed)
    decoder, _ = architecture.networks()
    unit = code_unit(settings) if unit is None else unit
    options = training_options(settings, decoder, frame, noise_seed, unit, log_level)
    return architecture.energy(frame, noise, options)


# -- fits ------------------------------------------------------------------------------------------


def asks(settings: VAESettings, energy: VAEEnergy, rows: Rows) -> bool:
    """Return whether some rows are held out to ask whether a network overfits."""
    linear_inside = energy.decoder.network.skip_size > 0 and not settings.samples
    asked = linear_inside and settings.alpha and not settings.early_stopping
    return bool(asked) and len(rows.X) <= _FEW_ROWS


def refines(settings: VAESettings, energy: VAEEnergy, rows: Rows) -> bool:
    """Return whether quasi-Newton steps follow the passes: at T < 1, where they take no longer.

    The objective of small networks rises for long there, with the logarithm of ever smaller errors,
    beyond what rows held out gain; these decide how many steps are made.
    """
    if settings.temperature >= 1 or not asks(settings, energy, rows):
        return False
    n_draws = settings.n_components + N_REFINING
    return len(rows.X) * n_draws * energy.n_parameters() <= _REFINED_WORK


def most_refining_passes(settings: VAESettings) -> int:
    """Return how many passes quasi-Newton steps may count as."""
    return int(np.ceil(_REFINING_PASSES * settings.max_iter))


def minibatch_plan(settings: VAESettings, n_rows: int) -> MinibatchPlan:
    """Return the plan of a fit to this number of distinct rows."""
    return MinibatchPlan(
        min(settings.batch_size, n_rows),
        settings.max_iter,
        settings.learning_rate_init,
        tol=settings.tol,
        patience=settings.n_iter_no_change,
        least_steps=_LEAST_STEPS,
        # chains start from where constant steps lead, which is less deep in a mode
        cooling=0.0 if settings.samples else _COOLING,
    )


def fit_networks(
    settings: VAESettings,
    energy: VAEEnergy,
    rows: Rows,
    start: VAEParameters,
    rng: np.random.Generator,
    on_pass: Callable[[int, float], bool],
) -> tuple[MinibatchResult, dict[str, Any], dict[str, Any]]:
    """Fit one model.

    Parameters
    ----------
    settings : VAESettings
    energy : VAEEnergy
    rows : Rows
        Distinct ones.
    start : VAEParameters
    rng : Generator
    on_pass : callable

    Returns
    -------
    found : MinibatchResult
    attributes : dict
        Fitted attributes on the progress of the fit.
    optimizer : dict
        State of Adam at the end.
    """
    kept, held = rows, None
    if settings.early_stopping:
        kept, held = hold_out(rows, settings.validation_fraction, rng)
    plan = minibatch_plan(settings, len(kept.X))
    temperature, size = settings.temperature, plan.batch_size
    adam = Adam(energy.join(start))
    objective = energy.minibatch_objective(kept, temperature, size)
    out = None if held is None else energy.minibatch_objective(held, temperature, size)
    before: list[float | None] = []
    if energy.decoder.n_extra and not settings.samples and out is None:
        before, plan = loosely(objective, adam, plan, rng, on_pass)

    def report(number: int, value: float) -> bool:
        return on_pass(len(before) + number, value)

    found = fit_minibatches(objective, adam, plan, rng, held=out, on_pass=report)
    found = replace(found, objectives=[*before, *found.objectives])
    attributes: dict[str, Any] = {
        "loss_curve_": [-value for value in found.objectives if value is not None],
        "converged_": found.converged,
        "n_iter_": len(before) + found.n_iter,
    }
    if settings.early_stopping:
        attributes["validation_scores_"] = [] if held is None else found.scores
    return found, attributes, adam.state()


def warn_of(settings: VAESettings, warning: str) -> None:
    """Warn that a fit has not converged, unless the text is empty."""
    if warning:
        warnings.warn(
            f"{settings.estimator}: {warning}", ConvergenceWarning, stacklevel=users_stacklevel()
        )


def loosely(
    objective: VAEObjective,
    adam: Adam,
    plan: MinibatchPlan,
    rng: np.random.Generator,
    on_pass: Callable[[int, float], bool],
) -> tuple[list[float | None], MinibatchPlan]:
    """Make the first passes with a weak penalty; return their objectives, and the plan of the rest.

    A strong penalty would hold a fit at its linear start, where the gradients of the other weights
    are small. What they then gain in earnest outlasts the strong penalty, and the rest shrinks.
    """
    n_first = int(_LOOSE_PASSES * plan.max_passes)
    if n_first < 1:
        return [], plan
    first = replace(plan, max_passes=n_first, cooling=0.0)
    with objective.penalised(LOOSE):
        found = fit_minibatches(objective, adam, first, rng, on_pass=on_pass)
    left = 1 if found.stopped else plan.max_passes - found.n_iter
    rest = replace(plan, max_passes=left, passes_before=found.n_iter, first_score=found.scores[0])
    return found.objectives, rest


def row_values(
    energy: VAEEnergy, params: VAEParameters, rows: Rows, runner: RowRunner, temperature: float
) -> Array:
    """Return ``Hmax_T`` of rows under one model, (n,)."""
    bound = energy.bind(params, rows.frame, np.float64)
    return np.asarray(
        runner.map(lambda chunk: bound.hmax(chunk, temperature)[0], rows.X, bound.chunk_rows)
    )


def hmaxe_and_error(
    energy: VAEEnergy, params: VAEParameters, rows: Rows, runner: RowRunner, temperature: float
) -> tuple[float, float]:
    """Return ``Hmaxe_T`` of one model, and its standard error.

    The error is zero if all rows are scored: of many rows of wide networks only some are, always
    the same, since a score takes many codes.
    """
    n_rows, weights = len(rows.X), rows.weights
    _, n_draws, d = energy.noise.shape
    a_row = energy.n_parameters() * (n_draws + _SEARCH_WORK * d)
    n_scored = max(_SCORED_WORK // a_row, _LEAST_SCORED)
    if n_scored < n_rows:
        chosen = np.sort(np.random.default_rng(0).permutation(n_rows)[:n_scored])
        weights = None if weights is None else weights[chosen]
        rows = make_rows(rows.X[chosen], weights)
    values = row_values(energy, params, rows, runner, temperature)
    hmaxe = float(tilted_mean(values, weights, 0.0))
    if not np.isfinite(hmaxe):
        raise DivergedError
    if n_scored >= n_rows:
        return hmaxe, 0.0
    shares = np.full(n_scored, 1 / n_scored) if weights is None else weights / weights.sum()
    variance = float((shares**2) @ (values - hmaxe) ** 2) * (1 - n_scored / n_rows)
    return hmaxe, float(np.sqrt(variance))


def hmaxe_of(
    energy: VAEEnergy, params: VAEParameters, rows: Rows, runner: RowRunner, temperature: float
) -> float:
    """Return ``Hmaxe_T`` of one model."""
    return hmaxe_and_error(energy, params, rows, runner, temperature)[0]


def not_below_linear(
    settings: VAESettings,
    energy: VAEEnergy,
    rows: Rows,
    params: VAEParameters,
    hmaxe: float,
    runner: RowRunner,
    curved: bool = True,
) -> tuple[VAEParameters, float]:
    """Return a fit or the best linear decoder, whichever has the higher objective.

    If it is known that the fit should not be `curved`, the linear decoder is returned.

    The linear part of a decoder with hidden layers has no penalty: the result's ``Hmaxe_T``, which
    is returned too, is never below that of PCA.
    """
    temperature = settings.temperature
    linear = linear_parameters(settings, energy, rows, temperature)
    if temperature == 0:
        linear = in_units_of(energy.decoder, energy.encoder, linear, _SHORT)
    value = hmaxe_of(energy, linear, rows, runner, temperature)
    lost = (energy.penalty(params) - energy.penalty(linear)) / rows.total
    below = hmaxe < value and energy.decoder.network.skip_size > 0
    if curved and hmaxe + lost >= value and not below:
        return params, hmaxe
    # the hidden layers, which do not matter now, are kept for fits that go on from here
    networks = energy.decoder.network, energy.encoder
    vectors = (params.decoder, linear.decoder), (params.encoder, linear.encoder)
    for network, (fitted, best) in zip(networks, vectors, strict=True):
        for own, kept in list(zip(network.layers(best), network.layers(fitted), strict=True))[:-1]:
            own[0][...], own[1][...] = kept
    return linear, value


def one_more_pass(
    settings: VAESettings,
    energy: VAEEnergy,
    rows: Rows,
    adam: Adam,
    rng: np.random.Generator,
    runner: RowRunner,
) -> tuple[VAEParameters, float, float, Array | None]:
    """Make a pass over distinct rows.

    Returns the model, its ``Hmaxe_T``, the objective, and the landmarks of searches for codes.
    """
    plan = minibatch_plan(settings, len(rows.X))
    objective = energy.minibatch_objective(rows, settings.temperature, plan.batch_size)
    value, _ = one_pass(objective, adam, plan, rng)
    assert value is not None
    params = energy.part(adam.average)
    marks = landmarks_by_search(settings, energy, params, rows)
    energy = energy.with_landmarks(marks)
    return params, hmaxe_of(energy, params, rows, runner, settings.temperature), value, marks


def chain_plan(settings: VAESettings, rows: Rows) -> LangevinPlan:
    """Return the plan of the chains that sample decoders."""
    size = minibatch_plan(settings, len(rows.X)).batch_size
    scale = rows.total / settings.model_temperature
    return settings.plans.langevin(size, scale, settings.n_models)


def sampled_attributes(
    settings: VAESettings,
    energy: VAEEnergy,
    rows: Rows,
    best: FloatArray,
    rng: np.random.Generator,
    on_step: Callable[[int, float], bool],
    notes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Sample decoders around the best one; return fitted attributes.

    Parameters
    ----------
    settings : VAESettings
    energy : VAEEnergy
    rows : Rows
        Distinct ones.
    best : ndarray of shape (P,)
        Coordinates of the mode of ``p(m)``.
    rng : Generator
    on_step : callable
        The count of steps continues that of the fit.
    notes : tuple of str
        What the result does not say.
    """
    n_theta = energy.decoder.n_parameters
    theta, phi = best[:n_theta], best[n_theta:]
    temperature, tau = settings.temperature, settings.model_temperature
    rate, before = settings.learning_rate_init, settings.max_iter
    target = VAETarget(energy, rows, phi, temperature, tau, rate)
    plan = chain_plan(settings, rows)
    run = sample_langevin(
        target, theta, plan, rng, on_step=lambda number, value: on_step(before + number, value)
    )
    sampling = assess(replace(run, notes=(*run.notes, *notes)))
    warn_unless_ok(settings, sampling)
    encoders = np.repeat(target.encoder.average[None].astype(np.float64), len(run.params), axis=0)
    params = VAEParameters(run.params, encoders)
    return {
        "models_": energy.frame.to_layers(energy.decoder, energy.encoder, params),
        "sampling_": with_wbic(settings, sampling, float(run.hmaxe.mean()), rows.total),
        "hmaxemax_": float("nan"),
        "hmaxemax_error_": float("nan"),
        "internal_energy_": float(run.hmaxe.mean()),
        "converged_": sampling.status == "ok",
        "n_iter_": sampling.n_sweeps,
    }


# -- fitted attributes -----------------------------------------------------------------------------


def single_attributes(
    energy: VAEEnergy, params: VAEParameters, hmaxe: float, error: float = 0.0
) -> dict[str, Any]:
    """Return the fitted attributes of a single model with this ``Hmaxe_T`` and its error."""
    models = energy.frame.to_layers(energy.decoder, energy.encoder, params)
    names = ("decoder_coefs", "decoder_intercepts", "encoder_coefs", "encoder_intercepts")
    attributes: dict[str, Any] = {
        f"{name}_": [each[0].copy() for each in getattr(models, name)] for name in names
    }
    for name in ("decoder_skip", "encoder_skip"):
        skip = getattr(models, name)
        if skip is not None:
            attributes[f"{name}_"] = skip[0].copy()
    if energy.decoder.n_extra:
        noise = models.noise_variance[0]
        attributes["noise_variance_"] = noise.copy() if np.ndim(noise) else float(noise)
    return {
        **attributes,
        "models_": models,
        "hmaxe_": hmaxe,
        "hmaxemax_": hmaxe,
        "hmaxemax_error_": error,
        "internal_energy_": hmaxe,
    }
