"""Tables that are not arrays in memory: read piece by piece, fitted as if they were."""

from __future__ import annotations

import tracemalloc

import joblib
import numpy as np
import pytest
from _instances import COVARIANCE_TYPES
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder
from skbae.estimators import _mixture_sampling as mixture_sampling
from skbae.estimators.gmm import _fit as gmm_fit
from skbae.inference.passes import _sources, _starting_points
from skbae.inference.passes._sources import TableOnDisk, accumulate_block, chunks_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Table:
    """The protocol and nothing else: shape, dtype, slices of rows."""

    def __init__(self, X, fails_from=None, after=0):
        self.shape, self.dtype = X.shape, X.dtype
        self._X, self._fails_from, self._after = X, fails_from, after
        self.reads = []

    def __getitem__(self, part):
        assert isinstance(part, slice)
        assert part.step is None
        self.reads.append((part.start, part.stop))
        if self._fails_from is not None and part.stop > self._fails_from:
            self._after -= 1
            if self._after < 0:
                raise RuntimeError("the disk has a scratch")
        return self._X[part]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Pieces of a few hundred rows, so that small tables have many."""
    monkeypatch.setattr(_sources, "_PIECE", 1 << 14)
    monkeypatch.setattr(_starting_points, "_NUMBERS", 1 << 14)


def rows(n_rows=5000, n_features=4, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    means = 2 * rng.standard_normal((3, n_features))
    labels = rng.integers(3, size=n_rows)
    scales = np.linspace(2.0, 0.5, n_features)
    return (rng.standard_normal((n_rows, n_features)) * scales + means[labels]).astype(dtype)


def two_clusters(n_rows=2000):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n_rows, 2)) + 4 * (np.arange(n_rows)[:, None] % 3 == 0)


def with_gaps(X, share=0.1):
    gaps = np.random.default_rng(1).random(X.shape) < share
    return np.where(gaps, np.nan, X)


def gaussian(n_components=3, **settings):
    settings = {"model_temperature": 0, "random_state": 0, **settings}
    return BayesianGMMAutoEncoder(n_components, **settings)


def subspaces(n_components=2, **settings):
    settings = {"model_temperature": 0, "random_state": 0, "n_latent": 1, **settings}
    return BayesianMixturePCAAutoEncoder(n_components, **settings)


def pca(n_components=2, **settings):
    return BayesianPCAAutoEncoder(n_components, **{"model_temperature": 0, **settings})


MODELS = {
    **{kind: gaussian(covariance_type=kind) for kind in COVARIANCE_TYPES},
    "tilted": gaussian(tilt=0.3),
    "hard": gaussian(temperature=0.0),
    "subspaces": subspaces(),
    "subspaces at 0": subspaces(temperature=0.0),
    "one subspace": subspaces(1),
    "pca": pca(),
    "pca at 0": pca(temperature=0.0),
    "pca, randomized": pca(svd_solver="randomized", random_state=0),
    "pca, all axes": pca(None),
    "pca, share": pca(0.9),
    "pca, tilted": pca(tilt=0.3),
}
each_model = pytest.mark.parametrize("name", MODELS)
ATTRIBUTES = ("means_", "mean_", "weights_", "covariances_", "components_", "noise_variance_",
              "explained_variance_", "hmaxe_", "n_iter_")  # fmt: skip


def assert_same_fit(fitted, reference, rtol=1e-9):
    for name in ATTRIBUTES:
        if hasattr(reference, name):
            found, expected = getattr(fitted, name), getattr(reference, name)
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-10, err_msg=name)


# -- fits ------------------------------------------------------------------------------------------


@each_model
def test_a_table_is_fitted_as_an_array_is(name):
    X = rows(9000, 24)
    weights = np.random.default_rng(2).integers(0, 3, len(X)).astype(float)
    for own in (None, weights):
        reference = clone(MODELS[name]).fit(X, sample_weight=own)
        table = Table(X)
        fitted = clone(MODELS[name]).fit(table, sample_weight=own)
        assert_same_fit(fitted, reference)
        assert len(table.reads) > 10
        assert max(stop - start for start, stop in table.reads) < 6000


@pytest.mark.parametrize("name", ["full", "diag", "subspaces", "pca"])
def test_missing_entries_of_a_table_are_those_of_an_array(name):
    X = with_gaps(rows(2000))
    assert_same_fit(clone(MODELS[name]).fit(Table(X)), clone(MODELS[name]).fit(X), rtol=1e-7)


@pytest.mark.parametrize("name", ["full", "subspaces", "pca"])
def test_single_precision_stays_single(name):
    X = rows(dtype=np.float32)
    fitted, reference = clone(MODELS[name]).fit(Table(X)), clone(MODELS[name]).fit(X)
    assert_same_fit(fitted, reference, rtol=1e-6)
    assert fitted.transform(Table(X)).dtype == np.float32


def test_integers_on_disk_are_read_as_numbers():
    X = np.random.default_rng(0).integers(0, 9, (3000, 3)).astype(np.int16)
    for data in (Table(X), X):
        np.testing.assert_allclose(
            pca().fit(data).explained_variance_, pca().fit(X.astype(float)).explained_variance_
        )


def test_sampled_pca_needs_only_moments():
    X = rows(1500)
    found, expected = (
        BayesianPCAAutoEncoder(2, n_models=5, random_state=0).fit(data) for data in (Table(X), X)
    )
    np.testing.assert_allclose(found.log_evidence_, expected.log_evidence_, rtol=1e-6)


def test_models_that_need_all_rows_at_once_read_them():
    """Sampled mixtures, and starts by annealing, look at rows again and again."""
    X = rows(150, 2)
    for settings in ({"annealing": "auto"}, {"model_temperature": 1, "n_models": 3}):
        model = gaussian(1, **settings)
        np.testing.assert_array_equal(clone(model).fit(Table(X)).means_, model.fit(X).means_)


def test_more_columns_than_rows():
    X = rows(30, 60)
    for n_components in (2, None):
        found, expected = (pca(n_components).fit(data) for data in (Table(X), X))
        np.testing.assert_allclose(
            found.explained_variance_, expected.explained_variance_, rtol=1e-8, atol=1e-10
        )
    for solver in ("gram", "full"):  # which need whole columns, and read them
        model = pca(svd_solver=solver)
        np.testing.assert_array_equal(
            clone(model).fit(Table(X)).components_, model.fit(X).components_
        )


# -- methods ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["full", "subspaces", "pca"])
@pytest.mark.parametrize("gaps", [False, True])
def test_methods_read_piece_by_piece(name, gaps, monkeypatch, tmp_path):
    X = with_gaps(rows(3000)) if gaps else rows(3000)
    model = clone(MODELS[name]).fit(rows(600))
    monkeypatch.setattr("skbae.estimators._pieces._PIECE", 1 << 14)
    methods = ["transform", "score_samples"]
    methods += ["predict", "predict_proba"] if name != "pca" else []
    for method in methods:
        expected, table = getattr(model, method)(X), Table(X)
        found = getattr(model, method)(table)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
        assert found.dtype == expected.dtype
        assert len(table.reads) > 5
        for data in (X, Table(X)):
            out = np.lib.format.open_memmap(
                tmp_path / "out.npy", "w+", expected.dtype, expected.shape
            )
            assert getattr(model, method)(data, out=out) is out
            np.testing.assert_allclose(np.load(tmp_path / "out.npy"), found, rtol=1e-10, atol=1e-12)
        with pytest.raises(ValueError, match="out must be an array of shape"):
            getattr(model, method)(Table(X), out=np.empty(3))
    np.testing.assert_allclose(model.score(Table(X)), model.score(X), rtol=1e-12)


def test_out_is_no_metadata():
    assert not hasattr(gaussian(), "set_transform_request")
    assert not hasattr(gaussian(), "set_predict_request")


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_chunks_are_the_rows_in_order(size):
    X = rows(900)
    kept = np.random.default_rng(0).random(900) < 0.3
    kept[200:700] = False
    for source, expected in ((TableOnDisk(Table(X), False), X),
                             (TableOnDisk(Table(X), False).where(kept), X[kept])):  # fmt: skip
        for start, stop in ((0, len(expected)), (13, 77)):
            chunks = list(chunks_of(source, start, stop, size))
            np.testing.assert_array_equal(np.concatenate(chunks), expected[start:stop])
            assert {len(chunk) for chunk in chunks[:-1]} <= {size}
        np.testing.assert_array_equal(source.at(np.array([3, 50])), expected[[3, 50]])


def test_a_piece_is_at_least_a_chunk_of_the_table_itself():
    table = Table(rows(5000))
    table.chunks = (2000, 4)
    list(TableOnDisk(table, False).chunks(0, 5000, 100))
    assert table.reads == [(0, 2000), (2000, 4000), (4000, 5000)]


@each_model
@pytest.mark.parametrize("passes", [0, 1])
def test_a_read_that_fails_leaves_the_estimator_unfitted_and_says_which_rows(name, passes):
    X = rows(4000)
    table = Table(X, fails_from=3000, after=passes)
    model = clone(MODELS[name])
    before = vars(model).copy()
    with pytest.raises(
        OSError, match=r"rows \d+ to \d+ of X could not be read: RuntimeError: the "
    ):
        model.fit(table)
    assert vars(model) == before
    assert not hasattr(model, "n_features_in_")


def test_a_fit_that_fails_keeps_the_earlier_one():
    X = rows(2000)
    model = gaussian().fit(X)
    means = model.means_.copy()
    with pytest.raises(OSError, match="could not be read"):
        model.fit(Table(rows(4000, 3), fails_from=1000, after=1))
    np.testing.assert_array_equal(model.means_, means)
    assert model.n_features_in_ == 4


def test_what_is_no_number_is_named():
    X = rows(3000)
    X[1234, 2] = np.inf
    for model in (gaussian(), pca()):
        with pytest.raises(ValueError, match="contains infinity, in row 1234 and column 2"):
            model.fit(Table(X))
    X[1234, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN, in row 1234 and column 2"):
        list(TableOnDisk(Table(X), False).chunks(0, 3000, 100))
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="no known entry in column 1"):
        gaussian().fit(Table(X))
    X[:, 1] = 1e200
    with pytest.raises(ValueError, match="largest entry of column 1 is 1e\\+200"):
        gaussian().fit(Table(X))
    short = Table(rows(3000))
    short.shape = (4000, 4)
    with pytest.raises(ValueError, match=r"were read as an array of shape .* its shape is \(4000"):
        gaussian().fit(short)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        gaussian().fit(Table(rows(1)))
    with pytest.raises(ValueError, match="4 features"):
        gaussian().fit(Table(rows())).predict(Table(rows(100, 3)))


def test_columns_that_never_meet_are_named_on_disk_too():
    X = rows(3000)
    X[::2, 0], X[1::2, 3] = np.nan, np.nan
    with pytest.raises(ValueError, match="no row of X has known entries in both column 0 and"):
        gaussian().fit(Table(X))


def test_a_kernel_that_sees_no_chunk_is_empty():
    kernel = _sources.Fold(lambda X, w: (X.sum(),), 10)
    assert accumulate_block(kernel, iter(()), None, None, None) == []


@pytest.mark.parametrize("name", ["full", "subspaces", "pca"])
def test_gaps_on_disk_take_no_memory(name, tmp_path, monkeypatch):
    """A mask of the table would be 3.2 MB, its copy 25."""
    monkeypatch.setattr(_sources, "_PIECE", 1 << 20)
    path = tmp_path / "rows.dat"
    table = np.memmap(path, dtype=np.float64, mode="w+", shape=(800_000, 4))
    for start in range(0, len(table), 100_000):
        table[start : start + 100_000] = rows(100_000, 4, start)
    table[::5000, 1] = np.nan
    table.flush()
    settings = {"max_iter": 2, "n_jobs": 1}
    model = clone(MODELS[name]).set_params(**settings)
    clone(model).fit(np.array(table[:5000]))
    on_disk = np.memmap(path, dtype=np.float64, mode="r", shape=table.shape)
    tracemalloc.start()
    model.fit(on_disk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12e6, f"{peak / 1e6:.1f} MB"


def test_datasets_of_h5py(tmp_path):
    h5py = pytest.importorskip("h5py")
    X = rows(4000)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(500, 4), compression="gzip")
    with h5py.File(tmp_path / "rows.h5") as file:
        model = gaussian().fit(file["X"])
        assert_same_fit(model, gaussian().fit(X))
        np.testing.assert_array_equal(model.predict(file["X"]), model.predict(X))


def test_mixtures_on_disk_are_sampled_by_sweeps(monkeypatch, tmp_path):
    for module in (gmm_fit, mixture_sampling):
        monkeypatch.setattr(module, "MOST_ALLOCATION_WORK", 1000.0)
    X = two_clusters()
    np.save(tmp_path / "X.npy", X)
    on_disk = np.load(tmp_path / "X.npy", mmap_mode="r")
    found, expected = (
        BayesianGMMAutoEncoder(2, n_models=10, random_state=0).fit(data) for data in (on_disk, X)
    )
    assert found.sampling_.status == expected.sampling_.status == "ok"
    np.testing.assert_allclose(found.log_evidence_, expected.log_evidence_, atol=0.15)
    order = np.argsort(found.means_[:, 0]), np.argsort(expected.means_[:, 0])
    np.testing.assert_allclose(found.means_[order[0]], expected.means_[order[1]], atol=1e-3)


class ArrayInChunks:
    """What the package needs of an array of zarr: shape, dtype, chunks, and slices of rows."""

    def __init__(self, X, chunks):
        self._X, self.shape, self.dtype, self.chunks = X, X.shape, X.dtype, chunks
        self.ndim, self.size = X.ndim, X.size

    def __getitem__(self, index):
        assert isinstance(index, slice), "rows are read by slices"
        return self._X[index].copy()

    def __setitem__(self, index, values):
        self._X[index] = values


def zarr_array(X, chunks, folder):
    zarr = pytest.importorskip("zarr")
    array = zarr.open_array(str(folder / "rows.zarr"), mode="w", shape=X.shape, chunks=chunks,
                            dtype=X.dtype)  # fmt: skip
    array[:] = X
    return array


@pytest.mark.parametrize(
    "array", [zarr_array, lambda X, chunks, _: ArrayInChunks(X.copy(), chunks)],
    ids=["zarr", "stand-in"],
)  # fmt: skip
def test_arrays_of_zarr(array, tmp_path):
    X = rows(4000)
    on_disk = array(X, (700, 3), tmp_path)
    model = gaussian().fit(on_disk)
    assert_same_fit(model, gaussian().fit(X))
    np.testing.assert_array_equal(model.predict(on_disk), model.predict(X))
    out = model.transform(on_disk, out=array(np.zeros((4000, 3)), (900, 3), tmp_path / "codes"))
    np.testing.assert_array_equal(out[0:4000], model.transform(X))


# -- backends of joblib ----------------------------------------------------------------------------


@pytest.fixture
def ray():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.util.joblib").register_ray()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.parametrize("backend", ["threading", "loky", "ray"])
def test_results_do_not_depend_on_the_backend(backend, request):
    """Of searches; and of restarts, chains and passes within a worker (dask: test_dask.py)."""
    if backend == "ray":
        request.getfixturevalue("ray")
    X = rows(60, 1)
    models = [
        gaussian(n_init=3, init_params="random", n_jobs=-1),
        gaussian(1, model_temperature=1, n_models=3, covariance_type="tied_spherical", n_jobs=2),
        pca(1),
    ]
    search = GridSearchCV(models[0], {"n_components": [1, 2]}, cv=2, error_score="raise", n_jobs=2)
    with getattr(joblib, "parallel_config", joblib.parallel_backend)(backend=backend):
        fitted = joblib.Parallel(n_jobs=2)(joblib.delayed(clone(model).fit)(X) for model in models)
        searched = clone(search).fit(X)
    for own, model in zip(fitted, models, strict=True):
        expected = clone(model).fit(X)
        for name in ATTRIBUTES:
            if hasattr(expected, name):
                np.testing.assert_array_equal(getattr(own, name), getattr(expected, name))
    expected = clone(search).set_params(n_jobs=1).fit(X)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(searched.cv_results_[name], expected.cv_results_[name])
