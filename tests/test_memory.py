"""Memory and threads: nothing as long as the table is kept, and threads change no digit."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from _instances import each_instance
from sklearn.base import clone
from sklearn.datasets import make_blobs
from threadpoolctl import threadpool_limits

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder
from skbae.inference.passes._rows import RowRunner

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

_FIT = """
import resource, sys, warnings
import numpy as np
from skbae import BayesianGMMAutoEncoder

warnings.simplefilter("ignore")
n, d, k = {n}, 20, 20
model = BayesianGMMAutoEncoder(k, model_temperature=0, max_iter=2, random_state=0, **{settings})
# what the libraries set up once is not the fit's: a small fit first
small = np.random.default_rng(1).standard_normal((2000, d))
model.fit(small)
X = np.random.default_rng(0).standard_normal((n, d))
unit = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
model.fit(X)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
assert model.n_iter_ == 2 and np.isfinite(model.hmaxe_)
print(after - before, X.nbytes)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="getrusage is POSIX")
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0, "covariance_type": "tied_diag"}])
def test_a_million_rows_add_less_than_100_megabytes(settings):
    """Responsibilities alone would be 160 MB, a copy of X as much again."""
    code = _FIT.format(n=1_000_000, settings=settings)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    growth, size = map(int, out.stdout.split())
    assert size == 160_000_000
    assert growth < 100e6


@pytest.mark.parametrize("kind", ["mixture", "PCA", "mixture of PCA"])
def test_rows_on_disk_are_read_in_chunks(kind, tmp_path):
    """No array of the fit is as long as the table: one number a row would be 6 MB."""
    path = tmp_path / "rows.dat"
    rows = np.memmap(path, dtype=np.float64, mode="w+", shape=(800_000, 4))
    rng = np.random.default_rng(0)
    for start in range(0, len(rows), 100_000):
        rows[start : start + 100_000] = rng.normal(size=(100_000, 4)) + rng.integers(
            2, size=(100_000, 1)
        )
    rows.flush()
    settings = {"model_temperature": 0, "n_jobs": 1}
    model = {
        "mixture": BayesianGMMAutoEncoder(2, max_iter=2, random_state=0, **settings),
        "PCA": BayesianPCAAutoEncoder(2, **settings),
        "mixture of PCA": BayesianMixturePCAAutoEncoder(
            2, n_latent=1, max_iter=2, random_state=0, **settings
        ),
    }[kind]
    clone(model).fit(rows[:5000])  # what libraries set up once is not the fit's
    on_disk = np.memmap(path, dtype=np.float64, mode="r", shape=rows.shape)
    tracemalloc.start()
    model.fit(on_disk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12e6, f"{peak / 1e6:.1f} MB"
    np.testing.assert_allclose(model.hmaxe_, clone(model).fit(np.array(on_disk)).hmaxe_, rtol=1e-12)


def many_rows(n=13_000, dtype=np.float64):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 6)) * 3
    return (centres[rng.integers(5, size=n)] + rng.normal(size=(n, 6))).astype(dtype)


@each_instance
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_number_of_jobs_changes_no_bit(instance, dtype):
    X = many_rows(dtype=dtype)
    weights = np.random.default_rng(1).uniform(0.5, 1.5, len(X))
    fits = [
        instance.make(5, max_iter=3, tol=0, n_jobs=n_jobs).fit(X, sample_weight=weights)
        for n_jobs in (1, 2, 3, -1, None)
    ]
    for fitted in fits[1:]:
        for name in instance.attributes:
            np.testing.assert_array_equal(getattr(fitted, name), getattr(fits[0], name))
        assert fitted.lower_bounds_ == fits[0].lower_bounds_
        np.testing.assert_array_equal(fitted.score_samples(X), fits[0].score_samples(X))
        if instance.joint is not None:
            np.testing.assert_array_equal(fitted.predict_proba(X), fits[0].predict_proba(X))


@each_instance
def test_threads_of_blas_change_no_bit(instance):
    """Without n_jobs a pass takes as many threads as BLAS would, to the same result."""
    X = many_rows()
    results = []
    for limit in (1, 2):
        with threadpool_limits(limit):
            fitted = instance.make(5, max_iter=3, tol=0).fit(X)
            arrays = [getattr(fitted, name) for name in instance.attributes]
            results.append((*arrays, fitted.score_samples(X), fitted.score_gradient(X)))
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


FOLLOW = """
import numpy, scipy.linalg
from threadpoolctl import threadpool_limits
from skbae.inference.passes._rows import row_threads
for n in (1, 2):
    with threadpool_limits(n):
        print(row_threads())
"""


def test_threads_follow_threadpoolctl():
    """In a process of its own: other tests may have left this one with one thread of BLAS."""
    run = subprocess.run([sys.executable, "-c", FOLLOW], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "2"]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_map_keeps_the_order_of_the_rows(n_threads):
    X = np.arange(1000.0).reshape(500, 2)
    with RowRunner(n_threads) as runner:
        np.testing.assert_array_equal(runner.map(lambda chunk: chunk * 2, X, 37), X * 2)
        first, second = runner.map(lambda chunk: (chunk[:, 0], chunk), X, 37)
    np.testing.assert_array_equal(first, X[:, 0])
    np.testing.assert_array_equal(second, X)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_error_in_a_thread_is_raised_to_the_caller(n_threads):
    def fail(chunk):
        raise ZeroDivisionError("in a chunk")

    with (
        pytest.raises(ZeroDivisionError, match="in a chunk"),
        RowRunner(n_threads) as runner,
    ):
        runner.map(fail, np.ones((100, 1)), 10)


@each_instance
def test_prediction_does_not_depend_on_the_chunks(instance):
    """A row's numbers are its own: alone, or among many."""
    X = many_rows(9000)
    fitted = instance.make(5, max_iter=3, tol=0).fit(X)
    some = np.r_[0, 17, 4095, 4096, 8999]
    np.testing.assert_allclose(fitted.score_samples(X)[some], fitted.score_samples(X[some]))
    np.testing.assert_allclose(
        fitted.transform(X)[some], fitted.transform(X[some]), rtol=1e-6, atol=1e-12
    )


def test_many_kept_models_are_not_all_compared_with_each_other():
    """A table of all pairs of 1,000 models, for each order of four components, takes 800 MB."""
    X = make_blobs(60, 2, centers=4, random_state=0)[0]
    model = BayesianGMMAutoEncoder(4, n_models=1000, random_state=0)
    tracemalloc.start()
    try:
        model.fit(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3e8
