"""Parameters of network autoencoders: vectors for scaled rows, layers for rows in units of X.

All computation is for rows that are centred and, where they are real numbers, divided by a scale
(that of each column, or one of all), so that weights of ordinary size fit data in any units.
:class:`RowFrame` converts between these rows and the units of X. Training computes with codes of
ordinary size too, whatever the temperature: see :func:`in_units_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.vae._decoder import Decoder
    from skbae.energies.vae._network import Network


@dataclass(frozen=True)
class VAEParameters(ArrayRecord):
    """S decoders, and the encoders that propose codes for them, for scaled rows.

    Attributes
    ----------
    decoder : ndarray of shape (S, P)
        Weights and intercepts, then the logarithm of the noise variance if there is one.
    encoder : ndarray of shape (S, Q)
        Weights and intercepts of the encoder, which proposes codes and is no part of the model.
    """

    decoder: Array
    encoder: Array


@dataclass(frozen=True)
class VAEModels:
    """S models, layer by layer, for rows in units of X: the public attribute ``models_``.

    Attributes
    ----------
    decoder_coefs, encoder_coefs : list of ndarrays of shape (S, in, out)
    decoder_intercepts, encoder_intercepts : list of ndarrays of shape (S, out)
    noise_variance : ndarray of shape (S,) or (S, D)
        NaN for likelihoods without noise.
    decoder_skip, encoder_skip : ndarray of shape (S, in, out) or None
        Weights of the linear maps from inputs to outputs; None if there are none.
    """

    decoder_coefs: list[Array]
    decoder_intercepts: list[Array]
    encoder_coefs: list[Array]
    encoder_intercepts: list[Array]
    noise_variance: Array
    decoder_skip: Array | None = None
    encoder_skip: Array | None = None

    @property
    def n_models(self) -> int:
        """S."""
        return len(self.noise_variance)


@dataclass(frozen=True)
class RowFrame:
    """Mean of the rows, and the scales that they are divided by.

    Attributes
    ----------
    centre, scale : ndarrays of shape (D,)
        The scale is the same for all features if these share one noise variance.
    scaled : bool
        Whether the rows of the decoder are centred and scaled too, or only the encoder's inputs.
    """

    centre: Array
    scale: Array
    scaled: bool

    def inputs(self, X: NDArray[Any]) -> Array:
        """Return the encoder's inputs."""
        return (X - self.centre) / self.scale

    def targets(self, X: NDArray[Any]) -> Array:
        """Return the rows whose density the decoder gives."""
        return self.inputs(X) if self.scaled else np.asarray(X, np.float64)

    @property
    def unit(self) -> Array:
        """Scales of the decoder's rows, (D,): the factors to units of X."""
        return self.scale if self.scaled else np.ones_like(self.scale)

    @property
    def log_volume(self) -> float:
        """Term to add to a log density of scaled rows, for the log density of X."""
        return -float(np.log(self.unit).sum())

    def noise(self, decoder: Decoder, log_noise: Array) -> Array:
        """Return noise variances in units of X: (S, D), or (S,) if features share one."""
        variances = np.exp(log_noise) * self.unit[: log_noise.shape[1]] ** 2
        return variances if decoder.noise == "per_feature" else variances[:, 0]

    def restore(self, rows: Array) -> Array:
        """Return rows in units of X."""
        return self.centre + self.scale * rows if self.scaled else rows

    def to_layers(self, decoder: Decoder, encoder: Network, params: VAEParameters) -> VAEModels:
        """Return the networks for rows in units of X."""
        layers, extra = decoder.split(params.decoder)
        weights = [matrix.copy() for matrix, _ in layers]
        intercepts = [intercept[:, 0].copy() for _, intercept in layers]
        if self.scaled:
            weights[-1] *= self.scale
            intercepts[-1] = self.centre + self.scale * intercepts[-1]
        skip = None if layers.skip is None else layers.skip * self.unit
        reading = encoder.layers(params.encoder)
        encoder_weights = [matrix.copy() for matrix, _ in reading]
        encoder_weights[0] /= self.scale[:, None]
        encoder_intercepts = [intercept[:, 0].copy() for _, intercept in reading]
        encoder_intercepts[0] -= np.matmul(self.centre, encoder_weights[0])
        encoder_skip = None
        if reading.skip is not None:
            encoder_skip = reading.skip / self.scale[:, None]
            encoder_intercepts[-1] -= np.matmul(self.centre, encoder_skip)
        noise = np.full(len(params.decoder), np.nan)
        if decoder.n_extra:
            noise = self.noise(decoder, extra)
        return VAEModels(
            weights, intercepts, encoder_weights, encoder_intercepts, noise, skip, encoder_skip
        )

    def from_layers(self, decoder: Decoder, encoder: Network, layered: VAEModels) -> VAEParameters:
        """Return parameters for scaled rows: the inverse of :meth:`to_layers`."""
        weights = [np.array(matrix, np.float64) for matrix in layered.decoder_coefs]
        intercepts = [np.array(each, np.float64) for each in layered.decoder_intercepts]
        if self.scaled:
            weights[-1] /= self.scale
            intercepts[-1] = (intercepts[-1] - self.centre) / self.scale
        skip = None if layered.decoder_skip is None else layered.decoder_skip / self.unit
        theta = decoder.network.flatten(weights, intercepts, skip)
        if decoder.n_extra:
            noise = layered.noise_variance.reshape(len(theta), -1)
            log_noise = np.log(noise / self.unit[: noise.shape[1]] ** 2)
            theta = np.concatenate([theta, log_noise], axis=1)
        reading = [np.array(matrix, np.float64) for matrix in layered.encoder_coefs]
        at = [np.array(each, np.float64) for each in layered.encoder_intercepts]
        at[0] += np.matmul(self.centre, reading[0])
        reading[0] *= self.scale[:, None]
        encoder_skip = layered.encoder_skip
        if encoder_skip is not None:
            at[-1] += np.matmul(self.centre, encoder_skip)
            encoder_skip = encoder_skip * self.scale[:, None]
        return VAEParameters(theta, encoder.flatten(reading, at, encoder_skip))


def in_units_of(
    decoder: Decoder, encoder: Network, params: VAEParameters, unit: float
) -> VAEParameters:
    """Return the same models with codes divided by `unit`.

    A posterior of codes shrinks as T falls: ``z`` is of order ``sqrt(T)``, so that networks of
    ordinary weights would be linear in it. Training therefore computes with ``z / sqrt(T)``, whose
    prior at T is a standard normal distribution, and the decoder's code precision is T.

    Parameters
    ----------
    decoder, encoder : Decoder, Network
    params : VAEParameters
    unit : float
        Its inverse leads back.
    """
    theta, phi = params.decoder.copy(), params.encoder.copy()
    layers = decoder.network.layers(theta)
    layers[0][0][...] *= unit
    if layers.skip is not None:
        layers.skip[...] *= unit
    reading, d = encoder.layers(phi), decoder.network.sizes[0]
    for matrix in (*reading[-1], reading.skip):
        if matrix is not None:
            matrix[..., :d] /= unit
    return VAEParameters(theta, phi)
