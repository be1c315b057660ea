"""Sums over all states of a layer of binary units, in blocks, for several machines at once.

The units are split into two halves, so that a linear function of a state is an outer sum of two
short tables, and its exponential an outer product: no exponential is needed for each of the ``2^u``
states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

if TYPE_CHECKING:
    from skbae._types import Array


# States times machines of a block, so that several arrays of this length fit into a core's cache.
_BLOCK = 1 << 14
# Largest exponent of products of exponentials; beyond it, logarithms are added instead.
_MAX_EXPONENT = 600.0


@dataclass(frozen=True)
class StateSums:
    """The sum over all states, and expectations under the states' shares of it.

    Attributes
    ----------
    log_sum : ndarray of shape (S,)
    units : ndarray of shape (S, u)
        Expected states of the units that were enumerated.
    others : ndarray of shape (S, D)
        Expected states of the other layer's units; D is 0 if there is no other layer.
    pairs : ndarray of shape (S, u, D) or (S, u, u)
        Expected products of the enumerated units with the other layer's, or among themselves.
    """

    log_sum: Array
    units: Array
    others: Array
    pairs: Array


def binary_states(n_units: int) -> Array:
    """Return all states of binary units, ``(2^n, n)``; the first unit changes slowest.

    Examples
    --------
    >>> binary_states(2).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    numbers = np.arange(1 << n_units)[:, None]
    return ((numbers >> np.arange(n_units)[::-1]) & 1).astype(np.float64)


def _split(n_units: int) -> tuple[Array, Array]:
    low = n_units // 2
    return binary_states(n_units - low), binary_states(low)


def _blocks(
    n_models: int, n_high: int, n_low: int, block_size: int
) -> Iterator[tuple[slice, slice]]:
    """Yield pairs of slices, of the machines and of the high states."""
    models = max(1, block_size // (n_high * n_low))
    states = max(1, min(n_high, block_size // n_low))
    for start in range(0, n_models, models):
        for first in range(0, n_high, states):
            yield slice(start, start + models), slice(first, first + states)


class _TwoLayers:
    """Log weights of states of one layer, ``intercepts' h + sum_i softplus(offset_i + W_i' h)``."""

    def __init__(self, weights: Array, offsets: Array, intercepts: Array) -> None:
        self.high, self.low = _split(weights.shape[1])
        n_high = self.high.shape[1]
        self.field_high = intercepts[:, :n_high] @ self.high.T
        self.field_low = intercepts[:, n_high:] @ self.low.T
        # (S, D, states): features one after the other
        self.act_high = np.swapaxes(np.matmul(self.high, weights[:, :n_high]), 1, 2)
        self.act_high = self.act_high + offsets[:, :, None]
        self.act_low = np.swapaxes(np.matmul(self.low, weights[:, n_high:]), 1, 2)
        reach = np.abs(offsets) + np.abs(weights).sum(axis=1)
        peak = float(reach.max(initial=1.0))
        self.safe = not peak < _MAX_EXPONENT  # true for NaN too
        self.group = max(1, int(_MAX_EXPONENT / max(peak, 1.0))) if not self.safe else 1
        if not self.safe:
            self.act_high, self.act_low = np.exp(self.act_high), np.exp(self.act_low)

    def log_weights(self, models: slice, states: slice) -> Array:
        """Return a block of log weights (S, high, low)."""
        total = self.field_high[models, states, None] + self.field_low[models, None]
        high, low = self.act_high[models][:, :, states], self.act_low[models]
        n_others = high.shape[1]
        if self.safe:
            for i in range(n_others):
                total += np.logaddexp(0, high[:, i, :, None] + low[:, i, None])
            return total
        product, factor = np.ones_like(total), np.empty_like(total)
        for i in range(n_others):
            np.multiply(high[:, i, :, None], low[:, i, None], out=factor)
            factor += 1.0
            product *= factor
            if (i + 1) % self.group == 0 or i == n_others - 1:
                total += np.log(product)
                product.fill(1.0)
        return total

    def expectations(self, shares: Array, models: slice, states: slice) -> tuple[Array, ...]:
        """Return sums of shares (S, high, low) times states and the other layer's units."""
        high, low = self.act_high[models][:, :, states], self.act_low[models]
        n_models, n_others = high.shape[:2]
        rest = np.empty_like(shares)
        by_high = np.empty((n_models, n_others, shares.shape[1]))
        by_low = np.empty((n_models, n_others, shares.shape[2]))
        ones_high, ones_low = np.ones(shares.shape[1]), np.ones(shares.shape[2])
        for i in range(n_others):
            if self.safe:
                np.multiply(shares, expit(-(high[:, i, :, None] + low[:, i, None])), out=rest)
            else:
                np.multiply(high[:, i, :, None], low[:, i, None], out=rest)
                rest += 1.0
                np.divide(shares, rest, out=rest)
            # matrix products with ones are several times faster than sums along an axis
            np.matmul(rest, ones_low, out=by_high[:, i])
            np.matmul(ones_high, rest, out=by_low[:, i])
        share_high, share_low = shares.sum(axis=2), shares.sum(axis=1)
        by_high = share_high[:, None] - by_high
        by_low = share_low[:, None] - by_low
        block = self.high[states]
        units = np.concatenate([share_high @ block, share_low @ self.low], axis=1)
        pairs = np.concatenate([by_high @ block, by_low @ self.low], axis=2)
        return units, by_high.sum(axis=2), np.swapaxes(pairs, 1, 2)


class _OneLayer:
    """Log weights of states that are coupled in pairs, ``field' h + (1/2) h' J h``."""

    def __init__(self, fields: Array, couplings: Array) -> None:
        self.high, self.low = _split(fields.shape[1])
        n_high = self.high.shape[1]
        self.field_high = self._own(fields[:, :n_high], couplings[:, :n_high, :n_high], self.high)
        self.field_low = self._own(fields[:, n_high:], couplings[:, n_high:, n_high:], self.low)
        self.across = np.matmul(couplings[:, :n_high, n_high:], self.low.T)

    @staticmethod
    def _own(fields: Array, couplings: Array, states: Array) -> Array:
        return fields @ states.T + 0.5 * (np.matmul(states, couplings) * states).sum(axis=2)

    def log_weights(self, models: slice, states: slice) -> Array:
        """Return a block of log weights (S, high, low)."""
        total = np.matmul(self.high[states], self.across[models])
        total += self.field_high[models, states, None] + self.field_low[models, None]
        return total

    def expectations(self, shares: Array, models: slice, states: slice) -> tuple[Array, ...]:
        """Return sums of shares (S, high, low) times states and their products."""
        high, low = self.high[states], self.low
        share_high, share_low = shares.sum(axis=2), shares.sum(axis=1)
        units = np.concatenate([share_high @ high, share_low @ low], axis=1)
        among_high = np.matmul(high.T, share_high[..., None] * high)
        among_low = np.matmul(low.T, share_low[..., None] * low)
        across = np.matmul(np.matmul(high.T, shares), low)
        pairs = np.concatenate(
            [
                np.concatenate([among_high, across], axis=2),
                np.concatenate([np.swapaxes(across, 1, 2), among_low], axis=2),
            ],
            axis=1,
        )
        return units, np.zeros((len(shares), 0)), pairs


@np.errstate(under="ignore")  # states of negligible probability
def _sum_states(
    table: _TwoLayers | _OneLayer, n_models: int, expect: bool, block_size: int
) -> tuple[Array, ...]:
    """Return the log sum and, if `expect` is true, normalised expectations."""
    log_sum = np.full(n_models, -np.inf)
    totals: list[Array] = []
    for models, states in _blocks(n_models, len(table.high), len(table.low), block_size):
        log_weights = table.log_weights(models, states)
        peak = np.maximum(log_sum[models], log_weights.max(axis=(1, 2)))
        # earlier sums are rescaled when a larger weight appears
        before = np.exp(log_sum[models] - peak)
        shares = np.exp(log_weights - peak[:, None, None], out=log_weights)
        mass = before + shares.sum(axis=(1, 2))
        log_sum[models] = peak + np.log(mass)
        if not expect:
            continue
        found = table.expectations(shares, models, states)
        if not totals:
            totals = [np.zeros((n_models, *part.shape[1:])) for part in found]
        for total, part in zip(totals, found, strict=True):
            shape = (-1,) + (1,) * (part.ndim - 1)
            total[models] *= (before / mass).reshape(shape)
            total[models] += part / mass.reshape(shape)
    return (log_sum, *totals)


def sum_two_layers(
    weights: Array, offsets: Array, intercepts: Array, *, block_size: int = _BLOCK
) -> StateSums:
    """Sum over a layer of binary units that is coupled with another one.

    ``sum_{h, x} exp(h' W x + offsets' x + intercepts' h)``; x is summed in closed form.

    Parameters
    ----------
    weights : ndarray of shape (S, u, D)
        W; the u units are enumerated.
    offsets : ndarray of shape (S, D)
    intercepts : ndarray of shape (S, u)
    block_size : int
        Largest number of states whose log weights are in memory at once.

    Returns
    -------
    StateSums

    Examples
    --------
    >>> import numpy as np
    >>> sums = sum_two_layers(np.zeros((1, 2, 3)), np.zeros((1, 3)), np.zeros((1, 2)))
    >>> np.exp(sums.log_sum).round(9).tolist(), sums.pairs.round(9).tolist()[0][0]
    ([32.0], [0.25, 0.25, 0.25])
    """
    table = _TwoLayers(weights, offsets, intercepts)
    return StateSums(*_sum_states(table, len(weights), True, block_size))


def log_sum_two_layers(
    weights: Array, offsets: Array, intercepts: Array, *, block_size: int = _BLOCK
) -> Array:
    """Return the logarithm of the sum of :func:`sum_two_layers` alone, (S,)."""
    table = _TwoLayers(weights, offsets, intercepts)
    return _sum_states(table, len(weights), False, block_size)[0]


def sum_one_layer(fields: Array, couplings: Array, *, block_size: int = _BLOCK) -> StateSums:
    """Sum ``exp(fields' h + h' J h / 2)`` over the states of u binary units.

    Parameters
    ----------
    fields : ndarray of shape (S, u)
    couplings : ndarray of shape (S, u, u)
        J, symmetric; its diagonal counts.
    block_size : int
        Largest number of states whose log weights are in memory at once.

    Returns
    -------
    StateSums

    Examples
    --------
    >>> import numpy as np
    >>> sums = sum_one_layer(np.zeros((1, 3)), np.zeros((1, 3, 3)))
    >>> np.exp(sums.log_sum).round(9).tolist(), sums.units.round(9).tolist()
    ([8.0], [[0.5, 0.5, 0.5]])
    """
    table = _OneLayer(fields, couplings)
    return StateSums(*_sum_states(table, len(fields), True, block_size))


def log_sum_one_layer(fields: Array, couplings: Array) -> Array:
    """Return the logarithm of the sum of :func:`sum_one_layer` alone, (S,)."""
    return _sum_states(_OneLayer(fields, couplings), len(fields), False, _BLOCK)[0]


def _all_log_weights(table: _TwoLayers | _OneLayer) -> Array:
    blocks = _blocks(1, len(table.high), len(table.low), _BLOCK)
    return np.concatenate([table.log_weights(*block).ravel() for block in blocks])


def log_weights_two_layers(weights: Array, offsets: Array, intercepts: Array) -> Array:
    """Return the log weights of all states of :func:`sum_two_layers` for one machine, (2^u,).

    In the order of :func:`binary_states`.
    """
    return _all_log_weights(_TwoLayers(weights[None], offsets[None], intercepts[None]))


def log_weights_one_layer(fields: Array, couplings: Array) -> Array:
    """Return the log weights of all states of :func:`sum_one_layer` for one machine, (2^u,)."""
    return _all_log_weights(_OneLayer(fields[None], couplings[None]))
