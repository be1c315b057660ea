"""``Hmaxe_T`` of network autoencoders as batches of rows estimate it, and its gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._capabilities import BatchStep, MinibatchObjective
from skbae.energies.vae._network import Scratch
from skbae.energies.vae._training_step import Batch, Gradients, hard_step, weighted_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, FloatArray, Rows
    from skbae.energies.vae._decoder import Decoder
    from skbae.energies.vae._network import Network
    from skbae.energies.vae._parameters import RowFrame
    from skbae.energies.vae._penalty import Penalty

# The noise variance stays above this share of the data's: a code as large as a row could otherwise
# explain it without any.
NOISE_FLOOR = 1e-6
# Draws of a code by which rows held out are scored, at least.
_SCORE_DRAWS = 16


@dataclass(frozen=True)
class TrainingOptions:
    """What a fit of a network autoencoder depends on besides rows and temperature.

    Attributes
    ----------
    n_draws : int
        Draws of each row's code in a step at T > 0.
    penalty : Penalty
    penalty_weight : float
        Its factor: 1 for a single best model, tau where models are sampled and the penalty is their
        log prior.
    score_seed : int
        Of the draws by which rows held out are scored.
    """

    n_draws: int
    penalty: Penalty
    penalty_weight: float
    score_seed: int


class RowBatches:
    """Rows in single precision, and the arithmetic of the temperature.

    Parameters
    ----------
    decoder : Decoder
    encoder : Network
    frame : RowFrame
    rows : Rows
        Distinct ones.
    temperature : float
    """

    def __init__(
        self, decoder: Decoder, encoder: Network, frame: RowFrame, rows: Rows, temperature: float
    ) -> None:
        self.decoder, self.encoder, self.temperature = decoder, encoder, temperature
        self.inputs = frame.inputs(rows.X).astype(np.float32)
        self.targets = frame.targets(rows.X).astype(np.float32)
        self.n_rows = len(rows.X)
        weights = np.ones(self.n_rows) if rows.weights is None else rows.weights
        # a batch of b of the M rows stands for all: shares sum to about one
        self.shares = (weights * self.n_rows / rows.total).astype(np.float32)
        self.log_volume = frame.log_volume
        self.scratch = Scratch()

    def step(
        self,
        theta: FloatArray,
        phi: FloatArray,
        index: NDArray[np.intp],
        rng: np.random.Generator,
        n_draws: int,
    ) -> tuple[Array, Gradients]:
        """Return estimates of ``Hmaxe_T`` of all rows, and gradients.

        Parameters
        ----------
        theta : ndarray of shape (S, P)
            Decoders.
        phi : ndarray of shape (E, Q)
            Encoders: S of them, or one for all.
        index : ndarray of int
            The rows of the batch.
        rng : Generator
        n_draws : int
            Of each row's code, at T > 0.

        Returns
        -------
        values : ndarray of shape (S,)
            NaN or infinite where a fit has diverged.
        gradients : Gradients
        """
        shares = self.shares[index] / np.float32(len(index))
        batch = Batch(self.inputs[index], self.targets[index], shares)
        models = self.decoder, self.encoder, theta, phi, batch
        # weights of codes underflow where they do not count; what is not finite is for the caller
        with np.errstate(all="ignore"):
            if self.temperature:
                shape = (len(theta), n_draws, len(index), self.decoder.network.sizes[0])
                noise = rng.standard_normal(shape, np.float32)
                found = weighted_step(*models, noise, self.temperature, self.scratch)
            else:
                found = hard_step(*models, self.scratch)
            values = found.hmax.astype(np.float64) @ shares.astype(np.float64)
        return values + self.log_volume * shares.sum(dtype=np.float64), found


class VAEObjective(MinibatchObjective):
    """``Hmaxe_T`` of rows less a penalty, as a function of a decoder and its encoder.

    Coordinates are one vector in single precision, the decoder's parameters before the encoder's.

    For a single best model the penalty is ``alpha / (2 N)`` times the sum of the decoder's squared
    weights, with N the sum of the rows' weights. Where models are sampled, it is ``-tau / N`` times
    the log prior, whose optimum is the mode of ``p(m)``, and `alpha` has no part in it.

    Parameters
    ----------
    batches : RowBatches
    options : TrainingOptions
    total : float
        N.
    batch_size : int
    """

    def __init__(
        self, batches: RowBatches, options: TrainingOptions, total: float, batch_size: int
    ) -> None:
        self.batches, self.options, self.batch_size = batches, options, batch_size
        self.n_rows, self.n_theta = batches.n_rows, batches.decoder.n_parameters
        self.share = np.float32(options.penalty_weight / total)

    def step(
        self, theta: FloatArray, index: NDArray[np.intp], memory: Any, rng: np.random.Generator
    ) -> BatchStep:
        """Return the estimates of the objective and its gradient; nothing is remembered."""
        decoder, encoder = theta[None, : self.n_theta], theta[None, self.n_theta :]
        values, found = self.batches.step(decoder, encoder, index, rng, self.options.n_draws)
        gradient = np.concatenate([found.decoder[0], found.encoder[0]])
        penalty = self.options.penalty
        gradient[: self.n_theta] += self.share * penalty.gradient(decoder)[0]
        return BatchStep(gradient, float(values[0] + self.share * penalty.value(decoder)[0]))

    def score(self, theta: FloatArray) -> float:
        """Return ``Hmaxe_T`` of all rows, estimated by the same draws at every call."""
        rng = np.random.default_rng(self.options.score_seed)
        n_draws = max(_SCORE_DRAWS, self.options.n_draws)
        decoder, encoder = theta[None, : self.n_theta], theta[None, self.n_theta :]
        total = 0.0
        for index in np.array_split(np.arange(self.n_rows), -(-self.n_rows // self.batch_size)):
            values, _ = self.batches.step(decoder, encoder, index, rng, n_draws)
            total += float(values[0]) * len(index)
        return total / self.n_rows

    def constrain(self, theta: FloatArray) -> None:
        """Keep the noise variance above its floor."""
        if self.batches.decoder.rows.n_extra:
            at = self.n_theta - 1
            theta[at] = max(theta[at], np.float32(np.log(NOISE_FLOOR)))
