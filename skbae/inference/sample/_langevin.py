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


# Share of the coordinates that may be heated by the gradients' noise.
_FEW_HEATED = 0.01
# Number of coordinates in which the mean gradient is recorded.
_N_RECORDED = 64
# Number of gradients at the start from which their noise is measured, or of means over blocks.
_N_PROBES = 64
_ONE_MODE = (
    "the chains explore the mode that they start from alone, and there is no estimate of the "
    "evidence"
)
_TOO_NOISY = (
    "the gradients' noise heats {:.0%} of the coordinates by more than friction takes out of them: "
    "batches or persistent chains are too few"
)


class BatchTarget(ABC):
    """``prior(theta) exp(scale * F(theta))``, with F a mean over rows that batches estimate."""

    n_rows: int
    """Distinct rows, M."""

    scale: float
    """N / tau."""

    memory: int = 1
    """Steps over which the noise of gradients is averaged when it is measured: more than one where
    the noise of successive steps is correlated."""

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

    def observe(self, theta: FloatArray) -> FloatArray:
        """Return functions of models (S, P) by which the chains are judged, (S, k).

        They do not depend on the order of interchangeable units. None are needed where
        :meth:`estimate` returns F itself.
        """
        return np.empty((len(theta), 0))


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
    tunes_again : bool
        Whether scales and noise are measured again in the middle of the burn-in.
    """

    batch_size: int
    n_chains: int = 4
    n_burn: int = 2000
    n_steps: int = 4000
    n_traced: int = 100
    n_keep: int = 50
    step: float = 0.05
    friction: float = 4.0
    tunes_again: bool = False

    @property
    def n_reports(self) -> int:
        """Number of intervals, those of burn-in first, that are reported."""
        interval = max(1, self.n_steps // self.n_traced)
        return self.n_burn // interval + self.n_steps // interval


def measure_noise(
    target: BatchTarget, positions: FloatArray, batch_size: int, rng: np.random.Generator
) -> FloatArray:
    """Return the variance of a batch's gradient of F at fixed positions (S, P), (P,).

    Where the noise of successive gradients is correlated, it is the variance that independent ones
    would need for sums over many steps to vary as much.
    """
    first, second, count = np.zeros(positions.shape), np.zeros(positions.shape), 0
    while count * len(positions) < _N_PROBES:
        mean = np.zeros(positions.shape)
        for _ in range(target.memory):
            index = draw_batch(target.n_rows, batch_size, rng)
            mean += target.estimate(positions, index, rng)[1] / target.memory
        # each chain has its own draws of codes: S gradients for a batch
        first += mean
        second += mean**2
        count += 1
    if np.all(positions == positions[0]):
        first, second = first.mean(axis=0, keepdims=True), second.mean(axis=0, keepdims=True)
    variance = np.maximum(second / count - (first / count) ** 2, 0.0)
    return np.asarray(target.memory * variance.mean(axis=0))


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
        cls,
        target: BatchTarget,
        positions: FloatArray,
        plan: LangevinPlan,
        rng: np.random.Generator,
    ) -> LangevinMoves:
        """Return moves with scales and noise measured at positions of the chains (S, P)."""
        noise = measure_noise(target, positions, plan.batch_size, rng)
        # the variance of a row's gradient estimates the Fisher information; it is measured with
        # batches of some of the rows, drawn without replacement
        part = min(plan.batch_size, max(1, target.n_rows // 2))
        spread = noise
        if part < plan.batch_size:
            spread = measure_noise(target, positions, part, rng)
        a_row = spread * part / max(1 - part / target.n_rows, 0.5)
        precision = target.prior_precision() + target.scale * a_row
        root = (1 / np.sqrt(precision)).astype(positions.dtype)
        heat = (target.scale * root * np.sqrt(noise)) ** 2
        keep = float(np.exp(-plan.friction * plan.step))
        with np.errstate(over="ignore"):
            injected = injected_noise(keep, plan.step, heat).astype(positions.dtype)
        if not np.isfinite(injected).all():
            raise ValueError(
                "the noise of steps between models overflows: sample_weight sums to too much; "
                "divide it by a number, or raise model_temperature"
            )
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
    moves = LangevinMoves.tuned(target, np.repeat(theta[None], plan.n_chains, axis=0), plan, rng)
    state = moves.init(theta, plan.n_chains)
    recorded = rng.permutation(len(theta))[:_N_RECORDED]
    interval = max(1, plan.n_steps // plan.n_traced)
    n_intervals = plan.n_steps // interval
    stopped = False
    for step in range(1, plan.n_burn + 1):
        state = moves.step(state)
        if plan.tunes_again and step == plan.n_burn // 2:
            moves = LangevinMoves.tuned(target, state.position, plan, rng)
        if step % interval == 0 and on_step(step // interval, float(state.value.mean())):
            stopped = True
            break
    kept_at = np.linspace(0, n_intervals, -(-plan.n_keep // plan.n_chains) + 1)[1:].astype(int)
    values: list[FloatArray] = []
    seen: list[FloatArray] = []
    scores: list[FloatArray] = []
    kept: list[FloatArray] = []
    while len(values) < n_intervals and not stopped:
        state, value, gradient = _interval(moves, state, interval, recorded)
        values.append(value)
        scores.append(gradient)
        seen.append(target.observe(state.position))
        kept += [state.position.astype(np.float64)] * int(np.sum(kept_at == len(values)))
        stopped = on_step(plan.n_burn // interval + len(values), float(value.mean()))
    if not kept:  # stopped early: keep the current positions
        kept = [state.position.astype(np.float64)]
    if not values:
        values = [state.value.astype(np.float64)]
        scores = [np.zeros((plan.n_chains, len(recorded)))]
        seen = [target.observe(state.position)]
    heated = float(np.mean(moves.injected == 0))
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
        doubts=(_TOO_NOISY.format(heated),) if heated > _FEW_HEATED else (),
        notes=(_ONE_MODE,),
        witnesses=np.stack(seen, axis=1),
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
