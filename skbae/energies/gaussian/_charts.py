"""Local coordinates of Gaussian mixtures, in which components with many rows are nearly normal.

With the coordinates of ``_coordinates.py``, a mean nu given the factor B of its precision has the
covariance ``inverse(B B') / (strength + rows)`` under the posterior, and is ``N(0, inverse(B B') /
strength)`` a priori. So a block has ``u = sqrt(kappa) B' (nu - nu_0)`` in place of nu, with
``nu_0`` the mean at the centre of the chart and kappa the strength of the prior plus the rows there
(divided by tau): given the rows of a component, u is standard normal and independent of B. A
component without rows has ``nu_0 = 0``, and u is standard normal as well.

Weights are normalised gamma variables whose sum, an auxiliary variable, has a prior as narrow as if
all rows had been counted.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import digamma, gammaln, polygamma

from skbae.energies._capabilities import Charts
from skbae.energies.mixture._coordinates import log_density_of_shares
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.energies.mixture._energy import MixtureParameters

# Coordinate with which an empty component takes no rows: its log gamma variable.
_ABSENT = -40.0
# Components of fewer rows (divided by tau) at the centre of a chart count as empty.
_NO_ROWS = 1e-2


class GaussianCharts(Charts):
    """Charts around J Gaussian mixtures.

    A block is the logarithm of the component's gamma variable (unless weights are fixed), its
    whitened mean, and the coordinates of its precision's factor (which are shared where covariances
    are tied).

    Parameters
    ----------
    energy : conjugate mixture of Gaussians in coordinates
    params : MixtureParameters
        J models.
    power : float
        ``N / tau``.
    """

    def __init__(self, energy: Any, params: MixtureParameters, power: float) -> None:
        self.family, self.shape = energy.family, energy.family.shape
        self.coordinates = self.family._coordinates
        self.n_charts, self.n_blocks = params.weights.shape
        self.tied, size = self.family.tied, self.family.n_features
        self.has_weights = energy._n_shares > 0
        n_entries = self.coordinates.n_coordinates
        self.n_shared = n_entries if self.tied else 0
        first = int(self.has_weights)
        self._mean = slice(first, first + size)
        self._entries = slice(first + size, first + size + n_entries)
        self.block_size = first + size + (0 if self.tied else n_entries)
        self.strength = float(self.family.prior.strength[0, 0])
        self._half = 0.5 * self.coordinates.degrees(self.family.prior.dof)[0, 0]
        self._concentration = energy.concentration
        self._sum = float(energy.concentration.sum()) + power
        theta = self.family.unconstrain(params.components)
        means, entries = self.family._split(theta)
        rows = params.weights * power
        empty = (rows < _NO_ROWS) & self.has_weights
        self.locations = np.where(empty[..., None], 0.0, means)
        self.kappa = self.strength + np.where(empty, 0.0, rows)
        blocks = np.zeros((*params.weights.shape, self.block_size))
        if self.has_weights:
            blocks[..., 0] = np.log(np.maximum(params.weights, 1e-3 / self._sum) * self._sum)
        if not self.tied:
            blocks[..., self._entries] = entries
        self.centres = self._join(blocks, entries[:, 0])

    # -- layout --------------------------------------------------------------------------------

    def _split(self, local: Array) -> tuple[Array, Array, Array]:
        """Return the blocks (..., B, p), their whitened means and the factors' entries."""
        end = self.n_blocks * self.block_size
        blocks = local[..., :end].reshape(*local.shape[:-1], self.n_blocks, self.block_size)
        entries = local[..., None, end:] if self.tied else blocks[..., self._entries]
        return blocks, blocks[..., self._mean], entries

    def _join(self, blocks: Array, shared: Array) -> Array:
        flat = blocks.reshape(*blocks.shape[:-2], -1)
        return np.concatenate([flat, shared], axis=-1) if self.tied else flat

    def _outer(self, first: Array, second: Array) -> Array:
        """Return the gradient ``a b'`` in a factor of the family's shape."""
        if len(self.shape.tail) == 2:
            return first[..., :, None] * second[..., None, :]
        product = first * second
        return product if self.shape.tail else product.sum(axis=-1)

    def _of_entries(self, factors: Array, first: Array, second: Array) -> Array:
        """Return the gradient in the entries of a function with gradient ``a b'`` in factors."""
        outer = self._outer(first, second)
        return self.coordinates.chain(
            factors, outer.sum(axis=2, keepdims=True) if self.tied else outer
        )

    def _offsets(self, factors: Array, means: Array) -> Array:
        """Return ``nu - nu_0`` (J, n, B, D) of whitened means."""
        root = np.sqrt(self.kappa)[:, None, :, None]
        solved = self.coordinates.solve_transposed(factors, means / root)
        return np.broadcast_to(solved, means.shape)

    def take(self, index: Any) -> GaussianCharts:
        chosen = copy(self)
        chosen.centres, chosen.locations = self.centres[index], self.locations[index]
        chosen.kappa = self.kappa[index]
        chosen.n_charts = len(chosen.centres)
        return chosen

    # -- Charts --------------------------------------------------------------------------------

    def theta_at(self, local: Array) -> Array:
        blocks, means, entries = self._split(local)
        factors = self.coordinates.factors(entries)
        located = self.locations[:, None] + self._offsets(factors, means)
        n_models = local.shape[0] * local.shape[1]
        components = self.family._join(
            located.reshape(n_models, *located.shape[2:]),
            entries.reshape(n_models, *entries.shape[2:]),
        )
        if not self.has_weights:
            return components
        return np.concatenate([blocks[..., 0].reshape(n_models, -1), components], axis=1)

    def pull_back(self, local: Array, gradient: Array) -> Array:
        blocks, means, entries = self._split(local)
        factors = self.coordinates.factors(entries)
        out, shape = np.empty_like(blocks), local.shape[:2]
        if self.has_weights:
            out[..., 0] = gradient[:, : self.n_blocks].reshape(*shape, -1)
            gradient = gradient[:, self.n_blocks :]
        of_means, of_entries = self.family._split(gradient)
        of_means = of_means.reshape(means.shape)
        along = np.broadcast_to(self.coordinates.solve(factors, of_means), means.shape)
        out[..., self._mean] = along / np.sqrt(self.kappa)[:, None, :, None]
        of_entries = of_entries.reshape(entries.shape) - self._of_entries(
            factors, self._offsets(factors, means), along
        )
        if not self.tied:
            out[..., self._entries] = of_entries
        return self._join(out, of_entries[..., 0, :])

    def log_prior(self, local: Array) -> tuple[Array, Array]:
        blocks, means, entries = self._split(local)
        factors = self.coordinates.factors(entries)
        root = np.sqrt(self.kappa)[:, None, :, None]
        locations = np.broadcast_to(self.locations[:, None], means.shape)
        white = self.coordinates.apply_transposed(factors, locations) + means / root
        value = self._log_white(white, self.kappa[:, None]).sum(axis=-1)
        log_entries, of_entries = self._log_entries(entries)
        value += log_entries.sum(axis=-1)
        of_entries -= self._of_entries(factors, locations, self.strength * white)
        gradient = np.empty_like(blocks)
        gradient[..., self._mean] = -self.strength * white / root
        if not self.tied:
            gradient[..., self._entries] = of_entries
        if self.has_weights:
            log_weights, gradient[..., 0] = self._log_weights(blocks[..., 0])
            value += log_weights
        return value, self._join(gradient, of_entries[..., 0, :])

    def _log_weights(self, log_gammas: Array) -> tuple[Array, Array]:
        return log_density_of_shares(log_gammas, self._concentration, self._sum)

    def _log_white(self, white: Array, kappa: Array) -> Array:
        """Return the log prior of whitened means, given ``B' nu`` (..., D)."""
        size = white.shape[-1]
        constant = 0.5 * size * (np.log(self.strength / kappa) - LOG_2PI)
        return constant - 0.5 * self.strength * (white**2).sum(axis=-1)

    def _log_entries(self, entries: Array) -> tuple[Array, Array]:
        """Return the log prior (...) of entries of factors (..., Q), and its gradient."""
        n_logs, half = self.coordinates.n_logs, self._half
        logs, above = entries[..., :n_logs], entries[..., n_logs:]
        squares = np.exp(2 * logs)
        constant = np.log(2) * (1 - half) - gammaln(half)
        value = (2 * half * logs - 0.5 * squares + constant).sum(axis=-1)
        value -= 0.5 * (above**2 + LOG_2PI).sum(axis=-1)
        return value, np.concatenate([2 * half - squares, -above], axis=-1)

    def locate(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        n = len(theta)
        rest = np.zeros(n)
        shape = (self.n_charts, self.n_blocks, n, self.n_blocks)
        blocks = np.empty((*shape, self.block_size))
        if self.has_weights:
            blocks[..., 0] = theta[:, : self.n_blocks]
            rest += self._log_weights(theta[:, : self.n_blocks])[0]
            theta = theta[:, self.n_blocks :]
        means, entries = self.family._split(theta)
        factors = self.coordinates.factors(entries)
        origin = self.locations[:, :, None, None]
        kappa = self.kappa[:, :, None, None]
        white = self.coordinates.apply_transposed(factors, means)
        shifted = self.coordinates.apply_transposed(factors, means - origin)
        blocks[..., self._mean] = np.sqrt(kappa)[..., None] * shifted
        log_priors = self._log_white(white, kappa)
        log_entries = self._log_entries(entries)[0]
        if self.tied:
            return blocks, log_priors, entries[:, 0], rest + log_entries[:, 0]
        blocks[..., self._entries] = entries
        return blocks, log_priors + log_entries, entries[:, 0, :0], rest

    def empty_component(self) -> tuple[Array, Array, Array]:
        means, variances = np.zeros(self.block_size), np.ones(self.block_size)
        if not self.tied:
            logs = slice(self._entries.start, self._entries.start + self.coordinates.n_logs)
            means[logs] = 0.5 * (digamma(self._half) + np.log(2))
            variances[logs] = 0.25 * polygamma(1, self._half)
        absent = means.copy()
        if self.has_weights:
            concentration = self._concentration.mean()
            means[0], variances[0] = digamma(concentration), polygamma(1, concentration)
            absent[0] = _ABSENT
        return absent, means, variances
