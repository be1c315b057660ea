"""Free energies, codes and moments of rows under restricted Boltzmann machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from skbae._types import ArrayRecord
from skbae.energies._base import (
    EnumerableBoundEnergy,
    RowKernel,
    SmoothBoundEnergy,
    chunk_rows,
)
from skbae.energies.rbm._visible import Moments, RBMParameters, VisibleLayer, softplus
from skbae.operators._enumeration import binary_states

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skbae._types import Array


# Largest number of entries of a working array, so that several fit into a core's cache.
_BLOCK = 1 << 15
# Number of factors between 1 and 2 that are multiplied before the logarithm is taken.
_MAX_FACTORS = 1000
# Largest number of hidden units whose states are enumerated for each row.
_MAX_LISTED_UNITS = 14


@dataclass(frozen=True)
class RBMStatistics(ArrayRecord):
    """Objectives (S,), and moments of rows under their codes and under the machines."""

    objective: Array
    hmaxe: Array
    rows: Moments
    machine: Moments


def tempered_bits(activations: Array, temperature: float) -> Array:
    """Return ``P_T(h = 1)``; at T = 0 whether the activation is positive."""
    if temperature == 0:
        return (activations > 0).astype(np.float64)
    return expit(activations / temperature)


@np.errstate(under="ignore")
def tempered_softplus(activations: Array, temperature: float) -> Array:
    """Return ``T log(1 + exp(a / T))``; at T = 0 the positive part."""
    if temperature == 0:
        return np.maximum(activations, 0.0)
    return temperature * softplus(activations / temperature)


@np.errstate(under="ignore")  # probabilities very close to 0 or 1
def free_energy_and_bits(activations: Array, temperature: float) -> tuple[Array, Array]:
    """Return the sum of :func:`tempered_softplus` over units, and :func:`tempered_bits`.

    Both use one exponential for each unit and one logarithm for each row, of the product of
    ``1 + exp(-|a| / T)``, whose factors lie between 1 and 2.

    Parameters
    ----------
    activations : ndarray of shape (S, d, n)
        The units' axis comes before that of the rows. Overwritten.
    temperature : float

    Returns
    -------
    free : ndarray of shape (S, n)
    bits : ndarray of shape (S, d, n)

    Examples
    --------
    >>> import numpy as np
    >>> free, bits = free_energy_and_bits(np.zeros((1, 3, 1)), 2.0)
    >>> bool(np.isclose(free, 6 * np.log(2))), bits.ravel().tolist()
    (True, [0.5, 0.5, 0.5])
    """
    on = activations > 0
    free = np.maximum(activations, 0.0).sum(axis=1)
    if temperature == 0:
        return free, on.astype(np.float64)
    decay = np.abs(activations, out=activations)
    decay *= -1.0 / temperature
    np.exp(decay, out=decay)
    either = decay + 1.0
    for first in range(0, either.shape[1], _MAX_FACTORS):
        product = np.multiply.reduce(either[:, first : first + _MAX_FACTORS], axis=1)
        free += temperature * np.log(product)
    np.copyto(decay, 1.0, where=on)
    return free, np.divide(decay, either, out=decay)


class BoundRBM(SmoothBoundEnergy, EnumerableBoundEnergy):
    """Machines with parameters filled in."""

    def __init__(self, params: RBMParameters, layer: VisibleLayer) -> None:
        self.params, self.layer = params, layer
        self.couplings = params.weights / params.noise[:, None]
        n_models, n_codes, n_features = params.weights.shape
        self.chunk_rows = chunk_rows(n_models * (n_codes + n_features))

    def activations(self, X: NDArray[Any]) -> Array:
        """Return ``c + W x / s2``, (S, n, d)."""
        return np.matmul(X, np.swapaxes(self.couplings, 1, 2)) + self.params.hidden[:, None]

    def hmax(self, X: NDArray[Any], temperature: float) -> Array:
        return self._hmax(X, self.activations(X), temperature)

    def _hmax(self, X: NDArray[Any], activations: Array, temperature: float) -> Array:
        free = tempered_softplus(activations, temperature).sum(axis=2)
        return self.layer.own(self.params, X) + free - self.params.log_partition[:, None]

    def code_energies(self, X: NDArray[Any]) -> Array:
        n_codes = self.params.hidden.shape[1]
        if n_codes > _MAX_LISTED_UNITS:
            raise ValueError(
                f"all 2^n_components codes are listed for n_components <= {_MAX_LISTED_UNITS} "
                f"only, got {n_codes}"
            )
        free = np.matmul(binary_states(n_codes), np.swapaxes(self.activations(X), 1, 2))
        own = self.layer.own(self.params, X) - self.params.log_partition[:, None]
        return free + own[:, None]

    def hmax_gradient(self, X: NDArray[Any], temperature: float) -> tuple[Array, Array]:
        activations = self.activations(X)
        gradient = np.matmul(tempered_bits(activations, temperature), self.couplings)
        gradient = gradient + self.layer.own_gradient(self.params, X)
        return self._hmax(X, activations, temperature), gradient


class Contrast(RowKernel):
    """The pass that sums the moments of the rows; those of the machines are computed beforehand."""

    def __init__(
        self,
        params: RBMParameters,
        layer: VisibleLayer,
        temperature: float,
        enumerated: tuple[Array, Moments],
    ) -> None:
        self.params, self.layer, self.temperature = params, layer, temperature
        self.log_partition, self.machine = enumerated
        n_models, n_codes, n_features = params.weights.shape
        # chunks are sized for 64 machines; more are processed in several parts
        self.couplings = params.weights / params.noise[:, None]
        self.chunk_rows = chunk_rows(min(n_models, 64) * (n_codes + n_features))

    def workspace(self, n_rows: int, previous: Any = None) -> None:
        return None

    def zero(self) -> dict[str, Array]:
        n_models, n_codes, n_features = self.params.weights.shape
        return {
            "energy": np.zeros(n_models),
            "pair": np.zeros((n_models, n_codes, n_features)),
            "hidden": np.zeros((n_models, n_codes)),
            "visible": np.zeros(n_features),
            "square": np.zeros((n_models, n_features)),
        }

    @np.errstate(under="ignore")  # probabilities very close to 0 or 1
    def accumulate(
        self,
        accumulator: dict[str, Array],
        X: NDArray[Any],
        weights: Array | None,
        workspace: Any,
        rng: np.random.Generator | None,
    ) -> None:
        w = np.ones(len(X)) if weights is None else weights
        X = X.astype(np.float64, copy=False)
        n_models, n_codes, n_features = self.params.weights.shape
        weighted = X if weights is None else X * w[:, None]
        size = max(1, _BLOCK // (n_codes * len(X)))
        for start in range(0, n_models, size):
            part = slice(start, start + size)
            # one product for the units of all machines
            units = self.couplings[part].reshape(-1, n_features) @ X.T
            activations = units.reshape(-1, n_codes, len(X))
            activations += self.params.hidden[part, :, None]
            free, codes = free_energy_and_bits(activations, self.temperature)
            units = codes.reshape(-1, len(X))
            accumulator["energy"][part] += free @ w
            accumulator["pair"][part] += (units @ weighted).reshape(-1, n_codes, n_features)
            accumulator["hidden"][part] += (units @ w).reshape(-1, n_codes)
        own, square = self.layer.own_sums(self.params, X, w)
        accumulator["energy"] += own
        accumulator["visible"] += w @ X
        accumulator["square"] += square

    def merge(self, accumulator: dict[str, Array], other: dict[str, Array]) -> dict[str, Array]:
        for name, value in other.items():
            accumulator[name] += value
        return accumulator

    def finish(self, accumulator: dict[str, Array], total: float) -> RBMStatistics:
        hmaxe = accumulator["energy"] / total - self.log_partition
        shape = (len(hmaxe), len(accumulator["visible"]))
        rows = Moments(
            accumulator["pair"] / total,
            accumulator["hidden"] / total,
            np.broadcast_to(accumulator["visible"] / total, shape),
            accumulator["square"] / total,
        )
        return RBMStatistics(hmaxe, hmaxe, rows, self.machine)
