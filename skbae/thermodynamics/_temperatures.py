"""Models sampled at several model temperatures of the same rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skbae._types import SamplingResult
from skbae.estimators.rbm._estimator import BayesianRBMAutoEncoder
from skbae.estimators.rbm._fit import MAX_MINUTES, tempering_minutes
from skbae.estimators.vae._estimator import BayesianVAEAutoEncoder
from skbae.inference.sample._mode_search import SharedStarts
from skbae.operators._random import as_generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array
    from skbae.estimators._base import BayesianAutoEncoder

# Ratio of model temperatures up to which searches for modes share their starts.
_REACH = 4.0
# Most particles of an island on a path from the prior that visits the hotter part of a curve.
_MOST_PARTICLES = 384
# Step in log (N / tau) of differences of a log evidence that is known in closed form.
_STEP = 0.02


@dataclass(frozen=True)
class Sampled:
    """What sampling at one model temperature has found."""

    internal_energy: float
    sampling: SamplingResult


def only_around_best(kind: Any, settings: Any, n_rows: int, n_features: int) -> bool:
    """Return whether models are sampled around the best one only: networks, and large machines."""
    if isinstance(kind, BayesianVAEAutoEncoder):
        return True
    if not isinstance(kind, BayesianRBMAutoEncoder):
        return False
    return tempering_minutes(settings, n_rows, n_features) > MAX_MINUTES


def sample_at(
    estimator: BayesianAutoEncoder[Any, Any],
    X: Any,
    taus: Array,
    sample_weight: Any,
    function: str,
) -> list[Sampled]:
    """Return what sampling finds at model temperatures in falling order.

    Where the evidence is known in closed form, so is all else. Otherwise there is a fit for each
    temperature, with random numbers of its own, from the coldest on. Searches for modes are made
    once for neighbouring temperatures. Where a fit starts at the prior, its path has visited all
    that are hotter. Warnings about sampling are left to the caller, who has the status at each.
    """
    fresh: Any = clone(estimator).set_params(model_temperature=1.0)
    exact = fresh._closed_log_evidence(X, sample_weight)
    if exact is not None:
        log_evidence, total = exact
        return [closed_form(log_evidence, total / float(tau)) for tau in taus]
    rng = as_generator(estimator.random_state)
    starts = SharedStarts(_REACH)
    found: list[Sampled] = []
    for index in range(len(taus) - 1, -1, -1):
        fresh = clone(estimator)
        fresh.set_params(model_temperature=float(taus[index]))
        fresh.set_params(random_state=int(rng.integers(2**31)))
        if hasattr(fresh, "warm_start"):
            fresh.set_params(warm_start=False)
        fixed = getattr(estimator, "n_components_", None)
        if fixed is not None:  # PCA that chose its number of components keeps it
            fresh.set_params(n_components=fixed)
        hotter = tuple(float(tau) for tau in taus[:index])
        most = _MOST_PARTICLES if found else np.iinfo(np.int64).max
        fresh._plans = fresh._plans.with_hotter(starts, hotter, most)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*sampling of the models is", ConvergenceWarning)
            fresh.fit(X, sample_weight=sample_weight)
        if not hasattr(fresh, "sampling_"):
            raise TypeError(f"{function} needs an estimator that samples its models")
        found.append(Sampled(fresh.internal_energy_, fresh.sampling_))
        points = fresh.sampling_.points
        if index and len(points) == index and fresh.sampling_.status == "ok":
            found += [Sampled(each.internal_energy, each.sampling) for each in points[::-1]]
            break
    return found[::-1]


def closed_form(log_evidence: Callable[[float], float], power: float) -> Sampled:
    """Return what follows from the log evidence, a function of ``N / tau``.

    G is its derivative, and the variance of ``Hmaxe`` that of G: both by differences of fourth
    order in ``log (N / tau)``.

    Examples
    --------
    >>> found = closed_form(lambda power: -2.5 * np.log(power) - 3 * power, 10.0)
    >>> round(found.internal_energy, 4), round(100 * found.sampling.hmaxe_variance, 4)
    (-3.25, 2.5)
    """
    low2, low, value, high, high2 = (
        log_evidence(power * float(np.exp(k * _STEP))) for k in (-2, -1, 0, 1, 2)
    )
    slope = (8 * (high - low) - (high2 - low2)) / (12 * _STEP)
    bend = (16 * (high + low) - (high2 + low2) - 30 * value) / (12 * _STEP**2)
    result = SamplingResult(
        method="closed form",
        n_chains=0,
        n_sweeps=0,
        rhat=1.0,
        ess=float("inf"),
        log_evidence=float(value),
        log_evidence_error=0.0,
        balance=0.0,
        acceptance=float("nan"),
        status="ok",
        reasons=(),
        hmaxe_error=0.0,
        hmaxe_variance=float(max(bend - slope, 0.0) / power**2),
        hmaxe_variance_error=0.0,
    )
    return Sampled(float(slope / power), result)
