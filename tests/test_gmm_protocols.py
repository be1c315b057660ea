"""A Gaussian mixture in scikit-learn's ways: frames, pipelines, files, callbacks."""

from __future__ import annotations

import copy
import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from _instances import each_instance
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbae import BayesianGMMAutoEncoder
from skbae.estimators import _transaction

K, D = 3, 4


@pytest.fixture(scope="module")
def X():
    return load_iris().data


def model(n_components=K, **settings):
    settings = {"model_temperature": 0, "random_state": 0, "max_iter": 1000, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings)


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


def test_a_pipeline_equals_its_steps(X):
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
    params = str(fitted.get_params())  # (as text, since components have no equality)
    assert params == str(estimator.get_params()), "fit wrote a constructor parameter"
    again = clone(fitted)
    assert not hasattr(again, "models_")
    assert str(again.get_params()) == params
    np.testing.assert_array_equal(again.fit(X).score_samples(X), fitted.score_samples(X))


# -- persistence ---------------------------------------------------------------------------------


def dumped(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def through_joblib(estimator):
    return joblib.load(io.BytesIO(dumped(estimator)))


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
    assert str(loaded.get_params()) == str(fitted.get_params())
    np.testing.assert_array_equal(loaded.fit(X).score_samples(X), fitted.score_samples(X))


def test_unfitted_round_trip(X):
    loaded = through_pickle(model(temperature=0.5))
    assert loaded.temperature == 0.5
    assert not hasattr(loaded, "models_")
    np.testing.assert_array_equal(loaded.fit(X).means_, model(temperature=0.5).fit(X).means_)


@pytest.mark.parametrize(
    "written", [{"format": 999, "version": "9.9"}, {"format": 2, "version": "0.1"}, None]
)
def test_foreign_state_is_refused(written, X):
    """A file of another layout, newer or older, must not load into something half right."""
    fitted = model().fit(X)
    state = fitted.__getstate__()
    assert state.pop("_skbae_state")["format"] == 4
    if written is not None:
        state["_skbae_state"] = written
    version = written["version"] if written else "unknown"
    with pytest.raises(
        ValueError, match=rf"saved by skbae {version}.*reads format 4.*fit it again"
    ):
        BayesianGMMAutoEncoder.__new__(BayesianGMMAutoEncoder).__setstate__(state)


@pytest.mark.parametrize("through", [pickle.dumps, dumped])
def test_a_file_of_a_newer_version_is_refused_before_its_classes_are_asked_for(
    through, X, monkeypatch
):
    with monkeypatch.context() as newer:
        newer.setattr(_transaction, "_STATE_FORMAT", 999)
        newer.setattr(_transaction, "__version__", "9.9")
        data = through(model().fit(X))
    # a record that this version does not have, of a name as long
    data = data.replace(b"GaussianMixtureForm", b"GaussianMixtureFine")
    with pytest.raises(ValueError, match=r"saved by skbae 9.9 \(state format 999.*Update skbae"):
        joblib.load(io.BytesIO(data))


def test_a_copy_is_made_through_the_same_check(X):
    fitted = model().fit(X)
    again = copy.deepcopy(fitted)
    assert type(again) is type(fitted)
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))
    assert again.models_ is not fitted.models_


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
