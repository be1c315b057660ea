"""One grid over whole families, as values of a Pipeline's step."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae.model_selection import (
    InSample,
    evidence_scorer,
    hmaxemax_scorer,
    reconstruction_scorer,
)

X = load_iris().data[::3]
PIPELINE = Pipeline([("scale", StandardScaler()), ("model", BayesianGMMAutoEncoder())])

SINGLE = [
    BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0),
    BayesianPCAAutoEncoder(1, model_temperature=0, random_state=0),
    BayesianMixturePCAAutoEncoder(2, model_temperature=0, random_state=0),
    BayesianRBMAutoEncoder(2, visible="gaussian", max_iter=20, n_init=1, random_state=0),
    BayesianVAEAutoEncoder(1, hidden_layer_sizes=(4,), max_iter=500, random_state=0),
]
SAMPLED = [
    BayesianGMMAutoEncoder(2, random_state=0),
    BayesianPCAAutoEncoder(2, random_state=0),
    BayesianMixturePCAAutoEncoder(1, n_latent=2, random_state=0),
]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_all_families_in_one_grid():
    search = GridSearchCV(
        PIPELINE,
        {"model": SINGLE},
        scoring={"density": hmaxemax_scorer, "reconstruction": reconstruction_scorer},
        refit="density",
        cv=KFold(2, shuffle=True, random_state=0),
        error_score="raise",
    ).fit(X)
    density = search.cv_results_["mean_test_density"]
    reconstruction = search.cv_results_["mean_test_reconstruction"]
    assert density.shape == (5,)
    # every family says more about these rows than a normal twice as wide as they
    train, test = next(KFold(2, shuffle=True, random_state=0).split(X))
    centre, variance = X[train].mean(axis=0), X[train].var(axis=0)
    wide = -0.5 * ((X[test] - centre) ** 2 / (4 * variance) + np.log(8 * np.pi * variance))
    assert np.all(density > wide.sum(axis=1).mean())
    assert np.all(reconstruction > -X.var(axis=0).mean())
    assert search.best_index_ == int(np.argmax(density))


def test_evidence_compares_families():
    """The mixture of one PCA is PCA: candidates of two families with one and the same evidence."""
    search = GridSearchCV(
        PIPELINE,
        {"model": SAMPLED},
        scoring=evidence_scorer,
        cv=InSample(),
        refit=False,
        error_score="raise",
    ).fit(X)
    scores = search.cv_results_["mean_test_score"]
    fits = [clone(PIPELINE).set_params(model=clone(model)).fit(X) for model in SAMPLED]
    log_scale = np.log(fits[0][0].scale_).sum()
    np.testing.assert_allclose(scores, [fit[-1].hmaxemax_ - log_scale for fit in fits])
    error = np.hypot(*[fit[-1].hmaxemax_error_ for fit in fits[1:]])
    assert abs(scores[1] - scores[2]) < 5 * error
    assert search.best_index_ == 0
