"""Maximum, sum and mean with a temperature or a tilt.

``T log sum exp(H / T)`` joins the maximum (T = 0) to the log-sum (T = 1); the tilted mean
``-(1/t) log mean exp(-t x)`` joins the mean (t = 0) to the minimum (t = inf).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.operators._constants import LEAST_EXPONENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


def tempered_logsumexp(energies: Array, temperature: float, axis: int = -1) -> Array:
    """Return ``T log sum exp(H / T)`` along `axis`, its limit ``max H`` at T = 0.

    Parameters
    ----------
    energies : ndarray
        Energies H; ``-inf`` marks an impossible code.
    temperature : float
        T, not negative.
    axis : int, default=-1
        The axis of the codes.

    Returns
    -------
    ndarray
        `energies` without `axis`.

    Examples
    --------
    >>> import numpy as np
    >>> float(np.exp(tempered_logsumexp(np.log([1.0, 3.0]), 1.0)).round(12))
    4.0
    >>> tempered_logsumexp(np.array([1.0, 3.0]), 0.0).item()
    3.0
    """
    peak = np.max(energies, axis=axis, keepdims=True)
    if temperature == 0:
        return np.squeeze(peak, axis=axis)
    safe = np.where(np.isfinite(peak), peak, 0.0)
    terms = (energies - safe) / temperature
    np.maximum(terms, LEAST_EXPONENTS[terms.dtype], out=terms)
    total = np.sum(np.exp(terms, out=terms), axis=axis)
    return temperature * np.log(total) + np.squeeze(peak, axis=axis)


# Rounding error of an energy relative to its size, in units of the last place.
_RELATIVE_ROUNDING = 8


def first_maximum(
    energies: NDArray[Any], rounding: Array | float, axis: int = -1
) -> NDArray[np.intp]:
    """Return the first index along `axis` whose energy is the largest to within rounding.

    A matrix product may give equal energies different last digits, depending on the processor and
    on their position in the product. Ties are therefore decided up to rounding.

    Parameters
    ----------
    energies : ndarray
        Energies H; ``-inf`` marks an impossible code.
    rounding : float or ndarray
        Bound on the error of an energy, which broadcasts against `energies` (of length 1 along
        `axis`); some units in the last place of the maximum are added. Zero means the largest
        energy to the digit, as in :func:`numpy.argmax`.
    axis : int, default=-1

    Returns
    -------
    ndarray of int
        `energies` without `axis`.

    Examples
    --------
    >>> import numpy as np
    >>> first_maximum(np.array([0.0, 1.0, 1.0 + 1e-15]), 1e-14).item()
    1
    """
    if not np.any(rounding):
        return np.argmax(energies, axis=axis)
    peak = np.max(energies, axis=axis, keepdims=True)
    relative = _RELATIVE_ROUNDING * np.finfo(energies.dtype).eps
    return np.argmax(energies >= peak - (rounding + relative * np.abs(peak)), axis=axis)


def tempered_softmax(
    energies: Array, temperature: float, axis: int = -1, rounding: Array | float = 0.0
) -> Array:
    """Return ``exp(H / T)`` normalised along `axis`; one-hot at the maximum for T = 0.

    Ties at T = 0 go to the first maximum.

    Parameters
    ----------
    energies : ndarray
        Energies H, with at least one finite entry along `axis`.
    temperature : float
        T, not negative.
    axis : int, default=-1
        The axis of the codes.
    rounding : float or ndarray, default=0.0
        Energies closer than this are a tie: see :func:`first_maximum`.

    Returns
    -------
    ndarray
        Probabilities, of the shape of `energies`.

    Examples
    --------
    >>> import numpy as np
    >>> tempered_softmax(np.log([1.0, 3.0]), 1.0).round(12).tolist()
    [0.25, 0.75]
    >>> tempered_softmax(np.array([1.0, 3.0]), 0.0).tolist()
    [0.0, 1.0]
    """
    if temperature == 0:
        codes = np.zeros_like(energies)
        best = np.expand_dims(first_maximum(energies, rounding, axis), axis)
        np.put_along_axis(codes, best, 1.0, axis=axis)
        return codes
    shifted = np.exp((energies - np.max(energies, axis=axis, keepdims=True)) / temperature)
    return shifted / np.sum(shifted, axis=axis, keepdims=True)


def tilted_mean(values: Array, weights: Array | None, tilt: float) -> Array:
    """Return ``-(1/t) log(sum w exp(-t x) / sum w)`` over the last axis; the mean at t = 0.

    Parameters
    ----------
    values : ndarray of shape (..., N)
    weights : ndarray of shape (N,) or None
        Weights of the rows; None stands for ones.
    tilt : float
        t: positive values give more weight to small values, negative ones to large values.

    Returns
    -------
    ndarray of shape (...)

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([1.0, 2.0, 6.0])
    >>> tilted_mean(values, None, 0.0).item()
    3.0
    >>> tilted_mean(values, None, 1e3).round(2).item()
    1.0
    """
    if weights is None:
        weights = np.ones(values.shape[-1])
    total = weights.sum()
    if tilt == 0:
        return values @ weights / total
    # a row of weight zero must not determine the scale
    exponents = np.where(weights > 0, -tilt * values, -np.inf)
    peak = exponents.max(axis=-1, keepdims=True)
    mass = np.exp(exponents - peak) @ weights / total
    return -(np.log(mass) + peak[..., 0]) / tilt


def log_mean_exp(values: Array, axis: int = 0) -> Array:
    """Return ``log mean exp(x)`` along `axis`: an average over models, in probability.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(np.exp(log_mean_exp(np.log([1.0, 3.0])))), 12)
    2.0
    """
    return tempered_logsumexp(values, 1.0, axis=axis) - np.log(values.shape[axis])
