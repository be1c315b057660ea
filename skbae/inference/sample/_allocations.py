"""Sampling mixtures at T = tau: search for modes, follow chains of allocations, weigh the modes.

What is hard about the posterior of a mixture is finding its modes; integrating them is not. So two
searches that never talk look for allocations of high density, and are repeated until two agree.
Chains of allocations, with the models integrated out, start from all modes that may matter. Then
the evidence is estimated in ways that do not share their weaknesses: by the share of the posterior
that was visited, by letting go of the best allocation and taking it back
(``evidence/_unpinning.py``), and, where conditionals given the chains' allocations overlap with the
posterior, by bridge sampling between jumping chains (``_gibbs.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, SamplingRun
from skbae.energies._allocations import CollapsedModel, Labels
from skbae.energies._capabilities import CollapsibleEnergy
from skbae.inference.evidence._unpinning import ModeTile, PinnedModels, Unpinned, unpin
from skbae.inference.evidence._verdict import assess, combine_evidence
from skbae.inference.evidence._visited import (
    KnownAllocations,
    log_union,
    unseen_error,
    visited_estimate,
)
from skbae.inference.sample import _collapsed
from skbae.inference.sample._allocation_chains import GroupRun, ModeGroup, group_modes, run_groups
from skbae.inference.sample._allocation_search import Pool, SearchPlan, matched_distances, search
from skbae.inference.sample._gibbs import GibbsMoves, GibbsPlan, GibbsState, sample_conjugate
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp, tempered_logsumexp

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae.inference._objective import Objective

# Searches agree if their best modes differ by less, in nats.
_SAME_HEIGHT = 3.0
# From so many components on, three searches must agree instead of two.
_MANY_COMPONENTS = 8
# Jumping chains need so many of their long jumps accepted, and a sum over labels they can afford.
_LEAST_OVERLAP, _GOOD_OVERLAP, _SOME_OVERLAP, _MOST_JUMPED = 0.02, 0.1, 0.001, 8
# Share of the posterior that must have been visited for that to be the answer.
_MOSTLY_VISITED, _PARTLY_VISITED = 0.9, 0.5
# What is left of a posterior's mass when less is negligible.
_NEGLIGIBLE = 0.02
# Share of the posterior from which on visited allocations tell the evidence.
_LEAST_SHARE = 0.03
# Nats by which an allocation met later must be better to show that the searches were poor.
_BETTER = 5.0
# Share of the error that is asked for at which estimating stops: by jumps, and by groups of modes.
_TARGET, _GROUP_TARGET = 0.25, 0.7
# Standard error of a bridge, in nats, that tells nothing.
_NO_BRIDGE = 5.0
# Nats that the two directions of unpinning may differ by beyond their errors.
_SLACK = 0.2


@dataclass(frozen=True)
class AllocationPlan:
    """How long to search and to sample: see :func:`sample_allocations`.

    Attributes
    ----------
    search : SearchPlan
    max_searches : int
        Searches before giving up on their agreement.
    n_chains : int
        Of a group of modes, in each of two islands.
    n_burn, n_steps : int
        Steps of the chains before modes are grouped, and of those that are recorded.
    max_lengths : int
        How many times `n_steps` are made, at most: more than once where chains disagree.
    n_populations, n_population : int
        Populations that leave a mode's allocation, and the models of each.
    max_batches : int
        How often populations are sent, at most, while the error is above `evidence_tol`.
    max_groups : int
        Groups of modes that are followed, the best first.
    evidence_tol : float or None
        Error of the log evidence that is small enough, in nats; None if the evidence is not asked
        for, but for what it takes to weigh modes.
    n_keep : int
        Models to keep.
    n_jumping : int
        Chains where they may jump.
    jumps : GibbsPlan
        For these.
    """

    search: SearchPlan = field(default_factory=SearchPlan)
    max_searches: int = 5
    n_chains: int = 16
    n_burn: int = 60
    n_steps: int = 60
    max_lengths: int = 4
    n_populations: int = 8
    n_population: int = 24
    max_batches: int = 3
    max_groups: int = 4
    evidence_tol: float | None = 0.1
    n_keep: int = 50
    n_jumping: int = 64
    jumps: GibbsPlan = field(default_factory=GibbsPlan)


def allocation_plan(work: float, n_models: int, evidence_tol: float | None) -> AllocationPlan:
    """Return a plan fit for the cost of a problem.

    Parameters
    ----------
    work : float
        What a look at all rows of one allocation costs: rows times components times the numbers
        that each takes.
    n_models : int
    evidence_tol : float or None

    Examples
    --------
    >>> small, large = allocation_plan(1e4, 50, 0.1), allocation_plan(2e6, 50, 0.1)
    >>> small.n_chains, large.n_chains
    (16, 8)
    """

    def scaled(budget: float, least: int, most: int) -> int:
        return int(np.clip(budget / work, least, most))

    n_search = scaled(2e7, 24, 64)
    tolerance = None if evidence_tol is None else _TARGET * evidence_tol
    return AllocationPlan(
        search=SearchPlan(
            n_starts=n_search,
            n_children=n_search,
            # a generation looks at all rows about seven times a child
            max_generations=scaled(4e9 / (7 * n_search), 6, 60),
        ),
        n_chains=2 * scaled(5e6, 4, 8),
        n_burn=scaled(4e7, 40, 60),
        n_steps=scaled(4e7, 40, 60),
        n_populations=scaled(6e6, 4, 8),
        n_population=scaled(1.2e7, 8, 24),
        max_batches=scaled(2.5e6, 1, 3),
        max_groups=scaled(3e6, 2, 4),
        evidence_tol=evidence_tol,
        n_keep=n_models,
        n_jumping=2 * scaled(2e7, 8, 64),
        jumps=GibbsPlan(
            n_burn=scaled(1e6, 5, 20),
            n_conditionals=128,
            n_rounds=4,
            n_between=5,
            n_sweeps=max(40, 4 * -(-n_models // 64)),
            max_jumps=20,
            max_lengths=25,
            evidence_tol=tolerance,
            n_keep=n_models,
        ),
    )


def allocation_work(objective: Objective) -> float:
    """Return what a look at all rows of one allocation costs: see :func:`allocation_plan`."""
    energy = objective.require(CollapsibleEnergy, "sampling allocations")
    return objective.rows.total * energy.allocation_size()


def searches_needed(n_components: int) -> int:
    """Return how many independent searches must agree."""
    return 1 if n_components == 1 else 3 if n_components >= _MANY_COMPONENTS else 2


def pools_agree(first: Pool, second: Pool) -> bool:
    """Return whether two searches have found the same best mode.

    The best of one is among the modes of the other, and neither has found anything better.
    """
    if abs(first.log_mass[0] - second.log_mass[0]) >= _SAME_HEIGHT:
        return False
    n_components = first.mixture.n_components
    radius = max(2, round(0.025 * first.mixture.n_rows))
    for own, other in ((first, second), (second, first)):
        distances = matched_distances(own.labels[0], other.labels, n_components)
        close = np.abs(other.log_mass - own.log_mass[0]) < _SAME_HEIGHT
        if np.any((distances <= radius) & close):
            return True
    return False


def search_until_agreed(
    mixture: CollapsedModel, plan: AllocationPlan, rng: np.random.Generator
) -> tuple[list[Pool], list[str]]:
    """Search independently until enough searches have found the same best mode.

    Returns
    -------
    pools : list of Pool
        The best first.
    doubts : list of str
    """
    needed = searches_needed(mixture.n_components)
    pools: list[Pool] = []
    while True:
        generator = np.random.default_rng(rng.integers(2**63))
        pools.append(search(mixture, plan.search, generator))
        pools.sort(key=lambda pool: -pool.log_mass[0])
        if len(pools) < needed:
            continue
        agreeing = sum(pool is pools[0] or pools_agree(pools[0], pool) for pool in pools)
        if agreeing >= needed:
            return pools, []
        if len(pools) >= plan.max_searches:
            best = ", ".join(f"{pool.log_mass[0]:.1f}" for pool in pools)
            doubt = f"independent searches found different best modes (log densities {best})"
            return pools, [doubt]


def repeated_rows(objective: Objective) -> Array:
    """Return the rows (N, D), those of integer weight w repeated w times."""
    X = np.asarray(objective.rows.X, dtype=np.float64)
    weights = objective.rows.weights
    return X if weights is None else np.repeat(X, weights.astype(np.intp), axis=0)


class Progress:
    """Counts steps for the caller, and remembers whether to stop."""

    def __init__(self, on_step: Callable[[int, float], bool] | None, n_rows: int) -> None:
        self.on_step, self.n_rows = on_step, n_rows
        self.number, self.stopped = 0, False

    def __call__(self, log_joint: float) -> bool:
        self.number += 1
        if self.on_step is not None and self.on_step(self.number, log_joint / self.n_rows):
            self.stopped = True
        return self.stopped

    def of_jumps(self, number: int, hmaxe: float) -> bool:
        return self(hmaxe * self.n_rows)


def sample_allocations(
    objective: Objective,
    rng: np.random.Generator,
    *,
    plan: AllocationPlan,
    on_step: Callable[[int, float], bool] | None = None,
) -> SamplingRun:
    """Sample ``p(m)`` of a mixture at T = tau, through its allocations.

    Parameters
    ----------
    objective : Objective
        Of a CollapsibleEnergy, on rows with integer weights, if any; without a tilt, and at a
        temperature T = tau above zero.
    rng : Generator
    plan : AllocationPlan
    on_step : callable or None
        Called with the number of the step and the best log joint density a row; returning true
        ends the run as soon as there is something to report.

    Returns
    -------
    SamplingRun
    """
    energy = objective.require(CollapsibleEnergy, "sampling allocations")
    X = repeated_rows(objective)
    mixture = energy.collapse(X, objective.temperature)
    models = PinnedModels(energy, mixture, X, objective.rows.frame, objective.temperature)
    progress = Progress(on_step, mixture.n_rows)
    pools, doubts = search_until_agreed(mixture, plan, rng)
    return sample_from_pools(pools, doubts, objective, models, rng, plan, progress)


def sample_from_pools(
    pools: list[Pool],
    doubts: list[str],
    objective: Objective,
    models: PinnedModels,
    rng: np.random.Generator,
    plan: AllocationPlan,
    progress: Progress,
) -> SamplingRun:
    """Sample from the modes that searches have found, with their doubts."""
    mixture = models.mixture
    rngs = [np.random.default_rng(rng.integers(2**63)) for _ in range(2)]
    groups = group_modes(mixture, pools, plan.n_chains, plan.n_burn, rngs, progress)
    groups, runs = run_groups(
        models, groups[: plan.max_groups], plan.n_steps, rngs, progress, plan.max_lengths
    )
    bound = log_union([visited for run in runs for visited in run.visited])
    weighings = _weighings(models, groups, runs)
    overlap = 0.0
    shares = [each.visited[2] for each in weighings]
    diffuse = min(shares) < _MOSTLY_VISITED and not progress.stopped
    if diffuse and mixture.n_components <= _MOST_JUMPED:
        overlap = _overlap(models, runs, rng, 48)
    run, failed = None, list[str]()
    if overlap > (_GOOD_OVERLAP if min(shares) > _PARTLY_VISITED else _LEAST_OVERLAP):
        run = _sample_by_jumps(objective, models, weighings, rng, plan, progress)
    if run is not None and _bridge_error(run) > _NO_BRIDGE:
        # a bridge between samples that do not overlap lies anywhere between the two
        failed = ["jumping chains leave the log evidence open"]
        run = None
    if run is None or run.acceptance < _LEAST_OVERLAP:
        run = _weigh_groups(models, weighings, rng, plan, progress)
        if overlap > _SOME_OVERLAP and assess(run).status != "ok" and not progress.stopped:
            # conditionals may come to overlap with the posterior as chains are replaced by them
            other = _sample_by_jumps(objective, models, weighings, rng, plan, progress)
            if other.acceptance > _LEAST_OVERLAP and assess(other).status == "ok":
                run = other
    if plan.evidence_tol is None:
        run = replace(run, log_evidence=np.empty(0), log_evidence_error=np.empty(0), estimates={})
    if doubts and _searches_met(weighings):
        doubts = []
    return replace(run, log_evidence_lower_bound=bound, doubts=(*doubts, *failed, *run.doubts))


def _bridge_error(run: SamplingRun) -> float:
    """Return the standard error of the log evidence by jumping chains."""
    return combine_evidence(run.log_evidence, run.log_evidence_error)[1]


def _searches_met(weighings: list[_Weighing]) -> bool:
    """Return whether chains travel between the best modes of enough searches.

    Where no few allocations hold the posterior, searches end at different ones of about the same
    height, which does not matter if all are in the heaviest group of modes.
    """
    _, _, weights = _total(weighings)
    group = weighings[int(np.argmax(weights))].group
    n_components = weighings[0].run.visited[0].n_components
    return sum(group.found_by) >= searches_needed(n_components)


# -- by jumps --------------------------------------------------------------------------------------


def _last_states(runs: list[GroupRun], n: int) -> tuple[Labels, Labels]:
    """Return about n late allocations of each island, all groups alike."""
    parts: list[list[Any]] = [[], []]
    for run in runs:
        n_chains, n_steps = run.labels.shape[:2]
        each = -(-n // (len(runs) * (n_chains // 2)))
        steps = np.linspace(n_steps // 2, n_steps - 1, min(each, n_steps - n_steps // 2))
        for island in range(2):
            half = run.labels[island * n_chains // 2 : (island + 1) * n_chains // 2]
            chosen = half[:, steps.round().astype(int)]
            parts[island].append(chosen.reshape(-1, chosen.shape[-1]))
    first, second = (np.concatenate(part).astype(np.intp) for part in parts)
    return first, second


def _overlap(models: PinnedModels, runs: list[GroupRun], rng: np.random.Generator, n: int) -> float:
    """Return the chance that a long jump between islands would be accepted."""
    energy, mixture = models.energy, models.mixture
    first, second = _last_states(runs, n)
    proposal = models.conditional(*mixture.sums(first))

    def log_ratios(params: Any) -> Array:
        log_f = models.log_f(params)
        log_likelihood = log_mean_exp(log_f, axis=1).sum(axis=1)
        log_q = log_mean_exp(energy.log_conditional(proposal, params), axis=1)
        return energy.log_prior(params) + log_likelihood - log_q

    there = log_ratios(energy.draw_conditional(models.conditional(*mixture.sums(second)), rng))
    here = log_ratios(energy.relabel(energy.draw_conditional(proposal, rng), rng))
    return float(np.exp(np.minimum(here[:, None] - there, 0.0)).mean())


def _sample_by_jumps(
    objective: Objective,
    models: PinnedModels,
    weighings: list[_Weighing],
    rng: np.random.Generator,
    plan: AllocationPlan,
    progress: Progress,
) -> SamplingRun:
    """Sample with long jumps between allocations' conditionals."""
    runs = [each.run for each in weighings]
    half = plan.n_jumping // 2
    parts = []
    for labels in _last_states(runs, half):
        chosen = labels[np.arange(half) % len(labels)]
        parts.append(models.draw(*models.mixture.sums(chosen), rng))
    starts = type(parts[0]).concatenate(parts)
    moves = GibbsMoves.of(objective, starts.n_models, rng)
    if max(each.visited[2] for each in weighings) > _LEAST_SHARE:
        known = [
            KnownAllocations([each.run.visited[island] for each in weighings])
            for island in range(2)
        ]
        moves = KnownMoves(objective, moves.islands, rng, moves.seeds, models, (known[0], known[1]))
    run = sample_conjugate(
        objective, starts, rng, plan=plan.jumps, on_step=progress.of_jumps, moves=moves
    )
    estimates = dict(run.estimates)
    if plan.evidence_tol is not None and not progress.stopped:
        estimates |= _joint_estimates(weighings)
    return replace(run, estimates=estimates)


@dataclass(frozen=True)
class KnownMoves(GibbsMoves):
    """Gibbs moves whose codes jump among allocations of known mass, wherever they are such.

    Attributes
    ----------
    models : PinnedModels
    known : tuple of KnownAllocations
        By island.
    """

    models: PinnedModels
    known: tuple[KnownAllocations, KnownAllocations]

    def visit(self, params: Any) -> tuple[GibbsState, Any]:
        models, rng = self.models, self.rng
        mixture, energy = models.mixture, models.energy
        log_f = models.log_f(params)
        log_sum = tempered_logsumexp(log_f, 1.0, axis=1).sum(axis=1)
        codes = _collapsed.draw_labels(log_f, rng)
        counts, sums = mixture.sums(codes)
        statistics = energy.allocated(counts / mixture.heat, mixture.moments(sums))
        # proposed models come in the order of the islands too, as many for each
        half = len(codes) // 2
        jumped = [
            known.jump(part, rng)[0]
            for known, part in zip(self.known, (codes[:half], codes[half:]), strict=True)
        ]
        conditional = models.conditional(*mixture.sums(np.concatenate(jumped)))
        hmaxe = log_sum * (models.temperature / mixture.n_rows)
        return GibbsState(
            params, hmaxe, energy.log_prior(params) + log_sum, conditional
        ), statistics


# -- by groups of modes ----------------------------------------------------------------------------


def _combine(values: Array) -> tuple[float, float]:
    """Return the log of the mean of unbiased estimates' exponentials, and its standard error."""
    weights = np.exp(values - values.max())
    error = float(weights.std(ddof=1) / weights.mean() / np.sqrt(len(values)))
    # few values tell their own spread with an error, too: a t distribution's, about
    return float(log_mean_exp(values)), error * np.sqrt((len(values) - 1) / (len(values) - 3))


@dataclass
class _Weighing:
    """What is known of the evidence of a group of modes, as it grows.

    Attributes
    ----------
    visited : tuple of float
        Log evidence, standard error and share of the posterior that was visited.
    batches : list of Unpinned
    decentred : bool
        Whether the best allocation turned out to be no centre of its mode.
    """

    group: ModeGroup
    run: GroupRun
    tile: ModeTile
    visited: tuple[float, float, float]
    batches: list[Unpinned] = field(default_factory=list)
    decentred: bool = False

    def send(
        self, models: PinnedModels, rng: np.random.Generator, n_populations: int, n_models: int
    ) -> None:
        """Send populations away from the group's allocation, and back."""
        states = self.run.labels.reshape(-1, models.mixture.n_rows)
        size = n_populations * n_models
        picked = states[rng.permutation(len(states))[np.arange(size) % len(states)]]
        batch = unpin(
            models,
            self.tile,
            picked.astype(np.intp),
            rng,
            n_populations=n_populations,
            n_models=n_models,
        )
        if batch is None:
            self.decentred = True
        else:
            self.batches.append(batch)

    def both_ways(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return log evidence and error by letting go, and by taking back."""
        return (
            _combine(np.concatenate([each.outward for each in self.batches])),
            _combine(np.concatenate([each.back for each in self.batches])),
        )

    def estimates(self) -> dict[str, tuple[float, float]]:
        """Return the log evidence and its error by each way that has an answer."""
        value, error, share = self.visited
        found = {"visited": (value, error)} if share > _LEAST_SHARE else {}
        if self.batches:
            value, error = _combine(np.concatenate([each.log_evidence for each in self.batches]))
            out, back = self.both_ways()
            beyond = abs(out[0] - back[0]) - float(np.hypot(out[1], back[1]))
            # where one direction misses something, the answer lies between the two; what no chain
            # has seen, populations have not seen either
            n_seen = self.run.hmaxe.size
            terms = (error, 0.5 * max(beyond, 0.0), unseen_error(n_seen))
            found["unpinned"] = (value, float(np.linalg.norm(terms)))
        return found

    def best(self) -> tuple[float, float]:
        """Return the estimate of smallest error, which counts how far others are off it too."""
        found, chosen = self.estimates(), self._chosen()
        if chosen is None:
            value, error, _ = self.visited
            return value, max(error, 1.0)
        value, error = found[chosen]
        off = [abs(other - value) - its_error for other, its_error in found.values()]
        return value, float(np.hypot(error, max(0.0, *off)))

    def _chosen(self) -> str | None:
        """Return which estimate has the smallest error."""
        found = self.estimates()
        return min(found, key=lambda name: found[name][1]) if found else None

    def _ends_differ(self) -> bool:
        """Return whether populations end elsewhere than chains are, by the distance from z*."""
        origin = self.tile.origin
        ends = np.concatenate([each.distances for each in self.batches])
        n_chains = len(self.run.labels)
        step = max(1, self.run.labels.shape[1] // 10)
        chains = np.array(
            [(self.tile.relabel(part.astype(np.intp)) != origin).sum(axis=1).mean()
             for part in self.run.labels[:, ::step]]
        )  # fmt: skip
        gap = abs(ends.mean() - chains.mean())
        error = np.hypot(ends.std(ddof=1) / len(ends) ** 0.5, chains.std(ddof=1) / n_chains**0.5)
        return bool(gap > 4 * error + 0.01 * len(origin) + 0.5)

    def doubts(self) -> list[str]:
        """Return reasons not to trust the estimates."""
        reasons = []
        if self.decentred:
            reasons.append("the best allocation found in a mode is atypical of the draws from it")
        if self.batches and self._chosen() == "unpinned":
            out, back = self.both_ways()
            if abs(out[0] - back[0]) > _SLACK + 4 * np.hypot(out[1], back[1]):
                reasons.append(
                    f"annealing from the best allocation gives log evidence {out[0]:.2f}, and back "
                    f"to it {back[0]:.2f}, further apart than their errors"
                )
            if self._ends_differ():
                reasons.append(
                    "annealing from the best allocation has not reached the draws of the chains"
                )
            if max(each.highest for each in self.batches) > self.group.log_mass + _BETTER:
                reasons.append("the chains found an allocation of higher density than the searches")
        return reasons


def _weighings(
    models: PinnedModels, groups: list[ModeGroup], runs: list[GroupRun]
) -> list[_Weighing]:
    """Return what the chains alone tell of each group."""
    n_rows, n_components = models.mixture.n_rows, models.mixture.n_components
    weighings = []
    for number, (group, run) in enumerate(zip(groups, runs, strict=False)):
        rivals = [each.leader for i, each in enumerate(groups[: len(runs)]) if i != number]
        others = np.array(rivals, dtype=np.intp).reshape(-1, n_rows)
        tile = ModeTile(group.leader, others, n_components)
        weighings.append(_Weighing(group, run, tile, visited_estimate(run.visited, run.keys)))
    return weighings


def _weigh_groups(
    models: PinnedModels,
    weighings: list[_Weighing],
    rng: np.random.Generator,
    plan: AllocationPlan,
    progress: Progress,
) -> SamplingRun:
    """Estimate the evidence of each group of modes, and draw from all in proportion."""
    if plan.evidence_tol is not None and models.mixture.n_components > 1 and not progress.stopped:
        target = _GROUP_TARGET * plan.evidence_tol
        # a check where the visited allocations are the answer, more where they are not
        for each in weighings:
            sure = each.visited[1] < target
            n_populations = max(4, plan.n_populations // 2) if sure else plan.n_populations
            each.send(models, rng, n_populations, plan.n_population)
        for _ in range((plan.max_batches - 1) * len(weighings)):
            value, error, weights = _total(weighings)
            if error < target or progress(value):
                break
            shares = [w * each.best()[1] for w, each in zip(weights, weighings, strict=True)]
            worst = weighings[int(np.argmax(shares))]
            if worst.decentred:
                break
            worst.send(models, rng, plan.n_populations, plan.n_population)
    value, error, weights = _total(weighings)
    doubts = []
    for each, weight in zip(weighings, weights, strict=True):
        if weight < _NEGLIGIBLE:
            continue
        doubts += each.doubts()
        if sum(each.group.found_by) < 2 <= len(each.group.found_by):
            doubts.append(
                f"a mode with {weight:.0%} of the posterior was found by only one search; others "
                "may be missing"
            )
    estimates = _joint_estimates(weighings)
    runs = [each.run for each in weighings]
    return _report(runs, weights, value, error, estimates, doubts, rng, plan, progress)


def _total(weighings: list[_Weighing]) -> tuple[float, float, Array]:
    """Return the log evidence of all groups together, its error, and their shares of it."""
    pairs = np.array([each.best() for each in weighings])
    value = float(log_mean_exp(pairs[:, 0]) + np.log(len(pairs)))
    weights = np.exp(pairs[:, 0] - value)
    return value, float(np.sqrt(((weights * pairs[:, 1]) ** 2).sum())), weights


def _joint_estimates(weighings: list[_Weighing]) -> dict[str, tuple[float, float]]:
    """Return the log evidence of all groups by each way that has an answer for all of them."""
    _, _, weights = _total(weighings)
    found = [
        each.estimates()
        for each, weight in zip(weighings, weights, strict=True)
        if weight > _NEGLIGIBLE
    ]
    joint: dict[str, tuple[float, float]] = {}
    for name in sorted(set.intersection(*(set(each) for each in found))):
        pairs = np.array([each[name] for each in found])
        value = float(log_mean_exp(pairs[:, 0]) + np.log(len(pairs)))
        shares = np.exp(pairs[:, 0] - value)
        joint[name] = (value, float(np.sqrt(((shares * pairs[:, 1]) ** 2).sum())))
    return joint


def _report(
    runs: list[GroupRun],
    weights: Array,
    value: float,
    error: float,
    estimates: dict[str, tuple[float, float]],
    doubts: list[str],
    rng: np.random.Generator,
    plan: AllocationPlan,
    progress: Progress,
) -> SamplingRun:
    with np.errstate(divide="ignore"):
        counts = np.bincount(
            systematic_resample(np.log(weights), plan.n_keep, rng), minlength=len(runs)
        )
    kept = []
    for run, n in zip(runs, counts, strict=True):
        if not n:
            continue
        steps = np.linspace(len(run.params) // 4, len(run.params) - 1, int(n)).round().astype(int)
        chains = rng.permutation(np.arange(int(n)) % run.params[0].n_models)
        kept += [run.params[s].take([c]) for s, c in zip(steps, chains, strict=True)]
    heavy = [run for run, weight in zip(runs, weights, strict=True) if weight > _NEGLIGIBLE]
    mean = sum(w * float(run.hmaxe.mean()) for run, w in zip(runs, weights, strict=True))
    length = min(run.hmaxe.shape[1] for run in heavy)
    # chains are compared within their group: between groups nobody travels
    hmaxe = [mean + run.hmaxe[:, :length] - run.hmaxe.mean() for run in heavy]
    return SamplingRun(
        params=type(kept[0]).concatenate(kept),
        hmaxe=np.concatenate(hmaxe),
        scores=np.concatenate([run.scores[:, :length] for run in heavy]),
        log_evidence=np.array([value]),
        log_evidence_error=np.array([error]),
        acceptance=float(np.mean([run.acceptance for run in runs])),
        stopped=progress.stopped,
        method="allocations",
        n_sweeps=progress.number,
        doubts=tuple(dict.fromkeys(doubts)),
        estimates=estimates,
        n_modes=len(heavy),
    )
