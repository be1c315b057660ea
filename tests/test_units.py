"""Units do not matter: fits of X times a number are the fits of X, from 1e-100 to 1e100."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from _altered import quick
from _instances import COVARIANCE_TYPES
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning

from skbae import BayesianGMMAutoEncoder, BayesianRBMAutoEncoder, BayesianVAEAutoEncoder

SCALES = [1e-100, 1e-30, 1e-6, 1e6, 1e30, 1e100]
SMALL_NETWORK = {
    "hidden_layer_sizes": (4,),
    "max_iter": 4,
    "n_importance_samples": 3,
    "n_score_samples": 16,
}
SETTINGS = {
    **{
        f"gmm-{kind}-T{temperature:g}": (
            BayesianGMMAutoEncoder,
            {
                "n_components": 2,
                "covariance_type": kind,
                "temperature": temperature,
                "model_temperature": 0,
            },
        )
        for kind in COVARIANCE_TYPES
        for temperature in (0, 0.5, 1)
    },
    "gmm-tilt": (BayesianGMMAutoEncoder, {"n_components": 2, "model_temperature": 0, "tilt": 0.5}),
    **{
        f"gmm-sampled-{kind}": (
            BayesianGMMAutoEncoder,
            {"n_components": 2, "covariance_type": kind, "n_models": 5},
        )
        for kind in ("full", "tied_spherical")
    },
    "gmm-tempered-sampled": (
        BayesianGMMAutoEncoder,
        {"n_components": 2, "temperature": 0.5, "model_temperature": 1, "n_models": 5},
    ),
    "rbm": (
        BayesianRBMAutoEncoder,
        {"n_components": 3, "visible": "gaussian", "max_iter": 20, "n_init": 1},
    ),
    "rbm-chains": (
        BayesianRBMAutoEncoder,
        {"n_components": 3, "visible": "gaussian", "max_iter": 5, "partition": "ais"},
    ),
    "rbm-sampled": (
        BayesianRBMAutoEncoder,
        {"n_components": 1, "visible": "gaussian", "model_temperature": 1.0, "n_models": 5},
    ),
    "vae": (BayesianVAEAutoEncoder, SMALL_NETWORK),
    "vae-T0": (BayesianVAEAutoEncoder, {**SMALL_NETWORK, "temperature": 0}),
    "vae-sampled": (
        BayesianVAEAutoEncoder,
        {**SMALL_NETWORK, "model_temperature": 1.0, "n_models": 5},
    ),
}


@pytest.fixture(scope="module")
def blobs():
    return make_blobs(60, centers=2, n_features=3, random_state=42)[0]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", SETTINGS)
def test_fits_do_not_depend_on_units(name, blobs):
    """Densities change by the logarithm of the scale, and nothing else by more than rounding."""
    kind, settings = SETTINGS[name]
    found = []
    for scale in [1.0, *(SCALES if "sampled" not in name else SCALES[::5])]:
        X = scale * (blobs + 3.0)
        fitted = quick(kind(random_state=0, **settings)).fit(X)
        jacobian = X.shape[1] * np.log(scale)
        values = {
            "score": fitted.score(X) + jacobian,
            "hmaxe": fitted.hmaxe_ + jacobian,
            "internal energy": fitted.internal_energy_ + jacobian,
            "rows": fitted.inverse_transform(fitted.transform(X)) / scale,
        }
        if hasattr(fitted, "log_evidence_"):
            values["evidence"] = (fitted.log_evidence_ + len(X) * jacobian) / len(X)
        found.append(values)
    for values in found[1:]:
        for what, value in values.items():
            # a mode is found up to the tolerance of the search, at any scale
            close = {"rtol": 1e-5, "atol": 1e-3 if what == "rows" else 1e-5}
            np.testing.assert_allclose(value, found[0][what], err_msg=what, **close)


# -- reg_covar -------------------------------------------------------------------------------------


def model(n_components, **settings):
    return BayesianGMMAutoEncoder(
        n_components, **{"model_temperature": 0, "random_state": 0, **settings}
    )


def test_small_units_do_not_merge_components():
    """An absolute millionth gave blobs times 1e-4 equal means, converged, without a word."""
    X, labels = make_blobs(300, centers=3, random_state=42)
    means = np.stack([X[labels == k].mean(axis=0) for k in range(3)])
    fitted = model(3).fit(1e-4 * X)
    fitted.reorder_components(np.argsort(fitted.means_[:, 0]))
    np.testing.assert_allclose(1e4 * fitted.means_, means[np.argsort(means[:, 0])], atol=0.05)


def test_positions_in_degrees():
    """Ten fixes of a receiver at rest, some metres apart."""
    rng = np.random.default_rng(0)
    X = np.array([47.3769, 8.5417]) + 6e-5 * rng.normal(size=(10, 2))
    covariance = model(1, reg_covar=None).fit(X).covariances_[0]
    np.testing.assert_allclose(covariance, np.cov(X.T, bias=True), rtol=1e-5)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_number_is_absolute(kind):
    X = make_blobs(60, centers=1, random_state=0)[0]
    plain = model(1, covariance_type=kind, reg_covar=0).fit(X).covariances_
    more = model(1, covariance_type=kind, reg_covar=0.25).fit(X).covariances_
    added = more - plain
    full = kind in ("full", "tied")
    expected = 0.25 * (np.broadcast_to(np.eye(2), added.shape) if full else np.ones(added.shape))
    np.testing.assert_allclose(added, expected, rtol=1e-8, atol=1e-8)


def test_the_default_follows_groups_not_the_distance_between_them():
    rng = np.random.default_rng(1)
    for distance in (10.0, 1e4, 1e7):
        X = np.concatenate([rng.normal(size=(60, 2)), rng.normal(size=(40, 2)) + distance])
        fitted = model(2).fit(X)
        own = [np.cov(X[:60].T, bias=True), np.cov(X[60:].T, bias=True)]
        order = np.argsort(fitted.means_[:, 0])
        np.testing.assert_allclose(fitted.covariances_[order], own, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_floor_that_dominates_a_component_is_named(kind):
    X = make_blobs(90, centers=3, random_state=42)[0]
    which = "the common covariance" if "tied" in kind else "components [0, 1, 2]"
    with pytest.warns(ConvergenceWarning, match=rf"reg_covar=1e-06 dominates .*{re.escape(which)}"):
        model(3, covariance_type=kind, reg_covar=1e-6).fit(1e-4 * X)
    for settings in ({}, {"reg_covar": 1e-12}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model(3, covariance_type=kind, **settings).fit(1e-4 * X)


def test_collapse_is_named_at_the_default():
    """Ten equal rows far away: their component has no variance of its own."""
    X = np.concatenate([np.random.default_rng(0).normal(size=(50, 2)), np.full((10, 2), 20.0)])
    with pytest.warns(ConvergenceWarning, match=r"components \[.\].*collapsed onto few distinct"):
        model(2).fit(X)
