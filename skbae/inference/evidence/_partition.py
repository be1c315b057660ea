"""Partition functions by annealed importance sampling, forwards and backwards.

Forward paths (Neal 2001) start from exact draws of a base model; their weights are unbiased for the
ratio of partition functions, so that on average ``log Z`` comes out too small. Backward paths start
at the model and err the other way (Burda, Grosse and Salakhutdinov 2015). Acceptance ratios
(Bennett 1976) combine the two, with a much smaller error than either alone. If the two disagree by
more than their errors, the paths have not reached all of the model's states.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from skbae.energies._base import require
from skbae.energies._capabilities import PartitionEnergy
from skbae.inference.evidence._verdict import joint_error
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from skbae._types import Array


# The two directions may differ by the larger of this many standard errors and this many nats.
_DISAGREEMENT = 5.0
_TOLERATED = 0.05


@dataclass(frozen=True)
class AnnealingPlan:
    """Number and length of the paths.

    Attributes
    ----------
    n_islands : int
        Independent estimates, whose spread is the error; at least 2.
    n_paths : int
        Number of paths of each island and direction.
    n_steps : int
        Number of points of the shortest paths.
    max_steps : int
        Paths are made four times as long until the error is at most `target_error`, or until they
        would have more points than this.
    target_error : float
        In nats.
    n_settle : int
        Gibbs steps of the model between a forward and a backward path.
    """

    n_islands: int = 5
    n_paths: int = 40
    n_steps: int = 250
    max_steps: int = 1000
    target_error: float = 0.05
    n_settle: int = 50


@dataclass(frozen=True)
class PartitionEstimate:
    """Result of annealed importance sampling.

    Attributes
    ----------
    log_partition, error : float
        log Z and its standard error.
    forward, backward : float
        log Z by one direction alone; on average too small and too large.
    agree : bool
        Whether the directions agree within errors.
    states : object
        States of the model, equally probable.
    """

    log_partition: float
    error: float
    forward: float
    backward: float
    agree: bool
    states: Any


def acceptance_ratio(forward: Array, backward: Array) -> tuple[float, float]:
    """Return the log ratio of partition functions and its error (Bennett 1976).

    Parameters
    ----------
    forward : ndarray of shape (F,)
        Log weights of forward paths, with ``E exp(forward) = ratio``.
    backward : ndarray of shape (B,)
        Log weights of backward paths, with ``E exp(-backward) = 1 / ratio``.

    Returns
    -------
    log_ratio, error : float

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.standard_normal((2, 4000))  # weights of a log normal: log ratio 1
    >>> log_ratio, error = acceptance_ratio(0.5 + noise[0], 1.5 + noise[1])
    >>> abs(log_ratio - 1) < 5 * error, error < 0.03
    (True, True)
    """
    offset = np.log(len(forward) / len(backward))

    def imbalance(log_ratio: float) -> float:
        ours = expit(forward - log_ratio - offset).sum()
        return float(ours - expit(log_ratio + offset - backward).sum())

    low = min(forward.min(), backward.min()) - 1.0
    high = max(forward.max(), backward.max()) + 1.0
    while imbalance(low) < 0:
        low -= high - low
    while imbalance(high) > 0:
        high += high - low
    log_ratio = float(brentq(imbalance, low, high, xtol=1e-10))
    variance = 0.0
    for accepted in (expit(forward - log_ratio - offset), expit(log_ratio + offset - backward)):
        mean = float(accepted.mean())
        if mean**2 == 0:  # no overlap
            return log_ratio, np.inf
        variance += float(accepted.var() / mean**2 / len(accepted))
    return log_ratio, float(np.sqrt(variance))


def anneal_forward(
    energy: PartitionEnergy, params: Any, n_paths: int, betas: Array, rng: np.random.Generator
) -> tuple[Array, Any]:
    """Return log weights of paths from the base model to the model, and their last states."""
    states = energy.base_states(params, n_paths, rng)
    log_weights = np.zeros(n_paths)
    for start, stop in pairwise(betas):
        log_weights += energy.log_ratio(params, states, start, stop)
        states = energy.anneal(params, states, stop, rng)
    return log_weights, states


def anneal_backward(
    energy: PartitionEnergy, params: Any, states: Any, betas: Array, rng: np.random.Generator
) -> Array:
    """Return log weights of paths from the model to the base model, signed like forward ones."""
    log_weights: Any = 0.0
    for stop, start in zip(betas[:0:-1], betas[-2::-1], strict=True):
        states = energy.anneal(params, states, stop, rng)
        log_weights = log_weights + energy.log_ratio(params, states, start, stop)
    return np.asarray(log_weights)


def estimate_partition(
    energy: PartitionEnergy,
    params: Any,
    rng: np.random.Generator,
    plan: AnnealingPlan | None = None,
) -> PartitionEstimate:
    """Estimate log Z of a single model.

    Backward paths start from the last states of forward paths, drawn by weight and moved by Gibbs
    steps of the model.

    Parameters
    ----------
    energy : PartitionEnergy
    params : ArrayRecord
        One model.
    rng : Generator
    plan : AnnealingPlan or None

    Returns
    -------
    PartitionEstimate

    Raises
    ------
    TypeError
        If `energy` lacks the capability.
    """
    require(energy, PartitionEnergy, "annealed importance sampling")
    plan = AnnealingPlan() if plan is None else plan
    n_steps = plan.n_steps
    while True:
        found = _estimate(energy, params, rng, plan, n_steps)
        small = found.agree and found.error <= plan.target_error
        if small or 4 * n_steps > plan.max_steps:
            return found
        n_steps *= 4


def _estimate(
    energy: PartitionEnergy, params: Any, rng: np.random.Generator, plan: AnnealingPlan, n: int
) -> PartitionEstimate:
    # all islands are computed at once, without exchange of states
    betas = np.linspace(0.0, 1.0, n + 1)
    shape = plan.n_islands, plan.n_paths
    flat, ends = anneal_forward(energy, params, shape[0] * shape[1], betas, rng)
    forward = flat.reshape(shape)
    chosen = [
        island * plan.n_paths + systematic_resample(row, plan.n_paths, rng)
        for island, row in enumerate(forward)
    ]
    states = energy.take_states(ends, np.concatenate(chosen))
    for _ in range(plan.n_settle):
        states = energy.anneal(params, states, 1.0, rng)
    backward = anneal_backward(energy, params, states, betas, rng).reshape(shape)
    islands = [acceptance_ratio(f, b) for f, b in zip(forward, backward, strict=True)]
    values, errors = np.array(islands).T
    base = energy.base_log_partition(params)
    # log ratios are averaged, since the bias of the log of an acceptance ratio is negligible
    log_ratio, error = float(values.mean()), joint_error(values, errors)
    ups, downs = log_mean_exp(forward, axis=1), -log_mean_exp(-backward, axis=1)
    up, down = float(ups.mean()), float(downs.mean())
    spread = np.sqrt((ups.var(ddof=1) + downs.var(ddof=1)) / plan.n_islands)
    agree = abs(up - down) <= max(_DISAGREEMENT * spread, _TOLERATED)
    return PartitionEstimate(base + log_ratio, error, base + up, base + down, bool(agree), states)
