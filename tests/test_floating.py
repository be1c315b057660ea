"""No floating-point warning reaches a user, whatever the rows and whatever np.seterr says."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from _altered import quick
from _instances import COVARIANCE_TYPES
from sklearn.datasets import make_blobs

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
)

BLOBS = make_blobs(60, centers=3, n_features=2, random_state=42)[0]
FAR = np.array([[0.0, 0.0], [1.0, 1.0], [1e9, -1e9]])

MODERATE = {
    "plain": BLOBS,
    "offset": BLOBS + 1e9,
    "narrow and far": BLOBS * 1e-8 + 1e6,
    "outlier": np.concatenate([BLOBS, [[1e8, -1e8]]]),
    "equal": np.full((20, 2), 7.0),
    "two distinct": np.repeat(BLOBS[:2], 10, axis=0),
    "collinear": np.column_stack([BLOBS, BLOBS.sum(axis=1)]),
    "constant": np.column_stack([BLOBS, np.full(len(BLOBS), 3.0)]),
    "bits": (BLOBS > 0).astype(float),
    "wide": np.random.default_rng(0).normal(size=(5, 12)),
    "single": BLOBS.astype(np.float32),
}
EXTREME = {
    "zeros": np.zeros((20, 2)),
    "tiny": BLOBS * 1e-140,
    "underflow": BLOBS * 1e-180,
    "denormal": BLOBS * 1e-310,
    "huge": BLOBS * 1e140,
    "overflow": BLOBS / np.abs(BLOBS).max() * 1e308,
    "far outlier": np.concatenate([BLOBS, [[1e150, 0.0]]]),
    "mixed units": BLOBS * np.array([1e-120, 1e120]),
    "large single": (BLOBS * 1e30).astype(np.float32),
    "small single": (BLOBS * 1e-30).astype(np.float32),
}
SMALL_NETWORK = {
    "hidden_layer_sizes": (4,),
    "max_iter": 3,
    "n_importance_samples": 3,
    "n_score_samples": 16,
}


def one(kind, n_components, **settings):
    return kind, {"n_components": n_components, "model_temperature": 0, **settings}


def drawn(kind, n_components, **settings):
    settings = {"model_temperature": 1, "n_models": 3, **settings}
    return kind, {"n_components": n_components, **settings}


GMM, RBM, VAE = BayesianGMMAutoEncoder, BayesianRBMAutoEncoder, BayesianVAEAutoEncoder
FAMILIES = {
    **{f"gmm-{kind}": one(GMM, 3, covariance_type=kind) for kind in COVARIANCE_TYPES},
    "gmm-T0": one(GMM, 3, temperature=0),
    "gmm-T1e-3": one(GMM, 3, temperature=1e-3),
    "gmm-tilt": one(GMM, 3, tilt=0.5),
    "gmm-tilt-": one(GMM, 2, tilt=-0.3, covariance_type="tied"),
    "gmm-emptied": one(GMM, 3, weights_init=[0, 0.5, 0.5]),
    "gmm-sampled": drawn(GMM, 3),
    "gmm-sampled-diag": drawn(GMM, 2, covariance_type="diag"),
    "gmm-tempered": drawn(GMM, 2, temperature=0.5),
    "rbm-bits": one(RBM, 3, max_iter=10, n_init=1),
    "rbm-bits-chains": one(RBM, 3, max_iter=3, partition="ais"),
    "rbm-bits-sampled": drawn(RBM, 1),
    "rbm-reals": one(RBM, 3, visible="gaussian", max_iter=10, n_init=1),
    "rbm-reals-T0": one(RBM, 3, visible="gaussian", temperature=0, max_iter=10, n_init=1),
    "rbm-reals-chains": one(RBM, 3, visible="gaussian", max_iter=3, partition="ais"),
    "rbm-reals-sampled": drawn(RBM, 1, visible="gaussian"),
    "vae": one(VAE, 2, **SMALL_NETWORK),
    "vae-T0-relu": one(VAE, 2, temperature=0, activation="relu", **SMALL_NETWORK),
    "vae-bits": one(VAE, 2, likelihood="bernoulli", **SMALL_NETWORK),
    "vae-held-out": one(VAE, 2, early_stopping=True, **SMALL_NETWORK),
    "vae-sampled": drawn(VAE, 2, **SMALL_NETWORK),
    "pca": one(BayesianPCAAutoEncoder, 1),
    "pca-T0": one(BayesianPCAAutoEncoder, 1, temperature=0),
    "pca-sampled": drawn(BayesianPCAAutoEncoder, 1),
    "mixture-pca": one(BayesianMixturePCAAutoEncoder, 2),
    "mixture-pca-T0": one(BayesianMixturePCAAutoEncoder, 2, temperature=0),
    "mixture-pca-sampled": drawn(BayesianMixturePCAAutoEncoder, 2),
}
# Every covariance type at moderate rows, and the slower ways of fitting at few of the others.
SHORT = ("gmm-full", "gmm-T0", "gmm-sampled", "rbm-reals", "rbm-bits", "vae")


def use(model, X):
    """Fit and call what there is; return whether the rows were accepted."""
    try:
        model.fit(X)
    except ValueError as error:  # refused, which is an answer
        assert "X" in str(error) or "reg_covar" in str(error)  # noqa: PT017
        return False
    rows = X[::-1]
    for method in ("score_samples", "transform", "predict", "predict_proba", "score_gradient"):
        if hasattr(model, method):
            assert np.isfinite(getattr(model, method)(rows)).all(), method
    codes = model.transform(rows)
    model.inverse_transform(codes)
    for distribution in (model.encode(rows), model.decode(codes), model.decode(model.encode(rows))):
        assert np.isfinite(distribution.mean).all()
        assert distribution.covariance.shape[0] == len(rows)
        distribution.entropy()
        distribution.sample(2, random_state=0)
    if model._has_density():
        model.sample(5, random_state=0)
        if hasattr(model, "bic"):
            model.bic(rows)
    if model.get_params().get("visible", "") != "bernoulli":
        far = rows + 1e3 * np.ptp(rows, axis=0)
        if np.isfinite(far).all() and float(np.abs(far).max()) < 1e152:
            try:
                model.score_samples(far)
            except ValueError as error:
                assert "between 0 and 1" in str(error)  # noqa: PT017
    return True


def check(name, rows):
    kind, settings = FAMILIES[name]
    refused = []
    for what, X in rows.items():
        with warnings.catch_warnings(), np.errstate(all="raise"):
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)
            if not use(quick(kind(random_state=0, **settings)), X):
                refused.append(what)
    return refused


@pytest.mark.parametrize("name", FAMILIES)
def test_no_floating_point_error_reaches_the_user(name):
    refused = check(name, MODERATE)
    if not ("bits" in name or "pca" in name):
        # all rows equal have no scale for a prior or for noise
        assert set(refused) <= {"equal"}
    assert "bits" not in refused


@pytest.mark.parametrize("name", [name for name in FAMILIES if "pca" not in name])
def test_nor_at_the_ends_of_the_range(name, request):
    few = dict(list(EXTREME.items())[::3]) if name not in SHORT else EXTREME
    refused = check(name, few)
    if name in SHORT and "bits" not in name:
        assert {"underflow", "denormal", "overflow"} <= set(refused)
        assert not {"tiny", "huge", "mixed units", "large single", "small single"} & set(refused)


def test_starts_far_from_the_rows():
    """Components without any row, from means that no row is near to, at either temperature."""
    for kind in COVARIANCE_TYPES:
        for temperature in (0, 1):
            with np.errstate(all="raise"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", RuntimeWarning)
                fitted = BayesianGMMAutoEncoder(
                    3,
                    model_temperature=0,
                    temperature=temperature,
                    covariance_type=kind,
                    means_init=FAR,
                    weights_init=[0, 1, 0],
                ).fit(BLOBS)
                assert np.isfinite(fitted.score_samples(BLOBS)).all()


def test_starts_without_a_finite_energy_are_refused_by_name():
    model = BayesianGMMAutoEncoder(
        1,
        model_temperature=0,
        weights_init=[1.0],
        means_init=[[1e160, 0.0]],
        precisions_init=[np.eye(2)],
    )
    with pytest.raises(ValueError, match="initial values are too far from X"):
        model.fit(BLOBS)


def test_threads_have_the_same_errors():
    """Rows enough for several chunks, whose passes run in threads."""
    X = np.concatenate([BLOBS] * 2000)
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = BayesianGMMAutoEncoder(3, model_temperature=0, n_jobs=2, random_state=0).fit(X)
        assert np.isfinite(fitted.score(X))


def test_rows_too_small_are_refused_and_not_taken_for_equal():
    """Variances that underflow to zero gave equal means, and the floor as the variance."""
    for kind in ("full", "diag"):
        with pytest.raises(ValueError, match="X is too small: variances underflow"):
            BayesianGMMAutoEncoder(3, model_temperature=0, covariance_type=kind).fit(BLOBS * 1e-180)


def test_predictions_of_rows_too_large_are_refused():
    fitted = BayesianGMMAutoEncoder(3, model_temperature=0, random_state=0).fit(BLOBS)
    with pytest.raises(ValueError, match="X is too large: squares of rows overflow"):
        fitted.predict([[1e160, 0.0]])


def test_single_precision_rows_far_from_the_fit_have_the_scores_of_double_precision():
    """Squares of such rows overflowed in single precision."""
    fitted = BayesianGMMAutoEncoder(3, model_temperature=0, random_state=0).fit(
        BLOBS.astype(np.float32)
    )
    for size in (1e4, 1e10, 1e20, 1e30):
        far = np.array([[size, -size], [0.0, size]])
        single = fitted.score_samples(far.astype(np.float32))
        np.testing.assert_allclose(
            single, fitted.score_samples(far.astype(np.float32).astype(float)), rtol=1e-6
        )
