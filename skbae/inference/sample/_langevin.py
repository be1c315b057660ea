r"""Sampling ``p(m)`` with gradients that see a batch of rows at a time.

Underdamped Langevin dynamics (Chen, Fox and Guestrin 2014) in coordinates scaled by a diagonal
estimate of the posterior's precision, split symmetrically so that each step takes one gradient at
its middle (Leimkuhler and Matthews 2013, "ABOBA"). A batch's gradient is noisy, which heats the
chain; the noise is measured before, and that much less is injected.

Chains start from one optimum with momenta of their own. They are local: they explore the basin they
start in, and nothing here estimates the evidence. What remains wrong is of second order in the step
size, and the noise's part off the diagonal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skbae._types import SamplingRun
from skbae.inference.optimise._minibatch import DivergedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import FloatArray


# Coordinates in which the balance of gradients is watched.
_N_WATCHED = 64
# Gradients at the start from which their noise is measured.
_N_PROBES = 64


class BatchTarget(ABC):
    """``prior(theta) exp(scale * F(theta))``, with F a mean over rows that batches estimate."""

    n_rows: int
    """Distinct rows, M."""

    scale: float
    """N / tau."""

    @abstractmethod
    def estimate(
        self, theta: FloatArray, index: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Return estimates of F, (S,), and of its gradient, (S, P), from the rows of an index."""

    @abstractmethod
    def prior_gradient(self, theta: FloatArray) -> FloatArray:
        """Return the gradient of the log prior density, (S, P)."""

    @abstractmethod
    def prior_precision(self) -> FloatArray:
        """Return the precision of the prior, (P,); of its normal approximation if need be."""


@dataclass(frozen=True)
class LangevinPlan:
    """How long to sample.

    Attributes
    ----------
    batch_size : int
    n_chains : int
    n_burn, n_steps : int
        Steps of each chain that are thrown away, and those that follow.
    n_traced : int
        Intervals into which the latter are divided for the traces.
    n_keep : int
        Models to keep.
    step : float
        Length of a step, in units of the coordinates' scale.
    friction : float
        Share of the momentum that is lost in a unit of time.
    """

    batch_size: int
    n_chains: int = 4
    n_burn: int = 2000
    n_steps: int = 4000
    n_traced: int = 100
    n_keep: int = 50
    step: float = 0.05
    friction: float = 4.0


def measure_noise(
    target: BatchTarget, theta: FloatArray, batch_size: int, n_chains: int, rng: np.random.Generator
) -> FloatArray:
    """Return the variance of a batch's gradient of F at one point, (P,)."""
    stacked = np.repeat(theta[None], n_chains, axis=0)
    first, second, count = np.zeros(len(theta)), np.zeros(len(theta)), 0
    while count < _N_PROBES:
        index = draw_batch(target.n_rows, batch_size, rng)
        _, gradient = target.estimate(stacked, index, rng)
        # the same batch under other draws: one probe each
        first += gradient.sum(axis=0, dtype=np.float64)
        second += np.einsum("sp,sp->p", gradient, gradient, dtype=np.float64)
        count += n_chains
    return np.maximum(second / count - (first / count) ** 2, 0.0)


def injected_noise(keep: float, step: float, heat: FloatArray) -> FloatArray:
    """Return the deviation of the momentum's noise, (P,).

    A step keeps a share `keep` of the momentum and needs noise of variance ``1 - keep^2``; its two
    half kicks by one noisy gradient bring ``(step (1 + keep) / 2)^2 heat`` of that. Where they
    bring more than is needed, nothing is injected and the chain is too hot.

    Parameters
    ----------
    keep, step : float
    heat : ndarray of shape (P,)
        Variance of the gradient of the log target, in the scaled coordinates.
    """
    missing = 1 - keep**2 - (0.5 * step * (1 + keep)) ** 2 * heat
    return np.sqrt(np.maximum(missing, 0))


def draw_batch(n_rows: int, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw the rows of a step, whatever was drawn before.

    Batches that make up a pass would cancel each other's noise over a pass but not within it, which
    no injected noise could make up for.
    """
    return np.arange(n_rows) if size >= n_rows else rng.choice(n_rows, size, replace=False)


def sample_langevin(
    target: BatchTarget,
    theta: FloatArray,
    plan: LangevinPlan,
    rng: np.random.Generator,
    *,
    on_step: Callable[[int, float], bool],
) -> SamplingRun:
    """Sample around an optimum.

    Parameters
    ----------
    target : BatchTarget
    theta : ndarray of shape (P,)
        The optimum.
    plan : LangevinPlan
    rng : Generator
    on_step : callable
        Given the number of an interval and F; true means stop.

    Returns
    -------
    SamplingRun
        ``params`` are coordinates (S, P); there is no estimate of the evidence.

    Raises
    ------
    DivergedError
        If a chain leaves the finite numbers.
    """
    dtype, size = theta.dtype, len(theta)
    noise = measure_noise(target, theta, plan.batch_size, plan.n_chains, rng)
    # a row's gradients have the Fisher information for variance: it shows in batches of part of the
    # rows, drawn without replacement
    part = min(plan.batch_size, max(1, target.n_rows // 2))
    spread = noise
    if part < plan.batch_size:
        spread = measure_noise(target, theta, part, plan.n_chains, rng)
    a_row = spread * part / max(1 - part / target.n_rows, 0.5)
    precision = target.prior_precision() + target.scale * a_row
    root = (1 / np.sqrt(precision)).astype(dtype)
    heat = (target.scale * root * np.sqrt(noise)) ** 2
    keep = float(np.exp(-plan.friction * plan.step))
    injected = injected_noise(keep, plan.step, heat).astype(dtype)

    position = np.repeat(theta[None], plan.n_chains, axis=0)
    momentum = rng.standard_normal(position.shape, dtype)
    watched = rng.permutation(size)[:_N_WATCHED]
    interval = max(1, plan.n_steps // plan.n_traced)
    n_intervals = plan.n_steps // interval
    kept_at = np.linspace(0, n_intervals, -(-plan.n_keep // plan.n_chains) + 1)[1:].astype(int)
    values = np.zeros((plan.n_chains, n_intervals))
    scores = np.zeros((plan.n_chains, n_intervals, len(watched)))
    kept: list[FloatArray] = []
    half, kick = dtype.type(0.5 * plan.step), dtype.type(0.5 * plan.step)
    stopped, traced = False, 0
    for step in range(plan.n_burn + n_intervals * interval):
        position += half * momentum * root
        index = draw_batch(target.n_rows, plan.batch_size, rng)
        value, gradient = target.estimate(position, index, rng)
        total = target.prior_gradient(position) + dtype.type(target.scale) * gradient
        total *= root
        if not (np.isfinite(value).all() and np.isfinite(total).all()):
            raise DivergedError
        momentum += kick * total
        momentum *= dtype.type(keep)
        momentum += injected * rng.standard_normal(position.shape, dtype)
        momentum += kick * total
        position += half * momentum * root
        after = step - plan.n_burn
        if after < 0:
            if (step + 1) % interval == 0 and on_step((step + 1) // interval, float(value.mean())):
                stopped = True
                break
            continue
        values[:, traced] += value / interval
        scores[:, traced] += total[:, watched] / interval
        if (after + 1) % interval == 0:
            traced += 1
            kept += [position.astype(np.float64)] * int(np.sum(kept_at == traced))
            done = plan.n_burn // interval + traced
            if on_step(done, float(values[:, traced - 1].mean())):
                stopped = True
                break
    if not kept:  # stopped early: where the chains are is better than nothing
        kept = [position.astype(np.float64)]
    if not traced:
        values[:, 0], traced = value, 1
    nothing = np.zeros(0)
    return SamplingRun(
        np.concatenate(kept)[-plan.n_keep :],
        values[:, :traced],
        scores[:, :traced],
        nothing,
        nothing,
        float("nan"),
        stopped,
        "langevin",
        plan.n_burn + n_intervals * interval,
    )
