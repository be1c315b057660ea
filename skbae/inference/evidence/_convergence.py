"""Convergence of chains: split R-hat, effective sample size, standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skbae._types import Array


def split_rhat(draws: Array) -> float:
    """Return the potential scale reduction of chains split in halves (Gelman et al. 2013, 11.4).

    Parameters
    ----------
    draws : ndarray of shape (S, T)
        T draws of each of S chains.

    Returns
    -------
    float
        1 when the halves of all chains agree; NaN for fewer than four draws a chain.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> split_rhat(rng.standard_normal((4, 1000))) < 1.01
    True
    >>> split_rhat(rng.standard_normal((4, 1000)) + np.arange(4)[:, None]) > 1.5
    True
    """
    half = draws.shape[1] // 2
    if half < 2:
        return float("nan")
    halves = np.concatenate([draws[:, :half], draws[:, -half:]])
    within = halves.var(axis=1, ddof=1).mean()
    between = halves.mean(axis=1).var(ddof=1)
    if within == 0:
        return 1.0 if between == 0 else float("inf")
    return float(np.sqrt((half - 1) / half + between / within))


def effective_sample_size(draws: Array) -> float:
    """Return the number of independent draws whose mean has the variance of the chains' mean.

    Autocorrelations are pooled over chains, so that chains that disagree count for less, and summed
    up to the first negative pair (Geyer 1992; Vehtari et al. 2021, section 3.2).

    Parameters
    ----------
    draws : ndarray of shape (S, T)

    Returns
    -------
    float
        At most ``S T log10(S T)``.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> 3000 < effective_sample_size(rng.standard_normal((4, 1000))) < 5000
    True
    """
    n_chains, length = draws.shape
    total = n_chains * length
    if length < 4:
        return float(n_chains)
    centred = draws - draws.mean(axis=1, keepdims=True)
    size = 1 << int(2 * length - 1).bit_length()
    spectrum = np.fft.rfft(centred, size, axis=1)
    autocovariance = np.fft.irfft(np.abs(spectrum) ** 2, size, axis=1)[:, :length] / length
    within = autocovariance[:, 0].mean() * length / (length - 1)
    pooled = within * (length - 1) / length
    if n_chains > 1:
        pooled += draws.mean(axis=1).var(ddof=1)
    if pooled == 0:
        return float(total)
    rho = 1 - (within - autocovariance.mean(axis=0) * length / (length - 1)) / pooled
    rho[0] = 1.0
    pairs = rho[: length // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0)
    pairs = pairs[: negative[0]] if len(negative) else pairs
    pairs = np.minimum.accumulate(pairs)
    time = max(2 * pairs.sum() - 1, 1 / np.log10(max(total, 10)))
    return float(total / time)


def standard_error(draws: Array) -> float:
    """Return the Monte Carlo standard error of the mean of chains (S, T)."""
    return float(draws.std() / np.sqrt(effective_sample_size(draws)))
