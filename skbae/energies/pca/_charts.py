"""Local coordinates of PCA: those of ``_prior.py``, in which posteriors are nearly normal."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae.energies._capabilities import Charts
from skbae.operators._half_normal import log_length, log_length_slope, normal_score

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.energies._capabilities import GradientEnergy
    from skbae.energies.pca._loadings import Loadings, PCAPrior


# Least length of a loading at a chart's centre, in standard deviations of the noise.
_SHORTEST = 0.3


class PCACharts(Charts):
    """Coordinates in units of their prior standard deviations, with lengths as normal scores.

    The posterior density of a direction that may melt is positive at length zero: over the log of
    the length it would have an exponential tail, which no normal density covers. There is one
    block.

    Parameters
    ----------
    energy : GradientEnergy
        PCA in the coordinates of ``_prior.py``.
    prior : PCAPrior
    params : Loadings
        J models.
    """

    n_blocks, n_shared = 1, 0

    def __init__(self, energy: GradientEnergy, prior: PCAPrior, params: Loadings) -> None:
        self.energy, self.n_charts = energy, params.n_models
        self.n_codes = n_codes = params.loadings.shape[2]
        # the coordinate of a length of zero would be minus infinity
        loadings = params.loadings.copy()
        diagonal = np.arange(n_codes)
        shortest = _SHORTEST * np.sqrt(params.noise)[:, None]
        loadings[:, diagonal, diagonal] = np.maximum(loadings[:, diagonal, diagonal], shortest)
        theta = energy.unconstrain(replace(params, loadings=loadings))
        self.block_size = theta.shape[1]
        self.units = np.ones(self.block_size)
        self.units[n_codes : -energy.n_features - 1] = np.sqrt(prior.component_variance)
        self.units[-energy.n_features - 1 : -1] = np.sqrt(prior.mean_variance)
        self._log_volume = float(np.log(self.units).sum())
        self._log_unit = 0.5 * np.log(prior.component_variance)
        self.centres = self._local(theta)

    def take(self, index: Any) -> PCACharts:
        chosen = copy(self)
        chosen.centres = self.centres[index]
        chosen.n_charts = len(chosen.centres)
        return chosen

    def _local(self, theta: Array) -> Array:
        """Return the coordinates of models, (S, P)."""
        n_codes = self.n_codes
        local = theta / self.units
        local[:, :n_codes] = normal_score(theta[:, :n_codes] - self._log_unit)
        return local

    def _lengths(self, local: Array) -> tuple[Array, Array, Array]:
        """Return log lengths in prior units, their slopes, and those of the slopes' logarithms."""
        scores = local[..., : self.n_codes]
        log_lengths = log_length(scores)
        return log_lengths, *log_length_slope(scores, log_lengths)

    def theta_at(self, local: Array) -> Array:
        theta = local * self.units
        theta[..., : self.n_codes] = self._lengths(local)[0] + self._log_unit
        return theta.reshape(-1, self.block_size)

    def pull_back(self, local: Array, gradient: Array) -> Array:
        pulled = (gradient * self.units).reshape(local.shape)
        pulled[..., : self.n_codes] *= self._lengths(local)[1]
        return pulled

    def log_prior(self, local: Array) -> tuple[Array, Array]:
        value, gradient = self.energy.log_prior_at(self.theta_at(local))
        _, slopes, turns = self._lengths(local)
        value = value.reshape(local.shape[:2]) + self._log_volume + np.log(slopes).sum(axis=-1)
        pulled = self.pull_back(local, gradient)
        pulled[..., : self.n_codes] += turns
        return value, pulled

    def locate(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        local = self._local(theta)
        value = self.energy.log_prior_at(theta)[0] + self._log_volume
        value = value + np.log(self._lengths(local)[1]).sum(axis=-1)
        shape = (self.n_charts, 1, len(theta), 1)
        blocks = np.broadcast_to(local[None, None, :, None], (*shape, self.block_size))
        return blocks, np.broadcast_to(value[:, None], shape), theta[:, :0], np.zeros(len(theta))

    def empty_component(self) -> tuple[Array, Array, Array]:
        raise NotImplementedError("PCA has a single component, which is never empty")
