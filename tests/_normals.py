"""Normal components of variance 1 with a normal prior: everything about one component is closed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skbae.energies import ArrayRecord, DecodableFamily, NaturalExponentialComponents

LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Means(ArrayRecord):
    """Of S models' components, (S, K, D)."""

    means: np.ndarray


class NormalComponents(NaturalExponentialComponents, DecodableFamily):
    """Rows of normals of variance 1; the prior of the means counts as `strength` rows of 0."""

    def __init__(self, n_components, n_features, strength=0.5):
        self.n_components, self.n_features = n_components, n_features
        self.strength = strength
        self.prior = np.r_[np.zeros(n_features), strength]

    def features(self, X):
        return X

    def base(self, X):
        return -0.5 * (np.asarray(X, float) ** 2).sum(axis=1)

    def natural(self, params):
        squares = (params.means**2).sum(axis=-1, keepdims=True)
        constant = -0.5 * (squares + self.n_features * LOG_2PI)
        return np.concatenate([params.means, constant], axis=-1)

    def from_natural(self, natural):
        return Means(natural)

    def expected_features(self, params):
        return params.means

    def match_features(self, means):
        return Means(means)

    def draw(self, params, models, labels, rng):
        return params.means[models, labels] + rng.standard_normal((len(labels), self.n_features))

    def n_parameters(self):
        return self.n_components * self.n_features

    def log_normaliser(self, statistics):
        sums, n = statistics[..., :-1], statistics[..., -1]
        squares = (sums**2).sum(axis=-1) / n
        return 0.5 * (squares + self.n_features * (LOG_2PI - np.log(n) - n * LOG_2PI))

    def draw_statistics(self, statistics, rng):
        sums, n = statistics[..., :-1], statistics[..., -1:]
        return Means(sums / n + rng.standard_normal(sums.shape) / np.sqrt(n))

    def row_moments(self, params):
        size = (*params.means.shape, self.n_features)
        return params.means, np.broadcast_to(np.eye(self.n_features), size)
