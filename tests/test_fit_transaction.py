"""A fit succeeds as a whole or leaves the estimator as it was, and what it leaves is one record."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import joblib
import numpy as np
import pytest
from _altered import failing_at_the_end, quick
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae.estimators._progress import CALLBACK_STATE

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).permutation(load_iris().data)[::2]
BITS = (X.mean(axis=0) < X).astype(float)
WEIGHTS = 0.5 + np.arange(len(X)) % 3

MACHINE = {"n_components": 2, "max_iter": 5, "random_state": 0}
NETWORK = {"n_components": 1, "hidden_layer_sizes": 3, "max_iter": 3, "random_state": 0}
ONE = {"model_temperature": 0, "random_state": 0}
FITTED = {
    "gmm": lambda: BayesianGMMAutoEncoder(2, **ONE),
    "pca": lambda: BayesianPCAAutoEncoder(2, **ONE),
    "mixture-pca": lambda: BayesianMixturePCAAutoEncoder(2, **ONE),
    "rbm": lambda: BayesianRBMAutoEncoder(**MACHINE),
    "rbm-gaussian": lambda: BayesianRBMAutoEncoder(visible="gaussian", **MACHINE),
    "vae": lambda: BayesianVAEAutoEncoder(**NETWORK),
}
SAMPLED = {
    "gmm": lambda: BayesianGMMAutoEncoder(2, n_models=3, random_state=0),
    "pca": lambda: BayesianPCAAutoEncoder(2, n_models=3, random_state=0),
    "mixture-pca": lambda: BayesianMixturePCAAutoEncoder(2, n_models=3, random_state=0),
    "rbm": lambda: BayesianRBMAutoEncoder(model_temperature=1, n_models=3, **MACHINE),
    "rbm-gaussian": lambda: BayesianRBMAutoEncoder(
        model_temperature=1, n_models=3, visible="gaussian", **MACHINE
    ),
    "vae": lambda: BayesianVAEAutoEncoder(model_temperature=1, n_models=3, **NETWORK),
}
IN_BATCHES = ("rbm", "rbm-gaussian", "vae")
each_family = pytest.mark.parametrize("name", FITTED)
each_batch_family = pytest.mark.parametrize("name", IN_BATCHES)
each_interruption = pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])


def rows(name):
    return BITS if name == "rbm" else X


def public(estimator):
    return {name for name in vars(estimator) if name.endswith("_") and name[0] != "_"}


def assert_untouched(estimator, before, digest):
    """Assert that the attributes are those of before, in order, and that none has changed."""
    assert list(vars(estimator)) == list(before)
    assert all(vars(estimator)[name] is value for name, value in before.items())
    assert joblib.hash(before) == digest


@each_interruption
@each_family
def test_a_failed_first_fit_leaves_the_estimator_unfitted(name, error):
    estimator = failing_at_the_end(FITTED[name](), error)
    before = dict(vars(estimator))
    with pytest.raises(error):
        estimator.fit(rows(name))
    assert_untouched(estimator, before, joblib.hash(before))
    with pytest.raises(NotFittedError):
        estimator.transform(rows(name))


@each_interruption
@each_family
def test_a_failed_fit_keeps_the_former_attributes(name, error):
    estimator = failing_at_the_end(FITTED[name]().fit(rows(name)), error)
    before, digest = dict(vars(estimator)), joblib.hash(vars(estimator))
    codes = estimator.transform(rows(name))
    with pytest.raises(error):
        estimator.fit(rows(name)[:, :2])
    assert_untouched(estimator, before, digest)
    np.testing.assert_array_equal(estimator.transform(rows(name)), codes)


@each_interruption
@each_batch_family
def test_a_failed_partial_fit_keeps_the_former_attributes(name, error):
    fitted = FITTED[name]().partial_fit(rows(name)).partial_fit(rows(name))
    estimator = failing_at_the_end(fitted, error)
    before, digest = dict(vars(estimator)), joblib.hash(vars(estimator))
    with pytest.raises(error):
        estimator.partial_fit(rows(name)[:20])
    assert_untouched(estimator, before, digest)


@each_batch_family
@pytest.mark.parametrize(
    ("data", "weights"),
    [
        (np.full((5, 4), np.nan), None),
        (X[:, :2], None),
        (BITS[:9], np.full(9, -1.0)),
        (BITS[:9], np.zeros(9)),
        (1e200 * np.outer((-1.0) ** np.arange(5), np.ones(4)), None),
    ],
    ids=["nan", "columns", "negative weights", "no weight", "overflow"],
)
def test_a_partial_fit_with_invalid_settings_keeps_all_attributes(name, data, weights):
    fitted = FITTED[name]()
    before = dict(vars(fitted))
    if data.shape[1] == 4:  # otherwise the first call decides
        with pytest.raises(ValueError, match=r"."):
            fitted.partial_fit(data, sample_weight=weights)
        assert_untouched(fitted, before, joblib.hash(before))
    fitted.partial_fit(rows(name))
    before, digest = dict(vars(fitted)), joblib.hash(vars(fitted))
    with pytest.raises(ValueError, match=r"."):
        fitted.partial_fit(data, sample_weight=weights)
    assert_untouched(fitted, before, digest)


@each_family
def test_a_single_model_fit_removes_the_attributes_of_a_sampled_one(name):
    fitted = quick(SAMPLED[name]()).fit(rows(name))
    assert hasattr(fitted, "sampling_")
    again = fitted.set_params(model_temperature=0).fit(rows(name))
    fresh = quick(SAMPLED[name]()).set_params(model_temperature=0).fit(rows(name))
    assert public(again) == public(fresh)
    assert not hasattr(again, "sampling_")


@each_batch_family
def test_partial_fit_continues_from_a_sampled_fit(name):
    fitted = quick(SAMPLED[name]()).fit(rows(name))
    fitted.set_params(model_temperature=0).partial_fit(rows(name))
    fresh = FITTED[name]().partial_fit(rows(name))
    assert public(fitted) == public(fresh)
    assert fitted.models_.n_models == 1
    assert np.isfinite(fitted.score(rows(name)))


def test_partial_fit_continues_from_the_reference_model():
    """Not from some draw: the exact mode of p(m) scores better than a pass's noise can spoil."""
    sampled = quick(SAMPLED["rbm"]()).fit(BITS)
    reference = [sampled.components_, sampled.intercept_visible_, sampled.intercept_hidden_]
    sampled.set_params(model_temperature=0, learning_rate_init=1e-9).partial_fit(BITS)
    after = [sampled.components_, sampled.intercept_visible_, sampled.intercept_hidden_]
    for one, other in zip(reference, after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@each_batch_family
def test_partial_fit_removes_the_validation_scores_of_a_fit(name):
    fitted = FITTED[name]().set_params(early_stopping=True).fit(rows(name))
    fitted.partial_fit(rows(name))
    assert len(getattr(fitted, "validation_scores_", [0])) == 1


@pytest.mark.parametrize("weights", [None, WEIGHTS, (WEIGHTS > 1).astype(float)])
@each_family
def test_training_rows_are_recognised_by_their_unweighted_moments(name, weights):
    fitted = FITTED[name]()
    fits = [fitted.fit, fitted.partial_fit] if name in IN_BATCHES else [fitted.fit]
    for fit in fits:
        fit(rows(name), sample_weight=weights)
        assert fitted._was_fitted_to(rows(name)[::-1])
        assert not fitted._was_fitted_to(rows(name)[:-1])
        assert not fitted._was_fitted_to(np.roll(rows(name), 1, axis=1))


def leaves(value):
    """Return the types of what a record holds, through dataclasses and containers."""
    if is_dataclass(value):
        return set().union(*(leaves(getattr(value, f.name)) for f in fields(value)))
    if isinstance(value, dict):
        return set().union(*(leaves(each) for each in value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*(leaves(each) for each in value), set())
    if isinstance(value, np.ndarray):
        assert value.dtype.kind in "fiub"
    return {type(value)}


@pytest.mark.parametrize("kind", [FITTED, SAMPLED], ids=["one model", "sampled"])
@each_family
def test_fitted_state_is_one_frozen_record_of_builtins_and_arrays(name, kind):
    fitted = quick(kind[name]()).fit(rows(name))
    private = set(vars(fitted)) - set(fitted.get_params()) - public(fitted) - set(CALLBACK_STATE)
    assert private == {"_fitted"}
    state = fitted._fitted
    assert type(state).__dataclass_params__.frozen
    assert type(state.details).__dataclass_params__.frozen
    assert leaves(state) <= {int, float, bool, str, type(None), np.ndarray}
