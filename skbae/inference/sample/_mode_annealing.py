"""Annealing from normal fits: draws of ``p(m)`` and its evidence, starting at the modes.

Tempering from the prior has first-order transitions for mixtures, where components separate, and
needs more temperatures the more rows there are. Here particles start as draws of normal densities
fitted to the modes, and follow ``q(m)^(1 - beta) p(m)^beta`` from beta = 0 to 1: the better the
fit, the fewer the steps, whatever the number of rows.

With J fits, q is the mean density over modes and labellings. Each mode j has its own islands of
particles, which start at its fit q_j and end at ``p(m) q_j(m) / q(m)``. These add up to ``p(m)``,
so that the evidence is the mean over modes, and each mode keeps its share. Along the path the
target is ``q_j exp(beta log(p / q))``, in the chart of the mode, where q_j is standard normal.
Leapfrog steps use the gradient of q_j alone, and acceptance uses q: leapfrog steps preserve volume
with any force, so that the target is invariant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from skbae._types import Array, SamplingRun
from skbae.energies._capabilities import ChartedEnergy
from skbae.inference._objective import Target
from skbae.inference.evidence._verdict import assess
from skbae.inference.sample._mode_search import LocalTarget, ModeStarts, find_modes
from skbae.inference.sample._normal_fits import NormalFits
from skbae.inference.sample._tempering import SMCMoves, SMCPlan, SMCState, TemperingError
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae.inference._objective import Objective

# Modes whose log evidence by importance sampling is this many nats below the best are left out.
_NEGLIGIBLE = 10.0
# Largest product of the particles of an island with rows, and with coordinates.
_PARTICLE_ROWS = 4e4
_PARTICLE_COORDINATES = 1e5
# Share of the evidence in modes that one start found, above which other modes may be missing.
_FOUND_ONCE = 0.1
# Up to so many modes each have the full number of particles; more modes share it.
_FEW_MODES = 8
# Factor by which a run that disagrees with itself is repeated with more particles.
_MORE = 4
# Share of the evidence in modes left out, above which the result is in doubt.
_LEFT_OUT = 0.01
# Relative error of a log density above which it counts as lost to rounding.
_ROUNDING = 1e-6


class FittedTarget(Target):
    """Normal fits as the prior, and ``log(p / q)`` as the objective.

    Coordinates are standard normal under each mode's fit. An array of models consists of J equal
    parts, one for each mode.
    """

    def __init__(self, fits: NormalFits, of_energy: Objective, power: float) -> None:
        self.fits, self.of_energy, self.power = fits, of_energy, power

    def prior(self, theta: Array) -> tuple[Array, Array]:
        """Return the fits' log densities, up to a constant, and their gradients."""
        return -0.5 * (theta**2).sum(axis=1), -theta

    def local(self, theta: Array) -> Array:
        """Return coordinates (J, n, P) of models."""
        return self.fits.from_standard(theta.reshape(self.fits.charts.n_charts, -1, theta.shape[1]))

    def value_and_gradient(self, theta: Array) -> tuple[Array, Array]:
        """Return ``log(p / q)``, and the force, which is not exactly its gradient."""
        fits, charts = self.fits, self.fits.charts
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            local = self.local(theta)
            models = charts.theta_at(local)
            value, gradient = self.of_energy.value_and_gradient(models)
            log_ratios = fits.log_ratios(models)
            own = fits.own_log_ratio(theta.reshape(local.shape))
            of_own = np.einsum("jnj->jn", log_ratios.reshape(*own.shape, -1))
            # the density averaged over relabellings is at least that of one labelling, divided by
            # their number; if not, rounding errors dominate (a direction has almost vanished), and
            # the target has negligible density there
            lost = of_own < own - gammaln(charts.n_blocks + 1) - _ROUNDING * (1 + np.abs(own))
            value = self.power * value - log_mean_exp(log_ratios, axis=1)
        value = np.where(lost.ravel() | ~np.isfinite(value), -np.inf, value)
        return value, self._force(theta, local, gradient)

    def force(self, theta: Array) -> Array:
        """Return the gradient of the log target minus that of the mode's own fit."""
        with np.errstate(over="ignore", invalid="ignore"):
            local = self.local(theta)
            gradient = self.of_energy.value_and_gradient(self.fits.charts.theta_at(local))[1]
        return self._force(theta, local, gradient)

    def _force(self, theta: Array, local: Array, gradient: Array) -> Array:
        charts = self.fits.charts
        with np.errstate(over="ignore", invalid="ignore"):
            total = charts.log_prior(local)[1] + self.power * charts.pull_back(local, gradient)
            force = self.fits.pull_back(total).reshape(theta.shape) + theta
        return np.where(np.isfinite(force), force, 0.0)


@dataclass(frozen=True)
class AnnealPlan:
    """Numbers of particles and moves: see :func:`sample_from_modes`.

    Attributes
    ----------
    n_islands : int
        Independent populations of each mode, at least 2.
    n_particles : int
        Number of particles of each island; a multiple of ``n_moves + 1``.
    n_moves : int
        Moves of each chain at each step.
    n_rounds : int
        How often the moves are repeated at the last step, for more draws if particles are few.
    n_pilot : int
        Draws of each fit by which its share of the evidence is estimated.
    length, max_leapfrog, max_steps, n_keep
        As in :class:`~skbae.inference.sample._tempering.SMCPlan`.
    max_modes : int
        Largest number of modes to sample.
    n_tries : int
        How often to anneal, at most: again with `_MORE` times the particles where a run disagrees
        with itself.
    """

    n_islands: int = 4
    n_particles: int = 256
    n_moves: int = 15
    n_rounds: int = 1
    n_pilot: int = 256
    length: float = 1.6
    max_leapfrog: int = 20
    max_steps: int = 100
    n_keep: int = 50
    max_modes: int = 16
    n_tries: int = 1

    @property
    def n_chains(self) -> int:
        """Chains of an island."""
        return self.n_particles // (self.n_moves + 1)

    @property
    def n_steps(self) -> int:
        """Upper limit of the number of steps that are reported."""
        return self.max_steps

    def shared(self, n_modes: int) -> AnnealPlan:
        """Return a plan in which each of many modes has fewer particles."""
        halvings = int(np.ceil(np.log2(max(n_modes / _FEW_MODES, 1))))
        fewest = 8 * (self.n_moves + 1)
        n_particles = max(self.n_particles >> halvings, min(fewest, self.n_particles))
        return replace(self, n_particles=n_particles)

    def for_modes(self, n_modes: int) -> SMCPlan:
        """Return the plan of all islands of all modes."""
        return SMCPlan(
            n_islands=n_modes * self.n_islands,
            n_particles=self.n_particles,
            n_moves=self.n_moves,
            length=self.length,
            max_leapfrog=self.max_leapfrog,
            n_keep=self.n_keep,
            max_steps=self.max_steps,
        )


def anneal_plan(n_rows: int, n_coordinates: int, n_models: int) -> AnnealPlan:
    """Return the plan for these numbers of rows, coordinates and models to keep.

    Examples
    --------
    >>> [anneal_plan(n, 30, 50).n_particles for n in (12, 150, 2000, 100_000)]
    [2048, 256, 64, 32]
    """
    most = min(_PARTICLE_ROWS / n_rows, _PARTICLE_COORDINATES / n_coordinates)
    least = 64 if n_rows <= 20_000 else 32
    n_particles = int(np.clip(1 << int(np.log2(max(most, 1))), least, 4096))
    return AnnealPlan(
        n_particles=n_particles,
        n_moves=15 if n_particles >= 128 else 7,
        n_rounds=1 if n_particles >= 256 else 2,
        n_pilot=n_particles,
        n_keep=n_models,
        n_tries=3,
    )


def sample_from_modes(
    objective: Objective,
    starts: ModeStarts,
    model_temperature: float,
    rng: np.random.Generator,
    *,
    plan: AnnealPlan,
    on_step: Callable[[int, float], bool] | None = None,
) -> SamplingRun:
    """Sample ``p(m)`` at any T and tau > 0, from its modes.

    Parameters
    ----------
    objective : Objective
        Of a ChartedEnergy, on rows with any weights; T = 0 is allowed.
    starts : ModeStarts
    model_temperature : float
        tau, positive.
    rng : Generator
    plan : AnnealPlan
    on_step : callable or None
        Called after each step with its number and the best objective; returning true ends the run.

    Returns
    -------
    SamplingRun
        If a callback ended the run early, ``stopped`` is true, the log evidence and its error are
        NaN, and the draws are those of the last step.

    Raises
    ------
    TypeError
        If the energy lacks the capability.
    ValueError
        If `model_temperature` is not positive.
    TemperingError
        If no start has a finite density, or the target is not reached within ``plan.max_steps``.
    """
    energy = objective.require(ChartedEnergy, "annealing from modes")
    modes = _fitted_modes(objective, starts, model_temperature, plan, rng)
    if not modes.fits.charts.n_charts:
        raise TemperingError(
            "no start leads to a mode that a normal density fits: the prior may be too far from "
            "the data, or temperature and model_temperature too far from 1"
        )
    plan = plan.shared(modes.fits.charts.n_charts)
    target = FittedTarget(modes.fits, objective, objective.power(model_temperature))
    for _ in range(plan.n_tries):
        annealed = _anneal(target, plan, rng, on_step)
        run = _report(energy, modes, target, annealed, plan, rng)
        # islands whose chains forgot all would differ by less: more particles help where that shows
        least = _island_errors(annealed.state, annealed.state.variance, target.fits.charts.n_charts)
        if run.stopped or assess(replace(run, doubts=(), log_evidence_error=least)).status == "ok":
            break
        plan = replace(plan, n_particles=_MORE * plan.n_particles)
    return run


@dataclass(frozen=True)
class _Annealed:
    """Particles at the end of the path.

    Attributes
    ----------
    state : SMCState
        At the last step.
    visited : list of ndarrays
        Particles of each round at the last step, in standard normal coordinates.
    accepted : list of float
        Acceptance of each step.
    stopped : bool
        Whether a callback ended the run before the end of the path.
    """

    state: SMCState
    visited: list[Array]
    accepted: list[float]
    stopped: bool


def _anneal(
    target: FittedTarget,
    plan: AnnealPlan,
    rng: np.random.Generator,
    on_step: Callable[[int, float], bool] | None,
) -> _Annealed:
    """Move particles along the path from the fits to the target."""
    smc = plan.for_modes(target.fits.charts.n_charts)
    theta = rng.standard_normal((smc.n_islands * smc.n_particles, target.fits.n_coordinates))
    moves = SMCMoves(target, np.zeros(theta.shape[1], dtype=np.intp), smc, 1.0, rng)
    state = moves.init(theta)
    accepted: list[float] = []
    stopped = False
    while state.beta < 1 and not stopped:
        if len(accepted) == plan.max_steps:
            raise TemperingError(
                f"annealing from the fitted modes has reached only beta={state.beta:.3g} of 1 in "
                f"max_steps={plan.max_steps} steps; decrease n_components or raise "
                "model_temperature"
            )
        state = moves.step(state)
        accepted.append(state.acceptance)
        highest = float(moves.values(state).max())
        stopped = on_step is not None and on_step(len(accepted), highest)
    stopped = stopped and state.beta < 1
    visited = [state.particles.theta]
    for _ in range(0 if stopped else plan.n_rounds - 1):
        state = moves.run_on(state)
        visited.append(state.particles.theta)
        accepted.append(state.acceptance)
    return _Annealed(state, visited, accepted, stopped)


@dataclass(frozen=True)
class _ModesToAnneal:
    """Modes with a share of the evidence that is not negligible, in decreasing order.

    Attributes
    ----------
    fits : NormalFits
    found_once : ndarray of bool of shape (J,)
        Modes that only one of several starts found.
    left_out : float
        Share of the evidence of modes that were left out.
    log_evidence : float
        By importance sampling from the fits; with few draws it is often too small, rarely too
        large.
    n_lost : int
        Searches that ended where no normal density could be fitted.
    """

    fits: NormalFits
    found_once: NDArray[np.bool_]
    left_out: float
    log_evidence: float
    n_lost: int


def _fitted_modes(
    objective: Objective,
    starts: ModeStarts,
    model_temperature: float,
    plan: AnnealPlan,
    rng: np.random.Generator,
) -> _ModesToAnneal:
    """Find modes, fit normal densities, and estimate their shares of the evidence."""
    try:
        modes = find_modes(objective, starts, model_temperature)
    except FloatingPointError as problem:
        raise TemperingError(
            f"{problem}: the prior is too far from the data. Scale X, or choose a prior in the "
            "units of X."
        ) from None
    fits, n_modes = modes.fits, modes.fits.charts.n_charts
    theta = rng.standard_normal((n_modes * plan.n_pilot, fits.n_coordinates))
    target = FittedTarget(fits, objective, objective.power(model_temperature))
    weights = target.value_and_gradient(theta)[0]
    by_mode = log_mean_exp(weights.reshape(n_modes, -1), axis=1)
    order = np.argsort(-by_mode, kind="stable")
    order = order[by_mode[order] > by_mode.max() - _NEGLIGIBLE][: plan.max_modes]
    shares = np.exp(by_mode - by_mode.max())
    left_out = 1 - float(shares[order].sum() / shares.sum())
    whole = float(log_mean_exp(by_mode, axis=0))
    return _ModesToAnneal(fits.take(order), modes.found_once[order], left_out, whole, modes.n_lost)


def importance_log_evidence(
    objective: Objective,
    starts: ModeStarts,
    model_temperature: float,
    rng: np.random.Generator,
    *,
    plan: AnnealPlan,
) -> float:
    """Return the log evidence by importance sampling from normal fits to the modes.

    It is too small where the fits are poor and rarely too large, so that another sampler whose log
    evidence is lower has missed a mode. Parameters are those of :func:`sample_from_modes`.
    """
    modes = _fitted_modes(objective, starts, model_temperature, plan, rng)
    return modes.log_evidence


def _island_errors(state: SMCState, variance: Array, n_modes: int) -> Array:
    """Return the errors of the islands' log evidences, (I,), given those of each mode's."""
    by_mode = state.log_evidence.reshape(n_modes, -1)
    shares = np.exp(by_mode - log_mean_exp(by_mode, axis=0)) / n_modes
    return np.sqrt((shares**2 * variance.reshape(by_mode.shape)).sum(axis=0))


def _report(
    energy: ChartedEnergy,
    modes: _ModesToAnneal,
    target: FittedTarget,
    annealed: _Annealed,
    plan: AnnealPlan,
    rng: np.random.Generator,
) -> SamplingRun:
    n_modes, state = modes.fits.charts.n_charts, annealed.state
    by_mode = state.log_evidence.reshape(n_modes, plan.n_islands)
    log_evidence = log_mean_exp(by_mode, axis=0)
    shares = np.exp(by_mode - log_evidence) / n_modes
    errors = _island_errors(state, state.whole_variance, n_modes)
    theta = _draws(target, by_mode, annealed.visited, plan, rng)
    objective, scores = _scores(target, theta, rng)
    n = plan.n_particles * len(annealed.visited)
    kept = systematic_resample(np.repeat(log_evidence, n), plan.n_keep, rng)
    unknown = np.full(plan.n_islands, np.nan)
    # as in Good and Turing's estimator: the mass of modes found once estimates that of modes never
    # found
    doubts = []
    if shares[modes.found_once].sum() > _FOUND_ONCE * plan.n_islands:
        doubts.append(
            "posterior mass lies at modes found by only one start; others may be missing (raise "
            "n_init)"
        )
    if modes.left_out > _LEFT_OUT:
        doubts.append(
            f"only the best {plan.max_modes} modes were sampled; the others have "
            f"{modes.left_out:.0%} of the posterior mass"
        )
    if modes.n_lost:
        doubts.append(
            f"{modes.n_lost} search(es) for modes ended where the density has no finite curvature"
        )
    return SamplingRun(
        params=energy.constrain(theta[kept]),
        hmaxe=objective.reshape(plan.n_islands, n),
        scores=scores.reshape(plan.n_islands, n, -1),
        log_evidence=unknown if annealed.stopped else log_evidence,
        log_evidence_error=unknown.copy() if annealed.stopped else errors,
        acceptance=float(np.mean(annealed.accepted)),
        stopped=annealed.stopped,
        method="modes",
        n_sweeps=len(annealed.accepted) * plan.n_moves,
        doubts=tuple(doubts),
        n_modes=n_modes,
        mode_shares=tuple(shares.mean(axis=1)),
    )


def _draws(
    target: FittedTarget,
    log_evidence: Array,
    visited: list[Array],
    plan: AnnealPlan,
    rng: np.random.Generator,
) -> Array:
    """Return draws of all islands in the energy's coordinates, of modes by their evidence.

    Parameters
    ----------
    target : FittedTarget
    log_evidence : ndarray of shape (J, I)
        Of each mode, by each island.
    visited : list of ndarrays
        Particles of each round of moves.
    plan : AnnealPlan
    rng : Generator
    """
    n_modes, n_rounds = target.fits.charts.n_charts, len(visited)
    n = plan.n_particles * n_rounds
    # order by chain, so that the rounds of a chain follow one another
    shape = (n_modes * plan.n_islands * plan.n_chains, 1, plan.n_moves + 1, -1)
    whole = np.concatenate([part.reshape(shape) for part in visited], axis=1)
    theta = target.fits.charts.theta_at(target.local(whole.reshape(-1, visited[0].shape[1])))
    theta = theta.reshape(n_modes, plan.n_islands, n, -1)
    drawn = []
    for island in range(plan.n_islands):
        weights = np.repeat(log_evidence[:, island], n)
        chosen = _interleave(systematic_resample(weights, n, rng), n)
        drawn.append(theta[:, island].reshape(n_modes * n, -1)[chosen])
    return np.concatenate(drawn)


def _interleave(chosen: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Order draws of several modes, n of each, so that each stretch has all modes in proportion.

    Within a mode the order of its chains is kept.
    """
    modes = chosen // n
    starts = np.searchsorted(modes, modes)
    counts = np.bincount(modes)[modes]
    return chosen[np.argsort((np.arange(len(chosen)) - starts + 0.5) / counts, kind="stable")]


def _scores(fitted: FittedTarget, theta: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return objectives (S,) and total gradients (S, P) at draws, in the first chart.

    Any chart covers all models; the components of a model are assigned to blocks at random.
    """
    charts = fitted.fits.charts
    blocks, _, shared, _ = charts.locate(theta)
    order = np.argsort(rng.random((len(theta), charts.n_blocks)), axis=1)
    models = np.arange(len(theta))[:, None]
    local = blocks[0][np.arange(charts.n_blocks), models, order].reshape(len(theta), -1)
    first = LocalTarget(fitted.of_energy, charts.take([0]), fitted.power)
    objective = fitted.of_energy.value_and_gradient(theta)[0]
    return objective, first(np.concatenate([local, shared], axis=1)[None])[1][0]
