r"""Decoders: a network whose outputs are the parameters of a distribution of rows.

The parameters of a decoder are one vector for each model: those of its network, then those of its
:class:`Likelihood` (the logarithm of the noise variance, or none).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skbae.energies.vae._network import Network, Scratch
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from skbae._types import FloatArray
    from skbae.energies.vae._network import Layers


class Likelihood(ABC):
    """``p(x | outputs, extra)``; rows may be scaled beforehand if `scaled` says so.

    Outputs have shape (S, L, n, D): S models, L codes for each of n rows.
    """

    has_noise: bool
    """Whether there are logarithms of noise variances: `extra`, one for all features or each."""

    scaled: bool
    """Whether rows are real numbers, which are centred and scaled before."""

    @abstractmethod
    def first_intercepts(self, mean: FloatArray) -> FloatArray:
        """Return outputs whose expected row is close to `mean`."""

    @abstractmethod
    def log_density(
        self, X: FloatArray, outputs: FloatArray, extra: FloatArray, scratch: Scratch
    ) -> tuple[FloatArray, FloatArray]:
        """Return ``log p`` (S, L, n) and its gradient in the outputs (S, L, n, D).

        Parameters
        ----------
        X : ndarray of shape (n, D)
        outputs : ndarray of shape (S, L, n, D)
            Overwritten.
        extra : ndarray of shape (S, n_extra)
        scratch : Scratch
            Holds the gradient.
        """

    @abstractmethod
    def extra_gradient(
        self, slope: FloatArray, shares: FloatArray, extra: FloatArray
    ) -> FloatArray:
        """Return the gradient of the sum of ``shares * log p`` in the extra parameters.

        Parameters
        ----------
        slope : ndarray of shape (S, L, n, D)
            Gradient of ``log p`` in the outputs.
        shares : ndarray of shape (S, L, n)
        extra : ndarray of shape (S, n_extra)

        Returns
        -------
        ndarray of shape (S, n_extra)
        """

    @abstractmethod
    def curvature(self, outputs: FloatArray, extra: FloatArray) -> FloatArray:
        """Return the Fisher information of each output, broadcastable to (S, L, n, D)."""

    @abstractmethod
    def row_gradient(self, X: FloatArray, outputs: FloatArray, extra: FloatArray) -> FloatArray:
        """Return the gradient of ``log p`` in the row, which is linear in the outputs."""

    @abstractmethod
    def mean(self, outputs: FloatArray) -> FloatArray:
        """Return the expected row."""

    @abstractmethod
    def variance(self, mean: FloatArray, extra: FloatArray) -> FloatArray:
        """Return the variance of each feature, given the expected row."""

    @abstractmethod
    def draw(self, mean: FloatArray, extra: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Draw rows with these expectations."""

    @abstractmethod
    def entropy(self, mean: FloatArray, extra: FloatArray) -> FloatArray:
        """Return the entropy of each row, given the expected one, (...)."""


class BernoulliLikelihood(Likelihood):
    """Independent bits with the outputs as logits; fractions count as probabilities of a one.

    Logits are clipped at -80 in single precision and at -700 in double, where a bit of one has a
    log probability of that many nats.
    """

    has_noise = False
    scaled = False

    def first_intercepts(self, mean: FloatArray) -> FloatArray:
        # means are clipped, so that logits of constant columns are finite
        bounded = np.clip(mean, 0.01, 0.99)
        return np.log(bounded / (1 - bounded))

    def log_density(
        self, X: FloatArray, outputs: FloatArray, extra: FloatArray, scratch: Scratch
    ) -> tuple[FloatArray, FloatArray]:
        # with u = 1 + exp(-a): log p = -sum (1 - x) a + log u, and p = 1 / u
        limit = -80.0 if outputs.dtype == np.float32 else -700.0
        np.maximum(outputs, limit, out=outputs)
        gradient = scratch("bernoulli u", outputs.shape, outputs.dtype)
        logs = scratch("bernoulli log", outputs.shape, outputs.dtype)
        np.negative(outputs, out=gradient)
        np.exp(gradient, out=gradient)
        gradient += 1
        np.log(gradient, out=logs)
        np.reciprocal(gradient, out=gradient)
        np.subtract(X, gradient, out=gradient)
        outputs *= 1 - X
        logs += outputs
        ones = np.ones(outputs.shape[-1], outputs.dtype)
        return -np.matmul(logs, ones), gradient

    def extra_gradient(
        self, slope: FloatArray, shares: FloatArray, extra: FloatArray
    ) -> FloatArray:
        return np.zeros_like(extra)

    def curvature(self, outputs: FloatArray, extra: FloatArray) -> FloatArray:
        mean = self.mean(outputs)
        return mean * (1 - mean)

    def row_gradient(self, X: FloatArray, outputs: FloatArray, extra: FloatArray) -> FloatArray:
        return outputs

    def mean(self, outputs: FloatArray) -> FloatArray:
        return 0.5 * (1 + np.tanh(0.5 * outputs))

    def variance(self, mean: FloatArray, extra: FloatArray) -> FloatArray:
        return mean * (1 - mean)

    def draw(self, mean: FloatArray, extra: FloatArray, rng: np.random.Generator) -> FloatArray:
        return (rng.random(mean.shape) < mean).astype(np.float64)

    def entropy(self, mean: FloatArray, extra: FloatArray) -> FloatArray:
        def part(p: FloatArray) -> FloatArray:
            return -p * np.log(np.where(p > 0, p, 1.0))

        return (part(mean) + part(1 - mean)).sum(axis=-1)


def _each_feature(extra: FloatArray) -> FloatArray:
    """Return extra parameters (S, 1 or D) with axes for draws and rows, (S, 1, 1, 1 or D)."""
    return extra[:, None, None, :]


class GaussianLikelihood(Likelihood):
    """Normal noise; `extra` is the logarithm of its variance: of all features, or of each."""

    has_noise = True
    scaled = True

    def first_intercepts(self, mean: FloatArray) -> FloatArray:
        return mean

    def log_density(
        self, X: FloatArray, outputs: FloatArray, extra: FloatArray, scratch: Scratch
    ) -> tuple[FloatArray, FloatArray]:
        gradient = scratch("gaussian residual", outputs.shape, outputs.dtype)
        np.subtract(X, outputs, out=gradient)
        root = np.exp(-0.5 * _each_feature(extra)).astype(outputs.dtype)
        gradient *= root
        square = np.einsum("slnd,slnd->sln", gradient, gradient)
        gradient *= root
        n_features = X.shape[1]
        constant = 0.5 * n_features * (LOG_2PI + extra.mean(axis=1))[:, None, None]
        return -0.5 * square - constant.astype(outputs.dtype), gradient

    def extra_gradient(
        self, slope: FloatArray, shares: FloatArray, extra: FloatArray
    ) -> FloatArray:
        # d log p / d log s2 = (slope^2 s2 - 1) / 2 for each feature
        weighted = slope * np.sqrt(shares)[..., None]
        square = np.einsum("slnd,slnd->sd", weighted, weighted)
        each = 0.5 * (square * np.exp(extra) - shares.sum(axis=(1, 2))[:, None])
        return each if extra.shape[1] > 1 else each.sum(axis=1, keepdims=True)

    def curvature(self, outputs: FloatArray, extra: FloatArray) -> FloatArray:
        return np.exp(-_each_feature(extra))

    def row_gradient(self, X: FloatArray, outputs: FloatArray, extra: FloatArray) -> FloatArray:
        return (outputs - X) * np.exp(-_each_feature(extra))

    def mean(self, outputs: FloatArray) -> FloatArray:
        return outputs

    def variance(self, mean: FloatArray, extra: FloatArray) -> FloatArray:
        return np.broadcast_to(np.exp(_each_feature(extra)), mean.shape)

    def draw(self, mean: FloatArray, extra: FloatArray, rng: np.random.Generator) -> FloatArray:
        deviation = np.exp(0.5 * _each_feature(extra))
        return mean + deviation * rng.standard_normal(mean.shape)

    def entropy(self, mean: FloatArray, extra: FloatArray) -> FloatArray:
        own = 0.5 * mean.shape[-1] * (LOG_2PI + 1 + extra.mean(axis=1))
        return np.broadcast_to(own[:, None, None], mean.shape[:-1])


# Whether features share one noise variance or have one each.
NOISES = ("per_feature", "shared")

LIKELIHOODS: dict[str, Likelihood] = {
    "gaussian": GaussianLikelihood(),
    "bernoulli": BernoulliLikelihood(),
}


@dataclass(frozen=True)
class Decoder:
    """A network, and the distribution of rows given its outputs.

    Attributes
    ----------
    network : Network
        From codes to outputs.
    likelihood : str
        A key of `LIKELIHOODS`.
    noise : str, default="shared"
        A key of `NOISES`: whether features have one noise variance, or one each.
    code_precision : float, default=1.0
        Precision of the prior of codes: the energy has ``-code_precision |z|^2 / 2``. It is a unit
        of length of the codes: 1 in all methods, T in training.
    """

    network: Network
    likelihood: str
    noise: str = "shared"
    code_precision: float = 1.0

    @property
    def rows(self) -> Likelihood:
        """The distribution of rows given outputs."""
        return LIKELIHOODS[self.likelihood]

    @property
    def n_extra(self) -> int:
        """Number of parameters in addition to the network's."""
        if not self.rows.has_noise:
            return 0
        return self.network.sizes[-1] if self.noise == "per_feature" else 1

    @property
    def n_parameters(self) -> int:
        """P, the noise included."""
        return self.network.n_parameters + self.n_extra

    def split(self, theta: FloatArray) -> tuple[Layers, FloatArray]:
        """Return the network's layers and the extra parameters (S, n_extra) of vectors (S, P)."""
        return self.network.layers(theta), theta[:, self.network.n_parameters :]

    def log_code_prior(self, z: FloatArray) -> FloatArray:
        """Return the energy of codes (..., d) themselves, (...)."""
        return z.dtype.type(-0.5 * self.code_precision) * np.einsum("...d,...d->...", z, z)
