"""What optimiser and sampler see of a network autoencoder: vectors in, estimates out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies.vae._energy import VAEParameters, architecture, row_frame
from skbae.energies.vae._network import Scratch
from skbae.energies.vae._training_step import Batch, Gradients, hard_step, weighted_step
from skbae.inference.optimise._adam import Adam
from skbae.inference.optimise._minibatch import BatchObjective
from skbae.inference.passes._starting_points import distinct_rows
from skbae.inference.sample._langevin import BatchTarget

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import FloatArray, Rows


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

    X: FloatArray
    weights: FloatArray

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
        theta: FloatArray,
        phi: FloatArray,
        index: NDArray[np.intp],
        rng: np.random.Generator,
        n_draws: int,
    ) -> tuple[FloatArray, Gradients]:
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


class Penalty(ABC):
    """What holds decoders back, in nats of all rows and in the frame of computation."""

    @abstractmethod
    def value(self, theta: FloatArray) -> FloatArray:
        """Return what to add to N times the mean over rows, (S,), for decoders (S, P)."""

    @abstractmethod
    def gradient(self, theta: FloatArray) -> FloatArray:
        """Return its gradient, (S, P)."""


class Ridge(Penalty):
    """``-alpha / 2`` times the sum of squared weights; intercepts and noise go free."""

    def __init__(self, config: dict[str, Any]) -> None:
        decoder, _ = architecture(config)
        network = decoder.network
        self.strength = np.zeros(decoder.n_parameters, np.float32)
        self.strength[: network.n_parameters] = config["alpha"] * network.is_weight()

    def value(self, theta):
        return -0.5 * np.einsum("p,sp,sp->s", self.strength, theta, theta)

    def gradient(self, theta):
        return -self.strength * theta


class Prior(Penalty):
    """Normal weights, each of variance ``v / fan_in`` (intercepts: v), inverse gamma noise.

    Values leave the constants of the densities out.
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

    def value(self, theta):
        logs = theta[:, self.noise_at :]
        noise = (self.rate * np.exp(-logs) + self.shape * logs).sum(axis=1)
        return -0.5 * np.einsum("p,sp,sp->s", self.precision, theta, theta) - noise

    def gradient(self, theta):
        """Return the gradient in (weights, log s2), (S, P)."""
        found = -self.precision * theta
        logs = theta[:, self.noise_at :]
        found[:, self.noise_at :] = self.rate * np.exp(-logs) - self.shape
        return found

    def curvature(self) -> FloatArray:
        """Return the precision of the normal approximation at the prior's mode, (P,)."""
        found = self.precision.astype(np.float64)
        found[self.noise_at :] = self.shape
        return found


class VAEObjective(BatchObjective):
    """``Hmaxe_T`` of rows less a penalty, as a function of (theta, phi).

    For a single best model the penalty is ``alpha / (2 N)`` times the sum of the decoder's squared
    weights, with N the sum of the rows' weights. Where models are sampled, it is ``-tau / N`` times
    the log prior, whose optimum is the mode of ``p(m)``, and `alpha` has no part in it.
    """

    def __init__(
        self, config: dict[str, Any], rows: TrainingRows, model_temperature: float
    ) -> None:
        self.batches, self.n_rows = _Batches(config, rows), len(rows.X)
        self.n_theta = self.batches.decoder.n_parameters
        self.penalty: Penalty = Prior(config) if model_temperature else Ridge(config)
        self.share = np.float32((model_temperature or 1.0) / rows.total)
        self._rows, self._config = rows, config

    def join(self, params: VAEParameters) -> FloatArray:
        """Return one vector in single precision."""
        return np.concatenate([params.decoder[0], params.encoder[0]]).astype(np.float32)

    def part(self, vector: FloatArray) -> VAEParameters:
        """Undo :meth:`join`."""
        vector = vector.astype(np.float64)
        return VAEParameters(vector[None, : self.n_theta], vector[None, self.n_theta :])

    def estimate(self, theta, index, rng):
        decoder, encoder = theta[None, : self.n_theta], theta[None, self.n_theta :]
        value, found = self.batches.step(decoder, encoder, index, rng, self.batches.n_draws)
        gradient = np.concatenate([found.decoder[0], found.encoder[0]])
        gradient[: self.n_theta] += self.share * self.penalty.gradient(decoder)[0]
        return float(value[0] + self.share * self.penalty.value(decoder)[0]), gradient

    def constrain(self, theta):
        if self.batches.decoder.rows.n_extra:
            at = self.n_theta - 1
            theta[at] = max(theta[at], np.float32(np.log(NOISE_FLOOR)))

    def judge(self, rows: TrainingRows, batch_size: int, seed: int) -> Any:
        """Return a function that scores parameters on rows, with the same draws at every call.

        Scores are ``Hmaxe_T`` and have no penalty.
        """
        held = _Batches(self._config, rows)
        n_draws = max(_HELD_OUT_DRAWS, held.n_draws)
        parts = np.array_split(np.arange(len(rows.X)), -(-len(rows.X) // batch_size))

        def score(theta: FloatArray) -> float:
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
        phi: FloatArray,
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
