r"""Codes of a network decoder given rows: the mode, draws around it, and their weights.

The energy is ``H = log p(x | z) - |z|^2 / 2``, without the constant of the code's normal density
(so that T = 0 gives a reconstruction energy), and

.. math:: Hmax_T(x) = T \log \int \exp(H / T) dz / (2 \pi T)^{d/2},

which tends to ``max_z H`` and at T = 1 is the log density. Integrals are estimated by importance
sampling from a mixture of three normal distributions, with covariances times T: one at the mode of
H, with the precision given by the curvature there; that of the encoder; and the prior of the code.
The first is the posterior itself for linear decoders; the others bound the importance weights and
cover modes that the search missed. Each has a fixed number of draws, weighted by the density of the
whole mixture (the balance heuristic; Veach and Guibas 1995).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

from skbae.energies.vae._decoder import Decoder
from skbae.energies.vae._network import Scratch
from skbae.operators._linalg import half_log_det

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skbae._types import Array, FloatArray


# One draw in eight comes from the encoder's distribution, and one in eight from the prior.
_DEFENSIVE_SHARE = 8
# The damping decreases if a step gains more than this share of the predicted gain, and increases if
# it gains less than the second.
_GOOD_GAIN, _POOR_GAIN = 0.75, 0.25
_MAX_DAMPING = 1e10
# Damping, relative to the mean curvature, of steps whose equations have no single solution.
_LEAST_DAMPING = 1e-3


def quasi_normal(n: int, d: int, rng: np.random.Generator) -> Array:
    """Return n quasi-random points (n, d) of a standard normal distribution (scrambled Sobol).

    Each point alone is an exact draw, so that means over the points are unbiased (Owen 1997).

    Examples
    --------
    >>> points = quasi_normal(64, 2, np.random.default_rng(0))
    >>> bool(np.abs(points.mean(axis=0)).max() < 0.05)  # of 64 random draws: 0.12
    True
    """
    power = int(np.ceil(np.log2(max(n, 1))))
    uniform = qmc.Sobol(d, scramble=True, seed=rng).random_base2(power)[:n]
    tiny = 2.0**-33
    return ndtri(np.clip(uniform, tiny, 1 - tiny))


def fixed_noise(n_draws: int, n_components: int, seed: int, n_blocks: int = 1) -> Array:
    """Return blocks of standard normal draws (B, L, d), determined by a seed."""
    noise = quasi_normal(n_blocks * n_draws, n_components, np.random.default_rng(seed))
    return noise.reshape(n_blocks, n_draws, n_components)


class ModeSearch(NamedTuple):
    """Stopping rule of the search for modes of H.

    Attributes
    ----------
    max_steps : int
    tol : float
        The search ends for a row when the predicted gain of its next step is less, in nats.
    """

    max_steps: int
    tol: float


@dataclass(frozen=True)
class CodeModes:
    """Modes of H in the code, for n rows.

    Attributes
    ----------
    codes : ndarray of shape (n, d)
    energy : ndarray of shape (n,)
        H at the modes.
    precision : ndarray of shape (n, d, d)
        Curvature of -H at the modes in the Gauss-Newton approximation, which is positive definite
        and exact for linear decoders.
    first_gradient : ndarray of shape (n, d)
        Gradient of H at the start of the search.
    """

    codes: Array
    energy: Array
    precision: Array
    first_gradient: Array


def better_modes(found: Iterable[CodeModes]) -> CodeModes:
    """Return for each row the mode with the highest energy, the first of equals."""
    best, *others = found
    for other in others:
        better = other.energy > best.energy
        best = CodeModes(
            np.where(better[:, None], other.codes, best.codes),
            np.where(better, other.energy, best.energy),
            np.where(better[:, None, None], other.precision, best.precision),
            best.first_gradient,
        )
    return best


def around_others(
    found: list[CodeModes], best: CodeModes, temperature: float
) -> tuple[Array, Array]:
    """Return means and log standard deviations (n, d) of normal distributions at second modes.

    That of a row is the best mode found that is not, within a standard deviation, the best one; if
    there is none, it is that one.

    Parameters
    ----------
    found : list of CodeModes
    best : CodeModes
        The best of these for each row.
    temperature : float
    """
    others = []
    for each in found:
        away = each.codes - best.codes
        distance = np.einsum("nd,nde,ne->n", away, best.precision, away) / temperature
        others.append(replace(each, energy=np.where(distance > 1, each.energy, -np.inf)))
    second = better_modes(others)
    none = np.isneginf(second.energy)
    precision = np.where(none[:, None, None], best.precision, second.precision)
    spread = -0.5 * np.log(np.einsum("nii->ni", precision))
    return np.where(none[:, None], best.codes, second.codes), spread


class _Landscape:
    """H and its derivatives for the rows of one chunk, under one model."""

    def __init__(self, decoder: Decoder, theta: Array, X: Array) -> None:
        self.decoder, self.X = decoder, X
        self.layers, self.extra = decoder.split(theta)

    def energy(self, z: Array, rows: Any) -> Array:
        """Return H, (m,), of codes (m, d) for the rows of an index."""
        outputs = self.decoder.network.forward(self.layers, z[None], Scratch())[-1]
        value, _ = self.decoder.rows.log_density(
            self.X[rows], outputs[:, None], self.extra, Scratch()
        )
        return value[0, 0] + self.decoder.log_code_prior(z)

    def derivatives(self, z: Array, rows: Any) -> tuple[Array, Array, Array]:
        """Return H (m,), its gradient (m, d) and the precision (m, d, d)."""
        network, likelihood = self.decoder.network, self.decoder.rows
        outputs = network.forward(self.layers, z[None], Scratch())
        jacobian = network.jacobian(self.layers, outputs)[0]
        curvature = likelihood.curvature(outputs[-1][:, None], self.extra)[0, 0]
        value, slope = likelihood.log_density(
            self.X[rows], outputs[-1][:, None], self.extra, Scratch()
        )
        own = z.dtype.type(self.decoder.code_precision)
        gradient = np.matmul(jacobian, slope[0, 0][:, :, None])[..., 0] - own * z
        weighted = jacobian * np.broadcast_to(curvature, slope[0, 0].shape)[:, None]
        precision = np.matmul(weighted, np.swapaxes(jacobian, 1, 2))
        precision += own * np.eye(z.shape[1], dtype=z.dtype)
        return value[0, 0] + self.decoder.log_code_prior(z), gradient, precision


def find_code_modes(
    decoder: Decoder, theta: FloatArray, X: FloatArray, start: FloatArray, search: ModeSearch
) -> CodeModes:
    """Find a mode of H in z for each row, by the Levenberg-Marquardt method.

    Parameters
    ----------
    decoder : Decoder
    theta : ndarray of shape (1, P)
    X : ndarray of shape (n, D)
    start : ndarray of shape (n, d)
        Initial codes. H never decreases.
    search : ModeSearch

    Returns
    -------
    CodeModes
    """
    landscape = _Landscape(decoder, theta, X)
    z = start.copy()
    value, gradient, precision = landscape.derivatives(z, slice(None))
    first = gradient.copy()
    damping = np.zeros(len(z), z.dtype)
    moving = np.arange(len(z))
    for _ in range(search.max_steps):
        steps = _damped_steps(precision[moving], gradient[moving], damping[moving])
        predicted = 0.5 * np.einsum("nd,nd->n", steps, gradient[moving])
        continues = (predicted > search.tol) & (damping[moving] < _MAX_DAMPING)
        moving, steps, predicted = moving[continues], steps[continues], predicted[continues]
        if not len(moving):
            break
        tried = z[moving] + steps
        gained = landscape.energy(tried, moving) - value[moving]
        better = gained > 0  # false for NaN
        up = moving[better]
        # where the curvature exceeds its approximation, full steps overshoot the mode and gain
        # little: the damping increases although the step is accepted
        held = damping[moving]
        longer = np.where(held > 1e-3, held / 10, 0)
        held = np.where(better & (gained > _GOOD_GAIN * predicted), longer, held)
        damping[moving] = np.where(
            better & (gained > _POOR_GAIN * predicted), held, np.maximum(10 * held, 0.1)
        )
        if len(up):
            z[up] = tried[better]
            value[up], gradient[up], precision[up] = landscape.derivatives(z[up], up)
    return CodeModes(z, value, precision, first)


def _damped_steps(precision: Array, gradient: Array, damping: Array) -> Array:
    size = np.einsum("nii->n", precision) / precision.shape[1]
    identity = np.eye(precision.shape[1], dtype=precision.dtype)

    def steps(damping: Array, size: Array) -> Array:
        damped = precision + (damping * size)[:, None, None] * identity
        return np.asarray(np.linalg.solve(damped, gradient[..., None])[..., 0])

    try:
        return steps(damping, size)
    except np.linalg.LinAlgError:
        # without a prior (T = 0), codes that the rows do not determine stay where they are
        return steps(np.maximum(damping, _LEAST_DAMPING), np.where(size > 0, size, 1.0))


@dataclass(frozen=True)
class WeightedCodes:
    """Draws of each row's code with importance weights for ``p_T(z | x)``.

    Attributes
    ----------
    codes : ndarray of shape (n, L, d)
    weights : ndarray of shape (n, L)
        Summing to 1 over L.
    energies : ndarray of shape (n, L)
        H of each draw.
    hmax : ndarray of shape (n,)
        ``Hmax_T``.
    outputs : ndarray of shape (n, L, D)
        Outputs of the network for the codes.
    """

    codes: Array
    weights: Array
    energies: Array
    hmax: Array
    outputs: Array

    @property
    def effective(self) -> Array:
        """Effective number of draws, (n,): ``1 / sum of squared weights``."""
        return 1.0 / np.einsum("nl,nl->n", self.weights, self.weights)


def _log_normals(z: Array, parts: list[Any], temperature: float) -> Array:
    """Return the log of the mixture's density at z (n, L, d), without ``(2 pi T)^(-d/2)``.

    Parts are (centre (n, d), root (n, d, d) of the precision or (n, d) where it is diagonal,
    share).
    """
    terms = []
    for centre, root, share in parts:
        shifted = z - centre[:, None]
        if root.ndim == 3:
            white = np.matmul(shifted, root)
            log_det = half_log_det(root)
        else:
            white = shifted * root[:, None]
            log_det = np.log(root).sum(axis=1)
        square = np.einsum("nld,nld->nl", white, white)
        terms.append(np.log(share) + log_det[:, None] - (0.5 / temperature) * square)
    total = terms[0]
    for term in terms[1:]:
        total = np.logaddexp(total, term)
    return total


@np.errstate(under="ignore")  # draws of negligible weight
def draw_codes(
    decoder: Decoder,
    theta: Array,
    X: Array,
    modes: CodeModes,
    guess: tuple[Array, Array],
    noise: Array,
    temperature: float,
) -> WeightedCodes:
    """Draw weighted codes of each row.

    Parameters
    ----------
    decoder : Decoder
    theta : ndarray of shape (1, P)
    X : ndarray of shape (n, D)
    modes : CodeModes
        One for each row.
    guess : tuple of ndarrays of shape (n, d)
        Means and log standard deviations from the encoder.
    noise : ndarray of shape (L, d)
        Standard normal draws, the same for every row, so that results do not depend on other rows.
    temperature : float
        T, above 0.

    Returns
    -------
    WeightedCodes
    """
    n_draws, d = noise.shape
    few = n_draws // _DEFENSIVE_SHARE
    cuts = [n_draws - 2 * few, n_draws - few]
    around_mode, around_guess, from_prior = np.split(np.sqrt(temperature) * noise, cuts)
    root = np.linalg.cholesky(modes.precision)
    ones = np.ones_like(modes.codes)
    # precision C C' means covariance C'^-1 C^-1: rows of noise times C^-1
    drawn = [modes.codes[:, None] + np.matmul(around_mode, np.linalg.inv(root))]
    parts = [(modes.codes, root, len(around_mode) / n_draws)]
    if few:
        mean, log_deviation = guess
        deviation = np.exp(log_deviation)
        drawn.append(mean[:, None] + around_guess * deviation[:, None])
        drawn.append(np.broadcast_to(from_prior, (len(X), few, d)))
        parts.append((mean, 1 / deviation, few / n_draws))
        parts.append((np.zeros_like(ones), ones, few / n_draws))
    z = np.concatenate(drawn, axis=1)
    layers, extra = decoder.split(theta)
    flat = z.reshape(1, -1, d)
    last = decoder.network.forward(layers, flat, Scratch())[-1].reshape(*z.shape[:2], -1)
    # a copy with the axis of draws first, which log_density overwrites
    by_draw = np.array(np.swapaxes(last, 0, 1)[None], order="C")
    value, _ = decoder.rows.log_density(X, by_draw, extra, Scratch())
    energies = value[0].T - 0.5 * np.einsum("nld,nld->nl", z, z)
    log_weights = energies / temperature - _log_normals(z, parts, temperature)
    peak = log_weights.max(axis=1, keepdims=True)
    weights = np.exp(log_weights - peak)
    total = weights.sum(axis=1, keepdims=True)
    hmax = temperature * (np.log(total / n_draws) + peak)[:, 0]
    return WeightedCodes(z, weights / total, energies, hmax, last)
