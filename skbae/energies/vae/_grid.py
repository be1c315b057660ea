"""Small decoders with their codes integrated on a grid: exact gradients, to sample from the prior.

``Hmax_T(x) = T log E_z exp(log p(x | z) / T)`` with ``z ~ N(0, T I)``, by the trapezoidal rule,
whose error falls faster than any power of the spacing. ``log p`` of a row is linear in the row
given the outputs at a node, so that a pass over rows is that of a mixture with a component for each
node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln

from skbae._types import ArrayRecord
from skbae.energies._base import RowKernel, chunk_rows
from skbae.energies._capabilities import GradientEnergy
from skbae.energies.vae._network import Scratch
from skbae.operators._constants import LOG_2PI

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array, Frame
    from skbae.energies.vae._decoder import Decoder
    from skbae.energies.vae._penalty import Prior

# Ends of the grid in standard deviations of the codes' prior.
_REACH = 5.0
# Beyond it a noise variance would overflow.
_LARGEST_LOG_NOISE = 300.0
# Largest number of entries of an array of rows times nodes.
_BLOCK = 1 << 17


@dataclass(frozen=True)
class Decoders(ArrayRecord):
    """S decoders: ``theta`` (S, P)."""

    theta: Array


@dataclass(frozen=True)
class NodeStatistics(ArrayRecord):
    """Objectives (S,), and means over rows by the shares that the nodes have in them.

    Attributes
    ----------
    objective, hmaxe : ndarrays of shape (S,)
    counts : ndarray of shape (S, K)
        Share of the rows at each node.
    sums : ndarray of shape (S, K, D)
        Means of rows times their shares.
    squares : ndarray of shape (S, D)
        Mean squares of the rows.
    """

    objective: Array
    hmaxe: Array
    counts: Array
    sums: Array
    squares: Array


def grid_of_codes(n_nodes: int, n_components: int) -> tuple[Array, Array]:
    """Return nodes (K, d) and log weights (K,) for expectations over standard normal codes.

    Parameters
    ----------
    n_nodes : int
        Along each axis; nodes far from the origin along all axes are left out.
    n_components : int
        d.

    Examples
    --------
    >>> nodes, log_weights = grid_of_codes(40, 2)
    >>> weights = np.exp(log_weights)
    >>> moments = weights.sum(), weights @ nodes[:, 0] ** 2, weights @ nodes[:, 1] ** 4
    >>> np.round(moments, 2).tolist()
    [1.0, 1.0, 3.0]
    """
    axis = np.linspace(-_REACH, _REACH, n_nodes)
    nodes = np.stack(np.meshgrid(*n_components * [axis], indexing="ij"), -1)
    nodes = nodes.reshape(-1, n_components)
    squares = (nodes**2).sum(axis=1)
    inside = squares <= _REACH**2 + 1e-9
    log_weights = -0.5 * squares[inside]
    return nodes[inside], log_weights - np.log(np.exp(log_weights).sum())


class GridDecoders(GradientEnergy):
    """Decoders of scaled rows.

    Parameters
    ----------
    decoder : Decoder
    prior : Prior
    n_nodes : int
        Nodes of the grid along each axis of the codes.
    temperature : float
        T, positive, that the grid is for.
    """

    def __init__(self, decoder: Decoder, prior: Prior, n_nodes: int, temperature: float) -> None:
        self.decoder, self.prior, self.temperature = decoder, prior, temperature
        self.n_features, self.n_nodes = decoder.network.sizes[-1], n_nodes
        nodes, self.log_weights = grid_of_codes(n_nodes, decoder.network.sizes[0])
        self.nodes = np.sqrt(temperature) * nodes
        self._noise_at = decoder.network.n_parameters

    def bind(self, params: Decoders, frame: Frame, dtype: Any) -> Any:
        raise NotImplementedError("scores of single rows are those of VAEEnergy")

    def draw(
        self, params: Decoders, n_rows: int, rng: np.random.Generator
    ) -> tuple[Array, NDArray[Any]]:
        raise NotImplementedError("rows are drawn by VAEEnergy")

    def n_parameters(self) -> int:
        return self.decoder.n_parameters

    # -- ExpectationEnergy ---------------------------------------------------------------------

    def outputs(self, theta: Array) -> list[Array]:
        """Return the outputs of all layers at the nodes, the nodes first."""
        layers, _ = self.decoder.split(theta)
        return self.decoder.network.forward(layers, self.nodes[None], Scratch())

    def noise(self, theta: Array) -> Array:
        """Return noise variances (S, D) of scaled rows; ones for bits."""
        if not self.decoder.n_extra:
            return np.ones((len(theta), self.n_features))
        logs = np.clip(theta[:, self._noise_at :], -_LARGEST_LOG_NOISE, _LARGEST_LOG_NOISE)
        return np.broadcast_to(np.exp(logs), (len(theta), self.n_features))

    def expectation(
        self, params: Decoders, frame: Frame, dtype: Any, temperature: float, tilt: float
    ) -> NodePass:
        return NodePass(self, params.theta)

    # -- GradientEnergy ------------------------------------------------------------------------

    def coordinate_kinds(self) -> NDArray[np.intp]:
        return np.unique(self.prior.precision, return_inverse=True)[1].astype(np.intp)

    def unconstrain(self, params: Decoders) -> Array:
        return params.theta

    def constrain(self, theta: Array) -> Decoders:
        return Decoders(theta)

    def log_prior_at(self, theta: Array) -> tuple[Array, Array]:
        at, prior = self._noise_at, self.prior
        precision = prior.precision[:at].astype(np.float64)
        weights = theta[:, :at]
        value = 0.5 * (np.log(precision) - LOG_2PI - precision * weights**2).sum(axis=1)
        logs = np.clip(theta[:, at:], -_LARGEST_LOG_NOISE, None)
        scale = prior.scale.astype(np.float64)
        inverse = scale * np.exp(-logs)
        each = prior.shape * (np.log(scale) - logs) - gammaln(prior.shape) - inverse
        gradient = np.concatenate([-precision * weights, inverse - prior.shape], axis=1)
        return value + each.sum(axis=1), gradient

    def draw_prior_coordinates(self, n_models: int, rng: np.random.Generator) -> Array:
        at, prior = self._noise_at, self.prior
        deviation = 1 / np.sqrt(prior.precision[:at].astype(np.float64))
        theta = rng.standard_normal((n_models, at)) * deviation
        shape = (n_models, self.decoder.n_extra)
        gammas = np.maximum(rng.standard_gamma(prior.shape, shape), 1e-300)
        log_noise = np.log(prior.scale.astype(np.float64)) - np.log(gammas)
        return np.concatenate([theta, log_noise], axis=1)

    def objective_gradient(
        self,
        theta: Array,
        params: Decoders,
        statistics: NodeStatistics,
        total: float,
        temperature: float,
    ) -> Array:
        layers, _ = self.decoder.split(theta)
        outputs = self.outputs(theta)
        last, counts = outputs[-1], statistics.counts[:, :, None]
        found = np.zeros(theta.shape)
        if self.decoder.n_extra:
            noise = self.noise(theta)
            slope = (statistics.sums - counts * last) / noise[:, None]
            left = (last * (counts * last - 2 * statistics.sums)).sum(axis=1)
            each = 0.5 * ((statistics.squares + left) / noise - 1)
            if self.decoder.n_extra == 1:
                each = each.sum(axis=1, keepdims=True)
            inside = np.abs(theta[:, self._noise_at :]) < _LARGEST_LOG_NOISE
            found[:, self._noise_at :] = np.where(inside, each, 0.0)
        else:
            slope = statistics.sums - counts * self.decoder.rows.mean(last)
        self.decoder.network.backward(layers, outputs, slope, found, Scratch(), inputs=False)
        return found

    def codes(self, theta: Array, X: Array) -> tuple[Array, Array]:
        """Return means and standard deviations of each row's code under one decoder, (n, d).

        The decoder has shape (1, P).
        """
        shares = NodePass(self, theta).shares(X)[1][0]
        means = shares @ self.nodes
        return means, np.sqrt(np.maximum(shares @ self.nodes**2 - means**2, 0.0))


class NodePass(RowKernel):
    """The pass that sums rows by the nodes' shares in them."""

    def __init__(self, energy: GridDecoders, theta: Array) -> None:
        self.temperature = energy.temperature
        outputs, noise = energy.outputs(theta)[-1], energy.noise(theta)
        if energy.decoder.n_extra:
            slopes = outputs / noise[:, None]
            own = -0.5 * (outputs * slopes).sum(axis=2)
            self.of_squares = -0.5 / noise
            self.constant = -0.5 * (LOG_2PI + np.log(noise)).sum(axis=1)
        else:
            slopes, own = outputs, -np.logaddexp(0, outputs).sum(axis=2)
            self.of_squares, self.constant = np.zeros_like(noise), np.zeros(len(theta))
        self.slopes = slopes / self.temperature
        self.offsets = own / self.temperature + energy.log_weights
        self.shape = outputs.shape
        self.chunk_rows = chunk_rows(min(len(theta), 8) * sum(self.shape[1:]))

    def workspace(self, n_rows: int, previous: Any = None) -> None:
        return None

    def zero(self) -> dict[str, Array]:
        n_models, n_nodes, n_features = self.shape
        return {
            "hmax": np.zeros(n_models),
            "counts": np.zeros((n_models, n_nodes)),
            "sums": np.zeros((n_models, n_nodes, n_features)),
            "squares": np.zeros(n_features),
        }

    def shares(self, X: Array, part: slice = slice(None)) -> tuple[Array, Array]:
        """Return ``Hmax_T`` (S, n) of rows and the nodes' shares in them (S, n, K)."""
        energies = np.matmul(X, np.swapaxes(self.slopes[part], 1, 2))
        energies += self.offsets[part, None]
        peak = energies.max(axis=2, keepdims=True)
        energies -= peak
        with np.errstate(under="ignore"):
            np.exp(energies, out=energies)
        total = energies.sum(axis=2, keepdims=True)
        energies /= total
        hmax = self.temperature * (np.log(total) + peak)[:, :, 0]
        hmax += self.of_squares[part] @ (X**2).T + self.constant[part, None]
        return hmax, energies

    def accumulate(
        self,
        accumulator: dict[str, Array],
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        w = np.ones(len(X)) if weights is None else weights
        n_models, n_nodes, _ = self.shape
        size = max(1, _BLOCK // (len(X) * n_nodes))
        weighted = w[:, None] * X
        for start in range(0, n_models, size):
            part = slice(start, start + size)
            hmax, shares = self.shares(X, part)
            accumulator["hmax"][part] += hmax @ w
            accumulator["counts"][part] += w @ shares
            accumulator["sums"][part] += np.matmul(np.swapaxes(shares, 1, 2), weighted)
        accumulator["squares"] += w @ X**2

    def merge(self, accumulator: dict[str, Array], other: dict[str, Array]) -> dict[str, Array]:
        for name, value in other.items():
            accumulator[name] += value
        return accumulator

    def finish(self, accumulator: dict[str, Array], total: float) -> NodeStatistics:
        hmaxe = accumulator["hmax"] / total
        shape = (len(hmaxe), len(accumulator["squares"]))
        squares = np.broadcast_to(accumulator["squares"] / total, shape)
        return NodeStatistics(
            hmaxe, hmaxe, accumulator["counts"] / total, accumulator["sums"] / total, squares
        )
