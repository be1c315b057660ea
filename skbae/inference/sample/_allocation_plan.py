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
_TARGET = 0.5
# Jumping chains at most.
_MOST_JUMPING = 256


@dataclass(frozen=True)
class AllocationPlan:
    """Sizes of the searches, chains and populations of a sampled mixture.

    Attributes
    ----------
    search : SearchPlan
    max_searches : int
        Largest number of searches; fewer are made if they agree.
    max_tied_searches : int
        Where many columns are tied more searches are made, so many at most, even if they agree.
    n_challengers : int
        Children of where chains from the modes have come to, which may be above all modes found;
        0: none.
    n_chains : int
        Chains of a group of modes in each of the two islands.
    n_burn, n_steps : int
        Steps of the chains before modes are grouped, and recorded steps.
    max_lengths : int
        The chains make `n_steps` at most so many times: again while they disagree.
    n_populations, n_population : int
        Populations that anneal from a mode's best allocation, and the models of each.
    max_batches : int
        Batches of populations are sent at most so often, while the error is above `evidence_tol`.
    max_groups : int
        Groups of modes that get chains, the best ones.
    evidence_tol : float or None
        Tolerance of the error of the log evidence, in nats. None if the evidence is not needed,
        except to weigh modes.
    n_keep : int
        Models to keep.
    n_jumping : int
        Number of jumping chains.
    n_candidates : int
        Allocations of each island that are compared with as many others by the mass around them,
        and from which jumping chains may start.
    n_looking : int
        Chains that look for mass that has been missed, in one column; up to four times in more.
    jumps : GibbsPlan
        Plan of the jumping chains.
    """

    search: SearchPlan = field(default_factory=SearchPlan)
    max_searches: int = 5
    max_tied_searches: int = 16
    n_challengers: int = 64
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
    n_candidates: int = 64
    n_looking: int = 16
    jumps: GibbsPlan = field(default_factory=GibbsPlan)


def allocation_plan(work: float, n_models: int, evidence_tol: float | None) -> AllocationPlan:
    """Return a plan that suits the cost of a problem.

    Parameters
    ----------
    work : float
        Cost of a step of one chain: rows times components times the operations of each.
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
    # where a step costs little more than its overhead, more chains are nearly free; lengths of
    # twice as many chains are half as long
    n_jumping = 2 * max(scaled(8e6, 8, 64), scaled(1e6, 8, _MOST_JUMPING // 2))
    parts = 2 if n_jumping == _MOST_JUMPING else 1
    tolerance = None if evidence_tol is None else _TARGET * evidence_tol
    return AllocationPlan(
        search=SearchPlan(
            n_starts=n_search,
            n_children=n_search,
            # a child is refined by about seven redraws on average
            max_generations=scaled(4e9 / (7 * n_search), 6, 60),
        ),
        n_challengers=n_search,
        n_chains=2 * scaled(5e6, 4, 8),
        n_burn=scaled(4e7, 40, 60),
        n_steps=scaled(4e7, 40, 60),
        n_populations=scaled(6e6, 4, 8),
        n_population=scaled(1.2e7, 8, 24),
        max_batches=scaled(2.5e6, 1, 3),
        max_groups=scaled(3e6, 2, 12),
        evidence_tol=evidence_tol,
        n_keep=n_models,
        n_jumping=n_jumping,
        n_candidates=scaled(8e6, 8, 64),
        n_looking=scaled(4e6, 4, 48),
        jumps=GibbsPlan(
            n_burn=5,
            n_conditionals=64,
            n_rounds=4,
            n_between=5,
            n_sweeps=max(40, 4 * -(-n_models // 64)) // parts,
            max_jumps=20,
            max_between_jumps=20 // parts,
            min_lengths=parts * scaled(4e5, 1, 8),
            n_effective=scaled(8e8, 5000, 10_000),
            max_lengths=parts * scaled(2.5e6, 10, 40),
            max_apart=parts * 60,
            evidence_tol=tolerance,
            n_keep=n_models,
        ),
    )


def allocation_work(objective: Objective) -> float:
    """Return the cost of a step of one chain: see :func:`allocation_plan`."""
    energy = objective.require(CollapsibleEnergy, "sampling allocations")
    return objective.rows.total * energy.allocation_size()
