"""Chains around one optimum, held there by a weak normal density: local properties of a model.

The target is ``exp(power F(m))`` times a normal density of precision gamma about the optimum in
each coordinate (Lau, Murfet and Wei 2023). Moves are Hamiltonian, with exact gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skbae.inference._objective import Target
from skbae.inference.sample._hmc import coordinate_scales, evaluate, hmc_move

if TYPE_CHECKING:
    from skbae._types import Array


class HeldTarget(Target):
    """A target whose prior is normal about a centre, with the same precision in each coordinate.

    Parameters
    ----------
    target : Target
    centre : ndarray of shape (P,)
    precision : float
    """

    def __init__(self, target: Target, centre: Array, precision: float) -> None:
        self.target, self.centre, self.precision = target, centre, precision

    def prior(self, theta: Array) -> tuple[Array, Array]:
        """Return the log density of the normal factor, up to a constant, and its gradient."""
        offset = theta - self.centre
        return -0.5 * self.precision * (offset**2).sum(axis=1), -self.precision * offset

    def value_and_gradient(self, theta: Array) -> tuple[Array, Array]:
        """Return those of the target."""
        return self.target.value_and_gradient(theta)


@dataclass(frozen=True)
class ChainPlan:
    """Numbers of chains, of sweeps that tune the moves and are discarded, and of sweeps after."""

    n_chains: int = 8
    n_burn: int = 200
    n_sweeps: int = 400
    length: float = 1.6
    max_leapfrog: int = 20


def values_around(
    target: HeldTarget, power: float, plan: ChainPlan, rng: np.random.Generator
) -> Array:
    """Return the target's values along chains that start at its centre, (chains, sweeps)."""
    size = len(target.centre)
    particles = evaluate(target, np.repeat(target.centre[None], plan.n_chains, axis=0))
    powers = np.full(plan.n_chains, power)
    kinds = np.arange(size)
    scales = np.full(size, 1 / np.sqrt(target.precision + power))
    squares, count, step_size = np.zeros(size), 0, 0.2
    values = []
    for sweep in range(plan.n_burn + plan.n_sweeps):
        typical = np.clip(plan.length / step_size, 1, plan.max_leapfrog)
        n_steps = max(1, round(typical * rng.uniform(0.5, 1.5)))
        particles, accepted = hmc_move(target, particles, powers, scales, step_size, n_steps, rng)
        if sweep >= plan.n_burn:
            values.append(particles.value)
            continue
        step_size *= float(np.exp(0.2 * (accepted.mean() - 0.75)))
        squares += (particles.gradient(powers) ** 2).mean(axis=0)
        count += 1
        if count == plan.n_burn // 8:  # scales from the latest gradients
            root = np.sqrt(squares / count)
            scales = coordinate_scales(root[None], np.ones(1), kinds)
            squares, count = np.zeros(size), 0
    return np.stack(values, axis=1)
