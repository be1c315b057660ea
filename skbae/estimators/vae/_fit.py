"""What BayesianVAEAutoEncoder.fit does: where it starts, how it climbs, how models are sampled."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae.energies.vae._energy import (
    VAEModels,
    VAEParameters,
    architecture,
    make_energy,
    row_frame,
)
from skbae.energies.vae._posterior import fixed_noise
from skbae.estimators._stacklevel import users_stacklevel
from skbae.estimators.vae._objective import (
    TrainingRows,
    VAEObjective,
    VAETarget,
    hold_out,
)
from skbae.inference.evidence._verdict import assess
from skbae.inference.optimise._adam import Adam
from skbae.inference.optimise._minibatch import (
    AscentPlan,
    AscentResult,
    DivergedError,
    ascend,
    one_pass,
)
from skbae.inference.passes._rows import RowRunner
from skbae.inference.sample._langevin import LangevinPlan, sample_langevin
from skbae.operators._random import as_generator
from skbae.operators._tempered import tilted_mean

if TYPE_CHECKING:
    from skbae._types import FloatArray


# Rows of a step, unless the user says otherwise.
_AUTO_BATCH = 100
# Steps of a sampler's chains, and how many of them are thrown away.
_N_STEPS, _N_BURN = 4000, 2000
# Rows that one row of a batch may stand for, in units of tau.
_ROWS_FOR_ONE = 48


def first_parameters(
    config: dict[str, Any], rows: TrainingRows, rng: np.random.Generator
) -> VAEParameters:
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


def batch_size(estimator: Any, n_rows: int) -> int:
    """Return how many of so many rows a step takes."""
    given = estimator.batch_size
    return min(_AUTO_BATCH if given == "auto" else int(given), n_rows)


def diverged(estimator: Any) -> ValueError:
    """Return the error of a fit that left the finite numbers."""
    return ValueError(
        "the fit diverged: its objective is no finite number any more. Decrease "
        f"learning_rate_init={estimator.learning_rate_init!r}"
    )


def climb(
    estimator: Any,
    config: dict[str, Any],
    distinct: TrainingRows,
    objective: VAEObjective,
    start: VAEParameters,
    rng: np.random.Generator,
    step: Any,
) -> AscentResult:
    """Return where the optimiser ends; warn if it might have gone on."""
    held_out = None
    if estimator.early_stopping:
        distinct, out = hold_out(distinct, float(estimator.validation_fraction), rng)
        objective = VAEObjective(config, distinct, estimator._resolved_model_temperature())
        size = batch_size(estimator, len(out.X))
        held_out = objective.judge(out, size, int(rng.integers(2**32)))
    plan = AscentPlan(
        batch_size(estimator, len(distinct.X)),
        int(estimator.max_iter),
        float(estimator.learning_rate_init),
        float(estimator.tol),
        int(estimator.n_iter_no_change),
    )
    adam = Adam(objective.join(start))
    try:
        found = ascend(objective, adam, plan, rng, on_pass=step, held_out=held_out)
    except DivergedError as error:
        raise diverged(estimator) from error
    if not (found.converged or step.stopped):
        warnings.warn(
            f"{type(estimator).__name__} still improved after max_iter={plan.max_passes} passes. "
            "Increase max_iter, tol or learning_rate_init, or use early_stopping.",
            ConvergenceWarning,
            stacklevel=users_stacklevel(),
        )
    return found


def objective_at(
    estimator: Any,
    config: dict[str, Any],
    distinct: TrainingRows,
    params: VAEParameters,
    noise_seed: int,
    runner: RowRunner,
) -> float:
    """Return ``Hmaxe_T`` of one model."""
    noise = fixed_noise(config["n_score_samples"], config["n_components"], noise_seed)
    bound = make_energy(config, noise).bind(params, None, np.float64)
    values = runner.map(
        lambda chunk: bound.hmax(chunk, config["temperature"])[0], distinct.X, bound.chunk_rows
    )
    hmaxe = float(tilted_mean(values, distinct.weights, 0.0))
    if not np.isfinite(hmaxe):
        raise diverged(estimator)
    return hmaxe


def one_more_pass(
    estimator: Any, config: dict[str, Any], distinct: TrainingRows, first: bool
) -> dict[str, Any]:
    """Make a pass over rows, from the estimator's current model unless it is the first.

    Returns
    -------
    dict
        The fitted attributes that follow.
    """
    if first:
        rng = as_generator(estimator.random_state)
        config |= distinct.place()
        noise_seed, curve = int(rng.integers(2**32)), []
        objective = VAEObjective(config, distinct, 0.0)
        adam = Adam(objective.join(first_parameters(config, distinct, rng)))
    else:
        config |= {name: estimator._config[name] for name in ("centre", "scale")}
        noise_seed, curve = estimator._noise_seed, estimator.loss_curve_
        objective = VAEObjective(config, distinct, 0.0)
        adam = Adam.resume(estimator._optimizer)
        rng = np.random.default_rng([noise_seed, adam.n_steps])
    size, rate = batch_size(estimator, len(distinct.X)), float(estimator.learning_rate_init)
    try:
        value = one_pass(objective, adam, size, rate, rng)
    except DivergedError as error:
        raise diverged(estimator) from error
    params = objective.part(adam.average)
    with RowRunner() as runner:
        hmaxe = objective_at(estimator, config, distinct, params, noise_seed, runner)
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
    distinct: TrainingRows,
    objective: VAEObjective,
    best: FloatArray,
    model_temperature: float,
    rng: np.random.Generator,
    step: Any,
) -> dict[str, Any]:
    """Sample decoders around the best one; return the attributes that follow."""
    theta, phi = best[: objective.n_theta], best[objective.n_theta :]
    rate, first = float(estimator.learning_rate_init), int(estimator.max_iter)
    target = VAETarget(config, distinct, phi, model_temperature, rate)
    size = batch_size(estimator, len(distinct.X))
    plan = langevin_plan(size, target.scale, int(estimator.n_models))

    def on_step(number: int, value: float) -> bool:
        return step(first + number, value)

    try:
        run = sample_langevin(target, theta, plan, rng, on_step=on_step)
    except DivergedError as error:
        raise diverged(estimator) from error
    sampling = assess(run)
    if sampling.status != "ok":
        warnings.warn(
            f"{type(estimator).__name__}: sampling of the models is {sampling.status}: "
            f"{'; '.join(sampling.reasons)}. sampling_ has the diagnostics.",
            ConvergenceWarning,
            stacklevel=users_stacklevel(),
        )
    phi = np.repeat(target.encoder.average[None].astype(np.float64), len(run.params), axis=0)
    params = VAEParameters(run.params, phi)
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
