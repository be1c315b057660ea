"""Scorers and the in-sample splitter, alone and inside scikit-learn's searches."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from _oracles import dense_covariances, joint_energies
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from skbae import BayesianGMMAutoEncoder
from skbae._types import SamplingResult
from skbae.model_selection import (
    InSample,
    evidence_scorer,
    hmaxemax_scorer,
    make_hmaxemax_scorer,
    reconstruction_scorer,
)

SCORERS = [
    hmaxemax_scorer,
    evidence_scorer,
    reconstruction_scorer,
    make_hmaxemax_scorer(temperature=0.5, units="model"),
]
SHUFFLED = KFold(5, shuffle=True, random_state=0)


def clusters(n_clusters=3, n_rows=30, seed=0):
    """Return rows of unit spread around means far apart, in two dimensions, shuffled."""
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * np.arange(n_clusters) / n_clusters
    means = 10 * np.column_stack([np.cos(angles), np.sin(angles)])
    return rng.permutation(np.repeat(means, n_rows, axis=0)) + rng.standard_normal(
        (n_clusters * n_rows, 2)
    )


def one_model(n_components=2, **settings):
    settings = {"model_temperature": 0, "n_init": 5, "random_state": 0, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings)


@pytest.fixture(scope="module")
def sampled():
    """Return rows and a fit of them that kept several models."""
    X = clusters(2)
    return X, BayesianGMMAutoEncoder(2, n_models=20, random_state=0).fit(X)


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
    strength, dof, scale = 0.01, size + 2.0, np.cov(X.T, bias=True)
    scatter = n_rows * scale  # about the mean, which is the prior's too

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


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler(), PCA()], ids=repr)
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
def test_steps_that_leave_no_density_are_refused(step, complaint):
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


# -- inside searches -------------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_search_with_several_scorers(n_jobs):
    X = clusters()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), one_model()),
        {
            "bayesiangmmautoencoder__n_components": [1, 3],
            "bayesiangmmautoencoder__temperature": [0.0, 1.0],
        },
        scoring={"density": hmaxemax_scorer, "reconstruction": reconstruction_scorer},
        refit="density",
        cv=SHUFFLED,
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(X)
    assert search.best_params_["bayesiangmmautoencoder__n_components"] == 3
    train, test = next(SHUFFLED.split(X))
    for number, params in enumerate(search.cv_results_["params"]):
        model = clone(search.estimator).set_params(**params).fit(X[train])
        for name, scorer in search.scoring.items():
            found = search.cv_results_[f"split0_test_{name}"][number]
            assert found == pytest.approx(scorer(model, X[test]), rel=1e-9)
    assert search.score(X) == hmaxemax_scorer(search.best_estimator_, X)
    assert hmaxemax_scorer(search, X) == hmaxemax_scorer(search.best_estimator_, X)


def test_evidence_in_a_search_costs_one_fit_a_candidate():
    X = clusters(2)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), BayesianGMMAutoEncoder(random_state=0)),
        {"bayesiangmmautoencoder__n_components": [1, 2]},
        scoring={"evidence": evidence_scorer, "reconstruction": reconstruction_scorer},
        refit="evidence",
        cv=InSample(),
        n_jobs=2,
        error_score="raise",
    ).fit(X)
    assert search.n_splits_ == 1
    assert search.best_params_ == {"bayesiangmmautoencoder__n_components": 2}
    # the same seed: refitted on the same rows, it has the same evidence
    assert search.score(X) == pytest.approx(search.best_score_, rel=1e-12)


def test_nested_cross_validation():
    X = clusters(2)
    search = GridSearchCV(
        one_model(), {"n_components": [1, 2]}, scoring=hmaxemax_scorer, cv=3, error_score="raise"
    )
    outer = cross_val_score(search, X, scoring=hmaxemax_scorer, cv=2, error_score="raise")
    assert np.isfinite(outer).all()


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
def test_scorers_pickle(sampled, scorer):
    X, model = sampled
    loaded = pickle.loads(pickle.dumps(scorer))
    assert loaded(model, X) == scorer(model, X)
    assert loaded(model, X, np.zeros(len(X))) == scorer(model, X, y=None)
    assert isinstance(scorer(model, X), float)


def test_scores_survive_pickling_the_model(sampled):
    X, model = sampled
    loaded = pickle.loads(pickle.dumps(model))
    for scorer in SCORERS:
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


# -- refusals --------------------------------------------------------------------------------------


def search_for_evidence(estimator, cv=None):
    return GridSearchCV(
        estimator, {}, scoring=evidence_scorer, cv=cv or InSample(), error_score="raise"
    )


def test_evidence_needs_sampled_models():
    with pytest.raises(ValueError, match="model_temperature=0"):
        search_for_evidence(one_model()).fit(clusters(2))


def test_evidence_needs_temperature_one():
    X = clusters(2)
    model = BayesianGMMAutoEncoder(1, temperature=2.0, random_state=0)
    with pytest.raises(ValueError, match="fitted with temperature=2"):
        search_for_evidence(model).fit(X)
    fitted = model.fit(X).set_params(temperature=1.0)  # which waits for the next fit
    with pytest.raises(ValueError, match="temperature=2"):
        evidence_scorer(fitted, X)


def test_evidence_needs_the_training_rows(sampled):
    X, model = sampled
    with pytest.raises(ValueError, match="InSample"):
        search_for_evidence(BayesianGMMAutoEncoder(random_state=0), cv=3).fit(X)
    changed = X.copy()
    changed[0, 0] += 0.01
    for other in (X[:-1], np.concatenate([X, X]), clusters(2, seed=1), changed):
        with pytest.raises(ValueError, match="other rows"):
            evidence_scorer(model, other)


def test_evidence_knows_the_training_rows_of_a_weighted_fit():
    X = clusters(2, n_rows=20)
    weights = np.arange(len(X)) % 3
    model = BayesianGMMAutoEncoder(1, random_state=0).fit(X, sample_weight=weights)
    assert evidence_scorer(model, X) == model.hmaxemax_
    with pytest.raises(ValueError, match="other rows"):
        evidence_scorer(model, X[weights > 0])


def test_evidence_of_a_failed_run_is_refused(sampled):
    X, model = sampled
    fields = {**vars(model.sampling_), "status": "failed", "reasons": ("chains disagree",)}
    broken = pickle.loads(pickle.dumps(model))
    broken.sampling_ = SamplingResult(**fields)
    with pytest.raises(ValueError, match="failed: chains disagree"):
        evidence_scorer(broken, X)
    broken.sampling_ = SamplingResult(**{**fields, "status": "suspect"})
    assert evidence_scorer(broken, X) == model.hmaxemax_  # the fit has warned


def test_a_model_without_a_density_scores_minus_infinity(sampled):
    class Deterministic(BayesianGMMAutoEncoder):
        def _has_density(self):
            return False

    X, _ = sampled
    model = Deterministic(2, model_temperature=0, random_state=0).fit(X)
    assert hmaxemax_scorer(model, X) == -np.inf
    assert np.isfinite(reconstruction_scorer(model, X))


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
def test_unfitted_and_foreign_estimators_are_refused(scorer):
    X = clusters(2)
    with pytest.raises(NotFittedError):
        scorer(BayesianGMMAutoEncoder(2), X)
    with pytest.raises(TypeError, match="BaseEstimator"):
        scorer(BaseEstimator(), X)


@pytest.mark.parametrize("scorer", [hmaxemax_scorer, reconstruction_scorer])
def test_missing_values_raise(scorer):
    X = clusters(2)
    model = make_pipeline(StandardScaler(), one_model()).fit(X)
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        scorer(model, X)


def test_what_is_not_a_number_raises():
    X = clusters(2)
    model = one_model().fit(X)
    model.means_ = model.means_ * np.nan
    with pytest.raises(ValueError, match="reconstruction_scorer came to nan"):
        reconstruction_scorer(model, X)


@pytest.mark.parametrize("temperature", [-1.0, None, np.nan, "hot"])
def test_a_scorer_checks_its_temperature(temperature):
    with pytest.raises((TypeError, ValueError), match="temperature must be"):
        make_hmaxemax_scorer(temperature)


def test_a_scorer_checks_its_units():
    with pytest.raises(ValueError, match="units must be"):
        make_hmaxemax_scorer(units="metres")


def test_a_pipeline_that_cannot_go_back_has_no_reconstruction():
    X = clusters(2)
    model = make_pipeline(RowNorm(), one_model()).fit(X)
    with pytest.raises(TypeError, match="inverse_transform"):
        reconstruction_scorer(model, X)


class RowNorm(BaseEstimator):
    """A transformer without a way back."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X / (1 + np.linalg.norm(X, axis=1, keepdims=True))


# -- selection -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_clusters", "n_most"), [(2, 3), (3, 5)])
def test_evidence_finds_the_number_of_clusters_and_is_flat_or_falls_beyond(n_clusters, n_most):
    X = clusters(n_clusters)
    # one prior for all candidates: what is compared is the number of components alone
    search = GridSearchCV(
        BayesianGMMAutoEncoder(covariance_prior=np.eye(2), random_state=0),
        {"n_components": np.arange(1, n_most + 1)},
        scoring=evidence_scorer,
        cv=InSample(),
        refit=False,
        n_jobs=2,
        error_score="raise",
    ).fit(X)
    assert search.best_params_ == {"n_components": n_clusters}
    log_evidence = search.cv_results_["mean_test_score"] * len(X)
    rising, beyond = (
        np.diff(log_evidence)[: n_clusters - 1],
        np.diff(log_evidence)[n_clusters - 1 :],
    )
    assert np.all(rising > 10)
    assert np.all(beyond < 0.1)


def test_the_default_prior_shrinks_with_the_number_of_components():
    # why the tests above give candidates one prior
    X = clusters(1)
    covariances = []
    for n_components in (1, 2, 4):
        model = BayesianGMMAutoEncoder(n_components)
        covariances.append(default_covariance_prior(model, X))
    np.testing.assert_allclose(covariances[0], np.cov(X.T, bias=True))
    np.testing.assert_allclose(covariances[1] * 2, covariances[0])
    np.testing.assert_allclose(covariances[2] * 4, covariances[0])


def default_covariance_prior(model, X):
    """Return the scale of the precisions' prior that a fit of the rows would use."""
    from skbae.estimators._gmm_fit import conjugate_energy
    from skbae.inference._rows import RowRunner, make_rows

    config = {
        "n_components": model.n_components,
        "n_features": X.shape[1],
        "covariance_type": "full",
        "equal_weights": False,
        "reg_covar": 0.0,
    }
    with RowRunner() as runner:
        return conjugate_energy(model, config, make_rows(X, None), runner).family.prior.scale[0, 0]


def test_held_out_density_finds_the_number_of_clusters_within_one():
    X = clusters(3, n_rows=20)
    search = GridSearchCV(
        BayesianGMMAutoEncoder(random_state=0),
        {"n_components": [1, 3, 5]},  # every other, since a candidate takes five fits
        scoring=hmaxemax_scorer,
        cv=SHUFFLED,
        refit=False,
        n_jobs=2,
        error_score="raise",
    ).fit(X)
    assert abs(search.best_params_["n_components"] - 3) <= 1


def test_held_out_density_finds_the_number_of_clusters_with_single_models():
    search = GridSearchCV(
        one_model(),
        {"n_components": [1, 2, 3, 4, 5]},
        scoring=hmaxemax_scorer,
        cv=SHUFFLED,
        error_score="raise",
    ).fit(clusters(3, n_rows=100))
    assert abs(search.best_params_["n_components"] - 3) <= 1
