"""Sparse rows: equal to the same rows as an array, in memory that follows the entries."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from _instances import COVARIANCE_TYPES
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import estimator_checks_generator

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianVAEAutoEncoder,
)
from skbae.energies.gaussian import _components
from skbae.energies.gaussian._sparse import SparseKernel
from skbae.inference.passes._principal_axes import choose_solver
from skbae.inference.passes._starting_points import _projection
from skbae.operators._sparse import SparseRows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CONTAINERS = (sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array)
each_container = pytest.mark.parametrize("container", CONTAINERS)
SPARSE_TYPES = tuple(kind for kind in COVARIANCE_TYPES if kind not in ("full", "tied"))


def counts(n_rows=600, n_features=12, seed=0, dtype=np.float64):
    """Return rows of two kinds, most of whose entries are zero."""
    rng = np.random.default_rng(seed)
    rates = np.where(rng.random((2, n_features)) < 0.5, 0.2, 2.0)
    X = rng.poisson(rates[rng.integers(2, size=n_rows)]) * rng.uniform(0.5, 2, n_features)
    return X.astype(dtype)


def uniform(n_rows, n_features, density, seed=0):
    """Return rows with entries in random places."""
    rng = np.random.default_rng(seed)
    n_entries = int(density * n_rows * n_features)
    places = np.unique(rng.integers(n_rows * n_features, size=n_entries))
    entries = (rng.random(len(places)), divmod(places, n_features))
    return sparse.coo_matrix(entries, shape=(n_rows, n_features)).tocsr()


def gaussian(kind="diag", n_components=2, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianGMMAutoEncoder(n_components, covariance_type=kind, **settings)


def pca(n_components=3, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianPCAAutoEncoder(n_components, **settings)


# -- scikit-learn ----------------------------------------------------------------------------------


class WithoutProbabilities(BayesianGMMAutoEncoder):
    """The checks of sparse rows take whatever has predict_proba for a classifier."""

    @property
    def predict_proba(self):
        raise AttributeError("predict_proba")


TAKERS = [
    *[
        WithoutProbabilities(2, covariance_type=kind, model_temperature=0, random_state=0)
        for kind in SPARSE_TYPES
    ],
    pca(2),
    pca(1, temperature=0),
]
CHECKS = [
    pytest.param(estimator, check, id=f"{estimator}-{check.func.__name__}")
    for taker in TAKERS
    for estimator, check in estimator_checks_generator(taker)
    if "sparse" in check.func.__name__
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learn_contract_of_sparse_rows(estimator, check):
    assert estimator.__sklearn_tags__().input_tags.sparse
    check(estimator)


def test_tags_say_who_takes_sparse_rows():
    takers = [*[gaussian(kind) for kind in SPARSE_TYPES], pca(), BayesianPCAAutoEncoder()]
    assert all(each.__sklearn_tags__().input_tags.sparse for each in takers)
    others = [
        gaussian("full"),
        gaussian("tied"),
        gaussian("diag", model_temperature=1),
        BayesianGMMAutoEncoder(covariance_type="diag"),
        gaussian("diag", annealing="auto"),
        BayesianMixturePCAAutoEncoder(model_temperature=0),
        BayesianVAEAutoEncoder(),
    ]
    for each in others:
        assert not each.__sklearn_tags__().input_tags.sparse
        with pytest.raises(TypeError, match=r"[Ss]parse"):
            each.fit(sparse.csr_matrix(counts()))
    with pytest.raises(TypeError, match=r"model_temperature=0.*'diag'.*got.*'full'; set"):
        gaussian("full").fit(sparse.csr_array(counts()))
    with pytest.raises(TypeError, match="takes sparse rows only with"):
        gaussian("full").fit(counts()).predict(sparse.csr_array(counts()))


# -- PCA: what scikit-learn's own tests ask --------------------------------------------------------


@pytest.mark.parametrize("density", [0.01, 0.30])
@pytest.mark.parametrize("n_components", [1, 10])
@pytest.mark.parametrize("solver", ["arpack", "covariance_eigh", "gram", "randomized"])
@pytest.mark.parametrize("scale", [1, 100])
def test_pca_of_sparse_rows_is_that_of_dense_ones(density, n_components, solver, scale):
    rng = np.random.default_rng(0)
    X = uniform(1000, 300, density)
    X = sparse.csr_matrix(X.multiply(rng.random(300) * scale))
    model = pca(n_components, temperature=0, svd_solver=solver).fit(X)
    dense = pca(n_components, temperature=0, svd_solver="full").fit(X.toarray())
    theirs = PCA(n_components, svd_solver="full").fit(X.toarray())
    loose = solver == "randomized"  # which stops early where variances are nearly equal
    rtol = 2e-2 if loose else 1e-9
    np.testing.assert_allclose(model.mean_, dense.mean_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.explained_variance_, dense.explained_variance_, rtol=rtol)
    np.testing.assert_allclose(
        model.explained_variance_, theirs.explained_variance_ * 999 / 1000, rtol=rtol
    )
    np.testing.assert_allclose(model.noise_variance_, dense.noise_variance_, rtol=rtol)
    if not loose:
        np.testing.assert_allclose(model.components_, dense.components_, rtol=1e-6, atol=1e-8)
        new = uniform(200, 300, density, seed=1)
        np.testing.assert_allclose(
            model.transform(new), theirs.transform(new.toarray()), rtol=1e-6, atol=1e-7 * scale
        )


@each_container
def test_codes_and_scores_of_sparse_rows(container):
    X = counts()
    for model in (pca(), pca(temperature=0), pca(whiten=True), pca(tilt=0.2), pca(None), pca(0.8)):
        dense, own = clone(model).fit(X), clone(model).fit(container(X))
        for name in ("mean_", "explained_variance_", "noise_variance_", "hmaxe_"):
            np.testing.assert_allclose(
                getattr(own, name), getattr(dense, name), rtol=1e-8, atol=1e-10
            )
        codes = own.transform(container(X))
        np.testing.assert_allclose(codes, dense.transform(X), rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(
            own.score_samples(container(X)), dense.score_samples(X), rtol=1e-6
        )
        np.testing.assert_allclose(
            own.inverse_transform(codes), dense.inverse_transform(dense.transform(X)), atol=1e-7
        )
        np.testing.assert_allclose(
            clone(model).fit_transform(container(X)), codes, rtol=1e-9, atol=1e-12
        )


def test_weights_of_sparse_rows_repeat_them():
    X = counts(80, 30)
    weights = np.random.default_rng(0).integers(0, 4, 80)
    repeated = sparse.csr_array(np.repeat(X, weights, axis=0))
    for solver in ("arpack", "covariance_eigh", "gram", "randomized"):
        one = pca(2, svd_solver=solver).fit(sparse.csr_array(X), sample_weight=weights)
        other = pca(2, svd_solver=solver).fit(repeated)
        np.testing.assert_allclose(one.components_, other.components_, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(one.noise_variance_, other.noise_variance_, rtol=1e-9)


def test_sampled_pca_of_sparse_rows_needs_only_moments():
    for shape in ((200, 6), (20, 40)):
        X = counts(*shape)
        own, dense = (
            BayesianPCAAutoEncoder(1, n_models=5, random_state=0).fit(data)
            for data in (sparse.csr_array(X), X)
        )
        np.testing.assert_allclose(own.log_evidence_, dense.log_evidence_, rtol=1e-4)


def test_solvers_by_size():
    assert choose_solver(20_000, 30_000, 50, "sparse matrix") == "arpack"
    assert choose_solver(20_000, 300, 50, "sparse matrix") == "covariance_eigh"
    assert choose_solver(300, 20_000, 50, "sparse matrix") == "gram"
    with pytest.raises(TypeError, match=r"only with svd_solver among 'auto'.*got 'full'; set it"):
        pca(svd_solver="full").fit(sparse.csr_array(counts()))
    with pytest.raises(ValueError, match="fewer components than the smaller of"):
        pca(12, svd_solver="arpack").fit(sparse.csr_array(counts()))
    with pytest.raises(ValueError, match="svd_solver='arpack' computes only the largest"):
        pca(0.5, svd_solver="arpack").fit(counts())


# -- mixtures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPARSE_TYPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_mixtures_of_sparse_rows_are_those_of_dense_ones(kind, dtype, temperature):
    X = counts(dtype=dtype)
    model = gaussian(kind, temperature=temperature)
    weights = np.random.default_rng(1).integers(0, 3, len(X))
    for own in (None, weights):
        dense = clone(model).fit(X.astype(np.float64), sample_weight=own)
        for container in CONTAINERS[1:3]:
            fitted = clone(model).fit(container(X), sample_weight=own)
            for name in ("weights_", "means_", "covariances_", "hmaxe_"):
                np.testing.assert_allclose(
                    getattr(fitted, name), getattr(dense, name), rtol=1e-6, atol=1e-9
                )
            rows = container(X)
            np.testing.assert_array_equal(fitted.predict(rows), dense.predict(X))
            np.testing.assert_allclose(fitted.transform(rows), dense.transform(X), atol=1e-5)
            assert fitted.transform(rows).dtype == dtype
            np.testing.assert_allclose(
                fitted.score_samples(rows), dense.score_samples(X.astype(float)), rtol=1e-5
            )
            assert fitted.fit_predict(rows).shape == (len(X),)
    np.testing.assert_allclose(fitted.inverse_transform(fitted.transform(rows)).shape, X.shape)


@pytest.mark.parametrize("kind", SPARSE_TYPES)
@pytest.mark.parametrize(
    "settings",
    [
        {"tilt": 0.3},
        {"temperature": 2.0},
        {"init_params": "random"},
        {"equal_weights": True, "n_init": 2},
    ],
)
def test_settings_of_mixtures_mean_the_same_for_sparse_rows(kind, settings):
    X = counts(300, 5)
    dense, own = (gaussian(kind, **settings).fit(data) for data in (X, sparse.csr_array(X)))
    np.testing.assert_allclose(own.lower_bound_, dense.lower_bound_, rtol=1e-7)
    np.testing.assert_allclose(own.means_, dense.means_, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", SPARSE_TYPES)
def test_columns_far_from_zero_are_computed_as_dense_rows(kind):
    """Entries about 1e7 with standard deviations of 1: nothing but differences keeps the digits."""
    X = counts(300, 5) + 1e8
    dense, own = (gaussian(kind).fit(data) for data in (X, sparse.csr_array(X)))
    np.testing.assert_allclose(own.hmaxe_, dense.hmaxe_, rtol=1e-6)
    np.testing.assert_allclose(own.means_, dense.means_, rtol=1e-12)


def test_kernels_are_chosen_by_their_rounding():
    X = counts(300, 5)
    for shift, kind in ((0.0, SparseKernel), (1e8, _components.LocalKernel)):
        model = gaussian("diag").fit(X + shift)
        energy = model._energy().of_sparse_rows()
        bound = energy.bind(model._parameters(), model._fitted.frame, np.float64)
        assert type(bound.kernel) is kind
        rows = SparseRows(sparse.csr_array(X + shift))
        expected = model._energy().bind(model._parameters(), model._fitted.frame, np.float64)
        np.testing.assert_allclose(bound.joint(rows), expected.joint(X + shift), rtol=1e-6)


def test_full_covariances_could_be_computed_as_dense_rows():
    """Refused in the estimator, since each chunk would be an array; right all the same."""
    model = gaussian("full").fit(counts(300, 5))
    bound = (
        model._energy().of_sparse_rows().bind(model._reference(), model._fitted.frame, np.float64)
    )
    X = counts(50, 5, seed=1)
    found = bound.hmax(SparseRows(sparse.csr_array(X)), 1.0)[0]
    np.testing.assert_allclose(found, model.score_samples(X), rtol=1e-9)


# -- methods other than fit ------------------------------------------------------------------------


@each_container
def test_codes_of_sparse_rows_have_the_distributions_of_dense_ones(container):
    X = counts(200, 6)
    models = [pca(2), pca(2, whiten=True), pca(2, temperature=0)]
    models.append(BayesianPCAAutoEncoder(2, n_models=4, random_state=0))
    for model in [*models, *map(gaussian, SPARSE_TYPES)]:
        model.fit(X)
        own, dense = model.encode(container(X)), model.encode(X)
        np.testing.assert_allclose(own.mean, dense.mean, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(own.variance, dense.variance, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("model", [pca(2), *map(gaussian, SPARSE_TYPES)], ids=str)
def test_criteria_of_sparse_rows(model):
    X = counts(200, 6)
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    model = clone(model).fit(X)
    for name in ("aic", "bic"):
        for own in (None, weights):
            criterion = getattr(model, name)
            np.testing.assert_allclose(
                criterion(sparse.csr_array(X), own), criterion(X, own), rtol=1e-9
            )


@pytest.mark.parametrize(
    "model", [pca(2), pca(2, temperature=0), *map(gaussian, SPARSE_TYPES)], ids=str
)
def test_batches_of_sparse_rows_are_those_of_dense_ones(model):
    X = counts(3500, 6)
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    own, dense = clone(model), clone(model)
    for part in (slice(300), slice(300, 400), slice(400, 3500)):  # the last in several pieces
        own.partial_fit(sparse.csc_matrix(X[part]), sample_weight=weights[part])
        dense.partial_fit(X[part], sample_weight=weights[part])
    assert own.n_samples_seen_ == dense.n_samples_seen_
    for name in ("hmaxe_", "means_" if hasattr(own, "means_") else "components_"):
        np.testing.assert_allclose(getattr(own, name), getattr(dense, name), rtol=1e-7, atol=1e-9)
    dense.partial_fit(sparse.csr_array(X[:200])).partial_fit(X[200:300])
    own.partial_fit(X[:200]).partial_fit(sparse.csr_array(X[200:300]))
    np.testing.assert_allclose(own.score(X), dense.score(X), rtol=1e-8)


def test_batches_of_sparse_rows_make_pca_exact():
    X = counts(500, 8)
    whole, parts = pca(3).fit(X), pca(3)
    for part in np.array_split(X, 4):
        parts.partial_fit(sparse.csr_array(part))
    np.testing.assert_allclose(parts.explained_variance_, whole.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(parts.noise_variance_, whole.noise_variance_, rtol=1e-10)


def test_methods_refuse_sparse_rows_by_name_where_fit_does():
    X = counts(200, 4)
    full = gaussian("full").fit(X)
    mixture_pca = BayesianMixturePCAAutoEncoder(2, model_temperature=0, random_state=0).fit(X)
    for model in (full, mixture_pca):
        state = vars(model).copy()
        for name in ("encode", "bic", "aic", "partial_fit"):
            with pytest.raises(TypeError, match=rf"X is sparse, and {type(model).__name__} takes"):
                getattr(model, name)(sparse.csr_array(X))
        assert all(vars(model)[name] is value for name, value in state.items())
    for model in (gaussian("diag").fit(X), pca(2).fit(X)):
        for name in ("score_gradient", "impute"):
            with pytest.raises(TypeError, match=r"[Ss]parse"):
                getattr(model, name)(sparse.csr_array(X))
    with pytest.raises(ValueError, match="4 features"):
        gaussian("diag").fit(X).partial_fit(sparse.csr_array(counts(50, 5)))


# -- what is given ---------------------------------------------------------------------------------


def test_rows_are_not_changed_and_duplicates_are_added_up():
    rows, columns = np.array([0, 0, 1, 2, 2]), np.array([1, 1, 0, 2, 1])
    data = np.array([1.0, 2.0, 5.0, 4.0, 3.0])
    X = sparse.csr_matrix((data, columns, [0, 2, 3, 5]), shape=(3, 3))
    dense = X.toarray()
    model, expected = pca(1).fit(X), pca(1).fit(dense)
    np.testing.assert_allclose(model.explained_variance_, expected.explained_variance_)
    np.testing.assert_array_equal(X.data, data)
    np.testing.assert_array_equal(X.indices, columns)
    np.testing.assert_allclose(model.transform(X), expected.transform(dense), atol=1e-12)
    assert rows[0] == 0


def test_entries_that_are_no_numbers_are_refused():
    for value in (np.nan, np.inf):
        X = sparse.csr_matrix(counts(50, 4))
        X.data[3] = value
        for model in (pca(), gaussian()):
            with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
                model.fit(X)
    huge = sparse.csr_matrix(counts(50, 4)) * 1e200
    with pytest.raises(ValueError, match="X is too large"):
        gaussian().fit(huge)
    fitted = gaussian().fit(counts(50, 4))
    with pytest.raises(ValueError, match="X is too large"):
        fitted.predict(huge)
    with pytest.raises(ValueError, match="4 features"):
        fitted.predict(sparse.csr_matrix(counts(50, 5)))
    with pytest.raises(ValueError, match="minimum of 2"):
        gaussian().fit(sparse.csr_matrix(counts(1, 4)))


def test_equal_rows_have_equal_projections_sparse_or_not():
    X = counts(200, 40)
    np.testing.assert_array_equal(_projection(SparseRows(X), 0, False), _projection(X, 0, False))


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [pca(20, temperature=0), gaussian("diag", 5, max_iter=3)],
                         ids=["pca", "mixture"])  # fmt: skip
def test_memory_follows_the_entries(model):
    """An array of these rows takes 1.2 GB; their entries take 2 MB (benchmarks/memory.py: more)."""
    X = uniform(5000, 30_000, 0.001)
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = clone(model).fit(X)
        model.transform(X[:1000])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6, f"{peak / 1e6:.0f} MB"
