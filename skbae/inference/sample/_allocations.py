"""Sampling mixtures at T = tau: search for modes, run chains of allocations, weigh the modes.

The difficulty of a mixture's posterior is to find its modes; to integrate them is easier. So
independent searches look for allocations of high density (``_allocation_search.py``), and are
repeated until two agree (``_search_agreement.py``). Chains of allocations, with the models
integrated out, start from all modes that may matter (``_allocation_chains.py``). Then the evidence
is estimated in ways that do not share their weaknesses: from the share of the posterior that the
chains have visited (``evidence/_visited.py``); by annealing from the best allocation to the
posterior, and back (``evidence/_unpinning.py``); and, where the models' conditionals given the
chains' allocations overlap with the posterior, by bridge sampling between chains that jump among
these (``_allocation_jumps.py``). The highest allocations need not be where most of the posterior
is: jumping chains start where there is mass, and all results are compared with what chains from
other starts come to (``_allocation_masses.py``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skbae._types import Array, SamplingRun
from skbae.energies._capabilities import CollapsibleEnergy
from skbae.inference.evidence._unpinning import PinnedModels
from skbae.inference.evidence._verdict import (
    assess,
    combine_evidence,
    honest_error,
    is_balanced,
)
from skbae.inference.evidence._visited import KnownAllocations, VisitedSet, log_union
from skbae.inference.sample import _collapsed
from skbae.inference.sample._allocation_chains import group_modes, run_groups
from skbae.inference.sample._allocation_jumps import (
    first_allocations,
    jump_acceptance,
    jump_among_groups,
    jump_starts,
    last_allocations,
    sample_by_jumps,
)
from skbae.inference.sample._allocation_masses import (
    LARGE_SHARE,
    doubts_about_missed,
    missed_mass,
)
from skbae.inference.sample._allocation_modes import Pool
from skbae.inference.sample._allocation_search import challenge, patience_for
from skbae.inference.sample._gibbs import thin_models
from skbae.inference.sample._group_evidence import GroupEvidence, group_evidences
from skbae.inference.sample._group_weights import (
    NEGLIGIBLE,
    doubts_about_left_out,
    first_shares,
    total_evidence,
    weigh_groups,
)
from skbae.inference.sample._progress import Progress
from skbae.inference.sample._search_agreement import search_until_agreed, searches_needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae.energies._allocations import CollapsedModel, Labels
    from skbae.inference._objective import Objective
    from skbae.inference.sample._allocation_chains import ModeGroup
    from skbae.inference.sample._allocation_plan import AllocationPlan

# Shares of long jumps that must be accepted for jumping chains to be used (_GOOD_OVERLAP where much
# was visited, _SOME_OVERLAP if weighing the modes leaves doubts), and the most components for which
# their sum over labellings is affordable.
_LEAST_OVERLAP, _GOOD_OVERLAP, _SOME_OVERLAP, _MOST_JUMPED = 0.02, 0.1, 0.001, 8
# Share of the posterior that must have been visited for the visited allocations to give the
# evidence, and for them to compete with jumping chains.
_MOSTLY_VISITED, _PARTLY_VISITED = 0.9, 0.5
# Jumping chains jump among visited allocations too, if first chains visited this share of the
# posterior, and unless this share of the long jumps is accepted anyway.
_OFTEN_VISITED, _HIGH_OVERLAP = 0.2, 0.75
# Of more modes than these, of at least this share, searches may have missed some, and jumping
# chains from those that were found need not come there.
_FEW_MODES, _SMALL_MODE = 4, 0.005
# How often searches are made anew, since chains have come to modes that no search has found.
_MOST_SEARCHED_AGAIN = 1
_UNSEARCHED = "chains came to a mode that no search had found; others may be missing"
# Late allocations of each island beside which chains from other starts are compared.
_N_LATE = 32
# Nats below the lower bound that do not count.
_ROUNDING = 0.01
# Bridge estimates with a larger standard error, in nats, are discarded.
_NO_BRIDGE = 5.0
# Errors, and nats on top of these, by which jumping chains and the weighing of modes may differ,
# and the largest error that the weighing counts with.
_AGREEMENT, _SLACK, _VAGUE = 4.0, 0.2, 0.5


def repeated_rows(objective: Objective) -> Array:
    """Return the rows (N, D), those of integer weight w repeated w times."""
    X = np.asarray(objective.rows.X, dtype=np.float64)
    weights = objective.rows.weights
    return X if weights is None else np.repeat(X, weights.astype(np.intp), axis=0)


def sample_allocations(
    objective: Objective,
    rng: np.random.Generator,
    *,
    plan: AllocationPlan,
    on_step: Callable[[int, float], bool] | None = None,
    on_stage: Callable[[str], None] | None = None,
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
    on_stage : callable or None
        Called with a line of text when a stage of the run begins.

    Returns
    -------
    SamplingRun
    """
    energy = objective.require(CollapsibleEnergy, "sampling allocations")
    X = repeated_rows(objective)
    mixture = energy.collapse(X, objective.temperature)
    models = PinnedModels(energy, mixture, X, objective.rows.frame, objective.temperature)
    progress = Progress(on_step, mixture.n_rows, on_stage)
    n_columns = mixture.columns.shape[1]
    search = replace(plan.search, patience=patience_for(n_columns, plan.search.patience))
    pools, doubts = search_until_agreed(
        mixture, replace(plan, search=search), rng, on_stage=progress.stage
    )
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
    progress.stage(f"chains from the modes found, {plan.n_burn} steps")
    groups = group_modes(mixture, pools, plan.n_chains, plan.n_burn, rng, progress)
    missed = _missed_mode(groups, plan, mixture, rng)
    starts = None
    if missed is None and not (doubts or progress.stopped):
        starts = _early_starts(groups, pools, models, rng, plan)
    early = None
    for _ in range(_MOST_SEARCHED_AGAIN + 1):
        if missed is not None and not progress.stopped:
            pools, doubts = search_until_agreed(
                mixture, plan, rng, on_stage=progress.stage, known=[missed, *pools]
            )
            groups = group_modes(mixture, pools, plan.n_chains, plan.n_burn, rng, progress)
            starts = None if doubts else _early_starts(groups, pools, models, rng, plan)
        if starts is None or progress.stopped:
            break
        early = _sample_early(groups, starts, objective, models, rng, plan, progress)
        if early is not None and not progress.stopped and _misses_what_is_known(early):
            # what its chains have not come to is no doubt about what others come to
            starts = jump_starts(models, first_allocations(groups), rng, plan, _lower(pools))
            early = _sample_early(groups, starts, objective, models, rng, plan, progress)
        if early is None or not (progress.stopped or _is_trusted(early)):
            break
        missed = None if progress.stopped else _unsearched_mode(early, pools, models, plan, rng)
        if missed is None:
            return _finish(early, early.log_evidence_lower_bound, plan)
        # if another run is not trusted either, this one must not be reported without a word
        early = replace(early, doubts=(*early.doubts, _UNSEARCHED))
    groups, left_out = groups[: plan.max_groups], groups[plan.max_groups :]
    progress.stage(
        f"chains of each of {len(groups)} groups of modes, {plan.n_steps} to "
        f"{plan.max_lengths * plan.n_steps} steps each"
    )
    groups, runs = run_groups(models, groups, plan.n_steps, rng, progress, plan.max_lengths)
    known = [each for group in left_out for each in group.known]
    bound = log_union([*(visited for run in runs for visited in run.visited), *known])
    evidences = group_evidences(models, groups, runs)
    overlap = 0.0
    shares = [each.visited[2] for each in evidences]
    diffuse = min(shares) < _MOSTLY_VISITED and not progress.stopped
    if diffuse and mixture.n_components <= _MOST_JUMPED:
        overlap = jump_acceptance(models, last_allocations(runs, 48), rng)
    run, failed = None, list[str]()
    if overlap > (_GOOD_OVERLAP if min(shares) > _PARTLY_VISITED else _LEAST_OVERLAP):
        run = jump_among_groups(objective, models, evidences, rng, plan, progress)
    if run is not None and _error(run) > _NO_BRIDGE:
        # the estimate of a bridge between samples that do not overlap is arbitrary
        failed = ["jumping chains leave the log evidence open"]
        run = None
    vague = None
    if run is not None and _is_vague(run, plan) and not progress.stopped:
        # what its proposals lack is weighed better by the modes one by one
        run, vague = None, run
    if run is None or run.acceptance < _LEAST_OVERLAP:
        run = weigh_groups(models, evidences, rng, plan, progress)
        run = replace(run, doubts=(*run.doubts, *doubts_about_left_out(evidences, left_out)))
        if mixture.n_components > 1 and plan.evidence_tol is not None and not progress.stopped:
            late = np.concatenate(last_allocations(runs, _N_LATE))
            value = combine_evidence(run.log_evidence, run.log_evidence_error)[0]
            log_mass = missed_mass(models, late, value, plan.n_looking, rng)[1]
            run = replace(run, doubts=(*run.doubts, *doubts_about_missed(log_mass)))
        if vague is not None:
            run = settle(vague, run)
        elif overlap > _SOME_OVERLAP and assess(run).status != "ok" and not progress.stopped:
            # the overlap may grow while the chains' states replace the first conditionals
            jumped = jump_among_groups(objective, models, evidences, rng, plan, progress)
            run = choose_run(run, jumped)
    if doubts and _searches_met(evidences):
        doubts = []
    run = replace(run, doubts=(*doubts, *failed, *run.doubts))
    if early is not None:
        run, bound = settle(early, run), max(bound, early.log_evidence_lower_bound)
    return _finish(run, bound, plan)


def _missed_mode(
    groups: list[ModeGroup], plan: AllocationPlan, mixture: CollapsedModel, rng: np.random.Generator
) -> Pool | None:
    """Return modes next to where first chains are, if these are above all that was found."""
    if mixture.n_components == 1 or not plan.n_challengers:
        return None
    states = np.concatenate([part for group in groups for part in group.states])
    pool = challenge(mixture, states, plan.n_challengers, plan.search.pool_size, rng)
    best = max(group.log_mass for group in groups)
    return pool if pool.log_mass[0] > best + plan.search.tolerance else None


def _unsearched_mode(
    run: SamplingRun,
    pools: list[Pool],
    models: PinnedModels,
    plan: AllocationPlan,
    rng: np.random.Generator,
) -> Pool | None:
    """Return allocations that have much of the posterior each, if a search has found none of some.

    Chains have come there, but not, perhaps, to others that are next to these.
    """
    mixture = models.mixture
    labels, log_mass = _allocations_of(run, models, rng)
    value = combine_evidence(run.log_evidence, run.log_evidence_error)[0]
    large = log_mass > value + np.log(LARGE_SHARE)
    labels, log_mass = labels[large], log_mass[large]
    if not len(labels) or np.any([pool.has(labels, slack=1) for pool in pools], axis=0).all():
        return None
    found = Pool(mixture, plan.search.pool_size)
    found.add(labels, log_mass)
    return found


def _allocations_of(
    run: SamplingRun, models: PinnedModels, rng: np.random.Generator
) -> tuple[Labels, Array]:
    """Return allocations (S, N), drawn given a run's models, and their log mass (S,)."""
    labels = _collapsed.draw_labels(models.log_f(run.params), rng)
    return labels, models.mixture.log_mass(_collapsed.init(models.mixture, labels).allocations)


def _lower(pools: list[Pool]) -> Labels:
    """Return all modes of the searches: most of the posterior may be around lower ones."""
    return np.concatenate([pool.labels for pool in pools])


def _early_starts(
    groups: list[ModeGroup],
    pools: list[Pool],
    models: PinnedModels,
    rng: np.random.Generator,
    plan: AllocationPlan,
) -> tuple[Labels, Labels] | None:
    """Return where jumping chains may start that follow the first chains, by island.

    None if there are doubts about the modes, or too many components for jumps.
    """
    if not 1 < models.mixture.n_components <= _MOST_JUMPED:
        return None
    shares = first_shares(groups)
    if np.sum(shares > _SMALL_MODE) > _FEW_MODES:
        return None
    if any(
        share > NEGLIGIBLE and sum(group.found_by) < 2 <= len(group.found_by)
        for share, group in zip(shares, groups, strict=True)
    ):
        return None
    return jump_starts(models, first_allocations(groups), rng, plan, _lower(pools))


def _sample_early(
    groups: list[ModeGroup],
    starts: tuple[Labels, Labels],
    objective: Objective,
    models: PinnedModels,
    rng: np.random.Generator,
    plan: AllocationPlan,
    progress: Progress,
) -> SamplingRun | None:
    """Sample by jumping chains alone, where the first chains show that these suffice.

    Returns
    -------
    SamplingRun or None
        None if few jumps would be accepted.
    """
    overlap = jump_acceptance(models, starts, rng)
    if overlap < _GOOD_OVERLAP:
        return None
    shares = first_shares(groups)
    by_island = zip(*(group.known for group in groups), strict=True)
    known = [KnownAllocations(visited) for visited in by_island]
    visited = float(shares @ [group.share_known for group in groups])
    helpful = visited > _OFTEN_VISITED and overlap < _HIGH_OVERLAP
    among = (known[0], known[1]) if helpful else None
    run = sample_by_jumps(objective, models, starts, rng, plan, progress, among)
    n_modes = int((shares > NEGLIGIBLE).sum())
    # what chains have drawn counts for the bound, too: they may be there too seldom
    drawn = VisitedSet(models.mixture.n_components)
    drawn.add(*_allocations_of(run, models, rng))
    return replace(run, log_evidence_lower_bound=log_union([*known, drawn]), n_modes=n_modes)


def _is_trusted(run: SamplingRun) -> bool:
    """Return whether a run is "ok", and not below the lower bound by more than its error."""
    return assess(run).status == "ok" and not _is_below_its_bound(run)


def _misses_what_is_known(run: SamplingRun) -> bool:
    """Return whether a run is "ok" but for being below the lower bound."""
    alone = replace(run, log_evidence_lower_bound=np.nan)
    return _is_below_its_bound(run) and assess(alone).status == "ok"


def _is_below_its_bound(run: SamplingRun) -> bool:
    value, error = combine_evidence(run.log_evidence, run.log_evidence_error)
    return bool(run.log_evidence_lower_bound - value > error + _ROUNDING)


def _is_vague(run: SamplingRun, plan: AllocationPlan) -> bool:
    """Return whether a run's estimates disagree so much that the evidence is open.

    Draws that do not have the posterior's gradient are of another distribution: that their
    estimates disagree is no matter of the proposals, and no other run should be reported.
    """
    return plan.evidence_tol is not None and is_balanced(run) and honest_error(run) > _VAGUE


def _finish(run: SamplingRun, bound: float, plan: AllocationPlan) -> SamplingRun:
    """Return a run with its bound and few models, without an evidence if none was asked for."""
    run = replace(run, params=thin_models(run.params, plan.n_keep))
    if plan.evidence_tol is None:
        run = replace(run, log_evidence=np.empty(0), log_evidence_error=np.empty(0), estimates={})
    return replace(run, log_evidence_lower_bound=bound)


def choose_run(weighed: SamplingRun, jumped: SamplingRun) -> SamplingRun:
    """Return the run to report: weighed modes, about which there are doubts, or jumping chains.

    Jumping chains whose own status is "ok" resolve the doubts only if their evidence agrees with
    that of the weighed modes; otherwise the doubts are kept.
    """
    if jumped.acceptance <= _LEAST_OVERLAP or assess(jumped).status != "ok":
        return weighed
    doubts = contradictions(jumped, weighed)
    return replace(jumped, doubts=(*weighed.doubts, *doubts)) if doubts else jumped


def settle(early: SamplingRun, run: SamplingRun) -> SamplingRun:
    """Return the run to report, after jumping chains that were not trusted.

    They may have been where no search has been, so that both must agree. If the run is not "ok"
    either, the one of smaller error is reported.
    """
    doubts = contradictions(early, run)
    run = replace(run, doubts=(*run.doubts, *doubts))
    if assess(run).status != "ok" and honest_error(early) < honest_error(run):
        return replace(early, doubts=(*early.doubts, *doubts))
    return run


def contradictions(jumped: SamplingRun, other: SamplingRun) -> tuple[str, ...]:
    """Return a doubt if the evidence by jumping chains and that of another run are too far apart.

    A larger error than `_VAGUE` would agree with any value, and does not count.
    """
    first, its_error = combine_evidence(jumped.log_evidence, jumped.log_evidence_error)
    second, error = combine_evidence(other.log_evidence, other.log_evidence_error)
    errors = np.minimum([its_error, error], _VAGUE)
    if abs(first - second) <= _AGREEMENT * float(np.linalg.norm(errors)) + _SLACK:
        return ()
    return (
        f"jumping chains give log evidence {first:.2f}, and the modes one by one {second:.2f}, "
        "further apart than their errors",
    )


def _error(run: SamplingRun) -> float:
    """Return the standard error of a run's log evidence."""
    return combine_evidence(run.log_evidence, run.log_evidence_error)[1]


def _searches_met(evidences: list[GroupEvidence]) -> bool:
    """Return whether chains travel between the best modes of enough searches.

    Where the posterior is spread over many allocations, searches end at different ones of about the
    same density, which does not matter if all are in the heaviest group of modes.
    """
    _, _, weights = total_evidence(evidences)
    group = evidences[int(np.argmax(weights))].group
    n_components = evidences[0].run.visited[0].n_components
    return sum(group.found_by) >= searches_needed(n_components)
