"""Several lines in one cloud of points: a mixture of linear regressions, with its evidence.

A family of components of one's own, of forty lines, with a conjugate prior: rows have covariates
and, in the last column, the response. docs/your-own-energy.md explains it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from skbae import EnergyAutoEncoder
from skbae.energies import ArrayRecord, ConjugateExponentialComponents, MixtureOf
from skbae.testing import check_energy


@dataclass(frozen=True)
class Lines(ArrayRecord):
    """Intercept and slopes (S, K, P) of S models' components, and noise variances (S, K)."""

    slopes: np.ndarray
    noise: np.ndarray


class LinearRegressions(ConjugateExponentialComponents):
    """Rows (x, y), y normal around `slopes . (1, x)`; x standard normal in all components.

    The prior is worth `strength` rows whose responses have the variance `variance`.
    """

    exact_moments = False  # sums have the covariates of the rows, not those that are expected

    def __init__(self, n_components, n_features, strength=1.0, variance=1.0):
        self.n_components, self.n_features = n_components, n_features
        squares = np.eye(n_features)[np.triu_indices(n_features)]
        parts = [[variance], np.zeros(n_features), squares, [1.0]]
        self.prior = strength * np.concatenate(parts)

    def features(self, X):
        Z, y = np.column_stack([np.ones(len(X)), X[:, :-1]]), X[:, -1:]
        i, j = np.triu_indices(self.n_features)
        return np.hstack([y**2, y * Z, Z[:, i] * Z[:, j]])

    def base(self, X):
        return -0.5 * (X[:, :-1] ** 2 + np.log(2 * np.pi)).sum(axis=1)

    def natural(self, params):
        b, precision = params.slopes, 1 / params.noise[..., None]
        i, j = np.triu_indices(self.n_features)
        products = -np.where(i == j, 0.5, 1.0) * b[..., i] * b[..., j]
        constant = 0.5 * np.log(precision / (2 * np.pi))
        return np.concatenate(
            [-0.5 * precision, b * precision, products * precision, constant], axis=-1
        )

    def expected_features(self, params):
        b, n = params.slopes, self.n_features
        of_x = np.broadcast_to(np.eye(n)[np.triu_indices(n)], (*b.shape[:2], n * (n + 1) // 2))
        square = params.noise[..., None] + (b**2).sum(axis=-1, keepdims=True)
        return np.concatenate([square, b, of_x], axis=-1)

    def solve(self, sums):
        """Return least squares for sums (..., P), what they leave, and the matrix of covariates."""
        n = self.n_features
        i, j = np.triu_indices(n)
        matrix = np.empty((*sums.shape[:-1], n, n))
        matrix[..., i, j] = matrix[..., j, i] = sums[..., n + 1 :]
        seen = sums[..., 1 : n + 1]
        b = np.linalg.solve(matrix, seen[..., None])[..., 0]
        return b, sums[..., 0] - (b * seen).sum(axis=-1), matrix

    def match_features(self, means):
        b, left, _ = self.solve(means)
        return Lines(b, np.maximum(left, 1e-6))

    def draw(self, params, models, labels, rng):
        b, noise = params.slopes[models, labels], params.noise[models, labels]
        x = rng.standard_normal((len(labels), self.n_features - 1))
        y = b[:, 0] + (b[:, 1:] * x).sum(axis=1) + np.sqrt(noise) * rng.standard_normal(len(x))
        return np.column_stack([x, y])

    def n_parameters(self):
        return self.n_components * (self.n_features + 1)

    def log_normaliser(self, statistics):
        _, left, matrix = self.solve(statistics[..., :-1])
        n, p = statistics[..., -1], self.n_features
        a = (n + p) / 2 + 1
        log_det = np.linalg.slogdet(matrix)[1]
        constant = 0.5 * (p - n) * np.log(2 * np.pi) - np.log(2)
        return constant - 0.5 * log_det + gammaln(a) - a * np.log(left / 2)

    def draw_statistics(self, statistics, rng):
        b, left, matrix = self.solve(statistics[..., :-1])
        a = (statistics[..., -1] + self.n_features) / 2 + 1
        noise = left / 2 / rng.standard_gamma(a)
        lower = np.linalg.cholesky(np.linalg.inv(matrix))
        away = (lower @ rng.standard_normal((*b.shape, 1)))[..., 0]
        return Lines(b + np.sqrt(noise)[..., None] * away, noise)

    def scores(self, params, counts, moments, temperature):
        sums = self.prior[:-1] + moments.features / temperature
        n = self.prior[-1] + counts / temperature
        _, _, matrix = self.solve(sums)
        fitted = (matrix @ params.slopes[..., None])[..., 0]
        of_slopes = sums[..., 1 : self.n_features + 1] - fitted
        of_noise = sums[..., 0] - (params.slopes * fitted).sum(axis=-1) - n * params.noise
        return np.concatenate([of_slopes, of_noise[..., None]], axis=-1).reshape(len(counts), -1)


if __name__ == "__main__":
    # two lines that cross
    rng = np.random.default_rng(0)
    x, line = rng.standard_normal(60), np.arange(60) % 3 > 0
    y = np.where(line, 1 + 2 * x, -1.5 * x) + 0.3 * rng.standard_normal(60)
    X = np.column_stack([x, y])

    recipe = MixtureOf(LinearRegressions, n_components=2)
    made = check_energy(recipe.for_rows(X), X)
    print(f"{len(made)} checks passed")

    best = EnergyAutoEncoder(recipe, model_temperature=0, n_init=10, random_state=0).fit(X)
    for (intercept, slope), noise in zip(
        best.reference_.components.slopes[0], best.reference_.components.noise[0], strict=True
    ):
        print(f"y = {intercept:5.2f} + {slope:5.2f} x, standard deviation {np.sqrt(noise):.2f}")
    agreement = np.mean(best.predict(X) == line)
    print(f"{max(agreement, 1 - agreement):.0%} of the points are assigned to their line")

    for n_components in (1, 2, 3):
        recipe = MixtureOf(LinearRegressions, n_components=n_components)
        mixture = EnergyAutoEncoder(recipe, random_state=0).fit(X)
        error = mixture.hmaxemax_error_ * len(X)
        print(f"{n_components}: log evidence {mixture.log_evidence_:7.2f} +- {error:.2f}")
