"""PCA components of given rows with their parameters integrated out, approximately.

Searches for modes compare allocations of rows to components by ``log p(X, z)``. For PCA components
this has no closed form, but a good approximation that depends on the rows of a component through
their number, mean and scatter alone. The integral over the mean is Gaussian given the rest. The
rest is Laplace's method in the principal axes of the component's rows, where the loadings are
diagonal at the optimum (compare Minka 2000, "Automatic choice of dimensionality for PCA"): with
eigenvalues e_i of the scatter, variances c_i along the d directions and noise s2, turning direction
i towards direction j has the curvature ``(e_i - e_j) (1 / c_j - 1 / c_i)``.

The leave-one-out probabilities of a row are approximated too, by a Student's t along each direction
and for the residual, whose leverage is that of a regression of the row on its coordinates. So this
serves to search for modes, not to estimate the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from skbae.energies.mixture._collapsed import CollapsedComponents
from skbae.energies.mixture_pca._kernel import PCAComponents, PCAMoments
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array
    from skbae.energies._allocations import Labels
    from skbae.energies.pca._loadings import PCAPrior

# Number of Fisher scoring steps for the lengths of loadings, and the longest one in log units.
_STEPS, _LONGEST_STEP = 6, 1.5
# Largest leverage of a row on its component.
_MOST_LEVERAGE = 0.95


@dataclass(frozen=True)
class _Fits:
    """Components at their optimum, S x K.

    Attributes
    ----------
    counts : ndarray of shape (S, K)
        Rows, times the heat.
    means : ndarray of shape (S, K, A)
        On the leading axes.
    directions : ndarray of shape (S, K, A, d)
        In columns.
    variances : ndarray of shape (S, K, d)
        Of the rows along the directions.
    noise : ndarray of shape (S, K)
    degrees : ndarray of shape (S, K)
        Of freedom, of the noise.
    log_marginal : ndarray of shape (S, K)
    """

    counts: Array
    means: Array
    directions: Array
    variances: Array
    noise: Array
    degrees: Array
    log_marginal: Array


class CollapsedPCA(CollapsedComponents):
    """PCA components integrated over their prior by Laplace's method, on the rows' leading axes.

    What rows have beyond the leading axes counts as noise.

    Parameters
    ----------
    n_components, n_latent : int
    prior : PCAPrior
    temperature : float
        T, of the codes within a component.
    heat : float
        ``1 / tau``.
    rows : ndarray of shape (N, D)
    axes : ndarray of shape (A, D)
        Orthonormal, d at least.
    centre : ndarray of shape (D,)
    """

    def __init__(
        self,
        n_components: int,
        n_latent: int,
        prior: PCAPrior,
        temperature: float,
        heat: float,
        rows: Array,
        axes: Array,
        centre: Array,
    ) -> None:
        self.n_components, self.n_latent, self.n_features = n_components, n_latent, len(centre)
        self.prior, self.temperature, self.heat = prior, temperature, heat
        self.axes, self.centre = axes, centre
        self.location = axes @ (prior.mean - centre)
        # what a row adds to the degrees of freedom of the noise; it would be negative at a
        # temperature above D / d
        self._noise_degrees = max(self.n_features - temperature * n_latent, 0.0)
        self._upper = np.triu_indices(len(axes))
        deviations = np.asarray(rows, np.float64) - centre
        self.columns = deviations
        along = deviations @ axes.T
        beyond = np.maximum((deviations**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        self._set(along, beyond if len(axes) < self.n_features else np.zeros(len(rows)))

    def _set(self, along: Array, beyond: Array) -> None:
        self.along, self.beyond, self.n_rows = along, beyond, len(along)
        products = along[:, self._upper[0]] * along[:, self._upper[1]]
        ones = np.ones(len(along))
        self.features = np.column_stack([products, along, beyond, ones])
        prior = self.prior
        noise = prior.noise_scale / prior.noise_shape
        self.spread = noise + self.n_latent * prior.component_variance
        self.standard_rows = along / np.sqrt(self.spread)

    def take_rows(self, index: NDArray[np.intp]) -> CollapsedPCA:
        part = object.__new__(CollapsedPCA)
        part.__dict__.update(self.__dict__)
        part.columns = self.columns[index]
        part._set(self.along[index], self.beyond[index])
        return part

    def _unpack(self, sums: Array) -> tuple[Array, Array, Array, Array]:
        """Return second moments (..., A, A), sums (..., A), squares beyond, and counts."""
        n_axes, n_products = len(self.axes), len(self._upper[0])
        second = np.empty((*sums.shape[:-1], n_axes, n_axes))
        second[..., self._upper[0], self._upper[1]] = sums[..., :n_products]
        second[..., self._upper[1], self._upper[0]] = sums[..., :n_products]
        return second, sums[..., n_products:-2], sums[..., -2], sums[..., -1]

    def moments(self, sums: Array) -> PCAMoments:
        """Return the sums as moments, in the basis of each component's leading directions.

        Exact if the axes span the rows; else the directions are the best within the axes.
        """
        second, first, beyond, counts = self._unpack(sums)
        safe = np.where(counts > 0, counts, 1.0)[..., None]
        scatter = second - first[..., :, None] * (first / safe)[..., None, :]
        vectors = np.linalg.eigh(scatter)[1][..., ::-1][..., : self.n_latent]
        basis = np.swapaxes(vectors, -1, -2)
        return PCAMoments(
            first @ self.axes,
            np.trace(second, axis1=-2, axis2=-1) + beyond,
            np.matmul(basis, second) @ self.axes,
            basis @ self.axes,
            np.broadcast_to(self.centre, (*counts.shape, self.n_features)),
        )

    def components(self, counts: Array, sums: Array) -> PCAComponents:
        """Return the components at their optimum; those without rows are at the prior's mean.

        Parameters
        ----------
        counts : ndarray of shape (S, K)
            Times the heat.
        sums : ndarray of shape (S, K, F)
            Times the heat.
        """
        fits = self._fit(counts, sums)
        directions = np.swapaxes(fits.directions, -1, -2) @ self.axes
        means = self.centre + np.where(counts[..., None] > 0, fits.means, self.location) @ self.axes
        return PCAComponents(
            means, directions, 1.0 / fits.variances, fits.noise, directions[:, :, :0]
        )

    # -- the integral --------------------------------------------------------------------------

    def _lengths(self, counts: Array, scatter: Array, noise: Array) -> Array:
        """Return the squared lengths (S, K, d) of the loadings, by scoring in their logarithms."""
        longest = self.prior.component_variance
        freedom = self.n_latent - np.arange(self.n_latent)
        along = self.temperature * counts[..., None]
        noise = noise[..., None]
        squares = np.maximum(scatter / np.maximum(along, 1.0) - noise, 0.1 * noise)
        squares = np.minimum(squares, 2 * self.n_features * longest)
        for _ in range(_STEPS):
            whole = squares + noise
            slope = 0.5 * squares * (scatter / whole - along) / whole
            slope += 0.5 * freedom - 0.5 * squares / longest
            bend = 0.5 * (squares / whole) ** 2 * along + 0.5 * squares / longest
            step = slope / (bend + 0.1)
            squares = squares * np.exp(np.clip(step, -_LONGEST_STEP, _LONGEST_STEP))
        return squares

    def _fit(self, counts: Array, sums: Array) -> _Fits:
        prior, d = self.prior, self.n_latent
        second, first, beyond, _ = self._unpack(sums)
        safe = np.where(counts > 0, counts, 1.0)
        means = first / safe[..., None]
        scatter = second - first[..., :, None] * means[..., None, :]
        values, vectors = np.linalg.eigh(scatter)
        values, vectors = np.maximum(values[..., ::-1], 0.0), vectors[..., ::-1]
        own = values[..., :d]
        degrees = 2 * prior.noise_shape + counts * self._noise_degrees
        noise = 2 * prior.noise_scale + values[..., d:].sum(axis=-1) + beyond
        noise = noise / degrees
        squares = self._lengths(counts, own, noise)
        variances = squares + noise[..., None]
        along = self.temperature * counts
        value = -0.5 * (along[..., None] * np.log(variances) + own / variances).sum(axis=-1)
        value -= 0.5 * counts * self.n_features * LOG_2PI
        value += self._of_noise(noise, degrees)
        value += self._of_lengths(squares, variances, along)
        value += self._of_turns(values, beyond, squares, variances, noise)
        shift = np.matmul((means - self.location)[..., None, :], vectors)[..., 0, :]
        value += self._of_mean(shift, safe, variances, noise)
        value = np.where(counts > 0, value, 0.0)
        return _Fits(counts, means, vectors[..., :d], variances, noise, degrees, value)

    def _of_noise(self, noise: Array, degrees: Array) -> Array:
        """Return the log density of the residuals with the prior of log noise, integrated."""
        shape, scale = self.prior.noise_shape, self.prior.noise_scale
        value = -0.5 * degrees * (np.log(noise) + 1) + shape * np.log(scale) - gammaln(shape)
        return value + 0.5 * (LOG_2PI - np.log(0.5 * degrees))

    def _of_lengths(self, squares: Array, variances: Array, along: Array) -> Array:
        """Return the log prior of log lengths (squares are chi-squared) times their width."""
        scaled = squares / self.prior.component_variance
        freedom = self.n_latent - np.arange(self.n_latent)
        value = 0.5 * freedom * np.log(0.5 * scaled) - 0.5 * scaled + np.log(2.0)
        bend = 2 * (squares / variances) ** 2 * along[..., None] + 2 * scaled
        value += 0.5 * (LOG_2PI - np.log(bend)) - gammaln(0.5 * freedom)
        return value.sum(axis=-1)

    def _of_turns(
        self, values: Array, beyond: Array, squares: Array, variances: Array, noise: Array
    ) -> Array:
        """Return the log widths of turns of directions, in units of their normal prior."""
        d, n_axes = self.n_latent, len(self.axes)
        n_beyond = self.n_features - n_axes
        value = np.zeros(noise.shape)
        widths = self._widths(variances, noise)
        for i in range(d):
            scale = self.prior.component_variance / squares[..., i]
            gain = np.maximum(1 / widths[..., i + 1 :] - 1 / variances[..., [i]], 0.0)
            bend = gain * (values[..., [i]] - values[..., i + 1 :]) * scale[..., None]
            value -= 0.5 * np.log1p(bend).sum(axis=-1)
            if n_beyond:
                gain = np.maximum(1 / noise - 1 / variances[..., i], 0.0)
                bend = gain * np.maximum(values[..., i] - beyond / n_beyond, 0.0) * scale
                value -= 0.5 * n_beyond * np.log1p(bend)
        return value

    def _of_mean(self, shift: Array, counts: Array, variances: Array, noise: Array) -> Array:
        """Return the log density of the rows' mean, given the rest, with its prior."""
        spread, widths = self.prior.mean_variance, self._widths(variances, noise)
        value = np.log1p(counts[..., None] * spread / widths)
        value += shift**2 / (spread + widths / counts[..., None])
        beyond = (self.n_features - len(self.axes)) * np.log1p(counts * spread / noise)
        return -0.5 * (value.sum(axis=-1) + beyond)

    def _widths(self, variances: Array, noise: Array) -> Array:
        """Return the variances along all axes of a component, (..., A)."""
        n_rest = len(self.axes) - self.n_latent
        return np.concatenate([variances, np.repeat(noise[..., None], n_rest, axis=-1)], axis=-1)

    def log_marginal(self, counts: Array, sums: Array) -> Array:
        return self._fit(counts, sums).log_marginal.sum(axis=1)

    # -- preferences ---------------------------------------------------------------------------

    def leave_one_out(
        self, counts: Array, sums: Array, labels: Labels, of_joining: Array, of_leaving: Array
    ) -> tuple[Array, Array]:
        fits = self._fit(counts, sums)
        projected = np.swapaxes(fits.directions, -1, -2) @ self.along.T  # (S, K, d, N)
        offset = np.matmul(fits.means[..., None, :], fits.directions)[..., 0, :]
        codes = (projected - offset[..., None]) ** 2
        whole = (self.along**2).sum(axis=1) + self.beyond
        whole = whole - 2 * fits.means @ self.along.T + (fits.means**2).sum(axis=-1)[..., None]
        residual = np.maximum(whole - codes.sum(axis=2), 0.0)
        joins = self._joining(fits, codes, residual) + of_joining[..., None]
        empty = counts == 0
        if empty.any():
            away = ((self.along - self.location) ** 2).sum(axis=1) + self.beyond
            spread = self.spread + self.prior.mean_variance
            alone = -0.5 * self.heat * (self.n_features * np.log(spread) + away / spread)
            joins[empty] = alone + of_joining[empty][:, None]
        chains, rows = np.arange(len(labels))[:, None], np.arange(self.n_rows)
        own = self._leaving(
            fits, codes[chains, labels, :, rows], residual[chains, labels, rows], labels
        )
        own += of_leaving[chains, labels]
        np.put_along_axis(joins, labels[:, None], own[:, None], axis=1)
        return joins, fits.log_marginal.sum(axis=1)

    def _strengths(self, counts: Array, noise: Array) -> tuple[Array, Array]:
        """Return how many rows a component's mean and its loadings count for."""
        prior = self.prior
        return counts + noise / prior.mean_variance, counts + noise / prior.component_variance

    def _joining(self, fits: _Fits, codes: Array, residual: Array) -> Array:
        """Return log densities (S, K, N) of rows that join a component."""
        heat, temperature, size, d = self.heat, self.temperature, self.n_features, self.n_latent
        noise, variances = fits.noise[..., None], fits.variances[..., None]
        of_mean, of_loadings = self._strengths(fits.counts, fits.noise)
        relative = heat * codes / variances
        leverage = relative.sum(axis=2) / of_loadings[..., None] + heat / of_mean[..., None]
        degrees = fits.degrees[..., None]
        square = heat * residual / (noise * (1 + leverage) * degrees)
        value = -0.5 * (degrees + heat * (size - d)) * np.log1p(square)
        value -= 0.5 * (size - d) * np.log1p(leverage)
        value -= 0.5 * heat * self._noise_degrees * np.log(noise)
        along = temperature * fits.counts[..., None, None] + 1
        tails = -0.5 * (along + heat * temperature) * np.log1p(relative / along)
        tails -= 0.5 * heat * temperature * np.log(variances)
        return value + tails.sum(axis=2)

    def _leaving(self, fits: _Fits, codes: Array, residual: Array, labels: Labels) -> Array:
        """Return log densities (S, N) of rows under their own component without them.

        ``codes`` (S, N, d) and ``residual`` (S, N) are squares, under the component with them.
        """
        heat, temperature, size, d = self.heat, self.temperature, self.n_features, self.n_latent
        chains = np.arange(len(labels))[:, None]
        counts, noise, degrees = (
            value[chains, labels] for value in (fits.counts, fits.noise, fits.degrees)
        )
        variances = fits.variances[chains, labels]
        of_mean, of_loadings = self._strengths(counts, noise)
        leverage = heat * (codes / variances).sum(axis=2) / of_loadings + heat / of_mean
        leverage = np.minimum(leverage, _MOST_LEVERAGE)
        less = heat * self._noise_degrees
        square = heat * residual / (1 - leverage)
        left = np.maximum(degrees - less, 2 * self.prior.noise_shape)
        scale = np.maximum(degrees * noise - square, 2 * self.prior.noise_scale)
        value = -0.5 * degrees * np.log1p(square / scale) - 0.5 * less * np.log(scale / left)
        value += 0.5 * (size - d) * np.log1p(-leverage)
        along = np.maximum(temperature * (counts - heat), 0.0)[..., None] + 1
        without = ((along + heat * temperature) * variances - heat * codes) / along
        without = np.maximum(without, (scale / left)[..., None])
        tails = -0.5 * (along + heat * temperature) * np.log1p(heat * codes / (without * along))
        tails -= 0.5 * heat * temperature * np.log(without)
        return value + tails.sum(axis=2)
