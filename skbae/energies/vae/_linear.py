r"""The best linear decoder in closed form: PCA at T, from which networks start.

With noise variances Psi and codes of unit variance, ``x = W'u + noise``, and after division of the
features by the square roots of Psi,

.. math:: 2 Hmaxe_T = -\sum_j \log(2 \pi \Psi_j) - \sum_{i > q} l_i
    - T \sum_{i \le q} (1 + \log(l_i / T)),

where ``l_i`` are the eigenvalues of the covariance of the divided rows and q is the number of axes
with ``l_i > T``, at most d: the best W has singular values ``sqrt(l_i - T)`` on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from skbae._types import Array, Rows
    from skbae.energies.vae._parameters import RowFrame

# Least noise variance, relative to the variance of the data: with codes of as many dimensions as
# rows have features, the noise could otherwise vanish.
NOISE_FLOOR = 1e-6
# Values that differ by less, in nats a row, are equal up to rounding.
_EQUAL = 1e-9
# Steps of the search for the noise variances of factor analysis, and the largest number of features
# for which they are searched; the variances of more are found by the fit that follows.
_NOISE_STEPS, _MOST_FEATURES = 500, 200


@dataclass(frozen=True)
class LinearDecoder:
    """A linear decoder of codes of unit variance.

    Attributes
    ----------
    weights : ndarray of shape (d, D)
        Zero for axes that have melted.
    log_noise : ndarray of shape (D,)
    value : float
        ``Hmaxe_T``.
    """

    weights: Array
    log_noise: Array
    value: float


def root_of_covariance(rows: Rows, frame: RowFrame) -> Array:
    """Return R with ``R'R`` the covariance of the scaled rows, at most (D, D)."""
    scaled = frame.inputs(rows.X)
    weights = np.ones(len(scaled)) if rows.weights is None else rows.weights
    scaled *= np.sqrt(weights / rows.total)[:, None]
    if len(scaled) <= scaled.shape[1]:
        return scaled
    return np.asarray(np.linalg.qr(scaled, mode="r"))


def _spectrum(root: Array, log_noise: Array) -> tuple[Array, Array]:
    """Return eigenvalues of the covariance divided by the noise, and their axes (rows)."""
    _, singular, axes = np.linalg.svd(root * np.exp(-0.5 * log_noise), full_matrices=False)
    return singular**2, axes


def _decoder(
    eigenvalues: Array, axes: Array, log_noise: Array, d: int, temperature: float
) -> LinearDecoder:
    """Return the best decoder with given noise variances."""
    q = int(np.sum(eigenvalues[:d] > temperature))
    kept = eigenvalues[:q]
    weights = np.zeros((d, len(log_noise)))
    weights[:q] = np.sqrt(kept - temperature)[:, None] * axes[:q] * np.exp(0.5 * log_noise)
    value = (LOG_2PI + log_noise).sum() + eigenvalues[q:].sum()
    if temperature:
        value += temperature * (1 + np.log(kept / temperature)).sum()
    return LinearDecoder(weights, log_noise, -0.5 * float(value))


def _with_level(root: Array, proportions: Array, d: int, temperature: float) -> LinearDecoder:
    """Return the best decoder whose noise variances have given logarithms up to a constant."""
    eigenvalues, axes = _spectrum(root, proportions)
    size, total = root.shape[1], eigenvalues.sum()
    level = total / size
    for q in range(min(d, len(eigenvalues), size - 1), -1, -1):
        if size - temperature * q <= 0:
            continue
        level = eigenvalues[q:].sum() / (size - temperature * q)
        if q == 0 or eigenvalues[q - 1] > temperature * level:
            break
    level = max(level, NOISE_FLOOR * (total / size or 1.0))
    return _decoder(eigenvalues / level, axes, proportions + np.log(level), d, temperature)


def best_shared(rows: Rows, frame: RowFrame, d: int, temperature: float) -> LinearDecoder:
    """Return PCA at T: the best linear decoder with one noise variance for all scaled features."""
    root = root_of_covariance(rows, frame)
    return _with_level(root, np.zeros(root.shape[1]), d, temperature)


def best_per_feature(
    rows: Rows, frame: RowFrame, d: int, temperature: float, share: float = 0.0
) -> LinearDecoder:
    """Return a linear decoder with a noise variance for each feature.

    Variances are drawn to that of PCA of the scaled rows, as by further rows, whose number is
    `share` times that of the rows.

    At T >= 1 a maximum, factor analysis, which is not below PCA of the rows or of the scaled rows.
    At T < 1 there is none, since variances of d features that are copied vanish; then it is PCA of
    the scaled rows.
    """
    root = root_of_covariance(rows, frame)
    if temperature < 1:
        return _with_level(root, np.zeros(root.shape[1]), d, temperature)
    of_pca = -2 * np.log(frame.scale)
    best = shared = _with_level(root, np.zeros(root.shape[1]), d, temperature)
    other = _with_level(root, of_pca - of_pca.mean(), d, temperature)
    if other.value > best.value + _EQUAL:  # rounding does not decide
        best = other
    if root.shape[1] > _MOST_FEATURES:
        return best
    floor = np.log(NOISE_FLOOR)

    def loss(log_noise: Array) -> tuple[float, Array]:
        eigenvalues, axes = _spectrum(root, log_noise)
        found = _decoder(eigenvalues, axes, log_noise, d, temperature)
        q = int(np.sum(eigenvalues[:d] > temperature))
        shares = np.r_[np.full(q, temperature), eigenvalues[q:]]
        drawn = np.exp(level - log_noise)
        penalty = 0.5 * share * (log_noise + drawn).sum()
        slope = 0.5 - 0.5 * shares @ axes**2 + 0.5 * share * (1 - drawn)
        return penalty - found.value, slope

    level = float(shared.log_noise[0])
    start = np.maximum(best.log_noise, floor)
    bounds = [(floor, None)] * len(start)
    options = {"maxiter": _NOISE_STEPS, "ftol": 1e-14, "gtol": 1e-8}
    with np.errstate(all="ignore"):
        found = minimize(
            loss,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options=options,
        )
    refined = _decoder(*_spectrum(root, found.x), found.x, d, temperature)
    return refined if refined.value > best.value + _EQUAL else best


def encoder_of(found: LinearDecoder, temperature: float) -> tuple[Array, Array]:
    """Return the map from scaled rows to mean codes (D, d), and log standard deviations (d,).

    The deviations are those at T of codes whose prior has unit variance.
    """
    divided = found.weights * np.exp(-found.log_noise)
    precision = divided @ found.weights.T
    if temperature:
        precision = precision / temperature + np.eye(len(precision))
        divided = divided / temperature
    precision += 1e-9 * np.eye(len(precision))
    covariance = np.linalg.inv(precision)
    return (covariance @ divided).T, 0.5 * np.log(np.diag(covariance))
