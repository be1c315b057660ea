"""Sampling ``p(m)`` for an estimator: choice of the sampler, its fitted attributes, warnings."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae._types import SamplingResult, SamplingRun
from skbae.energies._capabilities import ChartedEnergy
from skbae.estimators._stacklevel import users_stacklevel
from skbae.inference.evidence._verdict import assess, combine_evidence
from skbae.inference.optimise._mode import find_mode
from skbae.inference.sample._allocations import allocation_work, sample_allocations
from skbae.inference.sample._gibbs import sample_conjugate
from skbae.inference.sample._mode_annealing import importance_log_evidence, sample_from_modes
from skbae.inference.sample._subset_search import models_by_subset_search
from skbae.inference.sample._tempering import sample_tempered

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae.estimators._settings import Settings
    from skbae.inference._objective import Objective
    from skbae.inference.sample._mode_search import ModeStarts
    from skbae.inference.sample._tempering import SMCPlan

# With fewer than _FEW_ROWS rows (divided by tau) and at most _MANY_COORDINATES coordinates the
# posterior is close enough to the prior for sampling to start from prior draws.
_FEW_ROWS, _MANY_COORDINATES = 20.0, 100
# Nats by which the log evidence by importance sampling at the modes may exceed that of the sampler
# that starts from the prior.
_SHORTFALL = 1.0


# Nats by which a mode of many rows may be lower than the best one and still matter.
_WINDOW = 20.0
# Nats by which the modes that searches lead to may differ, as far as these are improved.
_SAME_MODE = 10.0


def chain_starts(
    objective: Objective, fitted: Any, n_chains: int, rng: np.random.Generator
) -> tuple[Any, list[str]]:
    """Return models for chains on many rows to start from, and reasons for doubt.

    The starts are the best modes that fits and two searches on some of the rows lead to: with many
    rows other modes are lighter by far more than their width. The searches are independent, so that
    it counts against a result if they lead to modes of different height.

    Parameters
    ----------
    objective : Objective
        Of a CollapsibleEnergy.
    fitted : ArrayRecord
        Fits to begin with.
    n_chains : int
    rng : Generator

    Returns
    -------
    starts : ArrayRecord
    doubts : list of str
    """
    searched = [models_by_subset_search(objective, rng) for _ in range(2)]
    parts = [*searched, fitted]
    joined = type(fitted).concatenate(parts)
    source = np.repeat(np.arange(len(parts)), [part.n_models for part in parts])
    settings: dict[str, Any] = {"tol": 1e-4, "max_iter": 30}
    found = find_mode(objective, joined, objective.temperature, **settings)
    leading = []
    for number in range(len(parts)):
        own = np.flatnonzero(source == number)
        leading.append(own[int(np.argmax(found.log_target[own]))])
    best = found.params.take(np.array(leading))
    found = find_mode(objective, best, objective.temperature, tol=1e-6, max_iter=300)
    heights = found.log_target[: len(searched)]
    doubts = []
    if np.ptp(heights) > _SAME_MODE:
        listed = ", ".join(f"{value:.1f}" for value in heights)
        doubts = [f"independent searches lead to modes of different log density ({listed})"]
    good = np.flatnonzero(found.log_target >= found.log_target.max() - _WINDOW)
    return found.params.take(np.resize(good, n_chains)), doubts


def run_gibbs(
    objective: Objective,
    fitted: Any,
    rng: np.random.Generator,
    settings: Settings,
    on_step: Callable[[int, float], bool],
) -> SamplingRun:
    """Sample at T = tau by Gibbs sweeps; the number of sweeps depends on the number of rows."""
    n_chains, plan = settings.plans.gibbs(len(objective.rows.X), settings.n_models)
    starts, doubts = chain_starts(objective, fitted, n_chains, rng)
    run = sample_conjugate(objective, starts, rng, plan=plan, on_step=on_step)
    return replace(run, doubts=(*run.doubts, *doubts))


def run_allocations(
    objective: Objective,
    rng: np.random.Generator,
    settings: Settings,
    evidence_tol: float | None,
    on_step: Callable[[int, float], bool],
) -> SamplingRun:
    """Sample at T = tau through allocations, with a plan fit for the size of the problem."""
    work = allocation_work(objective)
    plan = settings.plans.allocations(work, settings.n_models, evidence_tol)
    return sample_allocations(objective, rng, plan=plan, on_step=on_step)


def run_tempered(
    objective: Objective,
    rng: np.random.Generator,
    settings: Settings,
    on_step: Callable[[int, float], bool],
    plan: SMCPlan | None = None,
) -> SamplingRun:
    """Sample at any T, tau, weights and tilt, by tempered Monte Carlo with gradients."""
    if plan is None:
        plan = settings.plans.tempered(len(objective.rows.X), settings.n_models)
    tau = settings.model_temperature
    return sample_tempered(objective, tau, rng, plan=plan, on_step=on_step)


def run_charted(
    objective: Objective,
    starts: ModeStarts,
    rng: np.random.Generator,
    settings: Settings,
    on_step: Callable[[int, float], bool],
    few_rows: float = _FEW_ROWS,
) -> SamplingRun:
    """Sample at any T, tau, weights and tilt, starting from the modes or from the prior.

    Starting from normal densities fitted to the modes takes a few steps, however many rows there
    are, and represents every mode that a start leads to. With fewer than `few_rows` rows (divided
    by tau) the posterior is close to the prior and far from normal: sampling then starts from the
    prior, and importance sampling at the modes only checks the evidence. `few_rows` is smaller for
    energies in whose charts the prior is itself nearly normal.
    """
    energy = objective.require(ChartedEnergy, "sampling from modes")
    tau, plans, n_rows = settings.model_temperature, settings.plans, len(objective.rows.X)
    power = objective.power(tau)
    size = energy.charts(starts.params.take([0]), power).centres.shape[1]
    plan = plans.anneal(n_rows, size, settings.n_models)
    if power >= few_rows or size > _MANY_COORDINATES:
        return sample_from_modes(objective, starts, tau, rng, plan=plan, on_step=on_step)
    tempered = plans.tempered(n_rows, settings.n_models)
    if n_rows >= 2 * _FEW_ROWS:
        tempered = replace(tempered, n_particles=min(tempered.n_particles, 1024))
    run = sample_tempered(objective, tau, rng, plan=tempered, on_step=on_step)
    if run.stopped:
        return run
    at_modes = importance_log_evidence(objective, starts, tau, rng, plan=plan)
    return compare_with_modes(run, at_modes)


def compare_with_modes(run: SamplingRun, at_modes: float) -> SamplingRun:
    """Return the run, with a doubt if its log evidence is below the estimate at the modes.

    Parameters
    ----------
    run : SamplingRun
        Of a sampler that starts from the prior.
    at_modes : float
        The log evidence by
        :func:`~skbae.inference.sample._mode_annealing.importance_log_evidence`.
    """
    found, error = combine_evidence(run.log_evidence, run.log_evidence_error)
    if at_modes <= found + max(_SHORTFALL, 5 * error):
        return run
    doubt = (
        f"importance sampling at the modes gives log evidence {at_modes:.2f}, above the sampler's "
        f"{found:.2f}: a mode may have been missed"
    )
    return replace(run, doubts=(*run.doubts, doubt))


def summarise(settings: Settings, run: SamplingRun, total: float) -> dict[str, Any]:
    """Return the fitted attributes that follow from a run; warn unless its status is "ok".

    Parameters
    ----------
    settings : Settings
    run : SamplingRun
    total : float
        Sum of the rows' weights.
    """
    sampling = assess(run)
    warn_unless_ok(settings, sampling)
    scale = settings.model_temperature / total
    return {
        "sampling_": sampling,
        "log_evidence_": sampling.log_evidence,
        "hmaxemax_": scale * sampling.log_evidence,
        "hmaxemax_error_": scale * sampling.log_evidence_error,
        "internal_energy_": float(run.hmaxe.mean()),
        "converged_": sampling.status == "ok",
        "n_iter_": sampling.n_sweeps,
    }


def warn_unless_ok(settings: Settings, sampling: SamplingResult) -> None:
    """Issue a ConvergenceWarning for a suspect or failed result."""
    if sampling.status == "ok":
        return
    warnings.warn(
        f"{settings.estimator}: sampling of the models is {sampling.status}: "
        f"{'; '.join(sampling.reasons)}. {settings.sampling_advice} sampling_ has the diagnostics.",
        ConvergenceWarning,
        stacklevel=users_stacklevel(),
    )
