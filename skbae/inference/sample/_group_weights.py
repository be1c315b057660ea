"""The evidence of all groups of modes together, and draws from them in proportion to theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae._types import Array, SamplingRun
from skbae.inference.evidence._visited import log_union
from skbae.operators._draws import systematic_resample
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from skbae.inference.evidence._unpinning import PinnedModels
    from skbae.inference.sample._allocation_chains import GroupRun, ModeGroup
    from skbae.inference.sample._allocation_plan import AllocationPlan
    from skbae.inference.sample._group_evidence import GroupEvidence
    from skbae.inference.sample._progress import Progress

# Share of the posterior below which a group of modes is negligible.
NEGLIGIBLE = 0.02
# Populations are sent until the error is this share of the error that is asked for.
_GROUP_TARGET = 0.7
# Standard error of the log evidence, in nats, from which on an estimate checks no other.
_VAGUE = 0.5


def weigh_groups(
    models: PinnedModels,
    evidences: list[GroupEvidence],
    rng: np.random.Generator,
    plan: AllocationPlan,
    progress: Progress,
) -> SamplingRun:
    """Estimate the evidence of each group of modes, and draw from all by their weights."""
    if plan.evidence_tol is not None and models.mixture.n_components > 1 and not progress.stopped:
        target = _GROUP_TARGET * plan.evidence_tol
        progress.stage(
            f"weighing {len(evidences)} groups of modes, until the log evidence has an error below "
            f"{target:g}, or by {plan.max_batches * len(evidences)} batches"
        )
        # fewer populations, as a check, where the visited allocations are accurate enough
        for each in evidences:
            sure = each.visited[1] < target
            n_populations = max(4, plan.n_populations // 2) if sure else plan.n_populations
            each.send(models, rng, n_populations, plan.n_population)
        for _ in range((plan.max_batches - 1) * len(evidences)):
            value, error, weights = total_evidence(evidences)
            if error < target or progress(value):
                break
            shares = [w * each.best()[1] for w, each in zip(weights, evidences, strict=True)]
            worst = evidences[int(np.argmax(shares))]
            if worst.decentred:
                break
            worst.send(models, rng, plan.n_populations, plan.n_population)
    value, error, weights = total_evidence(evidences)
    doubts = []
    for each, weight in zip(evidences, weights, strict=True):
        if weight < NEGLIGIBLE:
            continue
        doubts += each.doubts()
        if sum(each.group.found_by) < 2 <= len(each.group.found_by):
            doubts.append(
                f"a mode with {weight:.0%} of the posterior was found by only one search; others "
                "may be missing"
            )
    estimates = joint_estimates(evidences)
    telling = [name for name, (_, its_error) in estimates.items() if its_error <= _VAGUE]
    estimated = any(each.batches for each in evidences)
    if estimated and len(telling) < 2 and not progress.stopped:
        doubts.append(
            "the log evidence has one estimate at most with an error below "
            f"{_VAGUE:g} nats, and no other to check it"
        )
    runs = [each.run for each in evidences]
    return _report(runs, weights, value, error, estimates, doubts, rng, plan, progress)


def total_evidence(evidences: list[GroupEvidence]) -> tuple[float, float, Array]:
    """Return the log evidence of all groups together, its error, and each group's share of it."""
    pairs = np.array([each.best() for each in evidences])
    value = float(log_mean_exp(pairs[:, 0]) + np.log(len(pairs)))
    weights = np.exp(pairs[:, 0] - value)
    return value, float(np.sqrt(((weights * pairs[:, 1]) ** 2).sum())), weights


def first_shares(groups: list[ModeGroup]) -> Array:
    """Return about what share of the posterior each group has, by what its first chains visited."""
    masses = np.array([log_union(group.known) for group in groups])
    weights = np.exp(masses - masses.max())
    return weights / weights.sum()


def doubts_about_left_out(
    evidences: list[GroupEvidence], left_out: list[ModeGroup]
) -> tuple[str, ...]:
    """Return a doubt if groups without chains would matter were they as wide as the heaviest."""
    value, _, weights = total_evidence(evidences)
    heaviest = evidences[int(np.argmax(weights))]
    width = heaviest.best()[0] - heaviest.group.log_mass
    share = float(np.sum(np.exp([each.log_mass + width - value for each in left_out])))
    if share < NEGLIGIBLE:
        return ()
    return (
        f"{len(left_out)} more groups of modes, of maybe {share / (1 + share):.0%} of the "
        "posterior, were not followed",
    )


def joint_estimates(evidences: list[GroupEvidence]) -> dict[str, tuple[float, float]]:
    """Return the log evidence by each method that has an estimate for every group that matters."""
    _, _, weights = total_evidence(evidences)
    found = [
        each.estimates()
        for each, weight in zip(evidences, weights, strict=True)
        if weight > NEGLIGIBLE
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
    heavy = [run for run, weight in zip(runs, weights, strict=True) if weight > NEGLIGIBLE]
    mean = sum(w * float(run.hmaxe.mean()) for run, w in zip(runs, weights, strict=True))
    length = min(run.hmaxe.shape[1] for run in heavy)
    # chains are compared within their group only, since none travels between groups
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
