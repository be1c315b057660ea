"""Numbers of chains, sweeps and particles, given the number of rows and of models to keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from skbae.inference.evidence._partition import AnnealingPlan
from skbae.inference.sample._allocation_plan import AllocationPlan, allocation_plan
from skbae.inference.sample._allocation_search import SearchPlan
from skbae.inference.sample._gibbs import GibbsPlan
from skbae.inference.sample._langevin import LangevinPlan
from skbae.inference.sample._mode_annealing import AnnealPlan, anneal_plan
from skbae.inference.sample._mode_search import ModeStarts, SharedStarts
from skbae.inference.sample._nested import NestedPlan, nested_plan
from skbae.inference.sample._tempering import SMCPlan, tempered_plan

# Rows visited by one sweep of all chains, and by one chain in all its sweeps. Data of few rows get
# many draws this way, and data of many rows cost a small multiple of one fit.
_ROWS_A_SWEEP = 1e5
_ROWS_A_CHAIN = 2e5
# Steps of Langevin chains after burn-in, and steps of burn-in.
_N_STEPS, _N_BURN = 4000, 2000
# Largest ratio of rows (divided by tau) to the rows of a batch.
_ROWS_FOR_ONE = 48
# With so few rows, single rows make modes: so many further fits start from means at random rows.
_FEW_ROWS, _STARTS_AT_ROWS = 20, 100
# Fewest particles of an island of a nested sampler that shares the work with others.
_FEWEST_NESTED = 128
# Rows times allocations that are refined at once.
_ROWS_OF_SEARCH = 2e4
# With at most so many rows, searches go on for longer without progress.
_ROWS_OF_LONG_SEARCH = 400
# (largest number of rows, number of starts) of the fits from which modes are searched.
_MODE_STARTS = ((100, 40), (1000, 16), (20_000, 8), (np.inf, 3))


def gibbs_schedule(n_rows: int, n_models: int) -> tuple[int, GibbsPlan]:
    """Return the number of chains and their plan, given the number of rows.

    Data of few rows get many chains, because a sweep costs little more than its overhead. Data of
    many rows get few, because their posterior is nearly normal and every draw is a pass over them.

    Examples
    --------
    >>> gibbs_schedule(82, 50)[0], gibbs_schedule(100_000, 50)[0]
    (128, 8)
    """
    long = n_rows > 5000
    power = int(np.log2(max(_ROWS_A_SWEEP / n_rows, 1)))
    n_chains = int(np.clip(1 << power, 8 if long else 16, 128))
    n_sweeps = int(np.clip(_ROWS_A_CHAIN / n_rows, 32 if n_rows > 20_000 else 40, 600))
    n_sweeps = max(n_sweeps, 4 * -(-n_models // n_chains))
    return n_chains, GibbsPlan(
        n_burn=int(np.clip(n_sweeps // 4, 10, 100)),
        n_rounds=2 if long else 3,
        n_between=int(np.clip(n_sweeps // 40, 3, 10)),
        n_sweeps=n_sweeps,
        max_jumps=12 if long else 300,
        max_lengths=1 if n_rows > 20_000 else 4,
        n_keep=n_models,
    )


def langevin_plan(batch_size: int, scale: float, n_models: int) -> LangevinPlan:
    """Return the plan of Langevin sampling with batches of rows.

    Parameters
    ----------
    batch_size : int
        Smallest number of rows of a batch.
    scale : float
        N / tau. The batch grows with it, so that the noise of the gradients does not dominate; the
        cost is then a fixed number of passes over the rows.
    n_models : int
    """
    size = max(batch_size, int(np.ceil(scale / _ROWS_FOR_ONE)))
    return LangevinPlan(size, n_burn=_N_BURN, n_steps=_N_STEPS, n_keep=n_models)


def mode_starts(n_rows: int) -> int:
    """Return the number of starts from which modes are searched.

    Examples
    --------
    >>> mode_starts(100), mode_starts(10**6)
    (40, 3)
    """
    return next(n for limit, n in _MODE_STARTS if n_rows <= limit)


def row_starts(n_rows: int) -> int:
    """Return the number of further starts, with means at random rows.

    Examples
    --------
    >>> row_starts(7), row_starts(100)
    (100, 0)
    """
    return _STARTS_AT_ROWS if n_rows <= _FEW_ROWS else 0


def mode_search(n_rows: int) -> SearchPlan:
    """Return the plan of the searches for allocations that modes are searched from.

    Examples
    --------
    >>> mode_search(100).n_starts, mode_search(2000).n_starts
    (64, 16)
    """
    n = int(np.clip(_ROWS_OF_SEARCH / n_rows, 16, 64))
    # with few rows a search costs little, and modes of a few tied rows take long to be found
    patience, most = (12, 60) if n_rows <= _ROWS_OF_LONG_SEARCH else (3, 30)
    return SearchPlan(
        n_starts=n, n_children=n, patience=patience, max_generations=most, pool_size=24
    )


class TemperedPlan(Protocol):
    """Makes plans of tempered sampling."""

    def __call__(self, n_rows: int, n_models: int, fewest: int = ...) -> SMCPlan: ...


@dataclass(frozen=True)
class SharedRuns:
    """What fits to the same rows at several model temperatures share.

    Attributes
    ----------
    starts : SharedStarts
        Of searches for modes.
    hotter : tuple of float
        Higher model temperatures, which a path from the prior visits on its way.
    """

    starts: SharedStarts
    hotter: tuple[float, ...] = ()


@dataclass(frozen=True)
class SamplerPlans:
    """Functions that make the plan of each sampler; the settings of a fit have one.

    Attributes
    ----------
    allocations : callable
        ``allocations(work, n_models, evidence_tol)`` gives a plan for the allocations of mixtures.
    gibbs : callable
        ``gibbs(n_rows, n_models)`` returns the number of chains and their plan.
    tempered : callable
        ``tempered(n_rows, n_models, fewest=...)``
    anneal : callable
        ``anneal(n_rows, n_coordinates, n_models)``
    nested : callable
        ``nested(n_numbers, n_models)``; None samples all coordinates together instead.
    langevin : callable
        ``langevin(batch_size, scale, n_models)``
    mode_starts : callable
        ``mode_starts(n_rows)`` returns the number of starts of the search for modes.
    row_starts : callable
        ``row_starts(n_rows)`` returns the number of further starts, with means at random rows.
    mode_search : callable
        ``mode_search(n_rows)`` returns the plan of searches for allocations.
    partition : AnnealingPlan
        Plan of the estimation of partition functions.
    shared : SharedRuns or None
        What a fit shares with others at other model temperatures.
    """

    allocations: Callable[[float, int, float | None], AllocationPlan] = allocation_plan
    gibbs: Callable[[int, int], tuple[int, GibbsPlan]] = gibbs_schedule
    tempered: TemperedPlan = tempered_plan
    anneal: Callable[[int, int, int], AnnealPlan] = anneal_plan
    nested: Callable[[int, int], NestedPlan] | None = nested_plan
    langevin: Callable[[int, float, int], LangevinPlan] = langevin_plan
    mode_starts: Callable[[int], int] = mode_starts
    row_starts: Callable[[int], int] = row_starts
    mode_search: Callable[[int], SearchPlan] = mode_search
    partition: AnnealingPlan = field(default_factory=AnnealingPlan)
    shared: SharedRuns | None = None

    def with_hotter(
        self, starts: SharedStarts, hotter: tuple[float, ...], most_particles: int
    ) -> SamplerPlans:
        """Return plans of a fit that shares its runs with fits at other model temperatures.

        Parameters
        ----------
        starts : SharedStarts
        hotter : tuple of float
            Model temperatures that paths from the prior visit.
        most_particles : int
            Of an island of such a path.
        """
        plain = self.tempered

        def tempered(n_rows: int, n_models: int, fewest: int = 512) -> SMCPlan:
            plan = plain(n_rows, n_models, fewest)
            n_particles = min(plan.n_particles, most_particles)
            return replace(plan, stops=hotter, n_particles=n_particles)

        nested = self.nested

        def lighter(n_numbers: int, n_models: int) -> NestedPlan:
            assert nested is not None
            plan = nested(n_numbers, n_models)
            n_particles = max(plan.n_particles // 2, _FEWEST_NESTED)
            return replace(
                plan, n_particles=n_particles, n_tail=max(plan.n_tail // 4, 1), n_searches=1
            )

        return replace(
            self,
            tempered=tempered,
            nested=None if nested is None else lighter,
            shared=SharedRuns(starts, hotter),
        )

    def starts_at(self, model_temperature: float, make: Callable[[], ModeStarts]) -> ModeStarts:
        """Return starts of searches for modes: shared ones, if there are any, or new ones."""
        if self.shared is None:
            return make()
        return self.shared.starts.at(model_temperature, make)
