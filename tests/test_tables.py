"""Small ordinary tables: the Gaussian families are at least as good as their special cases.

Networks and machines are held to the same in test_vae_tables.py and test_rbm_tables.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from _tables import TABLES

from skbae import (
    BayesianGMMAutoEncoder,
    BayesianMixturePCAAutoEncoder,
    BayesianPCAAutoEncoder,
)

each_table = pytest.mark.parametrize("name", TABLES)


def best(model, X, **settings):
    return model(model_temperature=0, random_state=0, **settings).fit(X).hmaxe_


@each_table
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_two_components_are_not_below_one(name, kind):
    X = TABLES[name]()
    one, two = (
        best(BayesianGMMAutoEncoder, X, n_components=k, covariance_type=kind) for k in (1, 2)
    )
    assert two >= one - 1e-4


@each_table
def test_axes_are_not_below_a_sphere(name):
    X = TABLES[name]()
    size = X.shape[1]
    sphere = -0.5 * size * (np.log(2 * np.pi * X.var(axis=0).mean()) + 1)
    d = max(1, min(2, size - 1))
    plane = best(BayesianPCAAutoEncoder, X, n_components=d)
    assert plane >= sphere - 1e-9
    if size > 1:
        assert best(BayesianMixturePCAAutoEncoder, X, n_components=2, n_latent=d) >= plane - 1e-4
