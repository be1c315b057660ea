"""Chains of models that jump between the conditionals given allocations, where these overlap."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, SamplingRun
from skbae.energies._allocations import Labels
from skbae.inference.evidence._unpinning import PinnedModels
from skbae.inference.evidence._verdict import assess, combine_evidence
from skbae.inference.evidence._visited import KnownAllocations, fingerprints, visited_by_others
from skbae.inference.sample import _collapsed
from skbae.inference.sample._allocation_masses import (
    doubts_about_missed,
    missed_mass,
    missed_modes,
    starts_by_mass,
)
from skbae.inference.sample._gibbs import GibbsMoves, GibbsState, sample_conjugate, thin_models
from skbae.inference.sample._group_evidence import LEAST_SHARE
from skbae.inference.sample._group_weights import joint_estimates
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae.inference._objective import Objective
    from skbae.inference.sample._allocation_chains import GroupRun, ModeGroup
    from skbae.inference.sample._allocation_plan import AllocationPlan
    from skbae.inference.sample._group_evidence import GroupEvidence
    from skbae.inference.sample._progress import Progress


# Models that are kept at least, to tell whether others are far from them, and how often chains are
# started anew at most since some were.
_FEWEST_KEPT, _MOST_REPEATS = 48, 2
# Models of which the allocations are compared with each other at most: that takes a table of all
# pairs of them, for each order of the components.
_MOST_COMPARED = 200


def first_allocations(groups: list[ModeGroup]) -> tuple[Labels, Labels]:
    """Return allocations of each island, from which chains of the groups may start."""
    first, second = zip(*(group.states for group in groups), strict=True)
    return np.concatenate(first), np.concatenate(second)


def last_allocations(runs: list[GroupRun], n: int) -> tuple[Labels, Labels]:
    """Return about n late allocations of each island, equally many of each group."""
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


def spread_indices(n_given: int, n: int) -> NDArray[np.intp]:
    """Return n indices of given items: each as often as the others, or evenly spaced ones.

    So chains start from all groups of modes, also where these are more than there are chains.

    Examples
    --------
    >>> spread_indices(2, 5).tolist(), spread_indices(8, 4).tolist()
    ([0, 1, 0, 1, 0], [0, 2, 4, 6])
    """
    if n_given <= n:
        return np.arange(n) % n_given
    return np.arange(n) * n_given // n


def jump_starts(
    models: PinnedModels,
    allocations: tuple[Labels, Labels],
    rng: np.random.Generator,
    plan: AllocationPlan,
    others: Labels | None = None,
) -> tuple[Labels, Labels]:
    """Return where the chains of each island start, given allocations of each, and some of both.

    Where there is mass around these, and elsewhere: see :func:`starts_by_mass`.
    """
    half = min(plan.n_candidates, plan.n_jumping // 2)
    if others is None:
        others = allocations[0][:0]
    others = others[rng.permutation(len(others))[: half // 2]]
    first, second = (
        np.concatenate([labels[spread_indices(len(labels), half - len(others))], others])
        for labels in allocations
    )
    return starts_by_mass(models, (first, second), plan.n_jumping // 2, rng)


def jump_acceptance(
    models: PinnedModels, allocations: tuple[Labels, Labels], rng: np.random.Generator
) -> float:
    """Return the estimated acceptance of long jumps, from the conditionals of the other island."""
    energy, mixture = models.energy, models.mixture
    first, second = allocations
    proposal = models.conditional(*mixture.sums(first))

    def log_ratios(params: Any) -> Array:
        log_f = models.log_f(params)
        log_likelihood = log_mean_exp(log_f, axis=1).sum(axis=1)
        log_q = log_mean_exp(energy.log_conditional(proposal, params), axis=1)
        return energy.log_prior(params) + log_likelihood - log_q

    there = log_ratios(energy.draw_conditional(models.conditional(*mixture.sums(second)), rng))
    here = log_ratios(energy.relabel(energy.draw_conditional(proposal, rng), rng))
    return float(np.exp(np.minimum(here[:, None] - there, 0.0)).mean())


def sample_by_jumps(
    objective: Objective,
    models: PinnedModels,
    starts: tuple[Labels, Labels],
    rng: np.random.Generator,
    plan: AllocationPlan,
    progress: Progress,
    known: tuple[KnownAllocations, KnownAllocations] | None = None,
) -> SamplingRun:
    """Sample by Gibbs sweeps with long jumps, proposed from conditionals given allocations.

    If chains from other starts then come to mass that is far from all models drawn, these starts
    are added, and the sampling is repeated.

    Parameters
    ----------
    objective : Objective
    models : PinnedModels
    starts : tuple of ndarrays of int of shape (S, N)
        Where the chains of each island start: see :func:`jump_starts`.
    rng : Generator
    plan : AllocationPlan
    progress : Progress
    known : tuple of KnownAllocations or None, default=None
        By island, allocations among which chains jump besides.

    Returns
    -------
    SamplingRun
        With some fifty models at least.
    """
    n_keep = max(plan.jumps.n_keep, _FEWEST_KEPT)
    enough = replace(plan, jumps=replace(plan.jumps, n_keep=n_keep))
    doubts: tuple[str, ...] = ()
    for repeats_left in reversed(range(_MOST_REPEATS + 1)):
        run = _sample_once(objective, models, starts, rng, enough, progress, known)
        if progress.stopped or assess(run).status != "ok":
            break
        some = thin_models(run.params, _MOST_COMPARED)
        labels = _collapsed.draw_labels(models.log_f(some), rng)
        value = combine_evidence(run.log_evidence, run.log_evidence_error)[0]
        missed, log_mass = missed_modes(models, labels, value, 2 * plan.n_challengers, rng)
        if not len(missed):
            missed, log_mass = missed_mass(models, labels, value, plan.n_looking, rng)
        if not len(missed):
            break
        if not repeats_left:
            doubts = doubts_about_missed(log_mass)
            break
        first, second = (_with_some(part, missed) for part in starts)
        starts = starts_by_mass(models, (first, second), plan.n_jumping // 2, rng)
    return replace(run, doubts=(*run.doubts, *doubts))


def _with_some(labels: Labels, others: Labels) -> Labels:
    """Return allocations, the last quarter of which is replaced by others."""
    n = len(labels) // 4
    return np.concatenate([labels[: len(labels) - n], others[spread_indices(len(others), n)]])


def _sample_once(
    objective: Objective,
    models: PinnedModels,
    starts: tuple[Labels, Labels],
    rng: np.random.Generator,
    plan: AllocationPlan,
    progress: Progress,
    known: tuple[KnownAllocations, KnownAllocations] | None,
) -> SamplingRun:
    """Sample by Gibbs sweeps with long jumps from given starts."""
    jumps = plan.jumps
    until = "until they agree"
    if jumps.evidence_tol is not None:
        until += f" and the log evidence has an error below {jumps.evidence_tol:g}"
    progress.stage(
        f"jumping chains, {jumps.n_sweeps * jumps.min_lengths} to "
        f"{jumps.n_sweeps * max(jumps.max_lengths, jumps.max_apart)} sweeps, {until}"
    )
    parts = [models.draw(*models.mixture.sums(labels), rng) for labels in starts]
    drawn = type(parts[0]).concatenate(parts)
    moves = GibbsMoves.of(objective, drawn.n_models, rng)
    if known is not None:
        moves = KnownMoves(objective, moves.islands, rng, moves.seeds, models, known)
    run = sample_conjugate(
        objective, drawn, rng, plan=plan.jumps, on_step=progress.of_jumps, moves=moves
    )
    run = replace(run, n_sweeps=progress.number)
    if isinstance(moves, KnownMoves):
        value, error, share = moves.visited_evidence()
        if share > LEAST_SHARE:
            run = replace(run, estimates={**run.estimates, "visited": (value, error)})
    return run


def jump_among_groups(
    objective: Objective,
    models: PinnedModels,
    evidences: list[GroupEvidence],
    rng: np.random.Generator,
    plan: AllocationPlan,
    progress: Progress,
) -> SamplingRun:
    """Sample by long jumps from where the chains of all groups are, and report their estimates."""
    runs = [each.run for each in evidences]
    known = None
    if max(each.visited[2] for each in evidences) > LEAST_SHARE:
        by_island = zip(*(run.visited for run in runs), strict=True)
        first, second = (KnownAllocations(visited) for visited in by_island)
        known = first, second
    starts = jump_starts(models, last_allocations(runs, plan.n_jumping // 2), rng, plan)
    run = sample_by_jumps(objective, models, starts, rng, plan, progress, known)
    if plan.evidence_tol is None or progress.stopped:
        return run
    return replace(run, estimates={**run.estimates, **joint_estimates(evidences)})


@dataclass(frozen=True)
class KnownMoves(GibbsMoves):
    """Gibbs moves in which drawn codes that are a known allocation jump to any known one.

    Attributes
    ----------
    models : PinnedModels
    known : tuple of KnownAllocations
        By island.
    inside : list of ndarrays of bool of shape (S,)
        For each sweep so far, at which chains the codes were known to the other island.
    """

    models: PinnedModels
    known: tuple[KnownAllocations, KnownAllocations]
    inside: list[NDArray[np.bool_]] = field(default_factory=list)

    def visit(self, params: Any) -> tuple[GibbsState, Any]:
        return self._visit(params)[:2]

    def step(self, state: GibbsState) -> tuple[GibbsState, Any]:
        params = self.energy.draw_conditional(state.conditional, self.rng)
        state, statistics, keys = self._visit(params)
        parts = zip(self.known[::-1], _halves(keys), strict=True)
        self.inside.append(np.concatenate([known.contains_keys(part) for known, part in parts]))
        return state, statistics

    def _visit(self, params: Any) -> tuple[GibbsState, Any, NDArray[np.uint64]]:
        models, mixture, rng = self.models, self.models.mixture, self.rng
        codes, log_sums = _collapsed.draw_and_sum(models.log_f(params), rng)
        counts, sums = mixture.sums(codes)
        statistics = models.energy.allocated(counts / mixture.heat, mixture.moments(sums))
        keys = fingerprints(codes, mixture.n_components)
        jumped = [
            known.jump(part, rng, known.contains_keys(own))[0]
            for known, part, own in zip(self.known, _halves(codes), _halves(keys), strict=True)
        ]
        conditional = models.conditional(*mixture.sums(np.concatenate(jumped)))
        hmaxe = log_sums.sum(axis=1) * (models.temperature / mixture.n_rows)
        return GibbsState(params, hmaxe, conditional), statistics, keys

    def visited_evidence(self) -> tuple[float, float, float]:
        """Return log evidence, its error and the share of the posterior, by what was known.

        The first third of the sweeps is left out.
        """
        inside = np.stack(self.inside[len(self.inside) // 3 :], axis=1)
        return visited_by_others(self.known, _halves(inside))


def _halves(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the values (S, ...) of the chains of each island."""
    half = len(values) // 2
    return values[:half], values[half:]
