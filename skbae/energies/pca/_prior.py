"""PCA with its prior, in coordinates without rotations.

The prior of the loadings is isotropic, so that they may be rotated on both sides: on the left to
the principal axes of the rows, on the right (the code) to be lower trapezoidal with a positive
diagonal. The density of the rotated entries is then known: those below the diagonal are normal, and
the squares on the diagonal are chi-squared with d, d - 1, ..., 1 degrees of freedom (Bartlett
1933). Only the mean and covariance of the rows are needed, which are computed once, so that the
cost of sampling does not depend on the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln

from skbae._types import ArrayRecord
from skbae.energies._base import RowKernel
from skbae.energies._capabilities import ChartedEnergy
from skbae.energies.pca._charts import PCACharts
from skbae.energies.pca._energy import BoundPCA, PCAEnergy, PCAParameters, fix_signs
from skbae.energies.pca._loadings import Loadings, PCAPrior, RowMoments
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame


@dataclass(frozen=True)
class LoadingStatistics(ArrayRecord):
    """The objectives (S,), and terms that the gradient needs too."""

    objective: Array
    hmaxe: Array
    inverse: Array
    """``(s2 I + W'W)^-1``, (S, d, d)."""
    outer: Array
    """``W' A W`` for the second moment A of the rows about the model's mean, (S, d, d)."""
    weighted: Array
    """``A W``, (S, D, d)."""
    unexplained: Array
    """``s2 tr(C^-1 A)``, (S,)."""


class _FromMoments(RowKernel):
    """The statistics, computed from the moments of the rows without a pass over them."""

    chunk_rows = 4096

    def __init__(self, params: Loadings, moments: RowMoments, temperature: float) -> None:
        self.params, self.moments, self.temperature = params, moments, temperature

    def workspace(self, n_rows: int, previous: Any = None) -> None:
        return None

    def zero(self) -> None:
        return None

    def accumulate(
        self,
        accumulator: Any,
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        """Do nothing: the moments are known."""

    def merge(self, accumulator: None, other: None) -> None:
        return accumulator

    def finish(self, accumulator: Any, total: float) -> LoadingStatistics:
        params, variances, temperature = self.params, self.moments.variances, self.temperature
        loadings, offset, noise = params.loadings, params.offset, params.noise
        n_codes = loadings.shape[2]
        size = len(self.moments.mean)
        transposed = np.swapaxes(loadings, 1, 2)
        gram = np.matmul(transposed, loadings)
        gram[:, np.arange(n_codes), np.arange(n_codes)] += noise[:, None]
        sign, log_det = np.linalg.slogdet(gram)
        inverse = np.linalg.inv(np.where((sign > 0)[:, None, None], gram, np.eye(n_codes)))
        along = np.matmul(offset[:, None], loadings)  # (S, 1, d)
        weighted = variances[:, None] * loadings + offset[:, :, None] * along
        outer = np.matmul(transposed, weighted)
        total_variance = variances.sum() + (offset**2).sum(axis=1)
        unexplained = total_variance - (inverse * outer).sum(axis=(1, 2))
        objective = (
            -0.5 * size * (LOG_2PI + np.log(noise))
            + 0.5 * temperature * (n_codes * np.log(noise) - log_det)
            - 0.5 * unexplained / noise
        )
        objective = np.where(sign > 0, objective, -np.inf)
        return LoadingStatistics(objective, objective, inverse, outer, weighted, unexplained)


class BayesianPCAEnergy(ChartedEnergy):
    """PCA with its prior, on rows given by their moments.

    Parameters
    ----------
    n_components : int
        d.
    prior : PCAPrior
    moments : RowMoments
        Along all axes; or, to find modes only, along the span of the rows and the prior's mean,
        outside of which the loadings and offset of a mode are zero.
    """

    def __init__(self, n_components: int, prior: PCAPrior, moments: RowMoments) -> None:
        self.n_components, self.n_features = n_components, len(moments.variances)
        self._n_outside = len(moments.mean) - self.n_features
        self.prior, self.moments = prior, moments
        rows, columns = np.tril_indices(self.n_features, -1, n_components)
        self._below = rows, columns
        self._diagonal = np.arange(n_components)
        self._n_below = len(rows)
        self._mean = (moments.mean - prior.mean) @ moments.axes

    # -- Energy --------------------------------------------------------------------------------

    def bind(self, params: Loadings, frame: Frame, dtype: Any) -> BoundPCA:
        return BoundPCA(self.as_pca(params))

    def draw(
        self, params: Loadings, n_rows: int, rng: np.random.Generator
    ) -> tuple[Array, NDArray[Any]]:
        plain = PCAEnergy(self.n_components, self.n_features)
        return plain.draw(self.as_pca(params), n_rows, rng)

    def n_parameters(self) -> int:
        return self._n_below + self.n_components + self.n_features + 1

    def expectation(
        self, params: Loadings, frame: Frame, dtype: Any, temperature: float, tilt: float
    ) -> RowKernel:
        if tilt:
            raise ValueError(
                "PCA with a prior uses only the mean and covariance of the rows, from which a "
                f"tilted mean cannot be computed, got tilt={tilt!r}"
            )
        return _FromMoments(params, self.moments, temperature)

    def as_pca(self, params: Loadings) -> PCAParameters:
        """Return the models with orthonormal components, largest first, in the rows' axes."""
        left, singular, _ = np.linalg.svd(params.loadings, full_matrices=False)
        components = np.matmul(np.swapaxes(left, 1, 2), self.moments.axes.T)
        noise = params.noise
        precisions = 1.0 / (singular**2 + noise[:, None])
        means = self.moments.mean - params.offset @ self.moments.axes.T
        return PCAParameters(means, fix_signs(components), precisions, noise)

    def from_pca(self, params: PCAParameters) -> Loadings:
        """Return the inverse of :meth:`as_pca`; loadings of melted directions are zero.

        Loadings that only the prior limits (at T = 0) get their prior length.
        """
        noise = params.noise[:, None]
        longest = self.n_features * self.prior.component_variance
        precisions = np.where(params.precisions > 0, params.precisions, 1.0 / (longest + noise))
        lengths = np.sqrt(np.maximum(1.0 / precisions - noise, 0.0))
        turned = np.matmul(params.components, self.moments.axes) * lengths[..., None]
        offset = (self.moments.mean - params.means) @ self.moments.axes
        return Loadings(_lower_trapezoidal(np.swapaxes(turned, 1, 2)), offset, params.noise)

    # -- GradientEnergy ------------------------------------------------------------------------

    def coordinate_kinds(self) -> NDArray[np.intp]:
        diagonal = self._diagonal
        below = self.n_components + self._below[0]
        offset = self.n_components + self.n_features + np.arange(self.n_features + 1)
        return np.concatenate([diagonal, below, offset])

    def unconstrain(self, params: Loadings) -> Array:
        diagonal = params.loadings[:, self._diagonal, self._diagonal]
        below = params.loadings[:, self._below[0], self._below[1]]
        tiny = np.finfo(np.float64).tiny
        logs = np.log(np.maximum(diagonal, tiny)), np.log(params.noise)[:, None]
        return np.concatenate([logs[0], below, params.offset, logs[1]], axis=1)

    def constrain(self, theta: Array) -> Loadings:
        loadings = np.zeros((len(theta), self.n_features, self.n_components))
        split = self.n_components + self._n_below
        loadings[:, self._diagonal, self._diagonal] = np.exp(theta[:, : self.n_components])
        loadings[:, self._below[0], self._below[1]] = theta[:, self.n_components : split]
        return Loadings(loadings, theta[:, split:-1], np.exp(theta[:, -1]))

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        prior, n_codes = self.prior, self.n_components
        split = n_codes + self._n_below
        logs, below = theta[:, :n_codes], theta[:, n_codes:split]
        offset, log_noise = theta[:, split:-1], theta[:, -1]
        degrees = n_codes - self._diagonal
        squares = np.exp(2 * logs) / prior.component_variance
        log_chi = degrees * (logs - 0.5 * np.log(prior.component_variance)) - 0.5 * squares
        log_chi = log_chi + (1 - 0.5 * degrees) * np.log(2) - gammaln(0.5 * degrees)
        inverse_noise = np.exp(-log_noise)
        shape, scale = prior.noise_shape, prior.noise_scale
        deviation = offset - self._mean
        value = (
            log_chi.sum(axis=1)
            - 0.5 * (below**2).sum(axis=1) / prior.component_variance
            - 0.5 * self._n_below * (LOG_2PI + np.log(prior.component_variance))
            - 0.5 * (deviation**2).sum(axis=1) / prior.mean_variance
            - 0.5 * self.n_features * (LOG_2PI + np.log(prior.mean_variance))
            + shape * (np.log(scale) - log_noise)
            - gammaln(shape)
            - scale * inverse_noise
        )
        gradient = np.concatenate(
            [
                degrees - squares,
                -below / prior.component_variance,
                -deviation / prior.mean_variance,
                (scale * inverse_noise - shape)[:, None],
            ],
            axis=1,
        )
        return value, gradient

    def objective_gradient(
        self,
        theta: Array,
        params: Loadings,
        statistics: LoadingStatistics,
        total: float,
        temperature: float,
    ) -> Array:
        loadings, noise, offset = params.loadings, params.noise, params.offset
        inverse, outer = statistics.inverse, statistics.outer
        n_codes = self.n_components
        projected = np.matmul(inverse, outer)
        # -T W M^-1 + (A W M^-1 - W M^-1 W'A W M^-1) / s2
        mixing = np.matmul(projected, inverse) / noise[:, None, None] + temperature * inverse
        of_loadings = np.matmul(statistics.weighted, inverse) / noise[:, None, None]
        of_loadings -= np.matmul(loadings, mixing)
        size = self.n_features + self._n_outside
        along = np.matmul(offset[:, None], loadings)
        explained = np.matmul(np.matmul(along, inverse), np.swapaxes(loadings, 1, 2))[:, 0]
        of_offset = -(offset - explained) / noise[:, None]
        trace = np.trace(inverse, axis1=1, axis2=2)
        of_log_noise = (
            0.5 * (temperature * n_codes - size)
            - 0.5 * temperature * noise * trace
            + 0.5 * statistics.unexplained / noise
            - 0.5 * np.einsum("sij,sji->s", inverse, projected)
        )
        diagonal = loadings[:, self._diagonal, self._diagonal]
        return np.concatenate(
            [
                of_loadings[:, self._diagonal, self._diagonal] * diagonal,
                of_loadings[:, self._below[0], self._below[1]],
                of_offset,
                of_log_noise[:, None],
            ],
            axis=1,
        )

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        prior = self.prior
        spread = np.sqrt(prior.component_variance)
        degrees = self.n_components - self._diagonal
        squares = rng.chisquare(degrees, (n_models, self.n_components))
        logs = 0.5 * np.log(np.maximum(squares, np.finfo(np.float64).tiny)) + np.log(spread)
        below = spread * rng.standard_normal((n_models, self._n_below))
        offset = rng.standard_normal((n_models, self.n_features)) * np.sqrt(prior.mean_variance)
        gammas = np.maximum(rng.standard_gamma(prior.noise_shape, n_models), 1e-300)
        log_noise = np.log(prior.noise_scale) - np.log(gammas)
        return np.concatenate([logs, below, self._mean + offset, log_noise[:, None]], axis=1)

    # -- ChartedEnergy -------------------------------------------------------------------------

    def charts(self, params: Loadings, power: float) -> PCACharts:
        return PCACharts(self, self.prior, params)


class PCAModeEnergy(BayesianPCAEnergy):
    """PCA with the prior density over ``(W, mu, log s2)``, whose mode is the reference model.

    The density over coordinates without rotations has a Jacobian, by which the mode would depend on
    the orientation of the code.
    """

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        value, gradient = super().log_prior_at(theta)
        degrees = self.n_components - self._diagonal
        gradient[:, : self.n_components] -= degrees
        return value - theta[:, : self.n_components] @ degrees, gradient


def _lower_trapezoidal(loadings: Array) -> Array:
    """Return loadings (S, D, d) times a rotation that makes them lower trapezoidal."""
    _, upper = np.linalg.qr(np.swapaxes(loadings, 1, 2))
    lower = np.swapaxes(upper, 1, 2)
    signs = np.sign(np.diagonal(lower, axis1=1, axis2=2))
    return lower * np.where(signs == 0, 1.0, signs)[:, None]


def default_prior(
    variance: float, n_components: int, mean: Array, given: dict[str, Any]
) -> PCAPrior:
    """Return the prior; parameters that are None are computed from the data.

    Parameters
    ----------
    variance : float
        Mean variance of a feature, v.
    n_components : int
        d.
    mean : ndarray of shape (D,)
        Mean of the rows.
    given : dict
        ``component_variance``, ``mean``, ``mean_precision``, ``noise_shape``, ``noise_scale``;
        None stands for ``v / max(d, 1)``, the rows' mean and ``0.1 v``.
    """
    component_variance = given["component_variance"]
    noise_scale = given["noise_scale"]
    return PCAPrior(
        variance / max(n_components, 1) if component_variance is None else component_variance,
        mean if given["mean"] is None else given["mean"],
        variance / given["mean_precision"],
        given["noise_shape"],
        0.1 * variance if noise_scale is None else noise_scale,
    )
