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

# Acid neutralising capacity of 155 lakes in the northeastern United States, plus 50 (Crawford and
# others 1994; the version of R's mclust): the logarithm is what mixtures are fitted to.
# fmt: off
ACIDITY = np.log(
    [
        18.7, 49.9, 41.8, 40, 45.7, 41.9, 63, 72, 51, 59, 119, 69, 72, 94, 643.8, 62, 53.4, 71.1,
        55, 50.5, 218, 136, 57.2, 57, 82, 90.5, 51, 856, 1021, 401.2, 70, 58, 113, 423, 59.3, 69.7,
        133, 82.8, 312, 62, 242.2, 118.9, 190.5, 128.5, 62.1, 85, 56, 73, 98.8, 104.8, 65.3, 80,
        262.3, 156, 65.9, 757, 104.3, 119.7, 77.4, 213, 97, 85, 455, 58, 63, 91, 424, 91, 82, 569,
        84, 376, 392.8, 88.4, 73.8, 634.4, 67, 63, 738, 104, 352, 56, 304, 202, 527, 58, 151, 91,
        342, 76, 55, 904, 192, 102, 119.3, 60.3, 1146.4, 50.1, 76, 55.5, 263, 57, 126.9, 61, 86,
        78, 471, 536.1, 1073, 73.8, 376.1, 87, 418, 834.2, 1218.2, 409.5, 132, 1132.4, 91.7, 649.8,
        457.4, 66, 205.1, 139.5, 552, 348.6, 532.8, 1119, 152, 71, 833.5, 658, 312, 845, 643, 949,
        167.5, 370.1, 676.5, 57.9, 499.5, 702.2, 471.4, 74.8, 782.5, 854, 446, 61.1, 1039, 62.3,
        510, 732, 799.4, 1051.5, 89.8,
    ]
)[:, None]
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


def bent_rows(n, n_features=2, deviation=0.2, seed=0):
    """Return rows around a parabola, or around a curve in three dimensions."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(-2, 2, n)
    curve = np.column_stack([t, t**2 / 2, np.sin(2 * t)])[:, :n_features]
    return curve + deviation * rng.normal(size=curve.shape)
