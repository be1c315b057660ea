"""Density of decoders for the Langevin sampler, with an encoder that is trained meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skbae.energies.vae._penalty import Prior
from skbae.inference.optimise._adam import Adam
from skbae.inference.sample._langevin import BatchTarget

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, FloatArray, Rows
    from skbae.energies.vae._energy import VAEEnergy


class VAETarget(BatchTarget):
    """``p(m)`` of decoders; the chains share one encoder, which is trained while they run.

    Parameters
    ----------
    energy : VAEEnergy
        With training options whose penalty is a prior.
    rows : Rows
        Distinct ones.
    phi : ndarray of shape (Q,)
        Initial weights of the encoder.
    temperature, model_temperature : float
    rate : float
        Learning rate of the encoder.
    """

    def __init__(
        self,
        energy: VAEEnergy,
        rows: Rows,
        phi: FloatArray,
        temperature: float,
        model_temperature: float,
        rate: float,
    ) -> None:
        options = energy.training
        assert options is not None, "sampling needs training options"
        assert isinstance(options.penalty, Prior), "sampling needs a prior"
        self.prior, self.n_draws = options.penalty, options.n_draws
        self.batches, self.n_rows = energy.row_batches(rows, temperature), len(rows.X)
        self.scale, self.rate = rows.total / model_temperature, rate
        self.encoder = Adam(phi)

    def estimate(
        self, theta: FloatArray, index: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[Array, FloatArray]:
        """Return estimates for decoders (S, P), and train the encoder on the batch."""
        phi = self.encoder.theta[None]
        values, found = self.batches.step(theta, phi, index, rng, self.n_draws)
        self.encoder.ascend(found.encoder[0] / np.float32(len(theta)), self.rate)
        return values, found.decoder

    def prior_gradient(self, theta: FloatArray) -> FloatArray:
        """Return the gradient of the log prior density, (S, P)."""
        return self.prior.gradient(theta)

    def prior_precision(self) -> Array:
        """Return the precision of the normal approximation of the prior, (P,)."""
        return self.prior.curvature()
