"""Sampling mixtures on rows with missing entries: Gibbs chains from many modes.

Allocations of rows with gaps have no closed density, so that searches look at rows in which missing
entries are drawn, each search at a set of its own. What they find is only where to begin: all their
modes are improved on the known entries, and all that are not far below the best get chains, beside
some that start where no search has been. Searches go on until two have led to the best mode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.inference.optimise._mode import find_mode
from skbae.inference.sample._allocation_search import SearchPlan
from skbae.inference.sample._gibbs import sample_conjugate
from skbae.inference.sample._many_rows import models_by_subset_search

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skbae._types import Array, Rows, SamplingRun
    from skbae.inference._objective import Objective
    from skbae.inference.sample._gibbs import GibbsPlan

# Up to so many rows searches are thorough, and some chains start where none has been.
_FEW_ROWS = 2000
_THOROUGH = SearchPlan(n_starts=48, n_children=48, patience=4, max_generations=20, pool_size=16)
_BRIEF = SearchPlan(n_starts=24, n_children=24, patience=2, max_generations=12, pool_size=4)
_N_DISPERSED = 32
# Share of the chains that start from dispersed models.
_SHARE_DISPERSED = 0.25
# Chains start at modes whose log density is at most so many nats below the best one's; those whose
# log densities and weights differ by less than this are one.
_WINDOW, _SAME, _SAME_WEIGHTS = 20.0, 0.02, 0.02
# Modes that are followed to the end, and nats within which two searches have found the best one.
_FOLLOWED, _AGREED = 48, 0.5


@dataclass(frozen=True)
class _Modes:
    """Distinct modes in falling order of their log density."""

    params: Any
    log_density: Array

    def joined(self, other: _Modes) -> _Modes:
        params = type(self.params).concatenate([self.params, other.params])
        return _distinct(params, np.concatenate([self.log_density, other.log_density]))


def _distinct(params: Any, log_density: Array) -> _Modes:
    order = np.argsort(-log_density, kind="stable")
    weights = np.sort(params.weights, axis=1)
    kept: list[int] = []
    for index in order:
        if not np.isfinite(log_density[index]) or log_density[index] < log_density.max() - _WINDOW:
            break
        again = any(
            log_density[other] - log_density[index] < _SAME
            and np.abs(weights[other] - weights[index]).max() < _SAME_WEIGHTS
            for other in kept
        )
        if not again:
            kept.append(int(index))
    return _Modes(params.take(np.array(kept)), log_density[kept])


def modes_from(objective: Objective, models: Any) -> _Modes:
    """Return the distinct modes on known entries that models lead to."""
    found = find_mode(objective, models, objective.temperature, tol=1e-4, max_iter=30)
    first = np.argsort(-found.log_target, kind="stable")[:_FOLLOWED]
    found = find_mode(
        objective, found.params.take(first), objective.temperature, tol=1e-7, max_iter=300
    )
    return _distinct(found.params, found.log_target)


def chain_starts_with_gaps(
    objective: Objective,
    fitted: Any,
    n_chains: int,
    rng: np.random.Generator,
    complete: Sequence[Rows],
) -> tuple[Any, list[str]]:
    """Return models for chains to start from, and reasons for doubt.

    Parameters
    ----------
    objective : Objective
        Of a CollapsibleEnergy, on rows with missing entries.
    fitted : ArrayRecord
        Fits to begin with.
    n_chains : int
        An even number.
    rng : Generator
    complete : sequence of Rows
        Sets of rows in which missing entries are drawn, one for each search; as many as searches
        may be made.

    Returns
    -------
    starts : ArrayRecord
        In two halves, each of which has all modes, or the best ones.
    doubts : list of str
    """
    few = len(objective.rows.X) <= _FEW_ROWS
    single = fitted.weights.shape[1] == 1
    plan, n_dispersed = (_THOROUGH, _N_DISPERSED) if few and not single else (_BRIEF, 0)
    modes, heights, dispersed = modes_from(objective, fitted), list[float](), []
    for rows in complete:
        own = replace(objective, rows=rows)
        searched = models_by_subset_search(own, rng, plan, n_dispersed)
        found = modes_from(objective, searched)
        dispersed.append(searched.take(slice(searched.n_models - n_dispersed, None)))
        heights.append(float(found.log_density[0]))
        modes = modes.joined(found)
        if single or _n_agreeing(heights, modes) > 1:
            break
    doubts = []
    if not single and _n_agreeing(heights, modes) < 2:
        listed = ", ".join(f"{value:.1f}" for value in heights)
        doubts = [
            f"at most one of {len(heights)} independent searches led to the best mode, of log "
            f"density {modes.log_density[0]:.1f} (others: {listed})"
        ]
    half = n_chains // 2
    n_elsewhere = round(_SHARE_DISPERSED * half) if n_dispersed else 0
    parts = []
    for number in range(2):
        best = modes.params.take(slice(0, half - n_elsewhere))
        parts.append(best.take(np.resize(np.arange(best.n_models), half - n_elsewhere)))
        if n_elsewhere:
            others = dispersed[number % len(dispersed)]
            parts.append(others.take(rng.choice(others.n_models, n_elsewhere)))
    return type(fitted).concatenate(parts), doubts


def _n_agreeing(heights: list[float], modes: _Modes) -> int:
    return int((np.array(heights) > modes.log_density[0] - _AGREED).sum())


def sample_with_gaps(
    objective: Objective,
    fitted: Any,
    rng: np.random.Generator,
    *,
    n_chains: int,
    plan: GibbsPlan,
    complete: Sequence[Rows],
    on_step: Callable[[int, float], bool] | None = None,
) -> SamplingRun:
    """Sample at T = tau on rows with missing entries; parameters are those of the functions above.

    Returns
    -------
    SamplingRun
        With a doubt if fewer than two searches have found the best mode.
    """
    starts, doubts = chain_starts_with_gaps(objective, fitted, n_chains, rng, complete)
    run = sample_conjugate(objective, starts, rng, plan=plan, on_step=on_step)
    return replace(run, doubts=(*run.doubts, *doubts))
