"""How long to search for modes and to sample, given the cost of one look at all rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from skbae.energies._capabilities import CollapsibleEnergy
from skbae.inference.sample._allocation_search import SearchPlan
from skbae.inference.sample._gibbs import GibbsPlan

if TYPE_CHECKING:
    from skbae.inference._objective import Objective

# Jumping chains stop when their error is this share of the error that is asked for.
_TARGET = 0.25


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
