"""Mixtures of PCA against PCA, dense matrices, k-means and enumeration."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from _oracles import denoise, finite_differences, subspace_joint, subspaces
from scipy.special import gammaln, logsumexp, softmax
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder
from skbae.energies._mixture import MixtureParameters
from skbae.energies._mixture_pca import (
    PCAComponents,
    PCAFamily,
    PCAMixture,
    nearest_mean_components,
    orthonormal_rows,
    pooled_noise,
)
from skbae.energies._mixture_pca_kernel import ProductKernel, ResidualKernel, bind_components
from skbae.energies._mixture_pca_prior import PCAFamilyWithPrior, PCAMixtureWithPrior
from skbae.energies._pca import PCAEnergy, PCAParameters, melt
from skbae.energies._pca_prior import BayesianPCAEnergy, PCAPrior, RowMoments
from skbae.estimators import _sampled
from skbae.estimators._mixture_pca_fit import MAX_SAMPLED_COORDINATES
from skbae.inference._em import expectation_maximisation
from skbae.inference._rows import RowRunner, make_rows
from skbae.inference._smc import EnergyTarget, SMCPlan, sample_tempered
from skbae.model_selection import hmaxemax_scorer

TEMPERATURES = [0.0, 0.5, 1.0, 2.0]
IRIS, DIGITS = load_iris().data, load_digits().data
TRAIN, TEST = DIGITS[:1400], DIGITS[1400:]


def model(n_components=3, **settings):
    settings = {"model_temperature": 0, "random_state": 0, "max_iter": 1000, **settings}
    return BayesianMixturePCAAutoEncoder(n_components, **settings)


def some_components(rng, n_models=2, n_components=3, n_latent=2, n_features=5, n_directions=2):
    shape = (n_models, n_components)
    basis = orthonormal_rows(rng.standard_normal((*shape, n_latent + n_directions, n_features)))
    noise = rng.uniform(0.3, 0.6, shape)
    precisions = rng.uniform(0.1, 1.0, (*shape, n_latent)) / noise[..., None]
    means = rng.standard_normal((*shape, n_features))
    return PCAComponents(means, basis[:, :, :n_latent], precisions, noise, basis[:, :, n_latent:])


def rounding(fitted, rows):
    """Return a few units in the last place of what energies are differences of."""
    terms = rows.var(axis=0).sum() / np.min(fitted.noise_variance_)
    return 2 * np.finfo(float).eps * (terms + abs(fitted.hmaxe_))


# -- expectation maximisation --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(
    ("rows", "n_components", "n_latent"), [(IRIS, 3, 1), (IRIS, 3, 2), (DIGITS, 8, 5)]
)
def test_the_objective_never_falls(rows, n_components, n_latent, temperature, tied):
    """Each difference, to a few units in the last place of the terms that an energy adds."""
    fitted = model(
        n_components,
        n_latent=n_latent,
        temperature=temperature,
        tied_noise=tied,
        tol=0,
        max_iter=60,
    ).fit(rows)
    values = np.array(fitted.lower_bounds_)
    assert len(values) > 5
    assert np.all(np.diff(values) >= -rounding(fitted, rows))
    assert values[-1] > values[0]


@pytest.mark.parametrize("tilt", [-0.4, 0.7])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_tilted_objective_never_falls(temperature, tilt):
    fitted = model(n_latent=1, temperature=temperature, tilt=tilt, tol=1e-6).fit(IRIS)
    assert np.all(np.diff(fitted.lower_bounds_) >= -rounding(fitted, IRIS))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_reconstruction_error_never_rises():
    """Equal weights and tied noise at T = 0: alternating assignment and PCA."""
    errors = []
    for max_iter in range(20):
        fitted = model(
            6,
            n_latent=3,
            temperature=0,
            equal_weights=True,
            tied_noise=True,
            tol=0,
            max_iter=max_iter,
        ).fit(DIGITS)
        again = fitted.inverse_transform(fitted.transform(DIGITS))
        errors.append(((DIGITS - again) ** 2).sum())
    assert np.all(np.diff(errors) <= 1e-12 * np.array(errors[1:]))
    assert errors[-1] < 0.9 * errors[0]


def pca_optimum(rows, n_latent, temperature):
    """Return PCA's closed form and its objective."""
    energy, rows = PCAEnergy(n_latent, rows.shape[1], temperature), make_rows(rows, None)
    start = PCAParameters(
        rows.centre[None],
        np.eye(energy.n_features)[None, :n_latent],
        np.ones((1, n_latent)),
        np.ones(1),
    )
    with RowRunner() as runner:
        for _ in range(2):
            kernel = energy.expectation(start, rows.frame, np.float64, temperature, 0.0)
            statistics = runner.reduce(kernel, rows)
            start = energy.maximise(statistics, start)
        kernel = energy.expectation(start, rows.frame, np.float64, temperature, 0.0)
        return start, runner.reduce(kernel, rows).objective[0]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(
    ("rows", "n_latent"), [(IRIS, 1), (IRIS, 2), (IRIS, 3), (DIGITS, 5), (DIGITS[:200], 40)]
)
def test_one_component_is_pca(rows, n_latent, temperature):
    fitted = model(1, n_latent=n_latent, temperature=temperature, tol=0, max_iter=80).fit(rows)
    expected, objective = pca_optimum(rows, n_latent, temperature)
    np.testing.assert_allclose(fitted.hmaxe_, objective, rtol=1e-12)
    np.testing.assert_allclose(fitted.means_, expected.means, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(fitted.noise_variance_, expected.noise, rtol=1e-9)
    np.testing.assert_allclose(
        fitted.component_precisions_, expected.precisions, rtol=1e-7, atol=1e-12
    )
    weighted = expected.components[0] * expected.shrink[0][:, None]
    projection = expected.components[0].T @ weighted
    shrink = 1 - fitted.noise_variance_[0] * fitted.component_precisions_[0]
    ours = fitted.components_[0].T @ (fitted.components_[0] * shrink[:, None])
    np.testing.assert_allclose(ours, projection, atol=1e-6)
    solid = expected.shrink[0] > 1e-9
    variances = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1][:n_latent]
    np.testing.assert_allclose(fitted.explained_variance_[0][solid], variances[solid], rtol=1e-7)


@pytest.mark.parametrize("n_latent", [2, 4])
def test_one_component_at_zero_is_scikit_learns_pca(n_latent):
    fitted = model(1, n_latent=n_latent, temperature=0, tol=1e-13).fit(IRIS)
    theirs = PCA(n_latent).fit(IRIS)
    signs = np.sign((fitted.components_[0] * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(
        fitted.transform(IRIS)[:, 1:] * signs, theirs.transform(IRIS), atol=1e-6
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_tied_noise_of_one_group_is_melting(temperature):
    """The pooled root is PCA's closed form, whatever has melted."""
    rng = np.random.default_rng(0)
    values = np.sort(rng.gamma(0.5, 1.0, (500, 6)), axis=1)[:, ::-1]
    total, ones = values.sum(axis=1), np.ones((500, 4))
    ours = pooled_noise(values[:, :4], ones, total, np.full(500, 6.0), temperature, np.zeros(500))
    theirs, _ = melt(values[:, :4], total, 6, temperature)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tied_noise_is_the_best(temperature):
    """No other noise does better, with precisions best for it."""
    rng = np.random.default_rng(1)
    values, counts = rng.gamma(0.6, 1.0, (1, 3, 5)), np.array([[3.0, 10.0, 5.0]])
    values = -np.sort(-values, axis=2)
    top, total = values[..., :3], values.sum(axis=2)
    noise = pooled_noise(
        top.reshape(1, 9),
        np.repeat(counts, 3, axis=1),
        (counts * total).sum(axis=1),
        counts.sum(axis=1) * 5,
        temperature,
        np.zeros(1),
    )[0]

    def objective(s2):
        precisions = np.minimum(temperature / top, 1 / s2)
        own = 0.5 * temperature * np.log(precisions * s2) - 0.5 * precisions * top
        rest = (total - top.sum(axis=2)) / (2 * s2)
        return (counts * (own.sum(axis=2) - rest - 2.5 * np.log(s2))).sum()

    others = noise * np.exp(np.linspace(-2, 2, 401))
    assert objective(noise) >= max(objective(s2) for s2 in others) - 1e-12


def test_no_latent_is_a_spherical_mixture():
    fitted = model(3, n_latent=0, tol=1e-13).fit(IRIS)
    theirs = BayesianGMMAutoEncoder(
        3,
        model_temperature=0,
        covariance_type="spherical",
        reg_covar=0,
        weights_init=fitted.weights_,
        means_init=fitted.means_,
        precisions_init=1 / fitted.noise_variance_,
        tol=1e-13,
        max_iter=500,
    ).fit(IRIS)
    np.testing.assert_allclose(theirs.means_, fitted.means_, atol=1e-5)
    np.testing.assert_allclose(theirs.hmaxe_, fitted.hmaxe_, rtol=1e-12)
    np.testing.assert_allclose(theirs.predict_proba(IRIS), fitted.transform(IRIS), atol=1e-5)


def test_no_latent_at_zero_is_k_means():
    fitted = model(4, n_latent=0, temperature=0, equal_weights=True, tied_noise=True).fit(IRIS)
    theirs = KMeans(4, init=fitted.means_, n_init=1, tol=0).fit(IRIS)
    np.testing.assert_allclose(theirs.cluster_centers_, fitted.means_, atol=1e-9)
    np.testing.assert_array_equal(theirs.predict(IRIS), fitted.predict(IRIS))


@pytest.mark.parametrize("seed", range(3))
def test_digits(seed):
    """The figures that the family is for, on rows held out."""
    pca = PCA(5).fit(TRAIN)
    error = ((TEST - pca.inverse_transform(pca.transform(TEST))) ** 2).sum()
    hard = model(8, n_latent=5, temperature=0, random_state=seed).fit(TRAIN)
    own = ((TEST - hard.inverse_transform(hard.transform(TEST))) ** 2).sum()
    assert own < 0.7 * error
    soft = model(8, n_latent=5, random_state=seed).fit(TRAIN)
    assert soft.score(TEST) > pca.score(TEST) + 10


def test_few_distinct_rows_stay_finite():
    """Components with fewer rows than dimensions meet the floor, not infinity."""
    X = np.repeat(np.random.default_rng(0).standard_normal((6, 5)), 4, axis=0)
    for temperature in TEMPERATURES:
        fitted = model(5, n_latent=2, temperature=temperature).fit(X)
        assert np.isfinite(fitted.score_samples(X)).all()
        assert fitted.noise_variance_.min() >= 0.999e-6 * X.var(axis=0).mean()
        values = np.array(fitted.lower_bounds_)
        assert np.all(np.diff(values) >= -rounding(fitted, X))


def test_a_component_without_rows_stays_as_it_is():
    rng = np.random.default_rng(2)
    rows, params = make_rows(IRIS, None), some_components(rng, 1, 2, 1, 4, 3)
    params = PCAComponents(
        np.stack([[IRIS.mean(axis=0), np.full(4, 1e5)]]),
        params.components,
        params.precisions,
        params.noise,
        params.directions,
    )
    family = PCAFamily(2, 1, 4, 1.0)
    energy = PCAMixture(family)
    start = MixtureParameters(np.full((1, 2), 0.5), params)
    with RowRunner(1) as runner:
        found = expectation_maximisation(
            energy, start, rows, runner, temperature=1.0, tol=0, max_iter=5
        )
    new = found.params.components
    assert found.params.weights[0, 1] == 0
    for name in ("means", "components", "precisions", "noise"):
        np.testing.assert_array_equal(getattr(new, name)[:, 1], getattr(params, name)[:, 1])


def test_warm_start_goes_on_where_it_was():
    with pytest.warns(ConvergenceWarning):
        fitted = model(warm_start=True, max_iter=3, tol=0).fit(IRIS)
    first = fitted.lower_bound_
    with pytest.warns(ConvergenceWarning):
        fitted.fit(IRIS)
    np.testing.assert_allclose(fitted.lower_bounds_[0], first, rtol=1e-12)
    assert fitted.lower_bound_ > first
    with pytest.raises(ValueError, match=r"warm_start.*\(3, 1, 4, False\).*\(3, 2, 4, False\)"):
        fitted.set_params(n_latent=2).fit(IRIS)


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


def test_the_kernel_that_is_sound_is_chosen():
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
def test_far_from_the_origin(temperature, dtype):
    """A shift moves the means and nothing else, to the precision that the rows still have."""
    shift = 1e4
    moved = (IRIS + shift).astype(dtype)
    rows = moved.astype(np.float64) - shift
    settings = {"n_latent": 1, "temperature": temperature, "tol": 1e-5}
    near, far = model(**settings).fit(rows), model(**settings).fit(moved)
    tolerance = 1e-7 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(far.hmaxe_, near.hmaxe_, rtol=tolerance)
    np.testing.assert_allclose(far.means_ - shift, near.means_, atol=1e-2)
    np.testing.assert_allclose(far.score_samples(moved), near.score_samples(rows), atol=1e-2)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_float32_on_digits(temperature):
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


# -- codes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("n_latent", [0, 1, 2])
def test_the_code_is_linear(temperature, n_latent):
    fitted = model(3, n_latent=n_latent, temperature=temperature).fit(IRIS)
    Z = fitted.transform(IRIS)
    assert Z.shape == (150, 3 * (1 + n_latent))
    assert fitted.get_feature_names_out()[0] == "bayesianmixturepcaautoencoder0"
    assert len(fitted.get_feature_names_out()) == Z.shape[1]
    proba = fitted.predict_proba(IRIS)
    noise = np.broadcast_to(fitted.noise_variance_, 3)
    expected = np.zeros(IRIS.shape)
    for k in range(3):
        y = (IRIS - fitted.means_[k]) @ fitted.components_[k].T
        y *= 1 - noise[k] * fitted.component_precisions_[k]
        np.testing.assert_allclose(
            Z[:, 3 + k * n_latent : 3 + (k + 1) * n_latent], proba[:, [k]] * y, atol=1e-9
        )
        expected += proba[:, [k]] * (fitted.means_[k] + y @ fitted.components_[k])
    np.testing.assert_allclose(fitted.inverse_transform(Z), expected, atol=1e-9)
    mixed = 0.3 * Z[:50] + 0.7 * Z[50:100]
    lines = 0.3 * expected[:50] + 0.7 * expected[50:100]
    np.testing.assert_allclose(fitted.inverse_transform(mixed), lines, atol=1e-9)
    np.testing.assert_allclose(fitted.decode(Z).mean, expected, atol=1e-9)
    np.testing.assert_allclose(fitted.decode(fitted.encode(IRIS)).mean, expected, atol=1e-9)


def test_encode_is_the_posterior():
    """Conditioning the joint normal of code and row, one component."""
    fitted = model(1, n_latent=2, tol=1e-12).fit(IRIS)
    s2, u = fitted.noise_variance_[0], fitted.components_[0]
    lengths = np.sqrt(1 / fitted.component_precisions_[0] - s2)
    loadings = u.T * lengths
    inverse = np.linalg.inv(loadings @ loadings.T + s2 * np.eye(4))
    mean = (IRIS - fitted.means_[0]) @ inverse @ loadings * lengths
    covariance = np.eye(2) - loadings.T @ inverse @ loadings
    covariance = covariance * np.outer(lengths, lengths)
    code = fitted.encode(IRIS)
    np.testing.assert_allclose(code.mean[:, 1:], mean, atol=1e-9)
    np.testing.assert_allclose(code.variance[0, 1:], np.diag(covariance), rtol=1e-9)
    entropy = multivariate_normal(np.zeros(2), covariance).entropy()
    np.testing.assert_allclose(code.entropy(), entropy, rtol=1e-9)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_draws_of_codes_have_their_moments(temperature):
    fitted = model(3, n_latent=1, temperature=temperature).fit(IRIS)
    code, n = fitted.encode(IRIS[45:60]), 4000
    draws = code.sample(n, random_state=0)
    assert draws.shape == (n, 15, 6)
    assert np.all(np.sort(draws[..., :3], axis=-1) == [0, 0, 1])
    error = np.sqrt(code.variance / n)
    assert np.all(np.abs(draws.mean(axis=0) - code.mean) <= 5 * error + 1e-12)
    spread = draws.var(axis=0)
    fourth = ((draws - draws.mean(axis=0)) ** 4).mean(axis=0)
    error = np.sqrt(np.maximum(fourth - spread**2, 0) / n)
    # coordinates of components that are drawn often enough to tell their own error
    seen = code.probabilities * n > 100
    assert seen.sum() >= 15
    off = np.abs(spread - code.variance) - 5 * error
    assert np.all(off[:, 3:][seen] <= 1e-9)


def test_decoded_rows():
    fitted = model(3, n_latent=1, temperature=2.0).fit(IRIS)
    for rows in (
        fitted.decode(fitted.encode(IRIS[::10])),
        fitted.decode(fitted.transform(IRIS[::10])),
    ):
        n = 4000
        draws = rows.sample(n, random_state=1)
        assert draws.shape == (n, 15, 4)
        error = np.sqrt(rows.variance / n)
        assert np.all(np.abs(draws.mean(axis=0) - rows.mean) < 5 * error)
        np.testing.assert_allclose(
            np.diagonal(rows.covariance, axis1=1, axis2=2), rows.variance, rtol=1e-9
        )
        for row in (0, 7):
            sample = np.cov(draws[:, row].T)
            scale = np.sqrt(np.outer(rows.variance[row], rows.variance[row]))
            assert np.all(np.abs(sample - rows.covariance[row]) < 5 * 2 * scale / np.sqrt(n))
        # the density at draws, by the dense mixture
        noise = rows.noise
        log_density = []
        for k in range(3):
            covariance = noise[k] * np.eye(4)
            covariance += (rows.components[k].T * rows.spread[k]) @ rows.components[k]
            centre = rows.means[k] + rows.coordinates[7, k] @ rows.components[k]
            normal = multivariate_normal(centre, covariance)
            log_density.append(np.log(rows.probabilities[7, k]) + normal.logpdf(draws[:, 7]))
        np.testing.assert_allclose(
            rows.log_density(draws)[:, 7], logsumexp(log_density, axis=0), rtol=1e-9
        )
        surprise = -rows.log_density(draws)
        error = surprise.std(axis=0) * np.sqrt(1 / n + 1 / 1000)
        assert np.all(np.abs(rows.entropy() - surprise.mean(axis=0)) < 5 * error)


def test_entropy_of_a_single_component_is_exact():
    fitted = model(1, n_latent=2).fit(IRIS)
    rows = fitted.decode(fitted.encode(IRIS[:2]))
    expected = multivariate_normal(np.zeros(4), rows.covariance[0]).entropy()
    np.testing.assert_allclose(rows.entropy(), expected, rtol=1e-12)


def test_bad_codes():
    fitted = model(2, n_latent=1).fit(IRIS)
    for method in (fitted.inverse_transform, fitted.decode):
        with pytest.raises(ValueError, match=r"Z must have 4 columns.*got 3"):
            method(np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"first 2 columns.*row sums from 2 to 2"):
        fitted.decode(np.ones((3, 4)))


# -- densities -----------------------------------------------------------------------------------


def dense_covariances(fitted):
    return np.linalg.inv(subspaces(fitted))


def test_sample_has_the_moments_of_the_model():
    fitted = model(3, n_latent=1).fit(IRIS)
    n = 40_000
    X, codes = fitted.sample(n, random_state=0)
    labels = codes[:, :3].argmax(axis=1)
    np.testing.assert_array_equal(codes[:, :3].sum(axis=1), 1)
    share = np.bincount(labels) / n
    weights = fitted.weights_
    assert np.all(np.abs(share - weights) < 5 * np.sqrt(weights * (1 - weights) / n))
    covariances = dense_covariances(fitted)
    # a code decodes to where its row is, up to the noise
    residual = X - fitted.inverse_transform(codes)
    for k in range(3):
        own = X[labels == k]
        scale = np.sqrt(np.outer(np.diag(covariances[k]), np.diag(covariances[k])))
        bound = 5 * 2 * scale / np.sqrt(len(own))
        assert np.all(np.abs(np.cov(own.T) - covariances[k]) < bound)
        size = residual[labels == k]
        s2 = fitted.noise_variance_[k]
        assert abs((size**2).mean() / s2 - 1) < 5 * np.sqrt(2 / size.size)


@pytest.mark.parametrize("variance", [0.01, 1.0])
def test_denoise_is_the_conditional_mean(variance):
    fitted = model(3, n_latent=2).fit(IRIS)
    expected = denoise(IRIS, fitted.weights_, fitted.means_, dense_covariances(fitted), variance)
    np.testing.assert_allclose(fitted.denoise(IRIS, variance), expected, atol=1e-9)


def test_tweedie():
    """``E[clean | noisy] = x + v grad log`` of the density with noise, by finite differences."""
    fitted, variance = model(2, n_latent=1).fit(IRIS), 0.3
    convolved = dense_covariances(fitted) + variance * np.eye(4)

    def log_density(rows):
        parts = [
            np.log(w) + multivariate_normal(m, c).logpdf(rows)
            for w, m, c in zip(fitted.weights_, fitted.means_, convolved, strict=True)
        ]
        return logsumexp(parts, axis=0)

    expected = IRIS + variance * finite_differences(log_density, IRIS)
    np.testing.assert_allclose(fitted.denoise(IRIS, variance), expected, atol=1e-7)


def test_at_zero_there_is_no_density():
    fitted = model(2, n_latent=1, temperature=0).fit(IRIS)
    assert hmaxemax_scorer(fitted, IRIS) == -np.inf
    for method in (
        lambda: fitted.sample(3),
        lambda: fitted.denoise(IRIS, 0.1),
        lambda: fitted.bic(IRIS),
        lambda: fitted.aic(IRIS),
    ):
        with pytest.raises(ValueError, match=r"needs a density.*temperature=1"):
            method()
    spheres = model(2, n_latent=0, temperature=0).fit(IRIS)
    assert np.isfinite(hmaxemax_scorer(spheres, IRIS))
    assert spheres.sample(3, 0)[1].shape == (3, 2)


@pytest.mark.parametrize(("n_components", "n_latent", "free"), [(1, 2, 4 + 7 + 1), (3, 1, 29)])
def test_criteria_count_what_is_free(n_components, n_latent, free):
    fitted = model(n_components, n_latent=n_latent).fit(IRIS)
    log_density = fitted.score_samples(IRIS).sum()
    np.testing.assert_allclose(fitted.aic(IRIS), -2 * log_density + 2 * free)
    np.testing.assert_allclose(fitted.bic(IRIS), -2 * log_density + np.log(150) * free)


def test_grid_search_finds_the_plane():
    """Three flat groups: one dimension each, or two, is told apart by rows held out."""
    rng = np.random.default_rng(6)
    frames = np.linalg.qr(rng.standard_normal((3, 8, 2)))[0]
    X = np.concatenate(
        [8 * rng.standard_normal(8) + 2 * rng.standard_normal((100, 2)) @ f.T for f in frames]
    )
    X += 0.3 * rng.standard_normal(X.shape)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), model(3, n_init=3)),
        {
            "bayesianmixturepcaautoencoder__n_components": [1, 3],
            "bayesianmixturepcaautoencoder__n_latent": [0, 1, 2],
        },
        scoring=hmaxemax_scorer,
        cv=KFold(3, shuffle=True, random_state=0),
        error_score="raise",
    ).fit(X)
    assert list(search.best_params_.values()) == [3, 2]


# -- bad input -----------------------------------------------------------------------------------

nan = float("nan")


@pytest.mark.parametrize(
    ("name", "value", "error", "says"),
    [
        ("n_latent", -1, ValueError, ">= 0"),
        ("n_latent", 1.5, TypeError, "integer"),
        ("n_latent", None, TypeError, "integer"),
        ("tied_noise", 1, TypeError, "True or False"),
        ("equal_weights", "no", TypeError, "True or False"),
        ("component_variance_prior", 0.0, ValueError, "> 0"),
        ("component_variance_prior", nan, ValueError, "None or a finite"),
        ("mean_precision_prior", None, TypeError, "number"),
        ("noise_shape_prior", 0, ValueError, "> 0"),
        ("noise_shape_prior", None, TypeError, "number"),
        ("noise_scale_prior", -1.0, ValueError, "> 0"),
        ("weight_concentration_prior", 0.0, ValueError, "> 0"),
        ("n_components", 0, ValueError, ">= 1"),
        ("temperature", -1.0, ValueError, ">= 0"),
        ("tilt", -1.0, ValueError, "> -1"),
        ("init_params", "clever", ValueError, "'k-means++'"),
    ],
)
def test_bad_parameters(name, value, error, says):
    """Before the data are looked at."""
    with pytest.raises(error, match=name) as caught:
        model(**{name: value}).fit(None)
    assert says in str(caught.value)
    assert repr(value) in str(caught.value)


def test_parameters_that_do_not_fit_the_data():
    with pytest.raises(ValueError, match="n_latent must be at most n_features=4, got 5"):
        model(n_latent=5).fit(IRIS)
    with pytest.raises(ValueError, match=r"mean_prior.*\(n_features,\) = \(4,\), got \(3,\)"):
        model(mean_prior=np.zeros(3)).fit(IRIS)
    with pytest.raises(ValueError, match="n_components=11, n_samples=10"):
        model(11).fit(IRIS[:10])
    with pytest.raises(ValueError, match="all rows of X are equal"):
        model(1).fit(np.ones((5, 3)))


def test_too_large_to_be_sampled():
    with pytest.raises(ValueError, match=rf"{MAX_SAMPLED_COORDINATES}.*model_temperature=0"):
        BayesianMixturePCAAutoEncoder(8, n_latent=5).fit(DIGITS)


# -- sampling ------------------------------------------------------------------------------------


def small_rows(n, n_features=2, seed=7):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_features)) * [1.5, 0.5, 0.8][:n_features]
    X[n // 2 :] += 2
    return X


PRIOR = PCAPrior(0.9, np.array([0.3, -0.2]), 4.0, 1.5, 0.5)


def mixture(n_components, n_latent, temperature, tied=False, equal=False, prior=PRIOR):
    size = len(prior.mean)
    family = PCAFamilyWithPrior(n_components, n_latent, size, temperature, tied, prior)
    return PCAMixtureWithPrior(family, np.full(n_components, 1.6), equal)


def tempered(energy, rows, temperature, seed=0, n_particles=4096):
    """Return the log evidence by sampling, with its standard error over islands."""
    with RowRunner() as runner:
        run = sample_tempered(
            energy,
            rows,
            runner,
            np.random.default_rng(seed),
            temperature=temperature,
            model_temperature=temperature,
            tilt=0.0,
            plan=SMCPlan(n_islands=8, n_particles=n_particles),
        )
    peak = run.log_evidence.max()
    shares = np.exp(run.log_evidence - peak)
    return np.log(shares.mean()) + peak, shares.std(ddof=1) / shares.mean() / np.sqrt(8), run


@pytest.mark.parametrize(
    ("temperature", "tilt", "n_latent", "tied", "equal"),
    [
        (1, 0, 1, False, False),
        (0.5, 0, 2, True, False),
        (2, 0.5, 2, False, True),
        (0, 0, 1, False, False),
        (1, -0.3, 0, True, False),
    ],
)
def test_gradients_equal_finite_differences(temperature, tilt, n_latent, tied, equal):
    energy = mixture(2, n_latent, temperature, tied, equal)
    rows = make_rows(small_rows(30), np.random.default_rng(8).uniform(0.5, 2, 30))
    theta = 0.5 * energy.draw_prior_coordinates(5, np.random.default_rng(9))
    assert theta.shape[1] == len(energy.coordinate_kinds())
    with RowRunner(1) as runner:
        target = EnergyTarget(energy, rows, runner, temperature, tilt)
        for function in (target.objective, target.prior):
            gradient, step = function(theta)[1], 1e-5
            for index, shift in enumerate(step * np.eye(theta.shape[1])):
                difference = function(theta + shift)[0] - function(theta - shift)[0]
                np.testing.assert_allclose(
                    gradient[:, index],
                    difference / (2 * step),
                    rtol=1e-6,
                    atol=1e-7 * np.abs(gradient).max(),
                )


@pytest.mark.parametrize("tied", [False, True])
def test_coordinates_and_models_are_one_to_one(tied):
    energy = mixture(3, 2, 1.0, tied)
    theta = energy.draw_prior_coordinates(20, np.random.default_rng(10))
    params = energy.canonical(energy.constrain(theta))
    again = energy.canonical(energy.constrain(energy.unconstrain(params)))
    np.testing.assert_allclose(again.weights, params.weights, rtol=1e-10)
    for name in ("means", "noise", "precisions"):
        one, other = getattr(again.components, name), getattr(params.components, name)
        np.testing.assert_allclose(one, other, rtol=1e-6)
    loadings = theta[:, 3 : 3 + 12].reshape(20, 3, 2, 2) * np.sqrt(PRIOR.component_variance)
    components = params.components
    noise = np.broadcast_to(components.noise, (20, 3))[..., None]
    lengths = 1 / components.precisions - noise
    ours = np.einsum("skid,ski,skie->skde", components.components, lengths, components.components)
    scale = np.abs(ours).max(axis=(2, 3), keepdims=True)
    expected = np.matmul(loadings, np.swapaxes(loadings, 2, 3))
    np.testing.assert_allclose(ours / scale, expected / scale, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("n_latent", [1, 2])
def test_evidence_of_one_component_is_that_of_pca(temperature, n_latent):
    """Other coordinates, other statistics, the same integral."""
    prior = PCAPrior(0.9, np.array([0.3, -0.2, 0.1]), 4.0, 1.5, 0.5)
    X = small_rows(20, 3)
    rows = make_rows(X, None)
    ours, error, _ = tempered(mixture(1, n_latent, temperature, prior=prior), rows, temperature)
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    moments = RowMoments(X.mean(axis=0), vectors[:, ::-1].copy(), values[::-1].copy(), 20.0)
    pca = BayesianPCAEnergy(n_latent, prior, moments, temperature)
    theirs, other, _ = tempered(pca, moments.stand_in(), temperature, seed=1)
    assert max(error, other) < 0.1
    assert abs(ours - theirs) < 5 * np.hypot(error, other)


def log_marginal(X, prior, temperature):
    """Return ``log int prod_x N(x; mu, s2 I)^(1/T)`` over one spherical component's prior.

    The mean integrates out; the rest is a sum over a fine grid of log s2.
    """
    if len(X) == 0:
        return 0.0
    n, size = len(X), X.shape[1]
    log_noise = np.linspace(-12, 12, 4001)
    noise = np.exp(log_noise)
    power = n / temperature
    mean = X.mean(axis=0)
    scatter = ((X - mean) ** 2).sum() / temperature
    value = -0.5 * power * size * np.log(2 * np.pi * noise) - 0.5 * scatter / noise
    # exp(-power |mean - mu|^2 / (2 s2)) is a normal density up to its constant
    value += 0.5 * size * np.log(2 * np.pi * noise / power)
    added = noise / power + prior.mean_variance
    value += -0.5 * size * np.log(2 * np.pi * added)
    value += -0.5 * ((mean - prior.mean) ** 2).sum() / added
    shape, scale = prior.noise_shape, prior.noise_scale
    value += shape * (np.log(scale) - log_noise) - gammaln(shape) - scale / noise
    return logsumexp(value) + np.log(log_noise[1] - log_noise[0])


def enumerated(X, n_components, prior, temperature, concentration=None):
    """Return the log evidence of spherical components, over all allocations."""
    n = len(X)
    by_set = {
        members: log_marginal(X[[bool(members >> i & 1) for i in range(n)]], prior, temperature)
        for members in range(2**n)
    }
    terms = []
    for index in range(n_components**n):
        labels = np.array([index // n_components**i % n_components for i in range(n)])
        members = [int(((labels == k) << np.arange(n)).sum()) for k in range(n_components)]
        value = sum(by_set[each] for each in members)
        counts = np.bincount(labels, minlength=n_components) / temperature
        if concentration is None:
            value -= counts.sum() * np.log(n_components)
        else:
            value += gammaln(n_components * concentration)
            value -= gammaln(n_components * concentration + counts.sum())
            value += (gammaln(concentration + counts) - gammaln(concentration)).sum()
        terms.append(value)
    return logsumexp(terms)


@pytest.mark.parametrize(
    ("n_components", "temperature", "equal"),
    [(1, 1.0, False), (2, 1.0, False), (2, 2.0, False), (2, 0.5, True), (3, 1.0, True)],
)
def test_evidence_by_enumeration(n_components, temperature, equal):
    X = small_rows(7)
    energy = mixture(n_components, 0, temperature, equal=equal)
    value, error, _ = tempered(energy, make_rows(X, None), temperature)
    exact = enumerated(X, n_components, PRIOR, temperature, None if equal else 1.6)
    assert error < 0.05
    assert abs(value - exact) < 5 * error + 1e-3


@pytest.fixture(scope="module")
def sampled():
    X = small_rows(12)
    return X, BayesianMixturePCAAutoEncoder(2, n_latent=1, n_models=20, random_state=0).fit(X)


def test_a_sampled_fit(sampled):
    X, fitted = sampled
    assert fitted.sampling_.method == "smc"
    assert fitted.sampling_.status == "ok"
    assert fitted.sampling_.balance < 4
    np.testing.assert_allclose(fitted.log_evidence_, len(X) * fitted.hmaxemax_)
    models = fitted.models_
    assert models.components.shape == (20, 2, 1, 2)
    np.testing.assert_allclose((models.components**2).sum(axis=3), 1, rtol=1e-12)
    assert fitted.hmaxe_ > fitted.internal_energy_
    proba = fitted.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(fitted.predict(X), proba.argmax(axis=1))
    Z = fitted.transform(X)
    assert Z.shape == (12, 4)
    np.testing.assert_array_equal(Z[:, :2], proba)
    assert fitted.inverse_transform(Z).shape == X.shape
    assert fitted.sample(5, 0)[0].shape == (5, 2)
    expected = finite_differences(fitted.score_samples, X)
    np.testing.assert_allclose(fitted.score_gradient(X), expected, atol=1e-5)


def joints_by_model(models, X):
    """Return ``log w_k + log N(x; mu_k, C_k)`` of each model, (S, K, N), by dense covariances."""
    size = X.shape[1]
    joints = []
    for s in range(models.n_models):
        rows = []
        for k, weight in enumerate(models.weights[s]):
            u, noise = models.components[s, k], models.noise_variance[s, k]
            excess = 1 / models.component_precisions[s, k] - noise
            covariance = (u.T * excess) @ u + noise * np.eye(size)
            rows.append(
                np.log(weight) + multivariate_normal(models.means[s, k], covariance).logpdf(X)
            )
        joints.append(rows)
    return np.array(joints)


def test_scores_average_over_models(sampled):
    X, fitted = sampled
    joints = joints_by_model(fitted.models_, X)
    expected = logsumexp(joints, axis=(0, 1)) - np.log(len(joints))
    np.testing.assert_allclose(fitted.score_samples(X), expected, rtol=1e-9)


def test_labels_match_the_reference(sampled):
    """No relabelling of a kept model agrees better on which component each row is from."""
    X, fitted = sampled
    reference = softmax(subspace_joint(fitted, X), axis=1)  # (N, K)
    codes = softmax(joints_by_model(fitted.models_, X), axis=1)  # (S, K, N)
    matched = np.einsum("nk,skn->s", reference, codes)
    swapped = np.einsum("nk,skn->s", reference, codes[:, ::-1])
    assert np.all(matched >= swapped - 1e-9)
    assert np.any(matched > swapped + 0.1)  # the order matters at all


def test_sampling_says_when_it_fails(monkeypatch):
    """Too few particles for the way from the prior, and the status tells."""
    monkeypatch.setattr(
        _sampled, "tempered_plan", lambda n_rows, n_models: SMCPlan(2, 32, 3, n_keep=n_models)
    )
    with pytest.warns(ConvergenceWarning, match="sampling of the models is"):
        fitted = BayesianMixturePCAAutoEncoder(3, n_latent=1, n_models=5, random_state=0).fit(IRIS)
    assert fitted.sampling_.status in ("suspect", "failed")
    assert not fitted.converged_


def test_nearest_mean_components_assign_to_the_nearest():
    rng = np.random.default_rng(11)
    means = rng.standard_normal((1, 4, 3))
    basis = orthonormal_rows(rng.standard_normal((1, 4, 3, 3)))
    family = PCAFamily(4, 1, 3, 0.0)
    params = MixtureParameters(
        np.full((1, 4), 0.25), nearest_mean_components(family, means, 2.0, basis)
    )
    X = rng.standard_normal((50, 3))
    bound = PCAMixture(family).bind(params, make_rows(X, None).frame, np.float64)
    distances = ((X[:, None] - means[0]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(bound.joint(X)[0].argmax(axis=0), distances.argmin(axis=1))
