"""Poisson components with a gamma prior: how little a new component of a mixture takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from skbae._types import Array, ArrayRecord
from skbae.energies.mixture._exponential import ConjugateExponentialComponents


@dataclass(frozen=True)
class Rates(ArrayRecord):
    """Expected counts of S models' components, (S, K, D)."""

    rates: Array


class PoissonComponents(ConjugateExponentialComponents):
    """Rows of D independent counts, whose rates are Gamma(shape, rate) a priori.

    Parameters
    ----------
    n_components, n_features : int
    shape, rate : float
        The prior is worth `rate` rows, in which `shape` of each event were counted.
    """

    def __init__(self, n_components, n_features, shape=1.0, rate=1.0):
        self.n_components, self.n_features = n_components, n_features
        self.prior = np.r_[np.full(n_features, float(shape)), rate]

    def features(self, X):
        return X

    def base(self, X):
        return -gammaln(X + 1.0).sum(axis=1)

    def natural(self, params):
        constant = -params.rates.sum(axis=-1, keepdims=True)
        return np.concatenate([np.log(params.rates), constant], axis=-1)

    def expected_features(self, params):
        return params.rates

    def match_features(self, means):
        return Rates(np.maximum(means, 1e-12))

    def draw(self, params, models, labels, rng):
        return rng.poisson(params.rates[models, labels]).astype(float)

    def n_parameters(self):
        return self.n_components * self.n_features

    def log_normaliser(self, statistics):
        events, n_rows = statistics[..., :-1], statistics[..., -1:]
        return (gammaln(events) - events * np.log(n_rows)).sum(axis=-1)

    def draw_statistics(self, statistics, rng):
        return Rates(rng.standard_gamma(statistics[..., :-1]) / statistics[..., -1:])
