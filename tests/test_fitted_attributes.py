"""Fitted attributes and predictions agree: reordering, models of one's own, and edits."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from _altered import quick
from _data import overlapping_blobs
from _instances import (
    COVARIANCE_TYPES,
    INSTANCES,
    MACHINE_INSTANCES,
    NETWORK_INSTANCES,
    SAMPLED_INSTANCES,
)
from sklearn.mixture import GaussianMixture

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# One row of the table for each family and way of fitting it.
NAMES = (
    "gmm-full",
    "gmm-tied_spherical",
    "mixture-pca-T1",
    "mixture-pca-LLGAE",
    "pca-T0.5",
    "rbm-gaussian",
    "rbm-bernoulli",
    "vae-T1",
    "gmm-sampled-diag",
    "mixture-pca-sampled",
    "pca-sampled",
    "rbm-sampled",
    "vae-sampled",
)
ALL = [*INSTANCES, *MACHINE_INSTANCES, *NETWORK_INSTANCES, *SAMPLED_INSTANCES]
ROWS = [row for row in ALL if row.name in NAMES]
MIXTURES = [
    row
    for row in ROWS
    if issubclass(row.estimator, (BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder))
]


@pytest.fixture(scope="module")
def blobs():
    return overlapping_blobs()


def fitted_to(row, rows):
    X = (rows > 0).astype(float) if row.name == "rbm-bernoulli" else rows
    return quick(row.make()).fit(X), X


# -- reordering ------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", MIXTURES, ids=lambda row: row.name)
def test_reordered_components_are_the_same_model(row, blobs):
    model, X = fitted_to(row, blobs[:60])
    before = pickle.loads(pickle.dumps(model))
    order = np.arange(len(model.weights_))[::-1]
    assert model.reorder_components(order) is model
    np.testing.assert_array_equal(model.means_, before.means_[order])
    np.testing.assert_array_equal(model.models_.means, before.models_.means[:, order])
    np.testing.assert_allclose(
        model.predict_proba(X), before.predict_proba(X)[:, order], atol=1e-12
    )
    np.testing.assert_allclose(model.score_samples(X), before.score_samples(X), rtol=1e-12)
    np.testing.assert_allclose(
        model.inverse_transform(model.transform(X)),
        before.inverse_transform(before.transform(X)),
        atol=1e-10,
    )
    # twice the reversal is the model as it was, in all arrays
    model.reorder_components(order)
    for name, value in vars(before).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(model, name), value)
    np.testing.assert_array_equal(model.models_.means, before.models_.means)


@pytest.mark.parametrize("order", [[0, 0], [0], [1, 2], 1, [[0, 1]], [0.5, 1], ["a", "b"]])
def test_an_order_must_be_a_permutation(order, blobs):
    model = BayesianGMMAutoEncoder(2, model_temperature=0, random_state=0).fit(blobs)
    means = model.means_.copy()
    with pytest.raises(ValueError, match="permutation of the components 0 to 1"):
        model.reorder_components(order)
    np.testing.assert_array_equal(model.means_, means)


# -- edits -----------------------------------------------------------------------------------------


def edited(value, sort):
    """Return a fitted attribute in another order, or with another first number."""
    if isinstance(value, list):
        return [edited(value[0], sort), *value[1:]]
    changed = np.array(value, dtype=float)
    if sort and changed.ndim and len(changed) > 1:
        return changed[::-1]
    changed.flat[0] += 1.0
    return changed


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_edited_attribute_raises_where_it_would_be_ignored(row, blobs):
    """Each attribute of the reference model; predictions used to follow models_ in silence."""
    model, X = fitted_to(row, blobs[:40])
    codes = model.transform(X)
    for name in model._fitted.reference:
        for sort in (True, False):
            own = getattr(model, name)
            other = edited(own, sort)
            if sort and not isinstance(own, list) and np.array_equal(other, own):
                continue  # equal weights or empty precisions, whatever their order
            setattr(model, name, other)
            for method, argument in (
                ("score_samples", X),
                ("transform", X),
                ("inverse_transform", codes),
                ("decode", codes),
                ("encode", X),
            ):
                with pytest.raises(ValueError, match=f"^{name} of this .* changed since the fit"):
                    getattr(model, method)(argument)
            with pytest.raises(ValueError, match=name):
                model.sample()
            setattr(model, name, own)
    model.score_samples(X)
    # in place, and after a round trip
    copy = pickle.loads(pickle.dumps(model))
    copy.score_samples(X)
    name = next(iter(copy._fitted.reference))
    first = getattr(copy, name)
    (first[0] if isinstance(first, list) else first).flat[0] += 1.0
    with pytest.raises(ValueError, match=name):
        copy.score_samples(X)
    copy.fit(X).score_samples(X)


# -- models of one's own ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_a_model_from_the_parameters_of_a_fit_is_that_fit(kind, temperature, blobs):
    settings = {"covariance_type": kind, "temperature": temperature}
    fit = BayesianGMMAutoEncoder(3, model_temperature=0, random_state=0, **settings).fit(blobs)
    own = BayesianGMMAutoEncoder.from_parameters(
        fit.weights_, fit.means_, fit.covariances_, model_temperature=0, **settings
    )
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(getattr(own, name), getattr(fit, name), rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(own.score_samples(blobs), fit.score_samples(blobs), rtol=1e-9)
    np.testing.assert_allclose(own.transform(blobs), fit.transform(blobs), atol=1e-9)
    np.testing.assert_allclose(own.bic(blobs), fit.bic(blobs), rtol=1e-9)
    np.testing.assert_array_equal(own.predict(blobs), fit.predict(blobs))
    np.testing.assert_allclose(own.denoise(blobs, 0.1), fit.denoise(blobs, 0.1), rtol=1e-7)
    X, labels = own.sample(50, random_state=0)
    assert X.shape == (50, 3)
    assert set(labels) <= {0, 1, 2}
    assert own.n_features_in_ == 3
    assert not hasattr(own, "hmaxe_")
    pickle.loads(pickle.dumps(own)).score_samples(blobs)


def test_a_model_of_ones_own_is_a_start(blobs):
    fit = BayesianGMMAutoEncoder(3, model_temperature=0, max_iter=3, random_state=0).fit(blobs)
    own = BayesianGMMAutoEncoder.from_parameters(
        fit.weights_, fit.means_, fit.covariances_, model_temperature=0, warm_start=True
    )
    np.testing.assert_allclose(own.fit(blobs).lower_bounds_[0], fit.lower_bound_, rtol=1e-9)


def test_a_model_of_ones_own_has_the_density_of_scikit_learns(blobs):
    theirs = GaussianMixture(3, random_state=0).fit(blobs)
    own = BayesianGMMAutoEncoder.from_parameters(
        theirs.weights_, theirs.means_, theirs.covariances_
    )
    np.testing.assert_allclose(own.score_samples(blobs), theirs.score_samples(blobs), rtol=1e-9)
    np.testing.assert_allclose(own.predict_proba(blobs), theirs.predict_proba(blobs), atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [0.5, 0.6]}, "weights must not be negative and must sum to 1"),
        ({"weights": [1.0]}, "weights must have shape"),
        ({"means": [0.0, 1.0]}, "means must have shape"),
        ({"means": [[np.nan], [0.0]]}, "means must be finite"),
        ({"covariances": [1.0, 1.0]}, "covariances must have shape"),
        ({"covariances": [[[1.0]], [[-1.0]]]}, "covariances must be positive definite"),
        ({"reg_covar": -1.0}, "reg_covar"),
    ],
)
def test_parameters_are_checked(changes, message):
    given = {"weights": [0.5, 0.5], "means": [[0.0], [1.0]], "covariances": [[[1.0]], [[1.0]]]}
    with pytest.raises(ValueError, match=message):
        BayesianGMMAutoEncoder.from_parameters(**{**given, **changes})
