"""Chains of models that jump between the conditionals given allocations, where these overlap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import Array, SamplingRun
from skbae.energies._allocations import Labels
from skbae.inference.evidence._unpinning import PinnedModels
from skbae.inference.evidence._visited import KnownAllocations
from skbae.inference.sample import _collapsed
from skbae.inference.sample._gibbs import GibbsMoves, GibbsState, sample_conjugate
from skbae.inference.sample._group_evidence import LEAST_SHARE
from skbae.inference.sample._group_weights import joint_estimates
from skbae.operators._tempered import log_mean_exp, tempered_logsumexp

if TYPE_CHECKING:
    from skbae.inference._objective import Objective
    from skbae.inference.sample._allocation_chains import GroupRun
    from skbae.inference.sample._allocation_plan import AllocationPlan
    from skbae.inference.sample._group_evidence import GroupEvidence
    from skbae.inference.sample._progress import Progress


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


def jump_acceptance(
    models: PinnedModels, runs: list[GroupRun], rng: np.random.Generator, n: int
) -> float:
    """Return the estimated acceptance of long jumps, from the conditionals of the other island."""
    energy, mixture = models.energy, models.mixture
    first, second = last_allocations(runs, n)
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
    evidences: list[GroupEvidence],
    rng: np.random.Generator,
    plan: AllocationPlan,
    progress: Progress,
) -> SamplingRun:
    """Sample by Gibbs sweeps with long jumps, proposed from conditionals given allocations."""
    runs = [each.run for each in evidences]
    half = plan.n_jumping // 2
    parts = []
    for labels in last_allocations(runs, half):
        chosen = labels[np.arange(half) % len(labels)]
        parts.append(models.draw(*models.mixture.sums(chosen), rng))
    starts = type(parts[0]).concatenate(parts)
    moves = GibbsMoves.of(objective, starts.n_models, rng)
    if max(each.visited[2] for each in evidences) > LEAST_SHARE:
        known = [
            KnownAllocations([each.run.visited[island] for each in evidences])
            for island in range(2)
        ]
        moves = KnownMoves(objective, moves.islands, rng, moves.seeds, models, (known[0], known[1]))
    run = sample_conjugate(
        objective, starts, rng, plan=plan.jumps, on_step=progress.of_jumps, moves=moves
    )
    estimates = dict(run.estimates)
    if plan.evidence_tol is not None and not progress.stopped:
        estimates |= joint_estimates(evidences)
    return replace(run, estimates=estimates)


@dataclass(frozen=True)
class KnownMoves(GibbsMoves):
    """Gibbs moves in which drawn codes that are a known allocation jump to any known one.

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
        # models are in the order of the islands, half of them in each
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
