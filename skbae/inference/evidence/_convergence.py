"""Convergence of chains: R-hat, effective sample size, standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skbae._types import Array


# So many chains tell how far they differ apart from their Monte Carlo errors.
_MANY = 64


def rhat(draws: Array) -> float:
    """Return the potential scale reduction of chains: 1 when they agree.

    This is :func:`split_rhat` of few chains, and :func:`persistent_rhat` of many, which need not be
    long.

    Parameters
    ----------
    draws : ndarray of shape (S, T)
        T draws of each of S chains.
    """
    return persistent_rhat(draws) if len(draws) >= _MANY else split_rhat(draws)


def persistent_rhat(draws: Array) -> float:
    """Return the potential scale reduction of many chains by differences that persist.

    The means of chains differ by their Monte Carlo errors, which split R-hat counts as well, so
    that each chain must be ten times as long as it takes to forget, and by what chains have not
    forgotten. The latter is the same in the first and the last third of the draws: the covariance
    of the chains' means over both, and two of its standard errors, are taken as the variance
    between chains. What all chains have in common, a drift, adds its own. Nested R-hat (Margossian
    et al. 2024) compares groups of chains with common starts for the same reason.

    Parameters
    ----------
    draws : ndarray of shape (S, T)
        T draws of each of S chains.

    Returns
    -------
    float
        1 when chains have forgotten their first third; NaN for fewer than six draws a chain.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> draws = np.repeat(rng.standard_normal((256, 15)), 4, axis=1)  # each step is made four times
    >>> persistent_rhat(draws) < 1.02, split_rhat(draws) > 1.05
    (True, True)
    >>> draws[:20] += 2  # chains that stay apart
    >>> persistent_rhat(draws) > 1.1
    True
    """
    third = draws.shape[1] // 3
    if third < 2:
        return float("nan")
    first, last = draws[:, :third].mean(axis=1), draws[:, -third:].mean(axis=1)
    drift = first.mean() - last.mean()
    products = (first - first.mean()) * (last - last.mean())
    persistent = (products.sum() + 2 * products.std() * np.sqrt(len(draws))) / (len(draws) - 1)
    within = draws.var(axis=1, ddof=1).mean()
    between = max(float(persistent), 0.0) + drift**2 / 2
    if within == 0:
        return 1.0 if between == 0 else float("inf")
    return float(np.sqrt(1 + between / within))


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
    # means over chains, which the inverse transform of the mean power has
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=0)
    autocovariance = np.fft.irfft(power, size)[:length] / (length - 1)
    within = autocovariance[0]
    pooled = within * (length - 1) / length
    if n_chains > 1:
        pooled += draws.mean(axis=1).var(ddof=1)
    if pooled == 0:
        return float(total)
    rho = 1 - (within - autocovariance) / pooled
    rho[0] = 1.0
    pairs = rho[: length // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0)
    pairs = pairs[: negative[0]] if len(negative) else pairs
    pairs = np.minimum.accumulate(pairs)
    time = max(2 * pairs.sum() - 1, 1 / np.log10(max(total, 10)))
    return float(total / time)


def standard_error(draws: Array) -> float:
    """Return the Monte Carlo standard error of the mean of chains (S, T)."""
    with np.errstate(over="ignore"):  # infinite, where squares have no room
        return float(draws.std() / np.sqrt(effective_sample_size(draws)))
