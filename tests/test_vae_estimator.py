"""The shell of network autoencoders: parameters, data, weights, precision, persistence, seeds."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pytest
from _instances import NETWORK_INSTANCES
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbae import BayesianMixturePCAAutoEncoder, BayesianVAEAutoEncoder
from skbae.estimators import _vae, _vae_fit
from skbae.inference._sgmcmc import LangevinPlan
from skbae.model_selection import (
    InSample,
    evidence_scorer,
    hmaxemax_scorer,
    reconstruction_scorer,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*still improved"),
    pytest.mark.filterwarnings("ignore:scores of"),
]
each_instance = pytest.mark.parametrize("instance", NETWORK_INSTANCES, ids=lambda row: row.name)
nan, inf = float("nan"), float("inf")


@pytest.fixture(scope="module")
def X():
    return load_iris().data


@pytest.fixture
def short_chains(monkeypatch):
    def plan(batch_size, scale, n_models):
        return LangevinPlan(batch_size, n_burn=40, n_steps=200, n_traced=40, n_keep=n_models)

    monkeypatch.setattr(_vae_fit, "langevin_plan", plan)


def make(**settings):
    small = {"hidden_layer_sizes": (4,), "max_iter": 5, "n_score_samples": 16, "random_state": 0}
    return BayesianVAEAutoEncoder(**{**small, **settings})


def arrays(model):
    """Return all fitted arrays."""
    names = ("decoder_coefs_", "decoder_intercepts_", "encoder_coefs_", "encoder_intercepts_")
    return [array for name in names for array in getattr(model, name)]


def assert_same(first, second, X, **tolerance):
    for one, other in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_allclose(one, other, **tolerance)
    np.testing.assert_allclose(first.score_samples(X), second.score_samples(X), **tolerance)


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
    ("temperature", -1, ValueError, ">= 0"),
    ("temperature", nan, ValueError, "finite"),
    ("model_temperature", -0.5, ValueError, ">= 0"),
    ("model_temperature", "cold", TypeError, "None"),
    ("tilt", 0.5, ValueError, "must be 0"),
    ("tilt", -2, ValueError, "tilt"),
    ("weight_variance_prior", 0, ValueError, "> 0"),
    ("noise_shape_prior", -1, ValueError, "> 0"),
    ("noise_scale_prior", 0, ValueError, "> 0"),
    ("n_models", 0, ValueError, ">= 1"),
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
    ("random_state", -1, TypeError, "Generator"),
    ("n_jobs", 0, ValueError, "non-zero"),
]


@pytest.mark.parametrize(("name", "value", "error", "says"), BAD_PARAMETERS)
def test_bad_parameter(name, value, error, says, X, monkeypatch):
    def work(*args, **kwargs):
        raise AssertionError("work was done before the parameters were checked")

    for module, what in [(_vae, "training_rows"), (_vae, "climb"), (_vae, "one_more_pass")]:
        monkeypatch.setattr(module, what, work)
    model = make(**{name: value})
    for data in (X, None):  # checked before the data
        with pytest.raises(error) as caught:
            model.fit(data)
        assert name in str(caught.value)
        assert says in str(caught.value)
        assert repr(value) in str(caught.value)
    assert not hasattr(model, "n_features_in_")


def test_the_table_covers_every_parameter():
    assert set(make().get_params()) == {row[0] for row in BAD_PARAMETERS}


def test_rows_that_are_no_bits_are_refused(X):
    model = make(likelihood="bernoulli")
    with pytest.raises(ValueError, match=r"(?s)bernoulli.*between 0 and 1.*from 0.1 to 7.9"):
        model.fit(X)
    with pytest.raises(NotFittedError):
        model.transform(X)
    fitted = model.fit(X / 8)
    for method in (fitted.transform, fitted.score_samples, fitted.encode, fitted.score_gradient):
        with pytest.raises(ValueError, match="between 0 and 1"):
            method(X)
    with pytest.raises(ValueError, match="likelihood='gaussian'"):
        fitted.denoise(X / 8, 0.1)


def test_bad_data(X):
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


def test_a_fit_that_diverges_says_so_and_leaves_nothing(X):
    model = make(learning_rate_init=1e25, max_iter=50)
    with pytest.raises(ValueError, match=r"diverged.*learning_rate_init=1e\+25"):
        model.fit(X)
    assert vars(model) == vars(make(learning_rate_init=1e25, max_iter=50))
    fitted = make().fit(X)
    before = dict(vars(fitted))
    with pytest.raises(ValueError, match="diverged"):
        fitted.set_params(learning_rate_init=1e25, max_iter=50).fit(X)
    for name in before.keys() - {"learning_rate_init", "max_iter"}:
        assert vars(fitted)[name] is before[name]


def test_without_density_at_zero_temperature(X):
    fitted = make(temperature=0).fit(X)
    for call in (lambda: fitted.sample(3), lambda: fitted.denoise(X, 0.1)):
        with pytest.raises(ValueError, match="density"):
            call()
    assert hmaxemax_scorer(fitted, X) == -inf
    assert reconstruction_scorer(fitted, X) < 0


def test_codes_of_the_wrong_width(X):
    fitted = make().fit(X)
    with pytest.raises(ValueError, match="2 columns"):
        fitted.inverse_transform(np.zeros((3, 4)))


# -- weights ---------------------------------------------------------------------------------------


@each_instance
def test_weighted_rows_are_repeated_rows(instance, X):
    """To the last bit, in batches too, whatever the order."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, len(X))
    repeated = rng.permutation(np.repeat(X, counts, axis=0))
    order = rng.permutation(len(X))
    for size in (20, "auto"):
        weighted = instance.make(batch_size=size).fit(X[order], sample_weight=counts[order])
        plain = instance.make(batch_size=size).fit(repeated)
        assert_same(weighted, plain, X, rtol=0, atol=0)
        assert weighted.loss_curve_ == plain.loss_curve_
        assert weighted.hmaxe_ == plain.hmaxe_
    np.testing.assert_allclose(weighted.score(X, sample_weight=counts), weighted.hmaxe_)


@each_instance
def test_rows_without_weight_are_absent(instance, X):
    absurd = np.concatenate([X, 1e6 * np.ones((5, 4))])
    with_zeros = instance.make().fit(absurd, sample_weight=np.r_[np.ones(len(X)), np.zeros(5)])
    assert_same(with_zeros, instance.make().fit(X), X, rtol=0, atol=0)


def test_weights_matter(X):
    weights = np.where(np.arange(len(X)) < 50, 20.0, 0.1)
    first = make(max_iter=100).fit(X, sample_weight=weights)
    second = make(max_iter=100).fit(X)
    assert first.score(X[:50]) > second.score(X[:50]) + 0.1
    assert first.score(X[50:]) < second.score(X[50:]) - 0.1


# -- units, precision, seeds -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-6, 1e7])
def test_units_only_shift_the_scores(scale, X):
    """Networks see rows centred and scaled, so a fit is the same in any units."""
    here, there = make(max_iter=20).fit(X), make(max_iter=20).fit(scale * X + 3 * scale)
    moved = there.score_samples(scale * X + 3 * scale) + 4 * np.log(scale)
    np.testing.assert_allclose(moved, here.score_samples(X), atol=1e-3)
    np.testing.assert_allclose(there.noise_variance_, scale**2 * here.noise_variance_, rtol=1e-3)
    reconstruction = there.inverse_transform(there.transform(scale * X + 3 * scale)) / scale - 3
    np.testing.assert_allclose(reconstruction, here.inverse_transform(here.transform(X)), atol=1e-3)


def test_far_from_the_origin(X):
    fitted = make(max_iter=20).fit(X + 1e6)
    np.testing.assert_allclose(
        fitted.score_samples(X + 1e6), make(max_iter=20).fit(X).score_samples(X), atol=1e-2
    )


@each_instance
def test_single_precision(instance, X):
    X32 = X.astype(np.float32)
    single, double = instance.make().fit(X32), instance.make().fit(X32.astype(np.float64))
    assert_same(single, double, X, rtol=1e-6)
    codes = single.transform(X32)
    assert codes.dtype == np.float32
    assert single.inverse_transform(codes).dtype == np.float32
    assert single.score_samples(X32).dtype == np.float64
    if instance.density:
        assert single.denoise(X32, 0.1).dtype == np.float32


@each_instance
def test_seeds(instance, X):
    assert_same(instance.make().fit(X), instance.make().fit(X), X, rtol=0)
    other = instance.make(random_state=1).fit(X)
    assert not np.allclose(other.decoder_coefs_[0], instance.make().fit(X).decoder_coefs_[0])
    generator = np.random.default_rng(0)
    assert_same(instance.make(random_state=generator).fit(X), instance.make().fit(X), X, rtol=0)


@each_instance
def test_number_of_jobs_changes_no_bit(instance):
    X = np.random.default_rng(0).normal(size=(3000, 6))
    fits = [instance.make(n_jobs=n_jobs, max_iter=1).fit(X) for n_jobs in (1, 2)]
    assert_same(*fits, X, rtol=0)
    assert fits[0].hmaxe_ == fits[1].hmaxe_


def test_degenerate_rows(X):
    for rows in (np.ones((20, 3)), np.repeat(X[:2], 10, axis=0), np.zeros((5, 1))):
        fitted = make(max_iter=3).fit(rows)
        assert np.isfinite(fitted.score_samples(rows)).all()
        assert np.isfinite(fitted.transform(rows)).all()
    constant = np.column_stack([X, np.full(len(X), 3.0)])
    fitted = make(max_iter=100, learning_rate_init=0.01).fit(constant)
    reconstruction = fitted.inverse_transform(fitted.transform(constant))
    np.testing.assert_allclose(reconstruction[:, 4], 3.0, atol=0.3)


def test_noise_stays_above_its_floor():
    """A code as large as a row could explain it without noise."""
    X = np.random.default_rng(0).normal(size=(50, 1))
    fitted = make(n_components=1, max_iter=2000, learning_rate_init=0.05, temperature=0.0).fit(X)
    assert fitted.noise_variance_ >= 0.99e-6 * X.var()
    assert np.isfinite(fitted.hmaxe_)


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
        make_pipeline(StandardScaler(), make(max_iter=100, learning_rate_init=0.02)),
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


def test_warning_without_convergence(X):
    with pytest.warns(ConvergenceWarning, match="still improved after max_iter=3"):
        make(max_iter=3).fit(X)


def test_warm_start(X):
    fitted = make(warm_start=True, max_iter=30, learning_rate_init=0.01).fit(X)
    first = fitted.hmaxe_
    assert fitted.fit(X).hmaxe_ > first + 0.05
    misfits = [
        ({"n_components": 3}, X),
        ({"hidden_layer_sizes": (5,)}, X),
        ({"activation": "relu"}, X),
        ({"likelihood": "bernoulli"}, X / 8),
        ({}, X[:, :3]),
    ]
    for changes, data in misfits:
        other = pickle.loads(pickle.dumps(fitted)).set_params(**changes)
        with pytest.raises(ValueError, match="warm_start=True needs the same"):
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
    with pytest.raises(ValueError, match="partial_fit needs the same"):
        model.set_params(n_components=3).partial_fit(X)
    # goes on from a fit
    fitted = make(max_iter=30, learning_rate_init=0.01).fit(X)
    before = fitted.hmaxe_
    for _ in range(30):
        fitted.partial_fit(X, sample_weight=np.ones(len(X)))
    assert fitted.hmaxe_ > before + 0.05
    with pytest.raises(AttributeError, match="partial_fit"):
        make(model_temperature=1.0).partial_fit(X)


# -- sampled models --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_sampled_models(X, short_chains):
    fitted = make(model_temperature=1.0, n_models=7, max_iter=30, n_score_samples=64).fit(X)
    assert fitted.models_.n_models == 7
    assert fitted.models_.noise_variance.shape == (7,)
    assert fitted.sampling_.method == "langevin"
    assert np.isnan(fitted.hmaxemax_)
    assert not hasattr(fitted, "log_evidence_")
    by_model = fitted._bound(X).hmax(X, 1.0)
    assert np.ptp(by_model.mean(axis=1)) > 1e-3
    average = np.log(np.mean(np.exp(by_model), axis=0))
    np.testing.assert_allclose(fitted.score_samples(X), average)
    assert fitted.sample(10)[0].shape == (10, 4)
    assert np.isfinite(hmaxemax_scorer(fitted, X))
    with pytest.raises(ValueError, match="evidence of this BayesianVAEAutoEncoder is not"):
        evidence_scorer(fitted, X)
    with pytest.raises(ValueError, match="evidence"):
        GridSearchCV(
            clone(fitted),
            {"n_components": [1]},
            scoring=evidence_scorer,
            cv=InSample(),
            error_score="raise",
        ).fit(X)
    again = fitted.set_params(model_temperature=0.0).fit(X)
    assert not hasattr(again, "sampling_")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"early_stopping": True}])
def test_sampling_goes_with_other_settings(settings, X, short_chains):
    fitted = make(model_temperature=0.5, n_models=3, **settings).fit(X)
    assert fitted.models_.n_models == 3
    assert np.isfinite(fitted.score_samples(X)).all()
    assert np.isfinite(fitted.internal_energy_)


def test_too_many_models_are_refused(X):
    with pytest.raises(ValueError, match="n_models=1000000"):
        make(model_temperature=1.0, n_models=1_000_000, hidden_layer_sizes=(100,)).fit(X)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_sampled_linear_decoders_have_the_posterior_of_pca(X):
    """Noise variances against BayesianPCA's own kind of answer: concentration at N large."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 1)) @ rng.normal(size=(1, 5)) + 0.5 * rng.normal(size=(400, 5))
    fitted = make(
        n_components=1,
        hidden_layer_sizes=(),
        model_temperature=1.0,
        n_models=60,
        max_iter=200,
        learning_rate_init=0.02,
        n_importance_samples=10,
    ).fit(rows)
    draws = np.log(fitted.models_.noise_variance)
    # log s2 given the rest is nearly normal with variance 2 / (N (D - d)) at large N
    expected = np.sqrt(2 / (400 * 4))
    assert 0.6 * expected < draws.std() < 1.5 * expected
    assert abs(draws.mean() - np.log(fitted.noise_variance_)) < 4 * expected / np.sqrt(15)


@pytest.mark.slow
def test_internal_energy_is_that_of_the_same_model_sampled_exactly(X):
    """A linear decoder is a mixture of PCA with one component, whose sampler starts at the prior.

    Both have the same prior at these settings, so N times the internal energy must agree to the
    error of the chains: its deviation under the posterior is about the root of half the parameters.
    """
    exact = BayesianMixturePCAAutoEncoder(
        1, n_latent=1, mean_precision_prior=1.0, random_state=0
    ).fit(X)
    fitted = make(
        n_components=1,
        hidden_layer_sizes=(),
        model_temperature=1.0,
        learning_rate_init=0.01,
        n_importance_samples=10,
        n_score_samples=128,
        max_iter=500,
    ).fit(X)
    assert fitted.sampling_.status == "ok"
    error = np.sqrt(fitted._energy().n_parameters() / 2 / fitted.sampling_.ess)
    difference = len(X) * (fitted.internal_energy_ - exact.internal_energy_)
    assert abs(difference) < 4.5 * error
    # far from the optimum's energy, which a chain that is too cold would report
    assert len(X) * (fitted.hmaxe_ - fitted.internal_energy_) > 1.0


# -- digits ----------------------------------------------------------------------------------------


def digits():
    X = (load_digits().data > 7).astype(float)
    return X[:1400], X[1400:]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_binarised_digits(seed):
    train, test = digits()
    fitted = BayesianVAEAutoEncoder(8, likelihood="bernoulli", random_state=seed).fit(train)
    assert fitted.n_iter_ <= 300
    assert fitted.score(test) >= -17.3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_sampling_improves_the_prediction_of_binarised_digits():
    """The best setting that is documented; chains mix slowly, and say so."""
    train, test = digits()
    point = BayesianVAEAutoEncoder(8, likelihood="bernoulli", random_state=0).fit(train)
    sampled = BayesianVAEAutoEncoder(
        8,
        likelihood="bernoulli",
        model_temperature=0.3,
        weight_variance_prior=10.0,
        n_models=100,
        n_importance_samples=5,
        random_state=0,
    ).fit(train)
    assert sampled.score(test) >= point.score(test) + 0.1
    assert sampled.score(test) >= -17.0
