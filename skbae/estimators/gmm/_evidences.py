"""Whether the evidences of fitted Gaussian mixtures can be compared, and empty components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.estimators.gmm._fit import ResolvedPrior, on_columns_with_density, resolved_prior
from skbae.inference.evidence._empty_components import (
    EmptyChance,
    empty_chance,
    log_chance_of_no_rows,
    log_empty_ratio,
)
from skbae.inference.passes._rows import RowRunner, make_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Rows
    from skbae.estimators.gmm._estimator import BayesianGMMAutoEncoder

# Fitted attributes of a mixture's form that must be equal, by the parameter's name.
_FORM = ("covariance_type", "equal_weights")
# Parameters of the prior, by the field of ResolvedPrior.
_PRIOR = {
    "concentration": "weight_concentration_prior",
    "mean_precision": "mean_precision_prior",
    "mean": "mean_prior",
    "degrees_of_freedom": "degrees_of_freedom_prior",
    "covariance": "covariance_prior",
}


def check_has_evidence(fitted: BayesianGMMAutoEncoder) -> None:
    """Raise ValueError unless a fit has an evidence to which empty components are tied."""
    state, name = fitted._fitted, _name(fitted)
    if state.model_temperature == 0:
        raise ValueError(
            f"check_evidences needs sampled models, and {name} was fitted with "
            "model_temperature=0; fit it with model_temperature=1"
        )
    if state.temperature != state.model_temperature or state.tilt:
        raise ValueError(
            "check_evidences needs model_temperature equal to temperature and tilt=0, and "
            f"{name} was fitted with temperature={state.temperature:g}, "
            f"model_temperature={state.model_temperature:g} and tilt={state.tilt:g}"
        )
    if not np.isfinite(fitted.log_evidence_):
        raise ValueError(
            f"check_evidences needs log evidences, and that of {name} is {fitted.log_evidence_}; "
            "fit it with a number for evidence_tol"
        )


def check_rows(fitted: BayesianGMMAutoEncoder, X: NDArray[Any], rows: Rows) -> None:
    """Raise ValueError unless a fit's rows X and weights have this number, mean and scale.

    Parameters
    ----------
    fitted : BayesianGMMAutoEncoder
    X : ndarray of shape (n_samples, n_features)
    rows : Rows
        Those of positive weight, with their weights.
    """
    state, sampling = fitted._fitted, fitted.sampling_
    frame = state.frame
    summary = state.training_rows
    same = X.shape[1] == len(frame.centre) and summary is not None and summary.describes(X)
    if same:
        rounding = 1e-5 * frame.scale + 1e-6 * np.abs(frame.centre)
        off = np.maximum(np.abs(frame.centre - rows.centre), np.abs(frame.scale - rows.scale))
        total = fitted.hmaxemax_ * rows.total / state.model_temperature
        same = bool(np.all(off <= rounding)) and np.isclose(total, sampling.log_evidence, rtol=1e-6)
    if not same:
        raise ValueError(
            "check_evidences needs the training rows of all fits, and X (or sample_weight) is not "
            f"that of {_name(fitted)}"
        )


def check_comparable(
    first: BayesianGMMAutoEncoder, second: BayesianGMMAutoEncoder, rows: Rows
) -> None:
    """Raise ValueError unless two fits to the same rows differ in their components' number only."""
    names = f"{_name(first)} and {_name(second)}"
    mine, other = first._fitted, second._fitted
    if mine.temperature != other.temperature:
        raise ValueError(
            f"check_evidences needs fits at one temperature, got {mine.temperature:g} and "
            f"{other.temperature:g} for {names}"
        )
    for name in _FORM:
        values = getattr(mine.details, name), getattr(other.details, name)
        if values[0] != values[1]:
            raise ValueError(
                f"check_evidences needs fits that differ in n_components only, and {names} have "
                f"{name}={values[0]!r} and {values[1]!r}"
            )
    priors = prior_of(first, rows), prior_of(second, rows)
    for field, parameter in _PRIOR.items():
        own, others = (np.asarray(getattr(prior, field)) for prior in priors)
        if not np.allclose(own, others, rtol=1e-8, atol=0):
            raise ValueError(
                "check_evidences needs the same prior of each component in all fits, and the "
                f"{parameter} of {names} differ"
            )


def prior_of(fitted: BayesianGMMAutoEncoder, rows: Rows) -> ResolvedPrior:
    """Return the prior that a fit had, given its rows.

    Raises
    ------
    ValueError
        If parameters were changed since the fit.
    """
    settings, rows = on_columns_with_density(
        fitted._check_parameters(), rows, fitted._column_names()
    )
    state = fitted._fitted
    now = (settings.form(rows.X.shape[1]), settings.temperature, settings.model_temperature)
    if now != (state.details, state.temperature, state.model_temperature):
        raise ValueError(
            f"the parameters of {_name(fitted)} have changed since it was fitted, so that its "
            "prior is not known; fit it again"
        )
    with RowRunner(1) as runner:
        return resolved_prior(settings, rows, runner)


def chance_of_empty_component(fitted: BayesianGMMAutoEncoder, rows: Rows) -> EmptyChance:
    """Return how probable it is that a given component has no rows, by the kept models."""
    state = fitted._fitted
    X = np.asarray(rows.X, dtype=np.float64)
    bound = fitted._energy_for(X).bind(fitted._parameters(), state.frame, np.float64)
    total: Array = np.zeros(fitted.models_.weights.shape)
    for start in range(0, len(X), bound.chunk_rows):
        part = slice(start, start + bound.chunk_rows)
        weights = None if rows.weights is None else rows.weights[part]
        total += log_chance_of_no_rows(bound.joint(X[part]) / state.temperature, weights)
    return empty_chance(total, fitted.sampling_.ess)


def log_ratio_if_empty(fitted: BayesianGMMAutoEncoder, rows: Rows) -> float:
    """Return the log chance of an empty component if K and K - 1 have the same evidence."""
    form, prior = fitted._fitted.details, prior_of(fitted, rows)
    concentration = None if form.equal_weights else prior.concentration
    return log_empty_ratio(
        form.n_components, rows.total / fitted._fitted.temperature, concentration
    )


def weighted_rows(X: Any, weights: Array | None) -> Rows:
    """Return validated rows of positive, whole weights."""
    if weights is not None:
        X, weights = X[weights > 0], weights[weights > 0]
        if np.any(weights != np.round(weights)):
            raise ValueError(
                "check_evidences needs whole numbers as sample_weight, since only then codes are "
                "those of repeated rows"
            )
    return make_rows(X, weights)


def _name(fitted: BayesianGMMAutoEncoder) -> str:
    return f"{type(fitted).__name__}(n_components={fitted._fitted.details.n_components})"
