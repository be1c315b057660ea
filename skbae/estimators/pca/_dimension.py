"""Number of components of a sampled PCA: as given, or that of the largest evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skbae.estimators.pca._fit import (
    energy_with_prior,
    n_for_share,
    sample_models,
    start_near_mode,
)
from skbae.estimators.pca._settings import PCASettings, largest_candidate, most_axes
from skbae.inference._objective import Objective
from skbae.inference.evidence._laplace import laplace_log_evidence

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy as np

    from skbae._types import Rows, SamplingRun
    from skbae.energies.pca._prior import BayesianPCAEnergy, RowMoments
    from skbae.estimators._progress import Steps
    from skbae.inference.passes._rows import RowRunner

# Dimensions whose approximate log evidence is this many nats below the best one are not sampled.
# The error of the approximation is about one nat for each direction that only has noise.
_HOPELESS = 10.0


def candidates(
    settings: PCASettings, moments: RowMoments, rows: Rows, runner: RowRunner
) -> list[int]:
    """Return the dimensions to sample."""
    if settings.by_evidence:
        most = largest_candidate(*rows.X.shape)
        return promising_dimensions(settings, moments, most, runner)
    if settings.share is not None:
        total = float(moments.variances.sum())
        return [n_for_share(moments.variances, total, settings.share)]
    return [most_axes(rows.X) if settings.number is None else settings.number]


def promising_dimensions(
    settings: PCASettings, moments: RowMoments, most: int, runner: RowRunner
) -> list[int]:
    """Return the numbers of components whose evidence may be the largest.

    These have a Laplace approximation within a margin of the largest; the margin is well above the
    error of the approximation.
    """
    values = []
    for n_components in range(most + 1):
        energy = energy_with_prior(settings, moments, n_components)
        objective = Objective(energy, moments.as_one_row(), runner, settings.temperature)
        start = start_near_mode(energy)
        values.append(laplace_log_evidence(objective, start, settings.model_temperature))
    return [d for d, value in enumerate(values) if not value < max(values) - _HOPELESS]


def sample_best_dimension(
    settings: PCASettings,
    moments: RowMoments,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
    open_progress: Callable[[], AbstractContextManager[Steps]],
) -> tuple[BayesianPCAEnergy, SamplingRun]:
    """Return the energy and draws of the given dimension, or that of the largest evidence."""
    best: tuple[float, BayesianPCAEnergy, SamplingRun] | None = None
    dimensions = candidates(settings, moments, rows, runner)
    for n_components in dimensions:
        energy = energy_with_prior(settings, moments, n_components)
        with open_progress() as step:
            run = sample_models(settings, energy, runner, rng, step)
        evidence = float(run.log_evidence.mean())
        if best is None or evidence > best[0]:
            best = evidence, energy, run
        if step.stopped:
            cut_off = n_components != dimensions[-1]
            _, energy, run = best
            return energy, replace(run, stopped=run.stopped or cut_off)
    assert best is not None  # there is always a dimension to try
    return best[1:]
