"""Estimators that differ from the package's in one member: plans of samplers, or a fit that fails.

Members of a class, so that clones, pickles and workers of a search have them too.
"""

from __future__ import annotations

from dataclasses import replace

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixtureAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
    EnergyAutoEncoder,
)
from skbae.estimators._plans import SamplerPlans
from skbae.inference.evidence._partition import AnnealingPlan
from skbae.inference.sample._allocation_plan import AllocationPlan
from skbae.inference.sample._allocation_search import SearchPlan
from skbae.inference.sample._gibbs import GibbsPlan
from skbae.inference.sample._langevin import LangevinPlan
from skbae.inference.sample._mode_annealing import AnnealPlan
from skbae.inference.sample._nested import NestedPlan
from skbae.inference.sample._tempering import SMCPlan


def _allocations(work, n_models, evidence_tol):
    return short_allocations(n_models, evidence_tol)


def short_allocations(n_models, evidence_tol=0.1, n_steps=4):
    """Return a plan for allocations that finds one mode of easy rows, and follows it briefly."""
    return AllocationPlan(
        search=SearchPlan(n_starts=8, n_children=8, patience=1, max_generations=1),
        max_searches=2,
        max_tied_searches=2,
        n_chains=4,
        n_burn=4,
        n_steps=n_steps,
        max_lengths=1,
        n_populations=4,
        n_population=4,
        max_batches=1,
        evidence_tol=evidence_tol,
        n_keep=n_models,
        n_jumping=16,
        jumps=GibbsPlan(5, 8, 1, 2, 12, max_lengths=1, n_keep=n_models),
    )


def _gibbs(n_rows, n_models):
    return 16, GibbsPlan(5, 8, 1, 2, 12, max_lengths=1, n_keep=n_models)


def _tempered(n_rows, n_models, fewest=64):
    return SMCPlan(n_islands=2, n_particles=64, n_moves=3, n_keep=n_models)


def _anneal(n_rows, n_coordinates, n_models):
    return AnnealPlan(n_islands=2, n_particles=32, n_moves=3, n_pilot=32, n_keep=n_models)


def _nested(n_numbers, n_models):
    return NestedPlan(2, 64, n_moves=3, n_rounds=1, n_keep=n_models, n_tail=1, n_searches=1)


def _langevin(batch_size, scale, n_models):
    return LangevinPlan(batch_size, n_burn=10, n_steps=20, n_traced=10, n_keep=n_models)


# As few steps as all forms of a sampled fit can be had with.
QUICK = SamplerPlans(
    allocations=_allocations,
    gibbs=_gibbs,
    tempered=_tempered,
    anneal=_anneal,
    nested=_nested,
    langevin=_langevin,
    mode_starts=lambda n_rows: 3,
    row_starts=lambda n_rows: 0,
    mode_search=lambda n_rows: SearchPlan(8, 8, patience=1, max_generations=1),
    partition=AnnealingPlan(n_steps=20, max_steps=20, n_settle=2),
)


class QuickGMM(BayesianGMMAutoEncoder):
    _plans = QUICK


class QuickPCA(BayesianPCAAutoEncoder):
    _plans = QUICK


class QuickMixture(BayesianMixtureAutoEncoder):
    _plans = QUICK


class QuickMixturePCA(BayesianMixturePCAAutoEncoder):
    _plans = QUICK


class QuickRBM(BayesianRBMAutoEncoder):
    _plans = QUICK


def _never(n_rows, n_models, fewest=1):
    """Return a plan of so much work that models are sampled around the best one instead."""
    return SMCPlan(n_particles=1 << 22)


class QuickVAE(BayesianVAEAutoEncoder):
    # tempering integrates codes on grids, which is slow for few particles too
    _plans = replace(QUICK, tempered=_never)


class QuickEnergy(EnergyAutoEncoder):
    _plans = QUICK


_QUICK = {
    kind.__base__: kind
    for kind in (
        QuickGMM,
        QuickMixture,
        QuickPCA,
        QuickMixturePCA,
        QuickRBM,
        QuickVAE,
        QuickEnergy,
    )
}


def quick(estimator):
    """Return an unfitted estimator of the same parameters, whose samplers make few steps."""
    return _QUICK[type(estimator)](**estimator.get_params(deep=False))


def altered(estimator, **members):
    """Return an unfitted estimator of the same name and parameters, with other members."""
    own = type(estimator)
    return type(own.__name__, (own,), members)(**estimator.get_params(deep=False))


def with_plans(estimator, plans):
    """Return an unfitted estimator whose samplers run as long as the plans say."""
    return altered(estimator, _plans=plans)


def checks_alone(estimator):
    """Return an unfitted estimator in which nothing may be computed: an error must come before."""

    def work(*arguments):
        raise AssertionError("work was done before the parameters were checked")

    return altered(estimator, _fit_rows=work, _fit_batch=work)


def failing_at_the_end(estimator, error):
    """Return an estimator like a fitted one, whose work is done and then comes to nothing."""
    own = type(estimator)

    def fit_rows(self, *arguments):
        own._fit_rows(self, *arguments)
        raise error

    def fit_batch(self, *arguments):
        own._fit_batch(self, *arguments)
        raise error

    kind = type(own.__name__, (own,), {"_fit_rows": fit_rows, "_fit_batch": fit_batch})
    copy = kind(**estimator.get_params(deep=False))
    vars(copy).update(vars(estimator))
    return copy
