"""Hamiltonian Monte Carlo for many particles at once (Neal 2011).

A target is a prior density times ``exp(power * value)``; particles may have different powers,
and all of them make one leapfrog step with one evaluation. Moves are short, with new momenta each:
they bring a population closer to equilibrium at each temperature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skbae._types import Array, ArrayRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae.inference._objective import Target

# A trajectory along which the log prior varies by more than this is rejected before the energy is
# evaluated: its models would be too extreme to compute with.
_MAX_PRIOR_RANGE = 1e4
# Range of the random factor of the step size, drawn for each particle and move.
_JITTER = (0.5, 1.2)


@dataclass(frozen=True)
class Particles(ArrayRecord):
    """Positions theta (S, P), with the prior and value of the target and their gradients."""

    theta: Array
    log_prior: Array
    prior_gradient: Array
    value: Array
    value_gradient: Array

    def log_density(self, power: Array) -> Array:
        """Return the log density, (S,), up to a constant; -inf at particles without a density."""
        with np.errstate(invalid="ignore"):
            density = self.log_prior + power * self.value
        return np.where(np.isnan(density), -np.inf, density)

    def gradient(self, power: Array) -> Array:
        """Return the gradient of :meth:`log_density`, (S, P)."""
        return self.prior_gradient + power[:, None] * self.value_gradient

    def choose(self, accepted: NDArray[np.bool_], other: Particles) -> Particles:
        """Return the particles of `other` where accepted, these elsewhere."""
        column = accepted[:, None]
        return Particles(
            np.where(column, other.theta, self.theta),
            np.where(accepted, other.log_prior, self.log_prior),
            np.where(column, other.prior_gradient, self.prior_gradient),
            np.where(accepted, other.value, self.value),
            np.where(column, other.value_gradient, self.value_gradient),
        )


def evaluate(target: Target, theta: Array) -> Particles:
    """Return particles at theta, with the target evaluated there."""
    return Particles(theta, *target.prior(theta), *target.value_and_gradient(theta))


def leapfrog(
    target: Target,
    particles: Particles,
    velocity: Array,
    power: Array,
    steps: Array,
    n_steps: int,
) -> tuple[Particles, Array, NDArray[np.bool_]]:
    """Follow Hamilton's equations for unit masses.

    Parameters
    ----------
    target : Target
    particles : Particles
        S particles.
    velocity : ndarray of shape (S, P)
        In units of `steps`.
    power : ndarray of shape (S,)
    steps : ndarray of shape (S, P)
        Step size times scale of each coordinate.
    n_steps : int

    Returns
    -------
    particles : Particles
    velocity : ndarray of shape (S, P)
    alive : ndarray of bool of shape (S,)
        False for trajectories along which the log prior varied too much; they were reset to their
        start, so that the arrays keep their shape, and must be rejected. The criterion is the same
        for the reversed trajectory, so that the move leaves the target invariant.
    """
    start = particles
    lowest = highest = start.log_prior
    unknown = np.full(len(power), np.nan)
    alive = np.isfinite(start.log_density(power))
    with np.errstate(over="ignore", invalid="ignore"):
        velocity = velocity + 0.5 * steps * particles.gradient(power)
        for step in range(n_steps):
            theta = particles.theta + steps * velocity
            log_prior, prior_gradient = target.prior(theta)
            lowest, highest = np.minimum(lowest, log_prior), np.maximum(highest, log_prior)
            inside = highest - lowest <= _MAX_PRIOR_RANGE  # false for NaN
            inside &= np.isfinite(prior_gradient).all(axis=1)
            if not inside.all():
                alive = alive & inside
                lost = ~inside
                theta[lost], log_prior[lost] = start.theta[lost], start.log_prior[lost]
                prior_gradient[lost], velocity[lost] = start.prior_gradient[lost], 0.0
            last = step == n_steps - 1
            found = target.value_and_gradient(theta) if last else (unknown, target.force(theta))
            particles = Particles(theta, log_prior, prior_gradient, *found)
            velocity = velocity + (0.5 if last else 1.0) * steps * particles.gradient(power)
    return particles, velocity, alive


def hmc_move(
    target: Target,
    particles: Particles,
    power: Array,
    scales: Array,
    step_size: float,
    n_steps: int,
    rng: np.random.Generator,
) -> tuple[Particles, Array]:
    """Move every particle once, leaving ``prior * exp(power * value)`` invariant.

    Parameters
    ----------
    target : Target
    particles : Particles
        S particles.
    power : ndarray of shape (S,)
    scales : ndarray of shape (P,)
        Scales of the coordinates, by which the move is preconditioned.
    step_size : float
        Step size in units of the scales; each particle multiplies it by a random factor.
    n_steps : int
        Number of leapfrog steps.
    rng : Generator

    Returns
    -------
    particles : Particles
    acceptance : ndarray of shape (S,)
        Acceptance probabilities.
    """
    shape = particles.theta.shape
    steps = step_size * rng.uniform(*_JITTER, size=(shape[0], 1)) * scales
    velocity = rng.standard_normal(shape)
    proposed, final, alive = leapfrog(target, particles, velocity, power, steps, n_steps)
    with np.errstate(over="ignore", invalid="ignore"):
        change = proposed.log_density(power) - particles.log_density(power)
        change += 0.5 * ((velocity**2).sum(axis=1) - (final**2).sum(axis=1))
    change = np.where(alive & ~np.isnan(change), change, -np.inf)
    acceptance = np.exp(np.minimum(change, 0.0))
    accepted = rng.random(shape[0]) < acceptance
    return particles.choose(accepted, proposed), acceptance


def coordinate_scales(
    gradients: Array, weights: Array, kinds: NDArray[np.intp], fallback: float = 1.0
) -> Array:
    """Return a scale for each coordinate, shared by those of a kind.

    The scale is the inverse root mean square of the total gradient. At equilibrium the expected
    square of a coordinate's gradient is the expected curvature of the log density, so that the
    scale is a standard deviation *within* modes. The spread of the particles would also include
    the distances between modes, such as relabellings of the same components.

    Parameters
    ----------
    gradients : ndarray of shape (S, P)
    weights : ndarray of shape (S,)
        Of the particles; they sum to one.
    kinds : ndarray of int of shape (P,)
        Which coordinates are exchangeable.
    fallback : float, default=1.0
        For kinds without a gradient.

    Returns
    -------
    ndarray of shape (P,)

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((10000, 3)) * [0.1, 0.1, 5.0]
    >>> scales = coordinate_scales(
    ...     -x / [0.01, 0.01, 25.0], np.full(10000, 1e-4), np.array([0, 0, 1]))
    >>> scales.round(1).tolist()
    [0.1, 0.1, 5.0]
    """
    used = weights > 0
    squares = weights[used] @ gradients[used] ** 2
    sums = np.bincount(kinds, weights=squares)
    means = (sums / np.maximum(np.bincount(kinds), 1))[kinds]
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = 1.0 / np.sqrt(means)
    return np.where(np.isfinite(scales) & (scales > 0), scales, fallback)
