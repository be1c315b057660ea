"""Distributions from ``encode`` and ``decode`` of network autoencoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._distribution import Distribution, DistributionWithDensity
from skbae.energies.vae._decoder import Decoder
from skbae.energies.vae._network import Scratch
from skbae.operators._draws import categorical_draws
from skbae.operators._tempered import tempered_logsumexp

if TYPE_CHECKING:
    from skbae._types import Array


@dataclass(frozen=True)
class WeightedPoints(Distribution):
    """The distribution of each row's code, as weighted points.

    Attributes
    ----------
    points : ndarray of shape (N, L, d)
    weights : ndarray of shape (N, L)
        Summing to 1 for each row.
    log_density : ndarray of shape (N, L)
        Log density of the code's distribution at the points; zeros if each row has a single point.

    Examples
    --------
    >>> import numpy as np
    >>> codes = WeightedPoints(
    ...     np.array([[[0.0], [2.0]]]), np.array([[0.5, 0.5]]), np.full((1, 2), -1.0))
    >>> codes.mean.tolist(), codes.covariance.tolist(), codes.entropy().tolist()
    ([[1.0]], [[[1.0]]], [1.0])
    >>> codes.sample(3, random_state=0).shape
    (3, 1, 1)
    """

    points: Array
    weights: Array
    log_density: Array

    @property
    def mean(self) -> Array:
        return np.matmul(self.weights[:, None], self.points)[:, 0]

    @property
    def covariance(self) -> Array:
        deviations = self.points - self.mean[:, None]
        weighted = self.weights[..., None] * deviations
        return np.matmul(np.swapaxes(weighted, 1, 2), deviations)

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        index = categorical_draws(self.weights, n_samples, rng)
        return self.points[np.arange(len(self.points)), index]

    def entropy(self) -> Array:
        """Entropy in nats, (N,), estimated at the points; 0 where the code is certain."""
        safe = np.where(self.weights > 0, self.log_density, 0.0)
        return -np.einsum("nl,nl->n", self.weights, safe)


@dataclass(frozen=True)
class NetworkRows(DistributionWithDensity):
    """The distribution of rows given codes: of each row, a mixture over its weighted codes.

    Attributes
    ----------
    decoder : Decoder
    theta : ndarray of shape (1, P)
        Parameters of the decoder.
    centre, unit : ndarrays of shape (D,)
        Rows are ``centre + unit *`` rows of the decoder.
    points : ndarray of shape (N, L, d)
        Codes.
    weights : ndarray of shape (N, L)
    """

    decoder: Decoder
    theta: Array
    centre: Array
    unit: Array
    points: Array
    weights: Array

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.points), len(self.centre)

    def _means(self, points: Array) -> Array:
        """Return expected rows (n, L, D), before units, of codes (n, L, d)."""
        layers, _ = self.decoder.split(self.theta)
        flat = points.reshape(1, -1, points.shape[-1])
        outputs = self.decoder.network.forward(layers, flat, Scratch())[-1]
        return self.decoder.rows.mean(outputs[0]).reshape(*points.shape[:-1], -1)

    @property
    def _extra(self) -> Array:
        return self.decoder.split(self.theta)[1]

    def _variances(self, means: Array) -> Array:
        return self.decoder.rows.variance(means[None], self._extra)[0]

    def _each(self, function: Any) -> Array:
        """Stack the results of `function` of each row's means (L, D) and weights (L,)."""
        return np.stack(
            [
                function(self._means(self.points[n : n + 1])[0], self.weights[n])
                for n in range(len(self.points))
            ]
        )

    @property
    def mean(self) -> Array:
        return self.centre + self.unit * self._each(lambda means, weights: weights @ means)

    @property
    def covariance(self) -> Array:

        def one(means: Array, weights: Array) -> Array:
            deviations = means - weights @ means
            between = (weights[:, None] * deviations).T @ deviations
            return between + np.diag(weights @ self._variances(means[:, None])[:, 0])

        return self.unit[:, None] * self.unit * self._each(one)

    @property
    def variance(self) -> Array:

        def one(means: Array, weights: Array) -> Array:
            within = self._variances(means[:, None])[:, 0]
            return weights @ (within + (means - weights @ means) ** 2)

        return self.unit**2 * self._each(one)

    def _draw(self, n_samples: int, rng: np.random.Generator) -> Array:
        index = categorical_draws(self.weights, n_samples, rng)
        means = self._means(self.points[np.arange(len(self.points)), index])
        drawn = self.decoder.rows.draw(means[None], self._extra, rng)[0]
        return self.centre + self.unit * drawn

    def log_density(self, X: Array) -> Array:
        layers, extra = self.decoder.split(self.theta)
        scaled = (np.asarray(X, np.float64) - self.centre) / self.unit
        out = np.empty(scaled.shape[:-1])
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.weights)
        for n in range(len(self.points)):
            outputs = self.decoder.network.forward(layers, self.points[n : n + 1], Scratch())[-1]
            rows = scaled[..., n, :].reshape(-1, scaled.shape[-1])
            shape = (1, outputs.shape[1], len(rows), outputs.shape[2])
            outputs = np.broadcast_to(outputs[:, :, None], shape).copy()
            value, _ = self.decoder.rows.log_density(rows, outputs, extra, Scratch())
            total = tempered_logsumexp(value[0] + log_weights[n][:, None], 1.0, axis=0)
            out[..., n] = total.reshape(out.shape[:-1])
        return out - np.log(self.unit).sum()

    def entropy(self, n_samples: int = 100, random_state: Any = 0) -> Array:
        """Entropy in nats, (N,).

        Exact for rows with a single code; otherwise the mean of minus the log density over
        `n_samples` draws (fixed by `random_state`).
        """
        if self.points.shape[1] == 1:
            means = self._means(self.points)
            own = self.decoder.rows.entropy(np.swapaxes(means, 0, 1)[None], self._extra)[0, 0]
            return own + np.log(self.unit).sum()
        return self._entropy_by_draws(n_samples, random_state)
