"""Time per iteration of expectation maximisation: scikit-learn's GaussianMixture over ours.

Both start from the same parameters and take the same number of iterations, in one process, turn by
turn. The time of one iteration is the difference between a long and a short fit, divided by the
difference of their iterations, so that validation, the first pass and the last drop out. The last
ratio is the floor: what the two matrix products of our pass would give if everything else were
free; the one before it has the ratio for rows whose components overlap strongly, of which each row
belongs to all. ``--peers`` adds other libraries, where they are installed: their time over ours.
With ``--fits``, whole fits with default settings are compared instead, starts and stopping
rule included: their times, and the mean log-likelihood of a row that each reaches.

One thread is the default: on a machine that does other work too, scikit-learn's BLAS threads wait
for each other, and ratios with several threads flatter us.

Run ``python benchmarks/em.py``, with ``--help`` for its options. Ratios above 1 mean that skbae is
faster.
"""

from __future__ import annotations

import argparse
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import sklearn
from _peers import PEERS
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import scale
from threadpoolctl import threadpool_info, threadpool_limits

from skbae import BayesianGMMAutoEncoder
from skbae.energies._base import chunk_rows

SHORT = 2  # iterations of the short fit
# Standard deviation of the means of components, in units of that of their rows; and where rows
# belong to no component in particular.
SPREAD, OVERLAP = 1.5, 0.2


@dataclass(frozen=True)
class Setting:
    """Size of a problem, and how many iterations the long fit takes beyond the short one."""

    rows: int
    features: int
    components: int
    covariance_type: str
    dtype: str
    iterations: int

    def __str__(self):
        size = f"{self.rows:,} x {self.features}, K={self.components}"
        return f"{size:19s} {self.covariance_type:9s} {self.dtype}"


SETTINGS = [
    Setting(200_000, 20, 10, "full", "float64", 8),
    Setting(200_000, 10, 30, "full", "float64", 6),
    Setting(50_000, 64, 10, "full", "float64", 8),
    Setting(100_000, 5, 5, "full", "float64", 40),
    Setting(200_000, 20, 10, "diag", "float64", 30),
    Setting(100_000, 20, 50, "spherical", "float64", 8),
    Setting(200_000, 20, 10, "full", "float32", 12),
    Setting(50_000, 64, 10, "full", "float32", 8),
    Setting(200_000, 20, 10, "diag", "float32", 30),
    Setting(2_000, 10, 5, "full", "float64", 100),
    Setting(300, 4, 3, "full", "float64", 150),
]


def problem(setting, seed=0, spread=SPREAD):
    """Return rows from overlapping clusters and a start: rows as means, the overall covariance."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((setting.rows, setting.features))
    X += rng.normal(scale=spread, size=(setting.components, setting.features))[
        rng.integers(setting.components, size=setting.rows)
    ]
    precision = 1 / X.var(axis=0)
    if setting.covariance_type == "full":
        precision = np.diag(precision)
    elif setting.covariance_type == "spherical":
        precision = 1 / X.var()
    start = {
        "weights_init": np.full(setting.components, 1 / setting.components),
        "means_init": X[rng.choice(len(X), setting.components, replace=False)],
        "precisions_init": np.broadcast_to(precision, (setting.components, *np.shape(precision))),
    }
    X = X.astype(setting.dtype)
    return X, {name: value.astype(setting.dtype) for name, value in start.items()}


def fit_theirs(X, start, setting, iterations):
    model = GaussianMixture(
        setting.components,
        covariance_type=setting.covariance_type,
        tol=0,
        max_iter=iterations,
        random_state=0,
        **start,
    )
    return model.fit(X)


def fit_ours(X, start, setting, iterations):
    model = BayesianGMMAutoEncoder(
        setting.components,
        model_temperature=0,
        covariance_type=setting.covariance_type,
        tol=0,
        max_iter=iterations,
        **start,
    )
    return model.fit(X)


def seconds(function, *args):
    begin = time.perf_counter()
    function(*args)
    return time.perf_counter() - begin


def per_iteration(fit, X, start, setting):
    short = seconds(fit, X, start, setting, SHORT)
    long = seconds(fit, X, start, setting, SHORT + setting.iterations)
    return (long - short) / setting.iterations


def bare_products(setting, threads):
    """Return the seconds of the matrix products of one pass, with the features in cache."""
    D, K = setting.features, setting.components
    n_features = (D * (D + 1) // 2 if setting.covariance_type == "full" else D) + D + 1
    n = chunk_rows(n_features + K)
    rng = np.random.default_rng(0)
    natural = rng.standard_normal((K, n_features)).astype(setting.dtype)
    chunks = np.array_split(np.arange(-(-setting.rows // n)), threads)

    def work(part):
        features = rng.standard_normal((n_features, n)).astype(setting.dtype)
        codes = np.empty((K, n), setting.dtype)
        sums = np.zeros((K, n_features))
        ready.wait()
        for _ in part:
            np.matmul(natural, features, out=codes)
            sums += codes @ features.T

    ready = threading.Barrier(threads + 1)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(work, part) for part in chunks]
        ready.wait()
        begin = time.perf_counter()
        for job in jobs:
            job.result()
        return time.perf_counter() - begin


def overlapping(setting, repetitions):
    """Return the median ratio where components overlap strongly."""
    X, start = problem(setting, spread=OVERLAP)
    fits = (fit_theirs, fit_ours)
    times = [[per_iteration(fit, X, start, setting) for fit in fits] for _ in range(repetitions)]
    return np.median([theirs / ours for theirs, ours in times])


def compare_peers(setting, repetitions):
    """Return the median time of an iteration of other libraries over ours, NaN without them."""
    X, start = problem(setting)
    found = {}
    for name, fit in PEERS.items():
        try:
            for iterations in (SHORT, SHORT + setting.iterations):  # some compile for each
                fit(X, start, setting, iterations)
        except (ImportError, ValueError):
            found[name] = np.nan
            continue
        times = [
            [per_iteration(each, X, start, setting) for each in (fit, fit_ours)]
            for _ in range(repetitions)
        ]
        found[name] = np.median([theirs / ours for theirs, ours in times])
    return found


def compare(setting, repetitions, threads):
    """Return median times of an iteration, theirs, ours and the products', and median ratios."""
    X, start = problem(setting)
    for fit in (fit_theirs, fit_ours):
        fit(X, start, setting, 1)  # warm up
    times = []
    for repetition in range(repetitions):
        turn = [fit_theirs, fit_ours] if repetition % 2 else [fit_ours, fit_theirs]
        taken = {fit: per_iteration(fit, X, start, setting) for fit in turn}
        floor = np.median([bare_products(setting, threads) for _ in range(3)])
        times.append((taken[fit_theirs], taken[fit_ours], floor))
    theirs, ours, floor = np.array(times).T
    ratios = theirs / ours
    scores = [fit(X, start, setting, SHORT + 2).score(X) for fit in (fit_ours, fit_theirs)]
    return np.median(times, axis=0), ratios, np.median(theirs / floor), scores[0] - scores[1]


# -- whole fits ------------------------------------------------------------------------------------


def tables():
    """Return rows and a number of components, by name."""
    rng = np.random.default_rng(0)

    def clusters(n_rows, n_features, n_clusters, distance):
        means = distance * rng.standard_normal((n_clusters, n_features)) / np.sqrt(2)
        return (
            rng.standard_normal((n_rows, n_features)) + means[rng.integers(n_clusters, size=n_rows)]
        )

    return {
        "iris, K=3": (load_iris().data, 3),
        "wine, K=3": (scale(load_wine().data), 3),
        "digits on 10 axes, K=10": (PCA(10).fit_transform(load_digits().data), 10),
        "2 close clusters, 2k x 2": (clusters(2000, 2, 2, 2.0), 2),
        "5 clusters, 5k x 5": (clusters(5000, 5, 5, 3.0), 5),
        "10 clusters, 50k x 10": (clusters(50_000, 10, 10, 2.0), 10),
        "10 clusters, 200k x 20": (clusters(200_000, 20, 10, 1.5), 10),
    }


def compare_fits(repetitions, tol):
    """Print medians over seeds of the time of a fit and of the log-likelihood it reaches."""
    print(f"{'table':26s} {'cov':10s} {'sklearn':>9s} {'skbae':>9s} {'ratio':>6s}", end="")
    print("  iterations   mean (and worst) score, ours less theirs")
    ratios = []
    for name, (X, n_components) in tables().items():
        for kind in ("full", "diag"):
            rows = []
            for seed in range(repetitions):
                settings = {"covariance_type": kind, "random_state": seed, "max_iter": 500}
                theirs = GaussianMixture(n_components, **settings)
                ours = BayesianGMMAutoEncoder(
                    n_components, model_temperature=0, tol=tol, **settings
                )
                taken = [seconds(model.fit, X) for model in (theirs, ours)]
                rows.append([*taken, theirs.n_iter_, ours.n_iter_, theirs.score(X), ours.score(X)])
            table = np.array(rows)
            times, difference = np.median(table[:, :2], axis=0), table[:, 5] - table[:, 4]
            ratios.append(times[0] / times[1])
            print(
                f"{name:26s} {kind:10s} {times[0] * 1e3:6.1f} ms {times[1] * 1e3:6.1f} ms", end=""
            )
            print(
                f" {ratios[-1]:6.2f}  {table[:, 2].mean():4.0f}, {table[:, 3].mean():4.0f}", end=""
            )
            print(f"   {difference.mean():+.4f} ({difference.min():+.4f})", flush=True)
    print(f"\ngeometric mean of the ratios {np.exp(np.mean(np.log(ratios))):.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of settings, from 0")
    parser.add_argument("--peers", action="store_true", help="compare other libraries, too")
    parser.add_argument("--fits", action="store_true", help="compare whole default fits")
    parser.add_argument("--tol", type=float, default=1e-3, help="of our whole fits (0.1: as early)")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0 asks for every iteration

    with threadpool_limits(options.threads):
        pools = {(pool["internal_api"], pool["num_threads"]) for pool in threadpool_info()}
        print(f"scikit-learn {sklearn.__version__}, numpy {np.__version__}")
        if options.fits:
            compare_fits(options.repetitions, options.tol)
            return
        print("threads:", ", ".join(f"{api} {number}" for api, number in sorted(pools)))
        print(f"median of {options.repetitions} alternating repetitions; ms per iteration\n")
        print(f"{'setting':38s} {'sklearn':>8s} {'skbae':>8s} {'ratio':>6s}", end="")
        print(f" {'(range)':>13s} {'overlap':>7s} {'floor':>6s}   score difference", end="")
        print("".join(f" {name:>11s}" for name in PEERS) if options.peers else "")
        medians, floors = [], []
        for number, setting in enumerate(SETTINGS):
            if options.only is not None and number not in options.only:
                continue
            (theirs, ours, _), ratios, floor, difference = compare(
                setting, options.repetitions, options.threads
            )
            medians.append(np.median(ratios))
            floors.append(floor)
            spread = f"({ratios.min():.1f}-{ratios.max():.1f})"
            print(f"{setting!s:38s} {theirs * 1e3:8.1f} {ours * 1e3:8.1f}", end="")
            overlap = overlapping(setting, options.repetitions)
            print(f" {medians[-1]:6.2f} {spread:>13s} {overlap:7.2f} {floor:6.1f}", end="")
            print(f"   {difference:+.1e}        ", end="", flush=True)
            peers = compare_peers(setting, options.repetitions) if options.peers else {}
            print("".join(f" {ratio:11.2f}" for ratio in peers.values()), flush=True)
    print(f"\ngeometric mean {np.exp(np.mean(np.log(medians))):.2f}, minimum {min(medians):.2f}")
    print(
        f"with the bare matrix products: {np.exp(np.mean(np.log(floors))):.2f}, {min(floors):.2f}"
    )


if __name__ == "__main__":
    main()
