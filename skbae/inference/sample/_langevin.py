r"""Sampling ``p(m)`` by Langevin dynamics with gradients from batches of rows.

Underdamped Langevin dynamics (Chen, Fox and Guestrin 2014) in coordinates scaled by a diagonal
estimate of the posterior's precision, split symmetrically so that each step takes one gradient at
its middle (Leimkuhler and Matthews 2013, "ABOBA"). A batch's gradient is noisy, which adds to
the noise that the dynamics inject; it is measured beforehand, and the injected noise reduced by it.

Chains start from one optimum, with independent momenta. They explore the mode they start in only,
and give no estimate of the evidence. The remaining error is of second order in the step size, plus
correlations between entries of the gradient's noise.
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


# Number of coordinates in which the mean gradient is recorded.
_N_RECORDED = 64
# Number of gradients at the start from which their noise is measured.
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
    """Numbers of chains and steps, and step size.

    Attributes
    ----------
    batch_size : int
    n_chains : int
    n_burn, n_steps : int
        Steps of burn-in of each chain, which are discarded, and steps after it.
    n_traced : int
        Number of intervals of the latter; values are averaged over each interval.
    n_keep : int
        Models to keep.
    step : float
        Length of a step, in units of the coordinates' scale.
    friction : float
        Rate at which momentum decays: it keeps exp(-friction) per unit of time.
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
        # each chain has its own draws of codes: n_chains gradients for a batch
        first += gradient.sum(axis=0, dtype=np.float64)
        second += np.einsum("sp,sp->p", gradient, gradient, dtype=np.float64)
        count += n_chains
    return np.maximum(second / count - (first / count) ** 2, 0.0)


def injected_noise(keep: float, step: float, heat: FloatArray) -> FloatArray:
    """Return the standard deviation of the noise to inject into the momentum, (P,).

    A step keeps a share `keep` of the momentum and needs noise of variance ``1 - keep^2``; its two
    half steps by one noisy gradient add variance ``(step (1 + keep) / 2)^2 heat``. If they add more
    than is needed, nothing is injected, and the chain samples at too high a temperature.

    Parameters
    ----------
    keep, step : float
    heat : ndarray of shape (P,)
        Variance of the gradient of the log target, in the scaled coordinates.
    """
    missing = 1 - keep**2 - (0.5 * step * (1 + keep)) ** 2 * heat
    return np.sqrt(np.maximum(missing, 0))


def draw_batch(n_rows: int, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw the rows of a step, independently of earlier steps.

    With batches that partition the rows, the noise of successive gradients would be correlated, and
    the injected noise could not be adjusted for it.
    """
    return np.arange(n_rows) if size >= n_rows else rng.choice(n_rows, size, replace=False)


@dataclass(frozen=True)
class LangevinState:
    """State of S chains.

    Attributes
    ----------
    position, momentum : ndarrays of shape (S, P)
    value : ndarray of shape (S,)
        Estimates of F by the latest batch, at the middle of the step.
    gradient : ndarray of shape (S, P)
        Gradients of the log target by this batch, in the scaled coordinates.
    """

    position: FloatArray
    momentum: FloatArray
    value: FloatArray
    gradient: FloatArray


@dataclass(frozen=True)
class LangevinMoves:
    """Steps of chains, from one state to the next.

    Attributes
    ----------
    target : BatchTarget
    batch_size : int
    step_size : float
    root : ndarray of shape (P,)
        Scales of the coordinates.
    keep : float
        Share of the momentum that a step keeps.
    injected : ndarray of shape (P,)
        Standard deviation of the noise injected into the momentum.
    rng : Generator
    """

    target: BatchTarget
    batch_size: int
    step_size: float
    root: FloatArray
    keep: float
    injected: FloatArray
    rng: np.random.Generator

    @classmethod
    def tuned(
        cls, target: BatchTarget, theta: FloatArray, plan: LangevinPlan, rng: np.random.Generator
    ) -> LangevinMoves:
        """Return moves with scales and noise measured at an optimum (P,)."""
        noise = measure_noise(target, theta, plan.batch_size, plan.n_chains, rng)
        # the variance of a row's gradient estimates the Fisher information; it is measured with
        # batches of some of the rows, drawn without replacement
        part = min(plan.batch_size, max(1, target.n_rows // 2))
        spread = noise
        if part < plan.batch_size:
            spread = measure_noise(target, theta, part, plan.n_chains, rng)
        a_row = spread * part / max(1 - part / target.n_rows, 0.5)
        precision = target.prior_precision() + target.scale * a_row
        root = (1 / np.sqrt(precision)).astype(theta.dtype)
        heat = (target.scale * root * np.sqrt(noise)) ** 2
        keep = float(np.exp(-plan.friction * plan.step))
        injected = injected_noise(keep, plan.step, heat).astype(theta.dtype)
        return cls(target, plan.batch_size, plan.step, root, keep, injected, rng)

    def init(self, theta: FloatArray, n_chains: int) -> LangevinState:
        """Return the state of chains at one point (P,), with random momenta."""
        position = np.repeat(theta[None], n_chains, axis=0)
        momentum = self.rng.standard_normal(position.shape, theta.dtype)
        return LangevinState(position, momentum, np.full(n_chains, np.nan), np.zeros_like(position))

    def step(self, state: LangevinState) -> LangevinState:
        """Make one step of all chains with one batch.

        Raises
        ------
        DivergedError
            If the value or gradient of a chain becomes NaN or infinite.
        """
        kind = state.position.dtype.type
        half = kick = kind(0.5 * self.step_size)
        position = state.position + half * state.momentum * self.root
        index = draw_batch(self.target.n_rows, self.batch_size, self.rng)
        value, gradient = self.target.estimate(position, index, self.rng)
        total = self.target.prior_gradient(position) + kind(self.target.scale) * gradient
        total *= self.root
        if not (np.isfinite(value).all() and np.isfinite(total).all()):
            raise DivergedError
        momentum = state.momentum + kick * total
        momentum *= kind(self.keep)
        momentum += self.injected * self.rng.standard_normal(position.shape, position.dtype)
        momentum += kick * total
        position += half * momentum * self.root
        return LangevinState(position, momentum, value, total)


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
        Called with the number of an interval and F; returning true stops the run.

    Returns
    -------
    SamplingRun
        ``params`` are coordinates (S, P); there is no estimate of the evidence.

    Raises
    ------
    DivergedError
        If the value or gradient of a chain becomes NaN or infinite.
    """
    moves = LangevinMoves.tuned(target, theta, plan, rng)
    state = moves.init(theta, plan.n_chains)
    recorded = rng.permutation(len(theta))[:_N_RECORDED]
    interval = max(1, plan.n_steps // plan.n_traced)
    n_intervals = plan.n_steps // interval
    stopped = False
    for step in range(1, plan.n_burn + 1):
        state = moves.step(state)
        if step % interval == 0 and on_step(step // interval, float(state.value.mean())):
            stopped = True
            break
    kept_at = np.linspace(0, n_intervals, -(-plan.n_keep // plan.n_chains) + 1)[1:].astype(int)
    values: list[FloatArray] = []
    scores: list[FloatArray] = []
    kept: list[FloatArray] = []
    while len(values) < n_intervals and not stopped:
        state, value, gradient = _interval(moves, state, interval, recorded)
        values.append(value)
        scores.append(gradient)
        kept += [state.position.astype(np.float64)] * int(np.sum(kept_at == len(values)))
        stopped = on_step(plan.n_burn // interval + len(values), float(value.mean()))
    if not kept:  # stopped early: keep the current positions
        kept = [state.position.astype(np.float64)]
    if not values:
        values = [state.value.astype(np.float64)]
        scores = [np.zeros((plan.n_chains, len(recorded)))]
    nothing = np.zeros(0)
    return SamplingRun(
        params=np.concatenate(kept)[-plan.n_keep :],
        hmaxe=np.stack(values, axis=1),
        scores=np.stack(scores, axis=1),
        log_evidence=nothing,
        log_evidence_error=nothing,
        acceptance=float("nan"),
        stopped=stopped,
        method="langevin",
        n_sweeps=plan.n_burn + n_intervals * interval,
    )


def _interval(
    moves: LangevinMoves, state: LangevinState, n_steps: int, recorded: NDArray[np.intp]
) -> tuple[LangevinState, FloatArray, FloatArray]:
    """Make some steps; return the state, and the means of values and recorded gradients."""
    value = np.zeros(len(state.value))
    gradient = np.zeros((len(value), len(recorded)))
    for _ in range(n_steps):
        state = moves.step(state)
        value += state.value / n_steps
        gradient += state.gradient[:, recorded] / n_steps
    return state, value, gradient
