"""Laplace's approximation of the evidence, for discarding candidates of low evidence quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array
from skbae.energies._capabilities import GradientEnergy
from skbae.inference.optimise._mode import best_start, find_mode

if TYPE_CHECKING:
    from skbae.inference._objective import Objective

# Step of finite differences, in units of the coordinate's standard deviation.
_STEP = 1e-3
# Largest number of coordinates evaluated at once.
_BATCH = 1 << 16


def laplace_log_evidence(objective: Objective, params: Any, model_temperature: float) -> float:
    """Return ``log p(mode) + (P / 2) log 2 pi - (1/2) log det(- Hessian)``.

    The Hessian is computed from differences of gradients, in the energy's coordinates. Where the
    density is flat along some direction the approximation is rough.

    Parameters
    ----------
    objective : Objective
        Of a GradientEnergy.
    params : ArrayRecord
        Models; the search for the mode starts from the best of them.
    model_temperature : float

    Returns
    -------
    float
    """
    energy = objective.require(GradientEnergy, "Laplace's approximation")
    start = best_start(objective, params, model_temperature)
    mode = find_mode(objective, start, model_temperature).params
    power = objective.power(model_temperature)

    def log_density(theta: Array) -> tuple[Array, Array]:
        prior, of_prior = objective.prior(theta)
        value, of_value = objective.value_and_gradient(theta)
        return prior + power * value, of_prior + power * of_value

    theta = energy.unconstrain(mode)
    size = theta.shape[1]
    steps = np.full(size, _STEP)
    for _ in range(2):  # the first round estimates the standard deviation of each coordinate
        precision = -_second_derivatives(log_density, theta, steps)
        curvature = np.maximum(np.diagonal(precision), 1.0)
        steps = _STEP / np.sqrt(curvature)
    eigenvalues = np.linalg.eigvalsh(0.5 * (precision + precision.T))
    log_det = np.log(np.maximum(eigenvalues, 1e-12 * eigenvalues[-1])).sum()
    return float(log_density(theta)[0][0] + 0.5 * size * np.log(2 * np.pi) - 0.5 * log_det)


def _second_derivatives(log_density: Any, theta: Array, steps: Array) -> Array:
    """Return the Hessian (P, P) at theta (1, P), by central differences of the gradient."""
    size = theta.shape[1]
    batch = max(1, _BATCH // size)
    rows = []
    for start in range(0, size, batch):
        part = slice(start, start + batch)
        shifts = np.diag(steps)[part]
        up, down = (log_density(theta + sign * shifts)[1] for sign in (1.0, -1.0))
        rows.append((up - down) / (2 * steps[part, None]))
    return np.concatenate(rows)
