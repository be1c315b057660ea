"""Brute-force answers, computed without any of the package's numerical code.

Everything here is slow and obvious: dense matrices, one component at a time, scipy's densities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal

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
