"""What BayesianVAEAutoEncoder.fit does: where it starts, how it goes on, how models are sampled."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae.energies.vae._energy import (
    VAEEnergy,
    architecture,
    make_energy,
    row_frame,
    training_options,
)
from skbae.energies.vae._parameters import VAEModels, VAEParameters
from skbae.energies.vae._posterior import fixed_noise
from skbae.estimators._stacklevel import users_stacklevel
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
from skbae.inference.passes._rows import RowRunner
from skbae.inference.sample._langevin import LangevinPlan, sample_langevin
from skbae.operators._random import as_generator
from skbae.operators._tempered import tilted_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import FloatArray, Rows

# Rows of a step, unless the user says otherwise.
_AUTO_BATCH = 100
# Steps of a sampler's chains, and how many of them are thrown away.
_N_STEPS, _N_BURN = 4000, 2000
# Rows that one row of a batch may stand for, in units of tau.
_ROWS_FOR_ONE = 48


def frame_settings(rows: Rows) -> dict[str, Any]:
    """Return where distinct rows are and how far they spread, as a configuration has it.

    They come from the distinct rows, so that not even rounding tells weighted from repeated.
    """
    return {"centre": rows.centre, "scale": float(np.sqrt(np.mean(rows.scale**2))) or 1.0}


def first_parameters(config: dict[str, Any], rows: Rows, rng: np.random.Generator) -> VAEParameters:
    """Return random weights, with intercepts at the mean row and codes of unit deviation."""
    decoder, encoder = architecture(config)
    theta = np.zeros((1, decoder.n_parameters))
    theta[:, : decoder.network.n_parameters] = decoder.network.draw(rng)
    layers, _ = decoder.split(theta)
    mean = row_frame(config).targets(config["centre"][None])[0]
    layers[-1][1][...] = decoder.rows.first_intercepts(mean)
    phi = encoder.draw(rng)[None]
    encoder.layers(phi)[-1][0][:, :, config["n_components"] :] = 0
    return VAEParameters(theta, phi)


def langevin_plan(size: int, scale: float, n_models: int) -> LangevinPlan:
    """Return how long to sample.

    Parameters
    ----------
    size : int
        Rows of a batch, at least.
    scale : float
        N / tau, the rows that the posterior believes in. Batches are so large that their noise does
        not dominate, which makes the cost a fixed number of passes.
    n_models : int
    """
    size = max(size, int(np.ceil(scale / _ROWS_FOR_ONE)))
    return LangevinPlan(size, n_burn=_N_BURN, n_steps=_N_STEPS, n_keep=n_models)


# -- the course of a fit ---------------------------------------------------------------------------


def fit_energy(config: dict[str, Any], model_temperature: float, noise_seed: int) -> VAEEnergy:
    """Return the energy that a fit takes: with training options, and the draws that score it."""
    noise = fixed_noise(config["n_score_samples"], config["n_components"], noise_seed)
    return make_energy(config, noise, training_options(config, model_temperature, noise_seed))


def minibatch_plan(estimator: Any, n_rows: int) -> MinibatchPlan:
    """Return how to fit so many distinct rows."""
    given = estimator.batch_size
    return MinibatchPlan(
        min(_AUTO_BATCH if given == "auto" else int(given), n_rows),
        int(estimator.max_iter),
        float(estimator.learning_rate_init),
        tol=float(estimator.tol),
        patience=int(estimator.n_iter_no_change),
    )


def fit_networks(
    estimator: Any,
    energy: VAEEnergy,
    rows: Rows,
    start: VAEParameters,
    rng: np.random.Generator,
    on_pass: Callable[[int, float], bool],
) -> tuple[MinibatchResult, dict[str, Any]]:
    """Fit one model; warn if the objective still improved at the end.

    Parameters
    ----------
    estimator : BayesianVAEAutoEncoder
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
        Fitted attributes that tell of the course of the fit.
    """
    kept, held = rows, None
    if estimator.early_stopping:
        kept, held = hold_out(rows, float(estimator.validation_fraction), rng)
    plan = minibatch_plan(estimator, len(kept.X))
    temperature, size = float(estimator.temperature), plan.batch_size
    adam = Adam(energy.join(start))
    found = fit_minibatches(
        energy.minibatch_objective(kept, temperature, size),
        adam,
        plan,
        rng,
        held=None if held is None else energy.minibatch_objective(held, temperature, size),
        on_pass=on_pass,
    )
    if found.shortfall:
        warnings.warn(
            f"{type(estimator).__name__}: {found.shortfall}",
            ConvergenceWarning,
            stacklevel=users_stacklevel(),
        )
    attributes: dict[str, Any] = {
        "loss_curve_": [-value for value in found.objectives if value is not None],
        "converged_": found.converged,
        "n_iter_": found.n_iter,
        "_optimizer": adam.state(),
    }
    if estimator.early_stopping:
        attributes["validation_scores_"] = [] if held is None else found.scores
    return found, attributes


def hmaxe_of(
    energy: VAEEnergy, params: VAEParameters, rows: Rows, runner: RowRunner, temperature: float
) -> float:
    """Return ``Hmaxe_T`` of one model."""
    bound = energy.bind(params, rows.frame, np.float64)
    values = runner.map(lambda chunk: bound.hmax(chunk, temperature)[0], rows.X, bound.chunk_rows)
    hmaxe = float(tilted_mean(values, rows.weights, 0.0))
    if not np.isfinite(hmaxe):
        raise DivergedError
    return hmaxe


def one_more_pass(
    estimator: Any, config: dict[str, Any], rows: Rows, first: bool
) -> dict[str, Any]:
    """Make a pass over distinct rows, from the estimator's current model unless it is the first.

    Returns
    -------
    dict
        The fitted attributes that follow.
    """
    if first:
        rng = as_generator(estimator.random_state)
        config |= frame_settings(rows)
        noise_seed, curve = int(rng.integers(2**32)), []
        energy = fit_energy(config, 0.0, noise_seed)
        adam = Adam(energy.join(first_parameters(config, rows, rng)))
    else:
        config |= {name: estimator._config[name] for name in ("centre", "scale")}
        noise_seed, curve = estimator._noise_seed, estimator.loss_curve_
        energy = fit_energy(config, 0.0, noise_seed)
        adam = Adam.resume(estimator._optimizer)
        rng = np.random.default_rng([noise_seed, adam.n_steps])
    plan, temperature = minibatch_plan(estimator, len(rows.X)), float(estimator.temperature)
    objective = energy.minibatch_objective(rows, temperature, plan.batch_size)
    value, _ = one_pass(objective, adam, plan, rng)
    assert value is not None
    params = energy.part(adam.average)
    with RowRunner() as runner:
        hmaxe = hmaxe_of(energy, params, rows, runner, temperature)
    return {
        **single_attributes(config, params, hmaxe, noise_seed),
        "loss_curve_": [*curve, -value],
        "converged_": False,
        "n_iter_": len(curve) + 1,
        "_optimizer": adam.state(),
    }


def sampled_attributes(
    estimator: Any,
    config: dict[str, Any],
    energy: VAEEnergy,
    rows: Rows,
    best: FloatArray,
    rng: np.random.Generator,
    on_step: Callable[[int, float], bool],
) -> dict[str, Any]:
    """Sample decoders around the best one; return the attributes that follow.

    Parameters
    ----------
    estimator : BayesianVAEAutoEncoder
    config : dict
    energy : VAEEnergy
    rows : Rows
        Distinct ones.
    best : ndarray of shape (P,)
        Coordinates of the mode of ``p(m)``.
    rng : Generator
    on_step : callable
        Steps are counted on from those of the fit.
    """
    n_theta = energy.decoder.n_parameters
    theta, phi = best[:n_theta], best[n_theta:]
    temperature, tau = float(estimator.temperature), estimator._resolved_model_temperature()
    rate, before = float(estimator.learning_rate_init), int(estimator.max_iter)
    target = VAETarget(energy, rows, phi, temperature, tau, rate)
    size = minibatch_plan(estimator, len(rows.X)).batch_size
    plan = langevin_plan(size, target.scale, int(estimator.n_models))
    run = sample_langevin(
        target, theta, plan, rng, on_step=lambda number, value: on_step(before + number, value)
    )
    sampling = assess(run)
    if sampling.status != "ok":
        warnings.warn(
            f"{type(estimator).__name__}: sampling of the models is {sampling.status}: "
            f"{'; '.join(sampling.reasons)}. sampling_ has the diagnostics.",
            ConvergenceWarning,
            stacklevel=users_stacklevel(),
        )
    encoders = np.repeat(target.encoder.average[None].astype(np.float64), len(run.params), axis=0)
    params = VAEParameters(run.params, encoders)
    return {
        "models_": row_frame(config).to_layers(*architecture(config), params),
        "sampling_": sampling,
        "hmaxemax_": float("nan"),
        "hmaxemax_error_": float("nan"),
        "internal_energy_": float(run.hmaxe.mean()),
        "converged_": sampling.status == "ok",
        "n_iter_": sampling.n_sweeps,
    }


# -- what becomes of it ----------------------------------------------------------------------------


def single_attributes(
    config: dict[str, Any], params: VAEParameters, hmaxe: float, noise_seed: int
) -> dict[str, Any]:
    """Return what follows from a single model and its ``Hmaxe_T``."""
    models = row_frame(config).to_layers(*architecture(config), params)
    return {
        **_reference_attributes(models, config),
        "models_": models,
        "hmaxe_": hmaxe,
        "hmaxemax_": hmaxe,
        "hmaxemax_error_": 0.0,
        "internal_energy_": hmaxe,
        "_config": config,
        "_noise_seed": noise_seed,
    }


def _reference_attributes(models: VAEModels, config: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes of the first of the models."""
    decoder, _ = architecture(config)
    names = ("decoder_coefs", "decoder_intercepts", "encoder_coefs", "encoder_intercepts")
    found: dict[str, Any] = {
        f"{name}_": [each[0].copy() for each in getattr(models, name)] for name in names
    }
    if decoder.rows.n_extra:
        found["noise_variance_"] = float(models.noise_variance[0])
    return found
