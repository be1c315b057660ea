"""What PCA refuses, before any work is done."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris

from skbae import BayesianPCAAutoEncoder

IRIS, DIGITS = load_iris().data, load_digits().data
WIDE = np.hstack([DIGITS, DIGITS])


def model(n_components=2, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianPCAAutoEncoder(n_components, **settings)


nan = float("nan")


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("n_components", -1, ValueError, ">= 0"),
        ("n_components", 1.0, ValueError, "between 0 and 1"),
        ("n_components", 2.5, ValueError, "between 0 and 1"),
        ("n_components", 0.0, ValueError, "between 0 and 1"),
        ("n_components", nan, ValueError, "between 0 and 1"),
        ("n_components", "minka", ValueError, "'mle' or 'evidence'"),
        ("n_components", True, TypeError, "integer"),
        ("n_components", [2], TypeError, "integer"),
        ("whiten", 1, TypeError, "True or False"),
        ("svd_solver", "lobpcg", ValueError, "'randomized'"),
        ("svd_solver", None, ValueError, "'gram'"),
        ("component_variance_prior", 0.0, ValueError, "> 0"),
        ("mean_precision_prior", None, TypeError, "number"),
        ("noise_shape_prior", 0, ValueError, "> 0"),
        ("noise_scale_prior", -1.0, ValueError, "> 0"),
        ("temperature", -1.0, ValueError, ">= 0"),
        ("tilt", -1.0, ValueError, "> -1"),
        ("tol", -1.0, ValueError, ">= 0"),
        ("max_iter", -1, ValueError, ">= 0"),
        ("n_models", 0, ValueError, ">= 1"),
    ],
)
def test_invalid_parameters_raise_before_the_data_are_checked(name, value, error, message):
    with pytest.raises(error, match=name) as caught:
        model(**{name: value}).fit(None)
    assert message in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": "evidence"}, "n_components='evidence' compares.*set model_temperature=1"),
        (
            {"tilt": 0.5, "model_temperature": 1},
            "tilted mean cannot be computed; set tilt=0 .*got tilt=0.5",
        ),
        ({"n_components": 0.9, "svd_solver": "randomized"}, "0.9, a share.*set svd_solver='auto'"),
    ],
)
def test_incompatible_parameters_raise(settings, message):
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        model(**settings).fit(None)


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        ({"n_components": 5}, IRIS, r"n_components.*n_samples=150, n_features=4.*got 5"),
        ({"n_components": 4}, IRIS[:3], r"n_components.*n_samples=3.*got 4"),
        ({"mean_prior": np.zeros(3)}, IRIS, r"mean_prior.*\(4,\), got \(3,\)"),
        (
            {"model_temperature": 1, "n_components": 40},
            WIDE,
            r"n_components=40 on 1797 rows of 128 features",
        ),
        ({"svd_solver": "gram"}, np.ones((30_000, 4)), r"svd_solver='gram'.*working_memory"),
        ({"tilt": 0.1}, np.ones((3, 12_000)), r"tilt=0.1.*\(12000, 12000\).*working_memory"),
        ({}, np.ones((9, 3)), "all rows of X are equal"),
        ({}, 1e200 * IRIS, "X is too large"),
    ],
)
def test_parameters_that_do_not_fit_the_data_raise(settings, data, message):
    estimator = model(**settings)
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        estimator.fit(data)
    assert not hasattr(estimator, "n_features_in_")


def test_whitening_with_a_total_weight_below_one_raises():
    with pytest.raises(ValueError, match=r"whiten=True.*sum N of sample_weight is 0.5"):
        model(2, whiten=True).fit(IRIS, sample_weight=np.full(150, 0.5 / 150))
