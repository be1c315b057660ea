"""Gradients of machines whose states cannot be summed, with expectations under persistent chains.

Several machines move at once, as chains of a sampler do, and each has Markov chains of its own
states, which continue while the machine changes slowly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from skbae.energies.rbm._kernel import BoundRBM, Contrast
from skbae.energies.rbm._neighbours import free_energies
from skbae.energies.rbm._visible import Moments

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.energies.rbm._energy import RBMEnergy
    from skbae.energies.rbm._visible import RBMParameters


def moments_of_rows(
    energy: RBMEnergy, params: RBMParameters, X: Array, weights: Array, temperature: float
) -> tuple[Array, Moments]:
    """Return ``Hmaxe_T + log Z`` of S machines on weighted rows, (S,), and the rows' moments."""
    nothing = np.zeros(params.n_models)
    none = Moments(params.weights, params.hidden, params.visible, params.visible)  # not used
    kernel = Contrast(params, energy.layer, temperature, (nothing, none))
    accumulator = kernel.zero()
    kernel.accumulate(accumulator, X, weights, None, None)
    found = kernel.finish(accumulator, float(weights.sum()))
    return found.hmaxe, found.rows


def moments_of_chains(
    energy: RBMEnergy, params: RBMParameters, chains: Array, rng: np.random.Generator
) -> tuple[Moments, Array]:
    """Return the moments of S machines over their chains (S, C, D), and the chains moved on."""
    found, moved = [], np.empty_like(chains)
    shares = np.full(chains.shape[1], 1 / chains.shape[1])
    for s, states in enumerate(chains):
        one = params.take(slice(s, s + 1))
        codes = expit(BoundRBM(one, energy.layer).activations(states)[0])
        found.append(energy.moments(one, states, codes, shares))
        drawn = (rng.random(codes.shape) < codes).astype(np.float64)
        moved[s] = energy.layer.emit(one, drawn, rng)
    return Moments.concatenate(found), moved


def gradient_by_chains(
    energy: RBMEnergy, theta: Array, params: RBMParameters, rows: Moments, machine: Moments
) -> Array:
    """Return the gradient of ``Hmaxe_T`` in coordinates, (S, P), given both kinds of moments."""
    ours, theirs = (energy.layer.energy_gradient(params, each) for each in (rows, machine))
    return energy.join_gradients(theta, [a - b for a, b in zip(ours, theirs, strict=True)])


def mean_free_energy(
    energy: RBMEnergy, params: RBMParameters, X: Array, weights: Array | None
) -> Array:
    """Return the weighted mean log weight of rows, ``log Z`` not subtracted, (S,)."""
    each = [
        free_energies(energy, params.take(slice(s, s + 1)), X)[0] for s in range(params.n_models)
    ]
    return np.average(np.stack(each), axis=1, weights=weights)


class CentredCoordinates:
    """Coordinates in which the energy has units minus their means (Montavon and Mueller 2012).

    Weights and intercepts are nearly uncorrelated in these. The map is linear, of determinant one.

    Parameters
    ----------
    energy : RBMEnergy
    params : RBMParameters
        A single machine.
    states : ndarray of shape (C, D)
        Draws of it, whose means are subtracted.
    """

    def __init__(self, energy: RBMEnergy, params: RBMParameters, states: Array) -> None:
        self.energy, self.of_rows = energy, states.mean(axis=0) / params.noise[0]
        codes = expit(BoundRBM(params, energy.layer).activations(states)[0])
        self.of_codes = codes.mean(axis=0)

    def enter(self, theta: Array) -> Array:
        """Return centred coordinates (S, P), given the energy's."""
        return self._shifted(theta, 1.0)

    def leave(self, phi: Array) -> Array:
        """Return the energy's coordinates: the inverse of :meth:`enter`."""
        return self._shifted(phi, -1.0)

    def _shifted(self, theta: Array, sign: float) -> Array:
        found = np.array(theta)
        weights, visible, hidden = self.energy.parts(found)
        visible += sign * np.einsum("sjd,j->sd", weights, self.of_codes)
        hidden += sign * (weights @ self.of_rows)
        return found

    def pull(self, gradient: Array) -> Array:
        """Return a gradient (S, P) in centred coordinates, given that in the energy's."""
        found = np.array(gradient)
        weights, visible, hidden = self.energy.parts(found)
        weights -= self.of_codes[:, None] * visible[:, None] + hidden[:, :, None] * self.of_rows
        return found
