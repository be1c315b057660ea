"""Information criteria of networks and machines, by their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_iris

from skbae import BayesianRBMAutoEncoder, BayesianVAEAutoEncoder

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
# An estimator, and the number of its parameters for four columns.
CASES = {
    "machine": (
        BayesianRBMAutoEncoder(2, visible="gaussian", random_state=0),
        2 * 4 + 4 + 2 + 4,
    ),
    "machine, shared noise": (
        BayesianRBMAutoEncoder(2, visible="gaussian", noise="shared", random_state=0),
        2 * 4 + 4 + 2 + 1,
    ),
    "network": (
        BayesianVAEAutoEncoder(1, hidden_layer_sizes=(3,), max_iter=5, random_state=0),
        (1 + 1) * 3 + (3 + 1) * 4 + 1 * 4 + 4,
    ),
    "linear network": (
        BayesianVAEAutoEncoder(
            1, hidden_layer_sizes=(), noise="shared", max_iter=5, random_state=0
        ),
        (1 + 1) * 4 + 1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_criteria_by_their_definitions(name):
    X = load_iris().data
    model, n_parameters = CASES[name]
    fitted = model.fit(X)
    log_likelihood = fitted.score_samples(X).sum()
    assert fitted.aic(X) == pytest.approx(2 * n_parameters - 2 * log_likelihood)
    assert fitted.bic(X) == pytest.approx(n_parameters * np.log(150) - 2 * log_likelihood)
    twice = np.repeat(X, 2, axis=0)
    assert fitted.bic(X, sample_weight=np.full(150, 2.0)) == pytest.approx(fitted.bic(twice))
    assert fitted.aic(X, sample_weight=np.full(150, 2.0)) == pytest.approx(fitted.aic(twice))


def test_fits_without_a_density_have_none():
    X = load_iris().data
    fitted = BayesianVAEAutoEncoder(1, temperature=0, max_iter=2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="bic needs a density"):
        fitted.bic(X)
