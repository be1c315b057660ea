"""Steps of persistent contrastive divergence for bits: few passes over arrays of all weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

if TYPE_CHECKING:
    from skbae._types import Array


def logistic(values: Array) -> Array:
    """Return ``1 / (1 + exp(-a))``; in single precision with an absolute error of rounding.

    Examples
    --------
    >>> import numpy as np
    >>> logistic(np.array([0.0, 2.0])).round(4).tolist()
    [0.5, 0.8808]
    """
    if values.dtype != np.float32:
        found: Array = expit(values)
        return found
    found = np.tanh(np.float32(0.5) * values)  # much quicker than exponentials of SciPy
    found *= np.float32(0.5)
    found += np.float32(0.5)
    return found


def draw_bits(probabilities: Array, rng: np.random.Generator) -> Array:
    """Draw bits of the same precision as their probabilities."""
    return (rng.random(probabilities.shape) < probabilities).astype(probabilities.dtype)


def centred_contrast(
    parameters: tuple[Array, Array],
    X: Array,
    shares: Array,
    chains: Array,
    temperature: float,
) -> Array:
    """Return the contrast of rows and chains for units minus their means over the rows, (P,).

    Parameters
    ----------
    parameters : tuple of ndarrays of shape (d, D), (d,)
        Weights, and intercepts of the hidden units.
    X : ndarray of shape (n, D)
    shares : ndarray of shape (n,)
        Of the rows; their sum is one.
    chains : ndarray of shape (m, D)
    temperature : float
        T of the codes of the rows; those of chains are drawn at T = 1.
    """
    weights, hidden = parameters
    n, (d, n_features) = len(X), weights.shape
    both = np.concatenate([X, chains])
    codes = both @ weights.T
    codes += hidden
    if temperature == 0:
        codes[:n] = codes[:n] > 0
    else:
        codes[:n] = logistic(codes[:n] if temperature == 1 else codes[:n] / temperature)
    codes[n:] = logistic(codes[n:])
    codes[:n] *= shares[:, None]
    codes[n:] *= -1 / len(chains)
    mean_row, mean_code = shares @ X, codes[:n].sum(axis=0)
    visible, of_hidden = mean_row - chains.mean(axis=0), codes.sum(axis=0)
    # the means that are subtracted are two more rows of the product
    left = np.concatenate([codes, -of_hidden[None], -mean_code[None]])
    right = np.concatenate([both, mean_row[None], visible[None]])
    found = np.empty(weights.size + n_features + d, weights.dtype)
    pair = found[: weights.size].reshape(weights.shape)
    np.matmul(left.T, right, out=pair)
    found[weights.size : weights.size + n_features] = visible - mean_code @ pair
    found[weights.size + n_features :] = of_hidden - pair @ mean_row
    return found
