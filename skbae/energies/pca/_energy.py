"""Principal component analysis: a Gaussian code, a linear decoder, isotropic noise.

``H(x, m, z) = log N(z; 0, I) + log N(x; W z + mu, s2 I)``. The parameters of a model are those that
its energy depends on: the mean, orthonormal directions ``u_i``, the precision ``p_i = 1 / c_i`` of
the data along each (``c_i = w_i^2 + s2``; zero at the optimum for T = 0, where it diverges) and the
noise ``s2``. Then, leaving out the measure of the code,

``Hmax_T(x) = -(D/2) log(2 pi s2) + (T/2) sum log(p_i s2) - |r|^2 / (2 s2) - sum p_i y_i^2 / 2``

with coordinates ``y = u (x - mu)`` and the residual ``r``; at T = 0 the second term is absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skbae._types import ArrayRecord
from skbae.energies._base import (
    DerivedKernel,
    RowKernel,
    SmoothBoundEnergy,
    StatisticsEnergy,
    chunk_rows,
)
from skbae.energies._capabilities import MeltingEnergy, NoisyEnergy, ParameterGradientEnergy
from skbae.energies.pca._gradients import ProjectedMoments, ProjectedRows, subspace_gradient
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame


# Variances below this fraction of the largest are rounding errors; it is the least noise variance.
NOISE_FLOOR = 1e-12
# Rounding error of a difference of variances, relative to the larger one.
_ROUNDING = 16 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class PCAParameters(ArrayRecord):
    """Means (S, D), orthonormal components (S, d, D), their precisions (S, d), noise (S,)."""

    means: Array
    components: Array
    precisions: Array
    noise: Array

    @property
    def shrink(self) -> Array:
        """Ratio of the posterior mean of a code to the coordinate of the row, (S, d)."""
        return 1.0 - self.noise[:, None] * self.precisions

    def in_units(self, unit: float) -> PCAParameters:
        """Return the same models of rows in other units."""
        squared = unit**2
        means, noise = self.means / unit, self.noise / squared
        return PCAParameters(means, self.components, self.precisions * squared, noise)


@dataclass(frozen=True)
class PCAStatistics(ArrayRecord):
    """Weighted mean (S, D) and covariance (S, D, D) of the rows, and the objectives (S,)."""

    mean: Array
    covariance: Array
    objective: Array
    hmaxe: Array


def melt(
    eigenvalues: Array, total_variance: Array, n_features: int, temperature: float
) -> tuple[Array, Array]:
    """Return the optimal noise and precisions given a spectrum: PCA's closed form at any T.

    Parameters
    ----------
    eigenvalues : ndarray of shape (S, d)
        The largest eigenvalues of the covariance (divisor N), decreasing.
    total_variance : ndarray of shape (S,)
        Trace of the covariance.
    n_features : int
        D.
    temperature : float
        T.

    Returns
    -------
    noise : ndarray of shape (S,)
        ``s2 = sum_{i > q} lam_i / (D - T q)`` for the largest ``q <= d`` with ``D - T q > 0`` and
        ``lam_q > T s2 > 0``; at least a tiny fraction of the largest eigenvalue.
    precisions : ndarray of shape (S, d)
        ``T / lam_i``, or ``1 / s2`` for directions that have melted into the noise.

    Examples
    --------
    >>> noise, precisions = melt(np.array([[4.0, 0.5]]), np.array([6.0]), 4, 1.0)
    >>> noise.tolist(), precisions.tolist()
    ([0.6666666666666666], [[0.25, 1.5]])
    """
    n_models, n_codes = eigenvalues.shape
    largest = eigenvalues[:, 0] if n_codes else total_variance
    floor = np.maximum(NOISE_FLOOR * largest, np.finfo(np.float64).tiny)
    noise = np.maximum(total_variance / n_features, floor)
    n_solid = np.zeros(n_models, dtype=np.intp)
    for q in range(1, n_codes + 1):
        degrees = n_features - temperature * q
        if degrees <= 0:
            break
        rest = total_variance - eigenvalues[:, :q].sum(axis=1)
        candidate = np.maximum(rest / degrees, floor)
        solid = eigenvalues[:, q - 1] > temperature * candidate
        noise = np.where(solid, candidate, noise)
        n_solid = np.where(solid, q, n_solid)
    melted = np.arange(n_codes) >= n_solid[:, None]
    safe = np.where(eigenvalues > 0, eigenvalues, 1.0)
    precisions = np.where(melted, 1.0 / noise[:, None], temperature / safe)
    return noise, precisions


def melting_temperatures(variances: Array, total_variance: float, n_features: int) -> Array:
    """Return where directions melt: the T at which ``lam_q = T s2`` with q solid directions.

    As ``s2 = rest / (D - T q)``, with `rest` the sum of all smaller variances, that is
    ``T = D lam_q / (rest + q lam_q)``. They decrease with q.

    Parameters
    ----------
    variances : ndarray of shape (d,)
        The largest eigenvalues of the covariance, decreasing.
    total_variance : float
    n_features : int

    Examples
    --------
    >>> melting_temperatures(np.array([4.0, 0.5]), 6.0, 4).tolist()
    [2.6666666666666665, 0.8]
    """
    number = np.arange(1, len(variances) + 1)
    rest = np.maximum(total_variance - np.cumsum(variances), 0.0)
    scale = rest + number * variances
    return n_features * variances / np.where(scale > 0, scale, 1.0)


def code_entropy_term(precisions: Array, noise: Array, temperature: float) -> Array:
    """Return ``(T / 2) sum log(p_i s2)``, (S,): zero at T = 0."""
    if temperature == 0:
        return np.zeros(len(noise))
    return 0.5 * temperature * np.log(precisions * noise[:, None]).sum(axis=1)


def fix_signs(components: Array) -> Array:
    """Return components with signs as in scikit-learn: the entry of largest size is positive."""
    largest = np.argmax(np.abs(components), axis=-1)[..., None]
    signs = np.sign(np.take_along_axis(components, largest, axis=-1))
    return components * np.where(signs == 0, 1.0, signs)


class BoundPCA(SmoothBoundEnergy):
    """The energy with the parameters of S models."""

    def __init__(self, params: PCAParameters) -> None:
        self.params = params
        n_models, n_codes, n_features = params.components.shape
        self.n_codes, self.n_features = n_codes, n_features
        self.chunk_rows = chunk_rows(n_models * (n_codes + n_features))

    def project(self, X: NDArray[Any]) -> tuple[Array, Array]:
        """Return deviations (S, n, D) from the means, and coordinates (S, n, d)."""
        deviations = X - self.params.means[:, None]
        coordinates = np.matmul(deviations, np.swapaxes(self.params.components, 1, 2))
        return deviations, coordinates

    def hmax(self, X: NDArray[Any], temperature: float) -> Array:
        return self._hmax(*self.project(X), temperature)

    def _hmax(self, deviations: Array, coordinates: Array, temperature: float) -> Array:
        params = self.params
        # squares of residuals, since a difference of squares loses digits if noise is small
        residual = deviations - np.matmul(coordinates, params.components)
        noise = params.noise[:, None]
        square = np.einsum("snd,snd->sn", residual, residual) / noise
        square += np.einsum("snd,snd,sd->sn", coordinates, coordinates, params.precisions)
        constant = -0.5 * self.n_features * (LOG_2PI + np.log(params.noise))
        constant = constant + code_entropy_term(params.precisions, params.noise, temperature)
        return constant[:, None] - 0.5 * square

    def hmax_gradient(self, X: NDArray[Any], temperature: float) -> tuple[Array, Array]:
        params = self.params
        deviations, coordinates = self.project(X)
        pull = coordinates * (1.0 / params.noise[:, None] - params.precisions)[:, None]
        gradient = np.matmul(pull, params.components) - deviations / params.noise[:, None, None]
        return self._hmax(deviations, coordinates, temperature), gradient


class _Moments(RowKernel):
    """The pass that collects means and covariances of (tilted) rows.

    Without a tilt they are the same for all models, and are computed once.
    """

    def __init__(
        self, params: PCAParameters, frame: Frame, temperature: float, tilt: float
    ) -> None:
        self.params, self.centre = params, frame.centre
        self.temperature, self.tilt = temperature, tilt
        self.n_models = params.n_models
        self.n_features = params.means.shape[1]
        self.n_moments = self.n_models if tilt else 1
        self.bound = BoundPCA(params)
        self.chunk_rows = self.bound.chunk_rows if tilt else chunk_rows(self.n_features)

    def workspace(self, n_rows: int, previous: Any = None) -> None:
        return None

    def zero(self) -> dict[str, Array]:
        size = self.n_features
        return {
            "first": np.zeros((self.n_moments, size)),
            "second": np.zeros((self.n_moments, size, size)),
            "mass": np.zeros(self.n_moments),
            "energy": np.zeros(self.n_models),
            "log_scale": np.full(self.n_moments, -np.inf if self.tilt else 0.0),
        }

    def accumulate(
        self,
        accumulator: dict[str, Array],
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        deviations = X - self.centre
        row_weights = np.ones((1, len(X))) if weights is None else weights[None]
        if self.tilt:
            hmax = self.bound.hmax(X, self.temperature)
            accumulator["energy"] += (hmax * row_weights).sum(axis=1)
            exponents = -self.tilt * hmax
            scale = np.maximum(accumulator["log_scale"], exponents.max(axis=1))
            self._rescale(accumulator, scale)
            row_weights = row_weights * np.exp(exponents - scale[:, None])
        accumulator["mass"] += row_weights.sum(axis=1)
        accumulator["first"] += row_weights @ deviations
        if weights is None and not self.tilt:
            accumulator["second"][0] += deviations.T @ deviations
        else:
            weighted = deviations * row_weights[..., None]
            accumulator["second"] += np.matmul(np.swapaxes(weighted, 1, 2), deviations)

    def _rescale(self, accumulator: dict[str, Array], log_scale: Array) -> None:
        factor = np.exp(accumulator["log_scale"] - log_scale)
        accumulator["first"] *= factor[:, None]
        accumulator["second"] *= factor[:, None, None]
        accumulator["mass"] *= factor
        accumulator["log_scale"] = log_scale

    def merge(self, accumulator: dict[str, Array], other: dict[str, Array]) -> dict[str, Array]:
        if self.tilt:
            scale = np.maximum(accumulator["log_scale"], other["log_scale"])
            self._rescale(accumulator, scale)
            self._rescale(other, scale)
        for name in ("first", "second", "mass", "energy"):
            accumulator[name] += other[name]
        return accumulator

    def finish(self, accumulator: dict[str, Array], total: float) -> PCAStatistics:
        mass = accumulator["mass"]
        shift = accumulator["first"] / mass[:, None]
        covariance = accumulator["second"] / mass[:, None, None]
        covariance = covariance - shift[:, :, None] * shift[:, None, :]
        mean = self.centre + shift
        if not self.tilt:
            hmaxe = expected_hmax(self.params, mean[0], covariance[0], self.temperature)
            shape = (self.n_models, *covariance.shape[1:])
            covariance = np.broadcast_to(covariance, shape)
            mean = np.broadcast_to(mean, shape[:2])
            return PCAStatistics(mean, covariance, hmaxe, hmaxe)
        log_mass = np.log(mass / total) + accumulator["log_scale"]
        hmaxe = accumulator["energy"] / total
        return PCAStatistics(mean, covariance, -log_mass / self.tilt, hmaxe)


def expected_hmax(
    params: PCAParameters, mean: Array, covariance: Array, temperature: float
) -> Array:
    """Return ``Hmaxe_T`` of rows with this mean (D,) and covariance (D, D), for S models."""
    offset = mean - params.means
    inner = np.einsum("sde,se->sd", params.components, offset)
    along = np.einsum("sde,sde->sd", params.components @ covariance, params.components) + inner**2
    total = np.trace(covariance) + (offset**2).sum(axis=1)
    return _mean_energy(params, along, total, temperature)


def _mean_energy(
    params: PCAParameters, along: Array, total_variance: Array, temperature: float
) -> Array:
    """Return ``Hmaxe_T`` (S,) given the mean squares along components (S, d) and their total."""
    n_features = params.means.shape[1]
    rest = total_variance - along.sum(axis=1)
    # if components explain all variance, the difference is only rounding error
    rounding = np.inf if along.shape[1] == n_features else _ROUNDING
    rest = np.where(rest > rounding * total_variance, rest, 0.0)
    constant = -0.5 * n_features * (LOG_2PI + np.log(params.noise))
    constant = constant + code_entropy_term(params.precisions, params.noise, temperature)
    return constant - 0.5 * (rest / params.noise + (along * params.precisions).sum(axis=1))


def optimum(
    mean: Array, axes: Array, variances: Array, total_variance: Array, temperature: float
) -> tuple[PCAParameters, Array]:
    """Return the best models of rows, given their leading principal axes, and ``Hmaxe_T``.

    Parameters
    ----------
    mean : ndarray of shape (S, D)
    axes : ndarray of shape (S, d, D)
        Leading eigenvectors of the covariance.
    variances : ndarray of shape (S, d)
        Its eigenvalues, decreasing.
    total_variance : ndarray of shape (S,)
        Its trace.
    temperature : float

    Returns
    -------
    params : PCAParameters
    hmaxe : ndarray of shape (S,)

    Examples
    --------
    >>> params, hmaxe = optimum(
    ...     np.zeros((1, 2)), np.eye(2)[None, :1], np.array([[4.0]]), np.array([5.0]), 1.0)
    >>> normal = -np.log(2 * np.pi) - 0.5 * np.log(4.0 * 1.0) - 1  # of these variances
    >>> bool(np.isclose(hmaxe[0], normal))
    True
    """
    noise, precisions = melt(variances, total_variance, mean.shape[1], temperature)
    params = PCAParameters(mean, fix_signs(axes), precisions, noise)
    return params, _mean_energy(params, variances, total_variance, temperature)


class PCAEnergy(StatisticsEnergy, NoisyEnergy, ParameterGradientEnergy, MeltingEnergy):
    """PCA with d code dimensions; the maximisation is the closed form.

    Parameters
    ----------
    n_components : int
        d.
    n_features : int
        D.
    """

    def __init__(self, n_components: int, n_features: int) -> None:
        self.n_components, self.n_features = n_components, n_features

    def bind(self, params: PCAParameters, frame: Frame, dtype: Any) -> BoundPCA:
        return BoundPCA(params)

    def expectation(
        self, params: PCAParameters, frame: Frame, dtype: Any, temperature: float, tilt: float
    ) -> RowKernel:
        return _Moments(params, frame, temperature, tilt)

    def gradient_kernel(
        self, params: PCAParameters, frame: Frame, temperature: float
    ) -> DerivedKernel:
        def gradient(moments: ProjectedMoments, total: float) -> dict[str, Array]:
            found = subspace_gradient(
                params.components, params.precisions, params.noise, moments, temperature
            )
            return {name: value / total for name, value in found.items()}

        return DerivedKernel(ProjectedRows(params.means, params.components), gradient)

    def melting_temperatures(self, X: Array, weights: Array | None) -> tuple[Array, Array]:
        shares = np.full(len(X), 1 / len(X)) if weights is None else weights / weights.sum()
        white = (X - shares @ X) * np.sqrt(shares)[:, None]
        squares = np.linalg.svd(white, compute_uv=False) ** 2
        found = np.zeros(self.n_components)
        found[: len(squares)] = squares[: self.n_components]
        return found, melting_temperatures(found, float(squares.sum()), self.n_features)

    def maximise(
        self, statistics: PCAStatistics, params: PCAParameters, temperature: float
    ) -> PCAParameters:
        values, vectors = np.linalg.eigh(statistics.covariance)
        order = slice(None, -self.n_components - 1, -1)
        eigenvalues = np.maximum(values[:, order], 0.0)
        axes = np.swapaxes(vectors[:, :, order], 1, 2)
        total = np.trace(statistics.covariance, axis1=1, axis2=2)
        return optimum(statistics.mean.copy(), axes, eigenvalues, total, temperature)[0]

    def interpolate(
        self, params: PCAParameters, statistics: PCAStatistics, step: Array, temperature: float
    ) -> PCAStatistics:
        offset = params.means - statistics.mean
        share = step[:, None]
        mean = statistics.mean + (1 - share) * offset
        own = self._spectrum(params, statistics.covariance, temperature)
        outer = offset[:, :, None] * offset[:, None, :]
        share = share[..., None]
        covariance = (1 - share) * own + share * statistics.covariance
        covariance = covariance + share * (1 - share) * outer
        return PCAStatistics(mean, covariance, statistics.objective, statistics.hmaxe)

    def _spectrum(self, params: PCAParameters, covariance: Array, temperature: float) -> Array:
        """Return the covariance (S, D, D) of rows of which `params` would be the optimum."""
        components, solid = params.components, params.shrink > 1e-12
        if temperature == 0:
            # the optimum does not depend on variances along components if these are the largest
            total = np.trace(covariance, axis1=1, axis2=2) + self.n_features * params.noise
            variance = np.broadcast_to(2 * total[:, None], params.precisions.shape)
        else:
            variance = np.where(solid, temperature / params.precisions, 0.0)
        degrees = self.n_features - temperature * solid.sum(axis=1)
        # the remaining variance is divided equally among the other directions
        left = np.maximum(self.n_features - solid.sum(axis=1), 1)
        rest = params.noise * degrees / left
        scaled = components * (np.where(solid, variance - rest[:, None], 0.0))[..., None]
        return np.matmul(np.swapaxes(components, 1, 2), scaled) + rest[:, None, None] * np.eye(
            self.n_features
        )

    def covariances(self, params: PCAParameters) -> Array:
        """Return the covariances (S, D, D) of the density at T = 1; precisions must be positive."""
        excess = 1.0 / params.precisions - params.noise[:, None]
        scaled = params.components * excess[..., None]
        within = np.matmul(np.swapaxes(params.components, 1, 2), scaled)
        return within + params.noise[:, None, None] * np.eye(self.n_features)

    def draw(
        self, params: PCAParameters, n_rows: int, rng: np.random.Generator
    ) -> tuple[Array, NDArray[Any]]:
        models = rng.integers(params.n_models, size=n_rows)
        X, codes, _ = self.draw_from(params, models, rng)
        return X, codes

    def draw_from(
        self, params: PCAParameters, models: NDArray[np.intp], rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Return rows, codes in data units along the components, and rows without noise."""
        n_rows = len(models)
        codes = rng.standard_normal((n_rows, self.n_components))
        loadings = np.sqrt(np.maximum(1.0 / params.precisions - params.noise[:, None], 0.0))
        codes *= loadings[models]
        noise = rng.standard_normal((n_rows, self.n_features))
        noise *= np.sqrt(params.noise[models])[:, None]
        clean = params.means[models]
        for model in np.unique(models):
            own = models == model
            clean[own] += codes[own] @ params.components[model]
        return clean + noise, codes, clean

    def convolve(self, params: PCAParameters, variance: float) -> PCAParameters:
        precisions = params.precisions / (1.0 + variance * params.precisions)
        return PCAParameters(params.means, params.components, precisions, params.noise + variance)

    def n_parameters(self) -> int:
        loadings = self.n_components * self.n_features
        rotations = self.n_components * (self.n_components - 1) // 2
        return loadings - rotations + self.n_features + 1
