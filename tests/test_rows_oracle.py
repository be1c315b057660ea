"""The slow sampler of models to which rows come one by one, against enumeration."""

from __future__ import annotations

import _rows_oracle
import numpy as np
import pytest
from _collapsed_oracle import pooled
from _mixture_oracles import MixturePrior, enumerated_log_evidence
from _rows_oracle import Mixture, log_evidence

N_RUNS, N_MODELS, N_FIRST = 16, 2000, 4


def few_rows(n_components):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(7, 2)) * [1, 2] + 3 * rng.integers(0, 2, size=(7, 1))
    scale = np.array([[3.0, 0.5], [0.5, 4.0]])
    return X, MixturePrior("full", n_components, X.mean(axis=0), scale, 1.3, 0.5, 6.0)


@pytest.fixture(autouse=True)
def four_rows_are_enumerated(monkeypatch):
    """All others come one by one."""
    monkeypatch.setattr(_rows_oracle, "_N_FIRST", N_FIRST)


def estimate(mixture, X):
    runs = [log_evidence(mixture, X, N_MODELS, np.random.default_rng(s)) for s in range(N_RUNS)]
    return pooled(np.array(runs))


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_the_evidence_is_that_of_the_enumeration(n_components):
    X, prior = few_rows(n_components)
    value, error = estimate(Mixture(prior), X)
    assert error < 0.15
    assert abs(value - enumerated_log_evidence(X, prior)) < 4 * error


class RowsForgotten(Mixture):
    """Sweeps that draw models from the prior, whatever the rows."""

    def draw(self, counts, sums, squares, rng):
        return super().draw(0 * counts, 0 * sums, 0 * squares, rng)


def test_a_mistake_in_the_moves_is_noticed():
    X, prior = few_rows(2)
    value, error = estimate(RowsForgotten(prior), X)
    assert abs(value - enumerated_log_evidence(X, prior)) > 6 * error
