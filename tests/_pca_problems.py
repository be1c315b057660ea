"""PCA with its prior on rows, where to start, and its evidence by quadrature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln, ive, logsumexp
from scipy.stats import invgamma, norm

from skbae.energies.pca._energy import PCAEnergy, PCAStatistics
from skbae.energies.pca._prior import BayesianPCAEnergy, Loadings, RowMoments, default_prior

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

DEFAULT_PRIOR: dict[str, Any] = {
    "component_variance": None,
    "mean": None,
    "mean_precision": 0.01,
    "noise_shape": 1.0,
    "noise_scale": None,
}


def bayesian_pca(
    rows: Array,
    n_components: int,
    kind: type[BayesianPCAEnergy] = BayesianPCAEnergy,
) -> BayesianPCAEnergy:
    """Return PCA with its default prior on rows."""
    values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
    values = np.maximum(values[::-1], 0)
    moments = RowMoments(rows.mean(axis=0), vectors[:, ::-1].copy(), values, float(len(rows)))
    prior = default_prior(float(values.mean()), n_components, moments.mean, DEFAULT_PRIOR)
    return kind(n_components, prior, moments)


def pca_start(energy: BayesianPCAEnergy, temperature: float = 1.0) -> Loadings:
    """Return the optimum without a prior."""
    moments = energy.moments
    covariance = (moments.axes * moments.variances) @ moments.axes.T
    plain = PCAEnergy(energy.n_components, energy.n_features)
    unused = np.zeros(1)
    statistics = PCAStatistics(moments.mean[None], covariance[None], unused, unused)
    return energy.from_pca(plain.maximise(statistics, None, temperature))


def quadrature(
    rows: Array, prior: Any, temperature: float, model_temperature: float, fine: int = 2
) -> float:
    """Return the log evidence of one code in two dimensions: the mean integrates out.

    The loading in polar coordinates, for its prior is isotropic, and the noise on a grid.
    """
    spread, power = np.sqrt(prior.component_variance), len(rows) / model_temperature
    lengths = spread * np.linspace(0.0, 7, 120 * fine + 1)[1:]
    angles = np.linspace(0, np.pi, 60 * fine + 1)[:-1]
    noises = np.exp(np.log(prior.noise_scale) + np.linspace(-8, 9, 170 * fine + 1))
    length, noise = lengths[:, None, None], noises
    along = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    # the covariance has this variance along the loading, and the noise across
    variance = length**2 + noise

    def quadratic(total: float, own: Array, one: Array, other: Array) -> Array:
        return own[:, None] / one + (total - own)[:, None] / other

    scatter = np.cov(rows.T, bias=True)
    own = np.einsum("ai,ij,aj->a", along, scatter, along)
    # Hmax_T of the design, on average over rows, but for the deviation of their mean
    values = -np.log(2 * np.pi * noise) + 0.5 * temperature * (np.log(noise) - np.log(variance))
    values = power * (values - 0.5 * quadratic(np.trace(scatter), own, variance, noise))
    # that of the mean is a normal density, up to its constant, and meets the prior of the model's
    one, other = variance / power + prior.mean_variance, noise / power + prior.mean_variance
    offset = rows.mean(axis=0) - prior.mean
    values += 0.5 * (np.log(variance / power) + np.log(noise / power) - np.log(one * other))
    values -= 0.5 * quadratic(offset @ offset, (along @ offset) ** 2, one, other)
    values += 2 * norm.logpdf(0, scale=spread) - 0.5 * (length / spread) ** 2 + np.log(length)
    values += invgamma.logpdf(noise, prior.noise_shape, scale=prior.noise_scale) + np.log(noise)
    cell = (lengths[1] - lengths[0]) * 2 * (angles[1] - angles[0])
    return float(logsumexp(values) + np.log(cell * np.log(noises[1] / noises[0])))


def evidence_of_one_direction(
    rows: Array, prior: Any, temperature: float, model_temperature: float
) -> float:
    """Return the log evidence of one code in two dimensions, to many digits.

    The angle integrates to a Bessel function, if the prior's mean is that of the rows; the logs of
    the length and of the noise are on a grid that is refined to where the density is.
    """
    power = len(rows) / model_temperature
    small, large = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
    variance, m = prior.component_variance, prior.mean_variance
    shape, scale = prior.noise_shape, prior.noise_scale

    def log_density(log_length: Array, log_noise: Array) -> Array:
        square, noise = np.exp(2 * log_length), np.exp(log_noise)
        along = noise + square
        field = square / (noise * along)
        with np.errstate(all="ignore"):
            value = -np.log(2 * np.pi * noise) - 0.5 * temperature * np.log(along / noise)
            value = power * (value - 0.5 * (small + large) / noise + 0.25 * field * (small + large))
            half = 0.25 * power * field * (large - small)
            value += np.log(ive(0, half)) + half
            value -= 0.5 * (np.log1p(power * m / along) + np.log1p(power * m / noise))
            value += 2 * log_length - np.log(variance) - square / (2 * variance)  # Rayleigh
            value += shape * (np.log(scale) - log_noise) - gammaln(shape) - scale / noise
        return np.where(np.isfinite(value), value, -1e300)

    low = np.array([0.5 * np.log(variance) - 30, np.log(scale) - 25])
    high = np.array([0.5 * np.log(variance) + 4, np.log(scale) + 12])
    for size in (200, 200, 200, 200, 200, 200, 200, 600):
        grids = [np.linspace(low[axis], high[axis], size) for axis in range(2)]
        values = log_density(grids[0][:, None], grids[1][None])
        inside = values > values.max() - 45
        for axis in range(2):
            reached = np.flatnonzero(inside.any(axis=1 - axis))
            low[axis] = grids[axis][max(reached[0] - 2, 0)]
            high[axis] = grids[axis][min(reached[-1] + 2, size - 1)]
    cell = (grids[0][1] - grids[0][0]) * (grids[1][1] - grids[1][0])
    return float(logsumexp(values) + np.log(cell))


def log_mean_on_sphere(fields: Array) -> Array:
    """Return ``log E exp(sum_j f_j u_j^2)`` for u uniform on the sphere, given fields (S, D).

    The inverse Laplace transform of ``prod_j (t - f_j)^(-1/2)`` (Kume and Wood 2005), by the
    trapezoidal rule along a parabola through its saddle point.
    """
    size, largest = fields.shape[1], fields.max(axis=1)
    gaps = largest[:, None] - fields
    low, high = np.full(len(fields), 0.5), np.full(len(fields), 0.5 * size)
    for _ in range(60):  # the saddle point lies this far to the right of the largest field
        middle = 0.5 * (low + high)
        right = 0.5 * (1 / (middle[:, None] + gaps)).sum(axis=1) > 1
        low, high = np.where(right, middle, low), np.where(right, high, middle)
    saddle = (0.5 * (low + high))[:, None]
    reach = np.sqrt(160 * saddle)
    y = reach * np.linspace(0, 1, 241)
    points, slopes = 1j * y - y**2 / (4 * saddle), 1j - y / (2 * saddle)
    logs = points - 0.5 * sum(np.log(saddle + points + gaps[:, [j]]) for j in range(size))
    heights = (np.exp(logs - logs[:, :1].real) * slopes / (1j * np.pi)).real
    integral = (heights.sum(axis=1) - 0.5 * heights[:, 0]) * reach[:, 0] / 240
    return gammaln(0.5 * size) + largest + saddle[:, 0] + logs[:, 0].real + np.log(integral)


def evidence_of_one_code(
    variances: Array, n_rows: int, prior: Any, temperature: float, model_temperature: float
) -> float:
    """Return the log evidence of one code in any number of dimensions, to many digits.

    For rows whose mean is that of the prior, given their variances along all principal axes. As
    :func:`evidence_of_one_direction`, with all directions of the loading in one integral.
    """
    power, size = n_rows / model_temperature, len(variances)
    variance, m = prior.component_variance, prior.mean_variance
    shape, scale = prior.noise_shape, prior.noise_scale

    def log_density(log_length: Array, log_noise: Array, is_exact: bool) -> Array:
        square, noise = np.exp(2 * log_length), np.exp(log_noise)
        along = noise + square
        value = -0.5 * size * np.log(2 * np.pi * noise) - 0.5 * temperature * np.log(along / noise)
        value = power * (value - 0.5 * variances.sum() / noise)
        fields = 0.5 * power * (square / (noise * along))[:, None] * variances
        if is_exact:
            value += log_mean_on_sphere(fields)
        else:  # near enough to find where the density is
            largest = fields.max(axis=1, keepdims=True)
            value += largest[:, 0] - 0.5 * np.log1p(2 * (largest - fields)).sum(axis=1)
        value -= 0.5 * (np.log1p(power * m / along) + (size - 1) * np.log1p(power * m / noise))
        value += size * log_length - 0.5 * size * np.log(variance) - square / (2 * variance)  # chi
        value += np.log(2) - 0.5 * size * np.log(2) - gammaln(0.5 * size)
        value += shape * (np.log(scale) - log_noise) - gammaln(shape) - scale / noise
        return np.where(np.isfinite(value), value, -1e300)

    low = np.array([0.5 * np.log(variance) - 30, np.log(scale) - 25])
    high = np.array([0.5 * np.log(variance) + 4, np.log(scale) + 12])
    for n, is_exact in [(300, False)] * 5 + [(60, True), (60, True), (120, True)]:
        grids = [np.linspace(low[axis], high[axis], n) for axis in range(2)]
        first, second = (grid.ravel() for grid in np.meshgrid(*grids, indexing="ij"))
        with np.errstate(all="ignore"):
            values = np.concatenate(
                [
                    log_density(first[i : i + 4000], second[i : i + 4000], is_exact)
                    for i in range(0, len(first), 4000)
                ]
            ).reshape(n, n)
        inside = values > values.max() - (38 if is_exact else 45)
        for axis in range(2):
            reached = np.flatnonzero(inside.any(axis=1 - axis))
            low[axis] = grids[axis][max(reached[0] - 3, 0)]
            high[axis] = grids[axis][min(reached[-1] + 3, n - 1)]
    cell = (grids[0][1] - grids[0][0]) * (grids[1][1] - grids[1][0])
    return float(logsumexp(values) + np.log(cell))


def rows_of_variances(n_rows: int, variances: Array, seed: int = 0) -> Array:
    """Return rows of mean zero with given variances along their principal axes."""
    normal = np.random.default_rng(seed).standard_normal((n_rows, len(variances)))
    left = np.linalg.qr(np.c_[np.ones(n_rows), normal[:, : n_rows - 1]])[0][:, 1:]
    n = min(left.shape[1], len(variances))
    rows = np.zeros((n_rows, len(variances)))
    rows[:, :n] = np.sqrt(n_rows * np.asarray(variances)[:n]) * left[:, :n]
    return rows


def flat_rows(n_rows: int, seed: int = 5) -> Array:
    """Return rows in two dimensions, longer in one direction than across."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n_rows, 2)) @ np.array([[1.5, 0.4], [0.0, 0.5]]) + 1
