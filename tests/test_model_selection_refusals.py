"""What scorers and the splitter refuse, and what they say."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from _samplers import clusters, one_model, sampled_clusters
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skbae import BayesianGMMAutoEncoder, BayesianRBMAutoEncoder
from skbae._types import SamplingResult
from skbae.model_selection import (
    InSample,
    evidence_scorer,
    hmaxemax_scorer,
    make_hmaxemax_scorer,
    reconstruction_scorer,
)

SCORERS = {
    "hmaxemax": hmaxemax_scorer,
    "evidence": evidence_scorer,
    "reconstruction": reconstruction_scorer,
    "made": make_hmaxemax_scorer(temperature=0.5, units="model"),
}


@pytest.fixture(scope="module")
def sampled():
    return sampled_clusters()


# -- refusals --------------------------------------------------------------------------------------


def search_for_evidence(estimator, cv=None):
    return GridSearchCV(
        estimator, {}, scoring=evidence_scorer, cv=cv or InSample(), error_score="raise"
    )


def test_evidence_needs_sampled_models():
    with pytest.raises(ValueError, match="model_temperature=0"):
        search_for_evidence(one_model()).fit(clusters(2))


def test_evidence_needs_temperature_one():
    X = clusters(2)
    model = BayesianGMMAutoEncoder(1, temperature=2.0, random_state=0)
    with pytest.raises(ValueError, match="fitted with temperature=2"):
        search_for_evidence(model).fit(X)
    fitted = model.fit(X).set_params(temperature=1.0)  # which waits for the next fit
    with pytest.raises(ValueError, match="temperature=2"):
        evidence_scorer(fitted, X)


def test_evidence_needs_the_training_rows(sampled):
    X, model = sampled
    with pytest.raises(ValueError, match="InSample"):
        search_for_evidence(BayesianGMMAutoEncoder(random_state=0), cv=3).fit(X)
    changed = X.copy()
    changed[0, 0] += 0.01
    for other in (X[:-1], np.concatenate([X, X]), clusters(2, seed=1), changed):
        with pytest.raises(ValueError, match="other rows"):
            evidence_scorer(model, other)


def test_evidence_knows_the_training_rows_of_a_weighted_fit():
    X = clusters(2, n_rows=20)
    weights = np.arange(len(X)) % 3
    model = BayesianGMMAutoEncoder(1, random_state=0).fit(X, sample_weight=weights)
    assert evidence_scorer(model, X) == model.hmaxemax_
    with pytest.raises(ValueError, match="other rows"):
        evidence_scorer(model, X[weights > 0])


def test_evidence_of_a_failed_run_raises(sampled):
    X, model = sampled
    fields = {**vars(model.sampling_), "status": "failed", "reasons": ("chains disagree",)}
    broken = pickle.loads(pickle.dumps(model))
    broken.sampling_ = SamplingResult(**fields)
    with pytest.raises(ValueError, match="failed: chains disagree"):
        evidence_scorer(broken, X)
    broken.sampling_ = SamplingResult(**{**fields, "status": "suspect"})
    assert evidence_scorer(broken, X) == model.hmaxemax_  # the fit has warned


def test_a_model_without_a_density_scores_minus_infinity(sampled):
    class Deterministic(BayesianGMMAutoEncoder):
        def _has_density(self):
            return False

    X, _ = sampled
    model = Deterministic(2, model_temperature=0, random_state=0).fit(X)
    assert hmaxemax_scorer(model, X) == -np.inf
    assert np.isfinite(reconstruction_scorer(model, X))


@pytest.mark.parametrize("scorer", SCORERS.values(), ids=SCORERS)
def test_unfitted_and_foreign_estimators_raise(scorer):
    X = clusters(2)
    with pytest.raises(NotFittedError):
        scorer(BayesianGMMAutoEncoder(2), X)
    with pytest.raises(TypeError, match="BaseEstimator"):
        scorer(BaseEstimator(), X)


@pytest.mark.parametrize("scorer", [hmaxemax_scorer, reconstruction_scorer])
def test_missing_values_raise(scorer):
    """Of families that do not take them; the others count known entries."""
    X = clusters(2)
    machine = BayesianRBMAutoEncoder(1, visible="gaussian", max_iter=2, random_state=0)
    model = make_pipeline(StandardScaler(), machine).fit(X)
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        scorer(model, X)


def test_scores_that_are_nan_raise():
    lost = FunctionTransformer(inverse_func=lambda Z: Z * np.nan)
    with pytest.raises(ValueError, match="reconstruction_scorer is nan"):
        reconstruction_scorer(lost, clusters(2))


@pytest.mark.parametrize("temperature", [-1.0, None, np.nan, "hot"])
def test_a_scorer_checks_its_temperature(temperature):
    with pytest.raises((TypeError, ValueError), match="temperature must be"):
        make_hmaxemax_scorer(temperature)


def test_a_scorer_checks_its_units():
    with pytest.raises(ValueError, match="units must be"):
        make_hmaxemax_scorer(units="metres")


def test_a_pipeline_without_inverse_transform_raises():
    X = clusters(2)
    model = make_pipeline(RowNorm(), one_model()).fit(X)
    with pytest.raises(TypeError, match="inverse_transform"):
        reconstruction_scorer(model, X)


class RowNorm(BaseEstimator):
    """A transformer without a way back."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X / (1 + np.linalg.norm(X, axis=1, keepdims=True))
