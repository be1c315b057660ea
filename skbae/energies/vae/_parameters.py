"""Parameters of network autoencoders: vectors for scaled rows, layers for rows in units of X.

All computation is for rows that are centred and, where they are real numbers, divided by one common
scale, so that weights of ordinary size fit data in any units. :class:`RowFrame` converts between
these rows and the units of X.
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
    """Mean of the rows, and one common scale.

    Attributes
    ----------
    centre : ndarray of shape (D,)
    scale : float
        The same for all features, so that noise of equal variance keeps equal variance.
    scaled : bool
        Whether the rows of the decoder are centred and scaled too, or only the encoder's inputs.
    """

    centre: Array
    scale: float
    scaled: bool

    def inputs(self, X: NDArray[Any]) -> Array:
        """Return the encoder's inputs."""
        return (X - self.centre) / self.scale

    def targets(self, X: NDArray[Any]) -> Array:
        """Return the rows whose density the decoder gives."""
        return self.inputs(X) if self.scaled else np.asarray(X, np.float64)

    @property
    def unit(self) -> float:
        """Scale of the decoder's rows: the factor to units of X."""
        return self.scale if self.scaled else 1.0

    @property
    def log_volume(self) -> float:
        """Term to add to a log density of scaled rows, for the log density of X."""
        return -len(self.centre) * float(np.log(self.unit))

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
        """Return parameters for scaled rows: the inverse of :meth:`to_layers`."""
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
