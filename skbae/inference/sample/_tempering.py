"""Tempered sequential Monte Carlo: any temperatures, any weights, any tilt, by gradients.

Particles start as exact draws of the prior and follow ``prior(m) exp(beta (N / tau) F(m))`` from
``beta = 0`` to 1, where F is ``Hmaxe_T`` or its tilted counterpart. The sampler is waste-free
(Dau and Chopin 2022): at each step few particles are drawn in proportion to their weights, each
starts a chain of Hamiltonian moves, and all states of all chains are the next particles.

Several islands make the same steps side by side, without ever exchanging particles, so that the
spread of their answers is an honest error. What they share is the ladder of beta and the tuning of
the moves, which all particles together determine.

At ``beta = tau / tau'`` the target is that of the model temperature ``tau' > tau``: the path is a
curve of free energies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skbae._types import Array, SamplingRun, TemperedPath
from skbae.energies._capabilities import GradientEnergy
from skbae.inference.sample._hmc import Particles, coordinate_scales, hmc_move, place
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from skbae.inference._objective import Objective, Target

# The acceptance at which moves of given cost go furthest is 0.65 to 0.8 (Beskos et al. 2013;
# Betancourt et al. 2014).
_TARGET_ACCEPTANCE = 0.75
# Particles of an island times rows, on data of moderate length.
_PARTICLE_ROWS = 4096 * 164
# Bisections for the next temperature, on a logarithmic scale.
_N_BISECTIONS = 50
_SMALLEST_STEP = 1e-12


class TemperingError(RuntimeError):
    """The path from the prior was cut off before it reached the target."""


@dataclass(frozen=True)
class SMCPlan:
    """How many particles, and how far they move: see :func:`sample_tempered`.

    Attributes
    ----------
    n_islands : int
        Independent populations, at least 2.
    n_particles : int
        Of each island; a multiple of ``n_moves + 1``.
    n_moves : int
        Moves of each chain at each temperature.
    length : float
        Length of a move, in units of the coordinates' scales.
    max_leapfrog : int
        Upper limit of the leapfrog steps of a move.
    ess_fraction : float
        Share of the particles that the effective number after reweighting is to keep.
    n_keep : int
        Models to keep.
    max_steps : int
        Most temperatures before the run gives up.
    """

    n_islands: int = 8
    n_particles: int = 4096
    n_moves: int = 31
    length: float = 2.5
    max_leapfrog: int = 20
    ess_fraction: float = 0.5
    n_keep: int = 50
    max_steps: int = 500

    def __post_init__(self) -> None:
        if self.n_islands < 2:
            raise ValueError(f"n_islands must be at least 2, got {self.n_islands!r}")
        if self.n_particles % (self.n_moves + 1):
            raise ValueError(
                f"n_particles={self.n_particles!r} must be a multiple of n_moves + 1 = "
                f"{self.n_moves + 1}: every chain yields that many particles"
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
    """Return a plan fit for so many rows, that keeps so many models.

    On short data an evaluation costs little more than its overhead, and many particles make up for
    what an island misses; on long data a path has more steps and every step is a pass.

    Parameters
    ----------
    n_rows : int
        Rows of a mixture that an evaluation costs as much as.
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
    # few particles: shorter chains, so that there are enough of them to tell the error
    return SMCPlan(
        n_particles=n_particles, n_moves=31 if n_particles >= 512 else 15, n_keep=n_models
    )


class Population:
    """Islands of particles, ``(islands * particles, P)`` in chain-major order, on their way."""

    def __init__(
        self,
        target: Target,
        theta: Array,
        kinds: NDArray[np.intp],
        plan: SMCPlan,
        scale: float,
        rng: np.random.Generator,
    ) -> None:
        self.target, self.kinds, self.plan, self.rng = target, kinds, plan, rng
        self.scale = scale  # N / tau
        self.particles = place(target, theta)
        self.beta = 0.0
        self.log_evidence = np.zeros(plan.n_islands)
        self.variance = np.zeros(plan.n_islands)
        self.step_size = 0.5
        self.acceptance = np.nan
        self.chain_length = 1  # draws of the prior are independent

    @property
    def objective(self) -> Array:
        """The objective at the particles, (islands, particles)."""
        return self.particles.objective.reshape(self.plan.n_islands, -1)

    def _log_weights(self, step: float) -> Array:
        """Return the log weights of a step of beta, (islands, particles)."""
        return step * self.scale * self.objective

    def _least_ess(self, step: float) -> float:
        """Return the smallest island's effective share of particles after a step of beta."""
        log_weights = self._log_weights(step)
        peak = log_weights.max(axis=1, keepdims=True)
        weights = np.exp(log_weights - np.where(np.isfinite(peak), peak, 0.0))
        total = weights.sum(axis=1)
        if not total.all():
            return 0.0
        return float((total**2 / (weights**2).sum(axis=1)).min() / weights.shape[1])

    def next_step(self, limit: float) -> float:
        """Return how far beta may go towards `limit`."""
        largest = limit - self.beta
        if self._least_ess(largest) >= self.plan.ess_fraction:
            return largest
        low, high = np.log(_SMALLEST_STEP), np.log(largest)
        for _ in range(_N_BISECTIONS):
            middle = 0.5 * (low + high)
            if self._least_ess(np.exp(middle)) >= self.plan.ess_fraction:
                low = middle
            else:
                high = middle
        return float(np.exp(low))

    def reweight(self, step: float, beta: float) -> None:
        """Go to `beta`: add to the evidences, draw the chains' starts."""
        plan = self.plan
        log_weights = self._log_weights(step)
        self.log_evidence += log_mean_exp(log_weights, axis=1)
        weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        # chains are independent given the last step: the variance of their means is that of the
        # increment (Dau and Chopin 2022, section 4)
        chains = weights.reshape(plan.n_islands, -1, self.chain_length).sum(axis=2)
        n_chains = chains.shape[1]
        self.variance += n_chains * chains.var(axis=1, ddof=1)
        self.beta = beta

        flat = (weights / plan.n_islands).ravel()
        gradients = self.particles.gradient(np.full(len(flat), self.power))
        self.scales = coordinate_scales(gradients, flat, self.kinds)
        chosen = [
            island * plan.n_particles + systematic_resample(row, plan.n_chains, self.rng)
            for island, row in enumerate(log_weights)
        ]
        self.particles = self.particles.take(np.concatenate(chosen))

    @property
    def power(self) -> float:
        """What the objective is multiplied with."""
        return self.beta * self.scale

    def move(self) -> None:
        """Run the chains; their states are the new particles."""
        plan = self.plan
        power = np.full(self.particles.n_models, self.power)
        states, acceptances = [self.particles], []
        typical = np.clip(plan.length / self.step_size, 1, plan.max_leapfrog)
        for _ in range(plan.n_moves):
            n_steps = max(1, round(typical * self.rng.uniform(0.5, 1.5)))
            moved, acceptance = hmc_move(
                self.target, states[-1], power, self.scales, self.step_size, n_steps, self.rng
            )
            states.append(moved)
            acceptances.append(acceptance.mean())
        self.acceptance = float(np.mean(acceptances))
        self.step_size *= float(np.exp(1.5 * (self.acceptance - _TARGET_ACCEPTANCE)))
        # chains become the slow axis, their states the fast one
        n_chains = states[0].n_models
        order = np.arange(n_chains * len(states)).reshape(len(states), n_chains).T.ravel()
        self.particles = Particles.concatenate(states).take(order)
        self.chain_length = len(states)

    def go_on(self) -> None:
        """Run the chains further, from their last states."""
        last = np.arange(self.chain_length - 1, self.particles.n_models, self.chain_length)
        self.particles = self.particles.take(last)
        self.move()


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
    scale = objective.power(model_temperature)
    theta = energy.draw_prior_coordinates(plan.n_islands * plan.n_particles, rng)
    population = Population(objective, theta, energy.coordinate_kinds(), plan, scale, rng)
    if not np.isfinite(population.objective).any(axis=1).all():
        raise TemperingError(
            "no model drawn from the prior has a finite energy: the prior is too far from the "
            "data. Scale the data or choose a prior in their units."
        )
    path: list[tuple[float, Array, Array]] = []
    accepted, step, stopped = [], 0, False
    for limit in _stop_betas(stops, model_temperature):
        while population.beta < limit and not stopped:
            if step == plan.max_steps:
                raise TemperingError(
                    f"the path from the prior reached beta={population.beta:.3g} of 1 in "
                    f"max_steps={plan.max_steps} temperatures. Take a prior closer to the data, "
                    "simplify the model, or raise model_temperature."
                )
            size = population.next_step(limit)
            done = size >= limit - population.beta
            population.reweight(size, limit if done else population.beta + size)
            population.move()
            step += 1
            accepted.append(population.acceptance)
            values = population.objective
            tau = model_temperature / population.beta
            path.append((tau, population.log_evidence.copy(), values.mean(axis=1)))
            stopped = on_step is not None and on_step(step, float(values.max()))
    stopped = stopped and population.beta < 1
    return _report(energy, population, path, accepted, stopped)


def _report(
    energy: GradientEnergy,
    population: Population,
    path: list[tuple[float, Array, Array]],
    accepted: list[float],
    stopped: bool,
) -> SamplingRun:
    plan, particles = population.plan, population.particles
    gradients = particles.gradient(np.full(particles.n_models, population.power))
    # islands count by their evidence, as if they were one population
    weights = np.repeat(population.log_evidence, plan.n_particles)
    kept = systematic_resample(weights, plan.n_keep, population.rng)
    unknown = np.full(plan.n_islands, np.nan)
    taus, log_evidence, objective = (np.array(part) for part in zip(*path, strict=True))
    return SamplingRun(
        params=energy.constrain(particles.theta[kept]),
        hmaxe=population.objective,
        scores=gradients.reshape(plan.n_islands, plan.n_particles, -1),
        log_evidence=unknown if stopped else population.log_evidence,
        log_evidence_error=unknown.copy() if stopped else np.sqrt(population.variance),
        acceptance=float(np.mean(accepted)),
        stopped=stopped,
        method="smc",
        n_sweeps=len(path) * plan.n_moves,
        path=TemperedPath(taus, log_evidence, objective),
    )
