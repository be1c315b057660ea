"""Gradients of ``Hmax_T`` in a decoder's layers and noise, by Fisher's identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._base import RowKernel
from skbae.energies.vae._network import Scratch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies.vae._decoder import Decoder
    from skbae.energies.vae._parameters import RowFrame
    from skbae.energies.vae._posterior import WeightedCodes


def gradient_of_codes(
    decoder: Decoder, theta: Array, targets: Array, shares: Array, codes: WeightedCodes
) -> Array:
    """Return the gradient of ``sum of shares * Hmax_T`` in a decoder's parameters, (1, P).

    Parameters
    ----------
    decoder : Decoder
    theta : ndarray of shape (1, P)
    targets : ndarray of shape (n, D)
        Scaled rows.
    shares : ndarray of shape (n,)
    codes : WeightedCodes
        Of these rows.
    """
    scratch = Scratch()
    layers, extra = decoder.split(theta)
    n, n_draws, d = codes.codes.shape
    # draws first, as likelihoods have them
    z = np.ascontiguousarray(np.swapaxes(codes.codes, 0, 1)).reshape(1, n_draws * n, d)
    outputs = decoder.network.forward(layers, z, scratch)
    shaped = outputs[-1].reshape(1, n_draws, n, -1).copy()
    _, slope = decoder.rows.log_density(targets, shaped, extra, scratch)
    weighted = (codes.weights * shares[:, None]).T[None]  # (1, L, n)
    gradient = np.zeros_like(theta)
    if decoder.n_extra:
        own = decoder.rows.extra_gradient(slope, weighted, extra)
        gradient[:, decoder.network.n_parameters :] = own
    slope *= weighted[..., None]
    decoder.network.backward(
        layers,
        outputs,
        slope.reshape(outputs[-1].shape),
        gradient,
        scratch,
        inputs=False,
    )
    return gradient


class DecoderGradient(RowKernel):
    """The pass that sums gradients of the decoder over rows and their weighted codes.

    Parameters
    ----------
    decoder : Decoder
    frame : RowFrame
    theta : ndarray of shape (S, P)
        Decoders' parameters.
    codes : callable
        ``codes(X, model)`` returns the weighted codes of a chunk of rows; the best ones at T = 0.
    chunk_rows : int
    """

    def __init__(
        self,
        decoder: Decoder,
        frame: RowFrame,
        theta: Array,
        codes: Callable[[NDArray[Any], int], WeightedCodes],
        chunk_rows: int,
    ) -> None:
        self.decoder, self.frame, self.theta = decoder, frame, theta
        self.codes, self.chunk_rows = codes, chunk_rows

    def workspace(self, n_rows: int, previous: Any = None) -> None:
        return None

    def zero(self) -> Array:
        return np.zeros_like(self.theta)

    def accumulate(
        self,
        accumulator: Array,
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        shares = np.ones(len(X)) if weights is None else weights
        targets = self.frame.targets(X)
        for model in range(len(accumulator)):
            own = self.theta[model : model + 1]
            codes = self.codes(X, model)
            accumulator[model] += gradient_of_codes(self.decoder, own, targets, shares, codes)[0]

    def merge(self, accumulator: Array, other: Array) -> Array:
        accumulator += other
        return accumulator

    def finish(self, accumulator: Array, total: float) -> dict[str, Any]:
        decoder, frame, gradient = self.decoder, self.frame, accumulator / total
        slopes, _ = decoder.split(gradient)
        coefs = [matrix.copy() for matrix, _ in slopes]
        intercepts = [intercept[:, 0].copy() for _, intercept in slopes]
        # the last layer gives rows in units of X, which are scaled
        coefs[-1] /= frame.unit
        intercepts[-1] /= frame.unit
        found: dict[str, Any] = {"decoder_coefs": coefs, "decoder_intercepts": intercepts}
        if slopes.skip is not None:
            found["decoder_skip"] = slopes.skip / frame.unit
        if decoder.n_extra:
            _, log_noise = decoder.split(self.theta)
            noise = frame.noise(decoder, log_noise)
            own = gradient[:, decoder.network.n_parameters :]
            found["noise_variance"] = own.reshape(noise.shape) / noise
        return found
