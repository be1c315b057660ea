"""The shell of network autoencoders: parameters, persistence, protocols, fits that go on."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pytest
from _altered import checks_alone
from _instances import NETWORK_INSTANCES
from _networks import assert_same, make
from scipy.sparse import csr_matrix
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbae.model_selection import hmaxemax_scorer, reconstruction_scorer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*still improved"),
    pytest.mark.filterwarnings("ignore:scores of"),
]
each_instance = pytest.mark.parametrize("instance", NETWORK_INSTANCES, ids=lambda row: row.name)
nan, inf = float("nan"), float("inf")


@pytest.fixture(scope="module")
def X():
    return load_iris().data


# -- bad input -------------------------------------------------------------------------------------

BAD_PARAMETERS = [
    ("n_components", 0, ValueError, ">= 1"),
    ("n_components", 1.5, TypeError, "integer"),
    ("hidden_layer_sizes", (3, 0), ValueError, ">= 1"),
    ("hidden_layer_sizes", "wide", TypeError, "sequence"),
    ("hidden_layer_sizes", (2.5,), TypeError, "integer"),
    ("hidden_layer_sizes", None, TypeError, "integer"),
    ("activation", "sine", ValueError, "'tanh'"),
    ("activation", None, ValueError, "'relu'"),
    ("likelihood", "poisson", ValueError, "'bernoulli'"),
    ("outside", "ignore", ValueError, "'clip', 'error'"),
    ("noise", "full", ValueError, "'per_feature', 'shared'"),
    ("temperature", -1, ValueError, ">= 0"),
    ("temperature", nan, ValueError, "finite"),
    ("model_temperature", -0.5, ValueError, ">= 0"),
    ("model_temperature", "cold", TypeError, "None"),
    ("tilt", 0.5, ValueError, "set tilt=0"),
    ("tilt", -2, ValueError, "tilt"),
    ("weight_variance_prior", 0, ValueError, "> 0"),
    ("noise_shape_prior", -1, ValueError, "> 0"),
    ("noise_scale_prior", 0, ValueError, "> 0"),
    ("n_models", 0, ValueError, ">= 1"),
    ("alpha", -1e-4, ValueError, ">= 0"),
    ("alpha", None, TypeError, "number"),
    ("learning_rate_init", 0, ValueError, "> 0"),
    ("learning_rate_init", "fast", TypeError, "number"),
    ("batch_size", 0, ValueError, ">= 1"),
    ("batch_size", "large", ValueError, "'auto'"),
    ("batch_size", 2.5, TypeError, "integer"),
    ("max_iter", 0, ValueError, ">= 1"),
    ("n_importance_samples", 0, ValueError, ">= 1"),
    ("n_score_samples", 0, ValueError, ">= 1"),
    ("early_stopping", 1, TypeError, "True or False"),
    ("validation_fraction", 1.0, ValueError, "between 0 and 1"),
    ("validation_fraction", 0, ValueError, "> 0"),
    ("n_iter_no_change", 0, ValueError, ">= 1"),
    ("tol", -1, ValueError, ">= 0"),
    ("warm_start", "no", TypeError, "True or False"),
    ("verbose", "loud", TypeError, "integer"),
    ("verbose_interval", 0, ValueError, ">= 1"),
    ("random_state", -1, TypeError, "Generator"),
    ("n_jobs", 0, ValueError, "non-zero"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), BAD_PARAMETERS)
def test_invalid_parameters_raise_with_name_value_and_allowed_values(
    name, value, error, message, X
):
    model = checks_alone(make(**{name: value}))
    for data in (X, None):  # checked before the data
        with pytest.raises(error) as caught:
            model.fit(data)
        assert name in str(caught.value)
        assert message in str(caught.value)
        assert repr(value) in str(caught.value)
    assert not hasattr(model, "n_features_in_")


def test_the_table_covers_every_parameter():
    assert set(make().get_params()) == {row[0] for row in BAD_PARAMETERS}


def test_rows_outside_the_unit_interval_raise(X):
    model = make(likelihood="bernoulli")
    with pytest.raises(ValueError, match=r"(?s)bernoulli.*between 0 and 1.*from 0.1 to 7.9"):
        model.fit(X)
    with pytest.raises(NotFittedError):
        model.transform(X)
    fitted = model.fit(X / 8).set_params(outside="error")
    for method in (fitted.transform, fitted.score_samples, fitted.encode, fitted.score_gradient):
        with pytest.raises(ValueError, match="between 0 and 1"):
            method(X)
    with pytest.raises(ValueError, match="likelihood='gaussian'"):
        fitted.denoise(X / 8, 0.1)


def test_invalid_X_raises(X):
    with_nan = X.copy()
    with_nan[3, 1] = nan
    for data, error in [
        (with_nan, ValueError),
        (X[:1], ValueError),
        (csr_matrix(X), TypeError),
        (X * 1e200, ValueError),
    ]:
        model = make()
        with pytest.raises(error):
            model.fit(data)
        assert vars(model) == vars(make())
        if data is not None and data.shape[0] > 1:
            with pytest.raises(error):
                model.partial_fit(data)
            assert vars(model) == vars(make())


def test_a_diverging_fit_raises_and_leaves_the_estimator_unfitted(X):
    model = make(learning_rate_init=1e25, max_iter=50)
    with pytest.raises(ValueError, match="NaN or infinite; decrease learning_rate_init"):
        model.fit(X)
    assert vars(model) == vars(make(learning_rate_init=1e25, max_iter=50))
    fitted = make().fit(X)
    before = dict(vars(fitted))
    with pytest.raises(ValueError, match="NaN or infinite"):
        fitted.set_params(learning_rate_init=1e25, max_iter=50).fit(X)
    for name in before.keys() - {"learning_rate_init", "max_iter"}:
        assert vars(fitted)[name] is before[name]


def test_methods_that_need_a_density_raise_at_zero_temperature(X):
    fitted = make(temperature=0).fit(X)
    for call in (lambda: fitted.sample(3), lambda: fitted.denoise(X, 0.1)):
        with pytest.raises(ValueError, match="density"):
            call()
    assert hmaxemax_scorer(fitted, X) == -inf
    assert reconstruction_scorer(fitted, X) < 0


def test_codes_of_the_wrong_width_raise(X):
    fitted = make().fit(X)
    with pytest.raises(ValueError, match="2 columns"):
        fitted.inverse_transform(np.zeros((3, 4)))


# -- persistence and protocols ---------------------------------------------------------------------


@each_instance
@pytest.mark.parametrize("how", ["pickle", "joblib"])
def test_persistence(instance, how, X, tmp_path):
    fitted = instance.make().fit(X)
    if how == "pickle":
        loaded = pickle.loads(pickle.dumps(fitted))
    else:
        joblib.dump(fitted, tmp_path / "model")
        loaded = joblib.load(tmp_path / "model")
    assert_same(fitted, loaded, X, rtol=0)
    np.testing.assert_array_equal(loaded.score_gradient(X), fitted.score_gradient(X))
    assert_same(fitted.partial_fit(X), loaded.partial_fit(X), X, rtol=0)


def test_in_a_search_and_a_pipeline(X):
    search = GridSearchCV(
        make_pipeline(StandardScaler(), make(max_iter=10, learning_rate_init=0.02)),
        {"bayesianvaeautoencoder__n_components": [1, 2]},
        scoring=hmaxemax_scorer,
        cv=3,
        error_score="raise",
    ).fit(np.random.default_rng(0).permutation(X))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    names = search.best_estimator_[-1].get_feature_names_out()
    assert names[0] == "bayesianvaeautoencoder0"


def test_fitted_attributes(X):
    fitted = make(hidden_layer_sizes=(5, 3), n_components=2).fit(X)
    shapes = [each.shape for each in fitted.decoder_coefs_]
    assert shapes == [(2, 3), (3, 5), (5, 4)]
    assert [each.shape for each in fitted.encoder_coefs_] == [(4, 5), (5, 3), (3, 4)]
    assert [each.shape for each in fitted.decoder_intercepts_] == [(3,), (5,), (4,)]
    assert fitted.models_.decoder_coefs[0].shape == (1, 2, 3)
    assert len(fitted.loss_curve_) == fitted.n_iter_ == 5
    assert fitted.hmaxemax_ == fitted.internal_energy_ == fitted.hmaxe_
    assert fitted.hmaxemax_error_ == 0
    assert not hasattr(fitted, "log_evidence_")
    assert not hasattr(fitted, "sampling_")
    assert not hasattr(fitted, "validation_scores_")


# -- going on --------------------------------------------------------------------------------------


def test_early_stopping(X):
    fitted = make(
        early_stopping=True, max_iter=2000, learning_rate_init=0.05, n_iter_no_change=5, tol=0.01
    ).fit(X)
    assert fitted.converged_
    assert fitted.n_iter_ < 2000
    scores = fitted.validation_scores_
    assert len(scores) == fitted.n_iter_
    assert max(scores) > scores[0]


def test_early_stopping_without_enough_distinct_rows_holds_none_out():
    """A single distinct row, of whatever weight, cannot be split: the fit takes all of it."""
    X = np.full((20, 3), 2.0)
    fitted = make(early_stopping=True).fit(X)
    assert fitted.validation_scores_ == []
    assert len(fitted.loss_curve_) == 5
    assert np.isfinite(fitted.score_samples(X)).all()


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.01}, {"temperature": 0.0}, {"likelihood": "bernoulli"}]
)
def test_no_floating_point_error_is_left_to_the_caller(settings, X):
    """Not even underflow, where weights of draws next to vanish."""
    bits = "likelihood" in settings
    X = X / 8 if bits else X
    with np.errstate(all="raise"):
        fitted = make(**settings).fit(X)
        fitted.inverse_transform(fitted.transform(X))
        fitted.score_gradient(X)
        scores = fitted.score_samples(X if bits else X + 1e3)
    assert np.isfinite(scores).all()


def test_a_fit_that_ends_at_max_iter_warns(X):
    with pytest.warns(ConvergenceWarning, match="still improved after max_iter=3"):
        make(max_iter=3).fit(X)


def test_warm_start(X):
    t = np.linspace(-1, 1, len(X))
    X = np.column_stack([t, t**2, t**3, np.abs(t)])
    fitted = make(warm_start=True, max_iter=30, learning_rate_init=0.02).fit(X)
    first = fitted.hmaxe_
    assert fitted.fit(X).hmaxe_ > first + 0.05
    misfits = [
        ({"n_components": 3}, X),
        ({"hidden_layer_sizes": (5,)}, X),
        ({"activation": "relu"}, X),
        ({"noise": "shared"}, X),
        ({"likelihood": "bernoulli"}, X / 8),
        ({}, X[:, :3]),
    ]
    for changes, data in misfits:
        other = pickle.loads(pickle.dumps(fitted)).set_params(**changes)
        with pytest.raises(ValueError, match="warm_start=True needs the n_components"):
            other.fit(data)


def test_partial_fit(X):
    model = make(learning_rate_init=0.01)
    scores = []
    for _ in range(60):
        scores.append(model.partial_fit(X).score(X))
    assert scores[-1] > scores[0] + 0.3
    assert model.n_iter_ == len(model.loss_curve_) == 60
    np.testing.assert_allclose(model.hmaxe_, scores[-1])
    with pytest.raises(ValueError, match="3 features"):
        model.partial_fit(X[:, :3])
    with pytest.raises(ValueError, match="partial_fit needs the n_components"):
        model.set_params(n_components=3).partial_fit(X)
    # goes on from a fit
    t = np.linspace(-1, 1, len(X))
    X = np.column_stack([t, t**2, t**3, np.abs(t)])
    fitted = make(max_iter=30, learning_rate_init=0.01).fit(X)
    before = fitted.hmaxe_
    for _ in range(30):
        fitted.partial_fit(X, sample_weight=np.ones(len(X)))
    assert fitted.hmaxe_ > before + 0.05
    with pytest.raises(AttributeError, match="partial_fit"):
        make(model_temperature=1.0).partial_fit(X)
