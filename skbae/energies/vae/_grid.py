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

    from skbae._types import Array, FloatArray, Frame
    from skbae.energies.vae._decoder import Decoder
    from skbae.energies.vae._penalty import Prior

# Ends of the grid in standard deviations of the codes' prior.
_REACH = 5.0
# Beyond it a noise variance would overflow.
_LARGEST_LOG_NOISE = 300.0
# Bytes of an array of nodes of some models, times rows or units, that several operations pass
# over; rows that are assumed for it.
_BLOCK_BYTES, _FEW_ROWS = 1 << 20, 50


@dataclass(frozen=True)
class Decoders(ArrayRecord):
    """S decoders: ``theta`` (S, P)."""

    theta: Array


@dataclass(frozen=True)
class NodeStatistics(ArrayRecord):
    """Objectives (S,), and their gradients (S, P)."""

    objective: Array
    hmaxe: Array
    gradient: Array


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

    force_dtype = np.float32

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

    def outputs(self, theta: FloatArray) -> list[FloatArray]:
        """Return the outputs of all layers at the nodes, the nodes first."""
        layers, _ = self.decoder.split(theta)
        nodes = self.nodes.astype(theta.dtype, copy=False)
        return self.decoder.network.forward(layers, nodes[None], Scratch())

    def noise(self, theta: FloatArray) -> FloatArray:
        """Return noise variances (S, D) of scaled rows; ones for bits."""
        shape = (len(theta), self.n_features)
        if not self.decoder.n_extra:
            return np.ones(shape, theta.dtype)
        logs = np.clip(theta[:, self._noise_at :], -_LARGEST_LOG_NOISE, _LARGEST_LOG_NOISE)
        return np.broadcast_to(np.exp(logs), shape)

    def expectation(
        self, params: Decoders, frame: Frame, dtype: Any, temperature: float, tilt: float
    ) -> NodePass:
        return NodePass(self, params.theta.astype(dtype, copy=False))

    # -- GradientEnergy ------------------------------------------------------------------------

    def coordinate_kinds(self) -> NDArray[np.intp]:
        # units of a layer are exchangeable, and so are codes; features are not
        kinds = np.zeros((1, self.decoder.n_parameters))
        layers, noise = self.decoder.split(kinds)
        *hidden, last = layers
        for number, (matrix, intercept) in enumerate(hidden):
            matrix[...], intercept[...] = -2 * number - 1, -2 * number - 2
        features, n = np.arange(self.n_features), self.n_features
        last[0][...], last[1][...] = features, n + features
        if layers.skip is not None:
            layers.skip[...] = 2 * n + features
        noise[...] = 3 * n + np.arange(noise.shape[1])
        return np.unique(kinds[0], return_inverse=True)[1].astype(np.intp)

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
        return statistics.gradient

    def codes(self, theta: Array, X: Array) -> tuple[Array, Array]:
        """Return means and standard deviations of each row's code under one decoder, (n, d).

        The decoder has shape (1, P).
        """
        found, total, _ = _Block(self, theta).exponentials(_with_ones(X, X.dtype), Scratch())
        shares = (found[0] / total).T
        means = shares @ self.nodes
        return means, np.sqrt(np.maximum(shares @ self.nodes**2 - means**2, 0.0))


class NodePass(RowKernel):
    """The pass that sums rows by the nodes' shares in them, in the precision of theta."""

    def __init__(self, energy: GridDecoders, theta: FloatArray) -> None:
        n_nodes, n_features = len(energy.nodes), energy.n_features
        a_model = n_nodes * max(_FEW_ROWS, *energy.decoder.network.sizes) * theta.dtype.itemsize
        size = max(1, _BLOCK_BYTES // a_model)
        blocks = [theta[start : start + size] for start in range(0, len(theta), size)]
        self.blocks = [_Block(energy, block) for block in blocks]
        self.n_features = n_features
        self.chunk_rows = chunk_rows(min(len(theta), 8) * n_nodes * n_features)

    def workspace(self, n_rows: int, previous: Any = None) -> Scratch:
        return Scratch() if previous is None else previous

    def zero(self) -> dict[str, Any]:
        return {
            "hmax": [np.zeros(len(block.theta)) for block in self.blocks],
            "sums": [np.zeros(block.slopes.shape) for block in self.blocks],
            "squares": np.zeros(self.n_features),
        }

    def accumulate(
        self,
        accumulator: dict[str, Any],
        X: NDArray[Any],
        weights: Array | None,
        workspace: Scratch,
        rng: np.random.Generator | None,
    ) -> None:
        w = np.ones(len(X)) if weights is None else weights
        squares = w @ X**2
        features = _with_ones(X, self.blocks[0].theta.dtype)
        for number, block in enumerate(self.blocks):
            hmax, sums = block.sums(features, w, workspace)
            hmax += block.of_squares @ squares + w.sum() * block.constant
            accumulator["hmax"][number] += hmax
            accumulator["sums"][number] += sums
        accumulator["squares"] += squares

    def merge(self, accumulator: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        for name in ("hmax", "sums"):
            for own, more in zip(accumulator[name], other[name], strict=True):
                own += more
        accumulator["squares"] += other["squares"]
        return accumulator

    def finish(self, accumulator: dict[str, Any], total: float) -> NodeStatistics:
        hmaxe = np.concatenate(accumulator["hmax"]) / total
        squares = accumulator["squares"] / total
        gradients = [
            block.gradient((sums / total).astype(block.theta.dtype), squares)
            for block, sums in zip(self.blocks, accumulator["sums"], strict=True)
        ]
        return NodeStatistics(hmaxe, hmaxe, np.concatenate(gradients))


class _Block:
    """Some decoders at the nodes, as many as the cache holds."""

    def __init__(self, energy: GridDecoders, theta: FloatArray) -> None:
        self.energy, self.theta = energy, theta
        self.outputs, self.noise = energy.outputs(theta), energy.noise(theta)
        last = self.outputs[-1]
        n_models, n_nodes, n_features = last.shape
        # log p of a row at a node, but for the row's square: linear in the row and a one
        self.slopes = np.empty((n_models, n_nodes, n_features + 1), theta.dtype)
        ones = np.ones(n_features, theta.dtype)
        if energy.decoder.n_extra:
            np.divide(last, self.noise[:, None], out=self.slopes[..., :-1])
            np.matmul(last * self.slopes[..., :-1], -0.5 * ones, out=self.slopes[..., -1])
            self.of_squares = -0.5 / self.noise
            self.constant = -0.5 * (LOG_2PI + np.log(self.noise)).sum(axis=1)
        else:
            self.slopes[..., :-1] = last
            np.matmul(np.logaddexp(0, last), -ones, out=self.slopes[..., -1])
            self.of_squares, self.constant = np.zeros_like(self.noise), np.zeros(n_models)
        self.slopes /= energy.temperature
        self.slopes[..., -1] += energy.log_weights

    def exponentials(
        self, features: FloatArray, scratch: Scratch
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the nodes' shares in rows up to factors, (S, K, n), their sums, and log factors.

        Parameters
        ----------
        features : ndarray of shape (n, D + 1)
            Rows, with a one at the end.
        scratch : Scratch
            Holds the first result.
        """
        shape, dtype = (*self.slopes.shape[:2], len(features)), features.dtype
        found = scratch("shares", shape, dtype)
        np.matmul(self.slopes, features.T, out=found)
        peak = found.max(axis=1, keepdims=True)
        found -= peak
        with np.errstate(under="ignore"):
            np.exp(found, out=found)
        return found, np.matmul(np.ones(shape[1], dtype), found), peak[:, 0]

    def sums(
        self, features: FloatArray, weights: Array, scratch: Scratch
    ) -> tuple[Array, FloatArray]:
        """Return ``Hmax_T`` without the squares of rows (S,), and features by node (S, K, D + 1).

        Both are summed over rows by their weights.
        """
        found, total, peak = self.exponentials(features, scratch)
        hmax = self.energy.temperature * ((np.log(total) + peak) @ weights)
        shared = weights.astype(features.dtype)[:, None] * features / total[:, :, None]
        return hmax, np.matmul(found, shared)

    def gradient(self, sums: FloatArray, squares: Array) -> FloatArray:
        """Return the gradient of the objective, (S, P).

        Parameters
        ----------
        sums : ndarray of shape (S, K, D + 1)
            As those of :meth:`sums`, over all rows, divided by their number.
        squares : ndarray of shape (D,)
            Mean squares of the rows.
        """
        decoder, theta, last = self.energy.decoder, self.theta, self.outputs[-1]
        layers, logs = decoder.split(theta)
        found, expected = np.zeros_like(theta), sums[..., -1:] * last
        slope = sums[..., :-1]
        if decoder.n_extra:
            ones = np.ones(len(self.energy.nodes), theta.dtype)
            left = np.matmul(ones, last * (expected - 2 * slope))
            each = 0.5 * ((squares + left) / self.noise - 1)
            if decoder.n_extra == 1:
                each = each.sum(axis=1, keepdims=True)
            inside = np.abs(logs) < _LARGEST_LOG_NOISE
            found[:, decoder.network.n_parameters :] = np.where(inside, each, 0.0)
            slope = (slope - expected) / self.noise[:, None]
        else:
            slope = slope - sums[..., -1:] * decoder.rows.mean(last)
        decoder.network.backward(layers, self.outputs, slope, found, Scratch(), inputs=False)
        return found


def _with_ones(X: NDArray[Any], dtype: Any) -> FloatArray:
    """Return rows (n, D) with a further feature that is one, (n, D + 1)."""
    return np.concatenate([X, np.ones((len(X), 1))], axis=1).astype(dtype)
