"""Memory that a fit adds to a process, by where the rows are.

- In memory: 1,000,000 rows, 20 features, 20 components; the peak resident size after the fit less
  the resident size before it, beside scikit-learn's. The limit is 100 MB: nothing of shape (N, K)
  may be kept.
- On disk: a memory map of ``--gigabytes`` (8 of them should fit with less than 300 MB). What counts
  is anonymous memory; pages of the file that the system keeps in its cache do not.
- Sparse: 20,000 rows of 30,000 features with 0.1% of the entries, PCA of 50 components and a
  mixture; an array of the rows would take 4.8 GB.
- A worker of dask: beyond the rows that it keeps.

Each part runs in a process of its own. Linux only. Run ``python benchmarks/memory.py``, with
``--help`` for its options.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder

ROWS, FEATURES, COMPONENTS, ITERATIONS = 1_000_000, 20, 20, 3
LIMIT = 100  # MB
ON_DISK = 300  # MB


def mixture(n_components, **settings):
    settings = {"model_temperature": 0, "max_iter": ITERATIONS, "tol": 0, **settings}
    return BayesianGMMAutoEncoder(n_components, random_state=0, **settings)


class Peak:
    """The largest growth of the anonymous memory of a process, looked at every few milliseconds."""

    def __init__(self, process="self"):
        self.status = Path(f"/proc/{process}/status")

    def now(self, field="RssAnon"):
        """Return a size in MB."""
        line = next(line for line in self.status.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024 / 1e6

    def _watch(self):
        while not self._done.wait(0.005):
            self.largest = max(self.largest, self.now())

    def __enter__(self):
        self.before = self.largest = self.now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *exc):
        self.seconds = time.perf_counter() - self._begin
        self._done.set()
        self._thread.join()
        self.growth = max(self.largest, self.now()) - self.before


def clusters(n_rows, n_features, rng):
    X = rng.standard_normal((n_rows, n_features))
    return X + 3 * rng.integers(COMPONENTS, size=(n_rows, 1))


def in_memory(options):
    rng = np.random.default_rng(0)
    X = np.concatenate([clusters(ROWS // 100, FEATURES, rng) for _ in range(100)])
    theirs = GaussianMixture(
        COMPONENTS, max_iter=ITERATIONS, tol=0, init_params="random_from_data", random_state=0
    )
    for name, model in (("skbae", mixture(COMPONENTS)), ("scikit-learn", theirs)):
        with Peak() as peak:
            model.fit(X)
        print(f"  {name:20s} X {X.nbytes / 1e6:.0f} MB, fit +{peak.growth:.0f} MB")


def write(path, n_rows):
    rng = np.random.default_rng(0)
    table = np.lib.format.open_memmap(path, "w+", np.float64, (n_rows, FEATURES))
    for start in range(0, n_rows, 100_000):
        table[start : start + 100_000] = clusters(min(100_000, n_rows - start), FEATURES, rng)
    table.flush()


def on_disk(options):
    n_rows = int(options.gigabytes * 1e9 / 8 / FEATURES)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "rows.npy"
        # in a process of its own: what it has freed would be used again by the fit
        writer = multiprocessing.Process(target=write, args=(path, n_rows))
        writer.start()
        writer.join()
        table = np.load(path, mmap_mode="r")
        models = {
            "mixture, full": mixture(10),
            "mixture, diag": mixture(10, covariance_type="diag"),
            "PCA": BayesianPCAAutoEncoder(5, model_temperature=0),
            "mixture of PCA": BayesianMixturePCAAutoEncoder(
                5, n_latent=2, model_temperature=0, max_iter=ITERATIONS, random_state=0
            ),
        }
        for name in options.models or models:
            model = models[name]
            model.fit(np.array(table[:5000]))  # what libraries set up once is not the fit's
            with Peak() as peak:
                model.fit(table)
            print(
                f"  {name:20s} {table.nbytes / 1e9:.1f} GB on disk, fit +{peak.growth:.0f} MB, "
                f"{peak.seconds:.0f} s",
                flush=True,
            )
            out = np.lib.format.open_memmap(Path(folder) / "out.npy", "w+", shape=(n_rows,))
            with Peak() as peak:
                model.score_samples(table, out=out)
            print(
                f"  {'':20s} score_samples +{peak.growth:.0f} MB, {peak.seconds:.0f} s", flush=True
            )


def of_sparse_rows(options):
    rng = np.random.default_rng(0)
    shape = (20_000, 30_000)
    places = np.unique(rng.integers(shape[0] * shape[1], size=shape[0] * shape[1] // 1000))
    entries = (rng.random(len(places)), divmod(places, shape[1]))
    X = sparse.coo_array(entries, shape=shape).tocsr()
    size = (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes) / 1e6
    models = {
        "PCA, d=50": BayesianPCAAutoEncoder(50, temperature=0, random_state=0),
        "mixture, diag, K=5": mixture(5, covariance_type="diag"),
    }
    for name, model in models.items():
        with Peak() as peak:
            model.fit(X)
        print(f"  {name:20s} X {size:.0f} MB, fit +{peak.growth:.0f} MB, {peak.seconds:.1f} s")


def of_a_dask_worker(options):
    import dask.array as da
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        rng = da.random.default_rng(0)
        rows = rng.standard_normal((ROWS, FEATURES), chunks=(50_000, FEATURES))
        rows = (rows + 3 * rng.integers(5, size=(ROWS, 1), chunks=(50_000, 1))).persist()
        model = mixture(10)
        model.fit(rows[:50_000])
        worker = next(iter(client.run(os.getpid).values()))
        with Peak(worker) as peak, Peak() as own:
            model.fit(rows)
        print(
            f"  {'mixture, full':20s} {rows.nbytes / 1e6:.0f} MB in {rows.npartitions} blocks, "
            f"worker +{peak.growth:.0f} MB, client +{own.growth:.0f} MB"
        )


PARTS = {
    "memory": in_memory,
    "disk": on_disk,
    "sparse": of_sparse_rows,
    "dask": of_a_dask_worker,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help="one part only, in this process")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the file")
    parser.add_argument("--folder", help="where the file is written")
    parser.add_argument("--models", nargs="*", help="which models are fitted to the file")
    options = parser.parse_args()
    if options.part:
        warnings.simplefilter("ignore", ConvergenceWarning)
        PARTS[options.part](options)
        return
    limits = {"memory": f"limit for skbae {LIMIT} MB", "disk": f"limit {ON_DISK} MB"}
    for part in PARTS:
        print(f"{part}{f' ({limits[part]})' if part in limits else ''}", flush=True)
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--part", part], check=True)


if __name__ == "__main__":
    main()
