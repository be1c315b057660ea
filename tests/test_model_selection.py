"""Scorers and the in-sample splitter: their values, and through Pipelines."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from _oracles import dense_covariances, joint_energies
from _samplers import clusters, one_model, sampled_clusters
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from skbae import BayesianGMMAutoEncoder
from skbae.model_selection import (
    InSample,
    evidence_scorer,
    hmaxemax_scorer,
    make_hmaxemax_scorer,
    reconstruction_scorer,
)

SCORERS = {
    "hmaxemax": hmaxemax_scorer,
    "evidence": evidence_scorer,
    "reconstruction": reconstruction_scorer,
    "made": make_hmaxemax_scorer(temperature=0.5, units="model"),
}
SHUFFLED = KFold(5, shuffle=True, random_state=0)


@pytest.fixture(scope="module")
def sampled():
    return sampled_clusters()


def densities_by_model(fitted, X, temperature=1.0):
    """Return ``Hmax_T`` under every kept model, by scipy's densities."""
    kept = fitted.models_
    n_components, n_features = fitted.means_.shape
    rows = []
    for weights, means, covariances in zip(kept.weights, kept.means, kept.covariances, strict=True):
        dense = dense_covariances(covariances, n_components, n_features, fitted.covariance_type)
        joint = joint_energies(X, weights, means, dense)
        if temperature == 0:
            rows.append(joint.max(axis=1))
        else:
            rows.append(temperature * logsumexp(joint / temperature, axis=1))
    return np.array(rows)


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_hmaxemax_is_the_mean_over_models_of_the_mean_over_rows(sampled, temperature):
    _, model = sampled
    held_out = clusters(2, seed=1)
    means = densities_by_model(model, held_out, temperature).mean(axis=1)
    expected = logsumexp(means) - np.log(len(means))
    assert len(means) == 20
    assert np.ptp(means) > 0.01
    scorer = make_hmaxemax_scorer(temperature)
    np.testing.assert_allclose(scorer(model, held_out), expected, rtol=1e-9)
    if temperature == 1:
        assert hmaxemax_scorer(model, held_out) == scorer(model, held_out)
        # not the mean log of the predictive density, in which models are averaged row by row
        assert abs(model.score(held_out) - expected) > 1e-3


@pytest.mark.parametrize("temperature", [0.0, 0.5, 2.0])
def test_hmaxemax_compares_fits_at_all_temperatures_by_their_density(temperature):
    X = clusters(2)
    model = one_model(temperature=temperature).fit(X)
    expected = densities_by_model(model, X, 1.0).mean()
    np.testing.assert_allclose(hmaxemax_scorer(model, X), expected, rtol=1e-9)


def test_hmaxemax_of_a_tied_float32_fit():
    X = clusters(2).astype(np.float32)
    model = one_model(covariance_type="tied").fit(X)
    expected = densities_by_model(model, X.astype(float)).mean()
    np.testing.assert_allclose(hmaxemax_scorer(model, X), expected, rtol=1e-5)


def test_evidence_is_that_of_the_fit(sampled):
    X, model = sampled
    assert evidence_scorer(model, X) == model.hmaxemax_
    np.testing.assert_allclose(evidence_scorer(model, X) * len(X), model.log_evidence_)
    assert evidence_scorer(model, X[::-1]) == model.hmaxemax_  # in any order


def test_evidence_at_a_model_temperature_of_its_own():
    X = clusters(1)
    model = BayesianGMMAutoEncoder(1, model_temperature=len(X), random_state=0).fit(X)
    assert evidence_scorer(model, X) == model.hmaxemax_ == model.log_evidence_
    tilted = BayesianGMMAutoEncoder(1, tilt=0.5, random_state=0).fit(X)
    with pytest.raises(ValueError, match=r"tilt=0\.5"):
        evidence_scorer(tilted, X)


def test_evidence_of_one_normal_is_its_closed_form():
    X = clusters(1)
    model = BayesianGMMAutoEncoder(1, random_state=0).fit(X)
    n_rows, size = X.shape
    strength, dof, covariance = 0.01, size + 2.0, np.cov(X.T, bias=True)
    scale = covariance / 5 ** (2 / size)
    scatter = n_rows * covariance  # about the mean, which is the prior's too

    def log_normaliser(strength, dof, scale):
        from scipy.special import multigammaln

        return (
            0.5 * size * np.log(2 * np.pi / strength)
            + 0.5 * dof * size * np.log(2)
            + multigammaln(0.5 * dof, size)
            - 0.5 * dof * np.linalg.slogdet(scale)[1]
        )

    log_evidence = (
        log_normaliser(strength + n_rows, dof + n_rows, scale + scatter)
        - log_normaliser(strength, dof, scale)
        - 0.5 * n_rows * size * np.log(2 * np.pi)
    )
    np.testing.assert_allclose(evidence_scorer(model, X), log_evidence / n_rows, rtol=1e-9)


def test_reconstruction_is_in_input_units():
    X = load_iris().data * [1, 10, 100, 1000]
    model = make_pipeline(StandardScaler(), PCA(3), one_model(3)).fit(X)
    error = ((X - model.inverse_transform(model.transform(X))) ** 2).mean()
    np.testing.assert_allclose(reconstruction_scorer(model, X), -error)
    bare = one_model(3).fit(X)
    codes = bare.predict_proba(X)
    np.testing.assert_allclose(
        reconstruction_scorer(bare, X), -((X - codes @ bare.means_) ** 2).mean()
    )
    assert reconstruction_scorer(PCA(4).fit(X), X) == pytest.approx(0, abs=1e-9)


# -- Pipelines -------------------------------------------------------------------------------------

ROTATION = np.array([[3.0, 1.0], [-2.0, 0.5]])
AFFINE = {
    "standard": StandardScaler(),
    "robust": RobustScaler(),
    "minmax": MinMaxScaler(),
    "whitened": PCA(whiten=True),
    "rotated": FunctionTransformer(lambda X: X @ ROTATION + 7),
    "passthrough": "passthrough",
    "two": Pipeline([("first", StandardScaler()), ("second", MinMaxScaler((-3, 3)))]),
}


@pytest.mark.parametrize("step", AFFINE.values(), ids=AFFINE)
def test_densities_are_those_of_the_rows_that_enter_the_pipeline(step):
    X, held_out = clusters(2), clusters(2, seed=1)
    model = make_pipeline(step, one_model()).fit(X)
    # finite differences of the whole map, row by row
    shift = 1e-4 * np.eye(2)
    transform = model[:-1].transform
    slope = np.array([(transform(X[:1] + d) - transform(X[:1] - d))[0] / 2e-4 for d in shift])
    log_det = np.linalg.slogdet(slope)[1]
    inside = densities_by_model(model[-1], transform(held_out)).mean()
    np.testing.assert_allclose(hmaxemax_scorer(model, held_out), inside + log_det, atol=1e-6)
    in_model_units = make_hmaxemax_scorer(units="model")(model, held_out)
    np.testing.assert_allclose(in_model_units, inside, rtol=1e-9)


@pytest.mark.parametrize(
    "scaler", [StandardScaler(), MinMaxScaler(), PCA()], ids=lambda each: type(each).__name__
)
def test_scores_do_not_depend_on_units(sampled, scaler):
    X, model = sampled
    # the default prior follows the data, so that the evidence of the same rows is the same
    scaled = make_pipeline(scaler, BayesianGMMAutoEncoder(2, random_state=0)).fit(X)
    error = 5 * np.hypot(scaled[-1].hmaxemax_error_, model.hmaxemax_error_)
    assert evidence_scorer(scaled, X) == pytest.approx(evidence_scorer(model, X), abs=error)
    bare, piped = one_model().fit(X), make_pipeline(scaler, one_model()).fit(X)
    held_out = clusters(2, seed=1)
    assert hmaxemax_scorer(piped, held_out) == pytest.approx(
        hmaxemax_scorer(bare, held_out), abs=1e-3
    )


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        (PCA(1), "turn 2 columns into 1"),
        (PowerTransformer(), "not affine"),
        (FunctionTransformer(lambda X: X @ np.ones((2, 2))), "singular"),
    ],
    ids=["fewer columns", "bent", "singular"],
)
def test_steps_that_are_not_invertible_and_affine_raise(step, complaint):
    X = clusters(2)
    settings = {"covariance_type": "tied_spherical"}
    model = make_pipeline(step, one_model(**settings)).fit(X)
    with pytest.raises(ValueError, match=complaint):
        hmaxemax_scorer(model, X)
    inside = densities_by_model(model[-1], model[:-1].transform(X)).mean()
    np.testing.assert_allclose(make_hmaxemax_scorer(units="model")(model, X), inside)


def test_a_pipeline_of_data_frames():
    X = pd.DataFrame(clusters(2), columns=["a", "b"])
    model = make_pipeline(StandardScaler().set_output(transform="pandas"), one_model())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X)
        named = [scorer(model, X) for scorer in (hmaxemax_scorer, reconstruction_scorer)]
    model = make_pipeline(StandardScaler(), one_model()).fit(X.to_numpy())
    bare = [scorer(model, X.to_numpy()) for scorer in (hmaxemax_scorer, reconstruction_scorer)]
    np.testing.assert_allclose(named, bare)


def test_float32_rows_through_a_scaler():
    X = 100 + clusters(2)
    model = make_pipeline(StandardScaler(), one_model())
    double = hmaxemax_scorer(model.fit(X), X)
    single = X.astype(np.float32)
    assert hmaxemax_scorer(model.fit(single), single) == pytest.approx(double, abs=1e-2)


def test_a_pipeline_of_one_step_and_nested_ones():
    X = clusters(2)
    bare = hmaxemax_scorer(one_model().fit(X), X)
    assert hmaxemax_scorer(make_pipeline(one_model()).fit(X), X) == bare
    nested = make_pipeline(StandardScaler(), make_pipeline(MinMaxScaler(), one_model())).fit(X)
    assert hmaxemax_scorer(nested, X) == pytest.approx(bare, abs=1e-3)


@pytest.mark.parametrize("scorer", SCORERS.values(), ids=SCORERS)
def test_scorers_pickle(sampled, scorer):
    X, model = sampled
    loaded = pickle.loads(pickle.dumps(scorer))
    assert loaded(model, X) == scorer(model, X)
    assert loaded(model, X, np.zeros(len(X))) == scorer(model, X, y=None)
    assert isinstance(scorer(model, X), float)


def test_scores_survive_pickling_the_model(sampled):
    X, model = sampled
    loaded = pickle.loads(pickle.dumps(model))
    for scorer in SCORERS.values():
        assert scorer(loaded, X) == scorer(model, X)


def test_scorers_and_splitter_survive_clone():
    search = GridSearchCV(one_model(), {}, scoring=make_hmaxemax_scorer(0.5), cv=InSample())
    copy = clone(search)
    assert repr(copy.scoring) == "make_hmaxemax_scorer(temperature=0.5, units='input')"
    assert isinstance(copy.cv, InSample)


def test_in_sample_has_one_split_of_all_rows():
    X = pd.DataFrame({"a": np.arange(4.0)})
    splitter = InSample()
    assert splitter.get_n_splits() == splitter.get_n_splits(X, None, None) == 1
    for rows in (X, X.to_numpy(), X.to_numpy().tolist()):
        ((train, test),) = splitter.split(rows, None, None)
        assert train.tolist() == test.tolist() == [0, 1, 2, 3]
    assert repr(splitter) == "InSample()"
    scores = cross_validate(one_model(), clusters(2), cv=splitter, scoring=hmaxemax_scorer)
    assert scores["test_score"].shape == (1,)
