"""The kernels of the Gaussian family against brute force and against each other."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES
from _mixture_oracles import enumerated_log_evidence
from _oracles import dense_covariances, em_step, hmax, joint_energies, tilted
from _samplers import make_prior, small_data
from _subspaces import some_components
from scipy import stats
from scipy.special import logsumexp

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder
from skbae._types import Frame
from skbae.energies._base import StatisticsEnergy, chunk_rows, require
from skbae.energies.gaussian._components import (
    ExpandedKernel,
    GaussianParameters,
    LocalKernel,
    bind_gaussians,
    rounding_bound,
)
from skbae.energies.gaussian._covariance import COVARIANCE_TYPES as SHAPES
from skbae.energies.gaussian._mixture import conjugate_gaussian_mixture, gaussian_mixture
from skbae.energies.gaussian._whitened import WhitenedKernel, whitening_bound
from skbae.energies.mixture._energy import MixtureEnergy, MixtureParameters, MixtureStatistics
from skbae.energies.mixture_pca._components import PCAFamily
from skbae.energies.mixture_pca._kernel import ProductKernel
from skbae.inference._objective import Objective
from skbae.inference.optimise._em import expectation_maximisation
from skbae.inference.passes._rows import RowRunner, make_rows
from skbae.operators._tempered import tempered_softmax

S, K, D = 2, 3, 4

each_kind = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def random_models(kind, seed=0, spread=1.0, size=1.0):
    """Return S models in the package's layout, and their weights, means, dense covariances."""
    rng = np.random.default_rng(seed)
    shape, tied = SHAPES[kind][0](D), SHAPES[kind][1]
    mixing = rng.normal(size=(S, K, D, D))
    full = size**2 * (mixing @ np.swapaxes(mixing, -1, -2) / D + 0.3 * np.eye(D))
    if tied:
        full = full[:, :1]
    if shape.name == "full":
        covariances = full
    elif shape.name == "diag":
        covariances = np.diagonal(full, axis1=-2, axis2=-1).copy()
    else:
        covariances = np.trace(full, axis1=-2, axis2=-1) / D
    weights = rng.dirichlet(np.ones(K) * 3, size=S)
    means = spread * rng.normal(size=(S, K, D))
    dense = np.stack(
        [
            dense_covariances(covariances[s, 0] if tied else covariances[s], K, D, kind)
            for s in range(S)
        ]
    )
    return shape, tied, weights, GaussianParameters(means, shape.factorise(covariances)), dense


def energies_of(kernel, X):
    workspace = kernel.workspace(len(X))
    kernel.load(X, workspace)
    own, shared = kernel.energies(workspace)
    return own.copy() if shared is None else own + shared[:, None]


def moments_of(kernel, X, codes, row_weights=None):
    """Return counts, means and scatter around those means: free of the kernel's reference."""
    workspace = kernel.workspace(len(X))
    kernel.load(X, workspace)
    sums = kernel.zero()
    kernel.accumulate(sums, codes, row_weights, workspace)
    counts, moments = kernel.moments(sums)
    shift = moments.first / counts[..., None]
    correction = kernel.shape.lift(counts) * kernel.shape.moment(shift)
    if kernel.tied:
        correction = correction.sum(axis=1, keepdims=True)
    return counts, moments.reference + shift, moments.second - correction


def kernels(kind, dtype=np.float64, centre=0.0, **options):
    shape, tied, weights, params, dense = random_models(kind, **options)
    log_weights = np.log(weights)
    expanded = ExpandedKernel(shape, tied, log_weights, params, np.full(D, centre), dtype)
    return expanded, LocalKernel(shape, tied, log_weights, params), weights, params, dense


@each_kind
def test_energies_equal_scipy(kind):
    expanded, local, weights, params, dense = kernels(kind, centre=0.3)
    X = np.random.default_rng(1).normal(size=(50, D))
    for s in range(S):
        expected = joint_energies(X, weights[s], params.means[s], dense[s]).T
        np.testing.assert_allclose(energies_of(expanded, X)[s], expected, rtol=1e-11)
        np.testing.assert_allclose(energies_of(local, X)[s], expected, rtol=1e-11)


def whitened_problem(dtype=np.float64, size=40, spread=1.0, distance=0.0, rarity=0.0):
    """Return a kernel of whitened rows, one of differences, and rows of each component.

    The components have different scales along different directions; all is far from the centre.
    The first has a weight that is smaller by a factor ``exp(-rarity)``.
    """
    rng = np.random.default_rng(6)
    shape = SHAPES["full"][0](size)
    mixing = rng.normal(size=(S, K, size, size)) * np.geomspace(0.1, 10, size)[:, None]
    covariances = mixing @ np.swapaxes(mixing, -1, -2) / size
    covariances += 0.1 * np.einsum("skii->ski", covariances)[..., None] * np.eye(size)
    params = GaussianParameters(
        distance + spread * rng.normal(size=(S, K, size)), shape.factorise(covariances)
    )
    log_weights = np.log(rng.dirichlet(np.ones(K), size=S))
    log_weights[:, 0] -= rarity
    frame = Frame(np.full(size, 0.2), 1.0 + np.abs(rng.normal(size=size)))
    noise = rng.normal(size=(S, K, 12, size))
    rows = params.means[:, :, None] + np.einsum(
        "skij,sknj->skni", np.linalg.cholesky(covariances), noise
    )
    X = rows.reshape(-1, size).astype(dtype)
    bound = whitening_bound(params, frame, dtype)
    white = WhitenedKernel(shape, log_weights, params, frame.centre, dtype, bound)
    return white, LocalKernel(shape, False, log_weights, params), X


@pytest.mark.parametrize("size", [1, 7, 31, 32, 45])
def test_whitened_rows_have_the_same_energies(size):
    white, local, X = whitened_problem(size=size)
    expected = energies_of(local, X)
    np.testing.assert_allclose(energies_of(white, X), expected, rtol=1e-11)
    for s in range(S):
        cells = local.params
        dense = local.shape.covariances(cells.factors)
        reference = [
            stats.multivariate_normal(cells.means[s, k], dense[s, k]).logpdf(X) for k in range(K)
        ]
        prior = (local.constant - local.shape.half_log_det(cells.factors))[s]
        prior = prior + 0.5 * size * np.log(2 * np.pi)
        np.testing.assert_allclose(expected[s], prior[:, None] + reference, rtol=1e-8)
    rng = np.random.default_rng(3)
    codes = np.moveaxis(rng.dirichlet(np.ones(K), size=(S, 9)), -1, 1)
    np.testing.assert_allclose(
        white.code_gradient(X[:9], codes), local.code_gradient(X[:9], codes), rtol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("codes_are", ["shared", "of few components", "hard"])
def test_whitened_rows_have_the_same_moments(codes_are, dtype):
    """Codes that are negligible are left out, and no digit is lost by that."""
    white, local, X = whitened_problem(dtype, spread=30.0)
    codes = np.moveaxis(
        np.random.default_rng(2).dirichlet(np.ones(K), size=(S, len(X))), -1, 1
    ).astype(dtype)
    if codes_are != "shared":
        energies = energies_of(white, X)
        codes = np.exp(energies - energies.max(axis=1, keepdims=True))
        codes /= codes.sum(axis=1, keepdims=True)
        if codes_are == "hard":
            codes = np.round(codes)
        bounds = white.negligible(codes.reshape(S * K, -1)).reshape(S, K, 1)
        assert np.mean(codes > bounds) < 0.6, "no row is left out"
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    for ours, theirs in zip(moments_of(white, X, codes), moments_of(local, X, codes), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [1.0, 30.0, 300.0, 1e4])
def test_rounding_errors_of_whitened_rows_are_below_their_bound(dtype, spread):
    white, local, X = whitened_problem(dtype, spread=spread, distance=spread)
    difference = np.abs(energies_of(white, X) - energies_of(local, X))
    own = difference.reshape(S, K, S, K, -1)
    worst = max(own[s, k, s, k].max() for s in range(S) for k in range(K))
    bound = white.rounding.max()
    assert worst <= bound + 1e3 * np.finfo(dtype).eps
    assert bound < 1e4 * worst + 1e3 * np.finfo(dtype).eps, "a bound that is useless"


def test_a_component_that_no_row_of_a_chunk_belongs_to_keeps_its_small_sums():
    white, local, X = whitened_problem(spread=3.0)
    codes = np.full((S, K, len(X)), 1e-200)
    codes[:, 0] = 1.0
    codes[:, 2] = 0.0
    codes[:, 2, 5] = 1e-40
    ours, theirs = moments_of(white, X, codes), moments_of(local, X, codes)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("rarity", [0.0, 1e4])
def test_codes_that_count_are_those_of_all_energies(dtype, temperature, rarity):
    """Energies that are only bounded change no code beyond rounding.

    Of a component that no row belongs to, all energies are computed: small codes are all it has.
    """
    white, _, X = whitened_problem(dtype, rarity=rarity)
    workspace = white.workspace(len(X))
    workspace.temperature = temperature
    white.load(X, workspace)
    full = white.energies(workspace)[0].copy()
    found = white.energies_that_count(workspace)[0]
    doubt = 2 * white.rounding.max()
    assert (found >= full - doubt).all(), "a bound that is none"
    left_out = found > full + doubt
    assert left_out.mean() > 0.1, "no energy is left out"
    assert left_out[:, 0].any() == (rarity == 0)
    codes, expected = (
        tempered_softmax(energies.astype(np.float64), temperature, axis=1)
        for energies in (found, full)
    )
    negligible = {np.float64: 1e-13, np.float32: 1e-8}[dtype] * expected.max(axis=2, keepdims=True)
    rounding = 2 * doubt / max(temperature, 0.5) * expected
    assert (np.abs(codes - expected) <= negligible + rounding).all()


def test_rows_are_whitened_where_columns_are_many_for_the_components():
    def choice(n_components, size, distance, dtype):
        shape = SHAPES["full"][0](size)
        params = GaussianParameters(
            np.zeros((1, n_components, size)), np.tile(np.eye(size), (1, n_components, 1, 1))
        )
        frame = Frame(np.full(size, distance), np.ones(size))
        kernel = bind_gaussians(shape, np.zeros((1, n_components)), params, frame, dtype)
        return type(kernel), kernel.dtype

    assert choice(5, 16, 0.0, np.float64) == (WhitenedKernel, np.float64)
    assert choice(5, 12, 0.0, np.float64) == (ExpandedKernel, np.float64)
    assert choice(10, 20, 0.0, np.float32) == (ExpandedKernel, np.float32)
    assert choice(10, 20, 1e3, np.float32) == (WhitenedKernel, np.float32)
    assert choice(10, 64, 1e2, np.float64) == (WhitenedKernel, np.float64)
    assert choice(10, 64, 1e7, np.float64) == (LocalKernel, np.float64)
    assert choice(10, 64, 1e160, np.float64) == (LocalKernel, np.float64)


@each_kind
@pytest.mark.parametrize("weighted", [False, True])
def test_kernels_agree_on_moments(kind, weighted):
    """Two entirely different ways to the same sums, checked against NumPy too."""
    expanded, local, _, _, _ = kernels(kind, centre=-0.4)
    rng = np.random.default_rng(2)
    X = rng.normal(size=(60, D))
    codes = np.moveaxis(rng.dirichlet(np.ones(K), size=(S, len(X))), -1, 1)
    row_weights = rng.uniform(0.1, 3, size=(S, len(X))) if weighted else None
    if weighted:
        codes = codes * row_weights[:, None]
    results = [moments_of(kernel, X, codes, row_weights) for kernel in (expanded, local)]
    for first, second in zip(*results, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-10)
    counts, means, scatter = results[0]
    np.testing.assert_allclose(counts, codes.sum(axis=-1), rtol=1e-12)
    np.testing.assert_allclose(
        means, np.einsum("skn,nd->skd", codes, X) / counts[..., None], rtol=1e-10, atol=1e-12
    )
    deviations = X[None, None] - means[:, :, None]
    full = np.einsum("skn,sknd,skne->skde", codes, deviations, deviations)
    if expanded.tied:
        full = full.sum(axis=1, keepdims=True)
    diagonal = np.diagonal(full, axis1=-2, axis2=-1)
    name = expanded.shape.name
    expected = {"full": full, "diag": diagonal, "spherical": diagonal.sum(axis=-1)}[name]
    np.testing.assert_allclose(scatter, expected, rtol=1e-9, atol=1e-11)


@each_kind
def test_code_gradient_equals_finite_differences(kind):
    expanded, local, _, _, _ = kernels(kind)
    rng = np.random.default_rng(3)
    X = rng.normal(size=(10, D))
    codes = np.moveaxis(rng.dirichlet(np.ones(K), size=(S, len(X))), -1, 1)
    step = 1e-5
    expected = np.empty((S, len(X), D))
    for feature in range(D):
        bump = step * np.eye(D)[feature]
        rise = (energies_of(local, X + bump) - energies_of(local, X - bump)) / (2 * step)
        expected[..., feature] = np.einsum("skn,skn->sn", codes, rise)
    for kernel in (expanded, local):
        np.testing.assert_allclose(kernel.code_gradient(X, codes), expected, rtol=1e-6, atol=1e-6)


@each_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("spread", "size"), [(1.0, 1.0), (30.0, 1.0), (300.0, 0.1), (1e4, 1e-2)])
def test_rounding_errors_are_below_their_bound(kind, dtype, spread, size):
    """Rows drawn from the components themselves never see a larger error than announced.

    The bound is made for rows about ``|mu - centre| + scale`` from the centre, in each feature;
    it is compared at such rows with the kernel that does not cancel.
    """
    expanded, local, _, params, _ = kernels(kind, dtype, spread=spread, size=size)
    rng = np.random.default_rng(4)
    scale = np.full(D, size)
    frame = Frame(np.zeros(D), scale)
    signs = rng.choice([-1.0, 1.0], size=(200, D))
    bound = rounding_bound(expanded.shape, params, frame, dtype).max()
    worst = 0.0
    for s in range(S):
        for k in range(K):
            X = (params.means[s, k] + signs * scale * rng.random((200, 1))).astype(dtype)
            difference = energies_of(expanded, X)[s, k] - energies_of(local, X)[s, k]
            worst = max(worst, float(np.abs(difference).max()))
    # constants and the final sum are rounded as well: a few ulps of the energies themselves
    assert worst <= bound + 1e3 * np.finfo(dtype).eps
    assert bound < 1e7 * worst + 1e3 * np.finfo(dtype).eps, "a bound that is useless"


def test_rounding_bound_grows_where_products_cancel():
    shape, _, _, params, _ = random_models("full")
    bounds = [
        rounding_bound(shape, params, Frame(np.full(D, c), np.ones(D)), np.float64).max()
        for c in (0.0, 1e3, 1e6, 1e160)
    ]
    assert bounds[0] < bounds[1] < bounds[2]
    assert np.isinf(bounds[3])  # where squares overflow


@each_kind
def test_the_cheapest_accurate_kernel_is_chosen(kind):
    shape, _, weights, params, _ = random_models(kind)
    log_weights = np.log(weights)

    def choice(distance, dtype):
        frame = Frame(np.full(D, distance), np.ones(D))
        kernel = bind_gaussians(shape, log_weights, params, frame, dtype)
        return type(kernel), kernel.dtype

    assert choice(0.0, np.float32) == (ExpandedKernel, np.float32)
    assert choice(0.0, np.float64) == (ExpandedKernel, np.float64)
    assert choice(1e3, np.float32) == (ExpandedKernel, np.float64)
    assert choice(1e7, np.float32) == (LocalKernel, np.float64)
    assert choice(1e7, np.float64) == (LocalKernel, np.float64)


@each_kind
def test_local_kernel_keeps_its_digits_far_from_the_origin(kind):
    """The same rows and means, moved by a number that floating point represents exactly."""
    shape, tied, weights, params, _ = random_models(kind)
    shift = 2.0**30
    grid = 2.0**-20  # coarse enough that adding the shift is exact
    means = np.round(params.means / grid) * grid
    X = np.round(np.random.default_rng(5).normal(size=(30, D)) / grid) * grid
    here = LocalKernel(shape, tied, np.log(weights), GaussianParameters(means, params.factors))
    there = LocalKernel(
        shape, tied, np.log(weights), GaussianParameters(means + shift, params.factors)
    )
    np.testing.assert_array_equal(energies_of(here, X), energies_of(there, X + shift))


@each_kind
class TestCovarianceShape:
    """Each shape's functions against dense matrices."""

    @pytest.fixture
    def models(self, kind):
        shape, tied, _, params, dense = random_models(kind)
        return shape, params.factors, dense[:, : 1 if tied else K]

    def test_covariances_and_precisions(self, models):
        shape, factors, dense = models
        assert factors.shape[2:] == shape.tail
        np.testing.assert_allclose(shape.expand(shape.covariances(factors)), dense, atol=1e-12)
        precisions = shape.expand(shape.precisions(factors))
        np.testing.assert_allclose(precisions, np.linalg.inv(dense), rtol=1e-9, atol=1e-11)

    def test_factors_round_trip(self, models):
        shape, factors, _ = models
        np.testing.assert_allclose(shape.factorise(shape.covariances(factors)), factors, atol=1e-10)
        again = shape.factorise_precision(shape.precisions(factors))
        np.testing.assert_allclose(again, factors, atol=1e-10)

    def test_log_determinant(self, models):
        shape, factors, dense = models
        expected = -0.5 * np.linalg.slogdet(dense)[1]
        np.testing.assert_allclose(shape.half_log_det(factors), expected, rtol=1e-10)

    def test_quadratic_form(self, models):
        shape, factors, dense = models
        x = np.random.default_rng(0).normal(size=(D, 7))
        features = np.empty((shape.n_quadratic, 7))
        shape.write_quadratic(x, features)
        values = shape.quadratic_coefficients(factors) @ features
        expected = -0.5 * np.einsum("dn,scde,en->scn", x, np.linalg.inv(dense), x)
        np.testing.assert_allclose(values, expected, rtol=1e-9)

    def test_apply_whiten_colour(self, models):
        shape, factors, dense = models
        rng = np.random.default_rng(1)
        vectors = rng.normal(size=(*factors.shape[:2], D))
        expected = np.linalg.solve(dense, vectors[..., None])[..., 0]
        np.testing.assert_allclose(shape.apply_precision(factors, vectors), expected, rtol=1e-9)
        rows = rng.normal(size=(6, D))
        white = shape.whiten(rows, factors[0, 0])
        squares = np.einsum("nd,de,ne->n", rows, np.linalg.inv(dense[0, 0]), rows)
        np.testing.assert_allclose((white**2).sum(axis=1), squares, rtol=1e-9)
        np.testing.assert_allclose(shape.colour(white, factors[0, 0]), rows, atol=1e-11)

    def test_colour_has_the_covariance(self, models):
        shape, factors, dense = models
        matrix = shape.colour(np.eye(D), factors[0, 0])
        np.testing.assert_allclose(matrix.T @ matrix, dense[0, 0], atol=1e-12)

    def test_moments(self, models):
        shape, _, _ = models
        rng = np.random.default_rng(2)
        rows, weights = rng.normal(size=(9, D)), rng.uniform(size=9)
        one_by_one = sum(w * shape.moment(row) for row, w in zip(rows, weights, strict=True))
        np.testing.assert_allclose(shape.sum_moment(rows, weights), one_by_one, rtol=1e-11)
        features = np.empty((shape.n_quadratic, 9))
        shape.write_quadratic(rows.T.copy(), features)
        np.testing.assert_allclose(shape.unpack(features @ weights), one_by_one, rtol=1e-11)

    def test_scatter_floor_and_back(self, models):
        shape, factors, dense = models
        covariances = shape.covariances(factors)
        moments = shape.to_moment(covariances, 0.25)
        counts = np.full(factors.shape[:2], 5.0)
        again = shape.from_scatter(moments * 5.0, counts, 0.25)
        np.testing.assert_allclose(again, covariances, rtol=1e-11)
        floored = shape.expand(shape.from_scatter(shape.to_moment(covariances, 0), counts / 5, 0.5))
        np.testing.assert_allclose(floored, dense + 0.5 * np.eye(D), atol=1e-12)

    def test_diagonal_isotropic_and_free_parameters(self, models):
        shape, factors, dense = models
        diagonal = shape.diagonal(shape.covariances(factors))
        expected = np.diagonal(dense, axis1=-2, axis2=-1)
        np.testing.assert_allclose(diagonal, expected, rtol=1e-10)
        isotropic = shape.expand(shape.isotropic(np.array([[2.0, 3.0]])))
        np.testing.assert_array_equal(isotropic, np.array([[2 * np.eye(D), 3 * np.eye(D)]]))
        assert shape.n_free == {"full": D * (D + 1) // 2, "diag": D, "spherical": 1}[shape.name]


def test_singular_covariances_are_refused():
    for kind in ("full", "diag", "spherical"):
        shape = SHAPES[kind][0](D)
        zero = np.zeros((1, 1, *shape.tail))
        with pytest.raises(np.linalg.LinAlgError):
            shape.factorise(zero)
        with pytest.raises(np.linalg.LinAlgError):
            shape.factorise_precision(zero)


@each_kind
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("tilt", [0.0, 0.7, -0.4])
@pytest.mark.parametrize("n_rows", [40, 3000])
def test_one_pass_is_the_textbook_step(kind, temperature, tilt, n_rows):
    """Expectation and maximisation of S models side by side, with weights, on several chunks."""
    shape, tied, weights, params, dense = random_models(kind)
    rng = np.random.default_rng(6)
    X, sample_weight = rng.normal(size=(n_rows, D)), rng.uniform(0.5, 2, size=n_rows)
    # a floor, since at T = 0 a component may receive a single row
    energy = gaussian_mixture(K, D, kind, reg_covar=0.1)
    models = MixtureParameters(weights, params)
    rows = make_rows(X, sample_weight)
    with RowRunner(2) as runner:
        kernel = energy.expectation(models, rows.frame, X.dtype, temperature, tilt)
        kernel.chunk_rows = 128  # 24 chunks in the long case, and a short last one
        statistics = runner.reduce(kernel, rows)
    new = energy.maximise(statistics, models, temperature)
    factors = new.components.factors
    covariances = shape.covariances(factors)
    for s in range(S):
        values = hmax(joint_energies(X, weights[s], params.means[s], dense[s]), temperature)
        np.testing.assert_allclose(
            statistics.hmaxe[s], np.average(values, weights=sample_weight), rtol=1e-11
        )
        expected_objective = tilted(values, sample_weight, tilt)
        np.testing.assert_allclose(statistics.objective[s], expected_objective, rtol=1e-11)
        expected = em_step(
            X,
            weights[s],
            params.means[s],
            dense[s],
            kind,
            temperature=temperature,
            tilt=tilt,
            sample_weight=sample_weight,
            reg_covar=0.1,
        )
        own = covariances[s, 0] if tied else covariances[s]
        found = (new.weights[s], new.components.means[s], dense_covariances(own, K, D, kind))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


@each_kind
def test_interpolation_leads_from_the_model_to_the_full_step(kind):
    """At 0 maximisation gives back the model, at 1 the step: what backtracking relies on."""
    _, _, weights, params, _ = random_models(kind)
    X = np.random.default_rng(7).normal(size=(80, D))
    energy = gaussian_mixture(K, D, kind, reg_covar=0.05)
    models, rows = MixtureParameters(weights, params), make_rows(X, None)
    with RowRunner(1) as runner:
        statistics = runner.reduce(energy.expectation(models, rows.frame, X.dtype, 1.0, 0.5), rows)
    full = energy.maximise(statistics, models, 1.0)
    for step, target in ((0.0, models), (1.0, full)):
        path = energy.interpolate(models, statistics, np.full(S, step), 1.0)
        found = energy.maximise(path, models, 1.0)
        np.testing.assert_allclose(found.weights, target.weights, rtol=1e-9)
        np.testing.assert_allclose(found.components.means, target.components.means, atol=1e-9)
        np.testing.assert_allclose(found.components.factors, target.components.factors, rtol=1e-7)


@pytest.mark.parametrize("temperature", [0.0, 0.5])
@each_kind
def test_a_component_without_rows_does_not_change_the_others(kind, temperature):
    """A row too many for a tied covariance would lower the objective."""
    rng = np.random.default_rng(0)
    rows = make_rows(rng.normal(size=(30, D)), None)
    params = random_models(kind)[3].take([0])
    few = GaussianParameters(
        params.means[:, : K - 1], params.factors[:, : None if SHAPES[kind][1] else K - 1]
    )
    found = []
    for n, components in ((K - 1, few), (K, params)):
        weights = np.zeros((1, n))
        weights[:, : K - 1] = 1 / (K - 1)
        models, energy = MixtureParameters(weights, components), gaussian_mixture(n, D, kind, False)
        with RowRunner(1) as runner:
            statistics = Objective(energy, rows, runner, temperature).expect(models)
        found.append(energy.maximise(statistics, models, temperature).components)
    kept = found[1].factors[:, : found[0].factors.shape[1]]
    np.testing.assert_allclose(kept, found[0].factors, rtol=1e-12)
    np.testing.assert_allclose(found[1].means[:, : K - 1], found[0].means, rtol=1e-12)


@each_kind
def test_number_of_parameters(kind):
    per_covariance = {"full": 10, "diag": 4, "spherical": 1}[SHAPES[kind][0](D).name]
    n_covariances = 1 if SHAPES[kind][1] else K
    expected = K * D + n_covariances * per_covariance
    assert gaussian_mixture(K, D, kind).n_parameters() == expected + K - 1
    assert gaussian_mixture(K, D, kind, equal_weights=True).n_parameters() == expected


def test_several_models_in_one_pass_equal_single_models():
    """The leading axis S never mixes models."""
    _, _, weights, params, _ = random_models("full")
    X = np.random.default_rng(8).normal(size=(100, D))
    energy, rows = gaussian_mixture(K, D, "full"), make_rows(X, None)
    models = MixtureParameters(weights, params)
    with RowRunner(1) as runner:
        objective = Objective(energy, rows, runner, 0.5)
        together = expectation_maximisation(objective, models, tol=0.0, max_iter=7)
        for s in range(S):
            one = models.take(np.array([s]))
            alone = expectation_maximisation(objective, one, tol=0.0, max_iter=7)
            np.testing.assert_allclose(
                alone.params.components.means[0], together.params.components.means[s], atol=1e-10
            )
            np.testing.assert_allclose(alone.objective[0], together.objective[s], rtol=1e-12)


def test_missing_capability_is_named():
    with pytest.raises(TypeError, match=r"fitting needs a StatisticsEnergy, but object lacks"):
        require(object(), StatisticsEnergy, "fitting")


def test_chunks_fit_in_cache():
    assert chunk_rows(1) == 4096
    assert chunk_rows(10**9) == 64
    for numbers in (50, 777, 5000):
        assert chunk_rows(numbers) % 64 == 0
        assert 64 <= chunk_rows(numbers) <= max(64, (3 << 20) // (8 * numbers))


# -- components without weight, and ties ----------------------------------------------------------


def subspace_energy():
    """Return the energy of a mixture of PCA and S models of it."""
    family = PCAFamily(K, 1, D)
    return MixtureEnergy(family), some_components(np.random.default_rng(10), S, K, 1, D)


def gaussian_energy(kind):
    _, _, _, params, _ = random_models(kind)
    return gaussian_mixture(K, D, kind), params


ENERGIES = {**{kind: partial(gaussian_energy, kind) for kind in SHAPES}, "pca": subspace_energy}


@pytest.mark.parametrize("name", ENERGIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_of_zero_raise_no_floating_point_warning(name, dtype):
    """Some processors' products multiply it by a zero, which is no number."""
    energy, components = ENERGIES[name]()
    weights = np.array([[0.0, 0.4, 0.6], [0.5, 0.5, 0.0]])
    models = MixtureParameters(weights, components)
    X = np.random.default_rng(11).normal(size=(50, D)).astype(dtype)
    rows = make_rows(X, None)
    kernel = energy.expectation(models, rows.frame, dtype, 1.0, 0.0)
    assert np.isfinite(kernel.kernel.natural).all()
    with np.errstate(invalid="raise"), RowRunner(1) as runner:
        statistics = runner.reduce(kernel, rows)
        joint = energy.bind(models, rows.frame, dtype).joint(X)
    np.testing.assert_array_equal(statistics.counts == 0, weights == 0)
    np.testing.assert_array_equal(np.isneginf(joint).all(axis=2), weights == 0)
    full = MixtureParameters(np.where(weights == 0, 1.0, weights), components)
    expected = energy.bind(full, rows.frame, dtype).joint(X)
    np.testing.assert_allclose(joint[weights > 0], expected[weights > 0], rtol=1e-12)


@each_kind
@pytest.mark.parametrize(
    ("dtype", "distance"), [(np.float64, 0.0), (np.float64, 1e7), (np.float32, 0.0)]
)
def test_rounding_does_not_break_ties(kind, dtype, distance):
    """Rows as far from one mean as from the other all go to the first, in every kernel.

    `distance` from the centre decides which kernel it is.
    """
    rng = np.random.default_rng(12)
    shape, tied = SHAPES[kind][0](D), SHAPES[kind][1]
    middle, half = np.array([0.1, 0.7, 0.3, 0.2]), np.array([0.3, 0.3, 0.0, 0.0])
    along = rng.normal(size=(500, 1)) * [1, -1, 0, 0] + rng.normal(size=(500, 1)) * [0, 0, 1, 3]
    X = (middle + along).astype(dtype)
    means = np.stack([middle - half, middle + half])[None]
    covariances = shape.isotropic(np.full((1, 1 if tied else 2), 0.7))
    params = GaussianParameters(means, shape.factorise(covariances))
    frame = Frame(middle + distance, np.ones(D))
    energy = gaussian_mixture(2, D, kind)
    models = MixtureParameters(np.full((1, 2), 0.5), params)
    kernel = energy.expectation(models, frame, dtype, 0.0, 0.0)
    assert isinstance(kernel.kernel, LocalKernel if distance else ExpandedKernel)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    workspace = kernel.workspace(len(X))
    kernel.kernel.load(X, workspace)
    energies = kernel.kernel.energies(workspace)[0]
    difference = np.ptp(energies.astype(float), axis=1)
    assert difference.max() < tolerance, "no ties"
    codes, _, _ = kernel.codes(energies, None, None)
    np.testing.assert_array_equal(codes[0, 0], 1)


def test_equal_rows_get_equal_labels_wherever_they_stand():
    X = np.round(np.random.default_rng(13).normal(size=(200, D)), 1)
    settings = {"temperature": 0, "model_temperature": 0, "covariance_type": "tied_spherical"}
    fitted = BayesianGMMAutoEncoder(3, equal_weights=True, random_state=0, **settings).fit(X)
    labels = fitted.predict(X)
    one_by_one = np.array([fitted.predict(row[None])[0] for row in X])
    np.testing.assert_array_equal(labels, one_by_one)
    np.testing.assert_array_equal(fitted.predict_proba(X).argmax(axis=1), labels)


@each_kind
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("equal_weights", [False, True])
def test_marginal_likelihoods_of_allocations_add_up_to_the_evidence(
    kind, temperature, equal_weights
):
    """All ``K^N`` allocations side by side, as the models of one pass."""
    X, prior = small_data(6, 2), make_prior(kind, 2, 2, equal_weights=equal_weights)
    energy = conjugate_gaussian_mixture(
        2,
        2,
        kind,
        equal_weights,
        0.0,
        concentration=prior.concentration,
        mean_precision=prior.mean_precision,
        mean=np.asarray(prior.mean),
        degrees_of_freedom=prior.degrees_of_freedom,
        covariance=np.asarray(prior.covariance),
        centre=X.mean(axis=0),
    )
    labels = np.indices((2,) * len(X)).reshape(len(X), -1).T
    models = energy.draw_prior(len(labels), np.random.default_rng(0))
    kernel = energy.sweep(models, make_rows(X, None).frame, float, temperature).kernel
    workspace, sums = kernel.workspace(len(X)), kernel.zero()
    kernel.load(X, workspace)
    kernel.accumulate(sums, np.moveaxis(np.eye(2)[labels], 2, 1), None, workspace)
    nothing = np.zeros(len(labels))
    statistics = MixtureStatistics(*kernel.moments(sums), nothing, nothing)
    value = logsumexp(energy.log_joint(statistics, temperature))
    np.testing.assert_allclose(value, enumerated_log_evidence(X, prior, temperature), rtol=1e-10)


def test_kernels_share_a_workspace_only_where_their_features_are_the_same():
    """Equal numbers of rows and features are not enough, nor is the identity of a centre."""
    X = np.random.default_rng(14).normal(size=(20, 1))
    log_weights, means = np.zeros((1, 1)), np.zeros((1, 1, 1))
    factors = np.ones((1, 1, 1))
    gaussian = partial(ExpandedKernel, SHAPES["diag"][0](1), False, log_weights)
    params = GaussianParameters(means, factors)
    first = gaussian(params, np.zeros(1), np.float64)
    workspace = first.workspace(len(X))
    first.load(X, workspace)
    again = gaussian(params, np.zeros(1), np.float64)
    assert again.workspace(len(X), workspace) is workspace
    moved = gaussian(params, np.ones(1), np.float64)
    assert moved.workspace(len(X), workspace) is not workspace
    dense = GaussianParameters(means, np.ones((1, 1, 1, 1)))
    full = ExpandedKernel(SHAPES["full"][0](1), False, log_weights, dense, np.zeros(1), float)
    assert full.workspace(len(X), workspace) is not workspace
    components = some_components(np.random.default_rng(15), 1, 1, 1, 1, 0)
    pca = ProductKernel(log_weights, components, np.zeros(1), np.float64)
    assert pca.workspace(len(X), workspace) is not workspace


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_subspaces_of_one_column_start_from_k_means(dtype):
    X = np.random.default_rng(16).normal(size=(60, 1)).astype(dtype)
    X[30:] += 5
    settings = {"init_params": "kmeans", "model_temperature": 0, "random_state": 0}
    fitted = BayesianMixturePCAAutoEncoder(2, n_latent=1, **settings).fit(X)
    np.testing.assert_allclose(np.sort(fitted.means_.ravel()), [0, 5], atol=0.5)
