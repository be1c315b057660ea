"""``Hmaxe_T`` of network autoencoders and its gradients, estimated from batches of rows."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._capabilities import BatchStep, MinibatchObjective
from skbae.energies.vae._linear import NOISE_FLOOR
from skbae.energies.vae._network import Scratch
from skbae.energies.vae._training_step import Batch, Gradients, hard_step, weighted_step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from skbae._types import Array, FloatArray, Rows
    from skbae.energies.vae._decoder import Decoder
    from skbae.energies.vae._network import Network
    from skbae.energies.vae._parameters import RowFrame
    from skbae.energies.vae._penalty import Penalty

# Least number of draws of a code by which rows held out are scored.
_SCORE_DRAWS = 16
# Largest factor of the penalty for which squares of its gradients do not overflow.
_STRONGEST = 1e12


@dataclass(frozen=True)
class TrainingOptions:
    """Options of the steps of a fit.

    Attributes
    ----------
    n_draws : int
        Number of draws of each row's code in a step at T > 0.
    penalty : Penalty
    penalty_weight : float
        Factor of the penalty: 1 for a single best model; tau if models are sampled, when the
        penalty is their log prior.
    score_seed : int
        Seed of the draws by which rows held out are scored.
    code_unit : float, default=1.0
        Unit of the codes that steps compute with, see
        :func:`~skbae.energies.vae._parameters.in_units_of`.
    tied_noise : bool, default=False
        Whether the noise variances of features keep their proportions.
    """

    n_draws: int
    penalty: Penalty
    penalty_weight: float
    score_seed: int
    code_unit: float = 1.0
    tied_noise: bool = False

    def share(self, total: float) -> float:
        """Return the factor of the penalty of a row's share, for rows of this sum of weights."""
        share = self.penalty_weight / total
        if share > _STRONGEST:
            raise ValueError(
                f"sample_weight sums to {total:.3g}, next to which the penalty is so strong that "
                "its gradients overflow; multiply sample_weight by a number, or decrease alpha"
            )
        return share


class RowBatches:
    """Rows in single precision, and training steps with batches of them.

    Parameters
    ----------
    decoder : Decoder
    encoder : Network
    frame : RowFrame
    rows : Rows
        Distinct rows.
    temperature : float
    """

    def __init__(
        self, decoder: Decoder, encoder: Network, frame: RowFrame, rows: Rows, temperature: float
    ) -> None:
        self.decoder, self.encoder, self.temperature = decoder, encoder, temperature
        self.inputs = frame.inputs(rows.X).astype(np.float32)
        self.targets = self.inputs if frame.scaled else frame.targets(rows.X).astype(np.float32)
        self.n_rows = len(rows.X)
        weights = np.ones(self.n_rows) if rows.weights is None else rows.weights
        # weights are scaled so that their mean over all distinct rows is one
        self.shares = (weights * self.n_rows / rows.total).astype(np.float32)
        self.log_volume = frame.log_volume
        self.scratch = Scratch()

    def _taken(self, name: str, rows: FloatArray, index: NDArray[np.intp]) -> FloatArray:
        """Return some rows, in memory that the next batch of this size overwrites."""
        out = self.scratch(name, (len(index), rows.shape[1]), rows.dtype)
        return np.take(rows, index, axis=0, out=out, mode="clip")  # others make a copy first

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
            Encoders: S, or one for all models.
        index : ndarray of int
            The rows of the batch.
        rng : Generator
        n_draws : int
            Number of draws of each row's code, at T > 0.

        Returns
        -------
        values : ndarray of shape (S,)
            NaN or infinite where a fit has diverged.
        gradients : Gradients
        """
        shares = self.shares[index] / np.float32(len(index))
        inputs = self._taken("inputs", self.inputs, index)
        same = self.targets is self.inputs
        targets = inputs if same else self._taken("targets", self.targets, index)
        batch = Batch(inputs, targets, shares)
        models = self.decoder, self.encoder, theta, phi, batch
        # negligible weights of codes underflow; the caller checks for values that are not finite
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

    Coordinates are one vector in single precision: the decoder's parameters, then the encoder's.

    For a single best model the penalty is ``alpha / (2 N)`` times the sum of the decoder's squared
    weights, with N the sum of the rows' weights. If models are sampled, it is ``-tau / N`` times
    the log prior, so that the optimum is the mode of ``p(m)``; `alpha` is not used.

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
        self.share = np.float32(options.share(total))

    @contextmanager
    def penalised(self, factor: float) -> Iterator[None]:
        """Multiply the penalty by a factor meanwhile."""
        share = self.share
        self.share = np.float32(factor * share)
        try:
            yield
        finally:
            self.share = share

    def step(
        self, theta: FloatArray, index: NDArray[np.intp], memory: Any, rng: np.random.Generator
    ) -> BatchStep:
        """Return estimates of the objective and its gradient; there is no `memory`."""
        decoder, encoder = theta[None, : self.n_theta], theta[None, self.n_theta :]
        values, found = self.batches.step(decoder, encoder, index, rng, self.options.n_draws)
        gradient, penalty = found.flat, self.options.penalty
        penalty.add_gradient(decoder, self.share, found.decoder)
        if self.options.tied_noise:
            of_noise = gradient[self.n_theta - self.batches.decoder.n_extra : self.n_theta]
            of_noise[...] = of_noise.mean()
        return BatchStep(gradient, float(values[0] + self.share * penalty.value(decoder)[0]))

    def score(self, theta: FloatArray) -> float:
        """Return ``Hmaxe_T`` of all rows, estimated with the same draws at every call."""
        rng = np.random.default_rng(self.options.score_seed)
        n_draws = max(_SCORE_DRAWS, self.options.n_draws)
        decoder, encoder = theta[None, : self.n_theta], theta[None, self.n_theta :]
        total = 0.0
        for index in np.array_split(np.arange(self.n_rows), -(-self.n_rows // self.batch_size)):
            values, _ = self.batches.step(decoder, encoder, index, rng, n_draws)
            total += float(values[0]) * len(index)
        return total / self.n_rows

    def constrain(self, theta: FloatArray) -> None:
        """Raise noise variances to their least value, where they are below."""
        log_noise = theta[self.n_theta - self.batches.decoder.n_extra : self.n_theta]
        np.maximum(log_noise, np.float32(np.log(NOISE_FLOOR)), out=log_noise)
