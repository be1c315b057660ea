"""Any estimator, any rows: finite results that agree, or an error that names the culprit."""

from __future__ import annotations

import pytest
from _altered import quick
from _robustness import FAMILIES, case, check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def steady(n_examples):
    """Return settings of hypothesis that make a run the same each time."""
    return settings(
        max_examples=n_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def chooser(data):
    """Return a function that takes one of a sequence, simplest first."""
    return lambda options: options[data.draw(st.integers(0, len(options) - 1))]


@pytest.mark.parametrize("family", FAMILIES)
@steady(40)
@given(data=st.data())
def test_a_single_best_model_is_finite_or_refused(family, data):
    check(*case(chooser(data), family))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@steady(500)
@given(data=st.data())
def test_many_single_best_models_are_finite_or_refused(family, data):
    check(*case(chooser(data), family))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gmm", "pca", "mixture-pca", "mixture", "rbm", "vae"])
@steady(40)
@given(data=st.data())
def test_sampled_models_are_finite_or_refused(family, data):
    estimator, X, weights = case(chooser(data), family, sampled=True)
    check(quick(estimator), X, weights)
