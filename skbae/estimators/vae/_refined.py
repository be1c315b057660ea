"""What rows held out say of a network, and the quasi-Newton steps that they decide on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from skbae.energies.vae._posterior import best_of_codes, fixed_noise
from skbae.energies.vae._refinement import DecoderObjective, encoder_objective
from skbae.estimators.vae._fit import (
    ASKED_SHARE,
    LOOSE,
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
    from skbae.energies.vae._parameters import VAEParameters
    from skbae.estimators.vae._settings import VAESettings
    from skbae.inference.optimise._minibatch import MinibatchResult
    from skbae.inference.passes._rows import RowRunner

# So many steps count as a pass. Rows held out are scored after each, and steps end after so many
# scores without a best: the first steps may gain nothing for long.
_A_PASS, _PATIENCE = 5, 24
# Share of the rows held out, those of the lowest scores, that do not count: where noise is small, a
# row whose code was not found would outweigh all others.
_NOT_FOUND = 0.1
# A network that is not better than the line by so many nats a row is still linear; then this share
# of the steps, but not fewer than some, is made with a weak penalty first.
_HARDLY_CURVED, _LOOSE_STEPS, _LEAST_LOOSE = 0.1, 0.2, 100
# By how many nats a row the objective then exceeds the first one of a nearly linear network.
_FAR_FROM_LINE = 0.5
# Terms added to logarithms of noise variances where those that suit the rows held out are sought.
_MORE_NOISE = tuple(np.log(2.0) * np.arange(1, 21))
# Number of rows whose codes are starts of searches.
_LANDMARKS = 64
# A fit has levelled off if in this last share of its steps, and in so many scores, the best score
# rose by less than this share of what a network gains over the linear decoder.
_LAST_SHARE, _LAST_SCORES, _SMALL_SHARE = 0.25, 8, 0.05
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
    other : ndarray of shape (P + Q,)
        Coordinates of the network that was best on the rows held out.
    codes : ndarray of shape (K, d) or None
        Codes of some of the other rows under it, if quasi-Newton steps were made.
    enough : float
        The objective on the other rows after the quasi-Newton steps that make it the best; minus
        infinity if none do, or none are made.
    slack : float
        Nats by which a fit to all rows may miss it and has levelled off.
    levelled_off : bool
        Whether more passes and steps would not make it better.
    """

    curved: bool
    other: FloatArray
    codes: Array | None = None
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

    def on_held(params: VAEParameters) -> float:
        return _with_best_noise(
            lambda more: hmaxe_of(
                energy, _noisier(energy, params, more), held, runner, temperature
            ),
            temperature,
        )

    straight, curved = on_held(linear), on_held(energy.part(found.theta))
    if not refines(settings, energy, rows):
        return Answer(curved >= straight, found.theta)
    stuck = curved < straight + _HARDLY_CURVED
    vector = energy.join(start) if stuck else found.theta
    steps = _scores_of_steps(settings, energy, kept, held, vector, stuck)
    best = np.maximum.accumulate(steps.scores)
    slack = settings.tol + _SMALL_SHARE * max(best[-1] + energy.frame.log_volume - straight, 0.0)
    last = max(_LAST_SCORES, int(_LAST_SHARE * (len(best) - 1)))
    levelled_off = steps.ended or (len(best) > 2 * last and best[-1] - best[-1 - last] <= slack)
    curved = max(curved, steps.best + energy.frame.log_volume)
    vector = np.concatenate([steps.theta, vector[len(steps.theta) :]])
    return Answer(curved >= straight, vector, steps.codes, steps.enough, slack, bool(levelled_off))


def _noisier(energy: VAEEnergy, params: VAEParameters, more: float) -> VAEParameters:
    """Return a model with noise variances of `exp(more)` times the size."""
    decoder = params.decoder.copy()
    decoder[:, energy.decoder.network.n_parameters :] += more
    return replace(params, decoder=decoder)


def _with_best_noise(score: Callable[[float], float], temperature: float) -> float:
    """Return the best of the scores at larger and larger noise variances, if below T = 1.

    There noise is as small as the errors of the rows fitted to, and the few rows whose errors are
    larger would outweigh all others: a curve that halves the errors of most rows would be worse
    than a line. With a noise that fits the errors of the rows held out, the smaller ones are
    better. At T >= 1 scores are log densities, which have to be right as they are.

    Parameters
    ----------
    score : callable
        Of a term added to the logarithms of the variances.
    temperature : float
    """
    best = score(0.0)
    for more in _MORE_NOISE if temperature < 1 else ():
        value = score(more)
        if value <= best:
            break
        best = value
    return best


class HeldOutSteps(NamedTuple):
    """What rows held out say of quasi-Newton steps.

    Attributes
    ----------
    scores : ndarray
        Scores of these rows, the first that of no steps.
    theta : ndarray of shape (P,)
        The decoder's coordinates where the score was best.
    codes : ndarray of shape (K, d)
        Codes of some of the other rows there.
    best : float
        The score of all rows held out there, with the noise that is best for them.
    enough : float
        The objective on the other rows there, minus infinity if no step was better than none.
    ended : bool
        Whether there was no better one for long.
    """

    scores: Array
    theta: Array
    codes: Array
    best: float
    enough: float
    ended: bool


def _scores_of_steps(
    settings: VAESettings,
    energy: VAEEnergy,
    kept: Rows,
    held: Rows,
    vector: FloatArray,
    stuck: bool,
) -> HeldOutSteps:
    """Make steps on the kept rows, and score the rows held out.

    If passes were `stuck` at a linear network, the first steps have a weak penalty.
    """
    ours, theirs = (_objective(settings, energy, each, vector) for each in (kept, held))
    nearest = cdist(theirs.inputs, ours.inputs).argmin(axis=1)
    some = np.linspace(0, len(kept.X) - 1, min(_LANDMARKS, len(kept.X))).round().astype(np.intp)
    scores = [_score(theirs.scores(ours.start, ours.codes[nearest]))]
    best, codes = BestModel(_PATIENCE, settings.tol), ours.codes[some]
    best.update(ours.start, scores[0])
    enough, ended, made = -np.inf, False, 0

    def on_step(number: int, theta: Array, value: float) -> bool:
        nonlocal enough, ended, made, codes
        made = number
        if number % _A_PASS:
            return False
        scores.append(_score(theirs.scores(theta, ours.codes[nearest])))
        if scores[-1] > best.score:
            enough, codes = value, ours.codes[some]
        ended = best.update(theta, scores[-1])
        return ended

    n_steps = _A_PASS * most_refining_passes(settings)
    start = ours.start
    if stuck:
        n_first = min(max(int(_LOOSE_STEPS * n_steps), _LEAST_LOOSE), n_steps)
        start, ours.codes = _loosened(settings, energy, kept, vector, n_first)
    ascend_lbfgs(ours.evaluate, start, n_steps, ours.lower, on_step)
    theta = best.theta
    assert theta is not None  # there is a first score
    size = energy.decoder.network.n_parameters

    def score(more: float) -> float:
        noisier = np.r_[theta[:size], theta[size:] + more]
        values = theirs.scores(
            noisier, theirs.codes, ours.codes[nearest], _best(theirs, theta, codes)
        )
        return float(theirs.shares @ values)

    value = _with_best_noise(score, settings.temperature)
    # steps that end by themselves find nothing better
    return HeldOutSteps(np.array(scores), theta, codes, value, enough, ended or made < n_steps)


def _loosened(
    settings: VAESettings, energy: VAEEnergy, rows: Rows, vector: FloatArray, n_steps: int
) -> tuple[Array, Array]:
    """Return coordinates and codes after steps with a weak penalty.

    A strong one would hold a network at a line. Steps follow the objective, and the energy of the
    best codes, with weaker and weaker penalties, until one leads away from the line.
    """
    at_line, _ = (judge := _objective(settings, energy, rows, vector)).evaluate(judge.start)
    best, found = -np.inf, (judge.start, judge.codes)
    for factor in (LOOSE, LOOSE**2):
        for temperature in sorted({settings.temperature, 0.0}, reverse=True):
            own = replace(settings, temperature=temperature)
            objective = _objective(own, energy, rows, vector)
            with objective.penalised(factor):
                last = _after_steps(objective.evaluate, objective.start, n_steps, objective.lower)
            judge.codes = objective.codes
            value, _ = judge.evaluate(last)
            if value > best:
                best, found = value, (last, objective.codes)
        if best > at_line + _FAR_FROM_LINE:
            break
    return found


def _best(objective: DecoderObjective, theta: Array, codes: Array) -> Array:
    """Return for each row the best of some codes (K, d)."""
    own = (theta * objective.factors)[None]
    return best_of_codes(objective.decoder, own, objective.targets, codes)


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
    function, unbounded = encoder_objective(objective, theta), np.full(len(phi), -np.inf)
    return _after_steps(function, phi, _ENCODER_STEPS, unbounded)


def _after_steps(
    function: Callable[[Array], tuple[float, Array]], start: Array, n_steps: int, lower: Array
) -> Array:
    """Return the coordinates after quasi-Newton steps."""
    last = start

    def on_step(number: int, at: Array, value: float) -> bool:
        nonlocal last
        last = at.copy()
        return False

    ascend_lbfgs(function, start, n_steps, lower, on_step)
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
    if found.stopped or not answer.curved or not refines(settings, energy, rows):
        return found, {}
    before, volume, made = len(found.objectives), energy.frame.log_volume, 0
    objectives, vector, stopped = [*found.objectives], found.theta, False
    own = _objective(settings, energy, rows, vector)
    at_start, _ = own.evaluate(own.start)
    value, exhausted, start = at_start, False, own.start
    reached: Array | None = None
    other = _objective(settings, energy, rows, answer.other)
    if answer.codes is not None:
        other.codes = _best(other, other.start, answer.codes)
    at_other, _ = other.evaluate(other.start)
    if at_other > at_start + settings.tol:
        own, value, start = other, at_other, other.start
        reached = start.copy()

    def report(number: int, theta: Array, at: float) -> bool:
        nonlocal reached, stopped, value, made
        reached, value, made = theta.copy(), at, made + 1
        if made % _A_PASS == 0:
            objectives.append(value + volume)
            stopped = bool(on_step(before + made // _A_PASS, value + volume))
        return stopped or value >= answer.enough

    n_steps = _A_PASS * most_refining_passes(settings)
    while value < answer.enough and made < n_steps and not stopped:
        last = made
        ascend_lbfgs(
            own.evaluate, start if reached is None else reached, n_steps - made, own.lower, report
        )
        # where codes change from one mode to another steps end early, and may begin anew
        exhausted = made - last < _A_PASS and made < n_steps
        if exhausted:
            break
    if reached is not None:
        readers = [each[len(reached) :].astype(np.float64) for each in (vector, answer.other)]
        readers = [readers[own is other], _learned(own, reached, readers[own is other])]
        candidates = [
            vector,
            *(np.concatenate([reached, each]).astype(np.float32) for each in readers),
        ]
        values = [
            hmaxe_of(energy, energy.part(each), rows, runner, settings.temperature)
            for each in candidates
        ]
        best = int(np.argmax(values))
        vector = candidates[best]
        if best == 0:
            value, exhausted = at_start, False
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
