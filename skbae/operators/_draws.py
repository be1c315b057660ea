"""Random draws: systematic resampling, logarithms of gamma variables, categorical labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.operators._constants import LEAST_EXPONENTS

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from skbae._types import Array


def systematic_resample(log_weights: Array, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return n indices in proportion to weights (systematic resampling, Kitagawa 1996).

    An index of normalised weight w comes ``floor(n w)`` or ``ceil(n w)`` times, ``n w`` on average.

    Parameters
    ----------
    log_weights : ndarray of shape (J,)
        ``-inf`` for indices that must not be drawn; at least one must be finite.
    n : int
    rng : Generator

    Returns
    -------
    ndarray of int of shape (n,)
        In increasing order.

    Examples
    --------
    >>> import numpy as np
    >>> systematic_resample(np.log([1.0, 2.0, 1.0]), 4, np.random.default_rng(0)).tolist()
    [0, 1, 1, 2]
    """
    weights = np.exp(log_weights - log_weights.max())
    cumulative = np.cumsum(weights)
    positions = (rng.random() + np.arange(n)) / n * cumulative[-1]
    # side="right", so that an index of weight zero is never chosen
    chosen = np.searchsorted(cumulative, positions, side="right")
    return np.minimum(chosen, np.flatnonzero(weights)[-1])


# The least uniform number that may be compared with cumulative exponentials. Random numbers are
# multiples of 2**-53, or of 2**-24 in single precision, and zero is among them.
LEAST_SHARE = 1e-30


def cumulative_exponentials(
    energies: NDArray[Any], out: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the largest energies, and cumulative sums of ``exp`` of energies relative to these.

    Labels are drawn by comparing uniform numbers with the latter. A label without probability has a
    sum of some 1e-35 at most, so that these numbers must not be smaller than `LEAST_SHARE`.

    Parameters
    ----------
    energies : ndarray of shape (S, K, N)
    out : ndarray of shape (S, K, N) or None, default=None
        Where the sums are written; may be `energies`.

    Returns
    -------
    peak : ndarray of shape (S, N)
    cumulative : ndarray of shape (S, K, N)

    Examples
    --------
    >>> peak, cumulative = cumulative_exponentials(np.log([[[1.0], [2.0], [4.0]]]))
    >>> np.exp(peak).round(12).tolist(), cumulative[0, :, 0].round(12).tolist()
    ([[4.0]], [0.25, 0.75, 1.75])
    """
    n_labels = energies.shape[1]
    peak = energies[:, 0].copy()
    for k in range(1, n_labels):
        np.maximum(peak, energies[:, k], out=peak)
    cumulative = np.subtract(energies, peak[:, None], out=out)
    np.maximum(cumulative, LEAST_EXPONENTS[cumulative.dtype], out=cumulative)
    np.exp(cumulative, out=cumulative)
    for k in range(1, n_labels):
        cumulative[:, k] += cumulative[:, k - 1]
    return peak, cumulative


def log_gamma_draws(concentration: Array, rng: np.random.Generator) -> Array:
    """Draw logarithms of gamma variables, which do not underflow for small concentrations.

    ``Gamma(a) = Gamma(a + 1) U^(1 / a)`` (Marsaglia and Tsang 2000, section 6).

    Parameters
    ----------
    concentration : ndarray
    rng : Generator

    Returns
    -------
    ndarray
        Of the shape of `concentration`.

    Examples
    --------
    >>> import numpy as np
    >>> bool(log_gamma_draws(np.full(100, 1e-4), np.random.default_rng(0)).min() < -800)
    True
    """
    larger = np.log(rng.standard_gamma(concentration + 1))
    return larger - rng.standard_exponential(np.shape(concentration)) / concentration


def categorical_draws(probabilities: Array, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw labels for every row of probabilities.

    Parameters
    ----------
    probabilities : ndarray of shape (N, K)
        Not negative; rows need not sum to one.
    n : int
        Number of draws for each row.
    rng : Generator

    Returns
    -------
    ndarray of int of shape (n, N)

    Examples
    --------
    >>> import numpy as np
    >>> categorical_draws(np.eye(2), 3, np.random.default_rng(0)).tolist()
    [[0, 1], [0, 1], [0, 1]]
    """
    cumulative = np.cumsum(probabilities, axis=1)
    position = rng.random((n, len(probabilities))) * cumulative[:, -1]
    labels = (position[..., None] >= cumulative).sum(axis=-1)
    return np.minimum(labels, probabilities.shape[1] - 1)
