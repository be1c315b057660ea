"""Sampling ``p(m)`` for a shell: which sampler, how long, and what becomes of its draws."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae._types import SamplingResult, SamplingRun
from skbae.energies._capabilities import ChartedEnergy, ConjugateEnergy
from skbae.estimators._stacklevel import users_stacklevel
from skbae.inference.evidence._verdict import assess, combine_evidence
from skbae.inference.optimise._mode import find_mode
from skbae.inference.sample._gibbs import sample_conjugate
from skbae.inference.sample._mode_annealing import crude_log_evidence, sample_from_modes
from skbae.inference.sample._tempering import sample_tempered

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae.estimators._settings import Settings
    from skbae.inference._objective import Objective
    from skbae.inference.sample._tempering import SMCPlan

# Rows, per tau, below which the posterior is close enough to the prior to start there, unless
# coordinates are many.
_FEW_ROWS, _MANY_COORDINATES = 20.0, 100
# Nats by which importance sampling from modes may exceed the evidence found from the prior.
_SHORTFALL = 1.0


def chain_starts(objective: Objective, fitted: Any, n_chains: int, rng: np.random.Generator) -> Any:
    """Return diverse models for chains to start from.

    Half are modes that the fits given lead to, without those far below the best; the other half
    are draws of the prior, where there are few enough rows for such chains to find their way.

    Parameters
    ----------
    objective : Objective
        Of a ConjugateEnergy.
    fitted : ArrayRecord
        From which modes are sought.
    n_chains : int
    rng : Generator
    """
    energy = objective.require(ConjugateEnergy, "Gibbs sampling")
    found = find_mode(objective, fitted, objective.temperature, tol=1e-4, max_iter=30)
    # a mode this much lower cannot make it up by its width
    worst = found.log_target.max() - 30 - 3 * energy.n_parameters()
    modes, good = found.params, np.flatnonzero(found.log_target >= worst)
    if objective.rows.total > 5000:
        return modes.take(np.resize(good, n_chains))
    half = n_chains // 2
    joined = type(modes).concatenate(
        [modes.take(np.resize(good, n_chains - half)), energy.draw_prior(half, rng)]
    )
    # alternate, so that each island of chains has both kinds
    order = np.argsort(np.r_[np.arange(n_chains - half), np.arange(half) + 0.5], kind="stable")
    return joined.take(order)


def run_gibbs(
    objective: Objective,
    fitted: Any,
    rng: np.random.Generator,
    settings: Settings,
    on_step: Callable[[int, float], bool],
) -> SamplingRun:
    """Sample at T = tau, with a schedule fit for the number of rows."""
    n_chains, plan = settings.plans.gibbs(len(objective.rows.X), settings.n_models)
    starts = chain_starts(objective, fitted, n_chains, rng)
    return sample_conjugate(objective, starts, rng, plan=plan, on_step=on_step)


def run_tempered(
    objective: Objective,
    rng: np.random.Generator,
    settings: Settings,
    on_step: Callable[[int, float], bool],
    plan: SMCPlan | None = None,
) -> SamplingRun:
    """Sample at any temperatures, weights and tilt, by gradients."""
    if plan is None:
        plan = settings.plans.tempered(len(objective.rows.X), settings.n_models)
    tau = settings.model_temperature
    return sample_tempered(objective, tau, rng, plan=plan, on_step=on_step)


def run_charted(
    objective: Objective,
    starts: Any,
    vacant: NDArray[np.bool_],
    rng: np.random.Generator,
    settings: Settings,
    on_step: Callable[[int, float], bool],
    few_rows: float = _FEW_ROWS,
) -> SamplingRun:
    """Sample at any temperatures, weights and tilt, from the modes or, where better, the prior.

    From the modes the cost is a few steps however many rows there are, and no phase is lost that a
    start leads to. With few rows (per tau) the posterior is not far from the prior, and far from
    normal: that is where to start from the prior. What the modes alone show is a check on it.
    How few they must be depends on how normal the prior itself is in the energy's charts.
    """
    energy = objective.require(ChartedEnergy, "sampling from modes")
    tau, plans, n_rows = settings.model_temperature, settings.plans, len(objective.rows.X)
    power = objective.power(tau)
    size = energy.charts(starts.take([0]), power).centres.shape[1]
    plan = plans.anneal(n_rows, size, settings.n_models)
    if power >= few_rows or size > _MANY_COORDINATES:
        return sample_from_modes(objective, starts, tau, vacant, rng, plan=plan, on_step=on_step)
    tempered = plans.tempered(n_rows, settings.n_models)
    if n_rows >= 2 * _FEW_ROWS:
        tempered = replace(tempered, n_particles=min(tempered.n_particles, 1024))
    run = sample_tempered(objective, tau, rng, plan=tempered, on_step=on_step)
    if run.stopped:
        return run
    least = crude_log_evidence(objective, starts, tau, vacant, rng, plan=plan)
    return held_against_modes(run, least)


def held_against_modes(run: SamplingRun, least: float) -> SamplingRun:
    """Return a run from the prior, with a doubt if it has less evidence than the modes alone.

    Parameters
    ----------
    run : SamplingRun
    least : float
        The log evidence by :func:`~skbae.inference.sample._mode_annealing.crude_log_evidence`.
    """
    found, error = combine_evidence(run.log_evidence, run.log_evidence_error)
    if least <= found + max(_SHORTFALL, 5 * error):
        return run
    doubt = (
        f"importance sampling at the modes gives log evidence {least:.2f}, above the sampler's "
        f"{found:.2f}: a mode may have been missed"
    )
    return replace(run, doubts=(*run.doubts, doubt))


def summarise(
    estimator: str, run: SamplingRun, total: float, model_temperature: float
) -> dict[str, Any]:
    """Return the fitted attributes that follow from a run, and warn when it can't be trusted."""
    sampling = assess(run)
    warn_unless_ok(estimator, sampling)
    scale = model_temperature / total
    return {
        "sampling_": sampling,
        "log_evidence_": sampling.log_evidence,
        "hmaxemax_": scale * sampling.log_evidence,
        "hmaxemax_error_": scale * sampling.log_evidence_error,
        "internal_energy_": float(run.hmaxe.mean()),
        "converged_": sampling.status == "ok",
        "n_iter_": sampling.n_sweeps,
    }


def warn_unless_ok(estimator: str, sampling: SamplingResult) -> None:
    """Issue a ConvergenceWarning for a suspect or failed result."""
    if sampling.status == "ok":
        return
    warnings.warn(
        f"{estimator}: sampling of the models is {sampling.status}: "
        f"{'; '.join(sampling.reasons)}. Draw more (raise n_models), start from more places (raise "
        "n_init), or simplify the model; sampling_ has the diagnostics.",
        ConvergenceWarning,
        stacklevel=users_stacklevel(),
    )
