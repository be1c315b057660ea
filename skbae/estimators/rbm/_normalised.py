"""Partition functions of kept machines: by enumeration, or relative to a machine near them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skbae.energies.rbm._neighbours import NeighbouringMachines
from skbae.inference.evidence._partition import AnnealingPlan, estimate_partition

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array
    from skbae.energies.rbm._energy import RBMEnergy
    from skbae.energies.rbm._visible import RBMParameters

# Largest number of units whose states are enumerated for each of many machines.
MAX_KEPT_UNITS = 16
# Paths from the best machine to another one near it.
_NEIGHBOURS = AnnealingPlan(4, 250, n_steps=2, max_steps=128, target_error=0.05, n_settle=20)
# Largest error of log Z, in nats, that raises no doubt.
_LARGE_ERROR = 0.25


@dataclass(frozen=True)
class Normalised:
    """Machines with their partition functions.

    Attributes
    ----------
    params : RBMParameters
    error : float
        Root mean square of the standard errors of log Z, relative to the reference's.
    doubts : tuple of str
    """

    params: RBMParameters
    error: float
    doubts: tuple[str, ...]


def normalise_kept(
    energy: RBMEnergy,
    params: RBMParameters,
    reference: RBMParameters,
    states: Array,
    rng: np.random.Generator,
    exact: bool,
    on_model: Callable[[], bool],
) -> Normalised:
    """Return machines with log Z.

    Parameters
    ----------
    energy : RBMEnergy
        Of rows in units of X.
    params : RBMParameters
    reference : RBMParameters
        With its log Z.
    states : ndarray of shape (C, D)
        Draws of the reference.
    rng : Generator
    exact : bool
        Whether states are enumerated.
    on_model : callable
        Called after each machine; returning true ends the work, and the machines so far are kept.
    """
    if exact:
        return Normalised(replace(params, log_partition=energy.log_partition(params)), 0.0, ())
    near = NeighbouringMachines(energy, reference, states)
    found = []
    for s in range(params.n_models):
        found.append(estimate_partition(near, params.take(slice(s, s + 1)), rng, _NEIGHBOURS))
        if on_model():
            break
    errors = np.array([each.error for each in found])
    poor = sum(not each.agree or each.error > _LARGE_ERROR for each in found)
    doubts: tuple[str, ...] = ()
    if poor:
        doubts = (
            f"log Z of {poor} of {len(found)} models is uncertain by more than {_LARGE_ERROR:g} "
            "nats, or its estimates from both ends disagree",
        )
    kept = params.take(slice(0, len(found)))
    log_partition = np.array([each.log_partition for each in found])
    error = float(np.sqrt(np.mean(errors**2)))
    return Normalised(replace(kept, log_partition=log_partition), error, doubts)
