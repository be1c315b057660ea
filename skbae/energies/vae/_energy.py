r"""The network autoencoder's energy, ``H(x, m, z) = log p(x | net_m(z)) - |z|^2 / 2``.

Computation takes place in a frame of its own: rows are centred and, where they are real numbers,
divided by one common scale, so that weights of ordinary size fit data in any units.
:class:`RowFrame` goes to and fro between that frame and the units of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies._base import BoundEnergy, Energy, chunk_rows
from skbae.energies.vae._decoder import Decoder
from skbae.energies.vae._network import Network, Scratch
from skbae.energies.vae._posterior import WeightedCodes, climb, draw_codes
from skbae.energies.vae._training_step import encoder_guess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


# At most so many steps to the mode, and the promise (in nats) below which they end: draws only need
# a good centre, a maximum has to be exact.
_SOFT_CLIMB = 30, 1e-3
_HARD_CLIMB = 200, 1e-13


@dataclass(frozen=True)
class VAEParameters(ArrayRecord):
    """S decoders, and the encoders that propose codes for them, in the frame of computation.

    Attributes
    ----------
    decoder : ndarray of shape (S, P)
        Weights, then the logarithm of the noise variance if there is one.
    encoder : ndarray of shape (S, Q)
        A means to find codes, no part of the model.
    """

    decoder: Array
    encoder: Array


@dataclass(frozen=True)
class VAEModels:
    """S models, layer by layer, in the units of the data: what users see.

    Attributes
    ----------
    decoder_coefs, encoder_coefs : list of ndarrays of shape (S, in, out)
    decoder_intercepts, encoder_intercepts : list of ndarrays of shape (S, out)
    noise_variance : ndarray of shape (S,)
        NaN for likelihoods without noise.
    """

    decoder_coefs: list[Array]
    decoder_intercepts: list[Array]
    encoder_coefs: list[Array]
    encoder_intercepts: list[Array]
    noise_variance: Array

    @property
    def n_models(self) -> int:
        """S."""
        return len(self.noise_variance)


@dataclass(frozen=True)
class RowFrame:
    """Where rows are and how far they spread.

    Attributes
    ----------
    centre : ndarray of shape (D,)
    scale : float
        Common to all features, so that noise that is equal stays so.
    scaled : bool
        Whether the decoder's rows are centred and scaled too, or only what the encoder sees.
    """

    centre: Array
    scale: float
    scaled: bool

    def inputs(self, X: NDArray[Any]) -> Array:
        """Return what the encoder sees."""
        return (X - self.centre) / self.scale

    def targets(self, X: NDArray[Any]) -> Array:
        """Return what the decoder explains."""
        return self.inputs(X) if self.scaled else np.asarray(X, np.float64)

    @property
    def unit(self) -> float:
        """Units of the data in one of the decoder's."""
        return self.scale if self.scaled else 1.0

    @property
    def log_volume(self) -> float:
        """What to add to a log density in the frame."""
        return -len(self.centre) * float(np.log(self.unit))

    def restore(self, rows: Array) -> Array:
        """Return rows in the units of the data."""
        return self.centre + self.scale * rows if self.scaled else rows

    def to_layers(self, decoder: Decoder, encoder: Network, params: VAEParameters) -> VAEModels:
        """Return the networks in the units of the data."""
        layers, extra = decoder.split(params.decoder)
        weights = [matrix.copy() for matrix, _ in layers]
        intercepts = [intercept[:, 0].copy() for _, intercept in layers]
        if self.scaled:
            weights[-1] *= self.scale
            intercepts[-1] = self.centre + self.scale * intercepts[-1]
        reading = encoder.layers(params.encoder)
        encoder_weights = [matrix.copy() for matrix, _ in reading]
        encoder_weights[0] /= self.scale
        encoder_intercepts = [intercept[:, 0].copy() for _, intercept in reading]
        encoder_intercepts[0] -= np.matmul(self.centre, encoder_weights[0])
        noise = np.full(len(params.decoder), np.nan)
        if decoder.rows.n_extra:
            noise = np.exp(extra[:, 0]) * self.unit**2
        return VAEModels(weights, intercepts, encoder_weights, encoder_intercepts, noise)

    def from_layers(self, decoder: Decoder, encoder: Network, layered: VAEModels) -> VAEParameters:
        """Undo :meth:`to_layers`."""
        weights = [np.array(matrix, np.float64) for matrix in layered.decoder_coefs]
        intercepts = [np.array(each, np.float64) for each in layered.decoder_intercepts]
        if self.scaled:
            weights[-1] /= self.scale
            intercepts[-1] = (intercepts[-1] - self.centre) / self.scale
        theta = decoder.network.flatten(weights, intercepts)
        if decoder.rows.n_extra:
            log_noise = np.log(layered.noise_variance / self.unit**2)
            theta = np.concatenate([theta, log_noise[:, None]], axis=1)
        reading = [np.array(matrix, np.float64) for matrix in layered.encoder_coefs]
        at = [np.array(each, np.float64) for each in layered.encoder_intercepts]
        at[0] += np.matmul(self.centre, reading[0])
        reading[0] *= self.scale
        return VAEParameters(theta, encoder.flatten(reading, at))


class BoundVAE(BoundEnergy):
    """Decoders with their parameters filled in."""

    def __init__(self, energy: VAEEnergy, params: VAEParameters) -> None:
        self.energy, self.params = energy, params
        sizes = energy.decoder.network.sizes
        a_draw = 3 * sizes[0] + sum(sizes[1:]) + sizes[-1]
        self.chunk_rows = chunk_rows(energy.noise.shape[1] * a_draw)

    def codes(self, X: NDArray[Any], temperature: float, model: int) -> WeightedCodes:
        """Return weighted codes of rows under one model; at T = 0 the best one alone.

        Energies are those in the frame of computation: ``log_volume`` is to be added.
        """
        energy = self.energy
        inputs, targets = energy.frame.inputs(X), energy.frame.targets(X)
        theta = self.params.decoder[model : model + 1]
        phi = self.params.encoder[model : model + 1]
        _, mean, log_deviation = encoder_guess(energy.encoder, phi, inputs, Scratch())
        n_steps, arrived = _SOFT_CLIMB if temperature else _HARD_CLIMB
        arrived *= min(temperature, 1.0) or 1.0
        # an encoder that is lost far out, where networks are flat, is no start
        start = np.clip(mean[0], -10, 10)
        found = climb(energy.decoder, theta, targets, start, n_steps, arrived)
        if temperature:
            guess = mean[0], log_deviation[0]
            noise = energy.noise[model % len(energy.noise)]
            return draw_codes(energy.decoder, theta, targets, found, guess, noise, temperature)
        layers, _ = energy.decoder.split(theta)
        outputs = energy.decoder.network.forward(layers, found.codes[None], Scratch())[-1][0]
        ones = np.ones((len(X), 1))
        value = found.energy
        return WeightedCodes(found.codes[:, None], ones, value[:, None], value, outputs[:, None])

    def hmax(self, X, temperature):
        return self.hmax_and_error(X, temperature)[0]

    def hmax_and_error(self, X: NDArray[Any], temperature: float) -> tuple[Array, Array]:
        """Return ``Hmax_T`` and the relative variance of what it is T times the logarithm of.

        Both (S, n). The variance is ``1 / ESS - 1 / L`` with the effective number of the L draws.
        """
        values = np.empty((self.params.n_models, len(X)))
        errors = np.empty_like(values)
        for model in range(len(values)):
            codes = self.codes(X, temperature, model)
            values[model] = codes.hmax + self.energy.frame.log_volume
            errors[model] = 1 / codes.effective - 1 / codes.weights.shape[1]
        return values, np.maximum(errors, 0.0)

    def hmax_gradient(self, X, temperature):
        energy = self.energy
        targets, likelihood = energy.frame.targets(X), energy.decoder.rows
        values = np.empty((self.params.n_models, len(X)))
        gradients = np.empty((len(values), *X.shape))
        for model in range(len(values)):
            codes = self.codes(X, temperature, model)
            values[model] = codes.hmax + energy.frame.log_volume
            _, extra = energy.decoder.split(self.params.decoder[model : model + 1])
            expected = np.matmul(codes.weights[:, None], codes.outputs)[None, None, :, 0]
            slope = likelihood.row_gradient(targets, expected, extra)
            gradients[model] = slope[0, 0] / energy.frame.unit
        return values, gradients


class VAEEnergy(Energy):
    """Autoencoders with networks for decoder and encoder.

    Parameters
    ----------
    decoder : Decoder
    encoder : Network
        From rows to the means and the logarithms of the deviations of a normal distribution.
    frame : RowFrame
    noise : ndarray of shape (B, L, d)
        Blocks of standard normal draws, shared by all rows, by which integrals over codes are
        estimated; models take them in turn.
    """

    def __init__(self, decoder: Decoder, encoder: Network, frame: RowFrame, noise: Array) -> None:
        self.decoder, self.encoder, self.frame, self.noise = decoder, encoder, frame, noise
        self.n_features = len(frame.centre)

    def bind(self, params, frame, dtype):
        # whatever the rows' precision: energies of a few hundred nats are to keep their digits
        return BoundVAE(self, params)

    def draw(self, params, n_rows, rng):
        models = rng.integers(params.n_models, size=n_rows)
        codes = rng.standard_normal((n_rows, self.decoder.network.sizes[0]))
        X = np.empty((n_rows, self.n_features))
        for model in np.unique(models):
            mine = models == model
            layers, extra = self.decoder.split(params.decoder[model : model + 1])
            outputs = self.decoder.network.forward(layers, codes[None, mine], Scratch())[-1]
            mean = self.decoder.rows.mean(outputs[:, None])
            X[mine] = self.decoder.rows.draw(mean, extra, rng)[0, 0]
        return self.frame.restore(X), codes

    def convolve(self, params, variance):
        if not self.decoder.rows.n_extra:
            raise ValueError(
                "denoise needs likelihood='gaussian': adding normal noise to bits leaves no "
                "distribution of bits; for bits, inverse_transform(transform(X)) cleans rows"
            )
        theta = params.decoder.copy()
        theta[:, -1] = np.log(np.exp(theta[:, -1]) + variance / self.frame.unit**2)
        return VAEParameters(theta, params.encoder)

    def n_parameters(self):
        return self.decoder.n_parameters


# -- from a configuration --------------------------------------------------------------------------


def architecture(config: dict[str, Any]) -> tuple[Decoder, Network]:
    """Return the decoder and the encoder that a configuration describes."""
    d, hidden = config["n_components"], tuple(config["hidden_layer_sizes"])
    n_features, activation = config["n_features"], config["activation"]
    decoder = Network((d, *hidden[::-1], n_features), activation)
    encoder = Network((n_features, *hidden, 2 * d), activation)
    return Decoder(decoder, config["likelihood"]), encoder


def row_frame(config: dict[str, Any]) -> RowFrame:
    """Return the frame of a configuration."""
    decoder, _ = architecture(config)
    return RowFrame(config["centre"], config["scale"], decoder.rows.scaled)


def make_energy(config: dict[str, Any], noise: Array) -> VAEEnergy:
    """Return the energy of a configuration, with the draws that estimate its integrals."""
    return VAEEnergy(*architecture(config), row_frame(config), noise)
