"""What methods of a fitted estimator refuse: rows, codes, arguments; and before a fit."""

from __future__ import annotations

import numpy as np
import pytest
from _data import bad_data
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from skbae import BayesianGMMAutoEncoder

D = 4
nan = float("nan")


@pytest.fixture(scope="module")
def X():
    return load_iris().data


def model(**settings):
    settings = {"n_components": 2, "model_temperature": 0, "random_state": 0, **settings}
    return BayesianGMMAutoEncoder(**settings)


METHODS = {
    "transform": lambda e, X: e.transform(X),
    "predict": lambda e, X: e.predict(X),
    "predict_proba": lambda e, X: e.predict_proba(X),
    "encode": lambda e, X: e.encode(X),
    "score_samples": lambda e, X: e.score_samples(X),
    "score": lambda e, X: e.score(X),
    "score_gradient": lambda e, X: e.score_gradient(X),
    "denoise": lambda e, X: e.denoise(X, 0.1),
    "bic": lambda e, X: e.bic(X),
    "aic": lambda e, X: e.aic(X),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_methods_raise_on_invalid_rows(method, X):
    fitted = model().fit(X)
    for name, (data, error, pattern) in bad_data(X).items():
        if name != "one row":
            with pytest.raises(error, match=pattern):
                method(fitted, data)
    with pytest.raises(ValueError, match=r"X has 3 features.*expecting 4"):
        method(fitted, X[:, :3])
    method(fitted, X[:1])  # a single row is fine


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_methods_raise_before_fit(method, X):
    with pytest.raises(NotFittedError, match="BayesianGMMAutoEncoder"):
        method(model(), X)


def test_methods_without_rows_raise_before_fit():
    for call in (
        lambda e: e.sample(3),
        lambda e: e.inverse_transform(np.eye(2)),
        lambda e: e.decode(np.eye(2)),
        lambda e: e.get_feature_names_out(),
    ):
        with pytest.raises(NotFittedError):
            call(model())


def test_invalid_codes_raise(X):
    fitted = model().fit(X)
    for method in (fitted.inverse_transform, fitted.decode):
        with pytest.raises(ValueError, match=r"Z must have 2 columns.*got 3"):
            method(np.ones((4, 3)) / 3)
        with pytest.raises(ValueError, match="NaN"):
            method(np.full((4, 2), nan))
        with pytest.raises(ValueError, match="2D"):
            method(np.ones(2))
    with pytest.raises(ValueError, match=r"probabilities.*row sums from 2 to 2"):
        fitted.decode(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"probabilities.*down to -1"):
        fitted.decode(np.array([[2.0, -1.0]]))


def test_invalid_arguments_of_methods_raise(X):
    fitted = model().fit(X)
    for bad, error in (
        (-0.1, ValueError),
        (nan, ValueError),
        ("much", TypeError),
        (None, TypeError),
    ):
        with pytest.raises(error, match="noise_variance"):
            fitted.denoise(X, bad)
    for bad, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="n_samples"):
            fitted.sample(bad)
    with pytest.raises(TypeError, match="random_state"):
        fitted.sample(2, random_state="x")
    with pytest.raises(ValueError, match=r"sample_weight.*\(150,\), got \(3,\)"):
        fitted.score(X, sample_weight=np.ones(3))
