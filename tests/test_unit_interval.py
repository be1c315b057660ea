"""Rows of bits that leave [0, 1]: by rounding, or in prediction by more."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import MinMaxScaler

from skbae import BayesianRBMAutoEncoder, BayesianVAEAutoEncoder

MODELS = {
    "rbm": BayesianRBMAutoEncoder(2, n_init=1, max_iter=5, random_state=0),
    "rbm-chains": BayesianRBMAutoEncoder(2, partition="ais", max_iter=2, random_state=0),
    "vae": BayesianVAEAutoEncoder(
        2, hidden_layer_sizes=4, likelihood="bernoulli", max_iter=2, random_state=0
    ),
}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
METHODS = ("transform", "score_samples", "encode", "score_gradient")


@pytest.fixture(scope="module")
def X():
    return MinMaxScaler().fit_transform(load_breast_cancer().data)


@pytest.mark.parametrize("name", MODELS)
def test_rounding_is_clipped_without_a_word(name, X):
    assert 1 < X.max() < 1 + 1e-15
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = MODELS[name].fit(X)
        clipped = np.clip(X, 0, 1)
        np.testing.assert_array_equal(fitted.score_samples(X), fitted.score_samples(clipped))
        single = X.astype(np.float32) * np.float32(1 + 1e-6)
        assert single.max() > 1
        fitted.partial_fit(single)
        fitted.transform(single)


@pytest.mark.parametrize("name", MODELS)
def test_rows_beyond_the_training_range_are_clipped_with_a_warning(name, X):
    fitted = MODELS[name].fit(np.clip(X, 0, 1))
    wide = 1.1 * X - 0.02
    for method in METHODS:
        with pytest.warns(UserWarning, match=r"from -0.02 to 1.08.*clipped.*outside='error'"):
            found = getattr(fitted, method)(wide)
        expected = getattr(fitted, method)(np.clip(wide, 0, 1))
        if method == "encode":
            found, expected = found.mean, expected.mean
        np.testing.assert_array_equal(found, expected)
    fitted.set_params(outside="error")
    for method in METHODS:
        with pytest.raises(ValueError, match=r"from -0.02 to 1.08.*outside='clip'"):
            getattr(fitted, method)(wide)
    fitted.set_params(outside="clip")


@pytest.mark.parametrize("name", MODELS)
def test_fits_refuse_rows_that_are_outside_by_more_than_rounding(name, X):
    for model in (MODELS[name], MODELS[name].set_params(outside="clip")):
        with pytest.raises(ValueError, match=r"between 0 and 1.*MinMaxScaler.*'gaussian'"):
            model.fit(X + 1e-9)
