"""The best model: the mode of ``prior(m) exp((N / tau) Hmaxe_T)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Rows
from skbae.energies._base import require
from skbae.energies._capabilities import ConjugateEnergy

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.inference.passes._rows import RowRunner


def posterior_mode(
    energy: ConjugateEnergy,
    params: Any,
    rows: Rows,
    runner: RowRunner,
    *,
    temperature: float,
    model_temperature: float,
    tilt: float = 0.0,
    tol: float = 1e-6,
    max_iter: int = 200,
) -> tuple[Any, Array, Array]:
    """Climb from S models to modes, by expectation maximisation with the prior.

    Parameters
    ----------
    energy : ConjugateEnergy
    params : ArrayRecord
        S starts.
    rows : Rows
    runner : RowRunner
    temperature, model_temperature, tilt : float
    tol : float
        Stop when no start's ``Hmaxe`` changes by more.
    max_iter : int

    Returns
    -------
    params : ArrayRecord
        The S models climbed to.
    hmaxe, log_target : ndarrays of shape (S,)
        ``Hmaxe_T`` and ``log prior + (N / tau) objective`` there.
    """
    require(energy, ConjugateEnergy, "finding the mode")
    previous = None
    for _ in range(max_iter + 1):
        kernel = energy.expectation(params, rows.frame, np.float64, temperature, tilt)
        statistics = runner.reduce(kernel, rows)
        objective = statistics.objective
        if previous is not None and np.all(np.abs(objective - previous) < tol):
            break
        previous, visited = objective, params
        params = energy.maximise_posterior(statistics, model_temperature)
        last = statistics, visited
    else:
        statistics, params = last
    scale = rows.total / model_temperature
    return params, statistics.hmaxe, energy.log_prior(params) + scale * statistics.objective


def log_targets(
    energy: ConjugateEnergy,
    params: Any,
    rows: Rows,
    runner: RowRunner,
    temperature: float,
    model_temperature: float,
    tilt: float,
) -> tuple[Array, Array]:
    """Return ``Hmaxe_T`` and ``log prior + (N / tau) objective`` of S models, each (S,)."""
    kernel = energy.expectation(params, rows.frame, np.float64, temperature, tilt)
    statistics = runner.reduce(kernel, rows)
    scale = rows.total / model_temperature
    return statistics.hmaxe, energy.log_prior(params) + scale * statistics.objective
