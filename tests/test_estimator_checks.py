"""scikit-learn's own contract, over the whole table."""

from __future__ import annotations

from inspect import signature

import pytest
from _instances import INSTANCES, NETWORK_INSTANCES, SAMPLED_INSTANCES
from sklearn.utils.estimator_checks import parametrize_with_checks

from skbae.estimators import _gmm, _sampled, _vae_fit
from skbae.inference._gibbs import GibbsPlan
from skbae.inference._sgmcmc import LangevinPlan
from skbae.inference._smc import SMCPlan


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([row.make() for row in [*INSTANCES, *NETWORK_INSTANCES]])
def test_scikit_learn_contract(estimator, check):
    """No expected failures: with a single model everything scikit-learn asks holds."""
    check(estimator)


def expected_failures(estimator):
    """Return what can't hold while there are components to weigh and models are sampled."""
    if estimator.n_components == 1 or "hidden_layer_sizes" in estimator.get_params():
        return {}  # (a network's steps see distinct rows, however often they came)
    reason = "weighted and repeated rows give the same distribution of models, not the same draws"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


STRICT = {"xfail_strict": True}  # a recent argument
if not STRICT.keys() <= signature(parametrize_with_checks).parameters.keys():
    STRICT = {}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [row.make() for row in SAMPLED_INSTANCES], expected_failed_checks=expected_failures, **STRICT
)
def test_contract_while_sampling(estimator, check, monkeypatch):
    """With short chains: the contract is about forms, and the statistics are tested elsewhere."""

    def schedule(n_rows, n_models):
        return 16, GibbsPlan(5, 8, 1, 2, 12, n_keep=n_models)

    def plan(n_rows, n_models):
        return SMCPlan(n_islands=2, n_particles=64, n_moves=3, n_keep=n_models)

    def langevin(batch_size, scale, n_models):
        return LangevinPlan(batch_size, n_burn=10, n_steps=20, n_traced=10, n_keep=n_models)

    monkeypatch.setattr(_vae_fit, "langevin_plan", langevin)
    for module in (_sampled, _gmm):
        monkeypatch.setattr(module, "gibbs_schedule", schedule)
    monkeypatch.setattr(_sampled, "tempered_plan", plan)
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [row.make() for row in SAMPLED_INSTANCES], expected_failed_checks=expected_failures, **STRICT
)
def test_contract_with_full_sampling(estimator, check):
    check(estimator)
