"""Small ordinary tables, which families must fit as well as their simplest special cases."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.preprocessing import StandardScaler


def parabola(n=500):
    """Return rows around a curve whose best line leaves a squared error of 0.41."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-3, 3, n)
    return np.column_stack([t, t**2 / 3]) + 0.05 * rng.normal(size=(n, 2))


def two_blobs(n=300):
    """Return one column with two groups, at -2 and 2, of standard deviation 0.7."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(-2, 0.7, (n, 1)), rng.normal(2, 0.7, (n, 1))])


def scaled(load):
    """Return a data set of scikit-learn with columns of mean zero and variance one."""
    return StandardScaler().fit_transform(load().data)


TABLES = {
    "parabola": parabola,
    "two blobs": two_blobs,
    "iris": lambda: load_iris().data,
    "iris, scaled": lambda: scaled(load_iris),
    "wine": lambda: load_wine().data,
    "wine, scaled": lambda: scaled(load_wine),
}
SCALED = {
    "iris": lambda: scaled(load_iris),
    "wine": lambda: scaled(load_wine),
    "cancer": lambda: scaled(load_breast_cancer),
    "diabetes": lambda: scaled(load_diabetes),
}
