"""Machines sampled around the best one, where they are too large for tempering from the prior."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from skbae.energies.rbm._persistent import (
    CentredCoordinates,
    gradient_by_chains,
    mean_free_energy,
    moments_of_chains,
    moments_of_rows,
)
from skbae.estimators._fitted import Fit
from skbae.estimators._sampling import warn_unless_ok, with_wbic
from skbae.estimators.rbm._fit import (
    MachineDetails,
    as_models,
    as_parameters,
    fit_steps,
    hmaxe_by_model,
    make_energy,
    match_units,
    rates_of,
)
from skbae.estimators.rbm._normalised import MAX_KEPT_UNITS, normalise_kept
from skbae.inference.evidence._verdict import assess
from skbae.inference.optimise._early_stopping import merged_rows
from skbae.inference.optimise._minibatch import DivergedError
from skbae.inference.sample._langevin import BatchTarget, LangevinPlan, sample_langevin

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import Array, FloatArray, Rows, SamplingRun
    from skbae.energies.rbm._energy import RBMEnergy
    from skbae.energies.rbm._visible import RBMParameters
    from skbae.estimators._progress import Steps
    from skbae.estimators.rbm._settings import RBMSettings

# Rows of a batch, and persistent chains of each machine, are at least N / tau over this. Steps are
# twice as long as those of networks.
_ROWS_FOR_ONE, _STEP = 4, 0.1
# Attempts to sample: each begins again with half the step where the one before has diverged.
_N_ATTEMPTS = 6
# Persistent chains that cost little, by their units in all: where codes seldom change, their noise
# is remembered for long, and would heat the machines unseen.
_CHAIN_UNITS, _MOST_CHAINS = 100_000, 1000
# Noise variance of scaled rows beyond which chains have left all that the rows allow.
_LARGEST_NOISE = 1e4
# Steps over which persistent chains forget: the noise of gradients is measured by their means.
_MEMORY = 10
# Gibbs steps of the persistent chains before the first gradient.
_SETTLE = 50
# Draws of the best machine from which paths to the others start.
_STATES = 1000
_TOO_LONG = (
    "sampling from the prior, which would tell the evidence, would take about {:.0f} minutes here; "
    "it is done where it takes at most three: for fewer rows or n_components"
)
# Work of the scores by which machines are judged: rows times units of both layers.
_SCORED, _FEWEST_SCORED = 4_000_000, 20
# Largest number of units whose states are enumerated for each machine that is looked at on the way.
MAX_OBSERVED_UNITS = 12


class MachineTarget(BatchTarget):
    """``p(m)`` of machines, with gradients from batches of rows and persistent chains.

    Coordinates are centred. Values are those of ``Hmaxe_T + log Z``, since log Z is not known.

    Parameters
    ----------
    energy : RBMEnergy
        With a prior, of scaled rows.
    rows : Rows
        Scaled, distinct.
    start : RBMParameters
        The single machine that sampling starts from.
    states : ndarray of shape (C, D)
        States of it, from which each machine's chains start.
    temperatures : tuple of float
        T and tau.
    n_chains : int
        Persistent chains of each machine.
    rng : Generator
    """

    memory = _MEMORY

    def __init__(
        self,
        energy: RBMEnergy,
        rows: Rows,
        start: RBMParameters,
        states: Array,
        temperatures: tuple[float, float],
        n_chains: int,
        rng: np.random.Generator,
    ) -> None:
        self.energy, self.rows, self.temperature = energy, rows, temperatures[0]
        self.n_rows, self.scale = len(rows.X), rows.total / temperatures[1]
        self.is_exact = energy.n_enumerated() <= MAX_OBSERVED_UNITS
        weights = np.ones(self.n_rows) if rows.weights is None else rows.weights
        # so that their mean over all distinct rows is one
        self.shares = weights * self.n_rows / rows.total
        self.states = states[rng.integers(len(states), size=n_chains)]
        self.chains: Array | None = None
        size = energy.n_components * energy.n_features
        n_scored = max(_FEWEST_SCORED, _SCORED // (size * min(energy.n_features, 100)))
        self.scored = rows.X[rng.permutation(self.n_rows)[:n_scored]]
        self.coordinates = CentredCoordinates(energy, start, self.states)

    def _settled(self, theta: Array, rng: np.random.Generator) -> Array:
        """Return the chains of each machine; at the first call they settle."""
        if self.chains is None:
            chains = np.repeat(self.states[None], len(theta), axis=0)
            for _ in range(_SETTLE):
                _, chains = moments_of_chains(
                    self.energy, self.energy.constrain(theta), chains, rng
                )
            return chains
        return self.chains

    def estimate(
        self, phi: FloatArray, index: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Return estimates for machines (S, P), and move their chains."""
        with np.errstate(all="ignore"):  # steps that are too long end in numbers not finite
            return self._estimate(self.coordinates.leave(phi), index, rng)

    def _estimate(
        self, theta: Array, index: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        params, X = self.energy.constrain(theta), self.rows.X[index]
        if params.noise.max() > _LARGEST_NOISE:  # of scaled rows
            raise DivergedError
        shares = self.shares[index]
        values, ours = moments_of_rows(self.energy, params, X, shares, self.temperature)
        theirs, self.chains = moments_of_chains(self.energy, params, self._settled(theta, rng), rng)
        gradient = gradient_by_chains(self.energy, theta, params, ours, theirs)
        return values, self.coordinates.pull(gradient)

    def prior_gradient(self, phi: FloatArray) -> Array:
        """Return the gradient of the log prior density, (S, P)."""
        with np.errstate(all="ignore"):
            return self.coordinates.pull(self.energy.log_prior_at(self.coordinates.leave(phi))[1])

    def prior_precision(self) -> Array:
        """Return the precision of the normal approximation of the prior, (P,)."""
        return self.energy.prior_precision()

    def observe(self, phi: FloatArray) -> Array:
        """Return what needs no partition function, and ``Hmaxe_T`` if it is exact.

        The mean free energy, the log prior and the mean of a proper score, of some rows.
        """
        theta = self.coordinates.leave(phi)
        params = self.energy.constrain(theta)
        free = mean_free_energy(self.energy, params, self.scored, None)
        score = [
            self.energy.proper_score(params.take(slice(s, s + 1)), self.scored).mean()
            for s in range(len(theta))
        ]
        found = [free, np.array(score), self.energy.log_prior_at(theta)[0]]
        if self.is_exact:
            whole = self.rows.X, self.shares, self.temperature
            values, _ = moments_of_rows(self.energy, params, *whole)
            found.append(values - self.energy.log_partition(params))
        return np.stack(found, axis=1)


def machine_plan(settings: RBMSettings, total: float) -> LangevinPlan:
    """Return the plan of networks with the batches and steps of machines, for `total` rows.

    Persistent chains forget slowly, so that their noise has to be small: more rows and chains.
    """
    scale = total / settings.model_temperature
    plan = settings.plans.langevin(settings.batch_size, scale, settings.n_models)
    size = max(plan.batch_size, int(np.ceil(scale / _ROWS_FOR_ONE)))
    return replace(plan, batch_size=size, step=min(_STEP, 2 * plan.step), tunes_again=True)


def sample_around(
    settings: RBMSettings,
    energy: RBMEnergy,
    rows: Rows,
    start: RBMParameters,
    states: Array,
    rng: np.random.Generator,
    on_step: Callable[[int, float], bool],
) -> tuple[SamplingRun, RBMParameters]:
    """Sample machines of scaled rows around one of them.

    Parameters
    ----------
    settings : RBMSettings
    energy : RBMEnergy
        With a prior.
    rows : Rows
        Distinct ones.
    start : RBMParameters
    states : ndarray of shape (C, D)
        Of the start.
    rng : Generator
    on_step : callable
        As for :func:`~skbae.inference.sample._langevin.sample_langevin`.

    Returns
    -------
    run : SamplingRun
        Its ``hmaxe`` is the trace of ``Hmaxe_T`` where this is exact, and else lacks log Z.
    params : RBMParameters
        The kept machines, without log Z.
    """
    plan = machine_plan(settings, rows.total)
    few = min(_CHAIN_UNITS // (energy.n_components + energy.n_features), _MOST_CHAINS)
    n_chains = max(plan.batch_size, settings.n_chains, few)
    temperatures = settings.temperature, settings.model_temperature
    coordinates = energy.unconstrain(start)
    for attempt in range(_N_ATTEMPTS):
        target = MachineTarget(energy, rows, start, states, temperatures, n_chains, rng)
        theta = target.coordinates.enter(coordinates)[0]
        try:
            run = sample_langevin(target, theta, plan, rng, on_step=on_step)
            break
        except DivergedError:
            if attempt == _N_ATTEMPTS - 1:
                raise
            plan = replace(plan, step=plan.step / 2)
    if target.is_exact:
        assert run.witnesses is not None, "the target has them"
        run = replace(run, hmaxe=run.witnesses[:, :, -1])
    return run, energy.constrain(target.coordinates.leave(run.params))


def around_steps(settings: RBMSettings, total: float) -> int:
    """Return how many steps :func:`fit_around` reports: intervals of chains, then kept machines."""
    plan = machine_plan(settings, total)
    return plan.n_reports + settings.n_models


def fit_around(
    settings: RBMSettings,
    rows: Rows,
    best: Fit[MachineDetails],
    minutes: float,
    rng: np.random.Generator,
    on_step: Steps,
) -> Fit[MachineDetails]:
    """Sample machines around the best one.

    Parameters
    ----------
    settings : RBMSettings
    rows : Rows
        In units of X.
    best : Fit
        Of the best machine, which stays the reference.
    minutes : float
        How long tempering from the prior would take, infinite if it cannot be done.
    rng : Generator
    on_step : Steps
        The count of steps continues that of the fit.
    """
    details, before = best.details, fit_steps(settings, rows.X.shape[1])
    form, scaling = details.form, details.scaling
    reference = as_parameters(best.attributes["models_"])
    plain = make_energy(form, details.rates, chains=best.attributes.get("chains_"))
    n_states = machine_plan(settings, rows.total).batch_size
    states, _ = plain.draw(reference, max(n_states, _STATES), rng)
    scaled = merged_rows(scaling.enter(rows))
    prior = settings.prior(scaled, scaling.scale)
    energy = make_energy(form, rates_of(form, scaled), prior)
    run, params = sample_around(
        settings,
        energy,
        scaled,
        scaling.re_enter(reference),
        (states - scaling.centre) / scaling.scale,
        rng,
        lambda number, value: on_step(before + number, value),
    )
    draws = match_units(params, scaling.re_enter(reference), scaled, energy)
    done = count(before + machine_plan(settings, rows.total).n_reports + 1)
    objective = float(best.attributes["hmaxe_"])
    exact = settings.partition != "ais" and energy.n_enumerated() <= MAX_KEPT_UNITS
    kept = normalise_kept(
        plain,
        scaling.leave(draws),
        reference,
        states,
        rng,
        exact,
        lambda: on_step(next(done), objective),
    )
    values = hmaxe_by_model(plain, kept.params, rows, settings.temperature)
    if energy.n_enumerated() <= MAX_OBSERVED_UNITS:
        run = replace(run, hmaxe=run.hmaxe + scaling.shift_of_energies)
    else:
        run = replace(run, hmaxe=values[None])
    notes = run.notes
    if np.isfinite(minutes):
        notes = (*notes, _TOO_LONG.format(minutes))
    sampling = assess(replace(run, notes=notes, doubts=(*run.doubts, *kept.doubts)))
    warn_unless_ok(settings, sampling)
    attributes = {
        **best.attributes,
        "models_": as_models(kept.params, form.per_feature),
        "sampling_": with_wbic(settings, sampling, float(run.hmaxe.mean()), rows.total),
        "hmaxemax_": float("nan"),
        "hmaxemax_error_": float("nan"),
        "internal_energy_": float(run.hmaxe.mean()),
        "converged_": sampling.status == "ok",
        "n_iter_": sampling.n_sweeps,
    }
    return Fit(attributes, details)
