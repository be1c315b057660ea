"""``Hmaxe_T`` of a decoder as a function of its parameters, in double precision, for few rows.

Codes are found by a search for each row's mode and, at T > 0, drawn around it with the same random
numbers at each call; the gradient is Fisher's identity. At T close to zero steps follow the energy
of the best codes, from which ``Hmaxe_T`` differs by the order of T. Searches start from the codes
of the best decoder so far, so that no encoder is needed; one learns the codes afterwards
(:func:`encoder_objective`).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skbae.energies.vae._gradients import gradient_of_codes
from skbae.energies.vae._linear import NOISE_FLOOR
from skbae.energies.vae._network import Scratch
from skbae.energies.vae._parameters import VAEParameters, in_units_of
from skbae.energies.vae._posterior import (
    CodeModes,
    ModeSearch,
    WeightedCodes,
    better_modes,
    draw_codes,
    find_code_modes,
)
from skbae.energies.vae._training_step import encoder_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skbae._types import Array, FloatArray, Rows
    from skbae.energies.vae._energy import VAEEnergy

# The search for codes: its tolerance is times T, and in nats at T = 0.
_SEARCH = ModeSearch(30, 1e-8)
# Scaled rows are rounded to multiples of one over this, far less than the least noise.
_FINEST = 2.0**30
# Temperatures at which steps follow the best codes.
_NEARLY_ZERO = 0.01


class Found(NamedTuple):
    """The objective of a decoder, and the codes of its rows.

    Attributes
    ----------
    value : float
        ``Hmaxe_T`` of scaled rows; penalties are not in it.
    modes : CodeModes
    codes : WeightedCodes
    """

    value: float
    modes: CodeModes
    codes: WeightedCodes


class DecoderObjective:
    """``Hmaxe_T`` of rows less the penalty, and its gradient in the coordinates of training.

    Parameters
    ----------
    energy : VAEEnergy
        With training options.
    rows : Rows
        Distinct.
    temperature : float
    vector : ndarray of shape (P + Q,)
        Coordinates of a decoder and its encoder, from whose codes searches start.
    noise : ndarray of shape (L, d)
        Standard normal draws of codes; not used at T = 0.

    Attributes
    ----------
    start : ndarray of shape (P,)
        The decoder's coordinates.
    codes : ndarray of shape (n, d)
        From where the next search starts: those of the best decoder so far.
    """

    def __init__(
        self,
        energy: VAEEnergy,
        rows: Rows,
        temperature: float,
        vector: FloatArray,
        noise: Array,
    ) -> None:
        assert energy.training is not None, "a fit needs training options"
        self.energy, self.decoder, self.temperature = energy, energy.decoder, temperature
        self.noise, self.options = noise, energy.training
        # the last bits of scaled rows depend on the units of the columns, and steps amplify them
        self.inputs = _rounded(energy.frame.inputs(rows.X))
        self.targets = _rounded(energy.frame.targets(rows.X))
        weights = np.ones(len(rows.X)) if rows.weights is None else rows.weights
        self.shares, self.share = weights / rows.total, self.options.share(rows.total)
        size = self.decoder.n_parameters
        ones = VAEParameters(np.ones((1, size)), np.ones((1, energy.encoder.n_parameters)))
        unit = 1 / self.options.code_unit
        self.factors = in_units_of(self.decoder, energy.encoder, ones, unit).decoder[0]
        self.start = vector[:size].astype(np.float64)
        phi = energy.part(vector).encoder
        self.codes = encoder_output(energy.encoder, phi, self.inputs, Scratch()).mean[0].copy()
        self._best = -np.inf

    @contextmanager
    def penalised(self, factor: float) -> Iterator[None]:
        """Multiply the penalty by a factor meanwhile."""
        share = self.share
        self.share, self._best = factor * share, -np.inf
        try:
            yield
        finally:
            self.share, self._best = share, -np.inf

    @property
    def lower(self) -> Array:
        """Bounds of the coordinates, (P,): noise variances have a floor."""
        found = np.full(len(self.start), -np.inf)
        found[self.decoder.network.n_parameters :] = np.log(NOISE_FLOOR)
        return found

    def find(self, theta: Array, temperature: float, *others: Array) -> Found:
        """Return ``Hmaxe_T`` and codes; searches also start from `others`, codes (n, d)."""
        own = (theta * self.factors)[None]
        search = ModeSearch(_SEARCH.max_steps, _SEARCH.tol * (min(temperature, 1.0) or 1.0))
        modes = better_modes(
            find_code_modes(self.decoder, own, self.targets, each, search)
            for each in (self.codes, *others)
        )
        if temperature:
            spread = -0.5 * np.log(np.einsum("nii->ni", modes.precision))
            codes = draw_codes(
                self.decoder,
                own,
                self.targets,
                modes,
                (modes.codes, spread),
                self.noise,
                temperature,
            )
        else:
            ones, energy = np.ones((len(modes.codes), 1)), modes.energy
            # outputs are not needed
            codes = WeightedCodes(modes.codes[:, None], ones, energy[:, None], energy, ones)
        return Found(float(self.shares @ codes.hmax), modes, codes)

    def evaluate(self, theta: Array) -> tuple[float, Array]:
        """Return the objective at coordinates (P,), and its gradient."""
        temperature = self.temperature if self.temperature > _NEARLY_ZERO else 0.0
        with np.errstate(all="ignore"):  # steps that are too long end in numbers not finite
            try:
                found = self.find(theta, temperature)
            except np.linalg.LinAlgError:
                return -np.inf, np.zeros_like(theta)
            own, penalty = (theta * self.factors)[None], self.options.penalty
            gradient = gradient_of_codes(self.decoder, own, self.targets, self.shares, found.codes)
            gradient *= self.factors
            penalty.add_gradient(theta[None], np.float64(self.share), gradient)
            value = found.value + self.share * float(penalty.value(theta[None])[0])
        gradient = gradient[0]
        if self.options.tied_noise:
            of_noise = gradient[self.decoder.network.n_parameters :]
            of_noise[...] = of_noise.mean()
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return -np.inf, np.zeros_like(theta)
        if value > self._best:
            self._best, self.codes = value, found.modes.codes
        return value, gradient

    def scores(self, theta: Array, *others: Array) -> Array:
        """Return ``Hmax_T`` of rows, (n,), and keep their codes; `others` as for :meth:`find`."""
        with np.errstate(all="ignore"):
            found = self.find(theta, self.temperature, *others)
        self.codes = found.modes.codes
        return found.codes.hmax


def _rounded(scaled: Array) -> Array:
    return np.round(scaled * _FINEST) / _FINEST


def encoder_objective(
    objective: DecoderObjective, theta: Array
) -> Callable[[Array], tuple[float, Array]]:
    """Return the function by which an encoder learns the codes that a decoder's rows have.

    It is minus the energy that is lost where the encoder's mean is not the mode, to second order
    and in units of its mean; and minus the squared errors of log standard deviations.

    Parameters
    ----------
    objective : DecoderObjective
    theta : ndarray of shape (P,)
        The decoder's coordinates.

    Returns
    -------
    callable
        Of coordinates (Q,) of an encoder, in double precision.
    """
    network, unit = objective.energy.encoder, objective.options.code_unit
    found = objective.find(theta, 0.0)
    variances = np.einsum("nii->ni", np.linalg.inv(found.modes.precision))
    precision = found.modes.precision * unit**2
    # codes of order one in units of their spread, whatever their scale
    spread = np.maximum(found.modes.codes.var(axis=0), 1e-12).sum() / unit**2
    precision /= max(float(np.einsum("nii->n", precision).mean()), 1e-300) * spread
    targets, log_deviation = found.modes.codes / unit, 0.5 * np.log(variances)
    shares, inputs, scratch = objective.shares[:, None], objective.inputs, Scratch()
    use_deviations = float(objective.temperature > 0)

    def evaluate(phi: Array) -> tuple[float, Array]:
        own = phi[None]
        with np.errstate(all="ignore"):
            outputs = network.forward(network.layers(own), inputs[None], scratch)
            d = targets.shape[1]
            missed = targets - outputs[-1][0, :, :d]
            pull = np.matmul(precision, missed[:, :, None])[..., 0]
            off = use_deviations * (log_deviation - outputs[-1][0, :, d:])
            value = -0.5 * float((shares * (missed * pull + 0.01 * off**2)).sum())
            slope = (shares * np.concatenate([pull, 0.01 * off], axis=1))[None]
            gradient = np.zeros_like(own)
            network.backward(network.layers(own), outputs, slope, gradient, scratch, inputs=False)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return -np.inf, np.zeros_like(phi)
        return value, gradient[0]

    return evaluate
