"""Sampling ``p(m)`` for an estimator: plans from its settings, fitted attributes, warnings."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skbae._types import SamplingResult, SamplingRun
from skbae.estimators._progress import Steps
from skbae.estimators._stacklevel import users_stacklevel
from skbae.inference.evidence._verdict import assess
from skbae.inference.sample._allocation_plan import allocation_work
from skbae.inference.sample._allocations import sample_allocations
from skbae.inference.sample._charted import sample_charted
from skbae.inference.sample._many_rows import sample_many_rows
from skbae.inference.sample._tempering import sample_tempered
from skbae.inference.sample._with_gaps import sample_with_gaps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skbae._types import Rows
    from skbae.estimators._settings import Settings
    from skbae.inference._objective import Objective
    from skbae.inference.sample._mode_annealing import AnnealPlan
    from skbae.inference.sample._mode_search import ModeStarts
    from skbae.inference.sample._tempering import SMCPlan


# Conditionals in a proposal of jumps where entries are missing, times as many as where none are.
_WITH_GAPS = 10
_NO_OVERLAP = (
    "proposals given drawn entries overlap too little with the posterior given the known ones to "
    "check the log evidence by a second way"
)


def run_gibbs(
    objective: Objective,
    fitted: Any,
    rng: np.random.Generator,
    settings: Settings,
    on_step: Callable[[int, float], bool],
    complete: Sequence[Rows] = (),
) -> SamplingRun:
    """Sample at T = tau by Gibbs sweeps; the number of sweeps depends on the number of rows.

    Where entries are missing, `complete` has sets of rows in which they are drawn, for searches.
    """
    n_chains, plan = settings.plans.gibbs(len(objective.rows.X), settings.n_models)
    if not complete:
        return sample_many_rows(
            objective, fitted, rng, n_chains=n_chains, plan=plan, on_step=on_step
        )
    # conditionals given complete rows are narrower than what known entries say: it takes more
    plan = replace(plan, n_conditionals=_WITH_GAPS * plan.n_conditionals)
    run = sample_with_gaps(
        objective, fitted, rng, n_chains=n_chains, plan=plan, complete=complete, on_step=on_step
    )
    if run.stopped or "importance" in run.estimates:
        return run
    return replace(run, doubts=(*run.doubts, _NO_OVERLAP))


def run_allocations(
    objective: Objective,
    rng: np.random.Generator,
    settings: Settings,
    evidence_tol: float | None,
    steps: Steps,
) -> SamplingRun:
    """Sample at T = tau through allocations, with a plan fit for the size of the problem."""
    work = allocation_work(objective)
    plan = settings.plans.allocations(work, settings.n_models, evidence_tol)
    return sample_allocations(objective, rng, plan=plan, on_step=steps, on_stage=steps.stage)


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
        tell_total(on_step, plan.n_steps)
    tau = settings.model_temperature
    return sample_tempered(objective, tau, rng, plan=plan, on_step=on_step)


def tell_total(on_step: Callable[[int, float], bool], n_steps: int) -> None:
    """Name the largest number of steps to what prints them."""
    if isinstance(on_step, Steps):
        on_step.at_most(n_steps)


def run_charted(
    objective: Objective,
    starts: ModeStarts,
    rng: np.random.Generator,
    settings: Settings,
    on_step: Callable[[int, float], bool],
    few_rows: float | None = None,
) -> SamplingRun:
    """Sample at any T, tau, weights and tilt, starting from the modes or from the prior."""
    plans, n_rows = settings.plans, len(objective.rows.X)
    tempered = plans.tempered(n_rows, settings.n_models)

    def anneal(n_coordinates: int) -> AnnealPlan:
        plan = plans.anneal(n_rows, n_coordinates, settings.n_models)
        # which of the two is made is known once it begins
        tell_total(on_step, max(plan.n_steps, tempered.n_steps))
        return plan

    return sample_charted(
        objective,
        starts,
        settings.model_temperature,
        rng,
        anneal=anneal,
        tempered=tempered,
        few_rows=few_rows,
        on_step=on_step,
    )


def shifted(run: SamplingRun, shift: float, power: float, tau: float) -> SamplingRun:
    """Return the run whose energies are all larger by `shift`, as in other units of X.

    Parameters
    ----------
    run : SamplingRun
    shift : float
    power : float
        ``N / tau``.
    tau : float
    """
    path = run.path
    if path is not None:
        powers = power * tau / path.model_temperatures
        path = replace(
            path,
            log_evidence=path.log_evidence + (powers * shift)[:, None],
            objective=path.objective + shift,
        )
    return replace(
        run,
        hmaxe=run.hmaxe + shift,
        log_evidence=run.log_evidence + power * shift,
        estimates={
            name: (value + power * shift, error) for name, (value, error) in run.estimates.items()
        },
        log_evidence_lower_bound=run.log_evidence_lower_bound + power * shift,
        path=path,
        points=tuple(point.shifted(shift, power) for point in run.points),
    )


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
        "sampling_": with_wbic(settings, sampling, float(run.hmaxe.mean()), total),
        "log_evidence_": sampling.log_evidence,
        "hmaxemax_": scale * sampling.log_evidence,
        "hmaxemax_error_": scale * sampling.log_evidence_error,
        "internal_energy_": float(run.hmaxe.mean()),
        "converged_": sampling.status == "ok",
        "n_iter_": sampling.n_sweeps,
    }


def with_wbic(
    settings: Settings, sampling: SamplingResult, mean: float, total: float
) -> SamplingResult:
    """Return diagnostics with Watanabe's estimate of the log evidence, where models allow it.

    N times the mean of ``Hmaxe_1`` over models sampled at ``tau = log N`` (Watanabe 2013): an
    approximation for large N, which says nothing of other modes than those sampled.

    Parameters
    ----------
    settings : Settings
    sampling : SamplingResult
    mean : float
        ``Hmaxe_T`` over models.
    total : float
        N.
    """
    tau = settings.model_temperature
    if settings.temperature != 1 or total <= 1 or not np.isclose(tau, np.log(total), rtol=1e-6):
        return sampling
    found = {**sampling.estimates, "wbic": (total * mean, total * sampling.hmaxe_error)}
    return replace(sampling, estimates=found)


def internal_energy(objective: Objective, run: SamplingRun) -> float:
    """Return the expected ``Hmaxe_T``: with a tilt, the traces are of the tilted objective."""
    if objective.tilt == 0:
        return float(run.hmaxe.mean())
    return float(objective.expect(run.params).hmaxe.mean())


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
