"""What optimiser and sampler see of a network autoencoder: vectors in, estimates out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._mlp import Scratch
from skbae.energies._vae import VAEParameters, architecture, row_frame
from skbae.energies._vae_codes_training import Batch, Gradients, hard_step, weighted_step
from skbae.inference._adam import Adam
from skbae.inference._init import distinct_rows
from skbae.inference._sgmcmc import BatchTarget
from skbae.inference._stochastic import BatchObjective

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Rows

    Array = NDArray[Any]

# The noise variance stays above this share of the data's: a code as large as a row could otherwise
# explain it without any.
NOISE_FLOOR = 1e-6
# Draws by which rows held out are scored while training.
_HELD_OUT_DRAWS = 16


# -- rows ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingRows:
    """Distinct rows in canonical order, with weights that count how often each came.

    Attributes
    ----------
    X : ndarray of shape (M, D), float64
    weights : ndarray of shape (M,)
    """

    X: Array
    weights: Array

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    def take(self, index: NDArray[np.intp]) -> TrainingRows:
        """Return some of the rows."""
        return TrainingRows(self.X[index], self.weights[index])

    def place(self) -> dict[str, Any]:
        """Return the frame's centre and scale.

        They come from the distinct rows, so that not even rounding tells weighted from repeated.
        """
        centre = self.weights @ self.X / self.total
        variance = self.weights @ (self.X - centre) ** 2 / self.total
        return {"centre": centre, "scale": float(np.sqrt(variance.mean())) or 1.0}


def training_rows(rows: Rows) -> TrainingRows:
    """Return the distinct rows of a fit."""
    return TrainingRows(*distinct_rows(rows, len(rows.X)))


def hold_out(
    rows: TrainingRows, fraction: float, rng: np.random.Generator
) -> tuple[TrainingRows, TrainingRows]:
    """Split distinct rows into those to climb on and those to judge by."""
    order = rng.permutation(len(rows.X))
    n_out = min(max(1, round(fraction * len(order))), len(order) - 1)
    return rows.take(np.sort(order[n_out:])), rows.take(np.sort(order[:n_out]))


# -- what the optimiser sees -----------------------------------------------------------------------


class _Batches:
    """Batches of rows in single precision, and the kernel that serves a temperature."""

    def __init__(self, config: dict[str, Any], rows: TrainingRows) -> None:
        self.decoder, self.encoder = architecture(config)
        frame = row_frame(config)
        self.inputs = frame.inputs(rows.X).astype(np.float32)
        self.targets = frame.targets(rows.X).astype(np.float32)
        # a batch of b of the M rows stands for all: shares sum to about one
        self.shares = (rows.weights * len(rows.X) / rows.total).astype(np.float32)
        self.log_volume = frame.log_volume
        self.temperature = config["temperature"]
        self.n_draws = config["n_importance_samples"]
        self.scratch = Scratch()

    def step(
        self,
        theta: Array,
        phi: Array,
        index: NDArray[np.intp],
        rng: np.random.Generator,
        n_draws: int,
    ) -> tuple[Array, Gradients]:
        """Return estimates (S,) of the mean over all rows, and gradients."""
        shares = self.shares[index] / np.float32(len(index))
        batch = Batch(self.inputs[index], self.targets[index], shares)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if self.temperature:
                shape = (len(theta), n_draws, len(index), self.decoder.network.sizes[0])
                noise = rng.standard_normal(shape, np.float32)
                found = weighted_step(
                    self.decoder,
                    self.encoder,
                    theta,
                    phi,
                    batch,
                    noise,
                    self.temperature,
                    self.scratch,
                )
            else:
                found = hard_step(self.decoder, self.encoder, theta, phi, batch, self.scratch)
            value = found.hmax.astype(np.float64) @ shares.astype(np.float64)
        return value + self.log_volume * shares.sum(dtype=np.float64), found


class Prior:
    """Normal weights, each of variance ``v / fan_in`` (intercepts: v), inverse gamma noise.

    In the frame of computation. Parameters beyond the decoder's are left alone.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        decoder, _ = architecture(config)
        network = decoder.network
        self.size, self.noise_at = decoder.n_parameters, network.n_parameters
        self.precision = np.zeros(self.size, np.float32)
        self.precision[: self.noise_at] = network.fan_in() / config["weight_variance_prior"]
        self.shape = float(config["noise_shape_prior"])
        scale = config["noise_scale_prior"]
        # the default is a tenth of the data's variance, which is one here
        self.rate = 0.1 if scale is None else float(scale) / config["scale"] ** 2

    def gradient(self, theta: Array) -> Array:
        """Return the gradient of the log density in (weights, log s2), (S, P)."""
        found = -self.precision * theta
        logs = theta[:, self.noise_at :]
        found[:, self.noise_at :] = self.rate * np.exp(-logs) - self.shape
        return found

    def curvature(self) -> Array:
        """Return the precision of the normal approximation at the prior's mode, (P,)."""
        found = self.precision.astype(np.float64)
        found[self.noise_at :] = self.shape
        return found


class VAEObjective(BatchObjective):
    """``Hmaxe_T`` of rows as a function of (theta, phi); with a prior: what the mode maximises."""

    def __init__(
        self, config: dict[str, Any], rows: TrainingRows, prior_share: float = 0.0
    ) -> None:
        self.batches, self.n_rows = _Batches(config, rows), len(rows.X)
        self.n_theta = self.batches.decoder.n_parameters
        self.prior = Prior(config) if prior_share else None
        self.prior_share = np.float32(prior_share)  # tau / N
        self._rows, self._config = rows, config

    def join(self, params: VAEParameters) -> Array:
        """Return one vector in single precision."""
        return np.concatenate([params.decoder[0], params.encoder[0]]).astype(np.float32)

    def part(self, vector: Array) -> VAEParameters:
        """Undo :meth:`join`."""
        vector = vector.astype(np.float64)
        return VAEParameters(vector[None, : self.n_theta], vector[None, self.n_theta :])

    def estimate(self, theta, index, rng):
        decoder, encoder = theta[None, : self.n_theta], theta[None, self.n_theta :]
        value, found = self.batches.step(decoder, encoder, index, rng, self.batches.n_draws)
        gradient = np.concatenate([found.decoder[0], found.encoder[0]])
        if self.prior is not None:
            gradient[: self.n_theta] += self.prior_share * self.prior.gradient(decoder)[0]
        return float(value[0]), gradient

    def constrain(self, theta):
        if self.batches.decoder.rows.n_extra:
            at = self.n_theta - 1
            theta[at] = max(theta[at], np.float32(np.log(NOISE_FLOOR)))

    def judge(self, rows: TrainingRows, batch_size: int, seed: int) -> Any:
        """Return a function that scores parameters on rows, always with the same draws."""
        held = _Batches(self._config, rows)
        n_draws = max(_HELD_OUT_DRAWS, held.n_draws)
        parts = np.array_split(np.arange(len(rows.X)), -(-len(rows.X) // batch_size))

        def score(theta: Array) -> float:
            rng = np.random.default_rng(seed)
            total = 0.0
            for index in parts:
                decoder, encoder = theta[None, : self.n_theta], theta[None, self.n_theta :]
                value, _ = held.step(decoder, encoder, index, rng, n_draws)
                total += float(value[0]) * len(index)
            return total / len(rows.X)

        return score


class VAETarget(BatchTarget):
    """``p(m)`` over decoders, for a sampler; one encoder follows all chains."""

    def __init__(
        self,
        config: dict[str, Any],
        rows: TrainingRows,
        phi: Array,
        model_temperature: float,
        rate: float,
    ) -> None:
        self.batches, self.n_rows = _Batches(config, rows), len(rows.X)
        self.scale = rows.total / model_temperature
        self.prior, self.rate = Prior(config), rate
        self.encoder = Adam(phi)

    def estimate(self, theta, index, rng):
        phi = self.encoder.theta[None]
        value, found = self.batches.step(theta, phi, index, rng, self.batches.n_draws)
        self.encoder.ascend(found.encoder[0] / np.float32(len(theta)), self.rate)
        return value, found.decoder

    def prior_gradient(self, theta):
        return self.prior.gradient(theta)

    def prior_precision(self):
        return self.prior.curvature()
