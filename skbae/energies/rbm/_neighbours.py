"""Partition functions of machines relative to that of a machine near them.

A path of machines leads from the one to the other, linear in the natural parameters: ``W / s2``,
``b / s2``, ``c`` and ``1 / s2``. Where the two are close, as draws of the models around a mode are,
a path of few steps suffices, and states of the first machine are at hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.energies.rbm._energy import PathStates, RBMEnergy
from skbae.energies.rbm._kernel import BoundRBM
from skbae.energies.rbm._visible import RBMParameters, softplus

if TYPE_CHECKING:
    from skbae._types import Array

# Gibbs steps of the reference between one path's start and the next path's.
_STEPS_BETWEEN = 10


def machine_between(first: RBMParameters, last: RBMParameters, beta: float) -> RBMParameters:
    """Return the machine at a point of the path between two machines.

    Examples
    --------
    >>> import numpy as np
    >>> def machine(weight, noise):
    ...     none = np.zeros((1, 1))
    ...     return RBMParameters(
    ...         np.full((1, 1, 1), weight), none, none, np.full((1, 1), noise), np.full(1, np.nan))
    >>> middle = machine_between(machine(1.0, 1.0), machine(2.0, 0.5), 0.5)
    >>> round(float(middle.noise[0, 0]), 4), round(float(middle.weights[0, 0, 0]), 4)
    (0.6667, 1.6667)
    """

    def mixed(ours: Array, theirs: Array) -> Array:
        return (1 - beta) * ours + beta * theirs

    precision = mixed(1 / first.noise, 1 / last.noise)
    of_weights = mixed(first.weights / first.noise[:, None], last.weights / last.noise[:, None])
    return RBMParameters(
        of_weights / precision[:, None],
        mixed(first.visible / first.noise, last.visible / last.noise) / precision,
        mixed(first.hidden, last.hidden),
        1 / precision,
        np.full(len(precision), np.nan),
    )


def free_energies(energy: RBMEnergy, params: RBMParameters, X: Array) -> tuple[Array, Array]:
    """Return the log weights of rows under a single machine, ``log Z`` not subtracted, (n,).

    The activations, (n, d), come along.
    """
    activations = BoundRBM(params, energy.layer).activations(X)[0]
    return energy.layer.own(params, X)[0] + softplus(activations).sum(axis=1), activations


class NeighbouringMachines(RBMEnergy):
    """Machines whose path of annealing starts at a reference machine in place of a base model.

    Parameters
    ----------
    energy : RBMEnergy
    reference : RBMParameters
        A single machine with its ``log_partition``.
    states : ndarray of shape (C, D)
        Draws of the reference; they move on from path to path.
    """

    def __init__(self, energy: RBMEnergy, reference: RBMParameters, states: Array) -> None:
        super().__init__(energy.n_components, energy.n_features, energy.layer, energy.rates)
        self.reference, self.states = reference, states

    def base_log_partition(self, params: RBMParameters) -> float:
        return float(self.reference.log_partition[0])

    def base_states(
        self, params: RBMParameters, n_states: int, rng: np.random.Generator
    ) -> PathStates:
        if len(self.states) < n_states:
            self.states = np.resize(self.states, (n_states, self.n_features))
        for _ in range(_STEPS_BETWEEN):
            self.states = self.advance(self.reference, self.states, rng)
        rows = self.states[rng.permutation(len(self.states))[:n_states]]
        return PathStates(rows, free_energies(self, self.reference, rows)[1])

    def log_ratio(
        self, params: RBMParameters, states: PathStates, start: float, stop: float
    ) -> Array:
        before, after = (machine_between(self.reference, params, at) for at in (start, stop))
        return (
            free_energies(self, after, states.rows)[0] - free_energies(self, before, states.rows)[0]
        )

    def anneal(
        self, params: RBMParameters, states: PathStates, beta: float, rng: np.random.Generator
    ) -> PathStates:
        here = machine_between(self.reference, params, beta)
        rows = self.advance(here, states.rows, rng)
        return PathStates(rows, np.empty((len(rows), 0)))
