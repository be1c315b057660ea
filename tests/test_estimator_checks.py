"""scikit-learn's own contract, over the whole table."""

from __future__ import annotations

import pytest
from _instances import INSTANCES, SAMPLED_INSTANCES
from sklearn.utils.estimator_checks import parametrize_with_checks

from skbae.estimators import _gmm, _sampled
from skbae.inference._gibbs import GibbsPlan


@parametrize_with_checks([row.make() for row in INSTANCES])
def test_scikit_learn_contract(estimator, check):
    """No expected failures: with a single model everything scikit-learn asks holds."""
    check(estimator)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([row.make() for row in SAMPLED_INSTANCES])
def test_contract_while_sampling(estimator, check, monkeypatch):
    """With short chains: the contract is about forms, and the statistics are tested elsewhere.

    Weighted and repeated rows agree here because codes are all but hard on the check's data; in
    general they agree in distribution, which test_sampling.py tests.
    """

    def schedule(n_rows, n_models):
        return 16, GibbsPlan(5, 8, 1, 2, 12, n_keep=n_models)

    for module in (_sampled, _gmm):
        monkeypatch.setattr(module, "gibbs_schedule", schedule)
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([row.make() for row in SAMPLED_INSTANCES])
def test_contract_with_full_sampling(estimator, check):
    check(estimator)
