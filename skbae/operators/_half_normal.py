"""Normal scores of lengths: a half-normal variable as a function of a standard normal one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

if TYPE_CHECKING:
    from skbae._types import Array


_LOG_2 = np.log(2.0)
# Below this score ``Phi(-l) = 1/2 - l / sqrt(2 pi)`` is used, since differences would lose digits.
_SHORT = -4.0
_LOG_SLOPE = 0.5 * np.log(np.pi / 2)
_LOG_SHORT = float(log_ndtr(_SHORT)) + _LOG_SLOPE


def log_length(score: Array) -> Array:
    """Return the logarithm of the length l with ``Phi(-l) = Phi(-u) / 2``.

    A standard normal score u makes l half-normal. The length grows like u on the right and vanishes
    like ``exp(-u^2 / 2)`` on the left, so that densities of lengths that do not vanish at zero have
    normal tails in u on both sides, which they have neither in l nor in its logarithm.

    Parameters
    ----------
    score : ndarray

    Examples
    --------
    >>> np.round(np.exp(log_length(np.array([-8.0, 0.0, 8.0]))), 3).tolist()
    [0.0, 0.674, 8.085]
    """
    short = score < _SHORT
    long = np.where(short, 0.0, score)
    of_long = np.log(-ndtri_exp(log_ndtr(-long) - _LOG_2))
    return np.where(short, _LOG_SLOPE + log_ndtr(score), of_long)


def normal_score(log_length: Array) -> Array:
    """Return the score of a length: the inverse of :func:`log_length`.

    Examples
    --------
    >>> scores = np.array([-12.0, -4.0, 0.5, 30.0])
    >>> bool(np.allclose(normal_score(log_length(scores)), scores))
    True
    """
    short = log_length < _LOG_SHORT
    long = np.exp(np.where(short, 0.0, log_length))
    of_long = -ndtri_exp(log_ndtr(-long) + _LOG_2)
    return np.where(short, ndtri_exp(np.minimum(log_length - _LOG_SLOPE, -_LOG_2)), of_long)


def log_length_slope(score: Array, log_length: Array) -> tuple[Array, Array]:
    """Return the derivative r of the log length by the score, and that of ``log r``.

    Parameters
    ----------
    score, log_length : ndarrays
        A score and its log length.
    """
    square = np.exp(2 * log_length)
    slope = np.exp(0.5 * (square - score**2) - _LOG_2 - log_length)
    return slope, slope * (square - 1.0) - score
