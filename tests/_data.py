"""Data that several tests share."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

# Velocities of 82 galaxies in km/s (Postman, Huchra and Geller 1986; the version of R's MASS, with
# 26690), divided by 1000.
# fmt: off
GALAXIES = np.array(
    [
        9172, 9350, 9483, 9558, 9775, 10227, 10406, 16084, 16170, 18419, 18552, 18600,
        18927, 19052, 19070, 19330, 19343, 19349, 19440, 19473, 19529, 19541, 19547, 19663,
        19846, 19856, 19863, 19914, 19918, 19973, 19989, 20166, 20175, 20179, 20196, 20215,
        20221, 20415, 20629, 20795, 20821, 20846, 20875, 20986, 21137, 21492, 21701, 21814,
        21921, 21960, 22185, 22209, 22242, 22249, 22314, 22374, 22495, 22746, 22747, 22888,
        22914, 23206, 23241, 23263, 23484, 23538, 23542, 23666, 23706, 23711, 24129, 24285,
        24289, 24366, 24717, 24990, 25633, 26690, 26995, 32065, 32789, 34279,
    ]
)[:, None] / 1000
# fmt: on

# The prior of Hairault, Robert and Rousseau, and log evidences with standard errors by long runs of
# an independent program; one component is exact.
GALAXIES_PRIOR = {
    "weight_concentration_prior": 1.0,
    "mean_precision_prior": 2.6 / np.ptp(GALAXIES),
    "mean_prior": GALAXIES.mean(axis=0),
    "degrees_of_freedom_prior": 2.56,
    "covariance_prior": [[0.72 * GALAXIES.var()]],
}
GALAXIES_EVIDENCE = {
    1: (-246.1799, 0.0),
    2: (-231.492, 0.010),
    3: (-227.065, 0.005),
    4: (-226.435, 0.005),
    5: (-226.272, 0.004),
    6: (-226.334, 0.004),
    8: (-226.789, 0.004),
}


def start_for(X, n_components, kind, seed=0):
    """Return a start in scikit-learn's arguments, not close to any optimum."""
    rng = np.random.default_rng(seed)
    means = X[rng.choice(len(X), n_components, replace=False)]
    variance = X.var(axis=0).mean()
    identity = np.eye(X.shape[1]) / variance
    precisions = {
        "full": np.stack([identity] * n_components),
        "tied": identity,
        "diag": np.full((n_components, X.shape[1]), 1 / variance),
        "spherical": np.full(n_components, 1 / variance),
        "tied_diag": np.full(X.shape[1], 1 / variance),
        "tied_spherical": np.array(1 / variance),
    }[kind]
    weights = rng.dirichlet(np.full(n_components, 5.0))
    return {"weights_init": weights, "means_init": means, "precisions_init": precisions}


def bad_data(X):
    """Return (name, data, error, pattern)."""
    with_inf = X.copy()
    with_inf[5, 2] = np.inf
    return {
        "infinity": (with_inf, ValueError, "infinity"),
        "one-dimensional": (X[:, 0], ValueError, "2D array"),
        "three-dimensional": (X[None], ValueError, "dim 3"),
        "no rows": (X[:0], ValueError, "0 sample"),
        "one row": (X[:1], ValueError, "1 sample|minimum of 2"),
        "no columns": (X[:, :0], ValueError, r"0 feature"),
        "words": (np.array([["a", "b"], ["c", "d"]]), ValueError, "could not convert"),
        "complex": (X + 1j, ValueError, "[Cc]omplex"),
        "sparse": (csr_matrix(X), TypeError, "[Ss]parse"),
        "nothing": (None, ValueError, "2D array"),
    }


def overlapping_blobs():
    """Return overlapping groups: fits that take many iterations."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 3)) * 1.5
    return np.concatenate(
        [c + rng.normal(size=(n, 3)) for c, n in zip(centres, [90, 60, 120, 40], strict=True)]
    )
