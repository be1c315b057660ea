"""Scorers inside scikit-learn's searches, and what they select."""

from __future__ import annotations

import numpy as np
import pytest
from _samplers import clusters, one_model
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    StandardScaler,
)

from skbae import BayesianGMMAutoEncoder
from skbae.model_selection import (
    InSample,
    evidence_scorer,
    hmaxemax_scorer,
    reconstruction_scorer,
)

SHUFFLED = KFold(5, shuffle=True, random_state=0)


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


# -- selection -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_clusters", "n_most"), [(2, 3), (3, 4), pytest.param(3, 5, marks=pytest.mark.slow)]
)
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


def test_the_default_prior_does_not_depend_on_the_number_of_components():
    X = clusters(1)
    for kind in ("full", "tied", "diag", "tied_diag", "spherical", "tied_spherical"):
        found = [
            default_covariance_prior(BayesianGMMAutoEncoder(k, covariance_type=kind), X)
            for k in (1, 2, 4)
        ]
        covariance = np.cov(X.T, bias=True) / 5 ** (2 / 2)
        if kind.endswith("diag"):
            covariance = np.diag(covariance)
        elif kind.endswith("spherical"):
            covariance = np.trace(covariance) / 2
        for value in found:
            np.testing.assert_allclose(value, covariance)


def test_default_evidence_finds_the_number_of_clusters():
    """Three blobs, of which the default of the first version made four."""
    X = make_blobs(300, centers=3, random_state=42)[0]
    found = [
        BayesianGMMAutoEncoder(k, evidence_tol=0.3, random_state=0).fit(X).log_evidence_
        for k in (2, 3, 4)
    ]
    assert np.argmax(found) == 1
    assert found[1] > found[2] + 1


def test_default_evidence_finds_two_clusters_of_different_shape():
    """The example of scikit-learn's user guide on the selection of a mixture."""
    rng = np.random.RandomState(0)
    X = np.concatenate(
        [
            rng.standard_normal((500, 2)) @ [[0.0, -0.1], [1.7, 0.4]],
            0.7 * rng.standard_normal((500, 2)) + [-4, 1],
        ]
    )
    found = [
        BayesianGMMAutoEncoder(k, evidence_tol=0.5, random_state=0).fit(X).log_evidence_
        for k in (1, 2, 3)
    ]
    assert np.argmax(found) == 1


def default_covariance_prior(model, X):
    """Return the scale of the precisions' prior that a fit of the rows would use."""
    from skbae.estimators.gmm._fit import conjugate_energy
    from skbae.inference.passes._rows import RowRunner, make_rows

    settings = model._check_parameters()
    with RowRunner() as runner:
        return conjugate_energy(settings, make_rows(X, None), runner).family.prior.scale[0, 0]


def test_held_out_density_rises_to_the_number_of_clusters_and_is_flat_beyond():
    X = clusters(3, n_rows=20)
    search = GridSearchCV(
        BayesianGMMAutoEncoder(random_state=0),
        {"n_components": [1, 3, 5]},  # every other, since a candidate takes three fits
        scoring=hmaxemax_scorer,
        cv=KFold(3, shuffle=True, random_state=0),
        refit=False,
        n_jobs=2,
        error_score="raise",
    ).fit(X)
    one, three, five = search.cv_results_["mean_test_score"]
    assert three > one + 2
    # two more components gain nothing: they lose 0.03 with 500 models; 50 models leave 0.02 open
    assert three - 0.15 < five < three + 0.05


def test_held_out_density_finds_the_number_of_clusters_with_single_models():
    search = GridSearchCV(
        one_model(),
        {"n_components": [1, 2, 3, 4, 5]},
        scoring=hmaxemax_scorer,
        cv=SHUFFLED,
        error_score="raise",
    ).fit(clusters(3, n_rows=100))
    assert abs(search.best_params_["n_components"] - 3) <= 1
