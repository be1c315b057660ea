"""Bad parameters and data: the error, what it names, and that nothing else happened."""

from __future__ import annotations

import numpy as np
import pytest
from _altered import checks_alone
from _data import bad_data
from _instances import each_instance
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skbae import BayesianGMMAutoEncoder
from skbae.components import Gaussian

D = 4
nan, inf = float("nan"), float("inf")


@pytest.fixture(scope="module")
def X():
    return load_iris().data


def model(**settings):
    settings = {"n_components": 2, "model_temperature": 0, "random_state": 0, **settings}
    return BayesianGMMAutoEncoder(**settings)


# parameter, value, error, what the message must say besides the parameter's name and the value
BAD_PARAMETERS = [
    ("n_components", 0, ValueError, ">= 1"),
    ("n_components", -3, ValueError, ">= 1"),
    ("n_components", 2.5, TypeError, "integer"),
    ("n_components", "two", TypeError, "integer"),
    ("n_components", True, TypeError, "integer"),
    ("n_components", None, TypeError, "integer"),
    ("temperature", -1.0, ValueError, ">= 0"),
    ("temperature", nan, ValueError, "finite"),
    ("temperature", inf, ValueError, "finite"),
    ("temperature", "hot", TypeError, "number"),
    ("temperature", None, TypeError, "number"),
    ("temperature", True, TypeError, "number"),
    ("model_temperature", -0.5, ValueError, ">= 0"),
    ("model_temperature", nan, ValueError, "finite"),
    ("model_temperature", "cold", TypeError, "None"),
    ("tilt", -1.0, ValueError, "> -1"),
    ("tilt", -7, ValueError, "> -1"),
    ("tilt", nan, ValueError, "finite"),
    ("tilt", inf, ValueError, "finite"),
    ("tilt", "steep", TypeError, "number"),
    ("tilt", None, TypeError, "number"),
    ("covariance_type", "round", ValueError, "'tied_spherical'"),
    ("covariance_type", None, ValueError, "'full'"),
    ("covariance_type", ["full"], ValueError, "'full'"),
    ("equal_weights", "yes", TypeError, "True or False"),
    ("equal_weights", 1, TypeError, "True or False"),
    ("weight_concentration_prior", 0.0, ValueError, "> 0"),
    ("weight_concentration_prior", -1.0, ValueError, "> 0"),
    ("weight_concentration_prior", nan, ValueError, "finite"),
    ("weight_concentration_prior", None, TypeError, "number"),
    ("mean_precision_prior", 0, ValueError, "> 0"),
    ("mean_precision_prior", inf, ValueError, "finite"),
    ("mean_precision_prior", "weak", TypeError, "number"),
    ("degrees_of_freedom_prior", nan, ValueError, "None or a finite"),
    ("degrees_of_freedom_prior", "many", TypeError, "number"),
    ("n_models", 0, ValueError, ">= 1"),
    ("n_models", 1.5, TypeError, "integer"),
    ("evidence_tol", 0.0, ValueError, "> 0"),
    ("evidence_tol", "small", TypeError, "number"),
    ("n_init", 0, ValueError, ">= 1"),
    ("n_init", 1.0, TypeError, "integer"),
    ("init_params", "clever", ValueError, "'k-means++'"),
    ("init_params", None, ValueError, "'kmeans'"),
    ("annealing", "slowly", ValueError, "'auto'"),
    ("annealing", 2.0, TypeError, "a list"),
    ("reg_covar", -1e-6, ValueError, ">= 0"),
    ("reg_covar", nan, ValueError, "finite"),
    ("reg_covar", "small", TypeError, "number"),
    ("tol", -1e-3, ValueError, ">= 0"),
    ("tol", nan, ValueError, "finite"),
    ("tol", None, TypeError, "number"),
    ("max_iter", -1, ValueError, ">= 0"),
    ("max_iter", 10.0, TypeError, "integer"),
    ("learning_decay", 0.0, ValueError, "> 0"),
    ("learning_decay", 1.5, ValueError, "at most 1"),
    ("learning_decay", "slow", TypeError, "number"),
    ("forgetting", -0.1, ValueError, ">= 0"),
    ("forgetting", 1.0, ValueError, "below 1"),
    ("forgetting", None, TypeError, "number"),
    ("warm_start", "no", TypeError, "True or False"),
    ("warm_start", None, TypeError, "True or False"),
    ("verbose", "loud", TypeError, "integer"),
    ("verbose_interval", 0, ValueError, ">= 1"),
    ("random_state", -1, TypeError, "Generator"),
    ("random_state", "seed", TypeError, "Generator"),
    ("random_state", 1.5, TypeError, "Generator"),
    ("n_jobs", 0, ValueError, "non-zero"),
    ("n_jobs", 1.5, TypeError, "integer"),
    ("n_jobs", "all", TypeError, "integer"),
]

# parameter, value, what the message must say
BAD_STARTS = [
    ("weights_init", [0.5, 0.3, 0.2], r"\(n_components,\) = \(2,\), got \(3,\)"),
    ("weights_init", [0.9, 0.9], "sum to 1, got .* 1.8"),
    ("weights_init", [1.5, -0.5], "not be negative.* -0.5"),
    ("weights_init", [nan, 1.0], "finite"),
    ("weights_init", ["a", "b"], r"numbers of shape.*\['a', 'b'\]"),
    ("means_init", np.zeros((3, D)), r"\(n_components, n_features\) = \(2, 4\), got \(3, 4\)"),
    ("means_init", np.zeros((2, D + 1)), r"\(2, 4\), got \(2, 5\)"),
    ("means_init", [[1.0], [2.0, 3.0]], "numbers of shape"),
    ("means_init", np.full((2, D), inf), "finite"),
    ("precisions_init", np.ones((2, D)), r"covariance_type='full' = \(2, 4, 4\), got \(2, 4\)"),
    ("precisions_init", -np.stack([np.eye(D)] * 2), "positive definite"),
    ("precisions_init", np.stack([np.eye(D) + np.eye(D, k=1)] * 2), "symmetric"),
    ("precisions_init", np.full((2, D, D), nan), "finite"),
]

# parameter, value, other settings, what the message must say
BAD_PRIORS = [
    ("mean_prior", np.zeros(D - 1), {}, r"\(n_features,\) = \(4,\), got \(3,\)"),
    ("mean_prior", 0.0, {}, r"got \(\)"),
    ("mean_prior", np.full(D, nan), {}, "finite"),
    ("mean_prior", "middle", {}, "numbers of shape"),
    ("degrees_of_freedom_prior", D - 1.0, {}, r"> 3, got 3\.0"),
    ("degrees_of_freedom_prior", 0, {"covariance_type": "diag"}, "> 0, got 0"),
    ("covariance_prior", np.eye(3), {}, r"'full' = \(4, 4\), got \(3, 3\)"),
    ("covariance_prior", np.eye(D), {"covariance_type": "diag"}, r"'diag' = \(4,\)"),
    ("covariance_prior", np.ones(D), {"covariance_type": "tied"}, r"'tied' = \(4, 4\)"),
    ("covariance_prior", np.ones(1), {"covariance_type": "spherical"}, r"'spherical' = \(\)"),
    ("covariance_prior", -np.eye(D), {}, "positive definite"),
    ("covariance_prior", np.zeros(D), {"covariance_type": "tied_diag"}, "positive definite"),
    ("covariance_prior", 0.0, {"covariance_type": "tied_spherical"}, "positive definite"),
    ("covariance_prior", np.eye(D) + np.eye(D, k=1), {}, "symmetric"),
    ("covariance_prior", np.full((D, D), inf), {}, "finite"),
]


def assert_unfitted(estimator):
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)
    fitted = [name for name in vars(estimator) if name.endswith("_") and not name.startswith("_")]
    assert fitted == []


@pytest.mark.parametrize(("name", "value", "error", "says"), BAD_PARAMETERS)
def test_invalid_parameters_raise_with_name_value_and_allowed_values(name, value, error, says, X):
    estimator = checks_alone(model(**{name: value}))
    with pytest.raises(error) as caught:
        estimator.fit(X)
    message = str(caught.value)
    assert name in message
    assert says in message
    assert repr(value) in message
    assert_unfitted(estimator)


@pytest.mark.parametrize(("name", "value", "error", "says"), BAD_PARAMETERS)
def test_invalid_parameters_raise_before_the_data_are_checked(name, value, error, says):
    """A typing error shows at once, not after a long table was read."""
    with pytest.raises(error, match=name):
        checks_alone(model(**{name: value})).fit(None)


def test_the_table_covers_every_parameter():
    """A new parameter needs its rows above."""
    covered = {row[0] for row in BAD_PARAMETERS} | {row[0] for row in BAD_STARTS}
    covered |= {row[0] for row in BAD_PRIORS}
    assert set(model().get_params()) - covered == set()


@pytest.mark.parametrize(("name", "value", "says"), BAD_STARTS)
def test_invalid_initial_values_raise(name, value, says, X):
    estimator = checks_alone(model(**{name: value}))
    with pytest.raises(ValueError, match=rf"(?s){name}.*{says}"):
        estimator.fit(X)
    assert_unfitted(estimator)


@pytest.mark.parametrize("tau", [0.0, None])
@pytest.mark.parametrize(("name", "value", "settings", "says"), BAD_PRIORS)
def test_invalid_priors_raise(name, value, settings, says, tau, X):
    """Checked whether or not models are sampled, like every other parameter."""
    estimator = checks_alone(model(model_temperature=tau, **{name: value}, **settings))
    with pytest.raises(ValueError, match=rf"(?s){name}.*{says}"):
        estimator.fit(X)
    assert_unfitted(estimator)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("full", (2, D, D)),
        ("tied", (D, D)),
        ("diag", (2, D)),
        ("spherical", (2,)),
        ("tied_diag", (D,)),
        ("tied_spherical", ()),
    ],
)
def test_precisions_need_the_shape_of_the_covariance_type(kind, shape, X):
    for wrong in [(3, 3, 3), (7,), (2, D + 1)]:
        with pytest.raises(ValueError, match=f"precisions_init.*{kind}") as caught:
            model(covariance_type=kind, precisions_init=np.ones(wrong)).fit(X)
        assert str(shape) in str(caught.value)
        assert str(wrong) in str(caught.value)
    if shape[-2:] != (D, D):
        with pytest.raises(ValueError, match="positive definite"):
            model(covariance_type=kind, precisions_init=np.zeros(shape)).fit(X)


@pytest.mark.parametrize("name", bad_data(np.ones((9, 3))))
def test_invalid_X_raises(name, X):
    data, error, pattern = bad_data(X)[name]
    estimator = checks_alone(model())
    with pytest.raises(error, match=pattern):
        estimator.fit(data)
    assert_unfitted(estimator)


def test_more_components_than_rows_raise(X):
    estimator = checks_alone(model(n_components=11))
    with pytest.raises(ValueError, match=r"n_components=11, n_samples=10"):
        estimator.fit(X[:10])
    # rows of weight zero are no rows
    weights = np.r_[np.ones(10), np.zeros(len(X) - 10)]
    with pytest.raises(ValueError, match=r"n_components=11, n_samples=10"):
        estimator.fit(X, sample_weight=weights)
    assert_unfitted(estimator)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (np.ones(7), r"\(150,\), got \(7,\)"),
        (np.ones((150, 2)), r"\(150,\), got \(150, 2\)"),
        (np.full(150, -1.0), "negative, got -1"),
        (np.zeros(150), "zeros only"),
        (np.full(150, nan), "NaN"),
        (np.full(150, inf), "infinity"),
        (0.0, "zeros only"),
    ],
)
def test_invalid_sample_weight_raises(weights, says, X):
    estimator = checks_alone(model())
    with pytest.raises(ValueError, match=rf"(?s)sample_weight.*{says}"):
        estimator.fit(X, sample_weight=weights)
    assert_unfitted(estimator)


def test_a_collapsed_fit_leaves_the_estimator_unfitted(X):
    """Errors that only the work can find out are no different."""
    estimator = model(reg_covar=0)
    with pytest.raises(ValueError, match="reg_covar"):
        estimator.fit(np.column_stack([X, np.ones(len(X))]))
    assert_unfitted(estimator)


def bad_refits(X, instance):
    misfit = instance.misfit
    if misfit and misfit.items() <= instance.settings.items():
        misfit = {"covariance_type": "full"}
    rows = np.column_stack([X[:, :2], np.ones(len(X))])
    collapse = {"reg_covar": 0.0} if "reg_covar" in instance.make().get_params() else {}
    if "components" in instance.settings:
        collapse = {"components": Gaussian("diag", reg_covar=0.0)}
    if not collapse or instance.settings.get("covariance_type", "full").endswith("spherical"):
        collapse, rows = {**collapse, "n_components": 1}, np.ones_like(rows)
    cold = [
        ({}, np.full_like(X, nan)),
        ({}, X[:1]),
        ({"temperature": -1}, X),
        ({"n_components": 1000}, X),
        (collapse, rows),
    ]
    if not instance.misfit:
        return [*cold, ({"tilt": -2}, X), ({"n_models": 0}, X), ({}, np.full_like(X, inf))]
    return [
        *cold,
        ({"n_components": 3, "warm_start": True}, X),
        ({"warm_start": True}, X[:, :2]),
        ({"warm_start": True, **misfit}, X),
    ]


@each_instance
@pytest.mark.parametrize("which", range(8))
def test_a_failed_fit_keeps_the_former_attributes(instance, which, X):
    fitted = instance.make(2).fit(X)
    settings, data = bad_refits(X, instance)[which]
    before = {name: value for name, value in vars(fitted).items() if name not in settings}
    scores = fitted.score_samples(X)
    fitted.set_params(**settings)
    with pytest.raises(ValueError, match=r"."):
        fitted.fit(data)
    after = vars(fitted)
    for name, value in before.items():
        assert after[name] is value, name
    assert set(after) == set(before) | set(settings)
    np.testing.assert_array_equal(fitted.score_samples(X), scores)


def test_a_second_fit_equals_a_first_one(X):
    fitted = model().fit(X)
    fitted.fit(X[:, :2])
    assert fitted.n_features_in_ == 2
    assert fitted.means_.shape == (2, 2)
    again = model().fit(X[:, :2])
    np.testing.assert_array_equal(fitted.means_, again.means_)


def test_warm_start_with_another_shape_raises_with_both_shapes(X):
    fitted = model(warm_start=True).fit(X)
    with pytest.raises(ValueError, match=r"warm_start.*2, 4 and 'full'.*3, 4 and 'full'"):
        fitted.set_params(n_components=3).fit(X)
