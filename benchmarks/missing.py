"""Rows with missing entries: how well they are completed, and what a fit to them costs.

``--accuracy``: a share of the entries of five tables is removed at random, five times each, and the
root mean square error of the completed ones, in standard deviations of their columns, is compared
with that of scikit-learn's imputers and of tgmm's expectation maximisation (if it is installed).
The mixture is the one of lowest BIC among a few numbers of components and covariance types, and
tgmm has the same ones to choose from, by our choice. The last columns are the mean log density of
complete rows held out, of the mixture fitted to known entries and of the same mixture fitted to
rows completed by the columns' means and by IterativeImputer; and the share of missing entries
inside the 90% intervals of ``condition``.

``--wine``: that log density on 25 splits of the table where five leave open which is higher, also
of families that know correlations within groups.

``--intervals``: that share for the 5-d mixture, by the density that drew the rows, by a single best
model and by sampled models: intervals of a single model know nothing of the uncertainty of its
parameters.

``--speed``: time per iteration of expectation maximisation with 10% of the entries missing, nearly
every row with a pattern of its own, over that with complete rows; and whole fits of a mixture of
PCA to images of 784 pixels, of which half are missing.

Run ``python benchmarks/missing.py``, with ``--help`` for its options.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from threadpoolctl import threadpool_limits

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
)

try:
    import tgmm
    import torch
except ImportError:
    tgmm = None

SHARE, SEEDS = 0.3, 5
COMPONENTS, TYPES = (1, 2, 3, 4, 6, 8), ("full", "tied", "diag")


def curved(n_rows=600):
    rng = np.random.default_rng(0)
    t = rng.uniform(-2, 2, n_rows)
    clean = np.column_stack([t, t**2, np.sin(2 * t)])
    return clean + 0.1 * rng.normal(size=clean.shape)


def a_mixture(rng):
    """Return means and covariances of three equally probable components."""
    means, roots = 3 * rng.normal(size=(3, 5)), rng.normal(size=(3, 5, 5)) / np.sqrt(5)
    return means, roots + 0.2 * np.eye(5)


def from_a_mixture(n_rows=600):
    rng = np.random.default_rng(1)
    means, roots = a_mixture(rng)
    labels = rng.integers(3, size=n_rows)
    noise = rng.normal(size=(n_rows, 5))
    return means[labels] + np.einsum("nij,nj->ni", roots[labels], noise)


def tables():
    yield "iris", load_iris().data
    yield "wine", load_wine().data
    yield "digits/PCA(10)", PCA(10).fit_transform(load_digits().data)
    yield "curved, 3-d", curved()
    yield "mixture, 5-d", from_a_mixture()


def with_gaps(X, share, seed):
    X = X.copy()
    gone = np.random.default_rng(seed).random(X.shape) < share
    gone[0] = False
    gone[gone.all(axis=1), 0] = False  # no row is empty
    X[gone] = np.nan
    return X


def best_mixture(X):
    """Return the mixture of lowest BIC on known entries, its type and number of components."""
    found = []
    for kind in TYPES:
        for n_components in COMPONENTS:
            model = BayesianGMMAutoEncoder(
                n_components,
                covariance_type=kind,
                model_temperature=0,
                n_init=3,
                max_iter=200,
                random_state=0,
            )
            try:
                found.append((model.fit(X).bic(X), kind, n_components, model))
            except ValueError:  # a component has collapsed
                continue
    return min(found, key=lambda each: each[0])[1:]


def by_tgmm(X, kind, n_components, max_iter=1000, tol=1e-4):
    model = tgmm.GaussianMixture(
        n_components=n_components,
        n_features=X.shape[1],
        covariance_type={"tied": "tied_full"}.get(kind, kind),
        missing="em",
        max_iter=max_iter,
        tol=tol,
        random_state=0,
        device="cpu",
    )
    return model.fit(torch.tensor(X))


def completed(X, kind, n_components, model):
    """Return the rows completed by each method, by its name."""
    found = {
        "Simple": SimpleImputer().fit_transform(X),
        "KNN": KNNImputer().fit_transform(X),
        "Iterative": IterativeImputer(max_iter=50, random_state=0).fit_transform(X),
    }
    if tgmm is not None:
        try:
            found["tgmm"] = by_tgmm(X, kind, n_components).impute(torch.tensor(X)).numpy()
        except Exception as error:
            print("tgmm:", error)
    found["skbae"] = model.impute(X)
    return found


def accuracy():
    print(f"{SHARE:.0%} of the entries missing, means over {SEEDS} seeds")
    for name, rows in tables():
        X = (rows - rows.mean(axis=0)) / rows.std(axis=0)
        errors, held, inside = {}, [], []
        for seed in range(SEEDS):
            order = np.random.default_rng(seed).permutation(len(X))
            train, test = X[order[: 4 * len(X) // 5]], X[order[4 * len(X) // 5 :]]
            gappy = with_gaps(train, SHARE, seed)
            gaps = np.isnan(gappy)
            kind, n_components, model = best_mixture(gappy)
            filled = completed(gappy, kind, n_components, model)
            for method, values in filled.items():
                error = np.sqrt(np.mean((values - train)[gaps] ** 2))
                errors.setdefault(method, []).append(error)
            of_imputed = (
                BayesianGMMAutoEncoder(**model.get_params()).fit(filled[name])
                for name in ("Simple", "Iterative")
            )
            held.append((model.score(test), *(each.score(test) for each in of_imputed)))
            lower, upper = model.condition(gappy).interval(0.9)
            inside.append(((lower <= train) & (train <= upper))[gaps].mean())
        shown = "  ".join(f"{method} {np.mean(each):.3f}" for method, each in errors.items())
        known, by_mean, by_regression = np.mean(held, axis=0)
        print(
            f"{name:15s} {shown}  | held out: known {known:.2f}, imputed by means {by_mean:.2f}, "
            f"by IterativeImputer {by_regression:.2f}"
            f"  | inside {np.mean(inside):.1%}",
            flush=True,
        )


def wine(n_splits=25):
    rows = load_wine().data
    X = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    settings = {"model_temperature": 0, "n_init": 3, "max_iter": 200, "random_state": 0}
    models = {
        "mixture, diag, K=3": BayesianGMMAutoEncoder(3, covariance_type="diag", **settings),
        "PCA, d=2": BayesianPCAAutoEncoder(2, model_temperature=0),
        "PCA, d=3": BayesianPCAAutoEncoder(3, model_temperature=0),
        "mixture of PCA, K=3, d=1": BayesianMixturePCAAutoEncoder(3, n_latent=1, **settings),
    }
    scores = {name: [] for name in models}
    for seed in range(n_splits):
        order = np.random.default_rng(seed).permutation(len(X))
        train, test = X[order[: 4 * len(X) // 5]], X[order[4 * len(X) // 5 :]]
        gappy = with_gaps(train, SHARE, seed)
        filled = IterativeImputer(max_iter=50, random_state=0).fit_transform(gappy)
        for name, model in models.items():
            scores[name].append([clone(model).fit(each).score(test) for each in (gappy, filled)])
    for name, pairs in scores.items():
        known, imputed = np.array(pairs).T
        ahead = known - imputed
        error = ahead.std(ddof=1) / np.sqrt(n_splits)
        print(
            f"{name:25s} known {known.mean():.2f}, by IterativeImputer {imputed.mean():.2f}, "
            f"difference {ahead.mean():.2f} +- {error:.2f}",
            flush=True,
        )


def intervals():
    X = from_a_mixture()
    means, roots = a_mixture(np.random.default_rng(1))
    covariances = roots @ np.swapaxes(roots, 1, 2)
    truth = BayesianGMMAutoEncoder.from_parameters(
        weights=np.full(3, 1 / 3), means=means, covariances=covariances
    )
    single = BayesianGMMAutoEncoder(3, model_temperature=0, n_init=3, random_state=0)
    models = {
        "truth": truth,
        "single": single,
        "sampled": BayesianGMMAutoEncoder(3, random_state=0),
    }
    found = {name: [] for name in models}
    for seed in range(SEEDS):
        rows = X[np.random.default_rng(seed).permutation(len(X))[: 4 * len(X) // 5]]
        gappy = with_gaps(rows, SHARE, seed)
        gaps = np.isnan(gappy)
        for name, model in models.items():
            if name != "truth":
                model.fit(gappy)
            lower, upper = model.condition(gappy).interval(0.9)
            found[name].append(((lower <= rows) & (rows <= upper))[gaps].mean())
    for name, shares in found.items():
        listed = ", ".join(f"{share:.1%}" for share in shares)
        print(f"90% intervals of the {name} hold {np.mean(shares):.1%} ({listed})", flush=True)


def time_of_iteration(fit, short, long):
    """Return the processor seconds of an iteration, from a short and a long run."""
    times = []
    for iterations in (short, long):
        each = []
        for _ in range(3):
            start = time.process_time()
            fit(iterations)
            each.append(time.process_time() - start)
        times.append(min(each))
    return (times[1] - times[0]) / (long - short)


def speed(n_rows, threads):
    rng = np.random.default_rng(0)
    size, n_components = 20, 10
    roots = rng.normal(size=(n_components, size, size)) / np.sqrt(size)
    labels = rng.integers(n_components, size=n_rows)
    X = 0.5 * rng.normal(size=(n_components, size))[labels]
    X += np.einsum("nij,nj->ni", roots[labels], rng.normal(size=(n_rows, size)))
    X += 0.3 * rng.normal(size=X.shape)
    gappy = with_gaps(X, 0.1, 0)
    patterns = len(np.unique(np.isnan(gappy), axis=0))
    print(f"{n_rows:,} x {size}, K={n_components}, 10% missing in {patterns:,} patterns")
    for kind in ("full", "tied", "diag", "spherical"):
        start = BayesianGMMAutoEncoder(
            n_components, covariance_type=kind, model_temperature=0, max_iter=1, random_state=0
        ).fit(X[:5000])

        def ours(rows, iterations, kind=kind, start=start):
            BayesianGMMAutoEncoder(
                n_components,
                covariance_type=kind,
                model_temperature=0,
                weights_init=start.weights_,
                means_init=start.means_,
                precisions_init=start.precisions_,
                tol=0,
                max_iter=iterations,
                n_jobs=threads,
            ).fit(rows)

        complete = time_of_iteration(lambda n: ours(X, n), 2, 8)
        with_them = time_of_iteration(lambda n: ours(gappy, n), 2, 8)
        line = f"{kind:10s} complete {complete:.3f} s, gaps {with_them:.3f} s, ratio "
        line += f"{with_them / complete:.1f}"
        if tgmm is not None and kind == "full":
            line += against_tgmm(gappy[: n_rows // 20], ours, n_components)
        print(line, flush=True)
    images(threads)


def against_tgmm(X, ours, n_components):
    """Compare on some of the rows: tgmm's time grows with the number of patterns."""
    theirs = time_of_iteration(lambda n: by_tgmm(X, "full", n_components, n, 1e-300), 1, 3)
    own = time_of_iteration(lambda n: ours(X, n), 2, 8)
    return f"; {len(X):,} rows: tgmm {theirs:.2f} s, skbae {own:.4f} s"


def images(threads):
    rng = np.random.default_rng(0)
    size, n_latent, n_components, n_rows = 784, 10, 10, 2000
    loadings = rng.normal(size=(n_components, n_latent, size))
    labels = rng.integers(n_components, size=n_rows)
    X = rng.normal(size=(n_components, size))[labels] + rng.normal(size=(n_rows, size))
    X += np.einsum("ni,nid->nd", rng.normal(size=(n_rows, n_latent)), loadings[labels])
    gappy = with_gaps(X, 0.5, 0)

    def fit(rows, iterations):
        BayesianMixturePCAAutoEncoder(
            n_components,
            n_latent=n_latent,
            model_temperature=0,
            tol=0,
            max_iter=iterations,
            random_state=0,
            n_jobs=threads,
        ).fit(rows)

    complete = time_of_iteration(lambda n: fit(X, n), 1, 11)
    with_them = time_of_iteration(lambda n: fit(gappy, n), 1, 11)
    print(
        f"mixture of PCA, {n_rows} x {size}, K={n_components}, d={n_latent}, 50% missing: complete "
        f"{complete:.3f} s, gaps {with_them:.3f} s an iteration, ratio {with_them / complete:.1f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--wine", action="store_true")
    parser.add_argument("--intervals", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    parts = (options.accuracy, options.wine, options.intervals, options.speed)
    every = not any(parts)
    with threadpool_limits(options.threads):
        if options.accuracy or every:
            accuracy()
        if options.wine or every:
            wine()
        if options.intervals or every:
            intervals()
        if options.speed or every:
            speed(options.rows, options.threads)


if __name__ == "__main__":
    main()
