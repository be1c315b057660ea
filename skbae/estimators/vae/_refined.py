"""What rows held out say of a network, and the quasi-Newton steps that they decide on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from skbae.energies.vae._landmarks import starts_among
from skbae.energies.vae._posterior import fixed_noise
from skbae.energies.vae._refinement import DecoderObjective, encoder_objective
from skbae.estimators.vae._fit import (
    LOOSE,
    N_REFINING,
    hmaxe_of,
    landmark_rows,
    most_refining_passes,
    refines,
    uses_landmarks,
)
from skbae.inference.optimise._early_stopping import BestModel
from skbae.inference.optimise._lbfgs import ascend_lbfgs

if TYPE_CHECKING:
    from collections.abc import Callable

    from skbae._types import Array, FloatArray, Rows
    from skbae.energies.vae._energy import VAEEnergy
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
    factor : float
        Of the penalty that suits these rows.
    clearly : bool
        Whether the network is better than the best linear decoder by more than chance would have
        it; known at T >= 1.
    """

    curved: bool
    other: FloatArray
    codes: Array | None = None
    enough: float = -np.inf
    slack: float = 0.0
    levelled_off: bool = False
    factor: float = 1.0
    clearly: bool = False


def answer_of_steps(
    settings: VAESettings,
    energy: VAEEnergy,
    rows: tuple[Rows, Rows],
    vectors: tuple[FloatArray, ...],
    straight: float,
    curved: float,
) -> Answer:
    """Make quasi-Newton steps on the rows kept and say what those held out tell of them.

    Parameters
    ----------
    settings : VAESettings
    energy : VAEEnergy
    rows : tuple of Rows
        Kept and held out.
    vectors : tuple of ndarrays of shape (P + Q,)
        Coordinates of the network after passes over the rows kept, from which steps start; and of
        others from which they start if that is nearly linear.
    straight, curved : float
        Scores of the rows held out, by the best linear decoder and by the network.
    """
    vector, *others = vectors
    if curved >= straight + _HARDLY_CURVED:
        others = []
    steps = _scores_of_steps(settings, energy, *rows, vector, others)
    best = np.maximum.accumulate(steps.scores)
    slack = settings.tol + _SMALL_SHARE * max(best[-1] + energy.frame.log_volume - straight, 0.0)
    last = max(_LAST_SCORES, int(_LAST_SHARE * (len(best) - 1)))
    levelled_off = steps.ended or (len(best) > 2 * last and best[-1] - best[-1 - last] <= slack)
    curved = max(curved, steps.best + energy.frame.log_volume)
    vector = np.concatenate([steps.theta, vector[len(steps.theta) :]])
    return Answer(
        curved >= straight,
        vector,
        codes=steps.codes,
        enough=steps.enough,
        slack=slack,
        levelled_off=bool(levelled_off),
    )


def with_best_noise(score: Callable[[float], float]) -> float:
    """Return the best of the scores at larger and larger noise variances, for use below T = 1.

    There noise is as small as the errors of the rows fitted to, and the few rows whose errors are
    larger would outweigh all others: a curve that halves the errors of most rows would be worse
    than a line. With a noise that fits the errors of the rows held out, the smaller ones are
    better. At T >= 1 scores are log densities, which have to be right as they are.

    Parameters
    ----------
    score : callable
        Of a term added to the logarithms of the variances.
    """
    best = score(0.0)
    for more in _MORE_NOISE:
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
    others: list[FloatArray],
) -> HeldOutSteps:
    """Make steps on the kept rows, and score the rows held out.

    Of a nearly linear network, the first steps have a weak penalty and start from `others`.
    """
    ours, theirs = (_objective(settings, energy, each, vector) for each in (kept, held))
    nearest = cdist(theirs.inputs, ours.inputs).argmin(axis=1)
    some = landmark_rows(kept.X)
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
    if others:
        n_first = min(max(int(_LOOSE_STEPS * n_steps), _LEAST_LOOSE), n_steps)
        start, ours.codes = _loosened(settings, energy, kept, others, n_first)
    ascend_lbfgs(ours.evaluate, start, n_steps, ours.lower, on_step)
    theta = best.theta
    assert theta is not None  # there is a first score
    size = energy.decoder.network.n_parameters

    def score(more: float) -> float:
        noisier = np.r_[theta[:size], theta[size:] + more]
        values = theirs.scores(
            noisier, theirs.codes, ours.codes[nearest], *_starts(theirs, theta, codes)
        )
        return float(theirs.shares @ values)

    value = with_best_noise(score)
    # steps that end by themselves find nothing better
    return HeldOutSteps(np.array(scores), theta, codes, value, enough, ended or made < n_steps)


def _loosened(
    settings: VAESettings,
    energy: VAEEnergy,
    rows: Rows,
    vectors: list[FloatArray],
    n_steps: int,
) -> tuple[Array, Array]:
    """Return coordinates and codes after steps with a weak penalty.

    A strong one would hold a network at a line. Steps follow the objective, and the energy of the
    best codes, with weaker and weaker penalties, until one leads away from the line.
    """
    at_line, _ = (judge := _objective(settings, energy, rows, vectors[0])).evaluate(judge.start)
    best, found = -np.inf, (judge.start, judge.codes)
    for vector, factor in product(vectors, (LOOSE, LOOSE**2)):
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


def _starts(objective: DecoderObjective, theta: Array, codes: Array) -> list[Array]:
    """Return for each row some of the codes (K, d), from which to search for its own."""
    own = (theta * objective.factors)[None]
    return starts_among(objective.decoder, own, objective.targets, codes)


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
) -> tuple[MinibatchResult, dict[str, Any], Array | None]:
    """Make quasi-Newton steps until the objective is what rows held out found to be enough.

    Then train the encoder. None are made if the rows held out have found the linear decoder better.

    The model with the highest ``Hmaxe_T`` is kept: without the steps, or after them.

    Returns
    -------
    found : MinibatchResult
    changed : dict
        Fitted attributes on the progress of the fit.
    landmarks : ndarray of shape (K, d) or None
        Codes of some rows, if there were steps.
    """
    if found.stopped or not refines(settings, energy, rows):
        return found, {}, None
    if not answer.curved:
        # the result is the best linear decoder, which no more passes would improve
        if answer.levelled_off:
            found = replace(found, converged=True, warning="")
        return found, {}, None
    before, volume, made = len(found.objectives), energy.frame.log_volume, 0
    objectives, vector, stopped = [*found.objectives], found.theta, False
    own = _objective(settings, energy, rows, vector)
    at_start, _ = own.evaluate(own.start)
    value, exhausted, start = at_start, False, own.start
    marks = _landmarks(settings, own)
    reached: Array | None = None
    other = _objective(settings, energy, rows, answer.other)
    if answer.codes is not None:
        other.scores(other.start, *_starts(other, other.start, answer.codes))
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
        reader = (answer.other if own is other else vector)[len(reached) :].astype(np.float64)
        learned = _learned(own, reached, reader)
        candidates = [
            (vector, marks),
            (np.concatenate([reached, learned]).astype(np.float32), _landmarks(settings, own)),
        ]
        values = [
            hmaxe_of(
                energy.with_landmarks(codes),
                energy.part(each),
                rows,
                runner,
                settings.temperature,
            )
            for each, codes in candidates
        ]
        best = int(np.argmax(values))
        vector, marks = candidates[best]
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
    return found, {"loss_curve_": losses, "n_iter_": len(objectives)}, marks


def _landmarks(settings: VAESettings, objective: DecoderObjective) -> Array | None:
    if not uses_landmarks(settings):
        return None
    return objective.codes[landmark_rows(objective.targets)].copy()
