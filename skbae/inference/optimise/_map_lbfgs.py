"""The best model by its gradient, for families whose prior has no closed maximisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize

from skbae._types import Rows
from skbae.energies._base import require
from skbae.energies._capabilities import GradientEnergy
from skbae.inference.sample._tempering import EnergyTarget

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.inference.passes._rows import RowRunner


def climb_to_mode(
    energy: GradientEnergy,
    params: Any,
    rows: Rows,
    runner: RowRunner,
    *,
    temperature: float,
    model_temperature: float,
    tilt: float,
    max_iter: int = 500,
) -> tuple[Any, float, float]:
    """Climb from the best of S models to a mode of ``prior(m) exp((N / tau) F(m))``.

    The density is that in the energy's coordinates, and F is ``Hmaxe_T`` or its tilted counterpart.

    Parameters
    ----------
    energy : GradientEnergy
    params : ArrayRecord
        S models.
    rows : Rows
    runner : RowRunner
    temperature, model_temperature, tilt : float
    max_iter : int
        Of the quasi-Newton method (L-BFGS).

    Returns
    -------
    params : ArrayRecord
        One model.
    hmaxe : float
        ``Hmaxe_T``.
    objective : float
        F; the same unless tilted.
    """
    require(energy, GradientEnergy, "climbing to the mode")
    target = EnergyTarget(energy, rows, runner, temperature, tilt)
    scale = rows.total / model_temperature

    def descent(theta: Array) -> tuple[float, Array]:
        log_prior, prior_gradient = target.prior(theta[None])
        objective, gradient = target.objective(theta[None])
        value = float(-log_prior[0] - scale * objective[0])
        return value, -(prior_gradient + scale * gradient)[0]

    starts = energy.unconstrain(params)
    log_density = target.prior(starts)[0] + scale * target.objective(starts)[0]
    best = starts[int(np.argmax(log_density))]
    found = minimize(descent, best, jac=True, method="L-BFGS-B", options={"maxiter": max_iter})
    mode = energy.constrain(found.x[None])
    kernel = energy.expectation(mode, rows.frame, np.float64, temperature, tilt)
    statistics = runner.reduce(kernel, rows)
    return mode, float(statistics.hmaxe[0]), float(statistics.objective[0])
