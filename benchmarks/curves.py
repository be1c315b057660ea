"""What free energy curves at ten temperatures cost, in default fits of the same estimator.

For each family and table: seconds of processor time of a default fit (median of three seeds), of a
curve (median of three), their ratio, and how many of the ten points are not "ok". One component of
a Gaussian mixture is known in closed form.

Run ``python benchmarks/curves.py``; set ``OPENBLAS_NUM_THREADS=1`` for one thread.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
from _data import GALAXIES
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
    BayesianRBMAutoEncoder,
)
from skbae.thermodynamics import free_energy_curve

_SEEDS = range(3)


def tables():
    """Return the tables by name."""
    rng = np.random.default_rng(0)
    wine = load_wine().data
    common = rng.random((200, 1)) < 0.5
    return {
        "irises": load_iris().data,
        "wine": (wine - wine.mean(axis=0)) / wine.std(axis=0),
        "galaxies": GALAXIES[:, None],
        "200 rows of 4 bits": 1.0 * (rng.random((200, 4)) < np.where(common, 0.9, 0.2)),
    }


SETTINGS = [
    ("irises", BayesianGMMAutoEncoder(1)),
    ("irises", BayesianGMMAutoEncoder(2)),
    ("irises", BayesianGMMAutoEncoder(3)),
    ("galaxies", BayesianGMMAutoEncoder(3)),
    ("irises", BayesianPCAAutoEncoder(1)),
    ("irises", BayesianPCAAutoEncoder(2)),
    ("irises", BayesianPCAAutoEncoder(3)),
    ("wine", BayesianPCAAutoEncoder(2)),
    ("irises", BayesianMixturePCAAutoEncoder(1, n_latent=1)),
    ("irises", BayesianMixturePCAAutoEncoder(2, n_latent=1)),
    ("200 rows of 4 bits", BayesianRBMAutoEncoder(2, model_temperature=1.0)),
]


def timed(function):
    """Return the seconds of processor time a call takes, and its result."""
    begin = time.process_time()
    found = function()
    return time.process_time() - begin, found


def main():
    """Print a table."""
    warnings.simplefilter("ignore")
    rows = tables()
    print(f"{'table':24}{'estimator':64}{'fit':>8}{'curve':>8}{'ratio':>7}{'not ok':>8}")
    for name, plain in SETTINGS:
        X, fits, curves, doubtful = rows[name], [], [], 0
        for seed in _SEEDS:
            model = clone(plain).set_params(random_state=seed)
            fits.append(timed(lambda m=model, X=X: clone(m).fit(X))[0])
            seconds, curve = timed(lambda m=model, X=X: free_energy_curve(m, X))
            curves.append(seconds)
            doubtful += sum(each != "ok" for each in curve.status)
        fit, of_curve = np.median(fits), np.median(curves)
        print(
            f"{name:24}{plain!s:64}{fit:8.3f}{of_curve:8.2f}{of_curve / fit:7.1f}"
            f"{doubtful:5d}/{10 * len(_SEEDS)}"
        )


if __name__ == "__main__":
    main()
