"""Brute-force answers, computed without any of the package's numerical code.

Everything here is slow and obvious: dense matrices, one component at a time, scipy's densities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln, logsumexp, multigammaln, softmax
from scipy.stats import dirichlet, gamma, multivariate_normal, norm

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def dense_covariances(covariances: Any, n_components: int, n_features: int, kind: str) -> Array:
    """Return (K, D, D) matrices from covariances in scikit-learn's shape for `kind`."""
    covariances = np.asarray(covariances, dtype=np.float64)
    if kind == "full":
        dense = covariances
    elif kind == "tied":
        dense = np.stack([covariances] * n_components)
    elif kind == "diag":
        dense = np.stack([np.diag(row) for row in covariances])
    elif kind == "spherical":
        dense = np.stack([value * np.eye(n_features) for value in covariances])
    elif kind == "tied_diag":
        dense = np.stack([np.diag(covariances)] * n_components)
    elif kind == "tied_spherical":
        dense = np.stack([float(covariances) * np.eye(n_features)] * n_components)
    else:
        raise KeyError(kind)
    assert dense.shape == (n_components, n_features, n_features)
    return dense


def fitted_covariances(fitted: Any) -> Array:
    """Return the fitted mixture's covariances, (K, D, D)."""
    n_components, n_features = fitted.means_.shape
    return dense_covariances(fitted.covariances_, n_components, n_features, fitted.covariance_type)


def joint_energies(X: Any, weights: Any, means: Any, covariances: Any) -> Array:
    """Return ``log w_k + log N(x; mu_k, S_k)``, (N, K), for dense covariances."""
    columns = [
        np.log(weight) + multivariate_normal(mean, covariance).logpdf(X).reshape(len(X))
        for weight, mean, covariance in zip(weights, means, covariances, strict=True)
    ]
    return np.stack(columns, axis=1)


def gaussian_mixture_joint(fitted: Any, X: Any) -> Array:
    """Return H of a fitted mixture from its public attributes, (N, K)."""
    X = np.asarray(X, dtype=np.float64)
    return joint_energies(X, fitted.weights_, fitted.means_, fitted_covariances(fitted))


def columns_joint(fitted: Any, X: Any) -> Array:
    """Return H of a mixture of independent normal columns from its public attributes, (N, K)."""
    own = fitted.parameters_["gaussian"]
    deviations = np.asarray(X, dtype=np.float64)[:, None] - own["means"]
    terms = deviations**2 / own["covariances"] + np.log(2 * np.pi * own["covariances"])
    return np.log(fitted.weights_) - 0.5 * terms.sum(axis=2)


def subspaces(fitted: Any) -> Array:
    """Return the precisions of a fitted mixture of PCA as dense matrices, (K, D, D)."""
    size = fitted.means_.shape[1]
    noise = np.broadcast_to(fitted.noise_variance_, fitted.weights_.shape)
    matrices = []
    for s2, directions, precisions in zip(
        noise, fitted.components_, fitted.component_precisions_, strict=True
    ):
        np.testing.assert_allclose(directions @ directions.T, np.eye(len(directions)), atol=1e-12)
        outside = np.eye(size) - directions.T @ directions
        matrices.append(outside / s2 + (directions.T * precisions) @ directions)
    return np.stack(matrices)


def subspace_joint(fitted: Any, X: Any) -> Array:
    """Return ``log w_k + Hmax_T`` of the PCA of each component, (N, K), from its definition."""
    X, temperature = np.asarray(X, dtype=np.float64), fitted.temperature
    noise = np.broadcast_to(fitted.noise_variance_, fitted.weights_.shape)
    columns = []
    for weight, mean, s2, precision in zip(
        fitted.weights_, fitted.means_, noise, subspaces(fitted), strict=True
    ):
        value = pca_hmax(X, mean, precision, s2, temperature).reshape(len(X))
        columns.append(np.log(weight) + value)
    return np.stack(columns, axis=1)


def pca_precision(fitted: Any) -> Array:
    """Return the precision of fitted PCA as a dense matrix, (D, D)."""
    size, u = len(fitted.mean_), fitted.components_
    np.testing.assert_allclose(u @ u.T, np.eye(len(u)), atol=1e-12)
    outside = (np.eye(size) - u.T @ u) / fitted.noise_variance_
    return outside + (u.T * fitted.component_precisions_) @ u


def pca_moments(fitted: Any) -> Array:
    """Return the second moments along the components of fitted PCA, (D, D)."""
    return (fitted.components_.T * fitted.explained_variance_) @ fitted.components_


def pca_hmax(X: Array, mean: Array, precision: Array, noise: float, temperature: float) -> Array:
    """Return ``Hmax_T`` of rows under PCA, by its definition, (N,).

    ``-(D/2) log(2 pi s2) + (T D/2) log(2 pi s2 T) + T log N(x; mu, T C)`` for T > 0.
    """
    size = X.shape[1]
    value = -0.5 * size * np.log(2 * np.pi * noise)
    if temperature == 0:
        return value - 0.5 * np.einsum("nd,de,ne->n", X - mean, precision, X - mean)
    density = multivariate_normal(mean, temperature * np.linalg.inv(precision)).logpdf(X)
    scale = 0.5 * temperature * size * np.log(2 * np.pi * noise * temperature)
    return value + scale + temperature * density


def hmax(joint: Array, temperature: float) -> Array:
    """Return ``T log sum exp(H / T)`` over the last axis."""
    if temperature == 0:
        return joint.max(axis=-1)
    return temperature * logsumexp(joint / temperature, axis=-1)


def codes(joint: Array, temperature: float) -> Array:
    """Return ``softmax(H / T)`` over the last axis, one-hot at T = 0."""
    if temperature == 0:
        return np.eye(joint.shape[-1])[joint.argmax(axis=-1)]
    return softmax(joint / temperature, axis=-1)


def tilted(values: Array, weights: Array | None, tilt: float) -> float:
    """Return ``-(1/t) log weighted mean exp(-t x)``."""
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if tilt == 0:
        return float(np.average(values, weights=weights))
    return float(-logsumexp(-tilt * values, b=weights / weights.sum()) / tilt)


def em_step(
    X: Array,
    weights: Array,
    means: Array,
    covariances: Array,
    kind: str,
    *,
    temperature: float = 1.0,
    tilt: float = 0.0,
    sample_weight: Array | None = None,
    equal_weights: bool = False,
    reg_covar: float = 0.0,
) -> tuple[Array, Array, Array]:
    """Return weights, means and dense covariances after one full step of expectation maximisation.

    Written for the eye: responsibilities of shape (N, K), loops over components.
    """
    joint = joint_energies(X, weights, means, covariances)
    row = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
    row = row * np.exp(-tilt * hmax(joint, temperature))
    row /= row.sum()
    mass = row[:, None] * codes(joint, temperature)
    counts = mass.sum(axis=0)
    n_features = X.shape[1]
    new_means = mass.T @ X / counts[:, None]
    scatters = []
    for k, mean in enumerate(new_means):
        deviations = X - mean
        scatters.append((mass[:, k, None] * deviations).T @ deviations)
    new_covariances = np.stack(scatters) / counts[:, None, None]
    if kind.startswith("tied"):
        new_covariances = np.stack([np.sum(scatters, axis=0)] * len(counts))
    if kind.endswith("diag"):
        new_covariances = new_covariances * np.eye(n_features)
    if kind.endswith("spherical"):
        size = np.trace(new_covariances, axis1=1, axis2=2) / n_features
        new_covariances = size[:, None, None] * np.eye(n_features)
    new_weights = np.full(len(counts), 1 / len(counts)) if equal_weights else counts
    return new_weights, new_means, new_covariances + reg_covar * np.eye(n_features)


def finite_differences(function: Callable[[Array], Array], X: Array, step: float = 1e-5) -> Array:
    """Return the gradient in x of a function of single rows, (N, D), by central differences."""
    gradient = np.empty(X.shape)
    for feature in range(X.shape[1]):
        shift = np.zeros(X.shape[1])
        shift[feature] = step
        gradient[:, feature] = (function(X + shift) - function(X - shift)) / (2 * step)
    return gradient


def denoise(X: Array, weights: Array, means: Array, covariances: Array, variance: float) -> Array:
    """Return ``E[clean | noisy]`` by conditioning component by component (no Tweedie).

    A clean row of component k behind a noisy x has mean ``mu_k + S_k (S_k + v I)^-1 (x - mu_k)``.
    """
    noisy = covariances + variance * np.eye(X.shape[1])
    share = softmax(joint_energies(X, weights, means, noisy), axis=1)
    expected = np.zeros(X.shape)
    for k, mean in enumerate(means):
        gain = np.linalg.solve(noisy[k], covariances[k]).T
        expected += share[:, k, None] * (mean + (X - mean) @ gain.T)
    return expected


# -- the normal-Wishart prior of mixtures ----------------------------------------------------------


def gaussian_log_marginal(
    X: Array, kind: str, strength: float, location: Array, dof: float, scale: Any, power: Any = 1.0
) -> float:
    """Return the log integral of ``prod_x N(x; mu, S)^power`` over the prior of one component.

    ``kind`` is full, diag or spherical. A power weighs rows; it need not be one number. Diagonal
    precisions are one-dimensional problems side by side.
    """
    X = np.asarray(X, dtype=np.float64)
    power = np.broadcast_to(np.asarray(power, dtype=np.float64), len(X))
    n_features = X.shape[1]
    if kind == "diag":
        return sum(
            gaussian_log_marginal(
                X[:, [j]], "full", strength, location[[j]], dof, np.array([[scale[j]]]), power
            )
            for j in range(n_features)
        )
    n = power.sum()
    if n == 0:
        return 0.0
    mean = power @ X / n
    scatter = (power[:, None] * (X - mean)).T @ (X - mean)
    scatter = scatter + strength * n / (strength + n) * np.outer(mean - location, mean - location)
    value = -0.5 * n * n_features * np.log(2 * np.pi)
    value += 0.5 * n_features * np.log(strength / (strength + n))
    if kind == "spherical":
        shape, rate = dof / 2, scale / 2
        new_shape, new_rate = shape + n * n_features / 2, rate + np.trace(scatter) / 2
        value += gammaln(new_shape) - new_shape * np.log(new_rate)
        return float(value - gammaln(shape) + shape * np.log(rate))

    def log_normaliser(dof: float, scale: Array) -> float:
        log_det = np.linalg.slogdet(scale)[1]
        return (
            dof * n_features / 2 * np.log(2) - dof / 2 * log_det + multigammaln(dof / 2, n_features)
        )

    return float(value + log_normaliser(dof + n, scale + scatter) - log_normaliser(dof, scale))


def enumerated_log_evidence(
    X: Array,
    n_components: int,
    kind: str,
    *,
    concentration: float,
    strength: float,
    location: Array,
    dof: float,
    scale: Any,
    temperature: float = 1.0,
    equal_weights: bool = False,
) -> float:
    """Return ``log int prior(m) prod_x sum_k exp(H(x, m, k) / T) dm`` over all K^n allocations.

    Each term is a product over components of marginals, in which every row counts ``1 / T``; they
    depend on the set of rows alone, so that those of all 2^n sets are computed once.
    """
    n_rows = len(X)
    sets = (np.arange(2**n_rows)[:, None] >> np.arange(n_rows)) & 1
    marginals = np.array(
        [
            gaussian_log_marginal(
                X[rows == 1], kind, strength, location, dof, scale, 1 / temperature
            )
            if rows.any()
            else 0.0
            for rows in sets
        ]
    )
    allocations = np.indices((n_components,) * n_rows).reshape(n_rows, -1)
    terms = np.zeros(allocations.shape[1])
    total = n_components * concentration
    for k in range(n_components):
        chosen = allocations == k
        terms += marginals[(1 << np.arange(n_rows)) @ chosen]
        counts = chosen.sum(axis=0) / temperature
        if not equal_weights:
            terms += gammaln(concentration + counts) - gammaln(concentration)
    if equal_weights:
        terms -= n_rows / temperature * np.log(n_components)
    else:
        terms += gammaln(total) - gammaln(total + n_rows / temperature)
    return float(logsumexp(terms))


def prior_mixtures_1d(
    n_draws: int,
    n_components: int,
    rng: np.random.Generator,
    *,
    concentration: float,
    strength: float,
    location: float,
    dof: float,
    scale: float,
) -> tuple[Array, Array, Array]:
    """Draw weights, means and precisions, each (n_draws, K), of one-dimensional mixtures."""
    weights = dirichlet(np.full(n_components, concentration)).rvs(n_draws, random_state=rng)
    size = (n_draws, n_components)
    precisions = gamma(dof / 2, scale=2 / scale).rvs(size, random_state=rng)
    means = norm(location, 1 / np.sqrt(strength * precisions)).rvs(size, random_state=rng)
    return weights, means, precisions


def prior_objectives_1d(
    x: Array,
    models: tuple[Array, Array, Array],
    *,
    temperature: float,
    tilt: float = 0.0,
    sample_weight: Array | None = None,
) -> Array:
    """Return the (tilted) mean of ``Hmax_T`` under each one-dimensional mixture, (n_draws,)."""
    weights, means, precisions = models
    constant = np.log(weights) + 0.5 * np.log(precisions / (2 * np.pi))
    row_weights = np.ones(len(x)) if sample_weight is None else sample_weight
    total = np.zeros(len(weights))
    for value, row_weight in zip(x, row_weights / row_weights.sum(), strict=True):
        row = hmax(constant - 0.5 * precisions * (value - means) ** 2, temperature)
        total += row_weight * (row if tilt == 0 else np.exp(-tilt * row))
    return total if tilt == 0 else -np.log(total) / tilt


def prior_average(objective: Array, power: float) -> tuple[float, float, float, float]:
    """Average over draws of the prior, weighted by ``exp(power * F)``.

    Returns the log of the mean weight and its standard error, then the weighted mean of F and its
    standard error.
    """
    shares = np.exp(power * (objective - objective.max()))
    shares /= shares.mean()
    root = np.sqrt(len(shares))
    mean = np.mean(shares * objective)
    error = np.std(shares * (objective - mean)) / root
    log_mean = logsumexp(power * objective) - np.log(len(objective))
    return float(log_mean), float(shares.std() / root), float(mean), float(error)
