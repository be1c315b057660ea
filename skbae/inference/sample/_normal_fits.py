"""Normal densities fitted to modes, each in its own chart, averaged over relabellings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from skbae.energies._capabilities import Charts
from skbae.operators._permanent import log_permanent
from skbae.operators._tempered import log_mean_exp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skbae._types import Array


_LOG_2PI = float(np.log(2 * np.pi))
# Largest number of entries of the array of models' coordinates in all charts.
_LOCATED = 1 << 22


@dataclass(frozen=True)
class NormalFits:
    """J normal densities, each in a chart; blocks (components) are independent of each other.

    Attributes
    ----------
    charts : Charts
    means : ndarray of shape (J, B, p)
    factors : ndarray of shape (J, B, p, p)
        Lower triangular factors of the covariances.
    inverses : ndarray of shape (J, B, p, p)
        Inverses of the factors.
    shared_means, shared_scales : ndarrays of shape (J, e)
    """

    charts: Charts
    means: Array
    factors: Array
    inverses: Array
    shared_means: Array
    shared_scales: Array

    @classmethod
    def from_covariances(cls, charts: Charts, means: Array, covariances: Array) -> NormalFits:
        """Return fits with means (J, P) and the diagonal blocks of covariances (J, P, P)."""
        n_blocks, size = charts.n_blocks, charts.block_size
        shape, end = (charts.n_charts, n_blocks, size), n_blocks * size
        blocks = covariances[:, :end, :end].reshape(*shape, n_blocks, size)
        blocks = np.einsum("jbpbq->jbpq", blocks)
        factors = np.linalg.cholesky(blocks)
        spread = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2)[:, end:])
        inverses = np.linalg.inv(factors)
        return cls(charts, means[:, :end].reshape(shape), factors, inverses, means[:, end:], spread)

    @property
    def n_coordinates(self) -> int:
        """P."""
        return self.means.shape[1] * self.means.shape[2] + self.shared_means.shape[1]

    def with_charts(self, charts: Charts, others: Sequence[NormalFits]) -> NormalFits:
        """Join fits that were made one by one, given the charts of all."""
        names = ("means", "factors", "inverses", "shared_means", "shared_scales")
        parts = (self, *others)
        joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
        return replace(self, charts=charts, **joined)

    def take(self, index: NDArray[np.intp]) -> NormalFits:
        """Return some of the fits."""
        names = ("means", "factors", "inverses", "shared_means", "shared_scales")
        chosen = {name: getattr(self, name)[index] for name in names}
        return replace(self, charts=self.charts.take(index), **chosen)

    def own_log_ratio(self, standard: Array) -> Array:
        """Return each fit's log density relative to the prior, without relabelling, (J, n)."""
        scales = np.diagonal(self.factors, axis1=2, axis2=3)
        volume = np.log(scales).sum(axis=(1, 2)) + np.log(self.shared_scales).sum(axis=1)
        density = -0.5 * ((standard**2).sum(axis=2) + standard.shape[2] * _LOG_2PI)
        return density - volume[:, None] - self.charts.log_prior(self.from_standard(standard))[0]

    def from_standard(self, standard: Array) -> Array:
        """Turn independent standard normal numbers (J, n, P) into coordinates of models."""
        blocks, shared = self._split(standard)
        moved = np.matmul(np.swapaxes(blocks, 1, 2), np.swapaxes(self.factors, 2, 3))
        moved += self.means[:, :, None]
        shared = self.shared_means[:, None] + self.shared_scales[:, None] * shared
        return self._join(np.swapaxes(moved, 1, 2), shared)

    def pull_back(self, gradient: Array) -> Array:
        """Turn gradients in coordinates of models into gradients in the standard normal numbers."""
        blocks, shared = self._split(gradient)
        moved = np.matmul(np.swapaxes(blocks, 1, 2), self.factors)
        return self._join(np.swapaxes(moved, 1, 2), self.shared_scales[:, None] * shared)

    def _split(self, local: Array) -> tuple[Array, Array]:
        n_blocks, size = self.means.shape[1:]
        end = n_blocks * size
        return local[..., :end].reshape(*local.shape[:2], n_blocks, size), local[..., end:]

    def _join(self, blocks: Array, shared: Array) -> Array:
        return np.concatenate([blocks.reshape(*blocks.shape[:2], -1), shared], axis=2)

    def log_ratios(self, theta: Array) -> Array:
        """Return log densities relative to the prior, (S, J), averaged over relabellings."""
        n_charts, n_blocks, size = self.means.shape
        step = max(1, _LOCATED // (n_charts * n_blocks**2 * size))
        parts = [self._log_ratios(theta[i : i + step]) for i in range(0, len(theta), step)]
        return np.concatenate(parts)

    def _log_ratios(self, theta: Array) -> Array:
        blocks, log_priors, shared, rest = self.charts.locate(theta)
        n_charts, n_blocks, n_models, _, size = blocks.shape
        deviations = (blocks - self.means[:, :, None, None]).reshape(n_charts, n_blocks, -1, size)
        deviations = np.matmul(deviations, np.swapaxes(self.inverses, 2, 3))
        squares = np.einsum("jbnp,jbnp->jbn", deviations, deviations)
        scales = np.diagonal(self.factors, axis1=2, axis2=3)
        constants = -0.5 * size * _LOG_2PI - np.log(scales).sum(axis=2)
        logs = constants[..., None] - 0.5 * squares
        logs = logs.reshape(n_charts, n_blocks, n_models, n_blocks) - log_priors
        # (block, part, model, chart)
        value = log_permanent(logs.transpose(1, 3, 2, 0)) - gammaln(n_blocks + 1)
        deviations = (shared[:, None] - self.shared_means) / self.shared_scales
        value -= 0.5 * (deviations**2 + _LOG_2PI).sum(axis=2)
        value -= np.log(self.shared_scales).sum(axis=1)
        return value - rest[:, None]

    def log_ratio(self, theta: Array) -> Array:
        """Return the log of the mean density over all fits, relative to the prior, (S,)."""
        return log_mean_exp(self.log_ratios(theta), axis=1)
