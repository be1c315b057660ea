"""Tempered sequential Monte Carlo: any temperatures, any weights, any tilt, by gradients.

Particles start as exact draws of the prior and follow ``prior(m) exp(beta (N / tau) F(m))`` from
``beta = 0`` to 1, where F is ``Hmaxe_T`` or its tilted counterpart. The sampler is waste-free
(Dau and Chopin 2022): at each step few particles are drawn in proportion to their weights, each
starts a chain of Hamiltonian moves, and all states of all chains are the next particles.

Several islands make the same steps without exchanging particles, so that the spread of their
results is an estimate of the error. They share the sequence of beta and the tuning of the moves,
which all particles together determine.

At ``beta = tau / tau'`` the target is that of the model temperature ``tau' > tau``: the path is a
curve of free energies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skbae._types import Array, SamplingRun, TemperedPath, TemperedPoint
from skbae.energies._capabilities import GradientEnergy
from skbae.inference.evidence._verdict import assess
from skbae.inference.sample._hmc import Particles, coordinate_scales, evaluate, hmc_move
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from skbae.inference._objective import Objective, Target

# For a given cost, acceptances of 0.65 to 0.8 are optimal (Beskos et al. 2013; Betancourt et al.
# 2014).
_TARGET_ACCEPTANCE = 0.75
# Particles of an island times rows, for a moderate number of rows.
_PARTICLE_ROWS = 4096 * 164
# Bisections for the next temperature, on a logarithmic scale.
_N_BISECTIONS = 50
_SMALLEST_STEP = 1e-12
# Step size of the first moves, before acceptances are known.
_FIRST_STEP_SIZE = 0.5


class TemperingError(RuntimeError):
    """The particles did not reach the target within the allowed number of steps."""


@dataclass(frozen=True)
class SMCPlan:
    """Numbers of particles and moves: see :func:`sample_tempered`.

    Attributes
    ----------
    n_islands : int
        Independent populations, at least 2.
    n_particles : int
        Number of particles of each island; a multiple of ``n_moves + 1``.
    n_moves : int
        Moves of each chain at each temperature.
    length : float
        Length of a move, in units of the coordinates' scales.
    max_leapfrog : int
        Largest number of leapfrog steps of a move.
    ess_fraction : float
        Effective share of the particles that reweighting must keep.
    n_keep : int
        Models to keep.
    max_steps : int
        Largest number of temperatures; beyond it a TemperingError is raised.
    stops : tuple of float
        Model temperatures that the path must visit; those not above that of the run are left out.
    """

    n_islands: int = 8
    n_particles: int = 4096
    n_moves: int = 31
    length: float = 2.5
    max_leapfrog: int = 20
    ess_fraction: float = 0.5
    n_keep: int = 50
    max_steps: int = 500
    stops: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.n_islands < 2:
            raise ValueError(f"n_islands must be at least 2, got {self.n_islands!r}")
        if self.n_particles % (self.n_moves + 1):
            raise ValueError(
                f"n_particles={self.n_particles!r} must be a multiple of n_moves + 1 = "
                f"{self.n_moves + 1}, since each chain gives that many particles"
            )
        if not 0 < self.ess_fraction < 1:
            raise ValueError(f"ess_fraction must be between 0 and 1, got {self.ess_fraction!r}")

    @property
    def n_chains(self) -> int:
        """Chains of an island."""
        return self.n_particles // (self.n_moves + 1)

    @property
    def n_steps(self) -> int:
        """Upper limit of the number of steps that are reported."""
        return self.max_steps


def tempered_plan(n_rows: int, n_models: int, fewest: int = 512) -> SMCPlan:
    """Return the plan for these numbers of rows and models to keep.

    With few rows an evaluation costs little more than its overhead, so that there can be many
    particles; with many rows the path has more steps, and every step is a pass over the rows.

    Parameters
    ----------
    n_rows : int
        Number of rows; for costlier energies, the rows of a mixture of equal cost.
    n_models : int
    fewest : int, default=512
        Least number of an island's particles, at least 16 and a power of two.

    Examples
    --------
    >>> [tempered_plan(n, 50).n_particles for n in (82, 500, 100_000)]
    [4096, 1024, 512]
    """
    power = int(np.log2(max(_PARTICLE_ROWS / n_rows, 1)))
    n_particles = int(np.clip(1 << power, fewest, 4096))
    # with few particles, chains are shorter, so that there are enough chains to estimate the error
    return SMCPlan(
        n_particles=n_particles, n_moves=31 if n_particles >= 512 else 15, n_keep=n_models
    )


@dataclass(frozen=True)
class SMCState:
    """Islands of particles at a point of the path.

    Attributes
    ----------
    particles : Particles
        ``islands * particles`` of them, in chain-major order.
    beta : float
        Position along the path, from 0 to 1.
    log_evidence, variance : ndarrays of shape (I,)
        Log evidence of the target at `beta` by each island, and its variance.
    scales : ndarray of shape (P,)
        Scales of the coordinates, by which moves are preconditioned.
    step_size : float
        Step size of moves, in units of the scales.
    acceptance : float
        Mean acceptance probability of the latest moves.
    chain_length : int
        Number of successive particles that are states of one chain; 1 before the first step, since
        draws of the prior are independent.
    inherited : ndarray of shape (I, chains)
        What the ancestors of each chain have added to the island's log evidence by chance.
    memory : ndarray of shape (I,)
        Estimated covariance of the log evidences of different steps, twice: chains that remember
        where they started repeat the errors of steps before.
    """

    particles: Particles
    beta: float
    log_evidence: Array
    variance: Array
    scales: Array
    step_size: float
    acceptance: float
    chain_length: int
    inherited: Array
    memory: Array

    @property
    def whole_variance(self) -> Array:
        """Variance of the log evidences, with what chains remember, (I,)."""
        return self.variance + np.maximum(self.memory, 0.0)


@dataclass(frozen=True)
class SMCMoves:
    """Steps of waste-free sequential Monte Carlo, from one state to the next.

    Attributes
    ----------
    target : Target
    kinds : ndarray of int of shape (P,)
        Which coordinates are exchangeable, and share a scale.
    plan : SMCPlan
    power : float
        Factor of the target's value at the end of the path.
    rng : Generator
    """

    target: Target
    kinds: NDArray[np.intp]
    plan: SMCPlan
    power: float
    rng: np.random.Generator

    def init(self, theta: Array) -> SMCState:
        """Return the state at the start of the path, given draws of the prior."""
        nothing, ones = np.zeros(self.plan.n_islands), np.ones(theta.shape[1])
        particles = evaluate(self.target, theta)
        none = np.zeros((self.plan.n_islands, self.plan.n_particles))
        return SMCState(
            particles, 0.0, nothing, nothing, ones, _FIRST_STEP_SIZE, np.nan, 1, none, nothing
        )

    def values(self, state: SMCState) -> Array:
        """Return the target's values at the particles, (islands, particles)."""
        return state.particles.value.reshape(self.plan.n_islands, -1)

    def _log_weights(self, state: SMCState, increment: float) -> Array:
        """Return the log weights of an increment of beta, (islands, particles)."""
        return increment * self.power * self.values(state)

    def _least_ess(self, state: SMCState, increment: float) -> float:
        """Return the least effective share of an island's particles after an increment."""
        log_weights = self._log_weights(state, increment)
        peak = log_weights.max(axis=1, keepdims=True)
        weights = np.exp(log_weights - np.where(np.isfinite(peak), peak, 0.0))
        total = weights.sum(axis=1)
        if not total.all():
            return 0.0
        return float((total**2 / (weights**2).sum(axis=1)).min() / weights.shape[1])

    def _increment(self, state: SMCState, limit: float) -> float:
        """Return the largest increment of beta that keeps the effective share of particles."""
        largest = limit - state.beta
        if self._least_ess(state, largest) >= self.plan.ess_fraction:
            return largest
        low, high = np.log(_SMALLEST_STEP), np.log(largest)
        for _ in range(_N_BISECTIONS):
            middle = 0.5 * (low + high)
            if self._least_ess(state, np.exp(middle)) >= self.plan.ess_fraction:
                low = middle
            else:
                high = middle
        return float(np.exp(low))

    def step(self, state: SMCState, limit: float = 1.0) -> SMCState:
        """Increase beta, at most to `limit`: reweight, draw starts of chains, run the chains."""
        increment = self._increment(state, limit)
        done = increment >= limit - state.beta
        beta = limit if done else state.beta + increment
        return self._run_chains(self._reweight(state, increment, beta))

    def _reweight(self, state: SMCState, increment: float, beta: float) -> SMCState:
        """Update the log evidences, and draw the starts of chains by weight."""
        plan = self.plan
        log_weights = self._log_weights(state, increment)
        highest = log_weights.max(axis=1, keepdims=True)
        if not np.isfinite(highest).all():
            raise TemperingError(
                "the energies of sampled models overflow: the prior may be too far from the data, "
                "tilt too far from 0, or model_temperature too small"
            )
        weights = np.exp(log_weights - highest)
        weights /= weights.sum(axis=1, keepdims=True)
        # chains are independent given the last step: the variance of their means is that of the
        # increment (Dau and Chopin 2022, section 4)
        chains = weights.reshape(plan.n_islands, -1, state.chain_length).sum(axis=2)
        n_chains = chains.shape[1]
        excess = n_chains * chains - 1.0
        flat = (weights / plan.n_islands).ravel()
        gradients = state.particles.gradient(np.full(len(flat), beta * self.power))
        chosen = np.stack(
            [systematic_resample(row, plan.n_chains, self.rng) for row in log_weights]
        )
        first = plan.n_particles * np.arange(plan.n_islands)[:, None]
        parents = chosen // state.chain_length
        of_chains = state.inherited + excess / n_chains
        return replace(
            state,
            particles=state.particles.take((first + chosen).ravel()),
            beta=beta,
            log_evidence=state.log_evidence + log_mean_exp(log_weights, axis=1),
            variance=state.variance + n_chains * chains.var(axis=1, ddof=1),
            inherited=np.take_along_axis(of_chains, parents, axis=1),
            memory=state.memory + 2 * (excess * state.inherited).mean(axis=1),
            scales=coordinate_scales(gradients, flat, self.kinds),
        )

    def _run_chains(self, state: SMCState) -> SMCState:
        """Run chains from the particles; all their states are the new particles."""
        plan = self.plan
        power = np.full(state.particles.n_models, state.beta * self.power)
        visited, acceptances = [state.particles], []
        typical = np.clip(plan.length / state.step_size, 1, plan.max_leapfrog)
        for _ in range(plan.n_moves):
            n_steps = max(1, round(typical * self.rng.uniform(0.5, 1.5)))
            moved, probabilities = hmc_move(
                self.target, visited[-1], power, state.scales, state.step_size, n_steps, self.rng
            )
            visited.append(moved)
            acceptances.append(probabilities.mean())
        acceptance = float(np.mean(acceptances))
        # order by chain, then by state within a chain
        order = np.arange(len(power) * len(visited)).reshape(len(visited), len(power)).T.ravel()
        return replace(
            state,
            particles=Particles.concatenate(visited).take(order),
            step_size=state.step_size * float(np.exp(1.5 * (acceptance - _TARGET_ACCEPTANCE))),
            acceptance=acceptance,
            chain_length=len(visited),
        )

    def run_on(self, state: SMCState) -> SMCState:
        """Run the chains further, from their last states."""
        last = np.arange(state.chain_length - 1, state.particles.n_models, state.chain_length)
        return self._run_chains(replace(state, particles=state.particles.take(last)))


def _stop_betas(stops: Sequence[float], model_temperature: float) -> list[float]:
    """Return the inverse temperatures to visit, increasing, the target's last."""
    betas = {model_temperature / tau for tau in stops if tau > model_temperature}
    return [*sorted(betas), 1.0]


def sample_tempered(
    objective: Objective,
    model_temperature: float,
    rng: np.random.Generator,
    *,
    plan: SMCPlan,
    on_step: Callable[[int, float], bool] | None = None,
    stops: Sequence[float] = (),
) -> SamplingRun:
    """Sample ``p(m)`` at any T and tau > 0, from the prior.

    Parameters
    ----------
    objective : Objective
        Of a GradientEnergy, on rows with any weights; T = 0 is allowed.
    model_temperature : float
        tau, positive.
    rng : Generator
    plan : SMCPlan
    on_step : callable or None
        Called at each temperature with its number and the best objective; returning true ends the
        run.
    stops : sequence of float
        Model temperatures that the path must visit; those not above `model_temperature` are left
        out.

    Returns
    -------
    SamplingRun
        ``path`` has the log evidence and the mean objective at all temperatures visited. If a
        callback ended the run early, ``stopped`` is true, the log evidence and its error are NaN,
        and the draws are those of the last temperature of the path.

    Raises
    ------
    TypeError
        If the energy lacks the capability.
    ValueError
        If `model_temperature` is not positive.
    TemperingError
        If the target is not reached within ``plan.max_steps`` temperatures, or no draw of the prior
        has a finite objective.
    """
    energy = objective.require(GradientEnergy, "tempered sampling")
    power = objective.power(model_temperature)
    theta = energy.draw_prior_coordinates(plan.n_islands * plan.n_particles, rng)
    moves = SMCMoves(objective, energy.coordinate_kinds(), plan, power, rng)
    state = moves.init(theta)
    if not np.isfinite(moves.values(state)).any(axis=1).all():
        raise TemperingError(
            "no model drawn from the prior has a finite energy: the prior is too far from the "
            "data. Scale X, or choose a prior in the units of X."
        )
    path: list[tuple[float, Array, Array]] = []
    accepted: list[float] = []
    stopped = False
    points: list[TemperedPoint] = []
    for limit in _stop_betas([*stops, *plan.stops], model_temperature):
        while state.beta < limit and not stopped:
            if len(path) == plan.max_steps:
                raise TemperingError(
                    f"sampling from the prior has reached only beta={state.beta:.3g} of 1 in "
                    f"max_steps={plan.max_steps} temperatures; choose a prior closer to the data, "
                    "decrease n_components, or raise model_temperature"
                )
            state = moves.step(state, limit)
            accepted.append(state.acceptance)
            values = moves.values(state)
            tau = model_temperature / state.beta
            path.append((tau, state.log_evidence, values.mean(axis=1)))
            stopped = on_step is not None and on_step(len(path), float(values.max()))
        if limit < 1 and not stopped:
            here = _report(energy, moves, state, path, accepted, False)
            found = replace(assess(here), trace=None)  # a trace is of the end of the path
            points.append(TemperedPoint(limit, float(here.hmaxe.mean()), found))
    run = _report(energy, moves, state, path, accepted, stopped and state.beta < 1)
    return replace(run, points=tuple(points))


def _report(
    energy: GradientEnergy,
    moves: SMCMoves,
    state: SMCState,
    path: list[tuple[float, Array, Array]],
    accepted: list[float],
    stopped: bool,
) -> SamplingRun:
    plan, particles = moves.plan, state.particles
    gradients = particles.gradient(np.full(particles.n_models, state.beta * moves.power))
    # islands are weighted by their evidence, as parts of one population
    weights = np.repeat(state.log_evidence, plan.n_particles)
    kept = systematic_resample(weights, plan.n_keep, moves.rng)
    unknown = np.full(plan.n_islands, np.nan)
    # what chains remember is the same for all islands, and hard to tell from one
    variance = state.variance + max(float(state.memory.mean()), 0.0)
    taus, log_evidence, objective = (np.array(part) for part in zip(*path, strict=True))
    return SamplingRun(
        params=energy.constrain(particles.theta[kept]),
        hmaxe=moves.values(state),
        scores=gradients.reshape(plan.n_islands, plan.n_particles, -1),
        log_evidence=unknown if stopped else state.log_evidence,
        log_evidence_error=unknown.copy() if stopped else np.sqrt(variance),
        acceptance=float(np.mean(accepted)),
        stopped=stopped,
        method="smc",
        n_sweeps=len(path) * plan.n_moves,
        path=TemperedPath(taus, log_evidence, objective),
    )
