"""How heavy the tail of importance weights is: the shape of a generalised Pareto distribution.

Weights whose tail has the shape k have moments of order below 1 / k only. Their mean is a poor
estimate above k = 0.7 whatever its apparent error, since draws that would change it have not been
seen (Vehtari, Simpson, Gelman, Yao and Gabry 2024, Pareto smoothed importance sampling).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skbae._types import Array

# The tail: this share of the draws, and at most so many times their root.
_TAIL_SHARE, _TAIL_ROOTS = 0.2, 3.0
# Draws of a tail below which no shape is told.
_LEAST = 5
# A prior of the shape, worth so many draws.
_PRIOR_SHAPE, _PRIOR_DRAWS = 0.5, 10.0
# Weights that vary less, relative to the largest, have no tail.
_RESOLUTION = 1e-9


def pareto_shape(excesses: Array) -> float:
    """Return the shape k of a generalised Pareto distribution (Zhang and Stephens 2009).

    The mean over a posterior of the scale, whose prior comes from the excesses themselves. The
    density is ``(1 + k x / s)^(-1 / k - 1) / s``.

    Parameters
    ----------
    excesses : ndarray of shape (M,)
        Positive draws, in any order.

    Examples
    --------
    >>> import numpy as np
    >>> uniform = (np.arange(1000) + 0.5) / 1000
    >>> round(pareto_shape(-np.log(uniform)), 2)  # an exponential distribution has the shape 0
    0.0
    >>> round(pareto_shape(2 * (uniform**-0.5 - 1)), 2)
    0.5
    """
    ordered = np.sort(excesses)
    size = len(ordered)
    n_grid = 30 + int(np.sqrt(size))
    quartile = ordered[int(size / 4 + 0.5) - 1]
    steps = np.sqrt(n_grid / (np.arange(n_grid) + 0.5))
    # rates -k / s, between the reciprocal of the largest draw and far below zero
    rates = 1.0 / ordered[-1] + (1.0 - steps) / (3.0 * quartile)
    rates = rates[rates != 0]
    shapes = np.log1p(-rates[:, None] * ordered).mean(axis=1)
    log_likelihood = size * (np.log(-rates / shapes) - shapes - 1.0)
    weights = np.exp(log_likelihood - log_likelihood.max())
    rate = float(weights @ rates / weights.sum())
    return float(np.log1p(-rate * ordered).mean())


def weights_shape(log_weights: Array) -> float:
    """Return the shape of the tail of importance weights; minus infinity if they hardly vary.

    Shapes of few draws are shrunk towards 0.5, as in Pareto smoothed importance sampling.

    Parameters
    ----------
    log_weights : ndarray of shape (S,)
        Of independent draws; minus infinity where a weight is zero.

    Examples
    --------
    >>> import numpy as np
    >>> weights_shape(np.zeros(1000))
    -inf
    >>> rng = np.random.default_rng(0)
    >>> light, heavy = rng.standard_normal((2, 4000))
    >>> weights_shape(0.1 * light) < 0.3, weights_shape(4.0 * heavy) > 0.7
    (True, True)
    """
    size = len(log_weights)
    n_tail = int(np.ceil(min(_TAIL_SHARE * size, _TAIL_ROOTS * np.sqrt(size))))
    if n_tail < _LEAST:
        raise ValueError(
            f"the shape of a tail needs more draws: got {size}, at least "
            f"{int(np.floor((_LEAST - 1) / _TAIL_SHARE)) + 1} are needed"
        )
    ordered = np.sort(log_weights)
    if not np.isfinite(ordered[-1]):
        return float("inf")  # no weight counts, or one counts without bound
    tail = np.exp(ordered[-n_tail - 1 :] - ordered[-1])
    excesses = tail[1:] - tail[0]
    excesses = excesses[excesses > 0]
    if tail[0] > 1.0 - _RESOLUTION or len(excesses) < _LEAST:
        return float("-inf") if tail[0] > 0.5 else float("inf")
    size = len(excesses)
    shape = pareto_shape(excesses)
    return (size * shape + _PRIOR_DRAWS * _PRIOR_SHAPE) / (size + _PRIOR_DRAWS)
