"""Time of PCA against scikit-learn's, and the cost and spread of its evidence.

``python benchmarks/pca.py [--threads 1] [--repetitions 9] [--evidence]``. Fits and transforms
alternate in one process and medians are compared; scikit-learn's PCA has its default settings.
Rows have ten directions and noise (``strong``), a spectrum that decays like 1/i (``decay``), or no
structure at all (``noise``), where neither randomized solver is exact: ``error`` is by how much the
variances found fall short of the exact ones, theirs and ours.
``--evidence`` fits sampled models: over more and more rows, over seeds, and of many features, with
the ratio of the time to that of moves through all loadings, where those can be had.
``--coverage 200`` compares log evidences of as many small problems with a fine quadrature.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import sklearn
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_info, threadpool_limits

from skbae import BayesianPCAAutoEncoder
from skbae.estimators.pca import _fit
from skbae.estimators.pca._settings import MAX_SAMPLED_COORDINATES

SHAPES = [(100_000, 50), (5000, 2000), (300, 10_000)]
N_COMPONENTS = 10


def strong(n_rows, n_features, rng):
    scales = np.linspace(3, 1, N_COMPONENTS)[:, None]
    axes = scales * rng.standard_normal((N_COMPONENTS, n_features))
    codes = rng.standard_normal((n_rows, N_COMPONENTS))
    return codes @ axes + rng.standard_normal((n_rows, n_features))


def decay(n_rows, n_features, rng):
    size = min(n_rows, n_features)
    codes = rng.standard_normal((n_rows, size)) / np.sqrt(1 + np.arange(size))
    return codes @ np.linalg.qr(rng.standard_normal((n_features, size)))[0].T


def noise(n_rows, n_features, rng):
    return rng.standard_normal((n_rows, n_features))


def seconds(action, *arguments):
    begin = time.perf_counter()
    result = action(*arguments)
    return time.perf_counter() - begin, result


def exact_variances(X):
    deviations = X - X.mean(axis=0)
    wide = X.shape[0] < X.shape[1]
    products = deviations @ deviations.T if wide else deviations.T @ deviations
    return np.linalg.eigvalsh(products / len(X))[::-1][:N_COMPONENTS]


def compare(repetitions):
    print(f"{'rows x features, data':26s} {'sklearn':>9s} {'skbae':>8s} {'fit':>6s}", end=" ")
    print(f"{'transform':>10s}  error, theirs and ours")
    for n_rows, n_features in SHAPES:
        for make in (strong, decay, noise):
            X = make(n_rows, n_features, np.random.default_rng(0))
            theirs = PCA(N_COMPONENTS, random_state=0)
            ours = BayesianPCAAutoEncoder(N_COMPONENTS, model_temperature=0, random_state=0)
            times = []
            for repetition in range(repetitions + 1):
                order = [theirs, ours] if repetition % 2 else [ours, theirs]
                fits = {each: seconds(each.fit, X)[0] for each in order}
                codes = {each: seconds(each.transform, X)[0] for each in order}
                if repetition:  # the first warms up
                    times.append([fits[theirs], fits[ours], codes[theirs], codes[ours]])
            fit_theirs, fit_ours, code_theirs, code_ours = np.median(times, axis=0)
            exact = exact_variances(X)
            found = theirs.explained_variance_ * (1 - 1 / n_rows), ours.explained_variance_
            errors = [1 - variances.sum() / exact.sum() for variances in found]
            print(
                f"{f'{n_rows} x {n_features}, {make.__name__}':26s} {fit_theirs * 1e3:7.1f}ms "
                f"{fit_ours * 1e3:6.1f}ms {fit_ours / fit_theirs:6.2f} "
                f"{code_ours / code_theirs:10.2f}  {errors[0]:.0e} {errors[1]:.0e}",
                flush=True,
            )


def evidence():
    print(
        "\nrows, seconds of the best model's fit and of a sampled fit, log evidence, error, status"
    )
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((2, 6))
    for n_rows in (5000, 50_000, 500_000):
        X = rng.standard_normal((n_rows, 2)) @ axes + 0.5 * rng.standard_normal((n_rows, 6))
        quick = seconds(BayesianPCAAutoEncoder(2, model_temperature=0).fit, X)[0]
        taken, fitted = seconds(BayesianPCAAutoEncoder(2, random_state=0).fit, X)
        sampling = fitted.sampling_
        print(
            f"{n_rows:7d} {quick:8.3f} {taken:8.1f} {sampling.log_evidence:14.2f} "
            f"{sampling.log_evidence_error:6.2f} {sampling.status}",
            flush=True,
        )
    print("\niris: d, log evidence of five seeds, largest difference, mean claimed error, seconds")
    X = load_iris().data
    for n_components in (1, 2, 3):
        fits = [
            seconds(BayesianPCAAutoEncoder(n_components, random_state=seed).fit, X)
            for seed in range(5)
        ]
        values = np.array([fitted.log_evidence_ for _, fitted in fits])
        error = np.mean([fitted.sampling_.log_evidence_error for _, fitted in fits])
        print(
            n_components,
            " ".join(f"{value:.2f}" for value in values),
            f"{np.ptp(values):.2f} {error:.2f} {np.median([taken for taken, _ in fits]):.1f}",
            flush=True,
        )


def sampled():
    print("\nsampled models: rows x features, data, d, seconds, log evidence, error, status, ratio")
    iris, digits = load_iris().data, load_digits().data
    problems = [("iris", iris, 3), ("digits", digits, 5), ("digits", digits, 10)]
    for make in (strong, decay, noise):
        for shape in ((40, 60), (300, 10_000), (5000, 1000)):
            problems.append((make.__name__, make(*shape, np.random.default_rng(0)), 5))
    for name, X, n_components in problems:
        model = BayesianPCAAutoEncoder(n_components, random_state=0)
        taken, fitted = seconds(model.fit, X)
        sampling, ratio = fitted.sampling_, float("nan")
        if n_components * X.shape[1] < MAX_SAMPLED_COORDINATES:
            with mock.patch.object(_fit, "can_nest", return_value=False):
                ratio = taken / seconds(model.fit, X)[0]
        print(
            f"{f'{X.shape[0]} x {X.shape[1]}, {name}':26s} {n_components:3d} {taken:7.2f} "
            f"{sampling.log_evidence:16.2f} {sampling.log_evidence_error:6.3f} {sampling.status:8s}"
            f" {ratio:6.2f}",
            flush=True,
        )


def coverage(n_problems):
    """Compare log evidences with the quadrature of the tests, over five seeds each."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from test_pca_sampling import coverage as errors_and_statuses

    deviations, statuses = errors_and_statuses(n_problems, 5)
    print(f"\ncoverage: {n_problems} problems, five seeds; share of errors beyond 2, 4 claimed,")
    print("and of fits that are not ok:", end=" ")
    print(f"{(deviations > 2).mean():.4f} {(deviations > 4).mean():.4f}", end=" ")
    print(f"{(statuses != 'ok').mean():.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--evidence", action="store_true")
    parser.add_argument("--coverage", type=int, default=0)
    options = parser.parse_args()
    with threadpool_limits(options.threads):
        pools = {(pool["internal_api"], pool["num_threads"]) for pool in threadpool_info()}
        print(f"scikit-learn {sklearn.__version__}, numpy {np.__version__}; threads:", end=" ")
        print(", ".join(f"{api} {number}" for api, number in sorted(pools)))
        print(
            f"medians of {options.repetitions} alternating repetitions; ratios are ours / theirs\n"
        )
        if options.repetitions:
            compare(options.repetitions)
        if options.evidence:
            evidence()
            sampled()
        if options.coverage:
            coverage(options.coverage)


if __name__ == "__main__":
    main()
