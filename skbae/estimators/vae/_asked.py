"""What rows held out say of a fit: is a network better than a line, and how is it fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skbae.estimators.vae._fit import (
    ASKED_SHARE,
    first_parameters,
    fit_networks,
    landmarks_by_search,
    linear_parameters,
    refines,
    row_values,
)
from skbae.estimators.vae._refined import (
    Answer,
    answer_of_steps,
    with_best_noise,
)
from skbae.inference.optimise._early_stopping import hold_out

if TYPE_CHECKING:
    from skbae._types import Array, Rows
    from skbae.energies.vae._energy import VAEEnergy
    from skbae.energies.vae._parameters import VAEParameters
    from skbae.estimators.vae._settings import VAESettings
    from skbae.inference.optimise._minibatch import MinibatchResult
    from skbae.inference.passes._rows import RowRunner

# Factors of the penalty that are tried with alpha="auto", as long as they help.
_FACTORS = (1.0, 0.1, 0.01)
# A gain of rows held out counts if it is more than so many standard errors of its mean.
_CLEARLY = 2.0


def ask(
    settings: VAESettings,
    energy: VAEEnergy,
    rows: Rows,
    rng: np.random.Generator,
    runner: RowRunner,
) -> Answer | None:
    """Compare a network and the best linear decoder on rows held out.

    Both are fitted to the other rows, the network as in a fit; at T >= 1 and with alpha="auto" with
    weaker and weaker penalties, as long as these rows clearly gain. None if too few could be held
    out.
    """
    kept, held = hold_out(rows, ASKED_SHARE, rng)
    if held is None:
        return None
    temperature = settings.temperature
    shares = np.full(len(held.X), 1.0) if held.weights is None else held.weights
    shares = shares / held.total

    def values(own: VAEEnergy, params: VAEParameters, more: float = 0.0) -> Array:
        return row_values(own, _noisier(own, params, more), held, runner, temperature)

    linear = linear_parameters(settings, energy, kept, temperature)
    if temperature < 1:

        def on_held(own: VAEEnergy, params: VAEParameters) -> float:
            return with_best_noise(lambda more: float(shares @ values(own, params, more)))

        straight = on_held(energy, linear)
        start = first_parameters(settings, energy, kept, rng)
        found = _fitted(settings, energy, kept, start, rng)
        params = energy.part(found.theta)
        marks = landmarks_by_search(settings, energy, params, kept)
        curved = on_held(energy.with_landmarks(marks), params)
        if not refines(settings, energy, rows):
            return Answer(curved >= straight, found.theta)
        bent = first_parameters(settings, energy, kept, rng, nearly_linear=False)
        vectors = found.theta, energy.join(start), energy.join(bent)
        return answer_of_steps(settings, energy, (kept, held), vectors, straight, curved)
    line = values(energy, linear)
    best, best_values, factor, clearly = None, line, 1.0, False
    for each in _FACTORS if settings.chooses_alpha else (1.0,):
        own = energy.with_weaker_penalty(each)
        # gradients are small near a line, and many fits from there do not leave it
        start = first_parameters(settings, own, kept, rng, nearly_linear=each == 1)
        found = _fitted(settings, own, kept, start, rng)
        now = values(own, own.part(found.theta))
        if clearly:
            assert best is not None
            # a strong penalty may have folded it: two parts of a curve have the same code
            other = _fitted(settings, own, kept, own.part(best.theta), rng)
            other_values = values(own, own.part(other.theta))
            if not _clearly_above(now, other_values, shares, held.total):
                found, now = other, other_values
        if best is None or _clearly_above(now, best_values, shares, held.total):
            best, best_values, factor = found, now, each
            clearly = _clearly_above(best_values, line, shares, held.total)
        elif clearly:
            break
    assert best is not None  # there is a first
    curved = float(shares @ (best_values - line)) >= 0
    return Answer(curved, best.theta, factor=factor, clearly=clearly)


def _fitted(
    settings: VAESettings,
    energy: VAEEnergy,
    rows: Rows,
    start: VAEParameters,
    rng: np.random.Generator,
) -> MinibatchResult:
    return fit_networks(settings, energy, rows, start, rng, lambda number, value: False)[0]


def _clearly_above(values: Array, others: Array, shares: Array, total: float) -> bool:
    """Return whether the mean gain of rows is larger than its error allows for."""
    gain = values - others
    mean = float(shares @ gain)
    error = np.sqrt(float(shares @ (gain - mean) ** 2) / total)
    return mean > _CLEARLY * error


def _noisier(energy: VAEEnergy, params: VAEParameters, more: float) -> VAEParameters:
    """Return a model with noise variances of `exp(more)` times the size."""
    decoder = params.decoder.copy()
    decoder[:, energy.decoder.network.n_parameters :] += more
    return replace(params, decoder=decoder)
