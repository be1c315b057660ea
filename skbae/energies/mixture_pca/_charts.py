"""Local coordinates of mixtures of PCA: each component in the frame of a component of the chart.

A chart has a frame for each block: the principal axes of a component of the model around which it
was made. In that frame loadings are rotated to be lower trapezoidal (``_loadings.py``), which
removes the rotations of the code. The other coordinates are those of ``_prior.py``, except for the
weights: these are normalised gamma variables, whose sum, an auxiliary variable, has a prior as
narrow as if all rows had been counted. The gamma variables are then independent given the
components of the rows, so that each is a coordinate of its component's block.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import digamma, gammaln, polygamma

from skbae.energies._capabilities import Charts
from skbae.energies.mixture._coordinates import log_density_of_shares
from skbae.energies.pca._loadings import log_density_of_diagonal, turn_lower
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.energies.mixture._energy import MixtureParameters


# Least length of a loading at a chart's centre, in standard deviations of the noise; the coordinate
# of a loading of length zero would be minus infinity.
_SHORTEST = 0.3
# Coordinates with which an empty component takes no rows: its log gamma variable, and its mean.
_ABSENT, _FAR = -40.0, 4.0


class PCAMixtureCharts(Charts):
    """Charts around J mixtures of PCA.

    A block is the logarithm of the component's gamma variable (unless weights are fixed), the
    logarithms of the diagonal of its turned loadings, their entries below it, its mean and the
    logarithm of the noise's gamma variable (which is shared where noise is tied), in the units of
    the energy's coordinates.

    Parameters
    ----------
    energy : PCAMixtureWithPrior
    params : MixtureParameters
        J models.
    power : float
        ``N / tau``.
    """

    def __init__(self, energy: Any, params: MixtureParameters, power: float) -> None:
        family = energy.family
        self.energy, self.family = energy, family
        self.n_charts, self.n_blocks = params.weights.shape
        size, d = family.n_features, family.n_latent
        self.has_weights = not energy.equal_weights and self.n_blocks > 1
        self.n_shared = int(family.tied_noise)
        self._below = np.tril_indices(size, -1, d)
        self._diagonal = np.arange(d)
        parts = [int(self.has_weights), d, len(self._below[0]), size, 1 - self.n_shared]
        ends = np.cumsum(parts)
        self.block_size = int(ends[-1])
        self._parts = [slice(end - n, end) for end, n in zip(ends, parts, strict=True)]
        self._concentration = energy.concentration
        self._sum = float(energy.concentration.sum()) + power
        self.frames = _frames(params.components.components)
        self.centres = self._centres(params)

    # -- layout --------------------------------------------------------------------------------

    def _split(self, local: Array) -> tuple[Array, Array]:
        """Return the blocks (..., B, p) and the shared coordinates (..., e)."""
        end = self.n_blocks * self.block_size
        shape = (*local.shape[:-1], self.n_blocks, self.block_size)
        return local[..., :end].reshape(shape), local[..., end:]

    def _join(self, blocks: Array, shared: Array) -> Array:
        flat = blocks.reshape(*blocks.shape[:-2], -1)
        return np.concatenate([flat, shared], axis=-1) if self.n_shared else flat

    def _lower(self, blocks: Array) -> Array:
        """Return the turned loadings (..., D, d) of blocks (..., p)."""
        shape = (*blocks.shape[:-1], self.family.n_features, self.family.n_latent)
        lower = np.zeros(shape)
        lower[..., self._diagonal, self._diagonal] = np.exp(blocks[..., self._parts[1]])
        lower[..., self._below[0], self._below[1]] = blocks[..., self._parts[2]]
        return lower

    def _centres(self, params: MixtureParameters) -> Array:
        """Return coordinates of the charts' models, with positive lengths of melted directions."""
        components, family = params.components, self.family
        noise = np.broadcast_to(components.noise, params.weights.shape)[..., None]
        # at T = 0 only the prior keeps loadings from growing without limit
        longest = family.n_features * family.units[0] ** 2
        precisions = np.maximum(components.precisions, 1.0 / (longest + noise))
        lengths = np.maximum(1.0 / precisions - noise, _SHORTEST**2 * noise)
        log_lengths = 0.5 * np.log(lengths) - np.log(family.units[0])
        means = (components.means - family.prior.mean) / family.units[1]
        log_noise = np.log(family.prior.noise_scale / components.noise)
        blocks = np.zeros((*params.weights.shape, self.block_size))
        if self.has_weights:
            # the sum of the gamma variables is about its prior's mean
            weights = np.maximum(params.weights, 1e-3 / self._sum)
            blocks[..., 0] = np.log(weights * self._sum)
        blocks[..., self._parts[1]] = log_lengths
        blocks[..., self._parts[3]] = means
        if not self.n_shared:
            blocks[..., -1] = log_noise
        blocks = blocks.reshape(self.n_charts, -1)
        return np.concatenate([blocks, log_noise], axis=1) if self.n_shared else blocks

    def take(self, index: Any) -> PCAMixtureCharts:
        chosen = copy(self)
        chosen.frames, chosen.centres = self.frames[index], self.centres[index]
        chosen.n_charts = len(chosen.centres)
        return chosen

    # -- Charts --------------------------------------------------------------------------------

    def theta_at(self, local: Array) -> Array:
        blocks, shared = self._split(local)
        n_models = blocks.shape[0] * blocks.shape[1]
        loadings = np.matmul(self.frames[:, None], self._lower(blocks))
        loadings = loadings.reshape(n_models, *loadings.shape[2:])
        blocks = blocks.reshape(n_models, self.n_blocks, self.block_size)
        noise = shared.reshape(n_models, 1) if self.n_shared else blocks[..., -1]
        components = self.family.join(loadings, blocks[..., self._parts[3]], noise)
        if not self.has_weights:
            return components
        return np.concatenate([blocks[..., 0], components], axis=1)

    def pull_back(self, local: Array, gradient: Array) -> Array:
        blocks, _ = self._split(local)
        shape = local.shape[:2]
        out = np.empty_like(blocks)
        if self.has_weights:
            out[..., 0] = gradient[:, : self.n_blocks].reshape(*shape, -1)
            gradient = gradient[:, self.n_blocks :]
        loadings, means, noise = self.family.split(gradient)
        loadings = loadings.reshape(*shape, *loadings.shape[1:])
        turned = np.matmul(np.swapaxes(self.frames, 2, 3)[:, None], loadings)
        diagonal = turned[..., self._diagonal, self._diagonal]
        out[..., self._parts[1]] = diagonal * np.exp(blocks[..., self._parts[1]])
        out[..., self._parts[2]] = turned[..., self._below[0], self._below[1]]
        out[..., self._parts[3]] = means.reshape(*shape, *means.shape[1:])
        if not self.n_shared:
            out[..., -1] = noise.reshape(*shape, -1)
        return self._join(out, noise.reshape(*shape, -1))

    def log_prior(self, local: Array) -> tuple[Array, Array]:
        blocks, shared = self._split(local)
        gradient = np.empty_like(blocks)
        log_diagonal, of_diagonal = log_density_of_diagonal(blocks[..., self._parts[1]])
        gradient[..., self._parts[1]] = of_diagonal
        for part in self._parts[2:4]:
            gradient[..., part] = -blocks[..., part]
        log_gammas = shared if self.n_shared else blocks[..., -1]
        value = (log_diagonal + self._log_normal(blocks)).sum(axis=-1)
        value += self._log_noise(log_gammas).sum(axis=-1)
        if self.has_weights:
            log_weights, gradient[..., 0] = self._log_weights(blocks[..., 0])
            value += log_weights
        of_noise = self.family.prior.noise_shape - np.exp(log_gammas)
        if not self.n_shared:
            gradient[..., -1] = of_noise
        return value, self._join(gradient, of_noise)

    def _log_normal(self, blocks: Array) -> Array:
        """Return the log prior (...) of the standard normal coordinates in blocks (..., p)."""
        normal = blocks[..., self._parts[2].start : self._parts[3].stop]
        return -0.5 * (normal**2).sum(axis=-1) - 0.5 * normal.shape[-1] * LOG_2PI

    def _log_noise(self, log_gammas: Array) -> Array:
        shape = self.family.prior.noise_shape
        return shape * log_gammas - np.exp(log_gammas) - gammaln(shape)

    def _log_weights(self, log_gammas: Array) -> tuple[Array, Array]:
        """Return the log prior of the logarithms of K gamma variables, and its gradient."""
        return log_density_of_shares(log_gammas, self._concentration, self._sum)

    def locate(self, theta: Array) -> tuple[Array, Array, Array, Array]:
        n = len(theta)
        rest = np.zeros(n)
        shape = (self.n_charts, self.n_blocks, n, self.n_blocks)
        blocks = np.empty((*shape, self.block_size))
        if self.has_weights:
            blocks[..., 0] = theta[:, : self.n_blocks]
            rest += self._log_weights(theta[:, : self.n_blocks])[0]
            theta = theta[:, self.n_blocks :]
        loadings, means, noise = self.family.split(theta)
        turned = np.matmul(np.swapaxes(self.frames, 2, 3)[:, :, None, None], loadings)
        turned = turn_lower(turned)
        diagonal = np.maximum(turned[..., self._diagonal, self._diagonal], 1e-300)
        blocks[..., self._parts[1]] = np.log(diagonal)
        blocks[..., self._parts[2]] = turned[..., self._below[0], self._below[1]]
        blocks[..., self._parts[3]] = means
        log_priors = log_density_of_diagonal(blocks[..., self._parts[1]])[0]
        log_priors += self._log_normal(blocks)
        if self.n_shared:
            rest += self._log_noise(noise).sum(axis=1)
            return blocks, log_priors, noise, rest
        blocks[..., -1] = noise
        log_priors += self._log_noise(noise)
        return blocks, log_priors, noise[:, :0], rest

    def empty_component(self) -> tuple[Array, Array, Array]:
        means, variances = np.zeros(self.block_size), np.ones(self.block_size)
        degrees = 0.5 * (self.family.n_latent - self._diagonal)
        means[self._parts[1]] = 0.5 * (digamma(degrees) + np.log(2))
        variances[self._parts[1]] = 0.25 * polygamma(1, degrees)
        if not self.n_shared:
            shape = self.family.prior.noise_shape
            means[-1], variances[-1] = digamma(shape), polygamma(1, shape)
        absent = means.copy()
        absent[self._parts[3]] = _FAR
        if self.has_weights:
            # without rows, the posterior of the gamma variable is nearly its own prior
            concentration = self._concentration.mean()
            means[0], variances[0] = digamma(concentration), polygamma(1, concentration)
            absent[0] = _ABSENT
        return absent, means, variances


def _frames(components: Array) -> Array:
    """Return orthonormal bases (J, K, D, D), in columns, that begin with the components."""
    n_latent, size = components.shape[2:]
    if n_latent == 0:
        return np.broadcast_to(np.eye(size), (*components.shape[:2], size, size))
    columns = np.swapaxes(components, 2, 3)
    frames, upper = np.linalg.qr(columns, mode="complete")
    signs = np.where(np.diagonal(upper, axis1=2, axis2=3) < 0, -1.0, 1.0)
    frames[..., :n_latent] *= signs[:, :, None]
    return frames
