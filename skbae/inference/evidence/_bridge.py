"""Bridge sampling: the ratio of two normalising constants from draws of both densities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.inference.evidence._convergence import effective_sample_size, split_rhat
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from skbae._types import Array


def importance_estimate(log_ratios: Array) -> tuple[float, float, float]:
    """Return the log normaliser of the target by draws of the proposal alone.

    Parameters
    ----------
    log_ratios : ndarray of shape (J,)
        Log target (unnormalised) minus log proposal (normalised) at independent proposal draws.

    Returns
    -------
    log_normaliser, standard_error, n_effective : float
        The last is the effective number of draws (Kong 1992).

    Examples
    --------
    >>> import numpy as np
    >>> importance_estimate(np.full(4, 2.0))
    (2.0, 0.0, 4.0)
    """
    weights = np.exp(log_ratios - log_ratios.max())
    n_effective = weights.sum() ** 2 / (weights**2).sum()
    error = weights.std() / weights.mean() / np.sqrt(len(weights))
    return float(log_mean_exp(log_ratios)), float(error), float(n_effective)


def bridge_estimate(
    proposal_ratios: Array, target_ratios: Array, n_iterations: int = 100
) -> tuple[float, float]:
    """Return the log normaliser of the target and its standard error.

    The optimal bridge (Meng and Wong 1996), with the error of Frühwirth-Schnatter (2004), in which
    draws of the target count by their effective number.

    Parameters
    ----------
    proposal_ratios : ndarray of shape (J,)
        Log target (unnormalised) minus log proposal (normalised) at independent proposal draws.
    target_ratios : ndarray of shape (S, T)
        The same at draws of the target: T draws of each of S chains.
    n_iterations : int, default=100
        Largest number of iterations; about ten usually suffice.

    Returns
    -------
    log_normaliser, standard_error : float

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> def log_ratio(x):  # of exp(-x^2 / 2), unnormalised, to a normal with standard deviation 2
    ...     return -x**2 / 2 + x**2 / 8 + np.log(2) + 0.5 * np.log(2 * np.pi)
    >>> answer, error = bridge_estimate(
    ...     log_ratio(2 * rng.standard_normal(4000)), log_ratio(rng.standard_normal((4, 1000))))
    >>> abs(answer - 0.5 * np.log(2 * np.pi)) < 4 * error < 0.1
    True
    """
    n_target = max(effective_sample_size(target_ratios), 1.0)
    share = n_target / (n_target + len(proposal_ratios))
    flat = target_ratios.ravel()
    log_share, log_rest = np.log(share), np.log1p(-share)
    estimate = float(np.median(np.concatenate([proposal_ratios, flat])))
    for _ in range(n_iterations):
        upper = proposal_ratios - np.logaddexp(log_share + proposal_ratios, log_rest + estimate)
        lower = -np.logaddexp(log_share + flat, log_rest + estimate)
        new = float(log_mean_exp(upper) - log_mean_exp(lower))
        converged = abs(new - estimate) < 1e-9
        estimate = new
        if converged:
            break
    upper = _relative(
        proposal_ratios - estimate - np.logaddexp(log_share + proposal_ratios - estimate, log_rest)
    )
    lower = _relative(-np.logaddexp(log_share + target_ratios - estimate, log_rest))
    relative = upper.var() / upper.mean() ** 2 / len(upper)
    if lower.std() > 0:
        # chains that stick have not shown all of their correlation
        excess = max(1.0, float(np.nan_to_num(split_rhat(lower), nan=1.0)))
        relative += excess**2 * lower.var() / lower.mean() ** 2 / effective_sample_size(lower)
    return estimate, float(np.sqrt(relative))


def _relative(logs: Array) -> Array:
    """Return exponentials divided by the largest one, so that their squares do not overflow."""
    return np.exp(logs - logs.max())
