"""scikit-learn's own contract, over the whole table."""

from __future__ import annotations

from _instances import INSTANCES
from sklearn.utils.estimator_checks import parametrize_with_checks


@parametrize_with_checks([row.make() for row in INSTANCES])
def test_scikit_learn_contract(estimator, check):
    """No expected failures: with a single model everything scikit-learn asks holds."""
    check(estimator)
