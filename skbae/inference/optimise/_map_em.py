"""The best model: the mode of ``prior(m) exp((N / tau) Hmaxe_T)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array
from skbae.energies._capabilities import ConjugateEnergy

if TYPE_CHECKING:
    from skbae.inference._objective import Objective


def posterior_mode(
    objective: Objective,
    params: Any,
    model_temperature: float,
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
) -> tuple[Any, Array, Array]:
    """Climb from S models to modes, by expectation maximisation with the prior.

    Parameters
    ----------
    objective : Objective
        Of a ConjugateEnergy.
    params : ArrayRecord
        S starts.
    model_temperature : float
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
    energy = objective.require(ConjugateEnergy, "finding the mode")
    previous = None
    for _ in range(max_iter + 1):
        statistics = objective.expect(params)
        if previous is not None and np.all(np.abs(statistics.objective - previous) < tol):
            break
        previous, visited = statistics.objective, params
        params = energy.maximise_posterior(statistics, model_temperature)
        last = statistics, visited
    else:
        statistics, params = last
    log_target = (
        energy.log_prior(params) + objective.power(model_temperature) * statistics.objective
    )
    return params, statistics.hmaxe, log_target
