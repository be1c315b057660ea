"""Sampling any energy with charts: from normal fits to its modes, or from the prior.

Annealing from normal fits to the modes takes a few steps, however many rows there are. With few
rows the posterior is close to the prior and far from normal: sampling then starts from the prior,
and importance sampling at the modes checks its evidence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skbae._types import SamplingRun
from skbae.energies._capabilities import ChartedEnergy
from skbae.inference.evidence._verdict import combine_evidence
from skbae.inference.sample._mode_annealing import importance_log_evidence, sample_from_modes
from skbae.inference.sample._tempering import sample_tempered

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from skbae.inference._objective import Objective
    from skbae.inference.sample._mode_annealing import AnnealPlan
    from skbae.inference.sample._mode_search import ModeStarts
    from skbae.inference.sample._tempering import SMCPlan

# With fewer than _FEW_ROWS rows (divided by tau) and at most _MANY_COORDINATES coordinates the
# posterior is close enough to the prior for sampling to start from prior draws.
_FEW_ROWS, _MANY_COORDINATES = 20.0, 100
# With at least twice as many rows, divided by a large tau, single rows make no modes, and groups of
# them part at a transition that sampling from the prior does not pass: this is the limit then.
_FEW_OF_MANY_ROWS = 8.0
# Most particles of an island that starts from the prior, with at least twice _FEW_ROWS rows.
_MOST_PARTICLES = 1024
# Nats by which the log evidence by importance sampling at the modes may exceed that of the sampler
# that starts from the prior.
_SHORTFALL = 1.0


def sample_charted(
    objective: Objective,
    starts: ModeStarts,
    model_temperature: float,
    rng: np.random.Generator,
    *,
    anneal: Callable[[int], AnnealPlan],
    tempered: SMCPlan,
    few_rows: float | None = None,
    on_step: Callable[[int, float], bool] | None = None,
) -> SamplingRun:
    """Sample at any T, tau, weights and tilt, starting from the modes or from the prior.

    Parameters
    ----------
    objective : Objective
        Of a ChartedEnergy.
    starts : ModeStarts
        Models from which modes are searched.
    model_temperature : float
    rng : Generator
    anneal : callable
        ``anneal(n_coordinates)`` gives the plan of annealing from normal fits to the modes, which
        represents every mode that a start leads to.
    tempered : SMCPlan
        Of sampling that starts from the prior.
    few_rows : float or None
        Number of rows (divided by tau) below which sampling starts from the prior; None for 20. It
        is smaller for energies in whose charts the prior is itself nearly normal.
    on_step : callable or None
        See :func:`~skbae.inference.sample._tempering.sample_tempered`.

    Returns
    -------
    SamplingRun
    """
    energy = objective.require(ChartedEnergy, "sampling from modes")
    tau, n_rows, power = (
        model_temperature,
        len(objective.rows.X),
        objective.power(model_temperature),
    )
    size = energy.charts(starts.params.take([0]), power).centres.shape[1]
    plan, limit = anneal(size), _FEW_ROWS if few_rows is None else few_rows
    if n_rows >= 2 * _FEW_ROWS:
        limit = min(limit, _FEW_OF_MANY_ROWS)
    if power >= limit or size > _MANY_COORDINATES:
        return sample_from_modes(objective, starts, tau, rng, plan=plan, on_step=on_step)
    if n_rows >= 2 * _FEW_ROWS:
        most = min(tempered.n_particles, _MOST_PARTICLES)
        tempered = replace(tempered, n_particles=most)
    run = sample_tempered(objective, tau, rng, plan=tempered, on_step=on_step)
    if run.stopped:
        return run
    at_modes = importance_log_evidence(objective, starts, tau, rng, plan=plan)
    return compare_with_modes(run, at_modes)


def compare_with_modes(run: SamplingRun, at_modes: float) -> SamplingRun:
    """Return the run, with a doubt if its log evidence is below the estimate at the modes.

    Parameters
    ----------
    run : SamplingRun
        Of a sampler that starts from the prior.
    at_modes : float
        The log evidence by
        :func:`~skbae.inference.sample._mode_annealing.importance_log_evidence`.
    """
    found, error = combine_evidence(run.log_evidence, run.log_evidence_error)
    if at_modes <= found + max(_SHORTFALL, 5 * error):
        return run
    doubt = (
        f"importance sampling at the modes gives log evidence {at_modes:.2f}, above the sampler's "
        f"{found:.2f}: a mode may have been missed"
    )
    return replace(run, doubts=(*run.doubts, doubt))
