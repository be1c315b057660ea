"""Number of components of a sampled PCA: as given, or that of the largest evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skbae.estimators.pca._fit import (
    minka_dimension,
    n_for_share,
    nested_posterior,
    sample_models,
)
from skbae.estimators.pca._settings import PCASettings, largest_candidate, most_axes
from skbae.inference.sample._coordinate_fit import find_fit

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy as np

    from skbae._types import Rows, SamplingRun
    from skbae.energies.pca._loadings import RowMoments
    from skbae.estimators._progress import Steps
    from skbae.inference.passes._rows import RowRunner

# Dimensions whose approximate log evidence is this many nats below the best one are not sampled.
# The error of the approximation is about one nat for each direction that only has noise.
_HOPELESS = 10.0
# The search ends after so many successive dimensions below this margin.
_PATIENCE = 8


def candidates(settings: PCASettings, moments: RowMoments, rows: Rows) -> list[int]:
    """Return the dimensions to sample."""
    if settings.by_evidence:
        return promising_dimensions(settings, moments, largest_candidate(*rows.X.shape))
    if settings.by_mle:
        whole = moments.whole().variances
        return [minka_dimension(whole, moments.total)]
    if settings.share is not None:
        total = float(moments.variances.sum())
        return [n_for_share(moments.variances, total, settings.share)]
    return [most_axes(rows.X) if settings.number is None else settings.number]


def promising_dimensions(settings: PCASettings, moments: RowMoments, most: int) -> list[int]:
    """Return the numbers of components whose evidence may be the largest.

    These have an approximate log evidence within a margin of the largest; the margin is well above
    the error of the approximation. The evidence increases up to the best dimension, so that the
    search ends after several dimensions far below it.
    """
    values: list[float] = []
    for n_components in range(most + 1):
        values.append(find_fit(nested_posterior(settings, moments, n_components))[1])
        if len(values) > _PATIENCE and max(values[-_PATIENCE:]) < max(values) - _HOPELESS:
            break
    return [d for d, value in enumerate(values) if not value < max(values) - _HOPELESS]


def sample_best_dimension(
    settings: PCASettings,
    moments: RowMoments,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
    open_progress: Callable[[], AbstractContextManager[Steps]],
) -> SamplingRun:
    """Return the draws of the given dimension, or of that with the largest evidence."""
    best: tuple[float, SamplingRun] | None = None
    dimensions = candidates(settings, moments, rows)
    for n_components in dimensions:
        with open_progress() as step:
            run = sample_models(settings, moments, n_components, runner, rng, step)
        evidence = float(run.log_evidence.mean())
        if best is None or evidence > best[0]:
            best = evidence, run
        if step.stopped:
            cut_off = n_components != dimensions[-1]
            return replace(best[1], stopped=best[1].stopped or cut_off)
    assert best is not None  # there is always a dimension to try
    return best[1]
