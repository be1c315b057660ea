"""Brute-force answers for Bayesian mixtures: priors by scipy, evidence by enumeration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from _oracles import dense_covariances, joint_energies
from scipy.special import gammaln, logsumexp, multigammaln
from scipy.stats import wishart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class MixturePrior:
    """A conjugate prior, as the user gives it; `covariance` in the shape of one covariance."""

    kind: str
    n_components: int
    mean: Any
    covariance: Any
    concentration: float = 1.0
    mean_precision: float = 0.01
    degrees_of_freedom: float = 4.0
    equal_weights: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """Constructor arguments of the estimator."""
        return {
            "n_components": self.n_components,
            "covariance_type": self.kind,
            "equal_weights": self.equal_weights,
            "weight_concentration_prior": self.concentration,
            "mean_precision_prior": self.mean_precision,
            "mean_prior": self.mean,
            "degrees_of_freedom_prior": self.degrees_of_freedom,
            "covariance_prior": self.covariance,
        }

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Draw weights (K,), means (K, D) and dense covariances (K, D, D)."""
        size, n = len(self.mean), self.n_components
        weights = np.full(n, 1 / n)
        if not self.equal_weights:
            weights = rng.dirichlet(np.full(n, self.concentration))
        shape = self.kind.removeprefix("tied_").replace("tied", "full")
        dof, covariances = self.degrees_of_freedom, []
        for _ in range(1 if self.kind.startswith("tied") else n):
            if shape == "full":
                scale = np.linalg.inv(np.atleast_2d(self.covariance))
                precision = np.atleast_2d(wishart.rvs(dof, scale, random_state=rng))
                covariances.append(np.linalg.inv(precision))
            else:  # one gamma a feature, or a single one
                rates = np.asarray(self.covariance, dtype=np.float64) / 2
                precisions = rng.gamma(dof / 2, 1 / rates)
                covariances.append(np.diag(np.broadcast_to(1 / precisions, (size,))))
        covariances = np.stack(covariances * (n // len(covariances)))
        means = [rng.multivariate_normal(self.mean, c / self.mean_precision) for c in covariances]
        return weights, np.stack(means), covariances


def _log_precision_integral(kind: str, dof: Array, scale: Array) -> Array:
    """Return ``log of the integral of |Lambda|^power exp(-tr(scale Lambda) / 2)``.

    The power is that of the prior with `dof`; scales are full matrices (..., D, D), of which
    diagonal kinds use the diagonal and spherical kinds the trace.
    """
    size = scale.shape[-1]
    if kind in ("full", "tied"):
        log_det = np.linalg.slogdet(scale)[1]
        return dof * size / 2 * np.log(2) - dof / 2 * log_det + multigammaln_each(dof / 2, size)
    if kind.endswith("diag"):
        rates = np.diagonal(scale, axis1=-2, axis2=-1) / 2
        return size * gammaln(dof / 2) - (dof[..., None] / 2 * np.log(rates)).sum(axis=-1)
    rate = np.trace(scale, axis1=-2, axis2=-1) / 2
    return gammaln(dof / 2) - dof / 2 * np.log(rate)


def multigammaln_each(a: Array, size: int) -> Array:
    """Return scipy's multivariate log gamma function for every entry of an array."""
    values, where = np.unique(a, return_inverse=True)
    return np.array([multigammaln(value, size) for value in values])[where].reshape(np.shape(a))


def enumerated_log_evidence(X: Any, prior: MixturePrior, temperature: float = 1.0) -> float:
    """Return ``log of the integral of prior(m) prod_x sum_k exp(H(x, m, k) / T)`` exactly.

    The product of sums is a sum over all ``K^N`` allocations, each of which has a closed form: the
    conjugate marginal with every row counted ``1 / T`` times. Only for a dozen rows.
    """
    X = np.asarray(X, dtype=np.float64)
    (n_rows, size), n_components, heat = X.shape, prior.n_components, 1 / temperature
    kind, tied = prior.kind, prior.kind.startswith("tied")
    strength, mean = prior.mean_precision, np.asarray(prior.mean, dtype=np.float64)
    base = np.asarray(prior.covariance, dtype=np.float64)
    if kind.endswith("diag"):
        base = np.diag(base)
    elif kind.endswith("spherical"):
        base = np.eye(size) * base / size  # of which the trace counts
    degrees_per_row = size if kind.endswith("spherical") else 1

    # for every subset of the rows: how many, and what it adds to the scale
    n_subsets = 1 << n_rows
    counts, scatters = np.zeros(n_subsets), np.zeros((n_subsets, size, size))
    for subset in range(1, n_subsets):
        rows = X[[i for i in range(n_rows) if subset >> i & 1]]
        n = heat * len(rows)
        centre = rows.mean(axis=0)
        deviations, shift = rows - centre, centre - mean
        scatters[subset] = heat * deviations.T @ deviations
        scatters[subset] += strength * n / (strength + n) * np.outer(shift, shift)
        counts[subset] = n
    of_means = size / 2 * np.log(strength / (strength + counts))

    allocations = np.indices((n_components,) * n_rows).reshape(n_rows, -1)
    powers = 1 << np.arange(n_rows)
    subsets = np.stack([powers @ (allocations == k) for k in range(n_components)])  # (K, K^N)

    def of_precisions(n: Array, scatter: Array) -> Array:
        dof = prior.degrees_of_freedom
        after = _log_precision_integral(kind, dof + degrees_per_row * n, base + scatter)
        return after - _log_precision_integral(kind, np.asarray(dof), base)

    total = of_means[subsets].sum(axis=0) - size * n_rows * heat / 2 * np.log(2 * np.pi)
    if tied:
        total += of_precisions(np.full(total.shape, heat * n_rows), scatters[subsets].sum(axis=0))
    else:
        total += of_precisions(counts, scatters)[subsets].sum(axis=0)
    if prior.equal_weights:
        total -= n_rows * heat * np.log(n_components)
    else:
        alpha = prior.concentration
        total += gammaln(n_components * alpha) - gammaln(n_components * alpha + n_rows * heat)
        total += (gammaln(alpha + counts[subsets]) - gammaln(alpha)).sum(axis=0)
    return float(logsumexp(total))


def model_joints(fitted: Any, X: Any) -> Array:
    """Return H under every kept model from the public ``models_``, (S, N, K)."""
    X = np.asarray(X, dtype=np.float64)
    n_components, n_features = fitted.models_.means.shape[1:]
    return np.stack(
        [
            joint_energies(
                X,
                fitted.models_.weights[s],
                fitted.models_.means[s],
                dense_covariances(
                    fitted.models_.covariances[s], n_components, n_features, fitted.covariance_type
                ),
            )
            for s in range(len(fitted.models_.weights))
        ]
    )
