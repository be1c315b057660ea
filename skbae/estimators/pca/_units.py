"""Units in which models are sampled: those of the rows, so that no floor or step depends on them.

The unit is a power of two, so that rows in other units by a power of two give the same draws.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skbae._types import Rows, SamplingRun
    from skbae.energies.pca._loadings import RowMoments
    from skbae.estimators.pca._settings import GivenPCAPrior


def unit_of(variance: float) -> float:
    """Return the power of two next to the square root of a mean variance.

    Examples
    --------
    >>> unit_of(1.0), unit_of(100.0)
    (1.0, 8.0)
    """
    return float(2.0 ** np.round(0.5 * np.log2(variance)))


def prior_in_units(prior: GivenPCAPrior, unit: float) -> GivenPCAPrior:
    """Return the user's prior in other units; what is computed from the rows stays None."""
    squared = unit**2
    return replace(
        prior,
        component_variance=_scaled(prior.component_variance, squared),
        mean=None if prior.mean is None else np.asarray(prior.mean, np.float64) / unit,
        noise_scale=_scaled(prior.noise_scale, squared),
    )


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def moments_in_units(moments: RowMoments, unit: float) -> RowMoments:
    """Return the rows' moments in other units."""
    return replace(moments, mean=moments.mean / unit, variances=moments.variances / unit**2)


def rows_in_units(rows: Rows, unit: float) -> Rows:
    """Return rows in other units."""
    if unit == 1.0:
        return rows
    X = (rows.X / rows.X.dtype.type(unit)).astype(rows.X.dtype, copy=False)
    return replace(rows, X=X, centre=rows.centre / unit, scale=rows.scale / unit)


def known_per_row(rows: Rows) -> float:
    """Return the weighted mean number of known entries of a row."""
    if not rows.incomplete:
        return float(rows.X.shape[1])
    known = (~np.isnan(rows.X)).sum(axis=1)
    return float(known.mean() if rows.weights is None else rows.weights @ known / rows.total)


def run_from_units(run: SamplingRun, unit: float, n_known: float, power: float) -> SamplingRun:
    """Return a run's densities in the units of the data; its models are left as they are.

    ``Hmax_T`` of a row falls by the log of the unit for each known entry, at any T.

    Parameters
    ----------
    run : SamplingRun
    unit : float
    n_known : float
        Entries of a row that are known, on average.
    power : float
        ``N / tau``.
    """
    shift = n_known * float(np.log(unit))
    estimates = {
        name: (value - power * shift, error) for name, (value, error) in run.estimates.items()
    }
    return replace(
        run,
        hmaxe=run.hmaxe - shift,
        log_evidence=run.log_evidence - power * shift,
        log_evidence_lower_bound=run.log_evidence_lower_bound - power * shift,
        estimates=estimates,
        points=tuple(point.shifted(-shift, power) for point in run.points),
    )
