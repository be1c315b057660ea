r"""``Hmax_T`` of a batch of rows and its gradients, for a training step.

At T > 0 the encoder proposes ``z = mu + sqrt(T / p) sigma eps``, with p the precision of the code's
prior, and, with log weights
``log w = H / T - log q``,

.. math:: \hat H_T(x) = T \log \frac1L \sum_l w_l.

On average this is below the objective and approaches it with L (Burda, Grosse and Salakhutdinov
2016; for L = 1 it is the evidence lower bound). The decoder's gradient is Fisher's identity with
normalised weights. The encoder's is the doubly reparametrised gradient (Tucker et al. 2019):
weights are squared and the density q is differentiated through z alone, so that the gradient is
zero for every draw, and not only on average, if the proposal is exact.

At T = 0 the code is the mode of H, approximated by a few steps from the encoder's mean. The
decoder's gradient is that at the mode (the envelope theorem), and the encoder's gradient is that of
H at its mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skbae.energies.vae._decoder import Decoder
from skbae.energies.vae._network import Network, Scratch
from skbae.energies.vae._posterior import ModeSearch, find_code_modes

if TYPE_CHECKING:
    from skbae._types import FloatArray


# Range of the encoder's log standard deviations.
_LOG_DEVIATION = (-12.0, 6.0)
# Search for codes while training at T = 0; few steps suffice, since each pass visits a row again.
_TRAINING_SEARCH = ModeSearch(3, 1e-6)


@dataclass(frozen=True)
class Batch:
    """Rows of a training step.

    Attributes
    ----------
    inputs : ndarray of shape (n, D)
        Inputs of the encoder.
    X : ndarray of shape (n, D)
        Rows whose density the decoder gives.
    shares : ndarray of shape (n,)
        Factor of each row in the gradients.
    """

    inputs: FloatArray
    X: FloatArray
    shares: FloatArray


@dataclass(frozen=True)
class Gradients:
    """``Hmax_T`` of a batch and its gradients.

    Attributes
    ----------
    hmax : ndarray of shape (S, n)
    decoder : ndarray of shape (S, P)
        Gradient of ``sum of shares * hmax``.
    encoder : ndarray of shape (E, Q)
        The same for the encoders; E is S, or 1 if all models share one.
    flat : ndarray of shape (S * P + E * Q,)
        Both, of which they are views.
    """

    hmax: FloatArray
    decoder: FloatArray
    encoder: FloatArray
    flat: FloatArray


class EncoderOutput(NamedTuple):
    """Outputs of E encoders for n rows.

    Attributes
    ----------
    outputs : list of ndarray
        Outputs of each layer.
    mean, log_deviation : ndarrays of shape (E, n, d)
        Mean and log standard deviation of each code.
    """

    outputs: list[FloatArray]
    mean: FloatArray
    log_deviation: FloatArray


def _no_gradients(
    hmax: FloatArray, theta: FloatArray, phi: FloatArray, scratch: Scratch
) -> Gradients:
    """Return gradients whose entries are arbitrary, to be written to."""
    flat = scratch("gradients", (theta.size + phi.size,), theta.dtype)
    of_decoder, of_encoder = flat[: theta.size], flat[theta.size :]
    return Gradients(hmax, of_decoder.reshape(theta.shape), of_encoder.reshape(phi.shape), flat)


def encoder_output(
    network: Network, theta: FloatArray, inputs: FloatArray, scratch: Scratch
) -> EncoderOutput:
    """Return the outputs of encoders (E, Q) for rows (n, D)."""
    outputs = network.forward(network.layers(theta), inputs[None], scratch, "encoder")
    d = network.sizes[-1] // 2
    log_deviation = np.clip(outputs[-1][..., d:], *_LOG_DEVIATION)
    return EncoderOutput(outputs, outputs[-1][..., :d], log_deviation)


def _importance_weights(
    energies: FloatArray,
    noise: FloatArray,
    log_deviation: FloatArray,
    temperature: float,
) -> tuple[FloatArray, FloatArray]:
    """Return ``Hmax_T`` (S, n), and normalised weights of draws whose energies are (S, L, n)."""
    kind = noise.dtype.type
    log_weights = energies
    log_weights /= kind(temperature)
    log_weights += 0.5 * np.einsum("slnd,slnd->sln", noise, noise)
    log_weights += log_deviation.sum(axis=-1)[:, None]
    peak = log_weights.max(axis=1, keepdims=True)
    weights = np.exp(log_weights - peak)
    total = weights.sum(axis=1, keepdims=True)
    hmax = kind(temperature) * (np.log(total / noise.shape[1]) + peak)[:, 0]
    weights /= total
    return hmax, weights


def weighted_step(
    decoder: Decoder,
    encoder: Network,
    theta: FloatArray,
    phi: FloatArray,
    batch: Batch,
    noise: FloatArray,
    temperature: float,
    scratch: Scratch,
) -> Gradients:
    """Return the estimate at T > 0 and its gradients.

    Parameters
    ----------
    decoder, encoder : Decoder, Network
    theta : ndarray of shape (S, P)
    phi : ndarray of shape (E, Q)
        E is S or 1.
    batch : Batch
    noise : ndarray of shape (S, L, n, d)
        Standard normal.
    temperature : float
    scratch : Scratch

    Returns
    -------
    Gradients
        Arrays held by `scratch`, which the next step overwrites.
    """
    n_models, n_draws, n, d = noise.shape
    dtype = theta.dtype
    encoded = encoder_output(encoder, phi, batch.inputs, scratch)
    mean, log_deviation = encoded.mean, encoded.log_deviation
    root = np.sqrt(dtype.type(temperature / decoder.code_precision))
    deviation = root * np.exp(log_deviation)
    z = scratch("z", noise.shape, dtype)
    np.multiply(noise, deviation[:, None], out=z)
    z += mean[:, None]

    layers, extra = decoder.split(theta)
    flat = z.reshape(n_models, n_draws * n, d)
    outputs = decoder.network.forward(layers, flat, scratch, "decoder")
    shaped = outputs[-1].reshape(n_models, n_draws, n, -1)
    log_density, slope = decoder.rows.log_density(batch.X, shaped, extra, scratch)
    energies = log_density + decoder.log_code_prior(z)
    hmax, weights = _importance_weights(energies, noise, log_deviation, temperature)

    found = _no_gradients(hmax, theta, phi, scratch)
    gradient = found.decoder
    shared = weights * batch.shares
    if decoder.n_extra:
        own = decoder.rows.extra_gradient(slope, shared, extra)
        gradient[:, decoder.network.n_parameters :] = own
    slope *= shared[..., None]
    in_codes = decoder.network.backward(
        layers, outputs, slope.reshape(outputs[-1].shape), gradient, scratch, "decoder back"
    )
    in_codes = in_codes.reshape(noise.shape)

    # doubly reparametrised: -grad log q at z is noise / deviation, times T
    z *= dtype.type(decoder.code_precision) * shared[..., None]
    in_codes -= z
    in_codes += shared[..., None] * (noise * (dtype.type(temperature) / deviation[:, None]))
    in_codes *= weights[..., None]
    in_mean = in_codes.sum(axis=1)
    in_codes *= noise
    in_log_deviation = in_codes.sum(axis=1) * deviation
    _encoder_gradient(encoder, phi, encoded, (in_mean, in_log_deviation), found.encoder, scratch)
    return found


def hard_step(
    decoder: Decoder,
    encoder: Network,
    theta: FloatArray,
    phi: FloatArray,
    batch: Batch,
    scratch: Scratch,
    search: ModeSearch = _TRAINING_SEARCH,
) -> Gradients:
    """Return ``max_z H`` and its gradients: T = 0; parameters as for :func:`weighted_step`."""
    n_models = len(theta)
    encoded = encoder_output(encoder, phi, batch.inputs, scratch)
    starts = np.broadcast_to(encoded.mean, (n_models, *encoded.mean.shape[1:]))
    modes = [
        find_code_modes(decoder, theta[s : s + 1], batch.X, starts[s], search)
        for s in range(n_models)
    ]
    z = np.stack([each.codes for each in modes])
    layers, extra = decoder.split(theta)
    outputs = decoder.network.forward(layers, z, scratch, "decoder")
    log_density, slope = decoder.rows.log_density(batch.X, outputs[-1][:, None], extra, scratch)
    hmax = log_density[:, 0] + decoder.log_code_prior(z)
    found = _no_gradients(hmax, theta, phi, scratch)
    gradient = found.decoder
    if decoder.n_extra:
        shares = np.broadcast_to(batch.shares, log_density.shape)
        own = decoder.rows.extra_gradient(slope, shares, extra)
        gradient[:, decoder.network.n_parameters :] = own
    slope *= batch.shares[:, None]
    decoder.network.backward(
        layers, outputs, slope[:, 0], gradient, scratch, "decoder back", inputs=False
    )
    in_mean = np.stack([each.first_gradient for each in modes]) * batch.shares[:, None]
    nothing = np.zeros_like(in_mean)
    _encoder_gradient(encoder, phi, encoded, (in_mean, nothing), found.encoder, scratch)
    return found


def _encoder_gradient(
    encoder: Network,
    phi: FloatArray,
    encoded: EncoderOutput,
    in_codes: tuple[FloatArray, FloatArray],
    total: FloatArray,
    scratch: Scratch,
) -> None:
    """Write to `total` the gradient, given those in the codes' means and log deviations."""
    in_outputs = np.concatenate(in_codes, axis=-1)
    if len(phi) < len(in_outputs):  # one encoder serves all models
        in_outputs = in_outputs.sum(axis=0, keepdims=True)
    layers = encoder.layers(phi)
    encoder.backward(
        layers, encoded.outputs, in_outputs, total, scratch, "encoder back", inputs=False
    )
