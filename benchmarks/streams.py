"""How near passes over batches come to the fit to all rows, and what a pass costs.

Shuffled rows of normal clusters arrive in batches; after one pass and after five, the mean
log-likelihood of a row is compared with that of the fit to all rows that starts where the stream
has ended. PCA is compared with scikit-learn's IncrementalPCA: the largest angle between the leading
axes and those of one fit, and the time.

Run ``python benchmarks/streams.py``, with ``--help`` for its options.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from scipy.linalg import subspace_angles
from sklearn.decomposition import IncrementalPCA
from sklearn.exceptions import ConvergenceWarning

from skbae import BayesianGMMAutoEncoder, BayesianPCAAutoEncoder


def clusters(n_rows, n_features, n_clusters, distance, seed):
    """Return rows of clusters of unequal size and width."""
    rng = np.random.default_rng(seed)
    means = distance * rng.standard_normal((n_clusters, n_features)) / np.sqrt(2)
    scales = rng.uniform(0.5, 1.5, (n_clusters, n_features))
    labels = rng.choice(n_clusters, n_rows, p=rng.dirichlet(np.full(n_clusters, 3.0)))
    return rng.standard_normal((n_rows, n_features)) * scales[labels] + means[labels]


def fed(model, X, size):
    """Learn from the rows in batches; return the seconds it took."""
    begin = time.perf_counter()
    for start in range(0, len(X), size):
        model.partial_fit(X[start : start + size])
    return time.perf_counter() - begin


def compare_mixtures(n_rows, decay):
    """Print what streams lack of the fits they lead to."""
    print("columns, components, distance, type      batch  1 pass  5 passes  time of a pass / fit")
    for n_features, n_components, distance in ((2, 3, 1.5), (5, 5, 2), (10, 10, 2), (20, 10, 1.5)):
        X = clusters(n_rows, n_features, n_components, distance, n_features)
        for kind in ("full", "diag"):
            for size in (1000, 5000):
                settings = {"covariance_type": kind, "model_temperature": 0, "random_state": 0}
                model = BayesianGMMAutoEncoder(n_components, learning_decay=decay, **settings)
                scores, taken = [], []
                for _ in range(5):
                    taken.append(fed(model, X, size))
                    scores.append(model.score(X))
                start = {
                    "weights_init": model.weights_,
                    "means_init": model.means_,
                    "precisions_init": model.precisions_,
                }
                whole = BayesianGMMAutoEncoder(n_components, **settings, **start).fit(X)
                begin = time.perf_counter()
                BayesianGMMAutoEncoder(n_components, **settings).fit(X)
                ratio = np.median(taken) / (time.perf_counter() - begin)
                name = f"{n_features}, {n_components}, {distance}, {kind}"
                short = [whole.score(X) - score for score in (scores[0], scores[-1])]
                print(
                    f"{name:40s} {size:5d}  {short[0]:.4f}  {short[1]:.4f}    {ratio:.2f}",
                    flush=True,
                )


def compare_pca(n_rows):
    """Print angles and times of PCA and IncrementalPCA."""
    print("\nPCA: columns, axes    angle to one fit (IncrementalPCA)   time / IncrementalPCA's")
    for n_features, n_components in ((20, 5), (100, 10), (500, 20)):
        rng = np.random.default_rng(n_features)
        X = rng.standard_normal((n_rows, n_features)) * np.linspace(2, 1, n_features)
        ours = BayesianPCAAutoEncoder(n_components, model_temperature=0)
        theirs = IncrementalPCA(n_components)
        seconds = [fed(model, X, 1000) for model in (ours, theirs)]
        axes = BayesianPCAAutoEncoder(n_components, model_temperature=0).fit(X).components_
        angles = [subspace_angles(axes.T, model.components_.T).max() for model in (ours, theirs)]
        print(
            f"{n_features:12d}, {n_components:3d}    {angles[0]:.1e} ({angles[1]:.2f})"
            f"{seconds[0] / seconds[1]:24.2f}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--decay", type=float, default=0.7, help="learning_decay of mixtures")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    compare_mixtures(options.rows, options.decay)
    compare_pca(options.rows // 5)


if __name__ == "__main__":
    main()
