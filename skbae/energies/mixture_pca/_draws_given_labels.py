"""Draws of mixtures of PCA given the component of each row: a scan over codes and parameters.

Given the rows of each component at T = tau, the codes z of the rows are normal given the model, and
loadings and mean are normal given the codes and the noise. Alternating between the two hardly moves
where the noise is small: the codes then fix the loadings, and these the codes. So the scan has
moves in between that change both and leave the rows' reconstructions as they are (Liu and Sabatti
2000, "Generalised Gibbs sampler"): codes are shifted against the mean, turned at random, and scaled
against the loadings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skbae._types import Array
    from skbae.energies._allocations import Labels
    from skbae.energies.pca._loadings import PCAPrior

# Newton steps to the mode of a log scale, the longest, and how much wider than the curvature there
# its proposal is.
_N_STEPS, _LONGEST, _WIDER = 12, 1.0, 1.15


@dataclass
class LoadedComponents:
    """Components of S mixtures by their loadings.

    Attributes
    ----------
    loadings : ndarray of shape (S, K, D, d)
    means : ndarray of shape (S, K, D)
        Less the prior's mean.
    noise : ndarray of shape (S, K)
    """

    loadings: Array
    means: Array
    noise: Array


@dataclass
class _CodeSums:
    """Sums over the rows of each component, (S, K, ...), with z one code a row.

    Attributes
    ----------
    counts : ndarray of shape (S, K)
    first, second : ndarrays of shape (S, K, d) and (S, K, d, d)
        Of codes.
    crossed : ndarray of shape (S, K, d + 1, D)
        Of codes, and ones, with the residuals.
    squares : ndarray of shape (S, K)
        Of the residuals.
    """

    counts: Array
    first: Array
    second: Array
    crossed: Array
    squares: Array


def scan(
    X: Array,
    labels: Labels,
    params: LoadedComponents,
    prior: PCAPrior,
    temperature: float,
    tied_noise: bool,
    rng: np.random.Generator,
) -> tuple[LoadedComponents, Array]:
    """Move components by a scan that leaves ``p(m | X, labels)`` invariant; also return counts.

    Parameters
    ----------
    X : ndarray of shape (N, D)
        Less the prior's mean.
    labels : ndarray of int of shape (S, N)
    params : LoadedComponents
    prior : PCAPrior
    temperature : float
        T and tau, positive.
    tied_noise : bool
    rng : Generator
    """
    sums = _draw_codes(X, labels, params, temperature, rng)
    loadings, means = params.loadings, params.means
    if loadings.shape[3]:
        loadings, means = _shift(sums, loadings, means, prior, temperature, rng)
        loadings = _turn(sums, loadings, rng)
        loadings = _stretch(sums, loadings, prior, temperature, rng)
    between = LoadedComponents(loadings, means, params.noise)
    loadings, means, squares = _regress(sums, between, prior, temperature, rng)
    size = X.shape[1]
    degrees = 0.5 * size * sums.counts / temperature
    halves = 0.5 * squares / temperature
    if tied_noise:
        shape = np.broadcast_to(degrees.sum(axis=1, keepdims=True), degrees[:, :1].shape)
        halves = halves.sum(axis=1, keepdims=True)
    else:
        shape = degrees
    noise = (prior.noise_scale + halves) / rng.standard_gamma(prior.noise_shape + shape)
    noise = np.broadcast_to(noise, degrees.shape)
    return LoadedComponents(loadings, means, noise), sums.counts


def _draw_codes(
    X: Array,
    labels: Labels,
    params: LoadedComponents,
    temperature: float,
    rng: np.random.Generator,
) -> _CodeSums:
    """Draw the code of each row given the model, and sum over the rows of each component."""
    n_models, n_components, size, d = params.loadings.shape
    inner = np.matmul(np.swapaxes(params.loadings, 2, 3), params.loadings)
    precisions = inner + params.noise[..., None, None] * np.eye(d)
    inverse = np.linalg.inv(precisions)
    roots = np.sqrt(temperature * params.noise)[..., None, None] * np.linalg.cholesky(inverse)
    shape = (n_models, n_components)
    sums = _CodeSums(
        np.zeros(shape),
        np.zeros((*shape, d)),
        np.zeros((*shape, d, d)),
        np.zeros((*shape, d + 1, size)),
        np.zeros(shape),
    )
    numbers = np.ones((len(X), d + 1))
    for s in range(n_models):
        order = np.argsort(labels[s], kind="stable")
        ends = np.cumsum(np.bincount(labels[s], minlength=n_components))
        rows = X[order]
        numbers[:, :d] = rng.standard_normal((len(X), d))
        begin = 0
        for k, end in enumerate(ends):
            loadings = params.loadings[s, k]
            deviations = rows[begin:end] - params.means[s, k]
            codes = numbers[begin:end]
            gains = loadings @ inverse[s, k]
            codes[:, :d] = codes[:, :d] @ roots[s, k].T + deviations @ gains
            deviations -= codes[:, :d] @ loadings.T
            sums.counts[s, k] = end - begin
            sums.first[s, k] = codes[:, :d].sum(axis=0)
            sums.second[s, k] = codes[:, :d].T @ codes[:, :d]
            sums.crossed[s, k] = codes.T @ deviations
            sums.squares[s, k] = np.einsum("nd,nd->", deviations, deviations)
            begin = end
    return sums


def _transform(sums: _CodeSums, matrix: Array) -> None:
    """Multiply all codes by a matrix (S, K, d, d) on the right, in place."""
    turned = np.swapaxes(matrix, 2, 3)
    d = matrix.shape[2]
    sums.first = np.matmul(turned, sums.first[..., None])[..., 0]
    sums.second = np.matmul(np.matmul(turned, sums.second), matrix)
    sums.crossed[:, :, :d] = np.matmul(turned, sums.crossed[:, :, :d])


def _shift(
    sums: _CodeSums,
    loadings: Array,
    means: Array,
    prior: PCAPrior,
    temperature: float,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """Draw a shift b of codes, ``z - b``, that the mean makes up for, ``mu + W b``."""
    d = loadings.shape[3]
    transposed = np.swapaxes(loadings, 2, 3)
    precisions = np.matmul(transposed, loadings) / prior.mean_variance
    precisions = precisions + (sums.counts / temperature)[..., None, None] * np.eye(d)
    pull = sums.first / temperature
    pull = pull - np.matmul(transposed, means[..., None])[..., 0] / prior.mean_variance
    shift = draw_normal(precisions, pull[..., None], rng)[..., 0]
    outer = sums.first[..., :, None] * shift[..., None, :]
    own = sums.counts[..., None, None] * shift[..., :, None] * shift[..., None, :]
    sums.second = sums.second - outer - np.swapaxes(outer, 2, 3) + own
    sums.first = sums.first - sums.counts[..., None] * shift
    sums.crossed[:, :, :d] -= shift[..., None] * sums.crossed[:, :, d:]
    return loadings, means + np.matmul(loadings, shift[..., None])[..., 0]


def _turn(sums: _CodeSums, loadings: Array, rng: np.random.Generator) -> Array:
    """Turn codes and loadings by a uniform rotation, which changes no density."""
    d = loadings.shape[3]
    turn, upper = np.linalg.qr(rng.standard_normal((*loadings.shape[:2], d, d)))
    turn = turn * np.sign(np.diagonal(upper, axis1=2, axis2=3))[:, :, None]
    _transform(sums, turn)
    return np.matmul(loadings, turn)


def _stretch(
    sums: _CodeSums,
    loadings: Array,
    prior: PCAPrior,
    temperature: float,
    rng: np.random.Generator,
) -> Array:
    """Scale each loading by e^t and its codes by e^-t, by a Metropolis step in t.

    The log density of t, ``(D - n) t - a e^(-2 t) - b e^(2 t)``, is concave; the proposal is normal
    about its mode.
    """
    d = loadings.shape[3]
    drift = (loadings.shape[2] - sums.counts)[..., None]
    of_codes = 0.5 * np.diagonal(sums.second, axis1=2, axis2=3) / temperature
    of_loadings = 0.5 * (loadings**2).sum(axis=2) / prior.component_variance

    def log_density(t: Array) -> Array:
        return drift * t - of_codes * np.exp(-2 * t) - of_loadings * np.exp(2 * t)

    mode = np.zeros((*sums.counts.shape, d))
    for _ in range(_N_STEPS):
        down, up = of_codes * np.exp(-2 * mode), of_loadings * np.exp(2 * mode)
        bend = 4 * (down + up)
        mode = mode + np.clip((drift + 2 * down - 2 * up) / bend, -_LONGEST, _LONGEST)
    down, up = of_codes * np.exp(-2 * mode), of_loadings * np.exp(2 * mode)
    width = _WIDER / np.sqrt(4 * (down + up))
    score = rng.standard_normal(mode.shape)
    proposed = mode + width * score
    gain = log_density(proposed) - log_density(np.zeros_like(mode))
    gain += 0.5 * (score**2 - (mode / width) ** 2)
    taken = np.log(rng.random(mode.shape)) < gain
    t = np.where(taken, proposed, 0.0)
    _transform(sums, np.exp(-t)[..., None] * np.eye(d))
    return loadings * np.exp(t)[:, :, None]


def _regress(
    sums: _CodeSums,
    params: LoadedComponents,
    prior: PCAPrior,
    temperature: float,
    rng: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """Draw loadings and mean given the codes; return them and the sums of squared residuals.

    Regressed are the residuals, so that nothing cancels where the noise is small.
    """
    loadings, means, noise = params.loadings, params.means, params.noise
    d = loadings.shape[3]
    shape = (*loadings.shape[:2], d + 1, d + 1)
    products = np.empty(shape)
    products[..., :d, :d] = sums.second
    products[..., :d, d] = products[..., d, :d] = sums.first
    products[..., d, d] = sums.counts
    heat = 1.0 / (temperature * noise)[..., None, None]
    own = np.append(np.full(d, 1.0 / prior.component_variance), 1.0 / prior.mean_variance)
    before = np.concatenate([np.swapaxes(loadings, 2, 3), means[:, :, None]], axis=2)
    pull = heat * sums.crossed - own[:, None] * before
    step = draw_normal(heat * products + np.diag(own), pull, rng)
    squares = sums.squares - 2 * np.einsum("skid,skid->sk", step, sums.crossed)
    squares += np.einsum("skid,skid->sk", step, np.matmul(products, step))
    after = before + step
    return np.swapaxes(after[:, :, :d], 2, 3), after[:, :, d], np.maximum(squares, 0.0)


def draw_normal(precisions: Array, pull: Array, rng: np.random.Generator) -> Array:
    """Draw columns (..., n) with these precisions (..., p, p) and means ``precisions^-1 pull``."""
    lower = np.linalg.cholesky(precisions)
    upper = np.swapaxes(lower, -1, -2)
    half = np.linalg.solve(lower, pull)
    return np.asarray(np.linalg.solve(upper, half + rng.standard_normal(pull.shape)), np.float64)
