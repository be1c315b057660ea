"""One annealed start against the best of many, on five kinds of rows that mislead starts.

``python benchmarks/annealing.py [--seeds 5] [--repetitions 3]``. All fits maximise the likelihood
of the same mixture, with the same tolerance. Differences are in nats a row from the best of 50
k-means++ starts of our own; times, of which the least of some repetitions counts, are relative to
ten such starts. tgmm (``pip install tgmm``, which needs torch) is run if it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from skbae import BayesianGMMAutoEncoder

TOL = 1e-3


def grid(rng):
    """25 clusters on a grid."""
    centres = np.array([(i, j) for i in range(5) for j in range(5)], float)
    return np.repeat(centres, 400, axis=0) + 0.12 * rng.standard_normal((10000, 2)), 25, "full"


def scales(rng):
    """Two wide clusters, and eight that are fifty times as narrow, in pairs."""
    parts = [centre + rng.standard_normal((2000, 2)) for centre in ([0.0, 0.0], [6.0, 0.0])]
    for i in range(4):
        for side in (-0.1, 0.1):
            parts.append([3 + side, 4 + 0.5 * i] + 0.02 * rng.standard_normal((500, 2)))
    return np.concatenate(parts), 10, "full"


def ring(rng):
    """20 clusters on a circle."""
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    centres = 10 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.repeat(centres, 500, axis=0) + 0.5 * rng.standard_normal((10000, 2)), 20, "full"


def d31(rng):
    """31 clusters at random places, as in the set D31 (Veenman, Reinders and Backer 2002)."""
    centres: list[np.ndarray] = []
    while len(centres) < 31:
        place = rng.uniform(3, 30, 2)
        if all(np.linalg.norm(place - other) > 3 for other in centres):
            centres.append(place)
    rows = np.repeat(np.array(centres), 100, axis=0)
    return rows + 0.7 * rng.standard_normal((3100, 2)), 31, "full"


def blobs(rng):
    """40 clusters in 20 dimensions."""
    rows = np.repeat(rng.uniform(-10, 10, (40, 20)), 250, axis=0)
    return rows + rng.standard_normal((10000, 20)), 40, "diag"


def ours(X, n_components, kind, seed, **settings):
    """Return Hmaxe of a fit of our own."""
    model = BayesianGMMAutoEncoder(
        n_components,
        covariance_type=kind,
        model_temperature=0,
        tol=TOL,
        init_params="k-means++",
        random_state=seed,
        **settings,
    )
    return model.fit(X).hmaxe_


def theirs(X, n_components, kind, seed, **settings):
    """Return the mean log likelihood of scikit-learn's fit."""
    model = GaussianMixture(
        n_components, covariance_type=kind, tol=TOL, random_state=seed, **settings
    )
    return model.fit(X).score(X)


def tgmm_annealed(X, n_components, kind, seed):
    """Return the mean log likelihood of tgmm's annealed fit."""
    import tgmm
    import torch

    torch.manual_seed(seed)
    rows = torch.as_tensor(X, dtype=torch.float64)
    model = tgmm.GaussianMixture(
        n_components,
        X.shape[1],
        covariance_type=kind,
        tol=1e-5,  # which is relative
        random_state=seed,
        temperature=(0.1, 30),
    )
    model.fit(rows)
    return float(model.score_samples(rows).mean())


METHODS = {
    "annealed": lambda *rows: ours(*rows, annealing="auto"),
    "1 start, k-means++": ours,
    "10 starts, k-means++": lambda *rows: ours(*rows, n_init=10),
    "scikit-learn, 1 start": theirs,
    "scikit-learn, 10 starts, k-means++": lambda *rows: theirs(
        *rows, n_init=10, init_params="k-means++"
    ),
}


def timed(function, repetitions):
    """Return a function's result, and the least time that it took."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        value = function()
        times.append(time.perf_counter() - start)
    return value, min(times)


def main():
    """Print a table for each kind of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if importlib.util.find_spec("tgmm") is not None:
        METHODS["tgmm, annealed from beta = .1"] = tgmm_annealed
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(options.threads):
        for make in (grid, scales, ring, d31, blobs):
            print(make.__doc__)
            found = {name: [] for name in METHODS}
            for seed in range(options.seeds):
                problem = (*make(np.random.default_rng(seed)), 1)
                best = ours(*problem, n_init=50)
                for name, method in METHODS.items():
                    value, took = timed(lambda m=method, p=problem: m(*p), options.repetitions)
                    found[name].append((value - best, took))
            unit = np.array([took for _, took in found["10 starts, k-means++"]])
            for name, results in found.items():
                gains = [gain for gain, _ in results]
                ratio = np.median(np.array([took for _, took in results]) / unit)
                within = sum(gain > -0.01 for gain in gains)
                print(
                    f"  {name:36s} median {np.median(gains):8.4f}  worst {min(gains):8.4f}  within "
                    f".01: {within} of {len(gains)}  time {ratio:6.2f}"
                )


if __name__ == "__main__":
    main()
