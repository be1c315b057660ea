"""How many components a sampled PCA has: what was asked for, or what has the most evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from skbae.estimators._progress import progress
from skbae.estimators.pca._fit import (
    energy_with_prior,
    is_share,
    most_components,
    n_for_share,
    sample_models,
    start_of_climb,
)
from skbae.inference._objective import Objective
from skbae.inference.evidence._laplace import laplace_log_evidence

if TYPE_CHECKING:
    import numpy as np

    from skbae._types import Rows, SamplingRun
    from skbae.energies.pca._prior import BayesianPCAEnergy, RowMoments
    from skbae.inference.passes._rows import RowRunner

# Dimensions whose approximate log evidence is this far below the best one's are not sampled; the
# approximation is off by about one nat for each direction that the data do not ask for.
_HOPELESS = 10.0


def largest_candidate(n_rows: int, n_features: int) -> int:
    """Return the largest dimension that is tried: at D - 1 all covariances are possible."""
    return min(n_rows, n_features) - 1


def candidates(
    estimator: Any, moments: RowMoments, rows: Rows, runner: RowRunner, model_temperature: float
) -> list[int]:
    """Return the dimensions to sample."""
    asked = estimator.n_components
    if asked is None:
        return [most_components(rows.X)]
    if isinstance(asked, str):
        most = largest_candidate(*rows.X.shape)
        return promising_dimensions(estimator, moments, most, runner, model_temperature)
    if is_share(asked):
        return [n_for_share(moments.variances, float(moments.variances.sum()), float(asked))]
    return [int(asked)]


def promising_dimensions(
    estimator: Any, moments: RowMoments, most: int, runner: RowRunner, model_temperature: float
) -> list[int]:
    """Return the numbers of components whose evidence may be the largest.

    Judged by Laplace's approximation, with a margin well above its error.
    """
    temperature = float(estimator.temperature)
    values = []
    for n_components in range(most + 1):
        energy = energy_with_prior(estimator, moments, n_components)
        objective = Objective(energy, moments.stand_in(), runner, temperature)
        values.append(laplace_log_evidence(objective, start_of_climb(energy), model_temperature))
    return [d for d, value in enumerate(values) if not value < max(values) - _HOPELESS]


def sample_most_evident(
    estimator: Any,
    moments: RowMoments,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
    model_temperature: float,
) -> tuple[BayesianPCAEnergy, SamplingRun]:
    """Return the energy and the draws of the dimension asked for, or of the most evident."""
    best: tuple[float, BayesianPCAEnergy, SamplingRun] | None = None
    dimensions = candidates(estimator, moments, rows, runner, model_temperature)
    for n_components in dimensions:
        energy = energy_with_prior(estimator, moments, n_components)
        with progress(estimator, rows.X, None, None) as step:
            run = sample_models(
                energy,
                runner,
                rng,
                model_temperature=model_temperature,
                n_models=int(estimator.n_models),
                on_step=step,
            )
        evidence = float(run.log_evidence.mean())
        if best is None or evidence > best[0]:
            best = evidence, energy, run
        if step.stopped:
            cut_off = n_components != dimensions[-1]
            _, energy, run = best
            return energy, replace(run, stopped=run.stopped or cut_off)
    assert best is not None  # there is always a dimension to try
    return best[1:]
