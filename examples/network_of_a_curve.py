"""A network finds a curve at any temperature, and ordinary tables are not fitted below PCA.

``python examples/network_of_a_curve.py`` prints squared errors of reconstructions of a parabola by
one code, and log densities of rows held out of a table.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skbae import BayesianPCAAutoEncoder, BayesianRBMAutoEncoder, BayesianVAEAutoEncoder


def error(model, X):
    """Return the mean squared error of reconstructions."""
    return np.mean((X - model.inverse_transform(model.transform(X))) ** 2)


def main():
    """Fit both families to a curve and to a table with columns of different units."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-3, 3, 500)
    X = np.column_stack([t, t**2 / 3]) + 0.05 * rng.normal(size=(500, 2))
    print(f"parabola, one code: PCA {error(PCA(1).fit(X), X):.4f}")
    for temperature in (0.0, 0.001, 1.0):
        fitted = BayesianVAEAutoEncoder(1, temperature=temperature, random_state=0).fit(X)
        print(f"  network at T = {temperature:g}: {error(fitted, X):.4f}")

    train, test = train_test_split(load_wine().data, random_state=0)  # units as they come
    print("wine, log density of rows held out")
    for model in (
        BayesianPCAAutoEncoder(2, model_temperature=0),
        BayesianVAEAutoEncoder(2, random_state=0),
        BayesianRBMAutoEncoder(4, visible="gaussian", random_state=0),
    ):
        print(f"  {type(model).__name__}: {model.fit(train).score(test):.2f}")


if __name__ == "__main__":
    main()
