"""Which default scale of ``covariance_prior`` finds the right number of components.

Two sections, chosen with ``--sections``:

``simulated``   sets of 2 to 8 normal clusters with covariances of their own, in 1 to 10
                dimensions, from touching to far, of 100 to 2000 rows. For each candidate scale,
                the number of components with the largest evidence among the true number, its
                neighbours, and on upwards or downwards for as long as the evidence rises. Beside
                it, the choice of BIC with full covariances, and over four covariance types, by
                scikit-learn's GaussianMixture; and that of R's mclust, if it is installed (BIC over
                fourteen covariance types, from hierarchical clusters).
``held_out``    iris, wine, breast cancer and diabetes, standardised: log predictive density of a
                row that was held out (five folds) at each number of components and scale.

A candidate is a multiple of ``cov(X)``; it may depend on the number of columns D, and, for the one
that is measured for comparison (Fraley and Raftery 2007), on the number of components K. Lines of
JSON are appended to ``--results``, so that a study can be stopped and taken up again; a table is
printed at the end. One thread.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

from skbae import BayesianGMMAutoEncoder

CANDIDATES = {
    "1": lambda D, K: 1.0,
    "1/2": lambda D, K: 0.5,
    "1/4": lambda D, K: 0.25,
    "1/10": lambda D, K: 0.1,
    "1/30": lambda D, K: 1 / 30,
    "3^(-2/D)": lambda D, K: 3.0 ** (-2 / D),
    "5^(-2/D)": lambda D, K: 5.0 ** (-2 / D),
    "K^(-2/D)": lambda D, K: K ** (-2 / D),
}
# Distance between the closest means, in standard deviations of the clusters.
SEPARATIONS = {"touching": 3.0, "apart": 5.0, "far": 10.0}


def clusters(rng, n_rows, n_columns, n_clusters, separation):
    """Return rows of normal clusters; the closest two are `separation` deviations apart."""
    means = rng.standard_normal((n_clusters, n_columns))
    gaps = np.linalg.norm(means[:, None] - means, axis=2)[np.triu_indices(n_clusters, 1)]
    means *= separation / gaps.min()
    weights = rng.dirichlet(np.full(n_clusters, 5.0))
    labels = rng.choice(n_clusters, n_rows, p=weights)
    rows = np.empty((n_rows, n_columns))
    for k in range(n_clusters):
        axes = np.linalg.qr(rng.standard_normal((n_columns, n_columns)))[0]
        deviations = np.exp(rng.uniform(-0.7, 0.7, n_columns))
        deviations /= np.exp(np.mean(np.log(deviations)))
        chosen = labels == k
        noise = rng.standard_normal((chosen.sum(), n_columns))
        rows[chosen] = means[k] + (noise * deviations) @ axes.T
    return rows


def simulated_sets(n_sets, seed):
    """Yield a name, the rows and the true number of clusters of each set."""
    rng = np.random.default_rng(seed)
    for index in range(n_sets):
        n_clusters = int(rng.choice([2, 3, 4, 5, 6, 8]))
        n_columns = int(rng.choice([1, 2, 3, 5, 10]))
        kind = str(rng.choice(list(SEPARATIONS)))
        n_rows = int(rng.choice([100, 200, 500, 1000, 2000]))
        X = clusters(rng, n_rows, n_columns, n_clusters, SEPARATIONS[kind])
        yield f"{index}: {n_clusters} {kind}, {n_rows} x {n_columns}", X, n_clusters


def evidence(X, n_components, scale, tolerance=0.5):
    """Return the log evidence and the status of a fit with this multiple of the covariance."""
    prior = scale * np.cov(X, rowvar=False, bias=True).reshape(X.shape[1], X.shape[1])
    model = BayesianGMMAutoEncoder(
        n_components, covariance_prior=prior, evidence_tol=tolerance, random_state=0
    )
    model.fit(X)
    return model.log_evidence_, model.sampling_.status


def best_number(X, n_true, rule):
    """Return the number of components with the largest evidence, climbing from the true one."""
    known = {}

    def value(k):
        if k not in known:
            known[k] = evidence(X, k, rule(X.shape[1], k))
        return known[k][0]

    best = max([k for k in (n_true - 1, n_true, n_true + 1) if k >= 1], key=value)
    while best > 1 and best < n_true and value(best - 1) > value(best):
        best -= 1
    while best > n_true and value(best + 1) > value(best) and best < n_true + 4:
        best += 1
    return best, known


def by_bic(X, n_true, kinds):
    """Return the number of components with the smallest BIC over these covariance types."""
    found = {}
    for kind in kinds:
        for k in range(1, n_true + 4):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mixture = GaussianMixture(k, covariance_type=kind, n_init=5, random_state=0)
                found[kind, k] = mixture.fit(X).bic(X)
    return min(found, key=found.get)[1]


# Reads rows and prints the number of components that mclust chooses.
MCLUST = """
suppressMessages(library(mclust))
given <- commandArgs(TRUE)
rows <- as.matrix(read.csv(given[1], header = FALSE))
cat(Mclust(rows, G = 1:as.integer(given[2]), verbose = FALSE)$G)
"""


def has_mclust():
    """Return whether R's mclust can be run."""
    if shutil.which("Rscript") is None:
        return False
    command = ["Rscript", "-e", "library(mclust)"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def by_mclust(X, n_true):
    """Return the number of components that mclust chooses with its own settings."""
    with tempfile.TemporaryDirectory() as folder:
        script, rows = Path(folder) / "choose.R", Path(folder) / "rows.csv"
        script.write_text(MCLUST)
        np.savetxt(rows, X, delimiter=",")
        command = ["Rscript", str(script), str(rows), str(n_true + 3)]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def append(path, record):
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def records(path, section):
    if not path.exists():
        return []
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [record for record in found if record["section"] == section]


def simulated(path, n_sets, seed, names, largest):
    done = {(record["set"], record["rule"]) for record in records(path, "simulated")}
    bic = {"BIC": ["full"], "BIC, types": ["full", "tied", "diag", "spherical"]}
    peers = [*bic, "mclust"] if has_mclust() else list(bic)
    for name, X, n_true in simulated_sets(n_sets, seed):
        if X.size * n_true > largest:
            continue
        for rule in [*names, *peers]:
            if (name, rule) in done:
                continue
            begin = time.process_time()
            if rule == "mclust":
                found, values = by_mclust(X, n_true), {}
            elif rule in bic:
                found, values = by_bic(X, n_true, bic[rule]), {}
            else:
                found, values = best_number(X, n_true, CANDIDATES[rule])
            append(
                path,
                {
                    "section": "simulated",
                    "set": name,
                    "rule": rule,
                    "true": n_true,
                    "found": found,
                    "values": values,
                    "seconds": time.process_time() - begin,
                },
            )


def held_out(path, names):
    done = {(record["set"], record["rule"], record["K"]) for record in records(path, "held_out")}
    tables = {
        "iris": load_iris().data,
        "wine": load_wine().data,
        "cancer": load_breast_cancer().data,
        "diabetes": load_diabetes().data,
    }
    for name, X in tables.items():
        X = (X - X.mean(axis=0)) / X.std(axis=0)
        for k in (2, 3, 4):
            for rule in names:
                if (name, rule, k) in done:
                    continue
                scores = []
                for train, test in KFold(5, shuffle=True, random_state=0).split(X):
                    scale = CANDIDATES[rule](X.shape[1], k)
                    prior = scale * np.cov(X[train], rowvar=False, bias=True)
                    model = BayesianGMMAutoEncoder(
                        k, covariance_prior=prior, evidence_tol=None, random_state=0
                    )
                    scores.append(model.fit(X[train]).score(X[test]))
                append(
                    path,
                    {
                        "section": "held_out",
                        "set": name,
                        "rule": rule,
                        "K": k,
                        "score": float(np.mean(scores)),
                    },
                )


def report_simulated(path):
    by_rule = defaultdict(list)
    for record in records(path, "simulated"):
        by_rule[record["rule"]].append(record)
    print("rule          sets  right  too few  too many  mean distance")
    for rule, found in by_rule.items():
        error = np.array([record["found"] - record["true"] for record in found])
        print(
            f"{rule:12s} {len(error):5d}  {np.mean(error == 0):5.2f}  {np.mean(error < 0):7.2f}  "
            f"{np.mean(error > 0):8.2f}  {np.abs(error).mean():8.2f}"
        )


def report_held_out(path):
    table = defaultdict(dict)
    for record in records(path, "held_out"):
        table[record["set"], record["K"]][record["rule"]] = record["score"]
    for (name, k), scores in table.items():
        line = "  ".join(f"{rule} {score:.3f}" for rule, score in scores.items())
        print(f"{name} K={k}: {line}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="+", default=["simulated", "held_out"])
    parser.add_argument("--sets", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--largest", type=float, default=np.inf, help="rows x columns x clusters of a set"
    )
    parser.add_argument("--rules", nargs="+", default=list(CANDIDATES))
    parser.add_argument("--results", type=Path, default=Path("default_prior.jsonl"))
    given = parser.parse_args()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "simulated" in given.sections:
            simulated(given.results, given.sets, given.seed, given.rules, given.largest)
            report_simulated(given.results)
        if "held_out" in given.sections:
            held_out(given.results, given.rules)
            report_held_out(given.results)


if __name__ == "__main__":
    main()
