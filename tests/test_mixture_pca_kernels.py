"""The kernels of mixtures of PCA: sums, precision and memory."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from _subspaces import (
    DIGITS,
    IRIS,
    TEMPERATURES,
    model,
    some_components,
)
from sklearn.base import clone

from skbae import BayesianMixturePCAAutoEncoder
from skbae.energies.mixture_pca._binding import bind_components
from skbae.energies.mixture_pca._components import (
    PCAComponents,
)
from skbae.energies.mixture_pca._kernel import ProductKernel, ResidualKernel
from skbae.energies.mixture_pca._many_components import ManyComponentsKernel, are_many
from skbae.inference.passes._rows import make_rows

# -- kernels -------------------------------------------------------------------------------------


def test_both_kernels_agree_with_dense_matrices():
    rng = np.random.default_rng(3)
    params, X = some_components(rng), rng.standard_normal((40, 5)) + 1
    log_weights = np.log(rng.dirichlet(np.ones(3), 2))
    codes = rng.random((2, 3, 40))
    results = []
    centre = X.mean(axis=0)
    for kernel in (
        ProductKernel(log_weights, params, centre, np.float64),
        ResidualKernel(log_weights, params),
    ):
        workspace, sums = kernel.workspace(64), kernel.zero()
        kernel.load(X, workspace)
        energies = kernel.energies(workspace)[0].copy()
        kernel.accumulate(sums, codes, None, workspace)
        results.append((energies, *kernel.moments(sums), kernel.code_gradient(X, codes)))
    counts, moments = results[0][1:3]
    for s, k in np.ndindex(2, 3):
        u, mean, noise = params.components[s, k], params.means[s, k], params.noise[s, k]
        precision = (np.eye(5) - u.T @ u) / noise + (u.T * params.precisions[s, k]) @ u
        deviations = X - mean
        square = np.einsum("nd,de,ne->n", deviations, precision, deviations)
        expected = log_weights[s, k] - 2.5 * np.log(2 * np.pi * noise) - 0.5 * square
        np.testing.assert_allclose(results[0][0][s, k], expected, rtol=1e-11)
        scatter = (deviations * codes[s, k][:, None]).T @ deviations
        np.testing.assert_allclose(counts[s, k], codes[s, k].sum())
        np.testing.assert_allclose(moments.first[s, k], codes[s, k] @ deviations, atol=1e-11)
        np.testing.assert_allclose(moments.total[s, k], np.trace(scatter))
        basis = params.basis[s, k]
        np.testing.assert_allclose(moments.products[s, k], basis @ scatter, atol=1e-10)
    for one, other in zip(results[0], results[1], strict=True):
        if isinstance(one, np.ndarray):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)
    for name in ("first", "total", "products", "basis", "reference"):
        one, other = getattr(results[0][2], name), getattr(results[1][2], name)
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("share", [1.0, 0.05, 0.0])
def test_sums_of_many_components_run_over_the_rows_that_they_have(share):
    """Where the other codes are below rounding; else over all rows. None may be forgotten."""
    rng = np.random.default_rng(5)
    n_models, n_components, n_features, n_latent, n_directions = 2, 20, 7, 2, 3
    frames = rng.standard_normal((n_models, n_components, n_features, n_features))
    basis = np.linalg.qr(frames)[0][:, :, : n_latent + n_directions]
    noise = rng.uniform(0.5, 1, (n_models, n_components))
    params = PCAComponents(
        rng.standard_normal((n_models, n_components, n_features)),
        basis[:, :, :n_latent],
        rng.uniform(0, 0.5, (n_models, n_components, n_latent)),
        noise,
        basis[:, :, n_latent:],
    )
    X, log_weights = rng.standard_normal((60, n_features)), np.zeros((n_models, n_components))
    codes = rng.random((n_models, n_components, 60)) * 1e-19  # below rounding
    own = rng.random(codes.shape) < share
    own[:, :, 0] = own[:, 3] = True
    own[:, 5] = False  # a component without rows
    codes = np.where(own, rng.random(codes.shape), codes)
    codes[:, 5] = 0
    results = []
    for kind in (ProductKernel, ManyComponentsKernel):
        kernel = kind(log_weights, params, X.mean(axis=0), np.float64)
        workspace, sums = kernel.workspace(64), kernel.zero()
        kernel.load(X, workspace)
        energies = kernel.energies(workspace)[0].copy()
        for _ in range(2):
            kernel.energies(workspace)
            kernel.accumulate(sums, codes.copy(), None, workspace)
        results.append((energies, *kernel.moments(sums)))
    for one, other in zip(results[0][:2], results[1][:2], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    for name in ("first", "total", "products", "basis", "reference"):
        one, other = (getattr(result[2], name) for result in results)
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_fits_of_many_components_are_the_same_by_either_kernel(temperature, monkeypatch):
    rng = np.random.default_rng(6)
    X = (
        rng.standard_normal((800, 40))
        + 4 * rng.standard_normal((16, 40))[rng.integers(16, size=800)]
    )
    assert are_many(16, 2, 40)
    model = BayesianMixturePCAAutoEncoder(
        16, n_latent=2, temperature=temperature, model_temperature=0, random_state=0, max_iter=8
    )
    many = clone(model).fit(X)
    monkeypatch.setattr("skbae.energies.mixture_pca._binding.are_many", lambda *size: False)
    few = clone(model).fit(X)
    np.testing.assert_allclose(many.hmaxe_, few.hmaxe_, rtol=1e-9)
    np.testing.assert_allclose(many.means_, few.means_, atol=1e-6)
    np.testing.assert_allclose(many.score_samples(X), few.score_samples(X), rtol=1e-7)


def test_the_cheapest_accurate_kernel_is_chosen():
    rng = np.random.default_rng(4)
    params, rows = some_components(rng), make_rows(rng.standard_normal((50, 5)), None)
    log_weights = np.zeros((2, 3))

    def chosen(params, dtype):
        kernel = bind_components(log_weights, params, rows.frame, dtype)
        return type(kernel), kernel.dtype

    assert chosen(params, np.float32) == (ProductKernel, np.float32)
    assert chosen(params, np.float64) == (ProductKernel, np.float64)

    def with_noise(noise):
        free = np.zeros_like(params.precisions)
        noises = np.full_like(params.noise, noise)
        return PCAComponents(params.means, params.components, free, noises, params.directions)

    assert chosen(with_noise(1e-6), np.float32) == (ProductKernel, np.float64)
    assert chosen(with_noise(1e-12), np.float32)[0] is ResidualKernel


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_energies_far_from_the_origin_keep_their_digits(temperature, dtype):
    """A shift moves the means and nothing else, to the precision that the rows still have."""
    shift = 1e4
    moved = (IRIS + shift).astype(dtype)
    rows = moved.astype(np.float64) - shift
    settings = {"n_latent": 1, "temperature": temperature, "tol": 1e-9, "max_iter": 2000}
    near, far = model(**settings).fit(rows), model(**settings).fit(moved)
    tolerance = 1e-7 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(far.hmaxe_, near.hmaxe_, rtol=tolerance)
    np.testing.assert_allclose(far.means_ - shift, near.means_, atol=1e-2)
    np.testing.assert_allclose(far.score_samples(moved), near.score_samples(rows), atol=1e-2)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(
    ("dtype", "unit"),
    [
        (np.float64, 1e148),
        (np.float64, 1e120),
        (np.float64, 1e-140),
        (np.float32, 1e33),
        (np.float32, 1e-30),
    ],
)
def test_large_and_small_units_raise_no_warning(temperature, dtype, unit):
    """Third powers of rows and single precision's squares once overflowed, the latter to NaN."""
    settings = {"n_latent": 2, "temperature": temperature}
    X = (IRIS * unit).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        usual, fitted = model(2, **settings).fit(IRIS), model(2, **settings).fit(X)
        codes, expected = fitted.encode(X), usual.encode(IRIS)
        found = codes.variance, codes.covariance
    tolerance = 1e-6 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(fitted.means_ / unit, usual.means_, rtol=tolerance)
    scale = np.r_[1.0, 1.0, np.full(4, unit)]
    np.testing.assert_allclose(
        found[0] / scale / scale, expected.variance, rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(
        found[1] / scale / scale[:, None], expected.covariance, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_float32_fits_of_digits_score_like_float64_fits(temperature):
    settings = {"n_latent": 5, "temperature": temperature, "max_iter": 30, "tol": 1e-2}
    single, double = model(8, **settings), model(8, **settings)
    single.fit(DIGITS.astype(np.float32))
    double.fit(DIGITS)
    np.testing.assert_allclose(single.hmaxe_, double.hmaxe_, rtol=1e-3)
    again = single.score_samples(DIGITS.astype(np.float32))
    np.testing.assert_allclose(again, single.score_samples(DIGITS), rtol=1e-4)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_memory_is_never_that_of_a_covariance():
    """Four thousand features: one covariance would be 128 MB, the rows are 10 MB."""
    X = np.random.default_rng(5).standard_normal((300, 4000))
    tracemalloc.start()
    try:
        fitted = model(3, n_latent=2, max_iter=3).fit(X)
        fitted.transform(X[:10])
        fitted.score_samples(X[:10])
        fitted.sample(5, 0)
        fitted.denoise(X[:10], 0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6
