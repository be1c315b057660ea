r"""Machines of real features from which fits start: codes that split the rows.

Without weights all gradients of a machine of real features vanish, or nearly so where the rows have
no third moments; a fit from small random weights stays there. A machine with one unit is a mixture
of two normal distributions with equal variances, of which a good one is found by expectation
maximisation. Further units split what the units before leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from skbae.energies.rbm._visible import RBMParameters

if TYPE_CHECKING:
    from skbae._types import Array, Rows

# Iterations of expectation maximisation, and of two means along an axis.
_EM_STEPS, _SPLIT_STEPS = 200, 20
# Least share of the rows on either side of a split, and least noise variance, relative to the
# features' variance.
_LEAST_SHARE, _LEAST_NOISE = 1e-3, 1e-4


def _weights_of(rows: Rows) -> Array:
    weights = np.ones(len(rows.X)) if rows.weights is None else rows.weights
    return weights / weights.sum()


def _split(deviations: Array, shares: Array) -> Array:
    """Return which rows are on the upper side of the best split along their main axis, (n,)."""
    covariance = (deviations * shares[:, None]).T @ deviations
    axis = np.linalg.eigh(covariance)[1][:, -1]
    axis = axis * (1.0 if axis[np.abs(axis).argmax()] > 0 else -1.0)
    along = deviations @ axis
    cut = shares @ along
    for _ in range(_SPLIT_STEPS):
        above = along > cut
        share = shares @ above
        if not 0 < share < 1:
            break
        cut = 0.5 * ((shares @ (along * above)) / share + (shares @ (along * ~above)) / (1 - share))
    return (along > cut).astype(np.float64)


def two_normals(rows: Rows, per_feature: bool) -> tuple[Array, Array, Array, float]:
    """Return a mixture of two normal distributions with equal variances.

    Parameters
    ----------
    rows : Rows
    per_feature : bool
        Whether each feature has its own variance.

    Returns
    -------
    low, step : ndarrays of shape (D,)
        Mean of the first component, and the difference to that of the second.
    noise : ndarray of shape (D,) or (1,)
    share : float
        Weight of the second.
    """
    X, shares = rows.X, _weights_of(rows)
    codes = _split(X - rows.centre, shares)
    floor = _LEAST_NOISE * float((rows.scale**2).mean() or 1.0)
    for _ in range(_EM_STEPS):
        share = float(np.clip(shares @ codes, _LEAST_SHARE, 1 - _LEAST_SHARE))
        upper = (shares * codes) @ X / max(shares @ codes, _LEAST_SHARE)
        low = (shares * (1 - codes)) @ X / max(shares @ (1 - codes), _LEAST_SHARE)
        square = (shares * codes) @ (X - upper) ** 2 + (shares * (1 - codes)) @ (X - low) ** 2
        noise = np.maximum(square if per_feature else square.mean(keepdims=True), floor)
        step = upper - low
        odds = np.log(share / (1 - share)) + ((X - 0.5 * (upper + low)) / noise) @ step
        moved = expit(odds)
        if np.abs(moved - codes).max() < 1e-6:
            break
        codes = moved
    return low, step, noise, share


def _hidden(steps: Array, low: Array, noise: Array, shares: Array) -> Array:
    """Return intercepts of hidden units that are on in these shares of rows, if independent."""
    mean = low + shares @ steps
    others = mean - shares[:, None] * steps  # what the other units make of the mean
    pull = (steps * (others + 0.5 * steps) / noise).sum(axis=1)
    return np.log(shares) - np.log1p(-shares) - pull


def _machine(low: Array, steps: Array, noise: Array, shares: Array) -> RBMParameters:
    shares = np.clip(shares, _LEAST_SHARE, 1 - _LEAST_SHARE)
    hidden = _hidden(steps, low, noise, shares)
    return RBMParameters(steps[None], low[None], hidden[None], noise[None], np.full(1, np.nan))


def mixture_start(rows: Rows, n_components: int, per_feature: bool, noise: Array) -> RBMParameters:
    """Return a machine whose first unit makes a mixture of two; the others have weights `noise`.

    Parameters
    ----------
    rows : Rows
        Centred and scaled.
    n_components : int
    per_feature : bool
    noise : ndarray of shape (n_components, D)
        Small random weights.
    """
    low, step, variances, share = two_normals(rows, per_feature)
    steps = noise.copy()
    steps[0] = step
    shares = np.full(n_components, 0.5)
    shares[0] = share
    return _machine(low - shares[1:] @ steps[1:], steps, variances, shares)


def splitting_start(
    rows: Rows, n_components: int, per_feature: bool, noise: Array
) -> RBMParameters:
    """Return a machine whose units split, one after the other, what is left of the rows."""
    shares = _weights_of(rows)
    left = rows.X - rows.centre
    low, steps, on = rows.centre.copy(), noise.copy(), np.full(n_components, 0.5)
    # a feature that is split more often than once has codes that depend on each other
    for unit in range(min(n_components, left.shape[1])):
        codes = _split(left, shares)
        share = float(shares @ codes)
        if not _LEAST_SHARE < share < 1 - _LEAST_SHARE:
            break
        upper = (shares * codes) @ left / share
        lower = (shares * (1 - codes)) @ left / (1 - share)
        steps[unit], on[unit] = upper - lower, share
        low = low + lower
        left = left - lower - codes[:, None] * steps[unit]
    square = shares @ left**2
    floor = _LEAST_NOISE * float((rows.scale**2).mean() or 1.0)
    variances = np.maximum(square if per_feature else square.mean(keepdims=True), floor)
    return _machine(low, steps, variances, on)
