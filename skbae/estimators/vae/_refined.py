"""What rows held out say of a network, and the quasi-Newton steps that they decide on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.distance import cdist

from skbae.energies.vae._posterior import fixed_noise
from skbae.energies.vae._refinement import DecoderObjective, encoder_objective
from skbae.estimators.vae._fit import (
    ASKED_SHARE,
    N_REFINING,
    first_parameters,
    fit_networks,
    hmaxe_of,
    linear_parameters,
    most_refining_passes,
    refines,
)
from skbae.inference.optimise._early_stopping import BestModel, hold_out
from skbae.inference.optimise._lbfgs import ascend_lbfgs

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array, FloatArray, Rows
    from skbae.energies.vae._energy import VAEEnergy
    from skbae.estimators.vae._settings import VAESettings
    from skbae.inference.optimise._minibatch import MinibatchResult
    from skbae.inference.passes._rows import RowRunner

# So many steps count as a pass. Rows held out are scored after each, and steps end after so many
# scores without a best.
_A_PASS, _PATIENCE = 5, 8
# Share of the rows held out, those of the lowest scores, that do not count: where noise is small, a
# row whose code was not found would outweigh all others.
_NOT_FOUND = 0.1
# A fit has levelled off if in this last share of its steps the best score rose by less than this
# share of what a network gains over the linear decoder.
_LAST_SHARE, _SMALL_SHARE = 0.25, 0.05
# Steps by which an encoder learns the codes of a refined decoder.
_ENCODER_STEPS = 200
_STILL_GAIN = (
    "the objective, and that of rows held out, still improved after max_iter={} passes; increase "
    "max_iter or learning_rate_init"
)


@dataclass(frozen=True)
class Answer:
    """What rows held out say of a fit to the others.

    Attributes
    ----------
    curved : bool
        Whether the network is at least as good as the best linear decoder.
    enough : float
        The objective on the other rows after the quasi-Newton steps that make it the best; minus
        infinity if none do, or none are made.
    slack : float
        Nats by which a fit to all rows may miss it and has levelled off.
    levelled_off : bool
        Whether more passes and steps would not make it better.
    """

    curved: bool
    enough: float = -np.inf
    slack: float = 0.0
    levelled_off: bool = False


def ask(
    settings: VAESettings,
    energy: VAEEnergy,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
) -> Answer | None:
    """Compare a network and the best linear decoder on rows held out.

    Both are fitted to the other rows, the network as in a fit. None if too few could be held out.
    """
    kept, held = hold_out(rows, ASKED_SHARE, rng)
    if held is None:
        return None
    start = first_parameters(settings, energy, kept, rng)
    found, _, _ = fit_networks(settings, energy, kept, start, rng, lambda number, value: False)
    temperature = settings.temperature
    linear = linear_parameters(settings, energy, kept, temperature)
    straight = hmaxe_of(energy, linear, held, runner, temperature)
    curved = hmaxe_of(energy, energy.part(found.theta), held, runner, temperature)
    if not refines(settings, energy, rows):
        return Answer(curved >= straight)
    scores, enough, ended = _scores_of_steps(settings, energy, kept, held, found.theta)
    best = np.maximum.accumulate(scores) + energy.frame.log_volume
    slack = settings.tol + _SMALL_SHARE * max(best[-1] - straight, 0.0)
    last = max(_PATIENCE, int(_LAST_SHARE * (len(best) - 1)))
    levelled_off = ended or (len(best) > 2 * last and best[-1] - best[-1 - last] <= slack)
    return Answer(curved >= straight, enough, slack, bool(levelled_off))


def _scores_of_steps(
    settings: VAESettings, energy: VAEEnergy, kept: Rows, held: Rows, vector: FloatArray
) -> tuple[Array, float, bool]:
    """Return scores of the rows held out, the first that of no steps.

    With the objective on the kept rows at the best of them, minus infinity if that is the first,
    and whether there was no better one for long.
    """
    ours, theirs = (_objective(settings, energy, each, vector) for each in (kept, held))
    nearest = cdist(theirs.inputs, ours.inputs).argmin(axis=1)
    scores = [_score(theirs.scores(ours.start))]
    best = BestModel(_PATIENCE, settings.tol)
    best.update(ours.start, scores[0])
    enough, ended, made = -np.inf, False, 0

    def on_step(number: int, theta: Array, value: float) -> bool:
        nonlocal enough, ended, made
        made = number
        if number % _A_PASS:
            return False
        scores.append(_score(theirs.scores(theta, ours.codes[nearest])))
        if scores[-1] > best.score:
            enough = value
        ended = best.update(theta, scores[-1])
        return ended

    n_steps = _A_PASS * most_refining_passes(settings)
    ascend_lbfgs(ours.evaluate, ours.start, n_steps, ours.lower, on_step)
    # steps that end by themselves find nothing better
    return np.array(scores), enough, ended or made < n_steps


def _score(values: Array) -> float:
    """Return the mean over rows without those of the lowest scores."""
    return float(np.sort(values)[int(_NOT_FOUND * len(values)) :].mean())


def _objective(
    settings: VAESettings, energy: VAEEnergy, rows: Rows, vector: FloatArray
) -> DecoderObjective:
    noise = fixed_noise(N_REFINING, settings.n_components, 0)[0]
    return DecoderObjective(energy, rows, settings.temperature, vector, noise)


def _learned(objective: DecoderObjective, theta: Array, phi: Array) -> Array:
    """Return the coordinates of an encoder that has learned the codes of a decoder."""
    last = phi

    def on_step(number: int, at: Array, value: float) -> bool:
        nonlocal last
        last = at.copy()
        return False

    function, unbounded = encoder_objective(objective, theta), np.full(len(phi), -np.inf)
    ascend_lbfgs(function, phi, _ENCODER_STEPS, unbounded, on_step)
    return last


def refined(
    settings: VAESettings,
    energy: VAEEnergy,
    rows: Rows,
    found: MinibatchResult,
    answer: Answer,
    runner: RowRunner,
    on_step: Callable[[int, float], bool],
) -> tuple[MinibatchResult, dict[str, Any]]:
    """Make quasi-Newton steps until the objective is what rows held out found to be enough.

    Then train the encoder.

    The model with the highest ``Hmaxe_T`` is kept: without the steps, or after them with the former
    or the trained encoder.

    Returns
    -------
    found : MinibatchResult
    changed : dict
        Fitted attributes on the progress of the fit.
    """
    if not refines(settings, energy, rows) or found.stopped:
        return found, {}
    before, volume, made = len(found.objectives), energy.frame.log_volume, 0
    objectives, vector, stopped = [*found.objectives], found.theta, False
    reached: Array | None = None
    value, exhausted = np.inf, False
    if np.isfinite(answer.enough) and answer.curved:
        own = _objective(settings, energy, rows, vector)
        at_start, _ = own.evaluate(own.start)
        value = at_start

        def report(number: int, theta: Array, at: float) -> bool:
            nonlocal reached, stopped, value, made
            reached, value, made = theta.copy(), at, made + 1
            if made % _A_PASS == 0:
                objectives.append(value + volume)
                stopped = bool(on_step(before + made // _A_PASS, value + volume))
            return stopped or value >= answer.enough

        n_steps = _A_PASS * most_refining_passes(settings)
        while value < answer.enough and made < n_steps and not stopped:
            start, last = own.start if reached is None else reached, made
            ascend_lbfgs(own.evaluate, start, n_steps - made, own.lower, report)
            # where codes change from one mode to another steps end early, and may begin anew
            exhausted = made - last < _A_PASS and made < n_steps
            if exhausted:
                break
        if reached is not None:
            phi = vector[len(reached) :].astype(np.float64)
            learned = _learned(own, reached, phi)
            candidates = [
                vector,
                *(np.concatenate([reached, each]).astype(np.float32) for each in (phi, learned)),
            ]
            values = [
                hmaxe_of(energy, energy.part(each), rows, runner, settings.temperature)
                for each in candidates
            ]
            best = int(np.argmax(values))
            vector = candidates[best]
            if best == 0:
                value, exhausted = at_start, False
    converged = found.converged
    if answer.curved:
        there = value >= answer.enough - answer.slack
        converged = answer.levelled_off and (there or exhausted)
    warning = "" if converged or stopped else _STILL_GAIN.format(settings.max_iter)
    found = replace(
        found,
        theta=vector,
        objectives=objectives,
        converged=converged,
        stopped=stopped,
        warning=warning,
    )
    losses = [-value for value in objectives if value is not None]
    return found, {"loss_curve_": losses, "n_iter_": len(objectives)}
