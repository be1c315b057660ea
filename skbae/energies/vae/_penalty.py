"""Penalties on a decoder's parameters: a ridge, or the log density of a prior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from skbae._types import Array, FloatArray
    from skbae.energies.vae._decoder import Decoder


class Penalty(ABC):
    """A term that is added to N times ``Hmaxe_T``, in nats, for parameters of scaled rows."""

    @abstractmethod
    def value(self, theta: FloatArray) -> FloatArray:
        """Return the term, (S,), for decoders (S, P)."""

    @abstractmethod
    def gradient(self, theta: FloatArray) -> FloatArray:
        """Return its gradient, (S, P)."""

    def add_gradient(self, theta: FloatArray, factor: np.floating[Any], total: FloatArray) -> None:
        """Add its gradient times a factor to `total`, (S, P)."""
        total += factor * self.gradient(theta)


class Ridge(Penalty):
    """``-alpha / 2`` times the sum of squared weights; intercepts are not penalised.

    If features have a noise variance each, these are drawn to one value as by so many rows of it:
    the penalty has ``-n_rows / 2 (log s2 + level / s2)`` for each.

    Parameters
    ----------
    decoder : Decoder
    alpha : float
    n_rows : float, default=0.0
    log_level : float, default=0.0
        Logarithm of the value.
    """

    def __init__(
        self, decoder: Decoder, alpha: float, n_rows: float = 0.0, log_level: float = 0.0
    ) -> None:
        network = decoder.network
        self.noise_at, self.half, self.log_level = network.n_parameters, 0.5 * n_rows, log_level
        self.alpha, self.weights = np.float32(alpha), network.weight_ranges() if alpha else []

    def value(self, theta: FloatArray) -> FloatArray:
        """Return minus half the weighted sum of squares, and the term of the noise."""
        logs = theta[:, self.noise_at :]
        found = -self.half * (logs + np.exp(self.log_level - logs)).sum(axis=1)
        for part in self.weights:
            found -= 0.5 * self.alpha * np.einsum("sp,sp->s", theta[:, part], theta[:, part])
        return found

    def gradient(self, theta: FloatArray) -> FloatArray:
        """Return its gradient."""
        found = np.zeros_like(theta)
        self.add_gradient(theta, np.float32(1), found)
        return found

    def add_gradient(self, theta: FloatArray, factor: np.floating[Any], total: FloatArray) -> None:
        """Add its gradient times a factor to `total`, (S, P)."""
        for part in self.weights:
            total[:, part] -= factor * self.alpha * theta[:, part]
        logs = theta[:, self.noise_at :]
        slope = self.half * (1 - np.exp(self.log_level - logs))
        total[:, self.noise_at :] -= factor * slope.astype(total.dtype)


class Prior(Penalty):
    """Normal weights of variance ``v / fan_in``, intercepts of variance v, inverse gamma noise.

    Values are log densities without their constants.

    Parameters
    ----------
    decoder : Decoder
    weight_variance : float
        v.
    noise_shape : float
    noise_scale : ndarray of shape (n_extra,)
        Of the priors of the noise variances of scaled rows.
    """

    def __init__(
        self, decoder: Decoder, weight_variance: float, noise_shape: float, noise_scale: Array
    ) -> None:
        network = decoder.network
        self.noise_at = network.n_parameters
        self.precision = np.zeros(decoder.n_parameters, np.float32)
        self.precision[: self.noise_at] = network.fan_in() / weight_variance
        self.shape, self.scale = noise_shape, np.asarray(noise_scale, np.float32)

    def value(self, theta: FloatArray) -> FloatArray:
        """Return the log density of (weights, log s2)."""
        logs = theta[:, self.noise_at :]
        noise = (self.scale * np.exp(-logs) + self.shape * logs).sum(axis=1)
        return -0.5 * np.einsum("p,sp,sp->s", self.precision, theta, theta) - noise

    def gradient(self, theta: FloatArray) -> FloatArray:
        """Return its gradient."""
        found = -self.precision * theta
        logs = theta[:, self.noise_at :]
        found[:, self.noise_at :] = self.scale * np.exp(-logs) - self.shape
        return found

    def curvature(self) -> Array:
        """Return the precision of the normal approximation at the prior's mode, (P,)."""
        found = self.precision.astype(np.float64)
        found[self.noise_at :] = self.shape
        return found
