"""Sampling mixtures with a conjugate prior: which sampler serves which rows and temperatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import get_config

from skbae.energies.mixture._conjugate import MAX_RELABELLED
from skbae.estimators._progress import progress
from skbae.estimators._sampling import run_allocations, run_gibbs
from skbae.inference.passes._rows import make_rows
from skbae.inference.sample._allocation_plan import allocation_work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skbae._types import Rows, SamplingRun
    from skbae.energies.mixture._energy import MixtureParameters
    from skbae.estimators._mixture import MixtureSettings
    from skbae.estimators._progress import Steps
    from skbae.inference._objective import Objective

# Rows times components times numbers a row adds to sums: above, mixtures are sampled by passes over
# the rows instead of searches and chains of allocations.
MOST_ALLOCATION_WORK = 1.5e6
# Largest weight of a row: larger whole numbers have no successor in double precision.
_MOST_CODES = 2.0**53


def rows_of_weight_one(rows: Rows) -> Rows:
    """Return rows repeated as often as their weights say, where these are integers.

    Raises
    ------
    ValueError
        If they would not fit into scikit-learn's ``working_memory``.
    """
    if rows.weights is None or np.any(rows.weights != np.round(rows.weights)):
        return rows
    check_room_to_repeat(rows)
    return make_rows(np.repeat(rows.X, rows.weights.astype(int), axis=0), None)


def check_room_to_repeat(rows: Rows) -> None:
    """Raise ValueError unless rows, repeated as their weights say, fit into memory."""
    needed, limit = 8 * rows.total * rows.X.shape[1] / 2**20, get_config()["working_memory"]
    if needed > limit:
        raise ValueError(
            f"sample_weight sums to {rows.total:.3g} rows, which sampling repeats, in "
            f"{needed:.3g} MiB of memory, more than scikit-learn's working_memory ({limit} MiB); "
            "divide sample_weight by a number, set model_temperature=0, or raise working_memory "
            "with sklearn.set_config"
        )


def sweeps(objective: Objective, tau: float, draws_gaps: bool) -> bool:
    """Return whether models can be sampled through codes: T = tau, t = 0, and whole weights.

    Missing entries that are drawn are drawn from the density of rows, which is that of the target
    at T = 1.
    """
    weights, temperature = objective.rows.weights, objective.temperature
    whole = weights is None or bool(np.all(weights == np.round(weights)))
    same = temperature == tau and objective.tilt == 0
    return same and whole and not (draws_gaps and temperature != 1)


def sample_by_codes(
    owner: Any,
    settings: MixtureSettings,
    objective: Objective,
    rng: np.random.Generator,
    *,
    evidence_tol: float | None,
    draws_gaps: bool,
    start: Callable[[], tuple[MixtureParameters, Sequence[Rows]]],
) -> SamplingRun:
    """Sample through allocations of rows to components, or by sweeps where there are many rows.

    Parameters
    ----------
    owner : estimator
        Whose callbacks are told of progress.
    settings : MixtureSettings
    objective : Objective
    rng : Generator
    evidence_tol : float or None
    draws_gaps : bool
        Whether rows have missing entries that sweeps draw.
    start : callable
        Returns fitted models from which sweeps start, and sets of complete rows for searches.
    """
    rows, n_components = objective.rows, settings.n_components
    if rows.weights is not None and rows.weights.max() > _MOST_CODES:
        raise ValueError(
            f"sample_weight must be at most {_MOST_CODES:.3g} for models to be sampled, since each "
            f"weight is a number of codes to draw, got {rows.weights.max():.3g}; divide it by a "
            "number, or set model_temperature=0"
        )
    if draws_gaps and n_components > MAX_RELABELLED:
        raise ValueError(
            f"n_components must be at most {MAX_RELABELLED} for models to be sampled on rows "
            "with missing entries (chains jump between densities that are sums over all "
            f"relabellings of the components), got {n_components}; set "
            "model_temperature=0 to fit the single best model"
        )
    few = allocation_work(objective) <= MOST_ALLOCATION_WORK and not draws_gaps
    if few or n_components > MAX_RELABELLED:
        step: Steps
        with progress(owner, rows.X, None, None) as step:
            return run_allocations(objective, rng, settings, evidence_tol, step)
    models, complete = start()
    n_steps = settings.plans.gibbs(len(rows.X), settings.n_models)[1].n_steps
    with progress(owner, rows.X, None, n_steps) as step:
        return run_gibbs(objective, models, rng, settings, step, complete)
