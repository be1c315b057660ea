"""Status of a sampling run, from the agreement of its own estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae._types import Array, SamplingResult, SamplingRun
from skbae.inference.evidence._convergence import effective_sample_size, rhat, standard_error
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from numpy.typing import NDArray

# (limit beyond which a result is "suspect", limit beyond which it has "failed").
RHAT_LIMIT = 1.05
_RHAT = (RHAT_LIMIT, 1.5)
_ESS = (100.0, 10.0)
_EVIDENCE_ERROR = (0.5, 5.0)
_BALANCE = (4.0, 20.0)
# Standard errors by which the log evidences of islands may differ.
_DISAGREEMENT = 5.0
# Standard errors by which different ways to estimate the evidence may differ, and nats on top of
# these: no error bar of a check is that exact.
_CONTRADICTION, _SLACK = 4.0, 0.2
# Standard errors, and nats, by which estimates may differ before their difference is an error.
_DIFFERENCE, _UNTOLD = 3.0, 0.1
# Nats by which an estimate may fall short of the lower bound, beyond two errors.
_SHORT = 0.05
# What is kept of the traces, to be looked at.
_SHOWN_CHAINS, _SHOWN_DRAWS = 6, 200


def joint_error(values: np.ndarray, errors: np.ndarray) -> float:
    """Return the standard error of the mean of islands' estimates.

    It is the larger of the error from the islands' own standard errors and of that from the spread
    of their estimates.

    Parameters
    ----------
    values, errors : ndarrays of shape (I,)

    Examples
    --------
    >>> joint_error(np.array([1.0, 3.0]), np.array([0.1, 0.1]))
    1.0
    """
    n = len(values)
    claimed = np.sqrt((errors**2).sum()) / n
    shown = values.std(ddof=1) / np.sqrt(n) if n > 1 else 0.0
    return float(np.maximum(claimed, shown))  # np.maximum keeps NaN


def combine_evidence(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Return the log of the mean of the islands' evidences and its error.

    The mean is of evidences, not of logs: an island's evidence is unbiased, and its logarithm is
    too low by half its variance on average.

    Parameters
    ----------
    values, errors : ndarrays of shape (I,)
        Log evidences and their standard errors.

    Returns
    -------
    log_evidence, error : float

    Examples
    --------
    >>> log_evidence, error = combine_evidence(np.array([1.0, 3.0]), np.array([0.1, 0.1]))
    >>> round(log_evidence, 3), error
    (2.434, 1.0)
    """
    return float(log_mean_exp(values)), joint_error(values, errors)


def balance_of(scores: np.ndarray) -> float:
    """Return the root mean square of mean gradients in units of their Monte Carlo errors.

    Parameters
    ----------
    scores : ndarray of shape (S, T, P)
        Total gradients along chains; their expectation over ``p(m)`` is zero.
    """
    ratios = []
    for index in range(scores.shape[2]):
        draws = scores[:, :, index]
        error = standard_error(draws)
        if error > 0 and np.isfinite(error):
            ratios.append(draws.mean() / error)
    return float(np.sqrt(np.mean(np.square(ratios)))) if ratios else float("nan")


def variance_of(draws: np.ndarray, spread: np.ndarray | float = 0.0) -> tuple[float, float]:
    """Return the variance of chains (S, T), and its standard error.

    Where the draws are conditional means, `spread` is the variance given the same.

    Examples
    --------
    >>> variance, error = variance_of(np.random.default_rng(0).standard_normal((4, 5000)))
    >>> round(variance, 1), round(error, 3)  # the error is that of 20,000 draws, sqrt(2 / 20,000)
    (1.0, 0.01)
    """
    squares = (draws - draws.mean()) ** 2 + spread
    return float(squares.mean()), standard_error(squares)


def evidence_contradictions(run: SamplingRun, log_evidence: float, error: float) -> list[str]:
    """Return contradictions of a log evidence with its lower bound or with other estimates.

    Parameters
    ----------
    run : SamplingRun
        With the bound and the estimates.
    log_evidence, error : float
        The estimate that is reported, and its standard error.
    """
    reasons = []
    estimate = float(log_mean_exp(run.log_evidence)) if len(run.log_evidence) else float("nan")
    short = run.log_evidence_lower_bound - estimate
    if short > _SHORT + 2 * error:
        reasons.append(
            f"the log evidence {estimate:.2f} is below its lower bound "
            f"{run.log_evidence_lower_bound:.2f}, the sum over the allocations visited"
        )
    for name, (value, its_error) in run.estimates.items():
        # importance sampling can be too low, where its proposal covers too little, but not too high
        gap = value - log_evidence if name == "importance" else abs(value - log_evidence)
        if gap > _CONTRADICTION * np.hypot(error, its_error) + _SLACK:
            reasons.append(
                f"two estimates of the log evidence differ by more than their errors ({name}: "
                f"{value:.2f} +- {its_error:.2g}, reported: {log_evidence:.2f} +- {error:.2g})"
            )
    return reasons


def disagreement(run: SamplingRun, log_evidence: float, error: float) -> float:
    """Return the largest difference of a log evidence from other estimates that has no excuse.

    Differences below three joint errors or a tenth of a nat are 0. The smallest error is the right
    one only if estimates agree. Where they do not, the standard errors, which are computed from the
    same draws, do not know of what these have missed:

    - where importance is lower, the proposal lacks that share of the posterior, and what bridge
      sampling adds for it rests on chains that come there by sweeps alone. Its error, from the few
      largest weights, is a sign of the same, and no excuse;
    - the error of the visited allocations is mostly for those that nobody has visited, which make
      this estimate too low. So it is no excuse if it is higher.

    Parameters
    ----------
    run : SamplingRun
        With the estimates.
    log_evidence, error : float
        The estimate that is reported, and its standard error.
    """
    largest = 0.0
    for name, (value, its_error) in run.estimates.items():
        above, telling = value > log_evidence, its_error <= _EVIDENCE_ERROR[0]
        alone = telling and (name == "visited" if above else name == "importance")
        joint = error if alone else float(np.hypot(error, its_error))
        gap = abs(value - log_evidence)
        if gap > max(_DIFFERENCE * joint, _UNTOLD):
            largest = max(largest, gap)
    return largest


def honest_error(run: SamplingRun) -> float:
    """Return the standard error of a run's log evidence, with :func:`disagreement`."""
    value, error = combine_evidence(run.log_evidence, run.log_evidence_error)
    return float(np.hypot(error, disagreement(run, value, error)))


def is_balanced(run: SamplingRun) -> bool:
    """Return whether the mean log posterior gradient of a run's draws is zero, up to its error."""
    return not balance_of(run.scores) > _BALANCE[0]


def assess(run: SamplingRun) -> SamplingResult:
    """Turn a run into a result with a status.

    Parameters
    ----------
    run : SamplingRun

    Returns
    -------
    SamplingResult
    """
    known = len(run.log_evidence) > 0  # samplers around one mode do not estimate the evidence
    log_evidence, error, short, apart = (float("nan"),) * 4
    if known:
        log_evidence, error = combine_evidence(run.log_evidence, run.log_evidence_error)
        bound = run.log_evidence_lower_bound
        short = bound - log_evidence  # not a number where there is no bound
        if short > 0:
            # a rigorous bound: what lies below it is wrong, by chance or for a reason
            log_evidence = bound
        apart = disagreement(run, log_evidence, error)
    traces = run.judged
    reduction = float(np.max([rhat(each) for each in traces]))  # np.max keeps NaN
    ess = float(np.min([effective_sample_size(each) for each in traces]))
    balance = balance_of(run.scores)
    level, reasons = 0, list[str]()

    def judge(value: float, limits: tuple[float, float], reason: str, sign: float = 1.0) -> None:
        nonlocal level
        if not np.isfinite(value) or sign * value > sign * limits[1]:
            level = 2
        elif sign * value > sign * limits[0]:
            level = max(level, 1)
        else:
            return
        reasons.append(reason)

    if run.stopped:
        level = 1
        reasons.append("a callback stopped the run early")
    if run.doubts:
        level = 1
        reasons += run.doubts
    if np.isfinite(reduction) or not run.stopped:
        judge(reduction, _RHAT, f"chains disagree (R-hat {reduction:.3g}, limit {_RHAT[0]:g})")
    judge(ess, _ESS, f"few effective draws ({ess:.0f}, limit {_ESS[0]:g})", -1.0)
    for reason in evidence_contradictions(run, log_evidence, error):
        level = max(level, 1)
        reasons.append(reason)
    if known:
        whole = float(np.hypot(error, apart))
        cause = f", {apart:.2g} of it since estimates disagree" if apart else ""
        judge(
            whole,
            _EVIDENCE_ERROR,
            f"the log evidence has a standard error of {whole:.2g} nats{cause} "
            f"(limit {_EVIDENCE_ERROR[0]:g})",
        )
    judge(
        balance,
        _BALANCE,
        f"the mean log posterior gradient is not zero ({balance:.1f} standard errors, "
        f"limit {_BALANCE[0]:g})",
    )
    claimed = np.sqrt((run.log_evidence_error**2).mean()) if known else 0.0
    spread = float(np.ptp(run.log_evidence)) if known else 0.0
    if spread > max(_DISAGREEMENT * np.sqrt(2) * claimed, 0.05):
        level = max(level, 1)
        reasons.append(
            f"independent estimates of the log evidence differ by {spread:.2g} nats, more than "
            f"{_DISAGREEMENT:g} standard errors"
        )
    return SamplingResult(
        run.method,
        traces[0].shape[0],
        run.n_sweeps,
        reduction,
        ess,
        log_evidence,
        float(np.linalg.norm([error, short if short > 0 else 0.0, apart])) if known else error,
        balance,
        run.acceptance,
        ("ok", "suspect", "failed")[level],
        (*reasons, *run.notes),
        run.log_evidence_lower_bound,
        run.n_modes,
        dict(run.estimates),
        standard_error(run.hmaxe),
        *variance_of(run.hmaxe, run.hmaxe_spread),
        run.points,
        thinned(run.hmaxe),
    )


def thinned(trace: Array) -> Array:
    """Return at most 200 draws of at most six chains, whose means span those of all chains.

    Parameters
    ----------
    trace : ndarray of shape (S, T)

    Examples
    --------
    >>> thinned(np.arange(8.0)[:, None] + np.zeros((8, 1000))).shape
    (6, 200)
    """
    n_chains, length = trace.shape
    by_mean = np.argsort(trace.mean(axis=1), kind="stable")
    chains = np.sort(by_mean[_spread(n_chains, _SHOWN_CHAINS)])
    return trace[np.ix_(chains, _spread(length, _SHOWN_DRAWS))]


def _spread(size: int, at_most: int) -> NDArray[np.intp]:
    """Return some of the indices below `size`, the first and the last among them."""
    return np.linspace(0, size - 1, min(size, at_most)).round().astype(np.intp)
