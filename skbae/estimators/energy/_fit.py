"""Fits of any energy: which algorithm, given its capabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._base import EnumerableBoundEnergy, StatisticsEnergy
from skbae.energies._capabilities import CollapsibleEnergy, ConjugateEnergy, GradientEnergy
from skbae.energies.mixture._conjugate import MAX_RELABELLED
from skbae.energies.mixture._energy import MixtureEnergy
from skbae.estimators._mixture import match_to_reference
from skbae.estimators._mixture_sampling import MOST_ALLOCATION_WORK
from skbae.estimators._sampling import run_allocations, run_gibbs, run_tempered
from skbae.estimators.energy._settings import check_samplable
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.optimise._mode import find_maximum
from skbae.inference.sample._allocation_plan import allocation_work
from skbae.inference.sample._gibbs import sample_conjugate

if TYPE_CHECKING:
    from skbae._types import EMResult, Rows, SamplingRun
    from skbae.energies._base import Energy
    from skbae.estimators._progress import Steps
    from skbae.estimators.energy._settings import EnergySettings
    from skbae.inference._objective import Objective

# Relative difference of scores in passes and of single rows that is due to rounding.
_SAME = 1e-4


def maximise(
    settings: EnergySettings, objective: Objective, starts: Any, on_step: Steps
) -> EMResult:
    """Return the models of largest objective reached from each start.

    Raises
    ------
    TypeError
        If the energy has neither statistics nor gradients.
    """
    energy = objective.energy
    if isinstance(energy, StatisticsEnergy):
        return expectation_maximisation(
            objective,
            starts,
            tol=settings.tol,
            max_iter=settings.max_iter,
            on_iteration=on_step,
        )
    if isinstance(energy, GradientEnergy):
        return find_maximum(
            objective, starts, tol=settings.tol, max_iter=settings.max_iter, on_step=on_step
        )
    lacks = [
        f"{kind.__name__} ({', '.join(missing)})"
        for kind in (StatisticsEnergy, GradientEnergy)
        if (missing := sorted(m for m in kind.__abstractmethods__ if not hasattr(energy, m)))
    ]
    raise TypeError(
        "the best model is found by expectation maximisation or by gradients, but "
        f"{type(energy).__name__} lacks the methods of {' and of '.join(lacks)}"
    )


def sample(
    settings: EnergySettings,
    objective: Objective,
    starts: Any,
    rng: np.random.Generator,
    on_step: Steps,
) -> SamplingRun:
    """Sample the models by the best algorithm that the energy's capabilities allow.

    `starts` makes models to start from, where this is needed.

    Raises
    ------
    TypeError
        If the energy lacks the capability that the settings need.
    """
    energy = objective.energy
    if not (isinstance(energy, ConjugateEnergy) and settings.sweeps(objective.rows.weights)):
        check_samplable(settings, energy)
        return run_tempered(objective, rng, settings, on_step)
    if not isinstance(energy, CollapsibleEnergy):
        n_chains, plan = settings.plans.gibbs(len(objective.rows.X), settings.n_models)
        return sample_conjugate(
            objective, energy.draw_prior(n_chains, rng), rng, plan=plan, on_step=on_step
        )
    many = isinstance(energy, MixtureEnergy) and energy.n_components > MAX_RELABELLED
    if many or allocation_work(objective) <= MOST_ALLOCATION_WORK:
        return run_allocations(objective, rng, settings, settings.evidence_tol, on_step)
    return run_gibbs(objective, starts(), rng, settings, on_step)


def matched(energy: Energy, params: Any, reference: Any, rows: Rows, temperature: float) -> Any:
    """Return models whose labels, if there are any, agree best with those of the reference."""
    if isinstance(energy, MixtureEnergy):
        return match_to_reference(energy, params, reference, rows, temperature)
    return params


def check_scores(objective: Objective, params: Any, hmaxe: float) -> None:
    """Raise ValueError unless a model scores the training rows as the fit did.

    Parameters
    ----------
    objective : Objective
    params : ArrayRecord
        One model.
    hmaxe : float
        Its mean of ``Hmax_T``, from a pass of the fit.
    """
    energy, rows = objective.energy, objective.rows
    bound = energy.bind(params, rows.frame, rows.X.dtype)
    values = objective.runner.map(
        lambda chunk: bound.hmax(chunk, objective.temperature)[0], rows.X, bound.chunk_rows
    )
    scored = float(np.average(values, weights=rows.weights))
    if not abs(scored - hmaxe) <= _SAME * max(1.0, abs(hmaxe)):
        raise ValueError(
            f"hmax of a bound {type(energy).__name__} disagrees with the statistics of its "
            f"expectation: for the fitted model the mean over X is {scored:.6g} and {hmaxe:.6g} "
            "nats a row (skbae.testing.check_energy finds such mistakes)"
        )


def number_of_codes(energy: Energy, params: Any, rows: Rows) -> int | None:
    """Return the number of codes of an energy, or None where they can't be enumerated."""
    bound = energy.bind(params, rows.frame, rows.X.dtype)
    if not isinstance(bound, EnumerableBoundEnergy):
        return None
    try:
        return int(bound.code_energies(rows.X[:1]).shape[1])
    except ValueError:  # continuous codes, or too many
        return None
