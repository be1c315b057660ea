"""Draws of ``p(m)`` and its evidence, for models of few coordinates and other, nested parameters.

A normal density is fitted to the coordinates, and the other parameters are proposed given these. A
model is thus a function of independent standard normal numbers, and its weight is the target's
density divided by the proposal's. If the weights vary little, the evidence is their mean, in any
number of dimensions; otherwise particles move from proposal to target by ``q(m)^(1 - beta)
p(m)^beta``. Moves are autoregressive steps of the numbers (preconditioned Crank-Nicolson, Cotter et
al. 2013), which leave the proposal invariant and are accepted by weights alone, without gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from skbae._types import ArrayRecord, SamplingRun
from skbae.inference.evidence._bridge import bridge_estimate
from skbae.inference.sample._tempering import TemperingError
from skbae.operators._constants import LOG_2PI
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies._capabilities import NestedPosterior, Proposal

# Parameters a of the tails of a fitted density, sinh(a z) / a along each axis: the least, and those
# that are tried.
_TAIL = 0.25
_TAILS = (0.25, 0.5, 0.8, 1.2)
# Share of the draws from a wider density, and the factor by which it is wider.
_WIDE_SHARE, _WIDENING = 0.1, 2.5
# Factors of the width and shifts, in standard deviations, that are tried with these; and the points
# at which tails are compared.
_WIDTHS, _SHIFTS = (0.8, 1.0, 1.25, 1.6, 2.0), (-0.5, 0.0, 0.5)
_LOOKED_AT = np.linspace(-12.0, 12.0, 33)
# Least curvature of a log density in units of the coordinates.
_LEAST_CURVATURE = 0.1
# Newton's method: largest number of iterations, longest step and step at convergence, in standard
# deviations.
_MAX_ITER, _LONGEST_STEP, _CONVERGED = 60, 3.0, 0.03
# Step of finite differences, in standard deviations.
_STEP = 0.1
# Range of the factor by which differences over a standard deviation may change curvatures.
_CORRECTION = (0.2, 5.0)
# Draws of the nested parameters over which a fit averages the density of coordinates: the least and
# largest number, and the largest numbers of entries and of models of all draws.
_FIT_DRAWS = (4, 48)
_FIT_NUMBERS, _FIT_MODELS = 40_000, 2000
_TAIL_DRAWS = 8
# Acceptance for which step sizes are tuned.
_ACCEPTANCE = 0.35
# Largest number of entries of the particles of an island.
_ISLAND_NUMBERS = 8e5
# Largest number of states that are reported.
_REPORTED = 4096
# Nats by which two estimates may always differ.
_TOLERANCE = 0.05
# Least effective number of draws of the proposal for which bridge sampling is compared.
_BRIDGED = 50.0


@dataclass(frozen=True)
class NormalFit:
    """A density of P coordinates: normal with heavier tails.

    Attributes
    ----------
    centre : ndarray of shape (P,)
    axes : ndarray of shape (P, P)
        In rows, of a deviation's length.
    tails : ndarray of shape (P,)
        How heavy they are: steps are ``sinh(tails z) / tails`` for standard normal z.
    widening : ndarray of shape (P,)
        Factors of the axes in a second, wide density that has a small share of the draws. Where the
        posterior has tails in directions that no axis is along, weights stay bounded.
    """

    centre: Array
    axes: Array
    tails: Array
    widening: Array

    @classmethod
    def nearly_normal(cls, centre: Array, axes: Array) -> NormalFit:
        """Return a fit whose tails are as light as they get."""
        return cls(centre, axes, np.full(len(centre), _TAIL), np.ones(len(centre)))

    @property
    def n_scores(self) -> int:
        """Standard normal numbers that make coordinates: one more than there are."""
        return len(self.centre) + 1

    def place(self, scores: Array) -> tuple[Array, Array]:
        """Turn standard normal numbers (S, P + 1) into coordinates; return their log density too.

        The first number chooses the wide density or the narrow one.
        """
        is_wide = (scores[:, 0] < ndtri(_WIDE_SHARE))[:, None]
        steps = np.sinh(self.tails * scores[:, 1:]) / self.tails
        steps = steps * np.where(is_wide, self.widening, 1.0)
        parts = [
            np.log(share) + self._log_density(steps / widening) - np.log(widening).sum()
            for share, widening in (
                (1 - _WIDE_SHARE, np.ones(len(self.centre))),
                (_WIDE_SHARE, self.widening),
            )
        ]
        volume = np.linalg.slogdet(self.axes)[1]
        return self.centre + steps @ self.axes, np.logaddexp(*parts) - volume

    def _log_density(self, steps: Array) -> Array:
        """Return the log density of steps along the axes, (S,)."""
        scaled = self.tails * steps
        squares = (np.arcsinh(scaled) / self.tails) ** 2
        return -0.5 * (squares + np.log1p(scaled**2) + LOG_2PI).sum(axis=1)


def _stencil(function: Callable[[Array], Array], fit: NormalFit) -> tuple[float, Array, Array]:
    """Return the value at a fit's centre, and slopes and curvatures (P, P) along its axes."""
    centre, steps, size = fit.centre, _STEP * fit.axes, len(fit.centre)
    first, second = np.triu_indices(size, 1)
    both = steps[first] + steps[second]
    shifts = np.concatenate([np.zeros((1, size)), steps, -steps, both, -both])
    values = function(centre + shifts)
    values = np.where(np.isfinite(values), values, np.nan)
    middle, up, down = values[0], values[1 : size + 1], values[size + 1 : 2 * size + 1]
    corners = values[2 * size + 1 :]
    own = (up + down - 2 * middle) / _STEP**2
    curvature = np.diag(own)
    n_pairs = len(first)
    mixed = corners[:n_pairs] + corners[n_pairs:] - 2 * middle
    mixed = 0.5 * (mixed / _STEP**2 - own[first] - own[second])
    curvature[first, second] = curvature[second, first] = mixed
    return float(middle), (up - down) / (2 * _STEP), -curvature


def _wide_axes(fit: NormalFit, curvature: Array) -> Array:
    """Return axes of a deviation's length, given the curvature along a fit's axes."""
    values, vectors = np.linalg.eigh(np.where(np.isfinite(curvature), curvature, 0.0))
    axes = vectors.T @ fit.axes
    # no wider than what is flat in units of the coordinates
    least = _LEAST_CURVATURE * (axes**2).sum(axis=1)
    return axes / np.sqrt(np.maximum(np.abs(values), least))[:, None]


def newton_mode(function: Callable[[Array], Array], start: Array) -> tuple[NormalFit, float]:
    """Find a mode by Newton's method, with curvatures by finite differences.

    Parameters
    ----------
    function : callable
        Log densities (S,) of coordinates (S, P).
    start : ndarray of shape (P,)

    Returns
    -------
    fit : NormalFit
        With the position and curvature of the mode.
    height : float
    """
    size = len(start)
    scales = np.full(size, 1e-2)
    for _ in range(4):  # approximate standard deviation of each coordinate
        steps = np.diag(_STEP * scales)
        values = function(np.concatenate([start[None], start + steps, start - steps]))
        own = (2 * values[0] - values[1 : size + 1] - values[size + 1 :]) / (_STEP * scales) ** 2
        own = np.where(np.isfinite(own), np.abs(own), 1.0)
        scales = 1.0 / np.sqrt(np.maximum(own, _LEAST_CURVATURE))
    fit = NormalFit.nearly_normal(start, np.diag(scales))
    height = float(function(start[None])[0])
    for _ in range(_MAX_ITER):
        height, slope, curvature = _stencil(function, fit)
        fit = replace(fit, axes=_wide_axes(fit, curvature))
        slope = _stencil(function, fit)[1]
        length = np.sqrt(slope @ slope)
        if not np.isfinite(length):
            break
        step = slope * min(1.0, _LONGEST_STEP / max(float(length), 1e-300))
        # far from the mode the curvature may mislead: longer and shorter steps are tried too
        tries = step * (0.5 ** np.arange(-8, 8))[:, None]
        values = function(fit.centre + tries @ fit.axes)
        values = np.where(np.isfinite(values), values, -np.inf)
        best = int(np.argmax(values))
        if values[best] > height:
            height = float(values[best])
            fit = replace(fit, centre=fit.centre + tries[best] @ fit.axes)
        if length < _CONVERGED or not values[best] > height - 1e-9:
            break
    return fit, height


def integral(fit: NormalFit, height: float) -> float:
    """Return the log integral of a density with a mode of this shape and height."""
    size = len(fit.centre)
    return float(height + 0.5 * size * LOG_2PI + np.linalg.slogdet(fit.axes)[1])


def find_fit(posterior: NestedPosterior) -> tuple[NormalFit, float, bool]:
    """Return the best mode of the approximate density, its log integral, and whether it is alone.

    Raises
    ------
    TemperingError
        If no start has a finite density.
    """
    starts = posterior.starts()
    heights = posterior.approximate(starts)
    heights = np.where(np.isfinite(heights), heights, -np.inf)
    if not np.isfinite(heights).any():
        raise TemperingError(
            "no start has a finite density: the prior is too far from the data. Scale X, or "
            "choose a prior in the units of X."
        )
    order = np.argsort(-heights, kind="stable")
    best: tuple[NormalFit, float] | None = None
    alone = True
    for index in [order[0], *order[1:3]]:
        if not np.isfinite(heights[index]):
            continue
        fit, height = newton_mode(posterior.approximate, starts[index])
        value = integral(fit, height)
        if best is None:
            best = fit, value
            continue
        apart = np.linalg.solve(best[0].axes.T, fit.centre - best[0].centre)
        if apart @ apart > 25.0 + 2 * len(apart) and value > best[1] - 5.0:
            alone = False
        if value > best[1]:
            best = fit, value
    assert best is not None
    return *best, alone


def _averaged(proposal: Proposal, numbers: Array) -> Callable[[Array], Array]:
    """Return the log density of coordinates (S, C), averaged over given draws of the rest."""

    def average(theta: Array) -> Array:
        repeated = np.repeat(theta, len(numbers), axis=0)
        values = proposal.log_ratio(repeated, np.tile(numbers, (len(theta), 1)))
        return log_mean_exp(values.reshape(len(theta), -1), axis=1)

    return average


def _with_scales(function: Callable[[Array], Array], centre: Array, axes: Array) -> Array:
    """Return axes in which those of unknown length have got one, of a deviation."""
    unknown = np.flatnonzero(np.isnan(axes).any(axis=1))
    axes = axes.copy()
    directions = np.isnan(axes[unknown]).astype(np.float64)
    scales = np.full(len(unknown), 1e-2)
    for _ in range(4 if len(unknown) else 0):
        steps = 0.3 * scales[:, None] * directions
        values = function(np.concatenate([centre[None], centre + steps, centre - steps]))
        n = len(unknown)
        own = (2 * values[0] - values[1 : n + 1] - values[n + 1 :]) / (0.3 * scales) ** 2
        own = np.where(np.isfinite(own), np.abs(own), 1 / scales**2)
        scales = np.clip(1.0 / np.sqrt(np.maximum(own, _LEAST_CURVATURE)), None, 30 * scales)
    axes[unknown] = scales[:, None] * directions
    return axes


def refine(
    posterior: NestedPosterior, fit: NormalFit, rng: np.random.Generator
) -> tuple[NormalFit, Proposal]:
    """Return a fit to the density of coordinates that the proposal itself says, and the proposal.

    The density is averaged over draws of the rest, the same at all coordinates; curvatures are
    those over a deviation either way, along axes that stay.
    """
    proposal = posterior.proposal(fit.centre)
    centre, axes = proposal.embed(fit.centre, fit.axes)
    size = len(centre)
    most = min(_FIT_NUMBERS // max(proposal.n_numbers, 1), _FIT_MODELS // (2 * size))
    n = int(np.clip(most, *_FIT_DRAWS))
    numbers = rng.standard_normal((n, proposal.n_numbers))
    function = _averaged(proposal, numbers)
    fit = NormalFit.nearly_normal(centre, _with_scales(function, centre, axes))
    active = np.arange(size)
    for _ in range(5):
        own = fit.axes[active]
        values = function(fit.centre + np.concatenate([np.zeros((1, size)), own, -own]))
        up, down = values[1 : len(own) + 1], values[len(own) + 1 :]
        slope, curvature = 0.5 * (up - down), 2 * values[0] - up - down
        known = np.isfinite(slope) & np.isfinite(curvature)
        curvature = np.clip(np.where(known, curvature, 1.0), *_CORRECTION)
        step = np.clip(np.where(known, slope, 0.0) / curvature, -1.5, 1.5)
        scaled = fit.axes.copy()
        scaled[active] /= np.sqrt(curvature)[:, None]
        fit = replace(fit, centre=fit.centre + step @ own, axes=scaled)
        active = active[(np.abs(step) > 0.2) | (np.abs(np.log(curvature)) > 0.3)]
        if not len(active):
            break
    first = np.flatnonzero(~np.isnan(axes).any(axis=1))
    fit = _with_tails(_averaged(proposal, numbers[:_TAIL_DRAWS]), fit, first)
    return replace(fit, axes=np.sqrt(1 + 1.0 / size) * fit.axes), proposal


def _with_tails(
    function: Callable[[Array], Array], fit: NormalFit, which: NDArray[np.intp]
) -> NormalFit:
    """Return a fit whose tails, widths and places along some axes suit a density's own.

    Along each axis on its own: those with the least variance of importance weights.
    """
    if not len(which):
        return fit
    points = _LOOKED_AT[:, None] * fit.axes[which][:, None]  # (axis, point, P)
    values = function((fit.centre + points).reshape(-1, points.shape[2])).reshape(len(which), -1)
    values = np.where(np.isfinite(values), values, -np.inf)
    # a peak further out than this axis can tell is another axis' concern
    values = values - values.max(axis=1, keepdims=True)
    grids = np.meshgrid(_TAILS, _WIDTHS, _SHIFTS, indexing="ij")
    tails, widths, shifts = (grid.ravel()[:, None] for grid in grids)
    scaled = tails * (_LOOKED_AT - shifts) / widths
    scores = np.arcsinh(scaled) / tails
    log_density = -0.5 * scores**2 - 0.5 * np.log1p(scaled**2) - np.log(widths)
    squares = log_mean_exp(2 * values[:, None] - log_density, axis=2)  # (axis, try)
    best = np.argmin(squares, axis=1)
    axes, all_tails = fit.axes.copy(), fit.tails.copy()
    axes[which] *= widths[best]
    all_tails[which] = tails[best, 0]
    centre = fit.centre + shifts[best, 0] @ fit.axes[which]
    widening = np.ones(len(centre))
    widening[which] = _WIDENING
    return NormalFit(centre, axes, all_tails, widening)


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
        Share of the particles that the effective number after reweighting is to keep.
    n_keep : int
        Models to keep.
    max_steps : int
        Most steps before the run gives up.
    """

    n_islands: int = 4
    n_particles: int = 1024
    n_moves: int = 7
    n_rounds: int = 2
    ess_fraction: float = 0.8
    n_keep: int = 50
    max_steps: int = 60

    @property
    def n_steps(self) -> int:
        """Upper limit of the number of steps that are reported."""
        return self.max_steps


def nested_plan(n_numbers: int, n_models: int) -> NestedPlan:
    """Return a plan fit for so many numbers a model, that keeps so many models.

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
        return self.place(self.rng.standard_normal((n, size)))

    def split(self, numbers: Array) -> tuple[Array, Array, Array]:
        """Return coordinates, their log density and the rest's numbers."""
        size = self.fit.n_scores
        return *self.fit.place(numbers[:, :size]), numbers[:, size:]

    def place(self, numbers: Array) -> _Particles:
        """Weigh models."""
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
            # of the variance, how much is drawn anew
            share = np.minimum(self.share * self.rng.uniform(0.3, 1.5, (n, 1)), 1.0)
            numbers = np.sqrt(1 - share) * last.numbers
            numbers += np.sqrt(share) * self.rng.standard_normal((n, size))
            proposed = self.place(numbers)
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
        """Run the chains further, from their last states."""
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
    fit, _, alone = find_fit(posterior)
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
    return _report(population, visited, accepted, stopped, tuple(doubts))


def _in_chains(population: _Population, visited: list[_Particles]) -> _Particles:
    """Return all states, chain by chain, island by island."""
    n_chains = population.particles.n_models // population.chain_length
    index = np.arange(population.particles.n_models).reshape(n_chains, -1)
    index = np.concatenate([index + i * index.size for i in range(len(visited))], axis=1)
    return _Particles.concatenate(visited).take(index.ravel())


def _against_bridge(population: _Population, drawn: Array, visited: list[_Particles]) -> list[str]:
    """Return a doubt if the evidences by annealing and by bridge sampling differ."""
    if not np.isfinite(drawn).any():
        return []
    if np.exp(2 * log_mean_exp(drawn) - log_mean_exp(2 * drawn)) * len(drawn) < _BRIDGED:
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
        log_evidence_error=unknown.copy() if stopped else np.sqrt(population.variance),
        acceptance=float(np.mean(accepted)),
        stopped=stopped,
        method="nested",
        n_sweeps=len(accepted) * plan.n_moves,
        doubts=doubts,
    )
