"""Tempered sums over a measure, which are finite at any temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.operators._tempered import tempered_logsumexp

if TYPE_CHECKING:
    from skbae._types import Array


def log_measure(name: str, value: Any, shapes: tuple[tuple[int, ...], ...], what: str) -> Any:
    """Return a log measure as an array, None where everything counts equally.

    Parameters
    ----------
    name : str
        Of the parameter, for the message.
    value : array-like or None
    shapes : tuple of tuples of int
        The shapes that are allowed.
    what : str
        These in words.

    Examples
    --------
    >>> log_measure("log_prior", [0.0, 1.0, 2.0], ((2,),), "(n_models,)")
    Traceback (most recent call last):
    ValueError: log_prior must have shape (n_models,) = (2,), got (3,)
    """
    if value is None:
        return None
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be None or numbers of shape {what}, got {value!r}") from error
    if array.shape not in shapes:
        allowed = " or ".join(str(shape) for shape in shapes)
        raise ValueError(f"{name} must have shape {what} = {allowed}, got {array.shape}")
    if not np.all(array < np.inf):
        raise ValueError(f"{name} must hold numbers or -inf, got NaN or +inf")
    if not np.all(np.any(array > -np.inf, axis=-1)):
        raise ValueError(f"{name} must not be -inf throughout, which leaves nothing to sum over")
    return array


def soft_maximum(values: Array, temperature: float, measure: Array | None, axis: int) -> Array:
    """Return ``T log sum measure exp(values / T)`` along an axis: the maximum at T = 0.

    Parameters
    ----------
    values : ndarray
        Numbers; where one is +inf along the axis, so is the result.
    temperature : float
        T, not negative.
    measure : ndarray or None
        Log measure, which broadcasts against `values`; None stands for zeros.
    axis : int

    Returns
    -------
    ndarray
        `values` without `axis`.

    Examples
    --------
    >>> import numpy as np
    >>> soft_maximum(np.array([1.0, 3.0]), 0.0, np.array([0.0, -np.inf]), axis=0).item()
    1.0
    """
    if measure is not None:
        values = np.where(np.isneginf(measure), -np.inf, values)
    peak = np.max(values, axis=axis, keepdims=True)
    squeezed = np.squeeze(peak, axis=axis)
    if temperature == 0:
        return squeezed
    # energies relative to the best, so that differences of temperature's size keep their digits
    safe = np.where(np.isfinite(peak), peak, 0.0)
    with np.errstate(over="ignore"):
        exponents = (values - safe) / temperature
    if measure is not None:
        exponents = exponents + np.where(np.isneginf(measure), 0.0, measure)
    finite = np.isfinite(squeezed)
    exponents = np.where(np.expand_dims(finite, axis), exponents, 0.0)
    soft = squeezed + temperature * tempered_logsumexp(exponents, 1.0, axis=axis)
    return np.where(finite, soft, squeezed)
