"""Draws of ``p(m)`` and its evidence, for models with few coordinates and many other parameters.

A nearly normal density is fitted to the coordinates (``_coordinate_fit.py``), and the other
parameters are proposed given these. A model is then a function of independent standard normal
numbers, and its weight is the target's density divided by the proposal's. If the weights vary
little, their mean is the evidence, in any number of dimensions. Otherwise particles follow the path
``q(m)^(1 - beta) p(m)^beta`` from the proposal to the target. Moves are autoregressive steps of the
numbers (preconditioned Crank-Nicolson, Cotter et al. 2013), which leave the proposal invariant and
are accepted by weights alone, without gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skbae._types import ArrayRecord, SamplingRun
from skbae.inference.evidence._bridge import bridge_estimate
from skbae.inference.evidence._pareto import weights_shape
from skbae.inference.sample._coordinate_fit import NormalFit, find_fit, refine
from skbae.inference.sample._tempering import TemperingError
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array
    from skbae.energies._capabilities import NestedPosterior, Proposal

# Step sizes are tuned to this acceptance.
_ACCEPTANCE = 0.35
# Largest number of entries of the particles of an island.
_ISLAND_NUMBERS = 8e5
# Largest number of states that are reported.
_REPORTED = 4096
# Two estimates of the log evidence may differ by this many nats whatever their errors.
_TOLERANCE = 0.05
# Bridge sampling is compared if at least so many draws of the proposal are effective.
_BRIDGED = 50.0
# Weights of at least this effective share vary so little that their tail does not matter.
_EVEN_SHARE = 0.5
# Largest Pareto shape of the tail of the weights of the models proposed first. Of rows hardly more
# than columns, tables whose log evidence was .13 to .24 nats too low had shapes of .68 to .80, and
# others up to .54; beyond 0.7, weights are of no use (Vehtari et al. 2024).
_LARGEST_SHAPE = 0.6
# Chains of a step start from states that were drawn in the step before, which the variance over
# chains does not count. Against exact values (benchmarks/pca.py --coverage, independent seeds) the
# root mean square of errors in units of those claimed without this factor is 0.99 after one step,
# whose draws are independent, and 1.07 after two: the factor is cautious.
_DEPENDENCE = 1.3


@dataclass(frozen=True)
class NestedPlan:
    """Numbers of particles and moves: see :func:`sample_nested`.

    Attributes
    ----------
    n_islands : int
        Independent populations, at least 2.
    n_particles : int
        Of each; a multiple of ``n_moves + 1``.
    n_moves : int
        Moves of each chain at each step.
    n_rounds : int
        Times that all moves are made at the end.
    ess_fraction : float
        Share of the particles that must remain effective after reweighting.
    n_keep : int
        Models to keep.
    max_steps : int
        Most steps before the run gives up.
    n_tail : int
        Draws that weights of the proposal are judged by, in units of all particles, few of which
        are far out in the tail; 1 for the particles alone.
    n_searches : int
        Starts from which the mode of the coordinates is searched.
    """

    n_islands: int = 4
    n_particles: int = 1024
    n_moves: int = 7
    n_rounds: int = 2
    ess_fraction: float = 0.8
    n_keep: int = 50
    max_steps: int = 60
    n_tail: int = 16
    n_searches: int = 3

    @property
    def n_steps(self) -> int:
        """Upper limit of the number of steps that are reported."""
        return self.max_steps


def nested_plan(n_numbers: int, n_models: int) -> NestedPlan:
    """Return a plan, given the numbers that a model is made of and the models to keep.

    Examples
    --------
    >>> [nested_plan(n, 50).n_particles for n in (3, 400, 5000)]
    [1024, 1024, 128]
    """
    most = _ISLAND_NUMBERS / max(n_numbers, 1)
    return NestedPlan(n_particles=int(np.clip(1 << int(np.log2(most)), 128, 1024)), n_keep=n_models)


@dataclass(frozen=True)
class _Particles(ArrayRecord):
    """Standard normal numbers (S, P + Q) of models, and log weights (S,)."""

    numbers: Array
    log_weight: Array


class _Population:
    """Islands of particles at a point of the path from the proposal to the target."""

    def __init__(
        self, fit: NormalFit, proposal: Proposal, plan: NestedPlan, rng: np.random.Generator
    ) -> None:
        self.fit, self.proposal, self.plan, self.rng = fit, proposal, plan, rng
        self.beta, self.share = 0.0, 0.5
        self.log_evidence, self.variance = np.zeros(plan.n_islands), np.zeros(plan.n_islands)
        self.particles = self.draw(plan.n_islands * plan.n_particles)
        self.chain_length, self.acceptance = 1, float("nan")

    def draw(self, n: int) -> _Particles:
        """Draw from the proposal."""
        size = self.fit.n_scores + self.proposal.n_numbers
        return self.weigh(self.rng.standard_normal((n, size)))

    def split(self, numbers: Array) -> tuple[Array, Array, Array]:
        """Return coordinates, their log density, and the numbers of the other parameters."""
        size = self.fit.n_scores
        return *self.fit.coordinates(numbers[:, :size]), numbers[:, size:]

    def weigh(self, numbers: Array) -> _Particles:
        """Return particles with their log weights."""
        theta, log_density, rest = self.split(numbers)
        value = self.proposal.log_ratio(theta, rest) - log_density
        return _Particles(numbers, np.where(np.isnan(value), -np.inf, value))

    def _weights(self, step: float) -> Array:
        """Return normalised weights (islands, particles) of a step of beta."""
        logs = step * self.particles.log_weight.reshape(self.plan.n_islands, -1)
        peak = logs.max(axis=1, keepdims=True)
        weights = np.exp(logs - np.where(np.isfinite(peak), peak, 0.0))
        return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)

    def _ess(self, step: float) -> float:
        """Return the least effective share of an island's particles."""
        weights = self._weights(step)
        squares = np.maximum((weights**2).sum(axis=1), 1e-300)
        return float((weights.sum(axis=1) ** 2 / squares).min() / weights.shape[1])

    def advance(self) -> None:
        """Increase beta as far as effective numbers allow; update evidences, draw chains."""
        plan, largest = self.plan, 1.0 - self.beta
        step = largest
        if self._ess(largest) < plan.ess_fraction:
            low, high = np.log(1e-9), np.log(largest)
            for _ in range(40):
                middle = 0.5 * (low + high)
                enough = self._ess(float(np.exp(middle))) >= plan.ess_fraction
                low, high = (middle, high) if enough else (low, middle)
            step = float(np.exp(low))
        logs = step * self.particles.log_weight.reshape(plan.n_islands, -1)
        self.log_evidence += log_mean_exp(logs, axis=1)
        weights = self._weights(step)
        chains = weights.reshape(plan.n_islands, -1, self.chain_length).sum(axis=2)
        self.variance += chains.shape[1] * chains.var(axis=1, ddof=1)
        self.beta = 1.0 if step == largest else self.beta + step
        n_chains = plan.n_particles // (plan.n_moves + 1)
        with np.errstate(divide="ignore"):
            chosen = [
                island * plan.n_particles + systematic_resample(np.log(own), n_chains, self.rng)
                for island, own in enumerate(weights)
            ]
        self.particles = self.particles.take(np.concatenate(chosen))

    def move(self) -> None:
        """Run the chains; their states are the new particles."""
        states, accepted = [self.particles], []
        for _ in range(self.plan.n_moves):
            last = states[-1]
            n, size = last.numbers.shape
            # the share of each number's variance that is redrawn
            share = np.minimum(self.share * self.rng.uniform(0.3, 1.5, (n, 1)), 1.0)
            numbers = np.sqrt(1 - share) * last.numbers
            numbers += np.sqrt(share) * self.rng.standard_normal((n, size))
            proposed = self.weigh(numbers)
            with np.errstate(invalid="ignore"):
                change = self.beta * (proposed.log_weight - last.log_weight)
            probability = np.exp(np.minimum(np.where(np.isnan(change), -np.inf, change), 0.0))
            taken = self.rng.random(n) < probability
            states.append(
                _Particles(
                    np.where(taken[:, None], proposed.numbers, last.numbers),
                    np.where(taken, proposed.log_weight, last.log_weight),
                )
            )
            accepted.append(probability.mean())
            self.share = float(np.clip(self.share * np.exp(accepted[-1] - _ACCEPTANCE), 1e-4, 1.0))
        self.acceptance = float(np.mean(accepted))
        n_chains = states[0].n_models
        order = np.arange(n_chains * len(states)).reshape(len(states), n_chains).T.ravel()
        self.particles = _Particles.concatenate(states).take(order)
        self.chain_length = len(states)

    def go_on(self) -> None:
        """Continue the chains from their last states."""
        last = np.arange(self.chain_length - 1, self.particles.n_models, self.chain_length)
        self.particles = self.particles.take(last)
        self.move()


def sample_nested(
    posterior: NestedPosterior,
    rng: np.random.Generator,
    n_models: int,
    on_step: Callable[[int, float], bool] | None = None,
    make_plan: Callable[[int, int], NestedPlan] = nested_plan,
) -> SamplingRun:
    """Sample ``p(m)`` of models with few coordinates and nested parameters.

    Parameters
    ----------
    posterior : NestedPosterior
    rng : Generator
    n_models : int
        Models to keep.
    on_step : callable or None
        Called after each step with its number and the best log weight; returning true ends the
        run.
    make_plan : callable
        Returns the plan, given the numbers that make a model and the models to keep.

    Returns
    -------
    SamplingRun
        If a callback ended the run early, ``stopped`` is true, the log evidence and its error are
        NaN, and the draws are those of the last step.

    Raises
    ------
    TemperingError
        If no start has a finite density, or the target is not reached in many steps.
    """
    fit, _, alone = find_fit(posterior, make_plan(1, n_models).n_searches)
    fit, proposal = refine(posterior, fit, rng)
    plan = make_plan(proposal.n_numbers, n_models)
    population = _Population(fit, proposal, plan, rng)
    drawn = population.particles.log_weight
    step, stopped, accepted = 0, False, []
    while population.beta < 1 and not stopped:
        if step == plan.max_steps:
            raise TemperingError(
                f"sampling has reached only beta={population.beta:.3g} of 1 in "
                f"max_steps={plan.max_steps} steps; decrease n_components or raise "
                "model_temperature"
            )
        population.advance()
        population.move()
        step += 1
        accepted.append(population.acceptance)
        best = float(population.particles.log_weight.max())
        stopped = on_step is not None and on_step(step, best)
    stopped = stopped and population.beta < 1
    visited = [population.particles]
    for _ in range(0 if stopped else plan.n_rounds - 1):
        population.go_on()
        visited.append(population.particles)
        accepted.append(population.acceptance)
    doubts = [] if alone else ["the posterior has a second mode, which the draws may not include"]
    if not stopped:
        doubts += _against_bridge(population, drawn, visited)
    run = _report(population, visited, accepted, stopped, tuple(doubts))
    share, shape = _first_weights(population, drawn)
    return replace(run, first_share=share, first_shape=shape)


def doubts_of_shape(run: SamplingRun) -> list[str]:
    """Return a doubt if a few of the models proposed first have most of the weight."""
    if not run.first_shape > _LARGEST_SHAPE:
        return []
    return [
        f"a few proposed models have most of the weight (Pareto shape {run.first_shape:.2f}, "
        f"limit {_LARGEST_SHAPE:g}): others that count may never have been proposed"
    ]


def effective_share(log_weights: Array) -> float:
    """Return the effective number of weighted draws as a share of their number.

    Examples
    --------
    >>> effective_share(np.array([0.0, 0.0, -np.inf, -np.inf]))
    0.5
    """
    if not np.isfinite(log_weights).any():
        return 0.0
    return float(np.exp(2 * log_mean_exp(log_weights) - log_mean_exp(2 * log_weights)))


def _first_weights(population: _Population, drawn: Array) -> tuple[float, float]:
    """Return the effective share of draws from the proposal, and the shape of their tail.

    The shape is minus infinity where weights are too even for their tail to matter. Otherwise
    there are more draws than particles, which see models that are hardly ever proposed.
    """
    share = effective_share(drawn)
    if share >= _EVEN_SHARE:
        return share, float("-inf")
    more = [population.draw(len(drawn)).log_weight for _ in range(population.plan.n_tail - 1)]
    drawn = np.concatenate([drawn, *more])
    return effective_share(drawn), weights_shape(drawn)


def _in_chains(population: _Population, visited: list[_Particles]) -> _Particles:
    """Return all states, chain by chain, island by island."""
    n_chains = population.particles.n_models // population.chain_length
    index = np.arange(population.particles.n_models).reshape(n_chains, -1)
    index = np.concatenate([index + i * index.size for i in range(len(visited))], axis=1)
    return _Particles.concatenate(visited).take(index.ravel())


def _against_bridge(population: _Population, drawn: Array, visited: list[_Particles]) -> list[str]:
    """Return a doubt if the evidences by annealing and by bridge sampling differ."""
    if effective_share(drawn) * len(drawn) < _BRIDGED:
        return []
    length = len(visited) * population.chain_length
    states = _in_chains(population, visited).log_weight.reshape(-1, length)
    floor = states[np.isfinite(states)].min() - 100.0
    value, error = bridge_estimate(np.maximum(drawn, floor), states)
    found = float(log_mean_exp(population.log_evidence))
    own = float(np.sqrt(population.variance.sum())) / population.plan.n_islands
    if abs(value - found) <= max(5 * np.hypot(error, own), _TOLERANCE):
        return []
    return [
        f"two estimates of the log evidence differ by more than their errors (bridge sampling: "
        f"{value:.2f} +- {error:.2g}, annealing: {found:.2f} +- {own:.2g})"
    ]


def _report(
    population: _Population,
    visited: list[_Particles],
    accepted: list[float],
    stopped: bool,
    doubts: tuple[str, ...],
) -> SamplingRun:
    plan, proposal, rng = population.plan, population.proposal, population.rng
    states = _in_chains(population, visited)
    states = states.take(slice(None, None, max(1, states.n_models // _REPORTED)))
    theta, _, rest = population.split(states.numbers)
    objective, scores = proposal.objective(theta, rest)
    n = states.n_models // plan.n_islands
    kept = systematic_resample(np.repeat(population.log_evidence, n), plan.n_keep, rng)
    unknown = np.full(plan.n_islands, np.nan)
    return SamplingRun(
        params=proposal.models(theta[kept], rest[kept], rng),
        hmaxe=objective.reshape(plan.n_islands, n),
        scores=scores.reshape(plan.n_islands, n, -1),
        log_evidence=unknown if stopped else population.log_evidence,
        log_evidence_error=unknown.copy()
        if stopped
        else _DEPENDENCE * np.sqrt(population.variance),
        acceptance=float(np.mean(accepted)),
        stopped=stopped,
        method="nested",
        hmaxe_spread=np.broadcast_to(proposal.spread(theta, rest), len(theta)).reshape(-1, n),
        n_sweeps=len(accepted) * plan.n_moves,
        doubts=doubts,
    )
