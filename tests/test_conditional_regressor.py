"""Regression by the density of rows of features and targets."""

from __future__ import annotations

import numpy as np
import pytest
from _missing_oracles import conditional_mixture, with_gaps
from _oracles import fitted_covariances
from sklearn.base import clone
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    ConditionalRegressor,
)

X, Y = load_diabetes(return_X_y=True)
TRAIN, TEST = np.arange(len(X)) % 2 == 0, np.arange(len(X)) % 2 == 1


def one_model(n_components=1, **settings):
    return BayesianGMMAutoEncoder(n_components, model_temperature=0.0, random_state=0, **settings)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        ConditionalRegressor(),
        ConditionalRegressor(one_model(2, covariance_type="tied", reg_covar=1e-3)),
    ]
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_one_component_is_linear_regression():
    model = ConditionalRegressor(one_model(reg_covar=0.0)).fit(X[TRAIN], Y[TRAIN])
    line = LinearRegression().fit(X[TRAIN], Y[TRAIN])
    np.testing.assert_allclose(model.predict(X[TEST]), line.predict(X[TEST]), rtol=1e-7)
    _, std = model.predict(X[TEST], return_std=True)
    residual = Y[TRAIN] - line.predict(X[TRAIN])
    np.testing.assert_allclose(std, residual.std(), rtol=1e-6)


@pytest.mark.parametrize(
    "autoencoder", [None, BayesianGMMAutoEncoder(random_state=0)], ids=["best", "sampled"]
)
def test_errors_on_diabetes_are_those_of_linear_regression(autoencoder):
    settings = {"cv": 10, "scoring": "neg_root_mean_squared_error"}
    ours = -cross_val_score(ConditionalRegressor(autoencoder), X, Y, **settings).mean()
    line = -cross_val_score(LinearRegression(), X, Y, **settings).mean()
    assert ours < 1.02 * line


@pytest.mark.parametrize("name", ["diabetes", "friedman"])
def test_intervals_cover_what_they_say(name):
    if name == "diabetes":
        data, targets = X, Y
    else:
        data, targets = make_friedman1(800, n_features=8, noise=1.0, random_state=0)
    train = np.arange(len(data)) % 2 == 0
    model = ConditionalRegressor(BayesianGMMAutoEncoder(random_state=0))
    lower, upper = model.fit(data[train], targets[train]).predict_interval(data[~train], 0.9)
    inside = (lower <= targets[~train]) & (targets[~train] <= upper)
    assert 0.85 <= inside.mean() <= 0.95


def test_predictions_are_those_of_the_conditional_density():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    targets = np.column_stack([np.abs(x[:, 0]), x @ [1.0, -1.0]]) + 0.1 * rng.normal(size=(300, 2))
    model = ConditionalRegressor(one_model(3)).fit(x, targets)
    gappy = with_gaps(x[:40], 0.3)
    rows = np.hstack([gappy, np.full((40, 2), np.nan)])
    own = model.autoencoder_
    means, covariances = conditional_mixture(
        rows, own.weights_, own.means_, fitted_covariances(own)
    )
    found, std = model.predict(gappy, return_std=True)
    np.testing.assert_allclose(found, means[:, 2:], rtol=1e-6, atol=1e-8)
    variances = np.diagonal(covariances, axis1=1, axis2=2)[:, 2:]
    np.testing.assert_allclose(std, np.sqrt(variances), rtol=1e-6)
    draws = model.sample_y(gappy, 2000, random_state=0)
    assert draws.shape == (40, 2, 2000)
    assert np.abs((draws.mean(axis=2) - found) / (std / np.sqrt(2000))).max() < 5
    lower, upper = model.predict_interval(gappy, 0.8)
    inside = ((draws >= lower[..., None]) & (draws <= upper[..., None])).mean(axis=2)
    assert np.abs(inside - 0.8).max() < 5 * np.sqrt(0.16 / 2000)
    single = ConditionalRegressor(one_model()).fit(x, targets[:, 0])
    assert single.sample_y(gappy, 3, random_state=0).shape == (40, 3)
    assert single.predict(gappy).shape == (40,)


def test_more_components_follow_a_bend():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (600, 1))
    y = np.abs(x[:, 0]) + 0.1 * rng.normal(size=600)
    search = GridSearchCV(
        ConditionalRegressor(one_model()), {"autoencoder__n_components": [1, 2]}, cv=3
    ).fit(x, y)
    assert search.best_params_ == {"autoencoder__n_components": 2}
    assert search.best_estimator_.score(x, y) > 0.9


@pytest.mark.parametrize(
    "autoencoder",
    [
        one_model(2, max_iter=500),
        BayesianPCAAutoEncoder(3, model_temperature=0),
        BayesianMixturePCAAutoEncoder(2, n_latent=2, model_temperature=0, random_state=0),
    ],
    ids=["gmm", "pca", "mixture"],
)
def test_all_families_that_take_gaps_serve_in_a_pipeline(autoencoder):
    gappy = with_gaps(X[:200], 0.2)
    weights = np.random.default_rng(0).integers(1, 3, 200)
    pipeline = make_pipeline(StandardScaler(), ConditionalRegressor(clone(autoencoder)))
    targets = (Y[:200] - Y.mean()) / Y.std()
    pipeline.fit(gappy, targets, conditionalregressor__sample_weight=weights)
    assert pipeline.score(gappy, targets) > 0.2
    lower, upper = pipeline[-1].predict_interval(pipeline[:-1].transform(gappy))
    assert (lower < upper).all()


def test_an_estimator_without_missing_entries_is_refused():
    for wrong in (BayesianRBMAutoEncoder(), LinearRegression(), "pca"):
        with pytest.raises(TypeError, match="autoencoder must be an estimator of skbae"):
            ConditionalRegressor(wrong).fit(X, Y)
