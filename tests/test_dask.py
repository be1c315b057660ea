"""Rows of a dask array: fits by one task for each block, equal to those in memory."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from test_large_data import (
    ATTRIBUTES,
    MODELS,
    assert_same_fit,
    gaussian,
    pca,
    rows,
    two_clusters,
    with_gaps,
)

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
)
from skbae.energies.gaussian._mixture import conjugate_gaussian_mixture
from skbae.estimators import _mixture_sampling as mixture_sampling
from skbae.estimators.gmm import _fit as gmm_fit
from skbae.inference._objective import Objective
from skbae.inference.passes._dask import DaskRows
from skbae.inference.passes._rows import RowRunner, make_rows

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("dask.distributed")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

OPTIONS = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}


@pytest.fixture(scope="module", autouse=True)
def environment():
    """Undo what starting workers does to this process: BLAS is told to use one thread."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(n_workers=2, **OPTIONS) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        yield client


def blocks(X, size=700, columns=-1):
    return da.from_array(X, chunks=(size, columns))


def same_bits(first, second):
    for name in ATTRIBUTES:
        if hasattr(first, name):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


# -- fits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_dask_array_is_fitted_as_an_array_is(name):
    X = rows(4000)
    weights = np.random.default_rng(2).integers(0, 3, len(X)).astype(float)
    with dask.config.set(scheduler="threads"):
        for own, given in ((None, None), (weights, da.from_array(weights))):
            reference = clone(MODELS[name]).fit(X, sample_weight=own)
            fitted = clone(MODELS[name]).fit(blocks(X, columns=3), sample_weight=given)
            assert_same_fit(fitted, reference, rtol=1e-8)
            assert fitted.n_samples_seen_ == reference.n_samples_seen_


@pytest.mark.parametrize("name", ["full", "diag", "subspaces", "pca"])
def test_missing_entries_of_blocks_are_those_of_an_array(name):
    X = with_gaps(rows(2000))
    reference = clone(MODELS[name]).fit(X)
    assert_same_fit(clone(MODELS[name]).fit(blocks(X)), reference, rtol=1e-7)
    transformed = reference.transform(blocks(X)).compute()
    np.testing.assert_allclose(transformed, reference.transform(X), rtol=1e-9, atol=1e-12)


def test_sampled_pca_needs_only_moments():
    X = rows(1500)
    found, expected = (
        BayesianPCAAutoEncoder(2, n_models=5, random_state=0).fit(data) for data in (blocks(X), X)
    )
    np.testing.assert_allclose(found.log_evidence_, expected.log_evidence_, rtol=1e-6)


@pytest.fixture
def many(monkeypatch):
    """Let some thousand rows count as too many to be put into memory, and for allocations."""
    for module in (gmm_fit, mixture_sampling):
        monkeypatch.setattr(module, "MOST_ALLOCATION_WORK", 1000.0)


def sampled(data, n_components=2, **settings):
    model = BayesianGMMAutoEncoder(n_components, n_models=10, random_state=0, **settings)
    return model.fit(data)


@pytest.mark.usefixtures("many")
def test_mixtures_are_sampled_by_sweeps():
    """With the evidence of rows in memory; the same bits one task at a time, or several."""
    X = two_clusters()
    expected, found = sampled(X), []
    for options in ({"scheduler": "threads", "num_workers": 3}, {"scheduler": "synchronous"}):
        with dask.config.set(options):
            found.append(sampled(blocks(X)))
    one, other = found
    assert one.sampling_.status == expected.sampling_.status == "ok"
    np.testing.assert_allclose(one.log_evidence_, expected.log_evidence_, atol=0.15)
    order = np.argsort(one.means_[:, 0]), np.argsort(expected.means_[:, 0])
    np.testing.assert_allclose(one.means_[order[0]], expected.means_[order[1]], atol=1e-3)
    np.testing.assert_array_equal(one.models_.means, other.models_.means)
    assert one.log_evidence_ == other.log_evidence_


@pytest.mark.slow
@pytest.mark.usefixtures("many")
def test_workers_draw_the_same_models(client):
    X = two_clusters()
    on_workers = sampled(blocks(X))
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(on_workers.models_.means, sampled(blocks(X)).models_.means)


def test_few_rows_are_sampled_in_memory():
    X = rows(60, 2)
    with dask.config.set(scheduler="threads"):
        assert sampled(blocks(X), 1).log_evidence_ == sampled(X, 1).log_evidence_
        np.testing.assert_array_equal(sampled(blocks(X)).models_.means, sampled(X).models_.means)


def test_equal_blocks_draw_codes_of_their_own():
    """Two equal blocks would else give every component an even number of rows."""
    X = np.random.default_rng(0).normal(size=(101, 2))
    energy = conjugate_gaussian_mixture(
        2, 2, "diag", False, 0.0, concentration=1.0, mean_precision=1.0, mean=np.zeros(2),
        degrees_of_freedom=4.0, covariance=np.ones(2), centre=np.zeros(2),
    )  # fmt: skip
    params = energy.draw_prior(1, np.random.default_rng(1))
    seeds = np.random.SeedSequence(2).spawn(12)
    with dask.config.set(scheduler="synchronous"), RowRunner() as runner:
        table = DaskRows(da.concatenate([blocks(X, 101)] * 2)).kept(False)
        objective = Objective(energy, make_rows(table, None), runner, 1.0)
        counts = [objective.sweep(params, seed).counts for seed in seeds]
        again = objective.sweep(params, np.random.SeedSequence(2).spawn(1)[0]).counts
    np.testing.assert_array_equal(again, counts[0])
    assert np.sum(np.array(counts) % 2) > 0
    assert len(np.unique(np.array(counts)[:, 0, 0])) > 3


@pytest.mark.usefixtures("many")
def test_sampling_refuses_what_takes_more_than_sweeps():
    X = rows(2000, 2)
    gaps = X.copy()
    gaps[3, 1] = np.nan
    with dask.config.set(scheduler="threads"):
        with pytest.raises(TypeError, match=r"sampling models with missing entries needs all rows"):
            sampled(blocks(gaps))
        with pytest.raises(TypeError, match=r"with a sample_weight of fractions needs all rows"):
            BayesianGMMAutoEncoder(2).fit(blocks(X), sample_weight=np.full(2000, 0.5))
        for column, what in (
            (X[:, :1] * 2 + 1, "affine functions of others"),
            (0 * X[:, :1], "con"),
        ):
            with pytest.raises(ValueError, match=rf"columns of X are {what}.*\(2\).*without such"):
                sampled(blocks(np.concatenate([X, column], axis=1)))
        repeated = np.concatenate([X, X[:, :1]], axis=1)
        assert sampled(blocks(repeated), 1, covariance_type="spherical").means_.shape == (1, 3)


def test_a_cluster_gives_the_same_bits_whatever_its_workers(client, cluster):
    """On two workers, twice; on one; and in this process: the tree of sums is the same."""
    X = rows(4000)
    given = blocks(X, 500)
    for name, model in (("full", gaussian(max_iter=3)), ("pca", pca())):
        first, again = (clone(model).fit(given) for _ in range(2))
        same_bits(first, again)
        assert_same_fit(first, clone(model).fit(X), rtol=1e-8)
        if name == "full":
            worker = next(iter(client.scheduler_info()["workers"]))
            with dask.annotate(workers=[worker]):
                same_bits(clone(model).fit(given), first)
        with dask.config.set(scheduler="synchronous"):
            same_bits(clone(model).fit(given), first)
        assert first.score_samples(given).compute().shape == (4000,)


def test_blocks_stay_where_they_are(monkeypatch):
    """What a pass brings to this process are sums; rows to start from are some of all."""
    sizes, plain = [], DaskRows.accumulate

    def accumulate(self, *args):
        found = plain(self, *args)
        sizes.append(len(pickle.dumps(found)))
        return found

    monkeypatch.setattr(DaskRows, "accumulate", accumulate)
    X = rows(60_000, 8)
    with dask.config.set(scheduler="threads"):
        model = gaussian(covariance_type="diag").fit(blocks(X, 5000))
    assert len(sizes) > 4
    assert sorted(sizes)[-1] < 0.4 * X.nbytes  # the rows that k-means starts from
    assert sorted(sizes)[-2] < 10_000
    assert model.n_samples_seen_ == 60_000


def test_blocks_are_computed_once(tmp_path):
    X, log = rows(3000), tmp_path / "log"

    def load(block):
        with log.open("a") as file:
            file.write("x")
        return block

    given = blocks(X).map_blocks(load, dtype=X.dtype, meta=X[:0])
    with dask.config.set(scheduler="threads"):
        model = gaussian().fit(given)
        assert len(log.read_text()) == 5
        assert model.n_iter_ > 2
        codes, labels = model.transform(given), model.predict(given)
        scores = model.score_samples(given)
        assert len(log.read_text()) == 5, "results are lazy"
        for lazy, method in ((codes, "transform"), (labels, "predict"), (scores, "score_samples")):
            expected = getattr(model, method)(X)
            assert isinstance(lazy, da.Array)
            assert (lazy.shape, lazy.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(model.score(given), model.score(X))


def test_single_precision_of_blocks():
    X = rows(dtype=np.float32)
    model = gaussian().fit(blocks(X))
    reference = gaussian().fit(X)  # in single precision, sums of other blocks differ
    np.testing.assert_allclose(model.hmaxe_, reference.hmaxe_, rtol=1e-6)
    np.testing.assert_allclose(model.means_, reference.means_, atol=1e-3)
    assert model.transform(blocks(X)).dtype == np.float32
    whole = blocks(np.arange(4000).reshape(1000, 4) % 17)
    np.testing.assert_allclose(pca().fit(whole).mean_, whole.compute().mean(axis=0))


def test_blocks_without_rows_are_left_out():
    X = rows(2000)
    given = da.concatenate([blocks(X[:900]), blocks(X[:0]), blocks(X[900:])])
    weights = np.repeat([1.0, 0.0, 1.0], [700, 200, 1100])  # none of a block
    for own in (None, weights):
        model = gaussian().fit(given, sample_weight=own)
        assert_same_fit(model, gaussian().fit(X, sample_weight=own), rtol=1e-8)
    assert model.predict(given).compute().shape == (2000,)


# -- what is refused -------------------------------------------------------------------------------


def test_unknown_sizes_are_refused_with_the_remedy():
    X = rows(2000)
    given = blocks(X)[da.from_array(X[:, 0] > 0, chunks=700)]
    for model in (gaussian(), pca()):
        with pytest.raises(
            ValueError, match=r"unknown size.*call X\.compute_chunk_sizes\(\) first"
        ):
            clone(model).fit(given)
    model = gaussian().fit(given.compute_chunk_sizes())
    again = blocks(X)[da.from_array(X[:, 0] > 0, chunks=700)]
    np.testing.assert_array_equal(model.predict(again).compute(), model.predict(X[X[:, 0] > 0]))


def test_what_needs_all_rows_is_refused_by_name():
    given = blocks(rows(2000))
    for model, reason in (
        (BayesianGMMAutoEncoder(2, temperature=2, model_temperature=1), "model_temperature=1"),
        (BayesianGMMAutoEncoder(2, tilt=0.1), "model_temperature=1"),
        (BayesianGMMAutoEncoder(13), "n_components=13 sampled"),
        (BayesianMixturePCAAutoEncoder(2), "model_temperature=1"),
        (gaussian(annealing="auto"), "annealing"),
        (pca(svd_solver="full"), "svd_solver='full'"),
        (BayesianPCAAutoEncoder(1), "fewer rows than columns"),
    ):
        data = blocks(rows(3, 5)) if reason.startswith("fewer") else given
        with pytest.raises(TypeError, match=f"X is a dask array, and .*{reason} needs all rows in"):
            model.fit(data)
        assert not hasattr(model, "n_features_in_")
    with pytest.raises(ValueError, match="must have two dimensions"):
        gaussian().fit(given[:, 0])
    fitted = gaussian().fit(given)
    with pytest.raises(ValueError, match="4 features"):
        fitted.predict(given[:, :3])
    with pytest.raises(ValueError, match=r"dask\.array\.store"):
        fitted.predict(given, out=np.empty(2000))


def test_a_block_that_fails_leaves_the_estimator_unfitted():
    X = rows(2000)
    X[1234, 2] = np.inf
    with pytest.raises(ValueError, match="contains infinity, in row 1234 and column 2"):
        gaussian().fit(blocks(X))

    def load(block, block_id=None):
        if block_id[0] == 2:
            raise OSError("no such file")
        return block

    model = gaussian()
    given = blocks(rows(2000)).map_blocks(load, dtype=X.dtype, meta=X[:0])
    with pytest.raises(OSError, match="no such file"):
        model.fit(given)
    assert not hasattr(model, "means_")
    assert not hasattr(model, "n_features_in_")


def test_dask_is_not_imported_without_need():
    code = (
        "import sys, numpy as np, skbae\n"
        "skbae.BayesianPCAAutoEncoder(1, model_temperature=0).fit_transform(np.eye(3))\n"
        "assert 'dask' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- workers ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_changes_nothing(monkeypatch):
    X = rows(6000)
    with (
        distributed.LocalCluster(n_workers=2, **OPTIONS) as cluster,
        distributed.Client(cluster) as client,
    ):
        given = blocks(X, 500)
        expected = gaussian(tol=1e-8).fit(given)
        passes, plain = [], DaskRows.accumulate

        def accumulate(self, *args):
            passes.append(1)
            if len(passes) == 7:
                victim = next(iter(client.run(os.getpid).values()))
                os.kill(victim, 9)
            return plain(self, *args)

        monkeypatch.setattr(DaskRows, "accumulate", accumulate)
        fitted = gaussian(tol=1e-8).fit(given)
        assert len(passes) > 10
        same_bits(fitted, expected)


def test_a_search_over_candidates_runs_on_workers(client):
    """By the dask backend of joblib, as by any other."""
    X = rows(600)
    search = GridSearchCV(gaussian(), {"n_components": [1, 2, 3]}, cv=2, error_score="raise")
    expected = clone(search).fit(X)
    # earlier versions of joblib have the older name only
    with getattr(joblib, "parallel_config", joblib.parallel_backend)(backend="dask"):
        found = clone(search).fit(X)
    np.testing.assert_array_equal(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )
