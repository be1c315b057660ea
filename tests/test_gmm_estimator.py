"""Members of BayesianGMMAutoEncoder, one after the other, against independent answers."""

from __future__ import annotations

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from _instances import COVARIANCE_TYPES, SHARED_WITH_SKLEARN, each_categorical, each_instance
from _oracles import (
    codes,
    denoise,
    finite_differences,
    fitted_covariances,
    gaussian_mixture_joint,
    hmax,
    joint_energies,
    tilted,
)
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbae import BayesianGMMAutoEncoder

K, D = 3, 4
each_kind = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


@pytest.fixture(scope="module")
def X():
    return load_iris().data


def model(n_components=K, **settings):
    settings = {"model_temperature": 0, "random_state": 0, "max_iter": 1000, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings)


# -- scores and codes ----------------------------------------------------------------------------


@each_categorical
def test_scores_and_codes_from_the_fitted_attributes(instance, X):
    """The definition, computed independently: softmax(H / T) and T logsumexp(H / T)."""
    fitted = instance.make(K, max_iter=1000).fit(X)
    joint, T = instance.joint(fitted, X), instance.temperature
    np.testing.assert_allclose(fitted.predict_proba(X), codes(joint, T), atol=1e-9)
    np.testing.assert_allclose(fitted.score_samples(X), hmax(joint, T), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(fitted.predict(X), joint.argmax(axis=1))
    np.testing.assert_array_equal(fitted.transform(X)[:, :K], fitted.predict_proba(X))
    np.testing.assert_allclose(fitted.score(X), hmax(joint, T).mean(), rtol=1e-9)
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    expected = np.average(hmax(joint, T), weights=weights)
    np.testing.assert_allclose(fitted.score(X, sample_weight=weights), expected, rtol=1e-9)


@each_categorical
def test_summaries_of_the_fit(instance, X):
    fitted = instance.make(K, max_iter=1000).fit(X)
    values = hmax(instance.joint(fitted, X), instance.temperature)
    np.testing.assert_allclose(fitted.hmaxe_, values.mean(), rtol=1e-9)
    assert fitted.hmaxemax_ == fitted.hmaxe_ == fitted.internal_energy_
    assert fitted.hmaxemax_error_ == 0
    objective = tilted(values, None, instance.settings.get("tilt", 0.0))
    np.testing.assert_allclose(fitted.lower_bound_, objective, rtol=1e-9)
    assert fitted.lower_bounds_[-1] == fitted.lower_bound_
    assert fitted.converged_
    assert 1 <= fitted.n_iter_ == len(fitted.lower_bounds_) - 1
    assert not hasattr(fitted, "sampling_")
    assert not hasattr(fitted, "log_evidence_")


def test_codes_far_from_all_components_are_still_probabilities(X):
    for temperature in (0, 0.3, 1, 3):
        fitted = model(temperature=temperature).fit(X)
        far = np.full((2, D), 1e5)
        proba = fitted.predict_proba(far)
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        joint = gaussian_mixture_joint(fitted, far)
        np.testing.assert_allclose(fitted.score_samples(far), hmax(joint, temperature), rtol=1e-9)


def test_temperature_is_that_of_the_fit(X):
    """A later set_params waits for the next fit."""
    fitted = model(temperature=1).fit(X)
    proba, score = fitted.predict_proba(X), fitted.score(X)
    fitted.set_params(temperature=0, covariance_type="diag", n_components=7, equal_weights=True)
    np.testing.assert_array_equal(fitted.predict_proba(X), proba)
    assert fitted.score(X) == score
    assert fitted.sample(3)[0].shape == (3, D)
    assert np.isin(fitted.set_params(n_components=3).fit(X).predict_proba(X), (0, 1)).all()


# -- shapes and attributes -----------------------------------------------------------------------


@each_kind
def test_shapes(kind, X):
    fitted = model(covariance_type=kind).fit(X)
    shape = {
        "full": (K, D, D),
        "tied": (D, D),
        "diag": (K, D),
        "spherical": (K,),
        "tied_diag": (D,),
        "tied_spherical": (),
    }[kind]
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        assert np.shape(getattr(fitted, name)) == shape, name
    assert fitted.weights_.shape == (K,)
    assert fitted.means_.shape == (K, D)
    assert fitted.models_.weights.shape == (1, K)
    assert fitted.models_.means.shape == (1, K, D)
    assert fitted.models_.covariances.shape == (1, *shape)
    np.testing.assert_array_equal(fitted.models_.means[0], fitted.means_)
    np.testing.assert_array_equal(fitted.models_.weights[0], fitted.weights_)
    np.testing.assert_array_equal(fitted.models_.covariances[0], fitted.covariances_)
    np.testing.assert_allclose(fitted.weights_.sum(), 1, rtol=1e-14)
    assert fitted.n_features_in_ == D
    assert fitted.transform(X).shape == (len(X), K)
    assert fitted.inverse_transform(np.eye(K)).shape == (K, D)


@each_kind
def test_covariances_precisions_and_factors_belong_together(kind, X):
    fitted = model(covariance_type=kind).fit(X)
    covariances, precisions, factors = (
        np.asarray(getattr(fitted, name))
        for name in ("covariances_", "precisions_", "precisions_cholesky_")
    )
    if kind in ("full", "tied"):
        identity = np.broadcast_to(np.eye(D), covariances.shape)
        np.testing.assert_allclose(covariances @ precisions, identity, atol=1e-9)
        product = factors @ np.swapaxes(factors, -1, -2)
        np.testing.assert_allclose(product, precisions, rtol=1e-9)
        np.testing.assert_array_equal(factors, np.triu(factors))
    else:
        np.testing.assert_allclose(covariances * precisions, 1, rtol=1e-12)
        np.testing.assert_allclose(factors**2, precisions, rtol=1e-12)


@pytest.mark.parametrize("kind", ["tied", "tied_diag", "tied_spherical"])
def test_shared_covariance_is_the_mean_within_groups(kind, X):
    """Tied kinds at T = 0: the pooled scatter around the means of the groups."""
    fitted = model(covariance_type=kind, temperature=0, reg_covar=0, tol=1e-12).fit(X)
    deviations = X - fitted.means_[fitted.predict(X)]
    pooled = deviations.T @ deviations / len(X)
    expected = {
        "tied": pooled,
        "tied_diag": np.diag(pooled),
        "tied_spherical": np.trace(pooled) / D,
    }[kind]
    np.testing.assert_allclose(fitted.covariances_, expected, rtol=1e-9)


def test_one_component_is_the_gaussian_of_the_data(X):
    fitted = model(1, reg_covar=0).fit(X)
    np.testing.assert_allclose(fitted.means_[0], X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(fitted.covariances_[0], np.cov(X.T, bias=True), rtol=1e-10)
    assert fitted.weights_.tolist() == [1.0]


# -- encode and decode ---------------------------------------------------------------------------


@each_categorical
def test_encode(instance, X):
    fitted = instance.make(K, max_iter=1000).fit(X)
    proba, code = fitted.predict_proba(X), fitted.encode(X)
    np.testing.assert_array_equal(code.mean, fitted.transform(X))
    np.testing.assert_allclose(code.variance[:, :K], proba * (1 - proba), atol=1e-15)
    np.testing.assert_array_equal(code.mode, fitted.predict(X))
    entropy = -np.sum(proba * np.log(np.where(proba > 0, proba, 1)), axis=1)
    if code.mean.shape == proba.shape:
        np.testing.assert_allclose(code.entropy(), entropy, atol=1e-12)
    if instance.temperature == 0:
        np.testing.assert_array_equal(code.entropy(), 0)
        np.testing.assert_array_equal(code.variance, 0)


def test_encode_samples_have_the_frequencies(X):
    code = model(temperature=3).fit(X).encode(X)
    n = 4000
    draws = code.sample(n, random_state=0)
    assert draws.shape == (n, len(X), K)
    assert np.isin(draws, (0.0, 1.0)).all()
    np.testing.assert_array_equal(draws.sum(axis=-1), 1)
    error = np.sqrt(code.variance / n)
    assert code.variance.max() > 0.1, "codes too sharp to test frequencies"
    assert np.all(np.abs(draws.mean(axis=0) - code.mean) <= 5 * error + 1 / n)
    np.testing.assert_array_equal(draws, code.sample(n, random_state=0))
    assert not np.array_equal(draws, code.sample(n))


@each_kind
def test_decode_of_a_hard_code_is_a_component(kind, X):
    fitted = model(covariance_type=kind).fit(X)
    rows = fitted.decode(np.eye(K))
    covariances = fitted_covariances(fitted)
    np.testing.assert_allclose(rows.mean, fitted.means_, rtol=1e-13)
    np.testing.assert_allclose(rows.covariance, covariances, atol=1e-12)
    np.testing.assert_allclose(rows.variance, np.diagonal(covariances, axis1=1, axis2=2))
    expected = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariances)[1]
    np.testing.assert_allclose(rows.entropy(), expected, rtol=1e-10)


@each_kind
def test_decode_of_a_soft_code_is_a_mixture(kind, X):
    """Moments by the laws of total mean and covariance, and by draws."""
    fitted = model(covariance_type=kind).fit(X)
    Z = np.array([[0.5, 0.3, 0.2], [0.0, 0.9, 0.1]])
    rows, covariances = fitted.decode(Z), fitted_covariances(fitted)
    for row, z in enumerate(Z):
        mean = z @ fitted.means_
        second = sum(
            z[k] * (covariances[k] + np.outer(fitted.means_[k], fitted.means_[k])) for k in range(K)
        )
        np.testing.assert_allclose(rows.mean[row], mean, rtol=1e-12)
        covariance = second - np.outer(mean, mean)
        np.testing.assert_allclose(rows.covariance[row], covariance, atol=1e-10)
        np.testing.assert_allclose(rows.variance[row], np.diag(covariance), atol=1e-10)
    n = 20_000
    draws = rows.sample(n, random_state=0)
    assert draws.shape == (n, 2, D)
    error = draws.std(axis=0) / np.sqrt(n)
    assert np.all(np.abs(draws.mean(axis=0) - rows.mean) < 5 * error)
    for row, z in enumerate(Z):
        products = draws[:, row] - rows.mean[row]
        products = products[:, :, None] * products[:, None]
        error = products.std(axis=0) / np.sqrt(n)
        assert np.all(np.abs(products.mean(axis=0) - rows.covariance[row]) < 5 * error)
        with np.errstate(divide="ignore"):
            joint = joint_energies(draws[:5, row], z, fitted.means_, covariances)
        expected = logsumexp(joint, axis=1)
        np.testing.assert_allclose(rows.log_density(draws[:5])[:, row], expected, rtol=1e-9)


def test_entropy_of_a_soft_code_is_the_mean_surprise(X):
    fitted = model().fit(X)
    rows = fitted.decode([[0.5, 0.3, 0.2]])
    n = 20_000
    surprise = -rows.log_density(rows.sample(n, random_state=1))[:, 0]
    entropy = rows.entropy(n_samples=n)[0]
    assert abs(entropy - surprise.mean()) < 5 * surprise.std() * np.sqrt(2 / n)


def test_decode_reconstructs_what_encode_returned(X):
    fitted = model(temperature=3).fit(X)
    code = fitted.encode(X)
    rows = fitted.decode(code)
    np.testing.assert_allclose(rows.mean, fitted.inverse_transform(fitted.transform(X)))
    np.testing.assert_allclose(rows.mean, fitted.predict_proba(X) @ fitted.means_)
    np.testing.assert_array_equal(
        rows.probabilities, fitted.decode(code.probabilities).probabilities
    )


def test_inverse_transform_accepts_soft_and_hard_codes(X):
    fitted = model().fit(X)
    np.testing.assert_allclose(fitted.inverse_transform(np.eye(K)), fitted.means_)
    Z = np.random.default_rng(0).dirichlet(np.ones(K), size=7)
    np.testing.assert_allclose(fitted.inverse_transform(Z), Z @ fitted.means_)
    np.testing.assert_allclose(fitted.inverse_transform(Z.tolist()), Z @ fitted.means_)


# -- sampling rows -------------------------------------------------------------------------------


@each_kind
def test_sample_has_the_moments_of_the_components(kind, X):
    fitted = model(covariance_type=kind).fit(X)
    n = 30_000
    rows, labels = fitted.sample(n, random_state=0)
    assert rows.shape == (n, D)
    assert labels.shape == (n,)
    counts = np.bincount(labels, minlength=K)
    error = np.sqrt(fitted.weights_ * (1 - fitted.weights_) / n)
    assert np.all(np.abs(counts / n - fitted.weights_) < 5 * error)
    covariances = fitted_covariances(fitted)
    for k in range(K):
        own = rows[labels == k]
        scatter = np.sqrt(np.diag(covariances[k]) / len(own))
        assert np.all(np.abs(own.mean(axis=0) - fitted.means_[k]) < 5 * scatter)
        deviations = own - fitted.means_[k]
        products = deviations[:, :, None] * deviations[:, None]
        error = products.std(axis=0) / np.sqrt(len(own))
        assert np.all(np.abs(products.mean(axis=0) - covariances[k]) < 5 * error)


def test_sample_is_from_the_density_at_any_temperature(X):
    """Rows are drawn at T = 1: their mean log density is minus the entropy, both ways."""
    fitted = model(temperature=0).fit(X)
    n = 20_000
    rows, labels = fitted.sample(n, random_state=0)
    joint = gaussian_mixture_joint(fitted, rows)
    # given the row, the label has the probability of its code at T = 1
    share = codes(joint, 1.0)
    for k in range(K):
        error = np.sqrt((share[:, k] * (1 - share[:, k])).sum()) / n
        assert abs((labels == k).mean() - share[:, k].mean()) < 5 * error + 1e-12


def test_sample_differs_unless_seeded(X):
    fitted = model().fit(X)
    assert not np.array_equal(fitted.sample(5)[0], fitted.sample(5)[0])
    np.testing.assert_array_equal(
        fitted.sample(5, random_state=1)[0], fitted.sample(5, random_state=1)[0]
    )
    assert fitted.sample()[0].shape == (1, D)


# -- gradients and noise -------------------------------------------------------------------------


@each_instance
def test_score_gradient_equals_finite_differences(instance, X):
    fitted = instance.make(K, max_iter=1000).fit(X)
    rows = X[::5] + 0.01  # off the data, where nothing is special
    step = 1e-5
    # at T = 0, away from the kinks between two hard codes
    if instance.temperature == 0 and instance.joint is not None:
        top = np.sort(instance.joint(fitted, rows), axis=1)
        rows = rows[top[:, -1] - top[:, -2] > 0.1]
        assert len(rows) > 10
    expected = finite_differences(fitted.score_samples, rows, step)
    # central differences: rounding of the score, 1e-12, over the step; curvature times step^2
    scale = np.abs(expected).max()
    np.testing.assert_allclose(fitted.score_gradient(rows), expected, atol=1e-6 * max(scale, 1))


@each_kind
@pytest.mark.parametrize("variance", [1e-4, 0.3, 20.0])
def test_denoise_is_the_conditional_mean_and_obeys_tweedie(kind, variance, X):
    fitted = model(covariance_type=kind).fit(X)
    noisy = X + np.sqrt(variance) * np.random.default_rng(0).normal(size=X.shape)
    state = fitted.weights_, fitted.means_, fitted_covariances(fitted)
    clean = fitted.denoise(noisy, variance)
    np.testing.assert_allclose(clean, denoise(noisy, *state, variance), atol=1e-8)
    # Tweedie: the gradient of the log of the convolved density, by finite differences
    convolved = state[2] + variance * np.eye(D)

    def log_density(rows):
        return logsumexp(joint_energies(rows, state[0], state[1], convolved), axis=1)

    slope = finite_differences(log_density, noisy, 1e-5)
    np.testing.assert_allclose(clean, noisy + variance * slope, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 3.0])
def test_denoise_takes_the_density_at_temperature_one(temperature, X):
    fitted = model(temperature=temperature).fit(X)
    state = fitted.weights_, fitted.means_, fitted_covariances(fitted)
    np.testing.assert_allclose(fitted.denoise(X, 0.5), denoise(X, *state, 0.5), atol=1e-8)


def test_no_noise_changes_nothing_and_much_noise_leaves_the_mean(X):
    fitted = model().fit(X)
    np.testing.assert_array_equal(fitted.denoise(X, 0), X)
    mean = fitted.weights_ @ fitted.means_
    np.testing.assert_allclose(fitted.denoise(X, 1e9), np.tile(mean, (len(X), 1)), atol=1e-5)


def test_denoising_helps(X):
    """The point of it: the error falls below that of doing nothing, on fresh rows."""
    fitted = model().fit(X)
    clean = fitted.sample(2000, random_state=0)[0]
    noisy = clean + 0.5 * np.random.default_rng(1).normal(size=clean.shape)
    before = ((noisy - clean) ** 2).sum(axis=1)
    after = ((fitted.denoise(noisy, 0.25) - clean) ** 2).sum(axis=1)
    gain = before - after
    assert gain.mean() > 5 * gain.std() / np.sqrt(len(gain))


# -- criteria ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SHARED_WITH_SKLEARN)
def test_criteria_equal_scikit_learn(kind, X):
    theirs = GaussianMixture(K, covariance_type=kind, random_state=0, max_iter=1000).fit(X)
    ours = model(
        covariance_type=kind,
        weights_init=theirs.weights_,
        means_init=theirs.means_,
        precisions_init=theirs.precisions_,
        max_iter=0,
    ).fit(X)
    np.testing.assert_allclose(ours.bic(X), theirs.bic(X), rtol=1e-9)
    np.testing.assert_allclose(ours.aic(X), theirs.aic(X), rtol=1e-9)


def test_criteria_count_what_is_free(X):
    """Tied kinds and equal weights have no counterpart in scikit-learn; and T = 1 always."""
    n = len(X)
    for kind, n_covariance in {"tied_diag": D, "tied_spherical": 1}.items():
        for equal in (False, True):
            fitted = model(covariance_type=kind, equal_weights=equal, temperature=0).fit(X)
            n_parameters = K * D + n_covariance + (0 if equal else K - 1)
            log_density = hmax(gaussian_mixture_joint(fitted, X), 1.0).sum()
            np.testing.assert_allclose(fitted.aic(X), 2 * n_parameters - 2 * log_density)
            expected = n_parameters * np.log(n) - 2 * log_density
            np.testing.assert_allclose(fitted.bic(X), expected)


# -- scikit-learn's ways -------------------------------------------------------------------------


def test_pandas_output_and_feature_names(X):
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(D)], index=np.arange(len(X)) + 7)
    fitted = model().set_output(transform="pandas")
    out = fitted.fit_transform(frame)
    names = [f"bayesiangmmautoencoder{k}" for k in range(K)]
    assert isinstance(out, pd.DataFrame)
    assert out.columns.tolist() == names == fitted.get_feature_names_out().tolist()
    assert out.index.equals(frame.index)
    np.testing.assert_array_equal(out.to_numpy(), fitted.predict_proba(frame))
    assert fitted.feature_names_in_.tolist() == frame.columns.tolist()
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[frame.columns[::-1]])
    assert isinstance(fitted.predict_proba(frame), np.ndarray)


def test_fit_transform_and_fit_predict_are_fit_then(X):
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    fitted = model().fit(X)
    np.testing.assert_array_equal(model().fit_transform(X), fitted.transform(X))
    np.testing.assert_array_equal(model().fit_predict(X), fitted.predict(X))
    weighted = model().fit(X, sample_weight=weights)
    labels = model().fit_predict(X, sample_weight=weights)
    np.testing.assert_array_equal(labels, weighted.predict(X))
    out = model().fit_transform(X, sample_weight=weights)
    np.testing.assert_array_equal(out, weighted.transform(X))


def test_metadata_routing_carries_weights_through_a_pipeline(X):
    weights = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        autoencoder = model(covariance_type="diag").set_fit_request(sample_weight=True)
        autoencoder.set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, autoencoder).fit(X, sample_weight=weights)
        routed = pipeline.score(X, sample_weight=weights)
    scaled = StandardScaler().fit_transform(X)
    direct = model(covariance_type="diag").fit(scaled, sample_weight=weights)
    np.testing.assert_allclose(pipeline[-1].means_, direct.means_, rtol=1e-12)
    np.testing.assert_allclose(routed, direct.score(scaled, sample_weight=weights), rtol=1e-12)
    plain = model(covariance_type="diag").fit(scaled)
    assert not np.allclose(plain.means_, direct.means_)


def test_pipelines(X):
    """There and back: codes, reconstruction and scores through a scaler."""
    pipeline = make_pipeline(StandardScaler(), model()).fit(X)
    scaler, fitted = pipeline
    Z = pipeline.transform(X)
    np.testing.assert_array_equal(Z, fitted.predict_proba(scaler.transform(X)))
    np.testing.assert_array_equal(pipeline.predict_proba(X), Z)
    back = pipeline.inverse_transform(Z)
    np.testing.assert_allclose(back, scaler.inverse_transform(Z @ fitted.means_))
    assert ((X - back) ** 2).mean() < 0.5 * X.var(axis=0).mean()
    np.testing.assert_array_equal(
        pipeline.score_samples(X), fitted.score_samples(scaler.transform(X))
    )


def test_grid_search_prefers_three_flowers_to_one(X):
    shuffled = X[np.random.default_rng(0).permutation(len(X))]
    search = GridSearchCV(
        model(covariance_type="tied"), {"n_components": [1, 3]}, error_score="raise"
    ).fit(shuffled)
    assert search.best_params_ == {"n_components": 3}
    np.testing.assert_allclose(
        search.score(shuffled), search.best_estimator_.score_samples(shuffled).mean()
    )


@each_instance
def test_clone_repeats_the_fit(instance, X):
    estimator = instance.make(K)
    fitted = instance.make(K).fit(X)
    params = fitted.get_params()
    assert params == estimator.get_params(), "fit wrote a constructor parameter"
    again = clone(fitted)
    assert not hasattr(again, "models_")
    assert again.get_params() == params
    np.testing.assert_array_equal(again.fit(X).score_samples(X), fitted.score_samples(X))


# -- persistence ---------------------------------------------------------------------------------


def through_joblib(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


def through_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


@each_instance
@pytest.mark.parametrize("trip", [through_joblib, through_pickle])
def test_round_trip_gives_the_same_numbers(instance, trip, X):
    fitted = instance.make(K, max_iter=1000).fit(X)
    loaded = trip(fitted)
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(loaded.score_samples(X), fitted.score_samples(X))
    if instance.density:
        np.testing.assert_array_equal(loaded.denoise(X, 0.1), fitted.denoise(X, 0.1))
        for ours, theirs in zip(loaded.sample(9, 0), fitted.sample(9, 0), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert loaded.get_params() == fitted.get_params()
    np.testing.assert_array_equal(loaded.fit(X).score_samples(X), fitted.score_samples(X))


def test_unfitted_round_trip(X):
    loaded = through_pickle(model(temperature=0.5))
    assert loaded.temperature == 0.5
    assert not hasattr(loaded, "models_")
    np.testing.assert_array_equal(loaded.fit(X).means_, model(temperature=0.5).fit(X).means_)


@pytest.mark.parametrize("written", [{"format": 999, "version": "9.9"}, None])
def test_foreign_state_is_refused(written, X):
    """A file of another layout must not load into something half right."""
    fitted = model().fit(X)
    state = fitted.__getstate__()
    assert state.pop("_skbae_state")["format"] != 999
    if written is not None:
        state["_skbae_state"] = written
    version = "9.9" if written else "unknown"
    with pytest.raises(ValueError, match=rf"saved by skbae {version}.*fit it again"):
        BayesianGMMAutoEncoder.__new__(BayesianGMMAutoEncoder).__setstate__(state)


def test_state_is_not_left_in_the_estimator(X):
    loaded = through_pickle(model().fit(X))
    assert "_skbae_state" not in vars(loaded)


class TestCallbacks:
    """scikit-learn's callbacks, where it has them (1.9)."""

    @pytest.fixture
    def recorder(self):
        return _recorder()

    def test_called_once_a_step(self, recorder, X):
        fitted = model(tol=0, max_iter=7)
        fitted.set_callbacks(recorder)
        with pytest.warns(sklearn.exceptions.ConvergenceWarning):
            fitted.fit(X)
        assert recorder.steps == fitted.n_iter_ == 7

    def test_may_stop_the_fit(self, X):
        recorder = _recorder(stop_after=3)
        fitted = model(tol=0, max_iter=50)
        fitted.set_callbacks(recorder)
        fitted.fit(X)  # no warning: this is what was asked for
        assert not fitted.converged_
        assert fitted.n_iter_ == 3
        with pytest.warns(sklearn.exceptions.ConvergenceWarning):
            three = model(tol=0, max_iter=3).fit(X)
        np.testing.assert_array_equal(fitted.means_, three.means_)

    def test_a_saved_model_outlives_its_callbacks(self, recorder, X):
        """Saved fits hold no reference to them: they load where the callback's code is gone."""
        fitted = model()
        fitted.set_callbacks(recorder)
        fitted.fit(X)
        data = pickle.dumps(fitted)
        assert b"Recorder" not in data
        assert not any("callback" in name for name in vars(pickle.loads(data)))
        assert any("callback" in name for name in vars(fitted)), "nothing to drop"


def _recorder(stop_after=None):
    if not hasattr(model(), "set_callbacks"):
        pytest.skip("this scikit-learn has no callbacks")

    class Recorder:
        def __init__(self):
            self.steps = 0

        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(
            self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
        ):
            pass

        def on_fit_task_end(
            self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
        ):
            if context.task_name == "step":
                self.steps += 1
            return stop_after is not None and self.steps >= stop_after

    return Recorder()
