"""Gibbs chains of mixtures whose components are not conjugate, and their evidence by unpinning.

Chains start in the modes that searches over allocations have found, from draws of the posterior
given a mode's allocation z*: with labels given, components are independent, and each has a sampler
and an evidence of its own. The chains draw the components of all rows, then move the models given
these. They also follow the path from z* to the posterior that ``evidence/_unpinning.py`` describes,
both ways, which gives the evidence of the mode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from skbae._types import Array, SamplingRun
from skbae.energies._capabilities import PinnableEnergy
from skbae.inference.evidence._unpinning import (
    ModeTile,
    acceptance_ratio,
    log_path,
    next_log_t,
    split_at,
)
from skbae.inference.sample._collapsed import draw_labels
from skbae.inference.sample._nested import NestedPlan, doubts_of_shape, sample_nested
from skbae.inference.sample._progress import Progress
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp, tempered_logsumexp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skbae.energies._allocations import Labels
    from skbae.inference._objective import Objective

# Models times rows times components that are held at once by all chains; models times rows in one
# look; and operations of one sweep of all chains.
_HELD, _AT_ONCE, _A_SWEEP = 4e6, 1e6, 1.6e8
_FEWEST, _MOST = 8, 32
# Steps of the path, at most.
_MAX_STEPS = 200
# Share of the models drawn on the way that must lie in the mode's own tile.
_INSIDE = 0.9
# Modes are sampled if their approximate log mass is within so many nats of the best, at most so
# many of them.
_WINDOW, _MAX_MODES = 8.0, 3
# Nats by which the evidences by the two ways along the path may differ, on top of three errors.
_WAYS_APART = 1.0


@dataclass(frozen=True)
class PinnedPlan:
    """Numbers of chains and sweeps.

    Attributes
    ----------
    n_populations : int
        Independent populations of each mode, at least 2.
    n_models : int
        Models of each population; each is a chain.
    n_burn, n_sweeps : int
        Sweeps of each chain that are dropped, and that are recorded.
    n_moves : int
        Sweeps at each step of the path.
    n_scored : int
        How often along a chain gradients are recorded.
    n_keep : int
        Models to keep.
    """

    n_populations: int = 4
    n_models: int = 16
    n_burn: int = 15
    n_sweeps: int = 40
    n_moves: int = 1
    n_scored: int = 4
    n_keep: int = 50

    @property
    def n_chains(self) -> int:
        """Chains of a mode."""
        return self.n_populations * self.n_models


def pinned_plan(n_labels: int, n_numbers: int, n_models: int) -> PinnedPlan:
    """Return the plan for so many rows times components, and numbers of a component.

    Examples
    --------
    >>> [pinned_plan(n, 384, 50).n_models for n in (2000, 18_000)]
    [32, 8]
    """
    most = min(_HELD / n_labels, _A_SWEEP / (n_labels * n_numbers))
    plan = PinnedPlan(n_keep=n_models)
    return replace(plan, n_models=int(np.clip(most / plan.n_populations, _FEWEST, _MOST)))


@dataclass(frozen=True)
class _ModeRun:
    """What chains say of one mode.

    Attributes
    ----------
    params : ArrayRecord
        Models at the end of the chains.
    hmaxe : ndarray of shape (S, T)
    scores : ndarray of shape (S, t, P)
    log_evidence, error : ndarrays of shape (I,)
        Empty where there is none.
    doubts : tuple of str
    """

    params: Any
    hmaxe: Array
    scores: Array
    log_evidence: Array
    error: Array
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class _Along:
    """What the way out and the way back say of the normalisers at both ends of the path.

    Attributes
    ----------
    log_ratios : ndarray of shape (I,)
        By both ways, of each pair of populations.
    outward, back : float
        By one way each.
    inside : float
        Least share of the models drawn at a step that were inside the tile.
    """

    log_ratios: Array
    outward: float
    back: float
    inside: float


_NO_EVIDENCE = (np.empty(0), np.empty(0))


class _Chains:
    """Moves of models, and their densities, on rows of weight one."""

    def __init__(
        self, objective: Objective, n_components: int, plan: PinnedPlan, rng: np.random.Generator
    ) -> None:
        self.n_components = n_components
        self.energy = objective.require(PinnableEnergy, "sampling given the components of rows")
        self.objective, self.plan, self.rng = objective, plan, rng
        rows = objective.rows
        X = np.asarray(rows.X, np.float64)
        if rows.weights is not None:
            X = np.repeat(X, np.rint(rows.weights).astype(np.intp), axis=0)
        self.X, self.power = X, len(X) / objective.temperature
        self.temperature = objective.temperature

    def log_f(self, params: Any) -> Array:
        """Return ``H / T`` of all rows, (S, K, N)."""
        n_models = params.n_models
        step = max(1, int(_AT_ONCE / len(self.X)))
        parts = [
            self.energy.log_joint(
                params.take(slice(i, i + step)),
                self.X,
                self.objective.rows.frame,
                self.temperature,
            )
            for i in range(0, n_models, step)
        ]
        return np.concatenate(parts)

    def sweep(self, params: Any, log_f: Array, pinned: Array | float = 0.0) -> tuple[Any, Array]:
        """Redraw labels, then models; return models and their ``log f``."""
        labels = draw_labels(log_f + pinned, self.rng)
        params = self.energy.redraw(params, self.X, labels, self.temperature, self.rng)
        return params, self.log_f(params)

    def hmaxe(self, log_f: Array) -> Array:
        """Return ``Hmaxe_T`` of models, (S,)."""
        return self.temperature * tempered_logsumexp(log_f, 1.0, axis=1).mean(axis=1)

    def score(self, params: Any) -> Array:
        """Return total gradients (S, P) of the log target."""
        theta = self.energy.free_coordinates(params, self.rng)
        gradient = self.objective.value_and_gradient(theta)[1]
        return self.objective.prior(theta)[1] + self.power * gradient


# -- the posterior given an allocation ---------------------------------------------------------


def _pinned_draws(chains: _Chains, origin: Labels) -> tuple[Any, float, float, list[str]] | None:
    """Return models drawn given an allocation (N,), ``log p(X, z)``, its error, and doubts.

    None if components are not independent given the allocation.
    """
    energy, rng, n = chains.energy, chains.rng, chains.plan.n_chains
    n_components = chains.n_components
    counts = np.bincount(origin, minlength=n_components)
    log_joint, variance = energy.log_allocation(counts, chains.temperature), 0.0
    parts: list[Any | None] = []
    doubts: list[str] = []
    for k in range(n_components):
        if not counts[k]:
            parts.append(None)
            continue
        posterior = energy.pinned(chains.X[origin == k], chains.temperature)
        if posterior is None:
            return None
        run = sample_nested(posterior, rng, n, make_plan=_plan_of_component)
        parts.append(run.params.take(rng.permutation(n)))
        of = f"given the allocation of a mode, for its component of {counts[k]} rows, "
        doubts += [of + doubt for doubt in (*run.doubts, *doubts_of_shape(run))]
        log_joint += float(log_mean_exp(run.log_evidence))
        own = (run.log_evidence_error**2).sum() / len(run.log_evidence) ** 2
        variance += max(float(own), float(run.log_evidence.var(ddof=1)) / len(run.log_evidence))
    models = energy.assemble(parts, counts, n, chains.temperature, rng)
    return models, log_joint, float(np.sqrt(variance)), doubts


def _plan_of_component(n_numbers: int, n_models: int) -> NestedPlan:
    size = 512 if n_numbers <= 1500 else 128
    return NestedPlan(n_particles=size, n_keep=n_models, n_tail=1)


# -- the path ----------------------------------------------------------------------------------


@dataclass
class _Population:
    """Models on the path and their ``log f``, in I populations of P."""

    params: Any
    log_f: Array

    def take(self, index: Any) -> _Population:
        return _Population(self.params.take(index), self.log_f[index])


def _resampled(
    population: _Population, log_weights: Array, rng: np.random.Generator
) -> _Population:
    n = log_weights.shape[1]
    chosen = [i * n + systematic_resample(row, n, rng) for i, row in enumerate(log_weights)]
    return population.take(np.concatenate(chosen))


def _moved(
    chains: _Chains, tile: ModeTile, population: _Population, log_t: float
) -> tuple[_Population, float]:
    """Move models at log t; models that would leave the tile stay. Also return how many do not."""
    pinned = np.where(tile.off > 0, log_t, 0.0)
    shares = []
    for _ in range(chains.plan.n_moves):
        params, log_f = chains.sweep(population.params, population.log_f, pinned)
        stays = tile.contains(log_f)
        index = np.flatnonzero(stays)
        if len(index) == len(stays):
            population = _Population(params, log_f)
        elif len(index):
            population = _Population(
                population.params.put(index, params.take(index)),
                np.where(stays[:, None, None], log_f, population.log_f),
            )
        shares.append(float(stays.mean()))
    return population, float(np.mean(shares))


def _unpin(
    chains: _Chains, tile: ModeTile, first: _Population, last: _Population, progress: Progress
) -> _Along | None:
    """Follow the path both ways, from draws at its two ends; None if a callback ended the run."""
    shape = (chains.plan.n_populations, chains.plan.n_models)
    stops, outward, back, shares = [-np.inf], list[Array](), list[Array](), list[float]()
    population = first
    while stops[-1] < 0 and len(stops) <= _MAX_STEPS:
        own, other = split_at(population.log_f, tile.origin)
        stops.append(next_log_t(own, other, stops[-1], shape))
        rise = log_path(own, other, stops[-1]) - log_path(own, other, stops[-2])
        outward.append(rise.reshape(shape))
        if progress(float(population.log_f.max(axis=1).sum(axis=1).max())):
            return None
        if stops[-1] < 0:
            population = _resampled(population, outward[-1], chains.rng)
            population, share = _moved(chains, tile, population, stops[-1])
            shares.append(share)
    population = last
    for low, high in zip(stops[-2::-1], stops[:0:-1], strict=True):
        own, other = split_at(population.log_f, tile.origin)
        back.append((log_path(own, other, high) - log_path(own, other, low)).reshape(shape))
        if progress(float(population.log_f.max(axis=1).sum(axis=1).max())):
            return None
        if low > -np.inf:
            population = _resampled(population, -back[-1], chains.rng)
            population, share = _moved(chains, tile, population, low)
            shares.append(share)
    back.reverse()
    ratios = [
        [acceptance_ratio(up, down) for up, down in zip(a, b, strict=True)]
        for a, b in zip(outward, back, strict=True)
    ]
    out = np.sum([log_mean_exp(rise, axis=1) for rise in outward], axis=0)
    again = -np.sum([log_mean_exp(-rise, axis=1) for rise in back], axis=0)
    return _Along(
        np.sum(ratios, axis=0),
        float(log_mean_exp(out)),
        float(log_mean_exp(again)),
        min(shares, default=1.0),
    )


# -- the run -----------------------------------------------------------------------------------


def _first_models(
    chains: _Chains, origin: Labels, progress: Progress
) -> tuple[Any, float, float, list[str]]:
    """Return models given an allocation, ``log p(X, z)`` with its error, and reasons for doubt."""
    pinned = _pinned_draws(chains, origin)
    if pinned is not None:
        return pinned
    energy, plan, rng = chains.energy, chains.plan, chains.rng
    none = np.zeros(chains.n_components, dtype=np.intp)
    drawn = energy.assemble(
        [None] * chains.n_components, none, plan.n_chains, chains.temperature, rng
    )
    labels = np.broadcast_to(origin, (plan.n_chains, len(origin)))
    for _ in range(2 * plan.n_burn):
        drawn = energy.redraw(drawn, chains.X, labels, chains.temperature, rng)
        if progress(0.0):
            break
    doubt = "with tied noise the evidence is not estimated for so many parameters"
    return drawn, np.nan, np.nan, [doubt]


def _run_mode(chains: _Chains, origin: Labels, rivals: Labels, progress: Progress) -> _ModeRun:
    """Run chains in one mode, and along the path from its allocation."""
    plan, rng = chains.plan, chains.rng
    drawn, log_joint, joint_error, doubts = _first_models(chains, origin, progress)
    tile = ModeTile(origin, rivals, chains.n_components)
    first = last = _Population(drawn, chains.log_f(drawn))
    every = max(1, plan.n_sweeps // plan.n_scored)
    hmaxe, scores, kept = list[Array](), list[Array](), list[Any]()
    for sweep in range(plan.n_burn + plan.n_sweeps):
        last = _Population(*chains.sweep(last.params, last.log_f))
        now = chains.hmaxe(last.log_f)
        stops = progress(float(now.max()) * len(chains.X))
        if sweep >= plan.n_burn or stops:
            hmaxe.append(now)
            if (sweep - plan.n_burn) % every == 0 or stops:
                scores.append(chains.score(last.params))
                kept.append(last.params)
        if stops:
            break
    run = _ModeRun(
        type(drawn).concatenate(kept),
        np.stack(hmaxe, axis=1),
        np.stack(scores, axis=1),
        *_NO_EVIDENCE,
        tuple(doubts),
    )
    if progress.stopped or np.isnan(log_joint):
        return run
    starts, ends = tile.contains(first.log_f), tile.contains(last.log_f)
    leaving = "chains leave the mode in which they started"
    if min(starts.sum(), ends.sum()) < 2:
        return replace(run, doubts=(leaving,))
    first, last = first.take(_inside(starts, rng)), last.take(_inside(ends, rng))
    path = _unpin(chains, tile, first, last, progress)
    if path is None:
        return run
    if min(starts.mean(), ends.mean(), path.inside) < _INSIDE:
        doubts.append(leaving)
    counts = np.bincount(origin, minlength=chains.n_components)
    n, used = chains.n_components, int((counts > 0).sum())
    start = log_joint + float(np.log(starts.mean()) + gammaln(n + 1) - gammaln(n - used + 1))
    spread = float(path.log_ratios.std(ddof=1))
    gap = abs(path.outward - path.back)
    if gap > _WAYS_APART + 3 * spread:
        # populations went different ways: their spread is no error
        spread = max(spread, 0.25 * gap)
        doubts.append(
            "the log evidence by letting go of an allocation and by taking it back differ: "
            f"{start + path.outward:.1f} and {start + path.back:.1f}"
        )
    error = float(np.sqrt(spread**2 + len(path.log_ratios) * joint_error**2))
    return replace(
        run,
        log_evidence=start + path.log_ratios,
        error=np.full(len(path.log_ratios), error),
        doubts=tuple(doubts),
    )


def _inside(inside: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """Return indices of all models, those outside replaced by some inside."""
    index = np.arange(len(inside))
    return np.where(inside, index, rng.choice(np.flatnonzero(inside), len(inside)))


def sample_pinned(
    objective: Objective,
    modes: Labels,
    log_mass: Array,
    n_components: int,
    rng: np.random.Generator,
    *,
    plan: PinnedPlan,
    doubts: Sequence[str] = (),
    on_step: Callable[[int, float], bool] | None = None,
) -> SamplingRun:
    """Sample ``p(m)`` at T = tau by chains in the modes of given allocations.

    Parameters
    ----------
    objective : Objective
        Of a PinnableEnergy, on rows of integer weights.
    modes : ndarray of int of shape (J, N)
        Allocations; a row of weight w has w labels.
    log_mass : ndarray of shape (J,)
        About ``log p(X, z)`` of these.
    n_components : int
    rng : Generator
    plan : PinnedPlan
    doubts : sequence of str
        Of the search.
    on_step : callable or None
        Called after each sweep with its number and the best ``Hmaxe``; returning true ends the run.

    Returns
    -------
    SamplingRun
    """
    chains = _Chains(objective, n_components, plan, rng)
    progress = Progress(on_step, len(chains.X))
    order = np.argsort(-log_mass, kind="stable")
    order = order[log_mass[order] > log_mass.max() - _WINDOW][:_MAX_MODES]
    runs: list[_ModeRun] = []
    for index in order:
        runs.append(_run_mode(chains, modes[index], modes[order[order != index]], progress))
        if progress.stopped:
            break
    return _report(runs, log_mass[order[: len(runs)]], chains, doubts, progress)


def _report(
    runs: list[_ModeRun],
    log_mass: Array,
    chains: _Chains,
    doubts: Sequence[str],
    progress: Progress,
) -> SamplingRun:
    """Join the modes by their evidences, or by what is known of them if one has none."""
    plan, rng = chains.plan, chains.rng
    known = all(len(run.log_evidence) for run in runs) and not progress.stopped
    found = [float(log_mean_exp(run.log_evidence)) for run in runs] if known else log_mass
    shares = np.asarray(found) - np.max(found)
    chosen = systematic_resample(shares, plan.n_chains, rng)
    hmaxe = [run.hmaxe[np.flatnonzero(chosen == j)] for j, run in enumerate(runs)]
    scores = [run.scores[np.flatnonzero(chosen == j)] for j, run in enumerate(runs)]
    shortest = min(len(each.T) for each in hmaxe)
    fewest = min(each.shape[1] for each in scores)
    keep = systematic_resample(shares, plan.n_keep, rng)
    kept = []
    for j, run in enumerate(runs):
        n, size = int((keep == j).sum()), run.params.n_models
        kept.append(run.params.take(rng.permutation(np.arange(max(n, size)) % size)[:n]))
    values = errors = np.empty(0)
    if known:
        each = np.stack([run.log_evidence for run in runs])
        values = log_mean_exp(each, axis=0) + np.log(len(runs))
        weights = np.exp(each - values)
        errors = np.sqrt((weights**2 * np.stack([run.error for run in runs]) ** 2).sum(axis=0))
    elif progress.stopped:
        values = errors = np.full(plan.n_populations, np.nan)
    all_doubts = dict.fromkeys([*doubts, *(doubt for run in runs for doubt in run.doubts)])
    return SamplingRun(
        params=type(kept[0]).concatenate(kept),
        hmaxe=np.concatenate([each[:, :shortest] for each in hmaxe]),
        scores=np.concatenate([each[:, :fewest] for each in scores]),
        log_evidence=values,
        log_evidence_error=errors,
        acceptance=1.0,
        stopped=progress.stopped,
        method="pinned",
        n_sweeps=progress.number,
        doubts=tuple(all_doubts),
        n_modes=len(runs),
    )
