"""Interrupted fits, many fits, and many threads: nothing is left behind, and no digit changes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from _altered import quick
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from threadpoolctl import threadpool_info

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixtureAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
    BayesianVAEAutoEncoder,
    EnergyAutoEncoder,
)
from skbae.components import Poisson
from skbae.energies import MixtureOf

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).normal(size=(60, 3)) + [[0.0, 0, 0], [4, 4, 4]] * 30
BITS = (X.mean(axis=0) < X).astype(float)
COUNTS = np.floor(np.abs(X) * 3)
ONE = {"model_temperature": 0, "random_state": 0}
DRAWN = {"n_models": 2, "random_state": 0}
NETWORK = {"hidden_layer_sizes": 4, "max_iter": 2, "random_state": 0}
MACHINE = {"max_iter": 3, "n_init": 1, "random_state": 0}


def energy():
    from _normals import NormalComponents

    return MixtureOf(NormalComponents, n_components=2)


ESTIMATORS = {
    "gmm": (BayesianGMMAutoEncoder(2, **ONE), X),
    "gmm-sampled": (quick(BayesianGMMAutoEncoder(2, **DRAWN)), X),
    "pca": (BayesianPCAAutoEncoder(1, **ONE), X),
    "pca-tilted": (BayesianPCAAutoEncoder(1, tilt=0.5, **ONE), X),
    "pca-sampled": (quick(BayesianPCAAutoEncoder(1, **DRAWN)), X),
    "mixture-pca": (BayesianMixturePCAAutoEncoder(2, **ONE), X),
    "mixture": (BayesianMixtureAutoEncoder(2, Poisson(), **ONE), COUNTS),
    "mixture-sampled": (quick(BayesianMixtureAutoEncoder(2, Poisson(), **DRAWN)), COUNTS),
    "rbm": (BayesianRBMAutoEncoder(2, **MACHINE), BITS),
    "vae": (BayesianVAEAutoEncoder(1, **NETWORK), X),
    "energy": (EnergyAutoEncoder(energy(), **ONE), X),
}
# At which share of a fit's calls it is interrupted, of single models and of sampled ones.
SHARES = {False: (0.0, 0.3, 0.97), True: (0.5,)}
each_estimator = pytest.mark.parametrize("name", ESTIMATORS)


def blas_threads():
    return [library["num_threads"] for library in threadpool_info()]


def numbers(fitted, rows):
    """Return what a fit and its predictions come to, as arrays."""
    return [np.asarray(fitted.hmaxe_), fitted.score_samples(rows), fitted.transform(rows)]


def assert_same_bits(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


# -- interruptions ---------------------------------------------------------------------------------


class Interrupts:
    """Raises KeyboardInterrupt at a line of the package that a fit comes to: as a user would."""

    def __init__(self, after):
        self.left, self.done = after, False

    def __enter__(self):
        sys.settrace(self)

    def __exit__(self, kind, error, trace):
        sys.settrace(None)
        return kind is KeyboardInterrupt

    def __call__(self, frame, event, argument):
        name = frame.f_globals.get("__name__", "")
        # what undoes a fit must not be interrupted itself
        if not name.startswith("skbae") or name.endswith(("_transaction", "_progress", "_rows")):
            return None
        self.left -= 1
        if self.left == 0:
            self.done = True
            raise KeyboardInterrupt
        return None


def n_calls(estimator, rows):
    counter = Interrupts(10**9)
    with counter:
        estimator.fit(rows)
    return 10**9 - counter.left


@each_estimator
def test_an_interrupted_fit_leaves_nothing_behind(name):
    """At several moments of the fit, of a new estimator and of a fitted one."""
    estimator, rows = ESTIMATORS[name]
    total = n_calls(clone(estimator), rows)
    expected, threads = numbers(clone(estimator).fit(rows), rows), blas_threads()
    for share in SHARES[name.endswith("sampled")]:
        new, fitted = clone(estimator), clone(estimator).fit(rows[::2])
        for each in (new, fitted):
            before, digest = dict(vars(each)), joblib.hash(vars(each))
            interrupts = Interrupts(1 + int(share * (total - 1)))
            with interrupts:
                each.fit(rows)
            if not interrupts.done:
                continue  # another number of calls
            assert list(vars(each)) == list(before)
            assert all(vars(each)[key] is value for key, value in before.items())
            assert joblib.hash(before) == digest
            assert blas_threads() == threads
        assert share > 0.9 or interrupts.done
        if not hasattr(new, "models_"):
            with pytest.raises(NotFittedError):
                new.transform(rows)
        assert_same_bits(numbers(new.fit(rows), rows), expected)
        assert_same_bits(numbers(fitted.fit(rows), rows), expected)


# -- many fits -------------------------------------------------------------------------------------

MANY = ("gmm", "pca", "mixture-pca", "mixture", "rbm", "vae", "energy")


def growth(name, n_fits):
    """Return by how many bytes memory has grown after fits to a table of 48 kB."""
    estimator, rows = ESTIMATORS[name]
    rows = np.repeat(rows, 33, axis=0)
    estimator = clone(estimator).set_params(**({} if name == "pca" else {"max_iter": 1}))
    for _ in range(3):  # what libraries and caches set up once
        estimator.fit(rows).score_samples(rows)
    gc.collect()
    tracemalloc.start()
    try:
        estimator.fit(rows)
        gc.collect()
        first, _ = tracemalloc.get_traced_memory()
        for _ in range(n_fits):
            estimator.fit(rows).score_samples(rows)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - first
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", MANY)
def test_many_fits_keep_no_memory(name):
    """Not a copy of the rows or of the scores for each fit."""
    assert growth(name, 10) < 100_000


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY)
def test_two_hundred_fits_keep_no_memory(name):
    assert growth(name, 200) < 300_000


# -- threads ---------------------------------------------------------------------------------------


def test_threads_that_fit_and_predict_give_the_same_bits():
    """Eight threads, of which each fits an estimator of its own, and all predict with one."""

    def fit(job):
        estimator, rows = ESTIMATORS[job[0]]
        model = clone(estimator).set_params(random_state=job[1])
        return numbers(model.fit(rows), rows)

    fitted = {name: clone(ESTIMATORS[name][0]).fit(ESTIMATORS[name][1]) for name in ESTIMATORS}

    def predict(name):
        rows = ESTIMATORS[name][1]
        return numbers(fitted[name], rows)

    jobs = [(name, seed) for seed in range(2) for name in ESTIMATORS if "sampled" not in name]
    names = [name for _ in range(8) for name in ESTIMATORS]
    fits, predictions = [fit(job) for job in jobs], {name: predict(name) for name in ESTIMATORS}
    with ThreadPoolExecutor(8) as pool:
        at_once, fitting = list(pool.map(predict, names)), list(pool.map(fit, jobs))
    for name, found in zip(names, at_once, strict=True):
        assert_same_bits(found, predictions[name])
    for expected, found in zip(fits, fitting, strict=True):
        assert_same_bits(found, expected)


_THREADS = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from threadpoolctl import threadpool_info
from skbae import BayesianGMMAutoEncoder

blas = lambda: [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
X = np.random.default_rng(0).normal(size=(300, 3))
before = blas()
def fit(seed):
    BayesianGMMAutoEncoder(3, model_temperature=0, random_state=seed).fit(X).score(X)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(fit, range(24)))
assert blas() == before, (before, blas())
print("restored")
"""


def test_threads_restore_the_number_of_threads_of_blas():
    """The last of several fits at once restored the limit of another: one thread for ever."""
    out = subprocess.run(
        [sys.executable, "-c", _THREADS],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == "restored"
