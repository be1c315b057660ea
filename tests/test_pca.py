"""PCA as an estimator: scikit-learn's at T = 0, probabilistic PCA at T = 1, optima in between."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from _oracles import pca_hmax, pca_precision
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skbae import BayesianPCAAutoEncoder
from skbae.inference.passes import _principal_axes
from skbae.inference.passes._rows import RowRunner, make_rows

TEMPERATURES = [0.0, 0.5, 1.0, 2.0]
IRIS, DIGITS = load_iris().data, load_digits().data
EXACT = ("full", "covariance_eigh", "gram", "randomized")


def low_rank(n_rows, n_features, rank=3, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    scales = np.linspace(3, 1, rank)[:, None]
    X = rng.standard_normal((n_rows, rank)) @ (scales * rng.standard_normal((rank, n_features)))
    return X + noise * rng.standard_normal(X.shape) + 1.0


DATA = {
    "digits": (DIGITS, 10),
    "iris": (IRIS, 2),
    "iris-all": (IRIS, 4),
    "wide": (low_rank(40, 150, 10, 0.5), 8),
    "rank-deficient": (low_rank(60, 12), 3),
    "wide-rank-deficient": (low_rank(20, 50), 3),
}


def model(n_components=2, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianPCAAutoEncoder(n_components, **settings)


def corrected(X):
    """Return rows whose covariance with divisor N - 1 is that of X with divisor N."""
    mean = X.mean(axis=0)
    return mean + (X - mean) * np.sqrt(1 - 1 / len(X))


# -- scikit-learn's --------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", *EXACT])
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("name", DATA)
def test_at_zero_temperature_it_equals_scikit_learns_pca(name, whiten, solver):
    X, n_components = DATA[name]
    ours = model(n_components, temperature=0, whiten=whiten, svd_solver=solver).fit(X)
    theirs = PCA(n_components, whiten=whiten, svd_solver="full").fit(X)
    close = {"rtol": 1e-6, "atol": 1e-7 * np.abs(X).max()}
    signs = np.sign((ours.components_ * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(ours.components_ * signs[:, None], theirs.components_, **close)
    np.testing.assert_allclose(ours.transform(X) * signs, theirs.transform(X), **close)
    np.testing.assert_allclose(
        ours.inverse_transform(ours.transform(X)),
        theirs.inverse_transform(theirs.transform(X)),
        **close,
    )
    np.testing.assert_allclose(ours.singular_values_, theirs.singular_values_, rtol=1e-8)
    np.testing.assert_allclose(
        ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-8
    )
    np.testing.assert_allclose(
        ours.explained_variance_ * len(X) / (len(X) - 1), theirs.explained_variance_, rtol=1e-8
    )


def test_signs_are_scikit_learns():
    np.testing.assert_allclose(
        model(10, temperature=0).fit(DIGITS).components_,
        PCA(10).fit(DIGITS).components_,
        atol=1e-10,
    )


@pytest.mark.parametrize("name", ["digits", "iris"])
def test_at_temperature_one_it_equals_probabilistic_pca(name):
    """For wide data scikit-learn's noise counts min(N, D) directions; the optimum counts D."""
    X, n_components = DATA[name]
    ours = model(n_components).fit(X)
    theirs = PCA(n_components, svd_solver="full").fit(corrected(X))
    np.testing.assert_allclose(ours.noise_variance_, theirs.noise_variance_, rtol=1e-8)
    np.testing.assert_allclose(ours.get_covariance(), theirs.get_covariance(), atol=1e-8)
    np.testing.assert_allclose(
        ours.get_precision() @ ours.get_covariance(), np.eye(X.shape[1]), atol=1e-8
    )
    np.testing.assert_allclose(ours.score(X), theirs.score(X), rtol=1e-9)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-6)
    np.testing.assert_allclose(ours.hmaxe_, theirs.score(X), rtol=1e-9)


@pytest.mark.parametrize(("share", "whole"), [(0.9, IRIS), (0.5, DIGITS), (0.999, DIGITS)])
def test_share_of_the_variance(share, whole):
    theirs = PCA(share, svd_solver="full").fit(whole)
    ours = model(share, temperature=0).fit(whole)
    assert ours.n_components_ == theirs.n_components_
    assert ours.explained_variance_ratio_.sum() > share > ours.explained_variance_ratio_[:-1].sum()


def test_none_components_are_the_smaller_of_rows_and_features():
    assert model(None).fit(IRIS).n_components_ == 4
    assert model(None).fit(IRIS[:3]).n_components_ == 3
    assert model(None, temperature=0).fit(DIGITS).n_components_ == 64


def test_zero_components_are_a_spherical_gaussian():
    fitted = model(0).fit(IRIS)
    variance = IRIS.var(axis=0).mean()
    assert fitted.transform(IRIS).shape == (150, 0)
    normal = multivariate_normal(IRIS.mean(axis=0), variance * np.eye(4))
    np.testing.assert_allclose(fitted.score_samples(IRIS), normal.logpdf(IRIS))
    np.testing.assert_allclose(fitted.encode(IRIS).entropy(), 0)


# -- the optimum -----------------------------------------------------------------------------------


def brute_hmaxe(theta, X, n_components, temperature):
    """Return ``Hmaxe_T`` from W, mu, log s2 by dense matrices."""
    size = X.shape[1]
    loadings = theta[: size * n_components].reshape(size, n_components)
    mean, noise = theta[size * n_components : -1], np.exp(theta[-1])
    covariance = loadings @ loadings.T + noise * np.eye(size)
    return pca_hmax(X, mean, np.linalg.inv(covariance), noise, temperature).mean()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("n_components", [1, 2])
def test_an_optimiser_finds_nothing_better(n_components, temperature):
    X = IRIS[::3]
    fitted = model(n_components, temperature=temperature).fit(X)
    lengths = np.sqrt(1 / fitted.component_precisions_ - fitted.noise_variance_)
    loadings = (fitted.components_ * lengths[:, None]).T
    best = np.concatenate([loadings.ravel(), fitted.mean_, [np.log(fitted.noise_variance_)]])
    at_best = brute_hmaxe(best, X, n_components, temperature)
    np.testing.assert_allclose(at_best, fitted.hmaxe_, rtol=1e-10)
    rng = np.random.default_rng(0)
    for _ in range(3):
        start = best + 0.1 * rng.standard_normal(len(best))
        assert brute_hmaxe(start, X, n_components, temperature) < at_best - 1e-3
        found = minimize(
            lambda theta: -brute_hmaxe(theta, X, n_components, temperature),
            start,
            method="BFGS",
            options={"gtol": 1e-7},
        )
        # it comes back, and no further
        assert at_best - 1e-6 < -found.fun <= at_best + 1e-10


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_closed_form_equals_the_formula_at_any_temperature(n_components, temperature):
    values, vectors = np.linalg.eigh(np.cov(IRIS.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    q, noise = 0, values.mean()
    for i in range(1, n_components + 1):
        if 4 - temperature * i > 0:
            candidate = values[i:].sum() / (4 - temperature * i)
            if values[i - 1] > temperature * candidate:
                q, noise = i, candidate
    fitted = model(n_components, temperature=temperature).fit(IRIS)
    np.testing.assert_allclose(fitted.noise_variance_, noise, rtol=1e-9)
    shrink = np.where(
        np.arange(n_components) < q, 1 - temperature * noise / values[:n_components], 0
    )
    signs = np.sign((fitted.components_.T * vectors[:, :n_components]).sum(axis=0))
    codes = (IRIS - IRIS.mean(axis=0)) @ vectors[:, :n_components] * shrink * signs
    np.testing.assert_allclose(fitted.transform(IRIS), codes, atol=1e-9)
    scores = pca_hmax(IRIS, fitted.mean_, pca_precision(fitted), noise, temperature)
    np.testing.assert_allclose(fitted.score_samples(IRIS), scores, rtol=1e-9)
    np.testing.assert_allclose(fitted.hmaxe_, scores.mean(), rtol=1e-10)


def test_directions_melt_as_it_gets_hotter():
    left = [
        int((np.abs(model(3, temperature=T).fit(IRIS).transform(IRIS)).max(axis=0) > 0).sum())
        for T in (0.0, 1.0, 1.3, 4.0)
    ]
    assert left == sorted(left, reverse=True)
    assert left[0] == 3
    assert left[-1] < 3


@pytest.mark.parametrize("tilt", [-0.2, 0.7])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_tilted_objective_never_decreases_and_beats_the_closed_form(temperature, tilt):
    settings = {"temperature": temperature, "tilt": tilt}
    fitted = model(2, tol=1e-7, max_iter=500, **settings).fit(IRIS)
    history = np.array(fitted.lower_bounds_)
    assert np.all(np.diff(history) >= -1e-12)
    assert history[-1] > history[0] + 1e-3
    scores = fitted.score_samples(IRIS)
    np.testing.assert_allclose(
        fitted.lower_bound_, -np.log(np.mean(np.exp(-tilt * scores))) / tilt, rtol=1e-6
    )
    np.testing.assert_allclose(fitted.hmaxe_, scores.mean(), rtol=1e-9)
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        model(2, tol=0, max_iter=1, **settings).fit(IRIS)


# -- solvers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("shape", [(300, 40), (40, 300)])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_solvers_agree_with_weights(shape, solver, temperature):
    X = low_rank(*shape, 8, 0.3)
    weights = np.random.default_rng(1).uniform(0.2, 3, len(X))
    mean = np.average(X, axis=0, weights=weights)
    covariance = np.cov(X.T, bias=True, aweights=weights)
    values = np.linalg.eigvalsh(covariance)[::-1][:5]
    fitted = model(5, svd_solver=solver, temperature=temperature).fit(X, sample_weight=weights)
    np.testing.assert_allclose(fitted.mean_, mean, atol=1e-12)
    np.testing.assert_allclose(fitted.explained_variance_, values, rtol=1e-10)
    residual = fitted.components_ @ covariance - values[:, None] * fitted.components_
    assert np.abs(residual).max() < 1e-6 * values[0]
    np.testing.assert_allclose(fitted.components_ @ fitted.components_.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(fitted.hmaxe_, fitted.score(X, sample_weight=weights), rtol=1e-8)


def test_krylov_space_on_a_slowly_decaying_spectrum():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((1500, 800)) / np.sqrt(1 + np.arange(800))
    fitted = model(10, temperature=0, svd_solver="randomized").fit(X)
    exact = model(10, temperature=0, svd_solver="covariance_eigh").fit(X)
    np.testing.assert_allclose(fitted.explained_variance_, exact.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(fitted.components_, exact.components_, atol=1e-4)


def test_krylov_space_stops_early_for_nearly_equal_variances():
    """Still better than scikit-learn's randomized solver on the same rows."""
    X = np.random.default_rng(3).standard_normal((2000, 900))
    exact = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1][:10]
    ours = model(10, temperature=0, svd_solver="randomized").fit(X).explained_variance_
    theirs = PCA(10, svd_solver="randomized", random_state=0).fit(corrected(X)).explained_variance_
    assert np.all(ours <= exact * (1 + 1e-12))
    assert (exact - ours).sum() < (exact - theirs).sum()


def test_auto_chooses_the_fastest_solver():
    def chosen(n_rows, n_features, n_components):
        return _principal_axes.choose_solver(n_rows, n_features, n_components)

    assert chosen(100_000, 50, 10) == "covariance_eigh"
    assert chosen(5000, 2000, 10) == "randomized"
    assert chosen(300, 10_000, 10) == "gram"
    assert chosen(5000, 2000, 1500) == "covariance_eigh"
    assert chosen(2000, 5000, None) == "gram"


def test_memory_is_never_that_of_a_covariance():
    """Ten thousand features: one covariance would be 800 MB, the rows are 24 MB."""
    X = np.random.default_rng(4).standard_normal((300, 10_000))
    tracemalloc.start()
    try:
        fitted = model(10).fit(X)
        fitted.transform(X[:10])
        fitted.score_samples(X[:10])
        fitted.score_gradient(X[:10])
        fitted.sample(5, 0)
        fitted.denoise(X[:10], 0.1)
        fitted.encode(X[:10]).variance  # noqa: B018
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6


@pytest.mark.parametrize("solver", EXACT)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_far_from_the_origin(temperature, solver):
    X = IRIS + 1e6
    near = model(2, temperature=temperature, svd_solver=solver).fit(X - 1e6)
    far = model(2, temperature=temperature, svd_solver=solver).fit(X)
    np.testing.assert_allclose(far.explained_variance_, near.explained_variance_, rtol=1e-8)
    np.testing.assert_allclose(far.noise_variance_, near.noise_variance_, rtol=1e-7)
    np.testing.assert_allclose(far.transform(X), near.transform(X - 1e6), atol=1e-7)
    np.testing.assert_allclose(far.hmaxe_, near.hmaxe_, rtol=1e-7)
    np.testing.assert_allclose(far.score_samples(X), near.score_samples(X - 1e6), atol=1e-6)


def test_one_row_far_away_loses_no_digits():
    """It comes first, where a guess at the mean would look."""
    rng = np.random.default_rng(5)
    X = np.concatenate([[[1e7, 0.0, 0.0]], rng.standard_normal((200, 3))])
    weights = np.r_[1e-20, np.ones(200)]
    with_it = model(3, temperature=0).fit(X, sample_weight=weights)
    without = model(3, temperature=0).fit(X[1:])
    np.testing.assert_allclose(with_it.explained_variance_, without.explained_variance_, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-9, 1e8, 1e15])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scale_only_adds_its_logarithm(temperature, scale, dtype):
    X = IRIS.astype(dtype)
    one = model(2, temperature=temperature).fit(X)
    other = model(2, temperature=temperature).fit((X * scale).astype(dtype))
    tolerance = 1e-5 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(other.hmaxe_ + 4 * np.log(scale), one.hmaxe_, atol=tolerance)
    np.testing.assert_allclose(
        other.transform(X * scale) / scale, one.transform(X), rtol=1e-4, atol=10 * tolerance
    )


def test_float32_rows_far_from_the_origin_lose_no_further_digits():
    X = (10 * IRIS + 1e4).astype(np.float32)
    single, double = model(2).fit(X), model(2).fit(X.astype(np.float64))
    np.testing.assert_allclose(single.hmaxe_, double.hmaxe_, rtol=1e-9)
    np.testing.assert_allclose(single.transform(X), double.transform(X.astype(float)), atol=1e-4)


def test_passes_are_made_in_chunks():
    """Several chunks, the same sums."""
    rng = np.random.default_rng(6)
    X, weights = rng.standard_normal((9000, 7)) + 50, rng.uniform(0, 2, 9000)
    for given in (None, weights):
        with RowRunner(2) as runner:
            rows = _principal_axes.rows_with_covariance(X, given, runner)
        plain = make_rows(X, given)
        np.testing.assert_allclose(rows.centre, plain.centre)
        np.testing.assert_allclose(rows.scale, plain.scale)
        np.testing.assert_allclose(
            rows.covariance, np.cov(X.T, bias=True, aweights=given), atol=1e-10
        )
