"""The best model by its gradient, for families whose prior has no closed maximisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize

from skbae._types import Array
from skbae.energies._capabilities import GradientEnergy

if TYPE_CHECKING:
    from skbae.inference._objective import Objective


def climb_to_mode(
    objective: Objective,
    params: Any,
    model_temperature: float,
    *,
    max_iter: int = 500,
) -> tuple[Any, float, float]:
    """Climb from the best of S models to a mode of ``prior(m) exp((N / tau) F(m))``.

    The density is that in the energy's coordinates, and F is ``Hmaxe_T`` or its tilted counterpart.

    Parameters
    ----------
    objective : Objective
        F, of a GradientEnergy.
    params : ArrayRecord
        S models.
    model_temperature : float
    max_iter : int
        Of the quasi-Newton method (L-BFGS).

    Returns
    -------
    params : ArrayRecord
        One model.
    hmaxe : float
        ``Hmaxe_T``.
    value : float
        F; the same unless tilted.
    """
    energy = objective.require(GradientEnergy, "climbing to the mode")
    power = objective.power(model_temperature)

    def descent(theta: Array) -> tuple[float, Array]:
        log_prior, prior_gradient = objective.prior(theta[None])
        value, gradient = objective.value_and_gradient(theta[None])
        return float(-log_prior[0] - power * value[0]), -(prior_gradient + power * gradient)[0]

    starts = energy.unconstrain(params)
    log_density = objective.prior(starts)[0] + power * objective.value_and_gradient(starts)[0]
    best = starts[int(np.argmax(log_density))]
    found = minimize(descent, best, jac=True, method="L-BFGS-B", options={"maxiter": max_iter})
    mode = energy.constrain(found.x[None])
    statistics = objective.expect(mode)
    return mode, float(statistics.hmaxe[0]), float(statistics.objective[0])
